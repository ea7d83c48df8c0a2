"""The only reader of MLflow: finds runs and gives back what they recorded."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mnist_exp import store
from mnist_exp.records import FOLDER
from mnist_exp.schema import Tracking

DATA_LABEL = "data.label"
FINGERPRINT, TITLE = "fingerprint", "mlflow.note.content"


@dataclass(frozen=True)
class Run:
    """A recorded run."""

    run_id: str
    title: str
    folder: str
    metrics: Mapping[str, float]
    data: str  # the data set's label


def finished(config: Tracking, fingerprints: Iterable[str]) -> dict[str, Run]:
    """The experiment's latest FINISHED run for each fingerprint that has one."""
    with store.opened(config) as client:
        experiment = client.get_experiment_by_name(config.experiment)
        found: dict[str, Run] = {}
        for fingerprint in set(fingerprints) if experiment else ():
            query = f"attributes.status = 'FINISHED' and tags.{FINGERPRINT} = '{fingerprint}'"
            for run in client.search_runs([experiment.experiment_id], query, max_results=1):
                tags = run.data.tags
                found[fingerprint] = Run(
                    run_id=run.info.run_id,
                    title=tags.get(TITLE, ""),
                    folder=tags[FOLDER],
                    metrics=run.data.metrics,
                    data=tags[DATA_LABEL],
                )
    return found
