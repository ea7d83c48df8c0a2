"""The story of one experiment: load, build, fit, evaluate, report, track."""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnist_exp import data as datasets
from mnist_exp import folders, provenance, recorded, runs, tracking
from mnist_exp.config import flatten, public, scientific, without_password
from mnist_exp.data import Dataset
from mnist_exp.errors import DivergedError, InputError, PrunedError
from mnist_exp.recorded import Run
from mnist_exp.records import Record
from mnist_exp.schema import Config
from mnist_exp.signals import sigterm_interrupts, uninterrupted
from mnist_exp.terminal import quiet_stderr
from mnist_exp.trials import Trial

if TYPE_CHECKING:
    from mnist_exp.epoch import EpochLoop
    from mnist_exp.training import History

logger = logging.getLogger(__name__)

OUTCOME = "outcome.json"
INTERRUPTED = "interrupted.keras"


@dataclass(frozen=True)
class Outcome:
    """What an experiment came to; as a number its validation accuracy, which sweeps optimise."""

    title: str  # model, data, score and n in one line
    folder: Path
    run_id: str  # empty when tracking is off
    metrics: Mapping[str, float]
    data: str  # the label of the data set the scores are of

    def __float__(self) -> float:
        return self.metrics.get("val/accuracy", float("nan"))

    def save(self) -> None:
        """Leaves the outcome in the run folder: the run is complete, its record closed."""
        values = self.as_dict() | {"folder": ""}  # it may be moved
        whole = self.folder / f"{OUTCOME}.part"
        whole.write_text(json.dumps(values, indent=2) + "\n")
        whole.replace(self.folder / OUTCOME)

    @classmethod
    def load(cls, folder: Path) -> "Outcome":
        """The outcome of the complete run in `folder`; raises `FileNotFoundError` for others."""
        return cls.of_dict(json.loads((folder / OUTCOME).read_text()) | {"folder": folder})

    def as_dict(self) -> dict[str, Any]:
        """The outcome in JSON's types."""
        return vars(self) | {"folder": str(self.folder), "metrics": dict(self.metrics)}

    @classmethod
    def of_dict(cls, values: Mapping[str, Any]) -> "Outcome":
        """The outcome that `as_dict` told of."""
        return cls(**dict(values) | {"folder": Path(values["folder"])})

    @classmethod
    def of_run(cls, run: Run) -> "Outcome":
        """The outcome as the record has it."""
        return cls(run.title, Path(run.folder), run.run_id, run.metrics, run.data)


def run_experiment(
    config: Config,
    *,
    folder: Path | None = None,
    overrides: Sequence[str] = (),
    trial: Trial | None = None,
) -> Outcome:
    """Trains, scores and records one experiment.

    `folder` is the run folder wanted (default: outputs/<date>/<time>); a taken one gets a number.
    `overrides` are recorded as the way this config was asked for; `trial` hears of every epoch.
    Raises `InputError` for unusable data, `DivergedError` when the loss stops being a number and
    `PrunedError` when the trial's study has seen enough.
    """
    overrides = [without_password(override) for override in overrides]
    with sigterm_interrupts() as check:
        data = datasets.load(config.data)
        fingerprint = provenance.fingerprint(scientific(config), data.digest)
        if config.tracking.enabled and config.tracking.skip_finished:
            for run in runs.finished(config.tracking, [fingerprint]).values():
                logger.info(f"run {run.run_id[:8]} has done this already: {run.title}")
                return Outcome.of_run(run)
        code = provenance.commit()
        now = datetime.now().strftime("outputs/%Y-%m-%d/%H-%M-%S")
        folder = folders.claim(folder or Path(now), config)
        (folder / "overrides.txt").write_text("".join(f"{line}\n" for line in overrides))
        if code.is_dirty:
            (folder / "code.diff").write_text(code.diff)
        with (
            folders.given_back_if_refused(folder),
            folders.log_file(folder / "run.log"),
            tracking.record(
                config.tracking,
                name=f"{config.model.name}-seed{config.seed}",
                folder=folder,
                params=flatten(public(config)),
                tags=_tags(data, code, overrides) | {recorded.FINGERPRINT: fingerprint},
                files=folders.FILES,
                late=True,
            ) as record,
        ):
            try:
                outcome = _train_and_score(config, data, folder, record, check, trial)
            except Exception:
                check()  # native code may have turned a SIGTERM into an error of its own
                raise
        outcome.save()
        return outcome


def _train_and_score(
    config: Config,
    data: Dataset,
    folder: Path,
    record: Record,
    check: Callable[[], None],
    trial: Trial | None,
) -> Outcome:
    with quiet_stderr():  # TensorFlow greets every import with a page of hints
        from mnist_exp import evaluation, hardware, models, plots, report, training

        loop = training.prepare(config, data)
    model = loop.model
    chosen = {"auto.precision": loop.precision, "auto.jit": str(loop.jit).lower()}
    record.log_tags(chosen | hardware.describe())
    record.log_data(data)
    logger.info(
        f"{model.name}: {model.count_params():,} parameters in {loop.precision}"
        f"{', compiled by XLA' if loop.jit else ''}; {len(data.train_labels):,} training and "
        f"{len(data.validation_labels):,} validation images of {data.label}"
    )
    history = _fit(loop, config, folder, record, check, trial)
    complete = models.compiled(models.stock(model), loop.optimizer, config.train.loss)
    for name in config.save_as:  # first: what cost most is kept first
        models.save(complete, folder / name)

    scores, images_per_second = models.timed_scores(model, data.test_images)
    result = evaluation.from_scores(data.test_labels, scores, config.model.output)
    metrics = history.metrics() | result.metrics()
    metrics["model/parameters"] = model.count_params()
    metrics["model/bytes"] = sum(weights.nbytes for weights in model.get_weights())
    metrics["model/images_per_second"] = images_per_second

    low, high = result.accuracy_interval
    title = plots.score_title(model.name, data.label, result.accuracy, low, high, result.n)
    summary = models.summary(model)
    epochs, kept = history.epochs, history.best_epoch
    report.write(folder, title, summary, data, epochs, result, metrics, kept)
    last = history.epochs[-1]  # its figures are published, unless better weights were restored
    news = {name: value for name, value in metrics.items() if last.get(name) != value}
    record.log_metrics(news, step=len(history.epochs))
    record.log_tags({recorded.TITLE: title})
    record.log_model(models.stock(model), data.test_images[:2])
    logger.info(title)
    return Outcome(title, folder, record.run_id, metrics, data.label)


def _fit(
    loop: "EpochLoop",
    config: Config,
    folder: Path,
    record: Record,
    check: Callable[[], None],
    trial: Trial | None,
) -> "History":
    """Trains in sight of everyone: the terminal, the folder, MLflow."""
    from mnist_exp import models, training
    from mnist_exp.progress import HISTORY, EpochBar, EpochFile, LiveMetrics, TrialReport

    def check_all() -> None:
        check()
        record.check()

    listeners = [TrialReport(trial)] if trial else []
    live = LiveMetrics(record.log_metrics, check_all)
    record.begin()
    with EpochBar(len(loop.labels)) as bar:
        try:
            return training.fit(loop, config, [EpochFile(folder), live, bar, *listeners])
        except (DivergedError, PrunedError):
            raise
        except BaseException as error:
            refused_at_once = isinstance(error, InputError) and not (folder / HISTORY).exists()
            if not refused_at_once:
                with uninterrupted():
                    models.stock(loop.model).save(folder / INTERRUPTED)
            raise


def _tags(data: Dataset, code: provenance.Commit, overrides: Sequence[str]) -> dict[str, str]:
    return {
        "data.name": data.name,
        recorded.DATA_LABEL: data.label,
        "data.digest": data.digest,
        "data.source": data.source,
        "overrides": " ".join(overrides),
        "git.dirty": str(code.is_dirty).lower() if code.sha else "",
        "mlflow.source.git.commit": code.sha,
        **{f"version.{name}": number for name, number in provenance.versions().items()},
    }
