"""Interrupts as exceptions, and never in the middle of a write."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from types import FrameType

SWEEP = "MNIST_EXP_SWEEP"  # environment variable: the process id of a job's sweep


class Terminated(KeyboardInterrupt):
    """The process received SIGTERM, or its terminal was closed."""


@contextmanager
def ends_with_sweep() -> Iterator[None]:
    """Context manager: a worker process ends when its sweep has died.

    Otherwise it would finish its training and take the next job from its queue.
    """
    sweep = int(os.environ.get(SWEEP, "0"))
    if os.getppid() != sweep:  # the sweep itself, or a worker on a cluster
        yield
        return
    end_with(sweep)
    try:
        yield
    finally:
        if os.getppid() != sweep:
            os._exit(143)


@cache
def end_with(parent: int) -> None:
    """From now on this process ends, by SIGTERM, when `parent`, which started it, has died."""

    def wait() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


@contextmanager
def sigterm_interrupts() -> Iterator[Callable[[], None]]:
    """Context manager: SIGTERM and SIGHUP raise `Terminated` in the main thread.

    Yields a function to call regularly: it raises the interrupt again if a library swallowed it.
    """
    received: list[type[KeyboardInterrupt]] = []

    def check_interrupt() -> None:
        if received:
            raise received[0]

    if threading.current_thread() is not threading.main_thread():
        yield check_interrupt  # only the main thread may set handlers, and only it is interrupted
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        received.append(KeyboardInterrupt if number == signal.SIGINT else Terminated)
        raise received[-1]

    with _handled_by(interrupt):
        yield check_interrupt


@contextmanager
def defer_interrupts() -> Iterator[None]:
    """Context manager: defer Ctrl-C, SIGTERM, SIGHUP; an interrupted write would lock its store."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []

    def defer(number: int, frame: FrameType | None) -> None:
        received.append(number)

    try:
        with _handled_by(defer):
            yield
    finally:
        if received:
            signal.raise_signal(received[0])


@contextmanager
def ignored_by_children() -> Iterator[None]:
    """Context manager: processes started within never see the Ctrl-C of a terminal."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _handled_by(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Context manager: handles the signals that end a run.

    Not that of a closed terminal where nohup ignores it.
    """
    numbers = [signal.SIGINT, signal.SIGTERM]
    hangup = getattr(signal, "SIGHUP", None)  # not on Windows
    if hangup and signal.getsignal(hangup) != signal.SIG_IGN:
        numbers.append(hangup)
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, handler_before in before.items():
            signal.signal(number, handler_before)
