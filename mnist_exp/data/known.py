"""Data sets in MNIST's form that are known by name: official files, digests, licences, classes."""

import hashlib
import tomllib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import ZipFile

import numpy as np
from numpy.typing import NDArray

from mnist_exp.core.errors import InputError
from mnist_exp.data import download
from mnist_exp.data.own import Found, digest_of
from mnist_exp.data.readers import parse_idx

KEYS = ("x_train", "y_train", "x_test", "y_test")


class KnownSet(NamedTuple):
    """A data set of known.toml, by its official files."""

    title: str
    licence: str
    counts: list[int]  # training and test images
    classes: list[str]
    url: str  # of the folder of the files
    md5: Mapping[str, str]  # by the name of the file
    members: Sequence[str] = ()  # of the only file, an archive

    @property
    def about(self) -> str:
        """What it holds, and its licence."""
        train, test = self.counts
        images = f"{train:,} + {test:,} images of {len(self.classes)} classes"
        return f"{self.title}: {images} ({self.licence})"


TABLE = Path(__file__).with_suffix(".toml").read_text(encoding="utf-8")
KNOWN = {name: KnownSet(**values) for name, values in tomllib.loads(TABLE).items()}


def load(name: str, folder: Path, *, is_given: bool) -> Found:
    """The verified data set from its official files in or below the folder.

    Where the folder is not given but a cache, missing files are downloaded. Raises `InputError`.
    """
    known, files = KNOWN[name], locate(name, folder)
    for file, path in files.items():
        if not path.exists() and not is_given:
            try:
                download.fetch_file(known.url + file, path, known.md5[file])
            except download.UnreachableError as error:
                raise InputError(
                    f"{known.url}{file} could not be downloaded ({error}); give the folder of the "
                    f"official files of {known.title} with data.path=..."
                ) from error
        if not path.exists():
            raise InputError(f"{folder}: expected {file} of {known.title} in or below it")
    stats = tuple((path.stat().st_mtime_ns, path.stat().st_size) for path in files.values())
    return _load(name, tuple(files.values()), stats)._replace(source=str(folder))


def locate(name: str, folder: Path) -> dict[str, Path]:
    """Where each official file is in or below the folder, or will be."""
    md5 = KNOWN[name].md5
    return {file: next(folder.rglob(file), folder / file) for file in md5}


@lru_cache(maxsize=1)
def _load(name: str, files: tuple[Path, ...], unchanged: tuple[tuple[int, int], ...]) -> Found:
    known, contents = KNOWN[name], [path.read_bytes() for path in files]
    for path, content, md5 in zip(files, contents, known.md5.values(), strict=True):
        found = hashlib.md5(content, usedforsecurity=False).hexdigest()
        if found != md5:
            raise InputError(
                f"{path}: expected the official file of {known.title} with md5 {md5}, got {found}; "
                "delete it to download it again, or read it with data=own"
            )
    if known.members:
        with ZipFile(BytesIO(contents[0])) as archive:
            contents = [archive.read(member) for member in known.members]
    arrays = {k: _array(c, known.title) for k, c in zip(KEYS, contents, strict=True)}
    for part in ("train", "test"):
        labels = arrays[f"y_{part}"]
        labels = labels[:, 0] if labels.ndim == 2 else labels  # of QMNIST: then its provenance
        arrays[f"y_{part}"] = (labels - labels.min()).astype(np.uint8)
        if known.members:  # EMNIST's are transposed
            arrays[f"x_{part}"] = np.ascontiguousarray(arrays[f"x_{part}"].transpose(0, 2, 1))
    classes = tuple(known.classes)
    return Found(name, "", digest_of(arrays, classes), arrays, classes)


def _array(content: bytes, name: str) -> NDArray[Any]:
    if content[:2] != b"PK":
        return parse_idx(content, name)
    with np.load(BytesIO(content), allow_pickle=False) as file:
        return np.asarray(file["arr_0"])
