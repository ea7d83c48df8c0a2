"""Training's whole state in the run folder, after each epoch: there as a whole, or not at all."""

import json
import logging
import re
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from mnist_exp.core.files import write_atomic
from mnist_exp.core.layout import CHECKPOINTS

logger = logging.getLogger(__name__)

KEPT = 2  # the newest, and one before it should that be damaged
TEXT = "text"


@dataclass(frozen=True)
class Checkpoint:
    """What training needs to go on after an epoch as if nothing had happened."""

    epochs: Sequence[dict[str, float]]  # the figures of each so far
    facts: Mapping[str, float]
    arrays: Mapping[str, Sequence[np.ndarray]]


class Checkpoints:
    """The newest checkpoints of a run folder; one may be in writing while training goes on."""

    def __init__(self, folder: Path, every: int = 1) -> None:
        """`every` so many epochs one is written."""
        self.folder, self.every = folder / CHECKPOINTS, every
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._writing: Future[None] | None = None
        self._failed = False

    def is_due(self, epoch: int) -> bool:
        """Whether there is to be one after this epoch, counted from 1."""
        return epoch % self.every == 0

    def save(self, epoch: int, checkpoint: Checkpoint) -> None:
        """Begins to write the checkpoint after this epoch.

        One that cannot be written is a warning: training does not depend on it.
        """
        self.wait()
        self._writing = self._thread.submit(self._write, epoch, checkpoint)

    def wait(self) -> None:
        """Returns when what was saved is on disk."""
        if self._writing is None:
            return
        try:
            self._writing.result()
            self._failed = False
        except OSError as error:
            if not self._failed:  # told once, not every epoch
                logger.warning(
                    f"{error.filename or self.folder}: {error.strerror}; training goes on, but the "
                    "epochs since the last checkpoint are lost should it break off"
                )
            self._failed = True
        self._writing = None

    def newest(self) -> Checkpoint | None:
        """The newest that is whole; a damaged one is told of, and the one before it taken."""
        paths = self._paths()
        while paths:
            path = paths.pop()
            try:
                return read(path)
            except ValueError as error:
                back = "the one before it is taken" if paths else "training begins anew"
                logger.warning(f"{path}: damaged ({error}); {back}")
        return None

    def close(self) -> None:
        """As `wait`; nothing more will be saved."""
        self.wait()
        self._thread.shutdown()

    def remove(self) -> None:
        """Removes them all: the run is finished."""
        self.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _write(self, epoch: int, checkpoint: Checkpoint) -> None:
        self.folder.mkdir(exist_ok=True)
        write_atomic(self.folder / f"epoch-{epoch:06}.npz", lambda file: dump(checkpoint, file))
        for old in self._paths()[:-KEPT]:
            old.unlink(missing_ok=True)

    def _paths(self) -> list[Path]:
        """Oldest first."""
        found = {
            int(match[1]): path
            for path in self.folder.glob("epoch-*.npz")
            if (match := re.fullmatch(r"epoch-(\d+)", path.stem))
        }
        return [found[epoch] for epoch in sorted(found)]


def dump(checkpoint: Checkpoint, file: IO[bytes]) -> None:
    """Writes the checkpoint as an .npz; its CRCs show damage."""
    text = json.dumps({"epochs": checkpoint.epochs, "facts": checkpoint.facts})
    arrays: dict[str, np.ndarray] = {
        f"{name}.{number}": array
        for name, each in checkpoint.arrays.items()
        for number, array in enumerate(each)
    }
    arrays = {TEXT: np.frombuffer(text.encode(), np.uint8), **arrays}
    np.savez(file, **arrays)  # type: ignore[arg-type]  # of names that NumPy has no use for itself


def read(path: Path) -> Checkpoint:
    """The checkpoint in the file; raises `ValueError` when it is not whole."""
    try:
        with zipfile.ZipFile(path) as archive:
            if damaged := archive.testzip():  # before NumPy believes what a header says
                raise ValueError(f"wrong checksum of {damaged}")
        with np.load(path, allow_pickle=False) as stored:
            text = json.loads(stored[TEXT].tobytes())
            arrays: dict[str, list[np.ndarray]] = {}
            for key in stored.files[1:]:
                arrays.setdefault(key.rpartition(".")[0], []).append(stored[key])
        return Checkpoint(text["epochs"], text["facts"], arrays)
    except Exception as error:  # whatever a damaged archive comes to
        raise ValueError(str(error) or type(error).__name__) from error
