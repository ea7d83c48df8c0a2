// The page of `python -m mnist_exp serve`: draw or upload a digit, explore the test set.

const at = (id) => document.getElementById(id);
const canvas = at("canvas");
const pen = canvas.getContext("2d", { willReadFrequently: true });
const PEN = 0.075; // of the canvas: about 1.5 pixels of the 20 that a digit is fitted into
const percent = (value) => (value > 0.9995 && value < 1 ? ">99.9 %" : `${(100 * value).toFixed(1)} %`);

async function request(path, options) {
  try {
    const response = await fetch(path, options);
    const content = await response.json();
    if (!response.ok) throw new Error(content.detail);
    at("problem").hidden = true;
    return content;
  } catch (error) {
    at("problem").textContent = error instanceof TypeError ? "the server does not answer; is it still running?" : error.message;
    at("problem").hidden = false;
    return null;
  }
}

// Drawing: dark on white. One request at a time; the last drawing is always sent.

let drawing = false;
let cleared = 0; // how often: a response to an earlier drawing is dropped
let busy = false;
let pending = null;
let last = null; // the picture on the canvas

function blank() {
  pen.fillStyle = "#fff";
  pen.fillRect(0, 0, canvas.width, canvas.height);
  Object.assign(pen, { strokeStyle: "#111", lineCap: "round", lineJoin: "round", lineWidth: PEN * canvas.width });
}

function place(event) {
  const box = canvas.getBoundingClientRect();
  const scale = canvas.width / box.width;
  return [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
}

function stroke(event) {
  for (const point of event.getCoalescedEvents?.() ?? [event]) pen.lineTo(...place(point));
  pen.stroke();
  const current = cleared;
  canvas.toBlob((picture) => current === cleared && predict(picture));
}

canvas.addEventListener("pointerdown", (event) => {
  if (event.button) return;
  canvas.setPointerCapture(event.pointerId);
  drawing = true;
  pen.beginPath();
  pen.moveTo(...place(event));
  stroke(event);
});
canvas.addEventListener("pointermove", (event) => drawing && stroke(event));
for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => (drawing = false));

async function predict(picture) {
  last = picture;
  if (busy) {
    pending = picture;
    return;
  }
  busy = true;
  const current = cleared;
  const form = new FormData();
  form.append("file", picture, "drawing");
  const prediction = await request(`predict?run=${at("model").value}`, { method: "POST", body: form });
  busy = false;
  if (prediction && current === cleared) show(prediction);
  if (pending) {
    const next = pending;
    pending = null;
    predict(next);
  }
}

function show({ digit, probability, second, note, probabilities, pixels }) {
  at("digit").textContent = digit ?? "";
  at("digit").classList.toggle("name", `${digit ?? ""}`.length > 2);
  at("note").textContent = note || (digit === null ? "" : `${percent(probability)}, second choice ${second}`);
  const best = probabilities?.indexOf(Math.max(...probabilities));
  [...at("bars").children].forEach((row, number) => {
    const value = probabilities?.[number] ?? 0;
    row.classList.toggle("best", number === best);
    row.querySelector("i").style.width = `${100 * value}%`;
    row.querySelector("span").textContent = probabilities ? percent(value) : "";
  });
  paint(at("seen"), pixels?.flat() ?? new Array(784).fill(0));
}

function paint(target, values) {
  const image = new ImageData(28, 28);
  values.forEach((value, k) => image.data.set([value, value, value, 255], 4 * k));
  target.getContext("2d").putImageData(image, 0, 0);
}

function clear() {
  blank();
  cleared++;
  pending = last = null;
  show({ digit: null, note: `Draw${noun() === "digit" ? " a digit" : ""} with mouse, pen or finger.` });
}

at("clear").addEventListener("click", clear);

async function upload(file) {
  if (!file) return;
  clear();
  try {
    const picture = await createImageBitmap(file);
    const scale = Math.min(canvas.width / picture.width, canvas.height / picture.height);
    const [width, height] = [picture.width * scale, picture.height * scale];
    pen.drawImage(picture, (canvas.width - width) / 2, (canvas.height - height) / 2, width, height);
  } catch {
    // The browser cannot decode it; the server decides whether it is a picture.
  }
  predict(file);
}

at("upload").addEventListener("change", (event) => {
  upload(event.target.files[0]);
  event.target.value = ""; // the same file can be chosen again
});
canvas.addEventListener("dragover", (event) => {
  event.preventDefault();
  canvas.classList.add("over");
});
canvas.addEventListener("dragleave", () => canvas.classList.remove("over"));
canvas.addEventListener("drop", (event) => {
  event.preventDefault();
  canvas.classList.remove("over");
  upload(event.dataTransfer.files[0]);
});

// The test set, worst first.

const filter = at("filter");
let shown = 0;
let latest = 0;

async function explore(more = false) {
  const current = ++latest;
  if (!more) shown = 0;
  const values = new URLSearchParams({ run: at("model").value, start: shown, below: filter.below.value / 100 });
  for (const name of ["label", "prediction"]) if (filter[name].value) values.set(name, filter[name].value);
  at("at-most").textContent = `${filter.below.value} %`;
  const page = await request(`examples?${values}`);
  if (!page || current !== latest) return; // the filter has changed since
  const { matching, total, examples } = page;
  if (!more) at("examples").replaceChildren();
  at("examples").append(...examples.map(example));
  shown += examples.length;
  at("more").hidden = shown >= matching;
  at("matching").textContent =
    `${matching.toLocaleString("en")} of ${total.toLocaleString("en")} test images, those with the least probable true ${noun()} first`;
}

function example({ index, label, prediction, probability, pixels }) {
  const figure = document.createElement("figure");
  const picture = document.createElement("canvas");
  picture.width = picture.height = 28;
  paint(picture, [...atob(pixels)].map((byte) => byte.charCodeAt(0)));
  const outcome = document.createElement("div");
  outcome.className = label === prediction ? "right" : "wrong";
  const [truth, said] = [classes[label], classes[prediction]];
  outcome.textContent = label === prediction ? `✓ ${truth}` : `✗ ${said}, true ${truth}`;
  const confidence = document.createElement("div");
  confidence.textContent = `${percent(probability)} · #${index}`;
  figure.append(picture, outcome, confidence);
  return figure;
}

filter.addEventListener("change", () => explore());
filter.below.addEventListener("input", () => explore());
filter.addEventListener("submit", (event) => event.preventDefault());
at("more").addEventListener("click", () => explore(true));

// Tabs and models.

const tabs = [...document.querySelectorAll("[role=tab]")];
for (const tab of tabs) {
  tab.addEventListener("click", () => {
    for (const other of tabs) {
      other.setAttribute("aria-selected", other === tab);
      at(other.getAttribute("aria-controls")).hidden = other !== tab;
    }
    if (tab.id === "explore-tab") explore();
  });
}

const models = new Map();
let classes = [..."0123456789"];

const noun = () => (classes.join("") === "0123456789" ? "digit" : "class");

function choose() {
  const model = models.get(at("model").value);
  at("title").textContent = model?.title ?? "";
  const others = model?.classes ?? classes;
  if (at("bars").children.length && `${others}` === `${classes}`) return;
  classes = others;
  at("bars").replaceChildren(...classes.map(bar));
  at("bars").classList.toggle("many", classes.length > 10);
  at("bars").classList.toggle("names", classes.some((name) => name.length > 2));
  for (const name of ["label", "prediction"])
    filter[name].replaceChildren(new Option("any", ""), ...classes.map((each, label) => new Option(each, label)));
  for (const word of document.querySelectorAll(".noun")) word.textContent = noun();
}

function bar(name) {
  const row = document.createElement("li");
  row.innerHTML = "<b></b><div><i></i></div><span></span>";
  row.firstChild.textContent = name;
  return row;
}

at("model").addEventListener("change", () => {
  choose();
  if (last) predict(last);
  if (!at("explore").hidden) explore();
});

async function start() {
  choose();
  clear();
  for (const model of (await request("models")) ?? []) {
    const { run, name, accuracy } = model;
    models.set(run, model);
    const score = accuracy === null ? [] : [`${(100 * accuracy).toFixed(2)} %`];
    at("model").append(new Option([...score, name, run.slice(0, 8)].join(" · "), run));
  }
  choose();
}

start();
