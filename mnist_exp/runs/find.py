"""Find one recorded run: by id, name, alias or rank."""

import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import reduce
from itertools import chain, islice
from typing import TYPE_CHECKING

import numpy as np

from mnist_exp.config.schema import TrackingConfig
from mnist_exp.core.errors import InputError
from mnist_exp.runs.run import OBJECTIVE, Run
from mnist_exp.runs.search import FINISHED, NEWEST, search, store_config, to_run
from mnist_exp.tracking import store
from mnist_exp.tracking.places import FOLDER_TAG

if TYPE_CHECKING:
    from mlflow import MlflowClient

logger = logging.getLogger(__name__)

BEST, LAST, MODEL_URI = "best", "last", "models:/"
ID, ID_LENGTH = re.compile("[0-9a-f]{4,32}"), 32  # of a run
MAX_EXPERIMENTS = 10_000  # of a store, in which an id is looked for
MAX_LISTED = 10  # candidates in a refusal
DATA_FILTERS = (  # full data first, then limited, then bundled: preferred by `best` in this order
    "tags.data.name = 'mnist' and params.`data.limit` = 'null'",
    "tags.data.name = 'mnist'",
    "tags.data.name = 'mnist5k'",
)
OTHER_DATA = "tags.data.name != 'mnist' and tags.data.name != 'mnist5k'"


def find_run(reference: str = BEST, experiment: str = "mnist", uri: str | None = None) -> Run:
    """The run named by `best`, `last`, an id, a prefix of one, a name or `models:/NAME@ALIAS`.

    `uri` is the MLflow store; default: MLFLOW_TRACKING_URI, else mlflow.db in this folder.
    Raises `InputError` when there is none, or more than one.
    """
    return resolve_run(reference, store_config(experiment, uri))


def resolve_run(reference: str, where: TrackingConfig) -> Run:
    """As `find_run`; raises `InputError`.

    `best` is the FINISHED run with the highest val/accuracy on the full data, or, of runs with
    different validation images, the highest accuracy on those that they share; without any the
    newest run on the full data; then those on limited, then those on bundled data, then those on
    the other data that the newest of them has. `last` is the newest FINISHED run.
    """
    with store.connect_to_read(where) as client:
        if reference == BEST:
            return _best(client, where)
        if reference.startswith(MODEL_URI):
            return _registered(client, where, reference)
        if reference == LAST:
            found = list(islice(search(client, where, FINISHED, NEWEST), 1))
        else:
            found = _by_id(client, where, reference) or _by_name(client, where, reference)
        if len(found) == 1:
            return found[0]
        if not found:
            raise InputError(
                f"--run {reference}: no run of experiment {where.experiment} has this id or name; "
                f"{_advice(client, where)}"
            )
        raise InputError(
            f"--run {reference}: {len(found)} runs match; give the id of one:{_listed(found)}"
        )


def find_resumable(reference: str, where: TrackingConfig) -> Run:
    """The run of this id or unique prefix, in any experiment or the bin; raises `InputError`."""
    with store.connect_to_read(where) as client:
        found = _by_id(client, where, reference, everywhere=True)
    if len(found) != 1:
        came = f"the beginning of {len(found)} ids" if found else "neither"
        raise InputError(
            f"resume={reference}: expected the folder of a run or the id of one in "
            f"{store.display_uri(where)}, this is {came}"
        )
    if FOLDER_TAG not in found[0].tags:
        raise InputError(f"resume={reference}: this run was not made by python -m mnist_exp.run")
    return found[0]


def _best(client: "MlflowClient", where: TrackingConfig) -> Run:
    by_accuracy = [f"metrics.`{OBJECTIVE}` DESC", "attributes.start_time"]
    for data in chain(DATA_FILTERS, _other_data(client, where)):
        query = f"{FINISHED} and {data}"
        validated = f"{query} and metrics.`{OBJECTIVE}` >= 0"
        best = _most_accurate(search(client, where, validated, by_accuracy))
        since = best.start_time if best else 0
        newer = search(client, where, f"{query} and attributes.start_time > {since}", NEWEST)
        unvalidated = next((run for run in newer if OBJECTIVE not in run.metrics), None)
        if best and unvalidated:
            logger.warning(
                f"best is {best}, {best.title}; passed over, since it was trained without "
                f"validation images: the newer {unvalidated}, {unvalidated.title}"
            )
        elif unvalidated:
            logger.warning(
                f"best is {unvalidated}, the newest: no run on {unvalidated.data} has a "
                f"{OBJECTIVE} to be chosen by; data.validation_split=0.1 gives it one"
            )
        if chosen := best or unvalidated:
            return chosen
    raise InputError(f"--run best: {_advice(client, where)}")


def _other_data(client: "MlflowClient", where: TrackingConfig) -> Iterator[str]:
    """Filters for the data set of the newest run on other data than MNIST, unlimited first."""
    for run in islice(search(client, where, f"{FINISHED} and {OTHER_DATA}", NEWEST), 1):
        same = f"tags.data.digest = '{run.tags['data.digest']}'"
        yield from (f"{same} and params.`data.limit` = 'null'", same)


def _most_accurate(ranked: Iterable[Run]) -> Run | None:
    """The best of the runs, the highest val/accuracy first; None without any.

    The best of each split are compared on the images that all of them left out, where there are
    any: val/accuracy on other images is another thing.
    """
    best_of: dict[tuple[str, ...], Run] = {}
    for run in ranked:
        best_of.setdefault(split(run), run)
    best = [*best_of.values()]
    accuracies, _ = shared_accuracies(best) if len(best) > 1 else ([], 0)
    return best[int(np.argmax(accuracies))] if accuracies else next(iter(best), None)


def _advice(client: "MlflowClient", where: TrackingConfig) -> str:
    """Which runs there are to choose from, or how to make one."""
    newest = list(islice(search(client, where, FINISHED, NEWEST), MAX_LISTED))
    if newest:
        return f"give best, last or the id of one, of which these are the newest:{_listed(newest)}"
    return (
        f"experiment {where.experiment} has no FINISHED run; make one with python -m "
        "mnist_exp.run, or give another --experiment"
    )


def _listed(runs: Sequence[Run]) -> str:
    """A line for each of the first runs."""
    return "".join(
        f"\n  {run.run_id[:12]}  {run.status:<8}  {run.name}  {run.title}"
        for run in runs[:MAX_LISTED]
    )


def _by_id(
    client: "MlflowClient", where: TrackingConfig, reference: str, *, everywhere: bool = False
) -> list[Run]:
    """The runs whose id has this prefix; a whole id is one of any experiment, or of the bin."""
    if not ID.fullmatch(reference):
        return []
    query = f"attributes.run_id LIKE '{reference}%'"
    if len(reference) < ID_LENGTH and not everywhere:
        return list(search(client, where, query))
    from mlflow.entities import ViewType

    experiments = client.search_experiments(ViewType.ALL, MAX_EXPERIMENTS)
    every = [experiment.experiment_id for experiment in experiments]
    return [to_run(run, where) for run in client.search_runs(every, query, ViewType.ALL)]


def _by_name(client: "MlflowClient", where: TrackingConfig, name: str) -> list[Run]:
    """The runs of that name, the FINISHED ones if any are."""
    quote = '"' if "'" in name else "'"
    if quote in name:
        return []
    found = list(search(client, where, f"attributes.run_name = {quote}{name}{quote}"))
    return [run for run in found if run.status == "FINISHED"] or found


def _registered(client: "MlflowClient", where: TrackingConfig, uri: str) -> Run:
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
        return to_run(client.get_run(found.run_id), where)
    except MlflowException as error:
        raise InputError(
            f"--run {uri}: there is no such registered model ({error.message}); "
            f"{_registered_names(client)}"
        ) from error


def _registered_names(client: "MlflowClient") -> str:
    """Which registered models there are to choose from, or how to make one."""
    names = [
        f"{MODEL_URI}{model.name}@{alias}"
        for model in client.search_registered_models()
        for alias in model.aliases
    ]
    if names:
        return f"there are {', '.join(names[:MAX_LISTED])}"
    return "register one with python -m mnist_exp promote"


SPLIT = ("data.limit", "data.validation_split", "data.validation")  # what validation depends on


def split(run: Run) -> tuple[str, ...]:
    """What the run's validation images depend on, beside its data set."""
    return tuple(run.params.get(param, "null") for param in SPLIT)


def shared_accuracies(runs: Sequence[Run]) -> tuple[list[float], int]:
    """The accuracy of each run on the validation images that all have, and the number of these.

    The runs are of one data set. Without an image, or a run's predictions, there is no accuracy.
    """
    try:
        validations = [run.validation() for run in runs]
    except InputError:
        return [], 0
    shared = reduce(np.intersect1d, [indices for indices, _ in validations])
    if not len(shared):
        return [], 0
    correct = [evaluation.correct[np.isin(indices, shared)] for indices, evaluation in validations]
    return [float(each.mean()) for each in correct], len(shared)
