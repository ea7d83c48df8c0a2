"""The README's pictures: `make pictures` trains, opens MLflow in Chromium, writes docs/images.

It needs all of MNIST (`MNIST_PATH`) and a quarter of an hour, mostly for ten epochs of `model=cnn`.
Given a folder, it keeps the runs there, and the next call takes them from it.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO, StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.request import urlopen

import mlflow
from PIL import Image
from rich.console import Console
from rich.text import Text
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.expected_conditions import text_to_be_present_in_element
from selenium.webdriver.support.ui import WebDriverWait

IMAGES = Path(__file__).parent / "images"
SWEEP = ("-m", "model=sigmoid100,dense128,dropout", "seed=range(0,3)", "train=quick")
WIDTH, SIZE = 110, (1500, 950)  # characters of the terminal, pixels of the browser
COLOURS = 64  # of a screenshot, which then takes a third of the space
VIEW = "workflowType=machine_learning"  # not the pages of GenAI
SHOWN = "(test|val)/accuracy$|test/errors"  # the charts, a regular expression
SETTINGS = {  # of MLflow's pages, as they keep them in the browser
    "mlflow.assistant.fab.autoOpenedOnFirstLoad_v1": "true",
    "mlflow.assistant.panelOpen_v1": "false",
    "MLflowLocalStorage-1.1-ExperimentView-1-expandRows": "true",
}
REPLACE = """
const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (texts.nextNode()) {
  texts.currentNode.textContent = texts.currentNode.textContent.replace(...arguments);
}
"""
LOADED, SETTLED = 90, 6  # seconds: a page has its text, and its charts are drawn


def main() -> None:
    """Train, and write every picture."""
    if not os.environ.get("MNIST_PATH"):
        sys.exit("MNIST_PATH: expected the full MNIST, an .npz or a folder; set it")
    with TemporaryDirectory() as temporary:
        folder = Path(*sys.argv[1:2] or [temporary]).absolute()
        folder.mkdir(exist_ok=True)
        _train(folder, "cnn", "model=cnn", "hydra.run.dir=cnn")
        for figure in ("learning_curves", "worst_mistakes"):
            shutil.copy(folder / "cnn" / "figures" / f"{figure}.png", IMAGES)
        _train(folder, "fast99", "experiment=fast99")
        printed = _train(folder, "sweep", *SWEEP)
        _write_terminal(f"python -m mnist_exp.run {' '.join(SWEEP)}", printed)
        with _mlflow(folder) as address, _browser() as browser:
            browser.get(f"{address}/health")  # of the same origin
            for key, value in SETTINGS.items():
                browser.execute_script("localStorage.setItem(...arguments)", key, value)
            paths = {str(folder): "/home/me/digits", os.environ["MNIST_PATH"]: "/home/me/mnist.npz"}
            for name, (page, text) in _pages(folder).items():
                place = f"{address}/#/experiments/1/{page}"
                _photograph(browser, place, text, IMAGES / f"{name}.png", paths)


def _train(folder: Path, name: str, *overrides: str) -> str:
    """What the command prints, now or when this folder was made."""
    file = folder / f"{name}.txt"
    if not file.exists():
        command = [sys.executable, "-m", "mnist_exp.run", *overrides]
        environment = os.environ | {"COLUMNS": str(WIDTH)}
        print(" ".join(command[1:]), flush=True)
        file.write_text(subprocess.check_output(command, cwd=folder, env=environment, text=True))
    return file.read_text()


def _write_terminal(command: str, printed: str) -> None:
    console = Console(record=True, width=WIDTH, file=StringIO())
    console.print(Text(f"$ {command}\n{printed.strip()}"))
    drawing = console.export_svg(title="a sweep")
    drawing = re.sub(r"@font-face \{.*?\}", "", drawing, flags=re.DOTALL)  # of other sites
    (IMAGES / "sweep.svg").write_text(drawing, encoding="utf-8")


def _pages(folder: Path) -> dict[str, tuple[str, str]]:
    """The address below the experiment of each page, and a text that it has once it is loaded."""
    client = mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db")
    runs = client.search_runs(["1"], order_by=["attributes.start_time"])
    cnn = runs[0].info
    parent = next(run.info for run in runs if "swept" in run.data.params)
    return {
        "mlflow_runs": (f"runs?{VIEW}", cnn.run_name),
        "mlflow_charts": (f"runs?compareRunsMode=CHART&{VIEW}", cnn.run_name),
        "mlflow_run": (f"runs/{cnn.run_id}?{VIEW}", "Metrics"),
        "mlflow_metrics": (f"runs/{cnn.run_id}/model-metrics?{VIEW}", "cnn"),
        "mlflow_parent": (f"runs/{parent.run_id}?{VIEW}", "best"),
        "mlflow_models": (f"models?{VIEW}", "cnn_fast"),
    }


@contextmanager
def _mlflow(folder: Path) -> Iterator[str]:
    """Context manager: the address of MLflow's own pages of the store in this folder."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "ui", "--workers", "1", "--port", str(port)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, cwd=folder, **quiet) as server:
        try:
            address = f"http://127.0.0.1:{port}"
            while not _answers(f"{address}/health"):
                time.sleep(1)
            yield address
        finally:
            server.terminate()


def _answers(address: str) -> bool:
    try:
        return urlopen(address, timeout=5).status == 200
    except OSError:
        return False


@contextmanager
def _browser() -> Iterator[Chrome]:
    options = ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    browser = Chrome(options, Service(shutil.which("chromedriver")))
    browser.set_window_size(*SIZE)
    try:
        yield browser
    finally:
        browser.quit()


def _photograph(
    browser: Chrome, address: str, text: str, file: Path, paths: Mapping[str, str]
) -> None:
    """Write what the page shows once it has the text, with other paths than this machine's."""
    browser.get("about:blank")  # else another fragment loads nothing
    browser.get(address)
    body = (By.TAG_NAME, "body")
    WebDriverWait(browser, LOADED).until(text_to_be_present_in_element(body, text))
    time.sleep(SETTLED)
    for more in browser.find_elements(By.XPATH, "//*[text()='Show more']"):
        more.click()  # of a description
    for field in browser.find_elements(By.CSS_SELECTOR, "input[placeholder*='metric charts']"):
        field.send_keys(SHOWN)
    time.sleep(SETTLED)
    for path, other in paths.items():
        browser.execute_script(REPLACE, path, other)
    with Image.open(BytesIO(browser.get_screenshot_as_png())) as shot:
        shot.convert("RGB").quantize(COLOURS).save(file, optimize=True)
    print(file.name, flush=True)


if __name__ == "__main__":
    main()
