"""The Makefile: its refusals, its variables, and the targets that CI calls."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`make` in the folder, without the flags and variables of a make that runs the tests."""
    return subprocess.run(
        ["make", *arguments],
        cwd=folder,
        env={name: value for name, value in os.environ.items() if name != "MAKEFLAGS"},
        capture_output=True,
        text=True,
        check=False,
    )


def make_run(folder: Path, python: str) -> subprocess.CompletedProcess[str]:
    """`make run` in a copy of the checkout's build files, with a stand-in for Python."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, folder)
    stand_in = folder / "python"
    stand_in.write_text(f"#!/bin/sh\n{python}\n")
    stand_in.chmod(0o755)
    return make(folder, "run", f"PYTHON={stand_in}")


@pytest.mark.parametrize("version", ["3.10", "3.14"])
def test_another_python_is_refused_by_its_version(tmp_path: Path, version: str) -> None:
    major, minor = version.split(".")
    patched = f"import sys; sys.version_info = ({major}, {minor}, 0)\\n"
    done = make_run(tmp_path, f"""printf '{patched}'"$2" | exec python3 -""")
    assert done.returncode != 0
    assert "needs Python 3.11, 3.12 or 3.13" in done.stderr
    assert f"is {version}" in done.stderr
    assert not (tmp_path / ".venv").exists()


def test_a_missing_venv_module_is_named(tmp_path: Path) -> None:
    done = make_run(tmp_path, 'case "$2" in *ensurepip*) exit 1;; esac; exec python3 "$@"')
    assert done.returncode != 0
    assert "apt install python3-venv" in done.stderr
    assert not (tmp_path / ".venv").exists()


def test_without_constraints_the_newest_versions_are_installed() -> None:
    pinned = make(ROOT, "-n", "test-all", "VENV=.venv-none").stdout
    newest = make(ROOT, "-n", "test-all", "VENV=.venv-none", "CONSTRAINTS=").stdout
    assert pinned.count("--constraint constraints.txt") == 2
    assert "--constraint" not in newest


def test_ci_calls_targets_of_the_makefile() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    called: set[str] = set()
    for job in workflow["jobs"].values():
        for combination in job.get("strategy", {}).get("matrix", {}).get("include", [{}]):
            for step in job["steps"]:
                command = re.sub(
                    r"\$\{\{ matrix\.(\w+) \}\}",
                    lambda name, values=combination: values[name[1]],
                    step.get("run", ""),
                )
                called |= set(command.split()[1:])
    assert called >= {"lint", "test", "coverage", "wheel", "test-all", "CONSTRAINTS="}
    assert make(ROOT, "-n", *called).returncode == 0
