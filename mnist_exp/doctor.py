"""The checks of this machine: a finding each, and what to do about it."""

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.specifiers import SpecifierSet

from mnist_exp.config.compose import compose
from mnist_exp.config.schema import TrackingConfig
from mnist_exp.core import environment, hardware
from mnist_exp.core.errors import InputError
from mnist_exp.core.files import is_orphaned
from mnist_exp.core.layout import CONFIG, JOURNAL
from mnist_exp.data.dataset import local_source
from mnist_exp.tracking import store
from mnist_exp.tracking.journal import Journal
from mnist_exp.tracking.places import SQLITE, repair_command, sqlite_file, stale_paths
from mnist_exp.tracking.recovery import find_orphans, recover_run
from mnist_exp.training.auto import resolve_auto

DISTRIBUTION = "mnist-exp"
FREE_BYTES = 2 * 2**30  # for a sweep of a hundred runs, and MNIST
OUTPUTS = Path("outputs")


@dataclass(frozen=True)
class Finding:
    """The result of one check."""

    subject: str
    text: str
    needs_doing: bool = False


def examine(
    config: TrackingConfig, *, close: bool = False, repair: bool = False
) -> Iterator[Finding]:
    """The findings, each as soon as its check is done.

    `close`: publish and close orphaned runs, and those whose folder is gone. `repair`: rewrite the
    paths that the store has from before a move.
    """
    yield _python()
    yield from _packages()
    for name, text in environment.described().items():
        yield Finding(name, text)
    yield _data()
    yield _disk()
    yield from _store(config, close, repair)
    yield from _unpublished()
    yield _hardware()


def _python() -> Finding:
    version = platform.python_version()
    try:
        needed = distribution(DISTRIBUTION).metadata["Requires-Python"]
    except PackageNotFoundError:
        return Finding("Python", f"{version}; mnist-exp is not installed: pip install -e .", True)
    if version in SpecifierSet(needed):
        return Finding("Python", version)
    return Finding("Python", f"{version}, but {needed} is needed: make another environment", True)


def _packages() -> Iterator[Finding]:
    """The lines of `pip check`: packages missing, or of a version that another excludes."""
    command = [sys.executable, "-m", "pip", "check", "--disable-pip-version-check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode and "No module named pip" in done.stderr:
        yield Finding("packages", "not checked, pip is missing: python -m ensurepip")
        return
    for line in (done.stdout or done.stderr).splitlines():
        yield Finding("packages", line, bool(done.returncode))


def _data() -> Finding:
    try:
        source = local_source(compose().data)
    except InputError as error:
        return Finding("data", str(error), True)
    if source:
        return Finding("data", f"MNIST, verified: {source}")
    return Finding("data", "not here yet: the first run downloads it, or uses 5,000 bundled digits")


def _disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free
    text = f"{free / 2**30:.1f} GiB free in {Path.cwd()}"
    return Finding("disk", text if free >= FREE_BYTES else f"{text}: make room", free < FREE_BYTES)


def _store(config: TrackingConfig, close: bool, repair: bool) -> Iterator[Finding]:
    """The store, its old paths, and its runs that are RUNNING without a process or a folder."""
    uri = store.uri(config)
    shown = store.display_uri(config)
    try:
        if uri.startswith(SQLITE) and not sqlite_file(uri).exists():
            store.check_reachable(config)
            yield Finding("store", f"{shown}: not there yet, the first run makes it")
            return
        with store.connect(config) as client:
            ids = [experiment.experiment_id for experiment in client.search_experiments()]
            stale = stale_paths(uri, rewrite=repair)
            orphans = find_orphans(client, ids, config)
            without_folder = find_orphans(client, ids, config, with_missing_folder=True)
        if close:
            for run_id, folder in [*orphans, *without_folder]:
                recover_run(client, run_id, folder, config)
    except InputError as error:
        yield Finding("store", str(error), True)
        return
    yield Finding("store", f"{shown}: answers, schema current")
    if stale:
        advice = "rewritten now" if repair else f"rewrite them: {repair_command(uri)}"
        text = f"{stale} paths in it are from before the project was moved or copied; {advice}"
        yield Finding("paths", text, not repair)
    for run_id, folder in orphans:
        resume = f"go on: python -m mnist_exp.run resume={folder}"
        if not (folder / CONFIG).exists():
            resume = "a sweep: run it again with tracking.skip_finished=true"
        advice = f"{resume}, or close it: python -m mnist_exp doctor --close"
        yield Finding("run", f"{run_id[:8]} died; {'closed now' if close else advice}", not close)
    for run_id, folder in without_folder:
        advice = "closed now" if close else "unless it lives: python -m mnist_exp doctor --close"
        yield Finding("run", f"{run_id[:8]} is RUNNING, but {folder} is gone; {advice}", not close)


def _unpublished() -> Iterator[Finding]:
    """The runs below ./outputs without a process that are not published as a whole."""
    unpublished = []
    for path in OUTPUTS.rglob(JOURNAL):
        try:
            journal = Journal(path.parent)
        except (InputError, OSError, ValueError) as error:
            yield Finding("record", f"{path}: cannot be read ({error})", True)
            continue
        is_tracked = journal.opening is not None and bool(journal.opening.uri)
        if is_tracked and not journal.is_published and is_orphaned(path.parent):
            unpublished.append(path.parent)
    if unpublished:
        text = f"{len(unpublished)} not published whole, such as {unpublished[0]}"
        yield Finding("records", f"{text}: python -m mnist_exp sync {OUTPUTS}", True)
        return
    yield Finding("records", f"nothing below {OUTPUTS}{os.sep} is unpublished")


def _hardware() -> Finding:
    facts = hardware.describe()
    configs = compose(["model=dense128"]), compose(["model=cnn"])
    dense, conv = (resolve_auto(config.train, config.model) for config in configs)
    settings = [
        f"{name} in {train.precision}{', XLA' if train.jit else ''}"
        for name, train in (("dense", dense), ("convolutions", conv))
    ]
    device = facts["cpu"] if facts["gpu"] == "none" else facts["gpu"]
    return Finding("hardware", f"{device}, {facts['threads']} threads: {'; '.join(settings)}")
