"""Every preset says what it reaches, and reaches it."""

import re
from pathlib import Path

import pytest

from benchmarks.accuracy import CLAIM
from mnist_exp import run_experiment
from mnist_exp.config.compose import CONF, compose

PRESETS = sorted((CONF / "experiment").glob("*.yaml"))


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_a_preset_opens_with_its_command_and_its_score(path: Path) -> None:
    _, command, claim, *_ = path.read_text().splitlines()
    assert command == f"# python -m mnist_exp.run experiment={path.stem}"
    found = CLAIM.match(claim)
    assert found
    readme = (CONF.parent / "README.md").read_text()
    (row,) = re.findall(rf"^\| `experiment={path.stem}` .*$", readme, re.MULTILINE)
    assert f"{found[1]} ± {found[2]} | {found[3]} | {found[4]} |" in row


@pytest.mark.slow
@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_a_preset_reaches_its_score(path: Path, tmp_path: Path) -> None:
    found = CLAIM.match(path.read_text().splitlines()[2])
    assert found
    mean, sd = float(found[1]), float(found[2])
    config = compose([f"experiment={path.stem}", "data.fallback=error", "tracking.enabled=false"])
    accuracy = 100 * run_experiment(config, folder=tmp_path / "run").metrics["test/accuracy"]
    assert accuracy == pytest.approx(mean, abs=4 * max(sd, 0.03))  # of three seeds sd says little
