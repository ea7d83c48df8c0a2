"""File locks between processes; the operating system releases those of a killed process."""

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from mnist_exp.core.errors import InputError
from mnist_exp.core.layout import LOCK

PROBE_SECONDS = 0.5  # the longest a run waits for probes of `is_orphaned`


@contextmanager
def exclusive(path: Path, *, seconds: float = -1, refusal: str = "") -> Iterator[None]:
    """Context manager: one process at a time; the lock file is removed while still locked.

    Raises `InputError` with the refusal when it is locked for longer than `seconds` (negative: no
    limit), `OSError` when it cannot be created. On a file system without locks nothing is locked.
    """
    from filelock import FileLock, Timeout  # 0.1 s

    path.touch()  # raises, where FileLock would create a missing folder
    lock = FileLock(path, seconds, poll_interval=0.01, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout as error:
        raise InputError(refusal) from error
    except OSError:  # no locks here
        pass
    try:
        yield
    finally:
        with suppress(OSError):  # Windows: removed at the release
            path.unlink()
        lock.release()


def run_lock(folder: Path, *, seconds: float = PROBE_SECONDS) -> AbstractContextManager[None]:
    """Context manager: the run in this folder belongs to this process.

    Raises `InputError` when it belongs to another for longer than `seconds`.
    """
    refusal = f"{folder}: another process is at work on this run; wait for it"
    return exclusive(folder / LOCK, seconds=seconds, refusal=refusal)


def is_orphaned(folder: Path) -> bool:
    """Whether the folder exists and its run belongs to no living process of this machine.

    Never creates the lock file; on POSIX its shared lock excludes no other probe.
    """
    if not folder.is_dir():
        return False
    path = folder / LOCK
    try:
        if sys.platform == "win32":
            from filelock import FileLock

            path.stat()
            with FileLock(path, timeout=0):
                pass
        else:
            import fcntl

            with path.open() as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return True
    except OSError:  # locked, or not readable for this user
        return False
    return True
