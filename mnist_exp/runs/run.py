"""A recorded run: its config, data, history, predictions and model, read from MLflow."""

import json
import logging
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnist_exp.config.data import AnyDataConfig, OwnDataConfig
from mnist_exp.config.parts import Part, load_part, source
from mnist_exp.config.schema import TrackingConfig
from mnist_exp.core import layout
from mnist_exp.core.classes import CLASSES_TAG, DIGITS
from mnist_exp.core.errors import InputError
from mnist_exp.core.output import quiet_stderr
from mnist_exp.core.provenance import Commit, versions
from mnist_exp.data import sources
from mnist_exp.data.dataset import DISPLAY_NAMES, Dataset, load_dataset
from mnist_exp.data.known import KNOWN
from mnist_exp.data.own import picture_reader
from mnist_exp.runs.data_paths import relocated_data
from mnist_exp.runs.folder import RunFiles, RunResult
from mnist_exp.tracking import store
from mnist_exp.tracking.journal import Journal
from mnist_exp.tracking.logged_model import MODEL_FILE, download_model, global_tracking_uri
from mnist_exp.tracking.places import (
    FOLDER_TAG,
    JOURNAL_TAG,
    artifacts_now,
    run_folder,
    to_path,
)

if TYPE_CHECKING:
    from mnist_exp.pictures.preprocess import PreprocessedPicture

logger = logging.getLogger(__name__)

DATA_LABEL_TAG = "data.label"
FINGERPRINT_TAG, TITLE_TAG = "fingerprint", "mlflow.note.content"
# Of an extended run: the id of the finished run, or its folder, and the epochs taken over.
EXTENDED_FROM_TAG, EXTENDED_AFTER_TAG = "extended_from", "extended_after"
ECE_CALIBRATED = "test/ece_calibrated"  # of the runs that have a temperature
FOREIGN = "logged by another program"
OBJECTIVE = "val/accuracy"  # what models are chosen by


@dataclass(frozen=True)
class Run(RunFiles):
    """A recorded run; a file that it lacks, or that cannot be had, is an `InputError`."""

    run_id: str
    name: str
    status: str
    metrics: Mapping[str, float]
    params: Mapping[str, str]
    tags: Mapping[str, str]
    tracking: TrackingConfig  # where it is recorded
    start_time: int = 0  # milliseconds since 1970
    artifact_uri: str = ""

    @property
    def title(self) -> str:
        """Model, data, score and n in one line."""
        default = FOREIGN if self.is_foreign else ""
        return self.tags.get(TITLE_TAG, default).partition("\n")[0]

    @property
    def start(self) -> datetime:
        """When it began."""
        return datetime.fromtimestamp(self.start_time / 1000, tz=UTC)

    @property
    def folder(self) -> str:
        """The run folder, as it is now."""
        return str(run_folder(self.tags, self.run_id, store.uri(self.tracking)))

    @property
    def data(self) -> str:
        """The data set's label."""
        return self.tags.get(DATA_LABEL_TAG, "unknown data")

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes; a run that names none reads digits."""
        return tuple(json.loads(self.tags.get(CLASSES_TAG, "[]"))) or DIGITS

    @property
    def is_foreign(self) -> bool:
        """Whether another program logged it, into the same experiment."""
        return not {FINGERPRINT_TAG, JOURNAL_TAG, FOLDER_TAG} & self.tags.keys()

    def __str__(self) -> str:
        return f"run {self.run_id[:8]} ({self.name})"

    def file(self, name: str) -> Path:
        """The artifact, or a copy until this process ends; raises `InputError` for none.

        `MODEL_FILE` is that of the run's logged model.
        """
        uri = store.uri(self.tracking)
        local = to_path(artifacts_now(self.artifact_uri, uri))
        if local and local.is_absolute() and (local / name).exists():  # MLflow takes 40 ms
            return local / name
        place = Path(_downloads().name) / self.run_id
        if (place / name).exists():
            return place / name
        place.mkdir(exist_ok=True)
        from mlflow.exceptions import MlflowException

        with store.connect_to_read(self.tracking) as client, global_tracking_uri(uri):
            try:
                if name == MODEL_FILE:
                    return download_model(client, self.run_id, place, uri)
                return Path(client.download_artifacts(self.run_id, name, str(place)))
            except (MlflowException, OSError) as error:
                own = Path(self.folder) / (layout.MODEL if name == MODEL_FILE else name)
                if own.exists() and Journal(own.parent).run_id == self.run_id:
                    return own  # of a run whose artifacts are gone
                what = "model" if name == MODEL_FILE else name
                reason = f"{self} is {self.status} and has no {what} that could be read"
                if self.is_foreign:
                    use = "only predict and serve can use it, if it holds a Keras model"
                    what = "Keras model" if name == MODEL_FILE else f"{name}: {use}"
                    reason = f"{self} was {FOREIGN} and has no {what}"
                raise InputError(f"{reason}; choose another with --run") from error

    def dataset(self, data: str = "") -> Dataset:
        """The run's data set, found on this machine; or `data`, a name or a path.

        Raises `InputError` when that cannot be found, or is not what it was made with.
        """
        config = self.data_config(data)
        try:
            dataset = load_dataset(config)
        except InputError as error:
            if not data:
                made_with = self.tags.get("data.source", "other data")
                raise InputError(f"{self} was made with {made_with}; {error}") from error
            reason = str(error).partition(";")[0]
            instead = "mnist5k, or the path of MNIST (an .npz or a folder)"
            instead = "other pictures" if isinstance(config, OwnDataConfig) else instead
            raise InputError(f"--data {data}: {reason}; give {instead}") from error
        if dataset.classes != self.classes:
            raise InputError(f"{self} tells other classes apart than those of {dataset.source}")
        if not data and dataset.digest != self.tags["data.digest"]:
            raise InputError(f"{self} was made with other data than {dataset.source}; give --data")
        return dataset

    def data_config(self, data: str = "") -> AnyDataConfig:
        """The data config for this machine; raises `InputError`."""
        made_with = relocated_data(self.config().data, self.tags, Path(self.folder))
        if isinstance(made_with, OwnDataConfig):
            other = {"test_path": sources.understand(data), "test_split": None} if data else {}
            return made_with.model_copy(update=other)
        if made_with.name in KNOWN and not data:
            return made_with
        name, path = data or self.tags["data.name"], os.environ.get("MNIST_PATH", "")
        found = made_with.path or path
        if name not in DISPLAY_NAMES:
            name, path = "mnist", data
        elif name != "mnist":
            path = ""
        elif not data and os.path.exists(found):
            path = found
        own = {"name": name, "path": sources.understand(path) or None, "fallback": "error"}
        return made_with.model_copy(update=own)

    def picture_reader(self) -> "Callable[[bytes, str], PreprocessedPicture]":
        """How a picture's file is read for the run's model."""
        return picture_reader(None if self.is_foreign else self.config().data)

    def curve(self) -> list[dict[str, float]]:
        """The points of the training curve within epochs; none of runs recorded without one."""
        try:
            return super().curve()
        except InputError:
            return []

    def temperature(self) -> float:
        """The temperature that calibrates the model; 1, with a warning, if it cannot be read."""
        if ECE_CALIBRATED not in self.metrics:
            return 1.0
        try:
            return self.calibration().temperature
        except InputError:
            unread = f"{self}: {layout.CALIBRATION} cannot be read"
            logger.warning(f"{unread}, so its probabilities are not calibrated")
            return 1.0

    def model(self) -> Any:
        """The Keras model, loaded in safe mode: none of its code is run.

        Raises `InputError` when there is none, or it does not tell these classes apart.
        """
        with quiet_stderr():  # TensorFlow greets every import with a page of hints
            from mnist_exp.models.io import load_model

        self._import_model_part()
        return load_model(self.file(MODEL_FILE), str(self), classes=len(self.classes))

    def _import_model_part(self) -> None:
        """Import the user's own layers, from where the user stands, never from the record."""
        part = Part("model.build", self.params.get("model.build", ""))
        made_with = self.params.get("model.source", "a part")
        if not part.build:
            return
        try:
            load_part(part)
        except InputError as error:
            raise InputError(f"{self} was made with {made_with}; {error}") from error
        if source(part) != made_with:
            logger.warning(f"{self} was made with {made_with}, which has changed since")

    def result(self) -> RunResult:
        """The result, as `run_experiment` returned it."""
        return RunResult(self.title, Path(self.folder), self.run_id, self.metrics, self.data)


@cache
def _downloads() -> "tempfile.TemporaryDirectory[str]":
    """Removed when the process ends."""
    return tempfile.TemporaryDirectory(prefix="mnist_exp-")


def run_tags(
    data: Dataset, code: Commit, overrides: Sequence[str], fingerprint: str
) -> dict[str, str]:
    """The tags of a run: data, code and versions, beside its config."""
    names = json.dumps(data.classes, ensure_ascii=False)  # a tag has 8,000 characters
    return ({} if data.classes == DIGITS else {CLASSES_TAG: names}) | {
        "data.name": data.name,
        DATA_LABEL_TAG: data.label,
        "data.digest": data.digest,
        "data.source": data.source,
        "overrides": " ".join(overrides),
        "git.dirty": str(code.is_dirty).lower() if code.sha else "",
        "mlflow.source.git.commit": code.sha,
        **{f"version.{name}": number for name, number in versions().items()},
        FINGERPRINT_TAG: fingerprint,
    }
