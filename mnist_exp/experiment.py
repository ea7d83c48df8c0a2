"""One run from start to end: load, build, fit, evaluate, report, track."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnist_exp.config.compose import fingerprint_values, params
from mnist_exp.config.given import with_given
from mnist_exp.config.parts import check_parts, digests
from mnist_exp.config.schema import Config
from mnist_exp.core import hardware, layout, provenance
from mnist_exp.core.environment import caller_settings, keras_defaults, refuse_fork
from mnist_exp.core.errors import DivergedError, PrunedError, UnsupportedError
from mnist_exp.core.files import log_file, storage_errors
from mnist_exp.core.output import quiet_stderr
from mnist_exp.core.signals import defer_interrupts, sigterm_interrupts
from mnist_exp.data.dataset import Dataset, load_dataset
from mnist_exp.runs.folder import RunFolder, RunResult
from mnist_exp.runs.names import model_label, run_name, run_note
from mnist_exp.runs.run import EXTENDED_FROM_TAG, TITLE_TAG, run_tags
from mnist_exp.runs.search import finished_runs
from mnist_exp.runs.warm_start import pinned, take_start, try_start
from mnist_exp.tracking import store
from mnist_exp.tracking.open_run import is_sweep_job, sampled_system_metrics, track_run
from mnist_exp.tracking.tracker import RunTracker
from mnist_exp.training.auto import check_memory, class_weights, resolve_auto, without_auto
from mnist_exp.training.checkpoints import Checkpoints

if TYPE_CHECKING:
    from keras.callbacks import Callback

    from mnist_exp.training.epoch import EpochLoop
    from mnist_exp.training.fit import History
    from mnist_exp.training.step_curve import StepCurve

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunContext:
    """What the steps of a run share beside its config and its data."""

    folder: RunFolder
    tracker: RunTracker
    check_interrupt: Callable[[], None]
    callbacks: Sequence["Callback"]


def run_experiment(
    config: Config,
    *,
    folder: Path | None = None,
    overrides: Sequence[str] = (),
    callbacks: Sequence["Callback"] = (),
    model: Any = None,
    optimizer: Any = None,
    data: Any = None,
) -> RunResult:
    """Train, score and record one experiment.

    `model`, `optimizer` and `data` are used in place of the config's: Keras objects, arrays (images
    and labels; those of the test part, else a fifth of each class), or functions as parts are. A
    Keras model maps (n, 28, 28, 1) images in [0, 1] to scores, and goes on from its weights.
    `folder` is the run folder wanted (default: outputs/<date>/<time>); a taken one gets a number.
    `overrides` are recorded as the way this config was asked for; `callbacks` are Keras' own, get
    the final figures in `on_test_end`, and may raise `PrunedError` to end the run. Raises
    `InputError` for unusable data and `DivergedError` when the loss stops being a number.
    """
    refuse_fork()
    config = with_given(config, model=model, optimizer=optimizer, data=data)
    check_parts(config)
    config = pinned(config)
    with sigterm_interrupts() as check_interrupt, caller_settings():
        dataset = load_dataset(config.data)
        check_memory(config.model, config.train.batch_size, len(dataset.train_labels))
        _try_parts(config, dataset)
        try_start(config, len(dataset.classes))
        # Refused now, if ever.
        class_weights(config.train.class_weight, dataset.train_labels, len(dataset.classes))
        fingerprint = provenance.fingerprint(fingerprint_values(config), dataset.digest)
        if config.tracking.enabled and not is_sweep_job():  # the sweep has done this already
            if config.tracking.skip_finished:
                for run in finished_runs(config.tracking, [fingerprint]).values():
                    logger.info(f"run {run.run_id[:8]} has done this already: {run.title}")
                    return run.result()
            store.check_reachable(config.tracking)  # before anything is left anywhere
        code = provenance.commit()
        path = folder or Path(datetime.now().strftime("outputs/%Y-%m-%d/%H-%M-%S"))
        with storage_errors(path):
            run_folder = RunFolder.claim(path, config, overrides, code.diff)
        tags = run_tags(dataset, code, run_folder.overrides(), fingerprint)
        return run_in(run_folder, config, dataset, tags, check_interrupt, callbacks)


def _try_parts(config: Config, data: Dataset) -> None:
    """Raise `InputError` for a Python part that cannot be used, before a run is begun."""
    if digests(config):
        with quiet_stderr(), keras_defaults():
            from mnist_exp.training.trial import try_parts

            parts = config.model, config.optimizer, config.schedule, config.augment
            try_parts(*parts, config.train.loss, data)


def run_in(
    folder: RunFolder,
    config: Config,
    data: Dataset,
    tags: Mapping[str, str],
    check_interrupt: Callable[[], None],
    callbacks: Sequence["Callback"] = (),
) -> RunResult:
    """The result of the run in `folder`, begun, resumed or extended there."""
    with (
        storage_errors(folder.path),
        log_file(folder.path / layout.LOG),
        track_run(
            config.tracking,
            name=run_name(config, folder.overrides(), EXTENDED_FROM_TAG in tags),
            folder=folder.path,
            params=params(config),
            tags={**config.tags, **tags},  # what the program goes by wins
            files=layout.RUN_ARTIFACTS,
            deferred=True,
        ) as tracker,
    ):
        if folder.has_result():
            return folder.result()
        try:
            context = RunContext(folder, tracker, check_interrupt, callbacks)
            with keras_defaults():
                result = _train_and_score(config, data, context)
        except Exception:
            check_interrupt()  # native code may have turned a SIGTERM into an error of its own
            raise
        folder.write_result(result)
        checkpoints = Checkpoints(folder.path)
        checkpoints.remove() if config.bound_to_epochs else checkpoints.keep_newest()
    if tracker.page:
        logger.info(f"in MLflow: {tracker.page}")
    if result.run_id != tracker.run_id:  # its store could only be used at the end
        folder.write_result(result := replace(result, run_id=tracker.run_id))
    return result


def _train_and_score(config: Config, data: Dataset, context: RunContext) -> RunResult:
    with quiet_stderr():  # TensorFlow greets every import with a page of hints
        from mnist_exp import plots
        from mnist_exp.models.io import summary
        from mnist_exp.runs.figures import Report, write_figures
        from mnist_exp.runs.report import own_metrics, save_models, score, write_report
        from mnist_exp.training.callbacks import build
        from mnist_exp.training.fit import prepare
        from mnist_exp.training.step_curve import StepCurve

        train = resolve_auto(config.train, config.model)
        loop = prepare(config.model, config.optimizer, train, data, seed=config.seed)
    model, folder, tracker = loop.model, context.folder, context.tracker
    chosen = {"auto.precision": loop.precision, "auto.jit": str(loop.jit).lower()}
    tracker.log_tags(chosen | hardware.describe())
    tracker.log_dataset(data.name, data.digest, data.source, data.counts())
    logger.info(
        f"{model.name}: {model.count_params():,} parameters in {loop.precision}"
        f"{', compiled by XLA' if loop.jit else ''}; {len(data.train_labels):,} training and "
        f"{len(data.validation_labels):,} validation images of {data.label}"
    )
    curve, files = StepCurve(loop.steps, config.train.epochs), folder.path / layout.TENSORBOARD
    own = [build(callback, files, curve) for callback in config.callbacks.values()]
    callbacks = [*context.callbacks, *own]
    try:
        history = _fit(loop, config, replace(context, callbacks=callbacks), curve)
    except UnsupportedError as error:
        if "auto" not in (config.train.precision, config.train.jit):
            raise
        logger.warning(f"{str(error).rpartition(';')[0]}; trained in float32 without XLA instead")
        plain = config.model_copy(update={"train": without_auto(config.train)})
        return _train_and_score(plain, data, context)
    model_file = save_models(loop, config, folder)  # first: what cost most is kept first

    scores = score(model, data, config.model.output)
    test, metrics = scores.test, history.metrics() | scores.metrics
    metrics |= own_metrics(config.metrics, test)
    if scores.calibration:
        folder.write_calibration(scores.calibration)
    if scores.validation:
        folder.write_validation(data.validation_indices, scores.validation)

    overrides, epochs = folder.overrides(), history.epochs
    name = model_label(config, overrides)
    title = plots.score_title(name, data.label, test.accuracy, *test.accuracy_interval, test.n)
    kept, points = history.best_epoch, folder.curve()
    report = Report(title, config, data, epochs, points, test, kept, scores.temperature)
    write_report(folder, test, data.classes, summary(model), metrics)
    write_figures(report, tracker)
    tracker.log_model(model_file, data.test_images[:2])  # first: MLflow links metrics to it
    last = epochs[-1]
    # MLflow draws a metric as a bar when it has step 0 alone, else as a curve: of one dot.
    final = {k: v for k, v in metrics.items() if k not in last}
    tracker.log_metrics(final, step=0)
    if restored := {k: v for k, v in metrics.items() if k in last and last[k] != v}:
        tracker.log_metrics(restored, step=len(epochs))
    note = run_note(title, config.notes, overrides, tracker.run_id, tracker.tags)
    tracker.log_tags({TITLE_TAG: note})
    for callback in callbacks:
        callback.on_test_end(final)
    logger.info(title)
    return RunResult(title, folder.path, tracker.run_id, metrics, data.label)


def _fit(loop: "EpochLoop", config: Config, context: RunContext, curve: "StepCurve") -> "History":
    """Train; each epoch is shown in the terminal and recorded in the folder and in MLflow."""
    from keras.callbacks import LambdaCallback

    from mnist_exp.runs.report import epoch_recorder, save_interrupted
    from mnist_exp.training.callbacks import EpochBar
    from mnist_exp.training.fit import fit

    folder, tracker = context.folder, context.tracker
    checkpoints = Checkpoints(folder.path, config.train.checkpoint_every)
    start = checkpoints.newest()
    rows = start.epochs if start else []
    if start:
        logger.info(f"going on after epoch {len(rows)} of {config.train.epochs}")
        curve.restore(start.arrays.get("curve", []))
    elif taken := take_start(loop.model, config):
        logger.info(taken)
    interruptible = LambdaCallback(on_train_batch_end=lambda batch, logs: context.check_interrupt())
    recorder = epoch_recorder(folder, tracker, curve, rows)
    tracker.start()
    progress, parts = EpochBar(len(loop.labels)), (config.train, config.schedule, config.augment)
    with progress.bar, sampled_system_metrics(tracker):
        try:
            return fit(
                loop,
                *parts,
                seed=config.seed,
                callbacks=[interruptible, recorder, progress, *context.callbacks],
                curve=curve,
                checkpoints=checkpoints,
                start=start,
            )
        except UnsupportedError:
            raise
        except (DivergedError, PrunedError):
            checkpoints.remove()  # to resume would come to the same
            raise
        except BaseException:
            with defer_interrupts():
                save_interrupted(loop.model, folder)
            raise
        finally:
            checkpoints.close()
