"""The story of one experiment: load, build, fit, evaluate, report, track."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnist_exp.config.compose import flatten, public, scientific, without_password
from mnist_exp.config.schema import Config
from mnist_exp.core import hardware, provenance
from mnist_exp.core.console import quiet_stderr
from mnist_exp.core.errors import DivergedError, PrunedError
from mnist_exp.core.signals import sigterm_interrupts, uninterrupted
from mnist_exp.data import dataset as datasets
from mnist_exp.data.dataset import Dataset
from mnist_exp.runs import find as runs
from mnist_exp.runs import folder as folders
from mnist_exp.runs import run as recorded
from mnist_exp.runs.result import OUTCOME, Outcome
from mnist_exp.sweeps.pruning import Trial
from mnist_exp.tracking import open_run as tracking
from mnist_exp.tracking import store
from mnist_exp.tracking.tracker import Record
from mnist_exp.training.checkpoints import Checkpoints

if TYPE_CHECKING:
    from mnist_exp.training.epoch import EpochLoop
    from mnist_exp.training.fit import History

logger = logging.getLogger(__name__)

OVERRIDES = "overrides.txt"
INTERRUPTED, KERAS_MODEL = "interrupted.keras", "model.keras"


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
        hardware.refuse_what_cannot_fit(config, len(data.train_labels))
        fingerprint = provenance.fingerprint(scientific(config), data.digest)
        alone = config.tracking.enabled and not tracking.is_below_another()  # else that has asked
        if alone and config.tracking.skip_finished:
            for run in runs.finished(config.tracking, [fingerprint]).values():
                logger.info(f"run {run.run_id[:8]} has done this already: {run.title}")
                return Outcome.of_run(run)
        if alone:
            store.knock(config.tracking)  # before anything is left anywhere
        code = provenance.commit()
        now = datetime.now().strftime("outputs/%Y-%m-%d/%H-%M-%S")
        with folders.that_may_fill_up(folder or Path(now)):
            folder = folders.claim(folder or Path(now), config)
            (folder / OVERRIDES).write_text("".join(f"{line}\n" for line in overrides))
            if code.is_dirty:
                (folder / "code.diff").write_text(code.diff)
        tags = tags_of(data, code, overrides) | {recorded.FINGERPRINT: fingerprint}
        return run_in(folder, config, data, tags, check, trial)


def run_in(
    folder: Path,
    config: Config,
    data: Dataset,
    tags: Mapping[str, str],
    check: Callable[[], None],
    trial: Trial | None,
) -> Outcome:
    """The outcome of the run in `folder`, begun or gone on with there."""
    with (
        folders.that_may_fill_up(folder),
        folders.log_file(folder / "run.log"),
        tracking.record(
            config.tracking,
            name=f"{config.model.name}-seed{config.seed}",
            folder=folder,
            params=flatten(public(config)),
            tags=tags,
            files=folders.FILES,
            late=True,
        ) as record,
    ):
        if (folder / OUTCOME).exists():
            return Outcome.load(folder)
        try:
            outcome = _train_and_score(config, data, folder, record, check, trial)
        except Exception:
            check()  # native code may have turned a SIGTERM into an error of its own
            raise
        outcome.save()
        Checkpoints(folder).remove()
    if outcome.run_id != record.run_id:  # its store could only be used at the end
        outcome = replace(outcome, run_id=record.run_id)
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
        from mnist_exp import plots
        from mnist_exp.evaluation import metrics as evaluation
        from mnist_exp.models import families as models
        from mnist_exp.runs import report
        from mnist_exp.training import fit as training

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
    files = [*config.save_as]
    if all(not Path(name).suffix for name in files):
        files.append(KERAS_MODEL)  # what the record holds
    for name in files:  # first: what cost most is kept first
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
    record.log_model(next(name for name in files if Path(name).suffix), data.test_images[:2])
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
    from mnist_exp.training import fit as training
    from mnist_exp.training.callbacks import (
        EpochBar,
        EpochFile,
        LiveMetrics,
        TrialReport,
        write_history,
    )

    listeners = [TrialReport(trial)] if trial else []
    live = LiveMetrics(record.log_metrics, check)
    checkpoints = Checkpoints(folder, config.train.checkpoint_every)
    start = checkpoints.newest()
    rows = start.epochs if start else []
    if start:
        logger.info(f"going on after epoch {len(rows)} of {config.train.epochs}")
    write_history(folder, rows)
    for epoch, row in enumerate(rows, 1):
        record.log_metrics(row, epoch)  # if it was not told before the run broke off
    record.begin()
    with EpochBar(len(loop.labels)) as bar:
        try:
            callbacks = [EpochFile(folder), live, bar, *listeners]
            return training.fit(loop, config, callbacks, checkpoints, start)
        except (DivergedError, PrunedError):
            checkpoints.remove()  # to go on would come to the same
            raise
        except BaseException:
            with uninterrupted():
                _keep_weights(loop.model, folder / INTERRUPTED)
            raise
        finally:
            checkpoints.close()


def _keep_weights(model: Any, path: Path) -> None:
    """Saves the weights so far; the error on its way is worth more than one of this."""
    from mnist_exp.models import families as models

    try:
        models.save(models.stock(model), path)
    except Exception as error:
        logger.warning(f"{path}: the weights so far could not be saved ({error})")


def tags_of(data: Dataset, code: provenance.Commit, overrides: Sequence[str]) -> dict[str, str]:
    """What the record of a run is to carry beside its config."""
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
