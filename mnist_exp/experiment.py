"""The story of one experiment: load, build, fit, evaluate, report, track."""

import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING

from mnist_exp import data as datasets
from mnist_exp import provenance, tracking
from mnist_exp.config import Config, flatten, public, to_yaml, without_password
from mnist_exp.data import Dataset
from mnist_exp.errors import DivergedError, InputError
from mnist_exp.records import Record
from mnist_exp.signals import sigterm_interrupts, uninterrupted

if TYPE_CHECKING:
    import keras

    from mnist_exp.training import History

logger = logging.getLogger(__name__)

INTERRUPTED = "interrupted.keras"
FILES = (  # of a run folder, published; the model is logged as a model
    "config.yaml",
    "overrides.txt",
    "run.log",
    "history.csv",
    "metrics.json",
    "summary.txt",
    "predictions.npz",
    "code.diff",
    "tables",
    "figures",
)


@dataclass(frozen=True)
class Outcome:
    """What an experiment came to; as a number its validation accuracy, which sweeps optimise."""

    title: str  # model, data, score and n in one line
    folder: Path
    run_id: str  # empty when tracking is off
    metrics: Mapping[str, float]

    def __float__(self) -> float:
        return self.metrics.get("val/accuracy", float("nan"))


def run_experiment(
    config: Config, *, folder: Path | None = None, overrides: Sequence[str] = ()
) -> Outcome:
    """Trains, scores and records one experiment.

    `folder` is the run folder wanted (default: outputs/<date>/<time>); a taken one gets a number.
    `overrides` are recorded as the way this config was asked for. Raises `InputError` for
    unusable data and `DivergedError` when the loss stops being a number.
    """
    overrides = [without_password(override) for override in overrides]
    with sigterm_interrupts() as check:
        data = datasets.load(config.data)
        code = provenance.commit()
        now = datetime.now().strftime("outputs/%Y-%m-%d/%H-%M-%S")
        folder = _claim(folder or Path(now), config)
        (folder / "overrides.txt").write_text("".join(f"{line}\n" for line in overrides))
        if code.is_dirty:
            (folder / "code.diff").write_text(code.diff)
        with (
            _given_back_if_refused(folder),
            _log_file(folder / "run.log"),
            tracking.record(
                config.tracking,
                name=f"{config.model.name}-seed{config.seed}",
                folder=folder,
                params=flatten(public(config)),
                tags=_tags(data, code, overrides),
                files=FILES,
            ) as record,
        ):
            try:
                return _train_and_score(config, data, folder, record, check)
            except Exception:
                check()  # native code may have turned a SIGTERM into an error of its own
                raise


def _train_and_score(
    config: Config,
    data: Dataset,
    folder: Path,
    record: Record,
    check: Callable[[], None],
) -> Outcome:
    with _quiet_stderr():  # TensorFlow greets every import with a page of hints
        import keras

        from mnist_exp import evaluation, hardware, models, optimizers, plots, report

        convolutional = models.is_convolutional(config.model)
        precision = hardware.choose_precision(config.train.precision, convolutional=convolutional)
        jit = hardware.choose_jit(config.train.jit, convolutional=convolutional)
        machine = hardware.describe()
    record.log_tags({"auto.precision": precision, "auto.jit": str(jit).lower(), **machine})
    record.log_data(data)

    keras.utils.set_random_seed(config.seed)
    model = models.build(config.model, precision=precision)
    optimizer = optimizers.build(config.optimizer)
    logger.info(
        f"{model.name}: {model.count_params():,} parameters in {precision}"
        f"{', compiled by XLA' if jit else ''}; {len(data.train_labels):,} training and "
        f"{len(data.validation_labels):,} validation images of {data.label}"
    )
    history = _fit(model, optimizer, config, data, folder, record, check, jit=jit)
    complete = models.compiled(models.stock(model), optimizer, config.train.loss)
    report.save_models(folder, complete, config.save_as)  # first: what cost most is kept first

    scores, images_per_second = models.timed_scores(model, data.test_images)
    result = evaluation.from_scores(data.test_labels, scores, config.model.output)
    metrics = history.metrics() | result.metrics()
    metrics["model/parameters"] = model.count_params()
    metrics["model/bytes"] = sum(weights.nbytes for weights in model.get_weights())
    metrics["model/images_per_second"] = images_per_second

    low, high = result.accuracy_interval
    title = plots.score_title(model.name, data.label, result.accuracy, low, high, result.n)
    report.write(folder, title, model, data, history, result, metrics)
    last = history.epochs[-1]  # its figures are published, unless better weights were restored
    news = {name: value for name, value in metrics.items() if last.get(name) != value}
    record.log_metrics(news, step=len(history.epochs))
    record.log_model(models.stock(model), data.test_images[:2])
    logger.info(title)
    return Outcome(title, folder, record.run_id, metrics)


def _fit(
    model: "keras.Model",
    optimizer: "keras.optimizers.Optimizer",
    config: Config,
    data: Dataset,
    folder: Path,
    record: Record,
    check: Callable[[], None],
    *,
    jit: bool,
) -> "History":
    """Trains in sight of everyone: the terminal, the folder, MLflow."""
    import keras

    from mnist_exp import models, report, training
    from mnist_exp.progress import EpochBar

    publish = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: record.log_metrics(
            {name: value for name, value in logs.items() if "/" in name}, epoch + 1
        ),
        on_train_batch_end=lambda batch, logs: check(),
    )
    with EpochBar(len(data.train_labels)) as bar:
        try:
            return training.fit(
                model,
                data,
                config.train,
                optimizer=optimizer,
                schedule=config.schedule,
                jit=jit,
                seed=config.seed,
                callbacks=[report.EpochFile(folder), publish, bar],
            )
        except DivergedError:
            raise
        except BaseException:
            with uninterrupted():
                models.stock(model).save(folder / INTERRUPTED)
            raise


def _tags(data: Dataset, code: provenance.Commit, overrides: Sequence[str]) -> dict[str, str]:
    return {
        "data.name": data.name,
        "data.digest": data.digest,
        "data.source": data.source,
        "overrides": " ".join(overrides),
        "git.dirty": str(code.is_dirty).lower() if code.sha else "",
        "mlflow.source.git.commit": code.sha,
        **{f"version.{name}": number for name, number in provenance.versions().items()},
    }


def _claim(folder: Path, config: Config) -> Path:
    """A folder of our own that holds the config; numbered when another run has the name."""
    folder = folder.absolute()
    if folder == Path.cwd() and (folder / "config.yaml").exists():
        raise InputError(f"{folder}: a run is in this folder; give hydra.run.dir= another one")
    for name in chain([folder.name], (f"{folder.name}-{number}" for number in count(2))):
        claimed = folder.with_name(name)
        claimed.mkdir(parents=True, exist_ok=True)  # Hydra may have made it already
        try:
            with (claimed / "config.yaml").open("x", encoding="utf-8") as file:
                file.write(to_yaml(config))
        except FileExistsError:
            continue
        return claimed
    raise AssertionError("count never ends")


@contextmanager
def _given_back_if_refused(folder: Path) -> Iterator[None]:
    """Within: a run that is refused, since it cannot be tracked, leaves nothing in its folder."""
    try:
        yield
    except InputError:
        for name in FILES:
            if (folder / name).is_file():
                (folder / name).unlink()
        with suppress(OSError):  # something else is in it
            folder.rmdir()
        raise


@contextmanager
def _log_file(path: Path) -> Iterator[None]:
    """Within: what the package logs is also written to `path`."""
    package = logging.getLogger("mnist_exp")
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    before = package.level
    package.addHandler(handler)
    package.setLevel(logging.INFO)
    try:
        yield
    finally:
        package.setLevel(before)
        package.removeHandler(handler)
        handler.close()


@contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Within: what native code writes to stderr is held back, and shown only after an error."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    with tempfile.TemporaryFile() as held:
        original = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            yield
        except Exception:
            held.seek(0)
            os.write(original, held.read())
            raise
        finally:
            os.dup2(original, 2)
            os.close(original)
