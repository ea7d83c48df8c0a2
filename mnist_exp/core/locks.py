"""Locks of the operating system: a killed process gives them back."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mnist_exp.core.errors import InputError

LOCK = ".running"  # in a run's folder, locked while the run lives


@contextmanager
def exclusive(lock: Path) -> Iterator[None]:
    """Lets one process in at a time; the lock goes with a killed process, and leaves no file."""
    if sys.platform == "win32":
        yield
        return
    import fcntl

    while True:
        with lock.open("a") as file:
            with suppress(OSError):  # a file system without locks
                fcntl.flock(file, fcntl.LOCK_EX)
            try:
                if not os.path.samestat(lock.stat(), os.fstat(file.fileno())):
                    continue
            except FileNotFoundError:  # its last holder removed it while we waited
                continue
            try:
                yield
            finally:
                lock.unlink(missing_ok=True)
            return


@contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Within: this process holds the folder, and `is_abandoned` says so to every other.

    Raises `InputError` when another holds it.
    """
    if sys.platform == "win32":
        yield
        return
    import fcntl

    with (folder / LOCK).open("a") as file:
        for _ in range(20):  # a look of another process takes no time
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(0.01)
            except OSError:  # a file system without locks
                break
        else:
            raise InputError(f"{folder}: another process is at work on this run; wait for it")
        try:
            yield
        finally:
            (folder / LOCK).unlink(missing_ok=True)


def is_orphaned(folder: Path) -> bool:
    """Whether the folder is there and no living process of this machine holds it."""
    if sys.platform == "win32" or not folder.is_dir():
        return False
    import fcntl

    try:
        with (folder / LOCK).open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return True
    except OSError:  # held, or not ours to see
        return False
    return True
