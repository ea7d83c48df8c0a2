"""What a measurement was taken on, and how its spread is told."""

import os
import statistics
from collections.abc import Sequence
from datetime import date
from pathlib import Path

from mnist_exp import hardware
from mnist_exp.config import compose
from mnist_exp.data import Dataset, load
from mnist_exp.provenance import versions


def describe() -> str:
    machine, installed = hardware.describe(), versions()
    flags = ", ".join(sorted(hardware.BFLOAT16_FLAGS & hardware.cpu_flags())) or "no bfloat16"
    return (
        f"{date.today()}: {machine['cpu']} ({flags}), {machine['threads']} threads, GPU "
        f"{machine['gpu']}; TensorFlow {installed['tensorflow']}, Keras {installed['keras']}"
    )


def mnist(training: int = 48_000) -> Dataset:
    """Full MNIST with `training` images to train on and the rest of the 60,000 to validate."""
    default = Path("../shared/mnist/mnist.npz")
    path = os.environ.get("MNIST_PATH") or (str(default) if default.exists() else None)
    split = 1 - training / 60_000
    overrides = [f"data.validation_split={split}", "data.fallback=error"]
    return load(compose([*overrides, *([f"data.path={path}"] if path else [])]).data)


def spread(values: Sequence[float], unit: str = "") -> str:
    """Median, range and n."""
    low, high = min(values), max(values)
    return f"{statistics.median(values):.2f}{unit} ({low:.2f}-{high:.2f}, n = {len(values)})"
