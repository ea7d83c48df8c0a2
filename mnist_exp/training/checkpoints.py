"""The whole state of training after each epoch, in the run folder, and its best weights."""

import json
import logging
import math
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from mnist_exp.core.files import write_atomic
from mnist_exp.core.layout import CHECKPOINTS

if TYPE_CHECKING:
    import keras

logger = logging.getLogger(__name__)

KEPT = 2  # the newest, and the one before it should that be damaged
TEXT = "text"


@dataclass(frozen=True)
class Checkpoint:
    """All that training needs to resume after an epoch bit for bit."""

    epochs: Sequence[dict[str, float]]  # the metrics of each so far
    scalars: Mapping[str, float]
    arrays: Mapping[str, Sequence[np.ndarray]]


class Checkpoints:
    """The newest checkpoints of a run folder; one may be in writing while training continues."""

    def __init__(self, folder: Path, every: int = 1) -> None:
        """One checkpoint per `every` epochs."""
        self.folder, self.every = folder / CHECKPOINTS, every
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._writing: Future[None] | None = None
        self._failed = False

    def is_due(self, epoch: int) -> bool:
        """Whether this epoch, counted from 1, ends with a checkpoint."""
        return epoch % self.every == 0

    def save(self, epoch: int, checkpoint: Checkpoint) -> None:
        """Start writing the checkpoint after this epoch; a failure is a warning."""
        self.wait()
        self._writing = self._thread.submit(self.write, epoch, checkpoint)

    def wait(self) -> None:
        """Block until what was saved is on disk."""
        if self._writing is None:
            return
        try:
            self._writing.result()
            self._failed = False
        except OSError as error:
            if not self._failed:  # warn once, not every epoch
                logger.warning(
                    f"{error.filename or self.folder}: {error.strerror}; training goes on, but the "
                    "epochs since the last checkpoint are lost should it break off"
                )
            self._failed = True
        self._writing = None

    def newest(self) -> Checkpoint | None:
        """The newest readable checkpoint; warns of each damaged one."""
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
        """Like `wait`, for the last time."""
        self.wait()
        self._thread.shutdown()

    def keep_newest(self) -> None:
        """Remove all but the newest, by which a finished run can be extended."""
        for old in self._paths()[:-1]:
            old.unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove them all."""
        self.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def write(self, epoch: int, checkpoint: Checkpoint) -> None:
        """Write the checkpoint after this epoch; raises `OSError`."""
        self.folder.mkdir(exist_ok=True)
        write_atomic(self.folder / f"epoch-{epoch:06}.npz", lambda file: dump(checkpoint, file))
        for old in self._paths()[:-KEPT]:
            old.unlink(missing_ok=True)

    def _paths(self) -> list[Path]:
        """Oldest first."""
        found = [p for p in self.folder.glob("epoch-*.npz") if p.stem[len("epoch-") :].isdigit()]
        return sorted(found, key=lambda path: (len(path.name), path))  # a copy has another name


def dump(checkpoint: Checkpoint, file: IO[bytes]) -> None:
    """Write the checkpoint as an .npz, whose CRCs reveal damage."""
    text = json.dumps({"epochs": checkpoint.epochs, "facts": checkpoint.scalars})
    arrays: dict[str, np.ndarray] = {TEXT: np.frombuffer(text.encode(), np.uint8)}
    for name, values in checkpoint.arrays.items():
        arrays |= {f"{name}.{number}": array for number, array in enumerate(values)}
    np.savez(file, **arrays)  # type: ignore[arg-type]  # no name is one of savez' own arguments


def read(path: Path) -> Checkpoint:
    """The checkpoint in the file; raises `ValueError` for a damaged one."""
    try:
        with zipfile.ZipFile(path) as archive:
            if damaged := archive.testzip():  # before NumPy trusts a header
                raise ValueError(f"wrong checksum of {damaged}")
        with np.load(path, allow_pickle=False) as stored:
            text = json.loads(stored[TEXT].tobytes())
            arrays: dict[str, list[np.ndarray]] = {}
            for key in stored.files[1:]:
                arrays.setdefault(key.rpartition(".")[0], []).append(stored[key])
        return Checkpoint(text["epochs"], text["facts"], arrays)
    except Exception as error:  # a damaged archive can raise anything
        raise ValueError(str(error) or type(error).__name__) from error


@dataclass
class BestWeights:
    """Early stopping on val/loss: the best weights so far, and whether patience has run out."""

    patience: int | None
    loss: float = math.inf
    epoch: int = 0  # from 1
    patience_since: int = 0  # an epoch, where a run that had stopped early was extended
    weights: Sequence[np.ndarray] = ()

    @classmethod
    def restored(cls, checkpoint: Checkpoint, patience: int | None) -> "BestWeights":
        """Those of the checkpoint."""
        loss, epoch = checkpoint.scalars["best_loss"], checkpoint.scalars["best_epoch"]
        since = checkpoint.scalars.get("patience_since", 0)
        return cls(patience, loss, int(epoch), int(since), checkpoint.arrays.get("best", ()))

    def update(self, model: "keras.Model", epoch: int, row: dict[str, float]) -> None:
        """Copy the weights when the `row` of this epoch, counted from 1, is the best so far."""
        if self.patience and row["val/loss"] < self.loss:
            self.loss, self.epoch, self.weights = row["val/loss"], epoch, model.get_weights()

    def is_stale(self, done: int) -> bool:
        """Whether of the epochs `done` so far the last `patience` were no better."""
        since = max(self.epoch, self.patience_since)
        return self.patience is not None and done - since >= self.patience

    def restore(self, model: "keras.Model") -> int | None:
        """Set the best weights; their epoch, or None without patience."""
        if not self.weights:
            return None
        model.set_weights(self.weights)
        return self.epoch


def with_new_patience(checkpoint: Checkpoint, patience: int | None) -> Checkpoint:
    """The checkpoint, from which a run whose patience has run out goes on with it anew."""
    done = len(checkpoint.epochs)
    if not BestWeights.restored(checkpoint, patience).is_stale(done):
        return checkpoint
    return replace(checkpoint, scalars={**checkpoint.scalars, "patience_since": done})
