"""The figures of a run: drawn at once, or in a sweep while its next job trains."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from mnist_exp import plots
from mnist_exp.config.schema import Config
from mnist_exp.core.console import only_warned_of
from mnist_exp.core.files import run_lock
from mnist_exp.core.layout import FIGURES
from mnist_exp.core.output import quiet_stderr
from mnist_exp.core.signals import defer_interrupts, end_with, ignored_by_children
from mnist_exp.data.dataset import Dataset
from mnist_exp.evaluation.metrics import Evaluation
from mnist_exp.tracking.tracker import RunTracker


@dataclass(frozen=True, eq=False)
class Report:
    """What the figures of a run show."""

    title: str
    config: Config
    data: Dataset
    history: Sequence[Mapping[str, float]]  # a row per epoch
    curve: Sequence[Mapping[str, float]]  # points within epochs
    evaluation: Evaluation
    kept: int | None = None  # the epoch whose weights early stopping kept
    temperature: float = 1.0  # of the calibration


def write_figures(report: Report, tracker: RunTracker) -> None:
    """Draw the figures into the run folder; within `drawn_meanwhile` another process does."""
    if not report.config.report.formats:
        return
    draw, background = drawing(report, tracker.folder / FIGURES), _background.get()
    with _only_warned_of(tracker):
        background.draw(draw, tracker) if background else draw()


def drawing(report: Report, folder: Path) -> Callable[[], None]:
    """A function that writes every figure of the run into the folder, also in another process."""
    config, data, evaluation = report.config, report.data, report.evaluation
    title, answers = report.title, (data.test_images, evaluation.labels, evaluation.probabilities)
    train = f"{data.label}: {len(data.train_labels):,} training images"
    seen, names = data.train_images, data.classes
    if config.augment.name != "none":
        train += ", as the first epoch saw them"
        with quiet_stderr():  # TensorFlow greets every import with a page of hints
            from mnist_exp.training.augmentation import augment

            seen = np.asarray(augment(config.augment, [config.seed, 0, 1], seen))
    calibrated = None
    if report.temperature != 1:
        after = evaluation.at_temperature(report.temperature)
        calibrated = after.reliability, after.ece
    history = report.history, title, report.kept, report.curve
    bins = evaluation.reliability, evaluation.ece, title, config.train.label_smoothing, calibrated
    sheet = partial(plots.digit_sheet, classes=names)
    calls = {
        "learning_curves": (plots.learning_curves, *history),
        "confusion_matrix": (plots.confusion_matrix, evaluation.confusion, title, names),
        "sample_predictions": (plots.sample_predictions, *answers, title, names),
        "worst_mistakes": (plots.worst_mistakes, *answers, title, names),
        "reliability": (plots.reliability, *bins, names),
        "training_digits": (sheet, seen, data.train_labels, train),
    }
    return partial(plots.draw, calls, folder, config.report.formats, config.report.dpi)


@contextmanager
def drawn_meanwhile() -> Iterator[None]:
    """Context manager: another process draws the figures of a run while the next one trains.

    They are published before those of the next run, or at the end.
    """
    spawned = get_context("spawn")  # a fork would inherit TensorFlow's threads
    with ProcessPoolExecutor(1, spawned, _begin, (os.getpid(),)) as pool:
        with ignored_by_children():
            pool.submit(os.getpid)  # starts the process: it imports while the first run does
        background = _Background(pool)
        token = _background.set(background)
        try:
            yield
        finally:
            _background.reset(token)
            background.finish()


class _Background:
    """The figures of one run, drawn by the process of a pool."""

    def __init__(self, pool: ProcessPoolExecutor) -> None:
        self.pool = pool
        self.pending: tuple[Future[None], Callable[[], None], RunTracker] | None = None

    def draw(self, draw: Callable[[], None], tracker: RunTracker) -> None:
        """Have them drawn, once those of the run before are there."""
        self.finish()
        try:
            self.pending = self.pool.submit(draw), draw, tracker
        except BrokenProcessPool:  # its process was killed
            draw()

    @defer_interrupts()
    def finish(self) -> None:
        """Publish the figures that were asked for last."""
        if self.pending is None:
            return
        (future, draw, tracker), self.pending = self.pending, None
        with _only_warned_of(tracker):
            try:
                try:
                    future.result()
                except BrokenProcessPool:
                    draw()
                with run_lock(tracker.folder):
                    is_published = tracker.journal.is_published
                    tracker.log_files([FIGURES])
                    if is_published:  # else it was told that `sync` publishes what is missing
                        tracker.publish()
            except OSError as error:  # of a run that has ended, and is whole without them
                raise RuntimeError(error) from error


_background: ContextVar[_Background | None] = ContextVar("background", default=None)


def _begin(parent: int) -> None:
    """Start the process that draws; with this module it imports what it needs."""
    end_with(parent)


def _only_warned_of(tracker: RunTracker) -> AbstractContextManager[None]:
    return only_warned_of(
        f"{tracker.folder}: figures are missing, which python -m mnist_exp visualize draws from "
        "the record"
    )
