"""Where the seconds of a short run go, each in a process of its own, in a folder of its own.

python -m benchmarks.start_up
"""

import contextlib
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RUNS = 3
PHASES = ("imports", "training", "compiling", "the rest")


def child(modules: list[str]) -> None:
    """Prints the phases of `model=dense128 train=quick`, and all modules that came to be used.

    `modules` are imported first, so that imports hidden in the run are told as what they are.
    """
    os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "MLFLOW_DISABLE_TELEMETRY": "true"}
    started = time.perf_counter()
    for name in modules:
        with contextlib.suppress(Exception):  # some exist only as parts of others
            importlib.import_module(name)
    imports = time.perf_counter() - started
    from mnist_exp import compose, run_experiment

    started = time.perf_counter()
    metrics = run_experiment(compose(["model=dense128", "train=quick"])).metrics
    whole = time.perf_counter() - started
    training, compiling = metrics["train/seconds"], metrics["train/compile_seconds"]
    phases = [imports, training, compiling, whole - training - compiling]
    print(json.dumps({"phases": phases, "modules": list(sys.modules)}))


def run(folder: Path, modules: list[str]) -> tuple[list[float], list[str]]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.start_up", "--child"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)},
        input=json.dumps(modules),
        capture_output=True,
        text=True,
        check=True,
    )
    told = json.loads(done.stdout.splitlines()[-1])
    return told["phases"], told["modules"]


def main() -> None:
    from benchmarks import machine

    print(machine.describe())
    os.environ.setdefault("MNIST_PATH", str(Path("../shared/mnist/mnist.npz").resolve()))
    with tempfile.TemporaryDirectory() as folder:
        _, modules = run(Path(folder), [])
    for store in ("a new store", "the store there"):
        rows = []
        for _ in range(RUNS):
            with tempfile.TemporaryDirectory() as folder:
                if store == "the store there":
                    run(Path(folder), modules)
                rows.append(run(Path(folder), modules)[0])
        phases = zip(PHASES, zip(*rows, strict=True), strict=True)
        told = ", ".join(f"{name} {machine.spread(values, ' s')}" for name, values in phases)
        print(f"model=dense128 train=quick, {store}: {told}", flush=True)


if __name__ == "__main__":
    child(json.load(sys.stdin)) if "--child" in sys.argv else main()
