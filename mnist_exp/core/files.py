"""Files and folders: create, write atomically, lock, and turn errors into a sentence."""

import errno
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from mnist_exp.core.errors import InputError, StorageError
from mnist_exp.core.layout import LOCK

UNWRITABLE = {
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO,
}  # fmt: skip


def write_atomic(path: Path, write: Callable[[IO[bytes]], Any]) -> None:
    """Replace the file at `path` by what `write` writes, as a whole or not at all.

    This holds when the process or the machine is killed. Raises `OSError`.
    """
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        with suppress(OSError):
            part.unlink()
        raise
    with suppress(OSError):  # makes the new name durable, where the system can
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def make_folder(folder: Path, key: str) -> Path:
    """The folder, created if missing. Raises `InputError`, naming the `key`, when it cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(folder_error_message(error, key)) from error
    return folder


def write_file(file: Path, content: bytes, option: str) -> None:
    """Write the file and its folder. Raises `InputError`, naming the option, when it cannot be."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    except OSError as error:
        raise InputError(f"{option} {file}: {error.strerror}; give another path") from error


def replace_by_link(path: Path, original: Path) -> None:
    """Replace the file at `path` by a hard link to `original`, where the system can.

    It is read-only then: who overwrites the one would change the other.
    """
    part = path.with_name(f"{path.name}.part")
    with suppress(OSError):  # another machine or file system, or one without links
        if path.exists():
            os.link(original, part)
            part.replace(path)
            if os.name == "posix":  # Windows could not delete it any more
                path.chmod(0o444)


def short_path(path: Path) -> Path:
    """The path as seen from the current folder, where it lies below."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def relocated(path: Path, before: Path, after: Path) -> Path:
    """The path after a move that brought `before` to `after`."""
    old, new = moved_roots(before, after)
    return new / path.relative_to(old) if path.is_relative_to(old) else path


def moved_roots(before: Path, after: Path) -> tuple[Path, Path]:
    """Both paths without the end that they share: what was moved, and where to."""
    while before.name == after.name and before.name:
        before, after = before.parent, after.parent
    return before, after


@contextmanager
def storage_errors(folder: Path) -> Iterator[None]:
    """Context manager: an error of writing, such as a full disk's, becomes a `StorageError`."""
    try:
        yield
    except OSError as error:
        number = error.errno
        if number is None and (match := re.search(r"errno = (\d+)", str(error))):  # HDF5
            number = int(match[1])
        if number not in UNWRITABLE:
            raise
        raise StorageError(
            f"{error.filename or folder}: {os.strerror(number)}; what was written before is kept; "
            f"mend that and go on with: python -m mnist_exp.run resume={folder}"
        ) from error


def folder_error_message(error: OSError, key: str) -> str:
    """The sentence for a folder that cannot be created."""
    return f"{error.filename}: {error.strerror}; give another folder with {key}=..."


@contextmanager
def removed_if_refused(folder: Path) -> Iterator[None]:
    """Context manager: remove the folder, if empty, at an `InputError`."""
    try:
        yield
    except InputError:
        remove_empty(folder)
        raise


def remove_empty(folder: Path) -> None:
    """Remove the folder if it is empty, and its empty parents up to `outputs`, which Hydra made."""
    cwd = Path.cwd()
    parents = [path for path in folder.parents if cwd / "outputs" in (path, *path.parents)]
    for path in (folder, *parents):
        if path == cwd or path in cwd.parents:
            return
        try:
            path.rmdir()
        except OSError:
            return


@contextmanager
def log_file(path: Path) -> Iterator[None]:
    """Context manager: the package's log is also written to `path`."""
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
