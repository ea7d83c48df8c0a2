// The page of `python -m mnist_exp serve`: draw or upload a digit, explore the test set.

const at = (id) => document.getElementById(id);
const canvas = at("canvas");
const pen = canvas.getContext("2d", { willReadFrequently: true });
const PEN = 0.075; // of the canvas: about 1.5 pixels of the 20 that a digit is fitted into
const percent = (share) => (share > 0.9995 && share < 1 ? ">99.9 %" : `${(100 * share).toFixed(1)} %`);

async function ask(path, options) {
  try {
    const response = await fetch(path, options);
    const answer = await response.json();
    if (!response.ok) throw new Error(answer.detail);
    at("problem").hidden = true;
    return answer;
  } catch (error) {
    at("problem").textContent = error instanceof TypeError ? "the server does not answer; is it still running?" : error.message;
    at("problem").hidden = false;
    return null;
  }
}

// Drawing: dark on white, as on paper. One question at a time; the last drawing is always asked about.

let drawing = false;
let sheet = 0; // counts the sheets of paper: an answer to an earlier one is not told
let asking = false;
let waiting = null;
let last = null; // the picture that is on the sheet

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
  const mine = sheet;
  canvas.toBlob((picture) => mine === sheet && read(picture));
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

async function read(picture) {
  last = picture;
  if (asking) {
    waiting = picture;
    return;
  }
  asking = true;
  const mine = sheet;
  const form = new FormData();
  form.append("file", picture, "drawing");
  const answer = await ask(`predict?run=${at("model").value}`, { method: "POST", body: form });
  asking = false;
  if (answer && mine === sheet) tell(answer);
  if (waiting) {
    const next = waiting;
    waiting = null;
    read(next);
  }
}

function tell({ digit, probability, second, note, probabilities, pixels }) {
  at("digit").textContent = digit ?? "";
  at("note").textContent = note || (digit === null ? "" : `${percent(probability)}, second choice ${second}`);
  [...at("bars").children].forEach((row, number) => {
    const share = probabilities?.[number] ?? 0;
    row.classList.toggle("best", number === digit);
    row.querySelector("i").style.width = `${100 * share}%`;
    row.querySelector("span").textContent = probabilities ? percent(share) : "";
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
  sheet++;
  waiting = last = null;
  tell({ digit: null, note: "Draw a digit with mouse, pen or finger." });
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
    // The browser cannot show it; whether it is a picture, the server says.
  }
  read(file);
}

at("upload").addEventListener("change", (event) => {
  upload(event.target.files[0]);
  event.target.value = ""; // so that the same file can be chosen again
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

// The test set, the worst first.

const filter = at("filter");
let shown = 0;
let question = 0;

async function explore(more = false) {
  const mine = ++question;
  if (!more) shown = 0;
  const values = new URLSearchParams({ run: at("model").value, start: shown, below: filter.below.value / 100 });
  for (const name of ["label", "prediction"]) if (filter[name].value) values.set(name, filter[name].value);
  at("at-most").textContent = `${filter.below.value} %`;
  const answer = await ask(`examples?${values}`);
  if (!answer || mine !== question) return; // a later question overtook this one
  const { matching, total, examples } = answer;
  if (!more) at("examples").replaceChildren();
  at("examples").append(...examples.map(example));
  shown += examples.length;
  at("more").hidden = shown >= matching;
  at("matching").textContent =
    `${matching.toLocaleString("en")} of ${total.toLocaleString("en")} test images, those with the least probable true digit first`;
}

function example({ index, label, prediction, probability, pixels }) {
  const figure = document.createElement("figure");
  const picture = document.createElement("canvas");
  picture.width = picture.height = 28;
  paint(picture, [...atob(pixels)].map((byte) => byte.charCodeAt(0)));
  const said = document.createElement("div");
  said.className = label === prediction ? "right" : "wrong";
  said.textContent = label === prediction ? `✓ ${label}` : `✗ ${prediction}, true ${label}`;
  const sure = document.createElement("div");
  sure.textContent = `${percent(probability)} · #${index}`;
  figure.append(picture, said, sure);
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

const titles = new Map();
at("model").addEventListener("change", () => {
  at("title").textContent = titles.get(at("model").value);
  if (last) read(last);
  if (!at("explore").hidden) explore();
});

async function start() {
  for (let digit = 0; digit < 10; digit++) {
    const row = document.createElement("li");
    row.innerHTML = `<b>${digit}</b><div><i></i></div><span></span>`;
    at("bars").append(row);
  }
  for (const name of ["label", "prediction"]) {
    filter[name].append(new Option("any", ""), ...Array.from({ length: 10 }, (_, digit) => new Option(digit, digit)));
  }
  clear();
  for (const { run, name, title } of (await ask("models")) ?? []) {
    titles.set(run, title);
    at("model").append(new Option(`${name} · ${run.slice(0, 8)}`, run));
  }
  at("title").textContent = titles.get(at("model").value) ?? "";
}

start();
