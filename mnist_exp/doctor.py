"""What a run will find on this machine: one finding each, and what needs doing."""

import os
import platform
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from mnist_exp.config.compose import compose
from mnist_exp.config.schema import Tracking
from mnist_exp.core import hardware
from mnist_exp.core.errors import InputError
from mnist_exp.core.layout import CONFIG, JOURNAL
from mnist_exp.core.locks import is_orphaned
from mnist_exp.core.provenance import ROOT
from mnist_exp.data.dataset import on_this_machine
from mnist_exp.tracking import store
from mnist_exp.tracking.journal import Journal
from mnist_exp.tracking.recovery import find_orphans, recover_run
from mnist_exp.training.auto import resolve_auto

DISTRIBUTION = "mnist-exp"
ROOM = 2 * 2**30  # bytes: a sweep of a hundred runs, and MNIST
OUTPUTS = Path("outputs")


@dataclass(frozen=True)
class Finding:
    """One line of the examination."""

    subject: str
    text: str
    needs_doing: bool = False


def examine(where: Tracking, *, close: bool = False) -> Iterator[Finding]:
    """The findings, one after the other as they are made.

    With `close` the runs of dead processes are published as far as they came, and closed, and so
    are those whose folder is gone.
    """
    yield _python()
    yield from _packages()
    yield _data()
    yield _disk()
    yield from _store(where, close)
    yield from _unpublished()
    yield _hardware()


def _python() -> Finding:
    here = platform.python_version()
    try:
        wanted = distribution(DISTRIBUTION).metadata["Requires-Python"]
    except PackageNotFoundError:
        return Finding("Python", f"{here}; mnist-exp is not installed: pip install -e .", True)
    if here in SpecifierSet(wanted):
        return Finding("Python", here)
    return Finding("Python", f"{here}, but {wanted} is needed: make another environment", True)


def _packages() -> Iterator[Finding]:
    """What is installed beside what is needed and what the tests were passed with."""
    pins = _pins()
    try:
        needed = [Requirement(text) for text in distribution(DISTRIBUTION).requires or ()]
    except PackageNotFoundError:
        return
    found, others = [], []
    for each in needed:
        if each.marker and not each.marker.evaluate({"extra": ""}):
            continue
        try:
            here = version(each.name)
        except PackageNotFoundError:
            yield Finding(each.name, f"not installed: pip install '{each}'", True)
            continue
        if here not in each.specifier:
            yield Finding(each.name, f"{here}: pip install '{each}'", True)
        found.append(each.name)
        if here != pins.get(each.name, here):
            others.append(f"{each.name} {here} (not {pins[each.name]})")
    if found:
        tested = f"other than the tested ones: {', '.join(others)}" if others else "as tested"
        yield Finding("packages", f"{len(found)}, {tested}" if pins else f"{len(found)}")


def _pins() -> dict[str, str]:
    """The versions that the tests were passed with, in a checkout."""
    file = ROOT / "constraints.txt"
    lines = file.read_text().splitlines() if file.exists() else []
    return dict(line.split("==") for line in lines if re.fullmatch(r"[\w.-]+==[\w.]+", line))


def _data() -> Finding:
    try:
        source = on_this_machine(compose().data)
    except InputError as error:
        return Finding("data", str(error), True)
    if source:
        return Finding("data", f"MNIST, verified: {source}")
    return Finding("data", "not here yet: the first run downloads it, or uses 5,000 bundled digits")


def _disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free
    text = f"{free / 2**30:.1f} GiB free in {Path.cwd()}"
    return Finding("disk", text if free >= ROOM else f"{text}: make room", free < ROOM)


def _store(where: Tracking, close: bool) -> Iterator[Finding]:
    """The store, and the runs in it that nobody goes on with."""
    uri = store.uri(where)
    if uri.startswith(store.SQLITE) and not Path(uri.removeprefix(store.SQLITE)).exists():
        yield Finding("store", f"{store.display_uri(where)}: not there yet, the first run makes it")
        return
    try:
        with store.connect(where) as client:
            experiments = client.search_experiments()
            ids = [each.experiment_id for each in experiments]
            dead = find_orphans(client, ids)
            lost = find_orphans(client, ids, with_missing_folder=True)
        if close:
            for run_id, folder in [*dead, *lost]:
                recover_run(client, run_id, folder, where)
    except InputError as error:
        yield Finding("store", str(error), True)
        return
    yield Finding("store", f"{store.display_uri(where)}: answers, schema current")
    for run_id, folder in dead:
        text = f"{run_id[:8]} died"
        go_on = f"go on: python -m mnist_exp.run resume={folder}"
        if not (folder / CONFIG).exists():
            go_on = "a sweep: run it again with tracking.skip_finished=true"
        advice = (
            "closed now" if close else f"{go_on}, or close it: python -m mnist_exp doctor --close"
        )
        yield Finding("run", f"{text}; {advice}", not close)
    for run_id, folder in lost:
        advice = "closed now" if close else "unless it lives: python -m mnist_exp doctor --close"
        yield Finding("run", f"{run_id[:8]} is RUNNING, but {folder} is gone; {advice}", not close)


def _unpublished() -> Iterator[Finding]:
    """The runs below ./outputs, ended or broken off, that are not in MLflow as a whole."""
    found = []
    for path in OUTPUTS.rglob(JOURNAL):
        try:
            journal = Journal(path.parent)
        except (InputError, OSError, ValueError) as error:
            yield Finding("record", f"{path}: cannot be read ({error})", True)
            continue
        wanted = journal.opening is not None and bool(journal.opening.uri)
        if wanted and not journal.is_published and is_orphaned(path.parent):
            found.append(path.parent)
    if found:
        first = f"{len(found)} not published whole, such as {found[0]}"
        yield Finding("records", f"{first}: python -m mnist_exp sync {OUTPUTS}", True)
        return
    yield Finding("records", f"nothing below {OUTPUTS}{os.sep} is unpublished")


def _hardware() -> Finding:
    facts = hardware.describe()
    configs = compose(["model=dense128"]), compose(["model=cnn"])
    dense, conv = (resolve_auto(config.train, config.model) for config in configs)
    told = [
        f"{name} in {train.precision}{', XLA' if train.jit else ''}"
        for name, train in (("dense", dense), ("convolutions", conv))
    ]
    place = facts["cpu"] if facts["gpu"] == "none" else facts["gpu"]
    return Finding("hardware", f"{place}, {facts['threads']} threads: {'; '.join(told)}")
