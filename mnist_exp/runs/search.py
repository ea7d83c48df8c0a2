"""Search the recorded runs: all that match a filter, or a fingerprint, as runs or as a table."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from mnist_exp.config.schema import TrackingConfig
from mnist_exp.core.errors import InputError
from mnist_exp.runs.run import EXTENDED_FROM_TAG, FINGERPRINT_TAG, Run
from mnist_exp.tracking import store
from mnist_exp.tracking.mlflow_backend import PARENT_TAG

if TYPE_CHECKING:
    import mlflow.entities
    from mlflow import MlflowClient
    from pandas import DataFrame

OURS = f"tags.{FINGERPRINT_TAG} LIKE '%'"  # no parents of sweeps
FINISHED = f"attributes.status = 'FINISHED' and {OURS}"
NEWEST = ["attributes.start_time DESC"]
SEARCH_TAG = "search"  # of the parent of a search: its study
SWEEPS = "params.swept LIKE '%'"  # the parents


def store_config(experiment: str = "mnist", uri: str | None = None) -> TrackingConfig:
    """The experiment and store to search."""
    return TrackingConfig(enabled=True, uri=uri, experiment=experiment, skip_finished=False)


def search_runs(
    where: TrackingConfig,
    query: str = "",
    *,
    status: str = "FINISHED",
    sweep: str = "",
    foreign: bool = False,
) -> list[Run]:
    """The experiment's runs of the status, or of any, that match MLflow's filter, the latest first.

    With `sweep`, which is `last` or the beginning of an id, only its jobs; with `foreign` also runs
    that other programs logged. Parents of sweeps are no runs of their own. Raises `InputError` when
    the filter is not understood or nothing fits.
    """
    from mlflow.exceptions import MlflowException

    parts = [f"attributes.status = '{status}'" if status else "", "" if foreign else OURS]
    parts += [_jobs_of(sweep, where) if sweep else "", query]
    with store.connect_to_read(where) as client:
        try:
            every = search(client, where, " and ".join(filter(None, parts)))
            found = [run for run in every if run.is_foreign or FINGERPRINT_TAG in run.tags]
        except MlflowException as error:
            raise InputError(
                f"--where {query}: MLflow does not understand it ({error.message}); write it like "
                "\"params.model.name = 'cnn' and metrics.`test/accuracy` > 0.98\""
            ) from error
    if not found:
        fitting = f" of sweep {sweep}" if sweep else ""
        fitting += f" that fit {query}" if query else ""
        raise InputError(
            f"experiment {where.experiment} has no {status}{' ' * bool(status)}runs{fitting}; "
            "make some with python -m mnist_exp.run, or choose another with --experiment"
        )
    return found


def without_trials(runs: Sequence[Run], where: TrackingConfig) -> list[Run]:
    """The runs that are no trials of searches, which were chosen by their luck."""
    searches = {
        parent.run_id
        for parent in _sweeps(where)
        if SEARCH_TAG in parent.tags or "interval(" in parent.tags.get("overrides", "")  # older
    }
    return [run for run in runs if run.tags.get(PARENT_TAG) not in searches]


def _jobs_of(reference: str, where: TrackingConfig) -> str:
    """MLflow's filter for the jobs of a sweep, which is `last` or the beginning of its id.

    Raises `InputError` when it is none, or more than one.
    """
    sweeps = _sweeps(where)
    last = sweeps[:1] if reference == "last" else []
    found = last or [parent for parent in sweeps if parent.run_id.startswith(reference)]
    if len(found) != 1:
        newest = "".join(f"\n  {parent.run_id[:12]}  {parent.name}" for parent in sweeps[:10])
        raise InputError(
            f"--sweep {reference}: {len(found) or 'no'} sweeps of experiment {where.experiment} "
            f"match; give last or the id of one, of which these are the newest:{newest or ' none'}"
        )
    return f"tags.`{PARENT_TAG}` = '{found[0].run_id}'"


def _sweeps(where: TrackingConfig) -> list[Run]:
    """The parents of the experiment's sweeps, the latest first."""
    with store.connect_to_read(where) as client:
        return list(search(client, where, SWEEPS, NEWEST))


def find_runs(where: str = "", experiment: str = "mnist", uri: str | None = None) -> "DataFrame":
    """A row for each FINISHED run that MLflow's filter `where` fits, the latest first.

    Columns: run_id, name, start_time (UTC), then every param, metric and tag by its name. `uri` is
    the MLflow store, as for `find_run`. Raises `InputError` when the filter is not understood or
    nothing fits.
    """
    from pandas import DataFrame

    rows = []
    for run in search_runs(store_config(experiment, uri), where):
        tags = {key: value for key, value in run.tags.items() if not key.startswith("mlflow.")}
        own = {"run_id": run.run_id, "name": run.name, "start_time": run.start}
        rows.append(own | {**run.params, **run.metrics, **tags} | own)  # own come first, and win
    return DataFrame(rows)


def finished_runs(config: TrackingConfig, fingerprints: Iterable[str]) -> dict[str, Run]:
    """The experiment's latest FINISHED run for each fingerprint that has one.

    Deleted runs are none of them, and neither are extended ones, which began as another run.
    """
    with store.connect(config) as client:
        experiment = client.get_experiment_by_name(config.experiment)
        found: dict[str, Run] = {}
        for fingerprint in set(fingerprints) if experiment else ():
            query = f"attributes.status = 'FINISHED' and tags.{FINGERPRINT_TAG} = '{fingerprint}'"
            for run in client.search_runs([experiment.experiment_id], query):
                if EXTENDED_FROM_TAG not in run.data.tags:
                    found.setdefault(fingerprint, to_run(run, config))
    return found


def search(
    client: "MlflowClient",
    where: TrackingConfig,
    query: str,
    order: list[str] | None = None,
    *,
    deleted: bool = False,
) -> Iterator[Run]:
    """The experiment's runs, or the deleted ones, that fit MLflow's filter, page by page.

    Raises `InputError` when there is no experiment.
    """
    experiment = client.get_experiment_by_name(where.experiment)
    if experiment is None:
        names = sorted(e.name for e in client.search_experiments() if e.name != "Default")
        raise InputError(
            f"{store.display_uri(where)} has no experiment {where.experiment}; choose with "
            "--experiment what it has: "
            f"{', '.join(names) or 'nothing yet, python -m mnist_exp.run makes one'}"
        )
    from mlflow.entities import ViewType

    view = ViewType.DELETED_ONLY if deleted else ViewType.ACTIVE_ONLY
    token: str | None = None
    while token is None or token:
        page = client.search_runs(
            [experiment.experiment_id], query, view, order_by=order, page_token=token
        )
        yield from (to_run(run, where) for run in page)
        token = page.token or ""


def to_run(run: "mlflow.entities.Run", where: TrackingConfig) -> Run:
    """MLflow's run as one of ours."""
    return Run(
        run_id=run.info.run_id,
        name=run.info.run_name,
        status=run.info.status,
        metrics=run.data.metrics,
        params=run.data.params,
        tags=run.data.tags,
        tracking=where,
        start_time=run.info.start_time,
        artifact_uri=run.info.artifact_uri,
    )
