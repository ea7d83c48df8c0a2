"""The wheel without the checkout; `make wheel` also installs it and trains."""

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
    for name in ("analysis/comparison.html.j2", "deployment/web/index.html", "py.typed"):
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
