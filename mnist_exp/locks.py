"""One process at a time, by a lock that a killed process gives back."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def alone(lock: Path) -> Iterator[None]:
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
