"""The page in a real browser: a digit is recognised as it is drawn."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from selenium.webdriver import ActionChains, Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait
from support import served, tiny

from mnist_exp.data.dataset import Dataset
from mnist_exp.experiment import run_experiment
from mnist_exp.runs.find import resolve_run
from mnist_exp.runs.search import store_config

WIDE, PHONE = (1280, 900), (390, 844)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The page of a model that learnt from the bundled digits."""
    from mnist_exp.deployment.server import create_app

    folder = tmp_path_factory.mktemp("page")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    config = tiny("data.limit=null", "train.epochs=10", f"tracking.uri={uri}")
    run_id = run_experiment(config, folder=folder / "run").run_id
    with served(create_app(resolve_run(run_id, store_config(uri=uri)))) as address:
        yield address


@pytest.fixture(scope="module")
def chromium() -> Iterator[Chrome]:
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not program or not driver:
        pytest.skip("Chromium and its driver are not installed (Debian: chromium chromium-driver)")
    options = ChromeOptions()
    options.binary_location = program
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = Chrome(options, Service(driver))
    yield browser
    browser.quit()


class Page:
    """The page as its user sees it."""

    def __init__(self, browser: Chrome, address: str, size: tuple[int, int]) -> None:
        self.browser = browser
        width, height = size
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1}
        browser.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride", metrics | {"mobile": size == PHONE}
        )
        browser.get(address)
        browser.get_log("browser")  # what an earlier page complained of
        self.until(lambda: self.text("title"))

    def text(self, name: str) -> str:
        return str(self.browser.find_element(By.ID, name).text)

    def until(self, condition: object) -> None:
        WebDriverWait(self.browser, 20, 0.05).until(lambda _: condition())  # type: ignore[operator]

    def click(self, name: str) -> None:
        self.browser.find_element(By.ID, name).click()

    def draw(self, *corners: tuple[float, float]) -> None:
        """A stroke from corner to corner, in shares of the paper's side."""
        canvas = self.browser.find_element(By.ID, "canvas")
        side = canvas.size["width"]
        mouse = ActionChains(self.browser, duration=10)
        for number, (x, y) in enumerate(corners):
            mouse.move_to_element_with_offset(canvas, (x - 0.5) * side, (y - 0.5) * side)
            if not number:
                mouse.click_and_hold()
        mouse.release().perform()

    def upload(self, file: Path) -> None:
        self.browser.find_element(By.ID, "upload").send_keys(str(file))

    def complaints(self) -> list[str]:
        return [entry["message"] for entry in self.browser.get_log("browser")]


@pytest.mark.slow
@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
def test_a_drawn_one_and_a_drawn_seven_are_read(
    chromium: Chrome, site: str, size: tuple[int, int]
) -> None:
    page = Page(chromium, site, size)
    page.draw((0.5, 0.2), (0.5, 0.8))
    page.until(lambda: page.text("digit") == "1")
    page.click("clear")
    assert page.text("digit") == ""
    page.draw((0.3, 0.25), (0.7, 0.25), (0.45, 0.8))
    page.until(lambda: page.text("digit") == "7")
    best = chromium.find_element(By.CSS_SELECTOR, "#bars .best")
    assert best.text.startswith("7")
    assert "second choice" in page.text("note")
    overflow = "return document.documentElement.scrollWidth > innerWidth"
    assert not chromium.execute_script(overflow)
    answer = chromium.find_element(By.ID, "bars").rect
    assert answer["y"] + answer["height"] <= size[1], "the answer is in sight while drawing"
    assert page.complaints() == []


@pytest.mark.slow
def test_a_picture_is_uploaded_and_what_is_none_is_told(
    chromium: Chrome, site: str, digits: Dataset, tmp_path: Path
) -> None:
    page = Page(chromium, site, WIDE)
    one = digits.validation_images[(digits.validation_labels == 1).argmax()]
    Image.fromarray(255 - one).resize((300, 300)).save(tmp_path / "one.jpg")
    page.upload(tmp_path / "one.jpg")
    page.until(lambda: page.text("digit") == "1")
    (tmp_path / "none.png").write_text("hello")
    page.upload(tmp_path / "none.png")
    page.until(lambda: "got bytes of no such picture" in page.text("problem"))


@pytest.mark.slow
def test_the_api_is_described_on_a_page(chromium: Chrome, site: str) -> None:
    page = Page(chromium, site, WIDE)
    chromium.get(f"{site}/docs")
    page.until(lambda: "/predict" in chromium.find_element(By.TAG_NAME, "body").text)
    assert page.complaints() == []


@pytest.mark.slow
def test_the_test_set_is_explored(chromium: Chrome, site: str, digits: Dataset) -> None:
    page = Page(chromium, site, WIDE)
    page.click("explore-tab")
    page.until(lambda: page.text("matching").startswith("1,000 of 1,000 test images"))
    figures = chromium.find_elements(By.CSS_SELECTOR, "#examples figure")
    assert len(figures) == 60
    assert "✗" in figures[0].text
    chromium.find_element(By.CSS_SELECTOR, "[name=label] option[value='8']").click()
    eights = int((digits.test_labels == 8).sum())
    page.until(lambda: page.text("matching").startswith(f"{eights} of 1,000"))
    page.click("more")
    page.until(lambda: len(chromium.find_elements(By.CSS_SELECTOR, "#examples figure")) == eights)
    assert page.complaints() == []
