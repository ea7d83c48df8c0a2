"""The suite that writes docs/benchmarks.md: its page, its claims and its picture."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks import __main__ as suite
from benchmarks import accuracy, figure, significance
from mnist_exp.config.compose import CONF


def test_a_part_of_the_page_is_renewed_in_its_place(tmp_path: Path) -> None:
    path = tmp_path / "benchmarks.md"
    for name in ("sweeps", "epochs", "peak"):
        title = suite.PARTS[name].TITLE
        suite.renew(title, f"## {title}\n\nof {name}\n", path)
    suite.renew(suite.PARTS["peak"].TITLE, f"## {suite.PARTS['peak'].TITLE}\n\nanew\n", path)
    page = path.read_text()
    assert page.startswith("# Benchmarks")
    assert "of peak" not in page
    places = [page.index(text) for text in ("of epochs", "anew", "of sweeps")]
    assert places == sorted(places)


def test_an_unknown_part_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        suite.main(["--quick", "speed"])
    assert "speed: expected some of epochs, peak" in capsys.readouterr().err


def test_the_page_in_the_repository_has_every_part() -> None:
    page = suite.PAGE.read_text(encoding="utf-8")
    titles = [line.removeprefix("## ") for line in page.splitlines() if line.startswith("## ")]
    assert titles == [module.TITLE for module in suite.PARTS.values()]


def test_every_preset_has_a_claim() -> None:
    claims = accuracy.claims()
    assert claims.keys() == {path.stem for path in (CONF / "experiment").glob("*.yaml")}
    assert all(90 < claim["mean"] < 100 and claim["n"] >= 3 for claim in claims.values())


def test_a_mark_is_reached_when_it_is_seen_first() -> None:
    curve = [(1.0, 97.0), (2.0, 98.5), (3.0, 98.0)]
    assert [accuracy.first(curve, mark) for mark in (97, 98, 99)] == ["1.0", "2.0", "-"]


def test_the_picture_shows_every_preset(tmp_path: Path) -> None:
    drawn = {name: accuracy.claims()[name] for name in accuracy.PRESETS}
    picture = figure.draw(drawn, {"dense128": [(3.0, 95.0), (6.0, 96.5)]}, "a machine")
    written = " ".join(text.get_text() for axes in picture.axes for text in axes.texts)
    assert all(name in written for name in accuracy.PRESETS)
    picture.savefig(tmp_path / "picture.png")


def test_the_simulation_tells_a_true_difference_from_none() -> None:
    random = np.random.default_rng(0)
    good, bad = (random.random((30, 400)) < skill for skill in (0.95, 0.85))
    *_, told = significance.report(good, bad, trials=40)
    assert float(told.split(" in ")[1].split(" %")[0]) < 15
    for size in ((1, 1), (3, 1), (5, 5)):
        false, covered = significance.simulate(good, good, size, trials=40)
        found, _ = significance.simulate(good, bad, size, trials=40)
        assert float(false[:-2]) < 20
        assert float(found[:-2]) > 40
        assert float(covered[:-2]) > 75
