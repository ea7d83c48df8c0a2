"""What a sweep costs beside its training: seconds and memory per job, workers, finished jobs.

python -m benchmarks.sweeps [jobs]
"""

import csv
import os
import re
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import psutil

from benchmarks import machine

JOBS = 20
RUN = [sys.executable, "-m", "mnist_exp.run", "-m", "model=dense128", "train.epochs=2"]


def sweep(folder: Path, *arguments: str) -> list[tuple[float, int]]:
    """When each job began, in seconds since the start, and the memory then; the end is the last."""
    process = subprocess.Popen(
        [*RUN, *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)},
        stdout=subprocess.PIPE,
        text=True,
    )
    started, marks = time.perf_counter(), []
    watched = psutil.Process(process.pid)
    assert process.stdout is not None
    for line in process.stdout:
        if re.match(r"job \d+:|ranked by", line):
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
    beside = [a - b for a, b in zip(whole, own, strict=True)][1:]  # the first one imports
    memory = [rss / 2**20 for _, rss in marks[1:-1]]  # after each job
    curve = ", ".join(f"{n}: {memory[n - 1]:.0f}" for n in (1, 5, *range(10, jobs + 1, 10)))
    return (
        f"{jobs} jobs in one process: beside training {machine.spread(beside, ' s')} each; MiB "
        f"after job {curve}; after job 20 against job 5: {memory[19] / memory[4]:.3f}"
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
        f"joblib, {jobs} jobs: {rates[1]:.1f} a minute with one worker, {rates[2]:.1f} with two, "
        f"ratio {rates[2] / rates[1]:.2f}"
    )


def finished(jobs: int = 200) -> str:
    """The seconds that a sweep of finished jobs takes."""
    with tempfile.TemporaryDirectory() as place:
        arguments = [f"seed=range(0,{jobs})", "data=mnist5k", "data.limit=100", "train.epochs=1"]
        sweep(Path(place), *arguments)
        (again,) = sweep(Path(place), *arguments, "tracking.skip_finished=true")[-1:]
    return f"{jobs} finished jobs with skip_finished: {again[0]:.1f} s"


def main() -> None:
    print(machine.describe())
    os.environ["MNIST_PATH"] = str(Path(os.environ["MNIST_PATH"]).resolve())
    jobs = int(sys.argv[1]) if len(sys.argv) > 1 else JOBS
    print(in_process(jobs), flush=True)
    print(workers(), flush=True)
    print(finished(), flush=True)


if __name__ == "__main__":
    main()
