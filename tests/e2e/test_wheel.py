"""The wheel without the checkout; `make wheel` also installs it and trains."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.slow
def test_the_wheel_contains_its_configs(tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(tmp_path)]
    subprocess.run([*pip, str(ROOT)], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    installed = tmp_path / "installed"
    zipfile.ZipFile(wheel).extractall(installed)
    assert not (installed / "conf").exists()
    for name in (
        "analysis/comparison.html.j2", "data/known.toml", "deployment/web/index.html", "py.typed",
    ):  # fmt: skip
        assert (installed / "mnist_exp" / name).exists(), name
    code = (
        "import sys, mnist_exp.config.compose as c, mnist_exp.run as r; print(c.CONF); "
        "sys.argv = ['run', 'model=own', '--cfg', 'job']; r.main()"
    )
    (tmp_path / "conf" / "model").mkdir(parents=True)  # of the current folder
    shutil.copy(ROOT / "conf" / "model" / "cnn.yaml", tmp_path / "conf" / "model" / "own.yaml")
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith(str(installed / "mnist_exp" / "conf"))
    assert "name: cnn" in done.stdout
    train_the_example(tmp_path / "my_digits", installed)


def train_the_example(folder: Path, installed: Path) -> None:
    """examples/my_digits, alone with the wheel: all its parts are used in one epoch."""
    shutil.copytree(ROOT / "examples" / "my_digits", folder)
    environment = os.environ | {"PYTHONPATH": str(installed)}
    for command in (
        ["make_data.py"],
        ["-m", "mnist_exp.run", "experiment=first", "callbacks=[stop_at]", "train.epochs=1"],
        ["-m", "mnist_exp", "predict", "--run", "last", "small_digits/3/0003.png"],
    ):
        done = subprocess.run(
            [sys.executable, *command],
            check=False,
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
    (metrics,) = folder.glob("outputs/*/*/metrics.json")
    assert 0 < json.loads(metrics.read_text())["test/balanced_accuracy"] <= 1
