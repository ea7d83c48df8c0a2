"""Labels of one's own, whole numbers or texts: numbered from 0, with the names of their classes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnist_exp.core.classes import MAX_CLASSES, MAX_NAME
from mnist_exp.core.errors import InputError
from mnist_exp.data.mnist import Array
from mnist_exp.data.readers import Part


def numbered_labels(
    parts: Sequence[Part], path: Path, given: tuple[str, ...] | None, notes: list[str]
) -> tuple[Array, tuple[str, ...]]:
    """The labels of all parts as uint8 from 0, and what the classes are called."""
    values = np.concatenate([_flat(part.labels, path) for part in parts])
    found, labels = np.unique(values, return_inverse=True)
    names = given or parts[0].names
    if values.dtype.kind == "U":
        if given and {*given} != {*found.tolist()}:
            raise InputError(
                f"data.classes: expected the labels of {path}, which are texts, in an order of "
                f"yours: {shown(found.tolist())}; got {shown(given)}"
            )
        if given:
            labels = np.array([given.index(name) for name in found])[labels]
        names = given or tuple(found.tolist())
        notes.append(f"labels are texts, so classes are in the order {shown(names)}")
    elif names and found[0] >= 0 and found[-1] < len(names):
        labels = values
    elif names and len(names) != len(found):
        raise InputError(
            f"data.classes: expected a name for each of the {len(found)} labels of {path} "
            f"({found[0]} to {found[-1]}), got {len(names)}"
        )
    elif found[0] != 0 or found[-1] != len(found) - 1:
        notes.append(f"labels are {found[0]} to {found[-1]}, so they are numbered anew from 0")
    names = names or tuple(map(str, found.tolist()))
    if not 1 < len(names) <= MAX_CLASSES:
        raise InputError(f"{path}: expected 2 to {MAX_CLASSES} classes, got {len(names)}")
    if bad := [n for n in names if not n or len(n) > MAX_NAME or names.count(n) > 1]:
        raise InputError(
            f"{path}: expected names of classes of 1 to {MAX_NAME} characters, each once, got "
            f"{bad[0]!r}; give others with data.classes=[...]"
        )
    return labels.astype(np.uint8), names


def shown(names: Sequence[str]) -> str:
    """The first names."""
    return ", ".join([*names[:8], "..."] if len(names) > 8 else names)


def _flat(labels: NDArray[Any], path: Path) -> NDArray[Any]:
    """The labels as whole numbers or texts (n,)."""
    labels = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if labels.ndim != 1:
        raise InputError(
            f"{path}: expected a label per picture, (n,), got {labels.shape}; of one-hot labels "
            "take numpy.argmax(labels, axis=1)"
        )
    if labels.dtype.kind in "OSU":
        labels = np.array([x.decode() if isinstance(x, bytes) else str(x) for x in labels])
        is_number = all(text.isdecimal() for text in labels.tolist())
        return labels.astype(int) if is_number else labels
    whole: NDArray[np.int64] = np.nan_to_num(labels, nan=0.5).astype(np.int64)
    if not (whole == labels).all():
        wrong = labels[whole != labels][0]
        raise InputError(f"{path}: expected labels that are whole numbers or texts, got {wrong:g}")
    return whole
