"""How long one waits before anything is trained, and where the seconds of a short run go."""

import contextlib
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks import machine
from mnist_exp.core.console import prepare_process

TITLE = "Start-up"
RUN = ["-m", "mnist_exp.run"]
QUICK = ["model=dense128", "train=quick"]
BARE, WHOLE = "a bare `import tensorflow`", f"the whole of `{' '.join(QUICK)}`"
COMMANDS = {
    "`--help`": [*RUN, "--help"],
    "a misspelt key": [*RUN, "train.epoch=3"],
    BARE: ["-c", "import tensorflow"],
    WHOLE: [*RUN, *QUICK],
}
WAITING = "the same, less its training and compiling"
PHASES = ("imports", "training", "compiling", "the rest")


def child(modules: list[str]) -> None:
    """Prints the phases of a short run, and all modules that came to be used.

    `modules` are imported first, so that imports hidden in the run are told as what they are.
    """
    os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "MLFLOW_DISABLE_TELEMETRY": "true"}
    prepare_process()
    started = time.perf_counter()
    for name in modules:
        with contextlib.suppress(Exception):  # some exist only as parts of others
            importlib.import_module(name)
    imports = time.perf_counter() - started
    from mnist_exp import compose, run_experiment

    started = time.perf_counter()
    metrics = run_experiment(compose(QUICK)).metrics
    whole = time.perf_counter() - started
    training, compiling = metrics["train/seconds"], metrics["train/compile_seconds"]
    phases = [imports, training, compiling, whole - training - compiling]
    print(json.dumps({"phases": phases, "modules": list(sys.modules)}))


def seconds(folder: str, arguments: list[str]) -> float:
    """The seconds of a whole process."""
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=machine.environment(),
        capture_output=True,
        check=False,  # a misspelt key is refused
    )
    return time.perf_counter() - started


def one_round(folder: str) -> dict[str, float]:
    """The seconds of every command, and those of the last that are not training."""
    values = {name: seconds(folder, command) for name, command in COMMANDS.items()}
    newest = max(Path(folder).glob("outputs/*/*/metrics.json"), key=os.path.getmtime)
    metrics = json.loads(newest.read_text())
    trained = metrics["train/seconds"] + metrics["train/compile_seconds"]
    return values | {WAITING: values[WHOLE] - trained}


def phases(folder: str, modules: list[str]) -> tuple[list[float], list[str]]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.start_up"],
        cwd=folder,
        env=machine.environment(),
        input=json.dumps(modules),
        capture_output=True,
        text=True,
        check=True,
    )
    told = json.loads(done.stdout.splitlines()[-1])
    return told["phases"], told["modules"]


def measure(quick: bool) -> Iterator[str]:
    n = 1 if quick else 7
    yield "Whole processes in turn, full MNIST, with a tracking store that exists."
    yield ""
    yield from machine.head("command", "seconds", f"against {BARE}")
    with tempfile.TemporaryDirectory() as folder:
        _, modules = phases(folder, [])  # and the store is made
        rounds = [one_round(folder) for _ in range(n)]
        for name in rounds[0]:
            values = machine.spread([each[name] for each in rounds], " s")
            ratios = machine.spread([each[name] / each[BARE] for each in rounds])
            yield machine.row(name, values, ratios)
    if quick:
        return
    yield ""
    yield f"The phases of `{' '.join(QUICK)}`, everything it uses imported beforehand."
    yield ""
    yield from machine.head("store", *PHASES)
    for store in ("there already", "a new one"):
        rows = []
        for _ in range(5):
            with tempfile.TemporaryDirectory() as folder:
                if store == "there already":
                    phases(folder, modules)
                rows.append(phases(folder, modules)[0])
        yield machine.row(store, *(machine.spread(each, " s") for each in zip(*rows, strict=True)))


if __name__ == "__main__":
    child(json.load(sys.stdin))
