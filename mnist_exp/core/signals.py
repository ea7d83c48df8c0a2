"""Interrupts that come as exceptions, and never in the middle of a write."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from types import FrameType

SWEEP = "MNIST_EXP_SWEEP"  # the process id of the sweep that a job belongs to


class Terminated(KeyboardInterrupt):
    """The process was asked to end by SIGTERM."""


@contextmanager
def ends_with_sweep() -> Iterator[None]:
    """Within: a worker that is a child of its sweep gets SIGTERM when that dies, and leaves.

    It would train on, and then take the next job from its queue.
    """
    sweep = int(os.environ.get(SWEEP, "0"))
    if os.getppid() != sweep:  # the sweep itself, or a worker of a cluster
        yield
        return
    _watch(sweep)
    try:
        yield
    finally:
        if os.getppid() != sweep:
            os._exit(143)


@cache
def _watch(parent: int) -> None:
    def wait() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


@contextmanager
def sigterm_interrupts() -> Iterator[Callable[[], None]]:
    """Within: SIGTERM raises `Terminated` in the main thread; elsewhere nothing changes.

    Gives a function to call now and then: it raises again what some library swallowed, be it
    SIGTERM's or Ctrl-C's.
    """
    asked: list[type[KeyboardInterrupt]] = []

    def still_asked() -> None:
        if asked:
            raise asked[0]

    if threading.current_thread() is not threading.main_thread():
        yield still_asked  # only the main thread may set handlers, and only it is interrupted
        return

    def end(number: int, frame: FrameType | None) -> None:
        asked.append(Terminated if number == signal.SIGTERM else KeyboardInterrupt)
        raise asked[-1]

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield still_asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def defer_interrupts() -> Iterator[None]:
    """Within: Ctrl-C and SIGTERM wait until the end; a write broken off would lock its store."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        came.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])
