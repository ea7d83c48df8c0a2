"""What a measurement was taken on, and how its spread is told."""

import os
import statistics
from collections.abc import Sequence
from datetime import date
from pathlib import Path

from mnist_exp.config.compose import compose
from mnist_exp.core import hardware
from mnist_exp.core.provenance import versions
from mnist_exp.data.dataset import Dataset, load_dataset

ROOT = Path(__file__).parent.parent


def describe() -> str:
    machine, installed = hardware.describe(), versions()
    flags = ", ".join(sorted(hardware.BFLOAT16_FLAGS & hardware.cpu_flags())) or "no bfloat16"
    return (
        f"{date.today()}: {machine['cpu']} ({flags}), {machine['threads']} threads, GPU "
        f"{machine['gpu']}; TensorFlow {installed['tensorflow']}, Keras {installed['keras']}"
    )


def mnist(training: int = 48_000) -> Dataset:
    """Full MNIST with `training` images to train on and the rest of the 60,000 to validate."""
    split = 1 - training / 60_000
    return load_dataset(compose([f"data.validation_split={split}", "data.fallback=error"]).data)


def environment() -> dict[str, str]:
    """For a process in another folder that is to use this checkout."""
    path = os.environ.get("MNIST_PATH")
    named = {"MNIST_PATH": str(Path(path).absolute())} if path else {}
    return os.environ | {"PYTHONPATH": str(ROOT)} | named


def spread(values: Sequence[float], unit: str = "") -> str:
    """Median, range and n."""
    low, high = min(values), max(values)
    return f"{statistics.median(values):.2f}{unit} ({low:.2f}-{high:.2f}, n = {len(values)})"


def row(*cells: object) -> str:
    """A line of a Markdown table."""
    return f"| {' | '.join(str(cell) for cell in cells)} |"


def head(*names: str) -> list[str]:
    """The first two lines of one."""
    return [row(*names), "|" + "---|" * len(names)]
