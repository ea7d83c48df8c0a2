"""A run's result and its folder: each file of it has its reader and its writer here."""

import csv
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import Any

import numpy as np

from mnist_exp.config.compose import from_yaml, to_yaml
from mnist_exp.config.schema import Config
from mnist_exp.core import layout
from mnist_exp.core.console import redact
from mnist_exp.core.errors import InputError
from mnist_exp.core.files import make_folder, write_atomic
from mnist_exp.evaluation.calibration import Calibration
from mnist_exp.evaluation.metrics import Evaluation

logger = logging.getLogger(__name__)

EPOCH_COLUMNS = (
    "epoch", "train/loss", "train/accuracy", "val/loss", "val/accuracy",
    "train/learning_rate", "train/epoch_seconds",
)  # fmt: skip


@dataclass(frozen=True)
class RunResult:
    """The result of one run; as a number its validation accuracy, which sweeps optimise."""

    title: str  # model, data, score and n in one line
    folder: Path
    run_id: str  # empty when tracking is off
    metrics: Mapping[str, float]
    data: str  # the label of the data set the scores are of

    def __float__(self) -> float:
        return self.metrics.get("val/accuracy", float("nan"))

    def to_dict(self) -> dict[str, Any]:
        """The result in JSON's types."""
        return vars(self) | {"folder": str(self.folder), "metrics": dict(self.metrics)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "RunResult":
        """The result that `to_dict` gave."""
        return cls(**dict(values) | {"folder": Path(values["folder"])})


class RunFiles:
    """The files of one run, wherever `file` finds them."""

    def file(self, name: str) -> Path:
        """The path of this file; raises an error for a run without it."""
        raise NotImplementedError

    def config(self) -> Config:
        """The config of the run; raises `InputError` for one that is not valid."""
        return from_yaml(self.file(layout.CONFIG).read_text(encoding="utf-8"))

    def history(self) -> list[dict[str, float]]:
        """The metrics of each epoch."""
        return _read_rows(self.file(layout.HISTORY))

    def curve(self) -> list[dict[str, float]]:
        """The points of the training curve within epochs."""
        return _read_rows(self.file(layout.CURVE))

    def evaluation(self) -> Evaluation:
        """The predictions of the test images."""
        with np.load(self.file(layout.PREDICTIONS), allow_pickle=False) as stored:
            return Evaluation(stored["labels"], stored["probabilities"])

    def validation(self) -> tuple[np.ndarray, Evaluation]:
        """The validation images' indices in the training file, and the predictions of them."""
        with np.load(self.file(layout.VALIDATION), allow_pickle=False) as stored:
            return stored["indices"], Evaluation(stored["labels"], stored["probabilities"])

    def calibration(self) -> Calibration:
        """The model's temperature; raises `InputError` for a damaged file."""
        try:
            return Calibration(**json.loads(self.file(layout.CALIBRATION).read_text()))
        except (TypeError, ValueError) as error:
            raise InputError(f"{layout.CALIBRATION} is damaged ({error})") from error


@dataclass(frozen=True)
class RunFolder(RunFiles):
    """The folder of one run."""

    path: Path

    @classmethod
    def claim(
        cls, path: Path, config: Config, overrides: Iterable[str] = (), diff: str = ""
    ) -> "RunFolder":
        """A folder of one's own, numbered when the name is taken.

        It holds the config, what was typed to ask for it, and uncommitted changes of the code.

        Raises `InputError` when it cannot be made, or is the current folder and not empty.
        """
        path = path.absolute()
        for name in chain([path.name], (f"{path.name}-{number}" for number in count(2))):
            folder = make_folder(path.with_name(name), "hydra.run.dir")
            try:
                if all(path.name[0] == "." for path in folder.iterdir()):
                    with (folder / layout.CONFIG).open("x", encoding="utf-8") as file:
                        file.write(to_yaml(config))
                    typed = "".join(f"{redact(override)}\n" for override in overrides)
                    (folder / layout.OVERRIDES).write_text(typed)
                    if diff:
                        (folder / layout.CODE_DIFF).write_text(diff)
                    if folder != path:
                        logger.info(f"{path} is taken, so the run is in {name}")
                    return cls(folder)
            except FileExistsError:  # another run was quicker
                continue
            if folder == Path.cwd():
                raise InputError(
                    f"{folder}: not empty; give the run another folder: hydra.run.dir="
                )
        raise AssertionError("count never ends")

    def file(self, name: str) -> Path:
        return self.path / name

    def overrides(self) -> list[str]:
        """What was typed to ask for the run."""
        path = self.path / layout.OVERRIDES
        return path.read_text().splitlines() if path.exists() else []

    def write_history(self, rows: Sequence[Mapping[str, float]]) -> None:
        """The metrics of these epochs; without any there is no file."""
        (self.path / layout.HISTORY).unlink(missing_ok=True)
        for epoch, row in enumerate(rows):
            self.append_epoch(epoch, row)

    def append_epoch(self, epoch: int, row: Mapping[str, float]) -> None:
        """Add the metrics of `epoch`, counted from 0; the first has the header above it."""
        with (self.path / layout.HISTORY).open("a" if epoch else "w", newline="") as file:
            writer = csv.DictWriter(file, EPOCH_COLUMNS, extrasaction="ignore")
            if not epoch:
                writer.writeheader()
            writer.writerow({"epoch": epoch + 1, **row})

    def write_curve(self, rows: Sequence[Mapping[str, float]]) -> None:
        """The points of the training curve within epochs."""
        write_rows(self.path / layout.CURVE, layout.CURVE_COLUMNS, rows)

    def metrics(self) -> dict[str, float]:
        """The final metrics."""
        return dict(json.loads((self.path / layout.METRICS).read_text()))

    def write_metrics(self, metrics: Mapping[str, float]) -> None:
        """The final metrics."""
        (self.path / layout.METRICS).write_text(json.dumps(dict(metrics), indent=2) + "\n")

    def write_summary(self, summary: str) -> None:
        """The model's layers."""
        (self.path / layout.SUMMARY).write_text(summary)

    def write_evaluation(self, evaluation: Evaluation) -> None:
        """The predictions of the test images."""
        np.savez_compressed(self.path / layout.PREDICTIONS, **_arrays(evaluation))

    def write_validation(self, indices: np.ndarray, evaluation: Evaluation) -> None:
        """The validation images' indices in the training file, and the predictions of them."""
        path = self.path / layout.VALIDATION
        np.savez_compressed(path, indices=indices, **_arrays(evaluation))

    def write_calibration(self, calibration: Calibration) -> None:
        """The model's temperature, and what it does on the validation images."""
        text = json.dumps(vars(calibration), indent=2) + "\n"
        write_atomic(self.path / layout.CALIBRATION, lambda file: file.write(text.encode()))

    def write_table(self, name: str, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """A CSV file in the folder of tables."""
        folder = self.path / layout.TABLES
        folder.mkdir(exist_ok=True)
        with (folder / f"{name}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([header, *rows])

    def has_result(self) -> bool:
        """Whether the run is complete."""
        return (self.path / layout.RESULT).exists()

    def result(self) -> RunResult:
        """The result of the complete run; raises `FileNotFoundError` for others."""
        values = json.loads((self.path / layout.RESULT).read_text())
        return RunResult.from_dict(values | {"folder": self.path})

    def write_result(self, result: RunResult) -> None:
        """The result: the run is complete."""
        values = result.to_dict() | {"folder": ""}  # it may be moved
        text = json.dumps(values, indent=2) + "\n"
        write_atomic(self.path / layout.RESULT, lambda file: file.write(text.encode()))


def write_rows(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> None:
    """A CSV file of these columns of the rows; what a row lacks is empty."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


def _read_rows(path: Path) -> list[dict[str, float]]:
    with path.open(newline="") as rows:
        return [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(rows)]


def _arrays(evaluation: Evaluation) -> dict[str, Any]:
    return {"labels": evaluation.labels, "probabilities": evaluation.probabilities}
