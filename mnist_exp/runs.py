"""The only reader of MLflow: finds runs and gives back what they recorded."""

import csv
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mnist_exp import data as datasets
from mnist_exp import store
from mnist_exp.config import from_yaml
from mnist_exp.data import Dataset
from mnist_exp.errors import InputError
from mnist_exp.evaluation import Evaluation
from mnist_exp.records import FOLDER
from mnist_exp.schema import Config, Data, Tracking
from mnist_exp.terminal import quiet_stderr

if TYPE_CHECKING:
    import mlflow.entities
    from mlflow import MlflowClient

DATA_LABEL = "data.label"
FINGERPRINT, TITLE = "fingerprint", "mlflow.note.content"
RANKED = "val/accuracy"  # what models are chosen by
BEST, MODEL_URI = "best", "models:/"
SHORTEST = 4  # characters of a run id's beginning
NUMBERED = 32  # characters of a whole one
MODEL = "model/data/model.keras"  # where MLflow keeps a Keras model
FULL_DATA = (  # preferred by `best`, in this order
    "tags.data.name = 'mnist' and params.`data.limit` = 'null'",
    "tags.data.name = 'mnist'",
    "tags.data.name = 'mnist5k'",
)


@dataclass(frozen=True)
class Run:
    """A recorded run."""

    run_id: str
    name: str
    status: str
    metrics: Mapping[str, float]
    params: Mapping[str, str]
    tags: Mapping[str, str]
    tracking: Tracking  # where it is recorded

    @property
    def title(self) -> str:
        """Model, data, score and n in one line."""
        return self.tags.get(TITLE, "")

    @property
    def folder(self) -> str:
        """Where it was made."""
        return self.tags[FOLDER]

    @property
    def data(self) -> str:
        """The data set's label."""
        return self.tags[DATA_LABEL]

    def __str__(self) -> str:
        return f"run {self.run_id[:8]} ({self.name})"

    def file(self, name: str) -> Path:
        """A copy of the recorded file, until this process ends; raises `InputError` for none."""
        place = Path(_downloads().name) / self.run_id
        if (place / name).exists():
            return place / name
        place.mkdir(exist_ok=True)
        from mlflow.exceptions import MlflowException

        uri = store.uri(self.tracking)
        with store.opened_to_read(self.tracking) as client, store.meant(uri):
            try:
                return Path(client.download_artifacts(self.run_id, name, str(place)))
            except (MlflowException, OSError) as error:
                what = "model" if name == MODEL else name
                raise InputError(
                    f"{self} is {self.status} and has no {what} that could be read; "
                    "choose another with --run"
                ) from error

    def config(self) -> Config:
        """The config it was made with; raises `InputError`."""
        return from_yaml(self.file("config.yaml").read_text(encoding="utf-8"))

    def dataset(self, data: str = "") -> Dataset:
        """The data it was made with, found again on this machine; or `data`, a name or a path.

        Raises `InputError` when that cannot be found, or is not what it was made with.
        """
        try:
            found = datasets.load(self.data_config(data))
        except InputError as error:
            if not data:
                raise
            reason = str(error).partition(";")[0]
            raise InputError(
                f"--data {data}: {reason}; give mnist5k, or the path of MNIST (an .npz or a folder)"
            ) from error
        if not data and found.digest != self.tags["data.digest"]:
            raise InputError(f"{self} was made with other data than {found.source}; give --data")
        return found

    def data_config(self, data: str = "") -> Data:
        """Where this machine has that data; raises `InputError`."""
        made_with = self.config().data
        own = {"fallback": "error", "path": None}
        if not data:
            own["name"] = self.tags["data.name"]
            if own["name"] == "mnist":
                recorded = Path(made_with.path or "none")
                own["path"] = str(recorded) if recorded.exists() else os.environ.get("MNIST_PATH")
        elif data in datasets.LABELS:
            own |= {"name": data, "path": os.environ.get("MNIST_PATH") if data == "mnist" else None}
        else:
            own |= {"name": "mnist", "path": data}
        return made_with.model_copy(update=own)

    def history(self) -> list[dict[str, float]]:
        """The figures of each epoch, by name; raises `InputError`."""
        return history(self.file("history.csv"))

    def evaluation(self) -> Evaluation:
        """What it said about the test images; raises `InputError`."""
        return evaluation(self.file("predictions.npz"))

    def model(self) -> Any:
        """The Keras model, loaded in safe mode: no code that it may carry is run.

        Raises `InputError` when there is none, or it does not read digits.
        """
        with quiet_stderr():  # TensorFlow greets every import with a page of hints
            from mnist_exp import models

        return models.load(self.file(MODEL), str(self))


def history(file: Path) -> list[dict[str, float]]:
    """The figures of each epoch, by name, from a run's history.csv."""
    with file.open(newline="") as rows:
        return [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(rows)]


def evaluation(file: Path) -> Evaluation:
    """What a run said about the test images, from its predictions.npz."""
    with np.load(file, allow_pickle=False) as stored:
        return Evaluation(stored["labels"], stored["probabilities"])


def tracking(experiment: str = "mnist", uri: str | None = None) -> Tracking:
    """Where to look for runs."""
    return Tracking(enabled=True, uri=uri, experiment=experiment, skip_finished=False)


def find_run(reference: str = BEST, experiment: str = "mnist", uri: str | None = None) -> Run:
    """The run that is meant by `best`, an id, the beginning of one, a name or `models:/NAME@ALIAS`.

    `uri` is the MLflow store; default: MLFLOW_TRACKING_URI, else mlflow.db in this folder.
    Raises `InputError` when there is none, or more than one.
    """
    return find(reference, tracking(experiment, uri))


def find(reference: str, where: Tracking) -> Run:
    """As `find_run`; raises `InputError`.

    `best` is the FINISHED one of the experiment with the highest val/accuracy on the full data.
    """
    with store.opened_to_read(where) as client:
        if reference == BEST:
            return _best(client, where)
        if reference.startswith(MODEL_URI):
            return _registered(client, where, reference)
        found = _by_id(client, where, reference) or _by_name(client, where, reference)
    if len(found) == 1:
        return found[0]
    if not found:
        raise InputError(
            f"--run {reference}: no run of experiment {where.experiment} has this id or name; "
            "browse them with mlflow ui, or take --run best"
        )
    told = "".join(f"\n  {run.run_id[:12]}  {run.status:<8}  {run.title}" for run in found[:10])
    raise InputError(f"--run {reference}: {len(found)} runs match; give the id of one:{told}")


def search(where: Tracking, query: str = "") -> list[Run]:
    """The experiment's FINISHED runs that fit MLflow's filter, the latest first.

    Parents of sweeps are no runs of their own. Raises `InputError` when the filter is not
    understood or nothing fits.
    """
    from mlflow.exceptions import MlflowException

    with store.opened_to_read(where) as client:
        clauses = filter(None, ["attributes.status = 'FINISHED'", query])
        try:
            found = list(_search(client, where, " and ".join(clauses)))
        except MlflowException as error:
            raise InputError(
                f"--where {query}: MLflow does not understand it ({error.message}); write it like "
                "\"params.model.name = 'cnn' and metrics.`test/accuracy` > 0.98\""
            ) from error
    found = [run for run in found if FINGERPRINT in run.tags]
    if not found:
        fitting = f" that fit {query}" if query else ""
        raise InputError(
            f"experiment {where.experiment} has no FINISHED runs{fitting}; "
            "make some with python -m mnist_exp.run, or choose another with --experiment"
        )
    return found


def finished(config: Tracking, fingerprints: Iterable[str]) -> dict[str, Run]:
    """The experiment's latest FINISHED run for each fingerprint that has one."""
    with store.opened(config) as client:
        experiment = client.get_experiment_by_name(config.experiment)
        found: dict[str, Run] = {}
        for fingerprint in set(fingerprints) if experiment else ():
            query = f"attributes.status = 'FINISHED' and tags.{FINGERPRINT} = '{fingerprint}'"
            for run in client.search_runs([experiment.experiment_id], query, max_results=1):
                found[fingerprint] = _run(run, config)
    return found


def _best(client: "MlflowClient", where: Tracking) -> Run:
    for data in FULL_DATA:
        query = f"attributes.status = 'FINISHED' and {data} and metrics.`{RANKED}` >= 0"
        order = [f"metrics.`{RANKED}` DESC", "attributes.start_time"]
        for run in _search(client, where, query, order):
            return run
    raise InputError(
        f"--run best: experiment {where.experiment} has no FINISHED run with a {RANKED}; "
        "make one with python -m mnist_exp.run, or give --run <id> or --experiment"
    )


def _by_id(client: "MlflowClient", where: Tracking, reference: str) -> list[Run]:
    """The runs whose id begins so; a whole id is looked for in every experiment."""
    if not SHORTEST <= len(reference) <= NUMBERED or set(reference) - set("0123456789abcdef"):
        return []
    if len(reference) < NUMBERED:
        return list(_search(client, where, f"attributes.run_id LIKE '{reference}%'"))
    from mlflow.exceptions import MlflowException

    try:
        return [_run(client.get_run(reference), where)]
    except MlflowException:
        return []


def _by_name(client: "MlflowClient", where: Tracking, name: str) -> list[Run]:
    """The runs of that name, the FINISHED ones if any are."""
    quote = '"' if "'" in name else "'"
    if quote in name:
        return []
    found = list(_search(client, where, f"attributes.run_name = {quote}{name}{quote}"))
    return [run for run in found if run.status == "FINISHED"] or found


def _registered(client: "MlflowClient", where: Tracking, uri: str) -> Run:
    """The run of a registered model's version: models:/NAME@ALIAS or models:/NAME/VERSION."""
    from mlflow.exceptions import MlflowException

    name, at, alias = uri.removeprefix(MODEL_URI).partition("@")
    name, slash, version = (name, "", "") if at else name.partition("/")
    try:
        if at:
            found = client.get_model_version_by_alias(name, alias)
        elif slash:
            found = client.get_model_version(name, version)
        else:
            raise InputError(f"--run {uri}: expected models:/NAME@ALIAS or models:/NAME/VERSION")
        if not found.run_id:
            raise InputError(
                f"--run {uri}: this version names no run, it was registered by hand; register one "
                "with python -m mnist_exp promote"
            )
        return _run(client.get_run(found.run_id), where)
    except MlflowException as error:
        raise InputError(
            f"--run {uri}: there is no such registered model ({error.message}); register one with "
            "python -m mnist_exp promote"
        ) from error


def _search(
    client: "MlflowClient", where: Tracking, query: str, order: list[str] | None = None
) -> Iterator[Run]:
    """The experiment's runs, page by page; raises `InputError` when there is no experiment."""
    experiment = client.get_experiment_by_name(where.experiment)
    if experiment is None:
        names = sorted(e.name for e in client.search_experiments() if e.name != "Default")
        raise InputError(
            f"{store.shown(where)} has no experiment {where.experiment}; choose with --experiment "
            f"what it has: {', '.join(names) or 'nothing yet, python -m mnist_exp.run makes one'}"
        )
    token: str | None = None
    while token is None or token:
        page = client.search_runs(
            [experiment.experiment_id], query, order_by=order, page_token=token
        )
        yield from (_run(run, where) for run in page)
        token = page.token or ""


def _run(run: "mlflow.entities.Run", where: Tracking) -> Run:
    return Run(
        run_id=run.info.run_id,
        name=run.info.run_name,
        status=run.info.status,
        metrics=run.data.metrics,
        params=run.data.params,
        tags=run.data.tags,
        tracking=where,
    )


@cache
def _downloads() -> "tempfile.TemporaryDirectory[str]":
    """Removed when the process ends."""
    return tempfile.TemporaryDirectory(prefix="mnist_exp-")
