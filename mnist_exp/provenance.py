"""Where a result comes from: the code's commit, its uncommitted changes, the versions in use."""

import hashlib
import json
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("mnist-exp", "tensorflow", "keras", "numpy", "mlflow", "hydra-core")


@dataclass(frozen=True)
class Commit:
    """The checkout this package runs from; empty for an installed wheel."""

    sha: str = ""
    diff: str = ""  # against the commit, untracked files named at the end

    @property
    def is_dirty(self) -> bool:
        """Whether the code differs from the commit."""
        return bool(self.diff)


def commit() -> Commit:
    """The commit and the uncommitted changes of the folder the package lies in."""
    here = Path(__file__).parent.parent
    if not (here / ".git").exists():
        return Commit()
    sha = _git(here, "rev-parse", "HEAD").strip()
    untracked = _git(here, "ls-files", "--others", "--exclude-standard").split("\n")
    names = "".join(f"untracked: {name}\n" for name in untracked if name)
    return Commit(sha, _git(here, "diff", "HEAD") + names) if sha else Commit()


def fingerprint(science: Mapping[str, Any], data_digest: str) -> str:
    """The same for runs that must come out the same: config, data and this package's source."""
    parts = json.dumps([science, data_digest, _source_digest()], sort_keys=True)
    return hashlib.sha256(parts.encode()).hexdigest()[:32]


@cache
def _source_digest() -> str:
    digest = hashlib.sha256()
    here = Path(__file__).parent
    for path in sorted(here.rglob("*.py")):
        digest.update(path.relative_to(here).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def versions() -> dict[str, str]:
    """The version of Python and of each package a result may depend on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # run from a checkout that was never installed
            found[package] = "not installed"
    return found


def _git(folder: Path, *command: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *command], capture_output=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode(errors="replace") if done.returncode == 0 else ""
