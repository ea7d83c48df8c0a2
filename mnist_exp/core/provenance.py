"""The provenance of a result: commit, uncommitted changes, package versions, fingerprint."""

import hashlib
import json
import platform
import subprocess
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from mnist_exp.core.errors import InputError

ROOT = Path(__file__).parents[2]  # of the checkout, or where the package is installed
PACKAGE, UNTRACKED = "mnist_exp", "untracked: "
PACKAGES = ("mnist-exp", "tensorflow", "keras", "numpy", "mlflow", "hydra-core")


@dataclass(frozen=True)
class Commit:
    """The commit this package runs from; empty for an installed wheel."""

    sha: str = ""
    diff: str = ""  # against the commit, then the names of untracked files

    @property
    def is_dirty(self) -> bool:
        """Whether the code differs from the commit."""
        return bool(self.diff)


def commit(root: Path = ROOT) -> Commit:
    """The commit and the uncommitted changes of this package's checkout."""
    if not (root / ".git").exists():
        return Commit()
    sha = (_git(root, "rev-parse", "HEAD") or "").strip()
    untracked = (_git(root, "ls-files", "--others", "--exclude-standard") or "").split("\n")
    names = "".join(f"{UNTRACKED}{name}\n" for name in untracked if name)
    return Commit(sha, (_git(root, "diff", "HEAD") or "") + names) if sha else Commit()


def rebuild(code: Commit, folder: Path, root: Path = ROOT) -> None:
    """Write the code of that commit, with its uncommitted changes, into the folder.

    Raises `InputError` when this checkout lacks the commit or the changes do not apply.
    """
    if not code.sha:
        raise InputError("the run names no commit")
    archive, patch = folder / "code.tar", folder / "code.diff"
    command = "archive", "--output", str(archive), code.sha
    if not (root / ".git").exists() or _git(root, *command) is None:
        raise InputError(f"its commit {code.sha[:8]} is not in this checkout")
    with tarfile.open(archive) as files:
        files.extractall(folder, filter="data")
    lines = code.diff.splitlines(keepends=True)
    if any(line.startswith(f"{UNTRACKED}{PACKAGE}/") for line in lines):
        raise InputError(f"its code had files that were never in git, after {code.sha[:8]}")
    patch.write_text("".join(line for line in lines if not line.startswith(UNTRACKED)))
    changed = f" a/{PACKAGE}/" in code.diff
    if changed and _git(folder, "apply", f"--include={PACKAGE}/*", str(patch)) is None:
        raise InputError(f"its changes to commit {code.sha[:8]} cannot be made again")


def fingerprint(science: Mapping[str, Any], data_digest: str) -> str:
    """A hash of config, data and this package's source: equal for runs with equal results."""
    content = json.dumps([science, data_digest, _source_digest()], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:32]


@cache
def _source_digest() -> str:
    digest = hashlib.sha256()
    package = ROOT / PACKAGE
    for path in sorted(package.rglob("*.py")):
        digest.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that results depend on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # run from a checkout that was never installed
            found[package] = "not installed"
    return found


def _git(folder: Path, *command: str) -> str | None:
    """The output of git; None when it failed or is missing."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *command], capture_output=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode(errors="replace") if done.returncode == 0 else None
