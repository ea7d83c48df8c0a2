"""What a sweep costs beside its training: seconds and memory per job, workers, finished jobs."""

import csv
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import psutil

from benchmarks import machine

TITLE = "What a sweep costs"
JOBS = 20
RUN = [sys.executable, "-m", "mnist_exp.run", "-m", "model=dense128", "train.epochs=2"]


def sweep(folder: Path, *arguments: str) -> list[tuple[float, int]]:
    """When each job ended, in seconds since the start, and the memory then; the end is the last."""
    process = subprocess.Popen(
        [*RUN, *arguments],
        cwd=folder,
        env=machine.environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    started, marks = time.perf_counter(), []
    watched = psutil.Process(process.pid)
    assert process.stdout is not None
    for line in process.stdout:
        if re.match(r"job +\d+ \(", line):
            now = time.perf_counter() - started
            marks.append((now, watched.memory_info().rss))
    if process.wait():
        raise RuntimeError(f"the sweep failed with {process.returncode}")
    return [*marks, (time.perf_counter() - started, 0)]


def training_seconds(folder: Path) -> list[float]:
    (path,) = (folder / "outputs").rglob("sweep.csv")
    with path.open() as file:
        return [float(row["train/seconds"]) for row in csv.DictReader(file)]


def in_process(jobs: int) -> str:
    """Jobs that differ in seed and learning rate only, one after the other in one process."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        marks = sweep(folder, f"seed=range(0,{jobs // 2})", "optimizer.learning_rate=1e-3,2e-3")
        own = training_seconds(folder)
    whole = [after[0] - before[0] for before, after in pairwise(marks[:-1])]
    beside = [a - b for a, b in zip(whole, own[1:], strict=True)]  # the first one imports
    memory = [rss / 2**20 for _, rss in marks[:-1]]  # after each job
    curve = ", ".join(f"{n}: {memory[n - 1]:.0f}" for n in (1, 5, *range(10, jobs + 1, 10)))
    return (
        f"{jobs} jobs of 2 epochs of dense128 in one process: beside training "
        f"{machine.spread(beside, ' s')} each; MiB after job {curve}; after the last job against "
        f"job 5: {memory[-1] / memory[4]:.3f}."
    )


def workers(jobs: int = 12) -> str:
    """Jobs a minute of two joblib workers against one, imports left out: the later half counts."""
    rates: dict[int, float] = {}
    for n in (1, 2):
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            sweep(
                folder, "hydra/launcher=joblib", f"hydra.launcher.n_jobs={n}",
                f"seed=range(0,{jobs})", "train.epochs=6",
            )  # fmt: skip
            ends = sorted(path.stat().st_mtime for path in folder.rglob("outcome.json"))
        rates[n] = 60 * (jobs - n) / (ends[-1] - ends[n - 1])
    return (
        f"joblib, {jobs} jobs of 6 epochs, imports left out: {rates[1]:.1f} a minute with one "
        f"worker, {rates[2]:.1f} with two, ratio {rates[2] / rates[1]:.2f}."
    )


def finished(jobs: int = 200) -> str:
    """The seconds that a sweep of finished jobs takes."""
    with tempfile.TemporaryDirectory() as place:
        arguments = [f"seed=range(0,{jobs})", "data=mnist5k", "data.limit=100", "train.epochs=1"]
        sweep(Path(place), *arguments)
        (again,) = sweep(Path(place), *arguments, "tracking.skip_finished=true")[-1:]
    return f"A sweep of {jobs} finished jobs with `tracking.skip_finished=true`: {again[0]:.1f} s."


def measure(quick: bool) -> Iterator[str]:
    yield in_process(6 if quick else JOBS)
    if not quick:
        yield ""
        yield workers()
        yield ""
        yield finished()
