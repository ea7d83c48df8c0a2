"""The run folder: claimed by one run alone, and given back if the run is refused."""

import errno
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain, count
from pathlib import Path

from yaml import YAMLError  # type: ignore[import-untyped]

from mnist_exp.config.compose import from_yaml, to_yaml
from mnist_exp.config.schema import Config
from mnist_exp.core.errors import InputError, StorageError

logger = logging.getLogger(__name__)

UNWRITABLE = {
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO,
}  # fmt: skip
CONFIG = "config.yaml"
FILES = (  # of a run folder, published; the model is logged as a model
    CONFIG,
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


def claim(folder: Path, config: Config) -> Path:
    """A folder of our own that holds the config; numbered when something else has the name.

    Raises `InputError` when it cannot be made, or is the current folder and not empty.
    """
    folder = folder.absolute()
    for name in chain([folder.name], (f"{folder.name}-{number}" for number in count(2))):
        claimed = make(folder.with_name(name), "hydra.run.dir")
        try:
            if _is_empty(claimed):
                with (claimed / CONFIG).open("x", encoding="utf-8") as file:
                    file.write(to_yaml(config))
                return claimed
        except FileExistsError:  # another run was quicker
            continue
        if claimed == Path.cwd():
            raise InputError(f"{claimed}: not empty; give the run another folder: hydra.run.dir=")
    raise AssertionError("count never ends")


def make(folder: Path, key: str) -> Path:
    """The folder, made if need be; raises `InputError` naming `key` when it cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(unusable(error, key)) from error
    return folder


def write(file: Path, content: bytes, option: str) -> None:
    """Writes the file that a command was asked for; raises `InputError` when that cannot be."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    except OSError as error:
        raise InputError(f"{option} {file}: {error.strerror}; give another path") from error


@contextmanager
def that_may_fill_up(folder: Path) -> Iterator[None]:
    """Within: an error of writing, such as a full disk's, is a `StorageError`."""
    try:
        yield
    except OSError as error:
        number = error.errno
        if number is None and (told := re.search(r"errno = (\d+)", str(error))):  # HDF5's way
            number = int(told[1])
        if number not in UNWRITABLE:
            raise
        raise StorageError(
            f"{error.filename or folder}: {os.strerror(number)}; what was written before is kept; "
            f"mend that and go on with: python -m mnist_exp.run resume={folder}"
        ) from error


def unusable(error: OSError, key: str) -> str:
    """The sentence for a folder that cannot be made."""
    return f"{error.filename}: {error.strerror}; give another folder with {key}=..."


def config_of(folder: Path) -> Config:
    """The config of the run in this folder; raises `InputError` when there is none."""
    try:
        return from_yaml((folder / CONFIG).read_text(encoding="utf-8"))
    except (InputError, OSError, UnicodeDecodeError, YAMLError) as error:
        told = str(error).partition("\n")[0]
        raise InputError(
            f"resume={folder}: expected the folder of a run, with its {CONFIG} ({told})"
        ) from error


@contextmanager
def given_back_if_refused(folder: Path) -> Iterator[None]:
    """Within: what is refused leaves no empty folder behind."""
    try:
        yield
    except InputError:
        remove_empty(folder)
        raise


def remove_empty(folder: Path) -> None:
    """Removes the folder if it is empty, and below `outputs` the empty ones that Hydra made."""
    here = Path.cwd()
    ours = [path for path in folder.parents if here / "outputs" in (path, *path.parents)]
    for path in (folder, *ours):
        if path == here or path in here.parents:
            return
        try:
            path.rmdir()
        except OSError:
            return


def _is_empty(folder: Path) -> bool:
    return not any(path.name[0] != "." for path in folder.iterdir())


@contextmanager
def log_file(path: Path) -> Iterator[None]:
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
