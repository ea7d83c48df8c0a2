"""Where the seconds of a short run go, each in a process of its own, in a folder of its own.

python -m benchmarks.start_up
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RUNS = 3
PHASES = ("imports", "training", "compiling", "the rest")
IMPORTS = (  # what a run imports, in its order
    "hydra", "pydantic", "rich", "numpy", "mlflow", "tensorflow", "keras",
    "mlflow.tensorflow", "matplotlib.figure", "sklearn.metrics",
)  # fmt: skip


def child() -> None:
    """Prints the phases of `model=dense128 train=quick` as JSON."""
    import importlib

    os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "MLFLOW_DISABLE_TELEMETRY": "true"}
    started = time.perf_counter()
    for name in IMPORTS:
        importlib.import_module(name)
    imports = time.perf_counter() - started
    from mnist_exp import compose, run_experiment

    started = time.perf_counter()
    metrics = run_experiment(compose(["model=dense128", "train=quick"])).metrics
    whole = time.perf_counter() - started
    training, compiling = metrics["train/seconds"], metrics["train/compile_seconds"]
    print(json.dumps([imports, training, compiling, whole - training - compiling]))


def measure(folder: Path) -> list[float]:
    command = [sys.executable, "-m", "benchmarks.start_up", "--child"]
    path = {"PYTHONPATH": str(Path(__file__).parent.parent)}
    done = subprocess.run(
        command, cwd=folder, env=os.environ | path, capture_output=True, text=True, check=True
    )
    return list(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    from benchmarks import machine

    print(machine.describe())
    os.environ.setdefault("MNIST_PATH", str(Path("../shared/mnist/mnist.npz").resolve()))
    for store in ("a new store", "the store there"):
        rows = []
        for _ in range(RUNS):
            with tempfile.TemporaryDirectory() as folder:
                if store == "the store there":
                    measure(Path(folder))
                rows.append(measure(Path(folder)))
        phases = zip(PHASES, zip(*rows, strict=True), strict=True)
        told = ", ".join(f"{name} {machine.spread(values, ' s')}" for name, values in phases)
        print(f"model=dense128 train=quick, {store}: {told}")


if __name__ == "__main__":
    child() if "--child" in sys.argv else main()
