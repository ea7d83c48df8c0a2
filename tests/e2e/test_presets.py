"""Every preset states its command and score, and reaches that score."""

import re
from pathlib import Path

import pytest

from benchmarks.accuracy import CLAIM
from mnist_exp import run_experiment
from mnist_exp.config.compose import CONF, compose
from mnist_exp.training.auto import resolve_auto

PRESETS = sorted((CONF / "experiment").glob("*.yaml"))


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_a_preset_states_its_command_and_its_score(path: Path) -> None:
    _, command, claim, *_ = path.read_text().splitlines()
    assert command == f"# python -m mnist_exp.run experiment={path.stem}"
    score = CLAIM.match(claim)
    assert score
    readme = (CONF.parent / "README.md").read_text()
    (row,) = re.findall(rf"^\| `experiment={path.stem}` .*$", readme, re.MULTILINE)
    assert f"{score[1]} ± {score[2]} | {score[3]} | {score[4]} |" in row


@pytest.mark.slow
@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_a_preset_reaches_its_score(path: Path, tmp_path: Path) -> None:
    score = CLAIM.match(path.read_text().splitlines()[2])
    assert score
    mean, sd = float(score[1]), float(score[2])
    config = compose([f"experiment={path.stem}", "data.fallback=error", "tracking.enabled=false"])
    precision = resolve_auto(config.train, config.model).precision
    if config.model.name == "cnn_wide" and precision == "float32":
        pytest.skip("20 epochs take more than an hour without bfloat16 in hardware")
    accuracy = 100 * run_experiment(config, folder=tmp_path / "run").metrics["test/accuracy"]
    assert accuracy == pytest.approx(mean, abs=4 * max(sd, 0.03))  # sd of a few seeds is rough
