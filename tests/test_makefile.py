"""What `make` says on a machine that cannot run us."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def make(folder: Path, python: str) -> subprocess.CompletedProcess[str]:
    """`make run` in a copy of the checkout's build files, with a stand-in for Python."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, folder)
    stand_in = folder / "python"
    stand_in.write_text(f"#!/bin/sh\n{python}\n")
    stand_in.chmod(0o755)
    return subprocess.run(
        ["make", "run", f"PYTHON={stand_in}"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("version", ["3.10", "3.14"])
def test_another_python_is_refused_by_its_version(tmp_path: Path, version: str) -> None:
    major, minor = version.split(".")
    patched = f"import sys; sys.version_info = ({major}, {minor}, 0)\\n"
    done = make(tmp_path, f"""printf '{patched}'"$2" | exec python3 -""")
    assert done.returncode != 0
    assert "needs Python 3.11, 3.12 or 3.13" in done.stderr
    assert f"is {version}" in done.stderr
    assert not (tmp_path / ".venv").exists()


def test_a_missing_venv_module_is_named(tmp_path: Path) -> None:
    done = make(tmp_path, 'case "$2" in *ensurepip*) exit 1;; esac; exec python3 "$@"')
    assert done.returncode != 0
    assert "apt install python3-venv" in done.stderr
    assert not (tmp_path / ".venv").exists()
