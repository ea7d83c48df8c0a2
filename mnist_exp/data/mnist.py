"""The official arrays, read from files and never handed out unverified."""

import gzip
import hashlib
import math
import os
import struct
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mnist_exp.core.errors import InputError

Array = npt.NDArray[np.uint8]
Arrays = dict[str, Array]  # by the keys of Keras' mnist.npz


class Official(NamedTuple):
    """One of the four arrays: its md5 is that of the uncompressed idx file, header and data."""

    key: str
    file: str
    shape: tuple[int, ...]
    md5: str


MNIST = (
    Official(
        "x_train", "train-images-idx3-ubyte", (60000, 28, 28), "6bbc9ace898e44ae57da46a324031adb"
    ),
    Official("y_train", "train-labels-idx1-ubyte", (60000,), "a25bea736e30d166cdddb491f175f624"),
    Official(
        "x_test", "t10k-images-idx3-ubyte", (10000, 28, 28), "2646ac647ad5339dbf082846283269ea"
    ),
    Official("y_test", "t10k-labels-idx1-ubyte", (10000,), "27ae3e4e09519cfbb04c329615203637"),
)
SHA256 = "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1"  # of Keras' mnist.npz
LARGEST = 64 * 2**20  # the four arrays, uncompressed, are 55 MB: nothing bigger is read or kept


def read(path: Path, advice: str) -> Arrays:
    """The verified arrays of an .npz or of a folder of idx files; `advice` ends a refusal."""
    if os.path.isdir(path):
        return _read_folder(path, advice)
    if os.path.isfile(path):
        return read_npz(path, advice)
    raise InputError(f"{path}: no such file or folder; {advice}")


def read_npz(path: Path, advice: str, shown: str = "") -> Arrays:
    """The verified arrays of an .npz; a refusal names `shown` when it is given, else the path."""
    arrays = {}
    where = shown or str(path)
    for official in MNIST:
        try:
            array = _member(path, official)
        except Exception as error:  # damaged bytes raise a dozen kinds
            raise InputError(_unreadable(path, where, first_line(error), advice)) from error
        shape = f"{array.shape} instead of {official.shape}"
        damage = shape if array.shape != official.shape else ""
        verify(where, official, idx_md5(array), advice, damage)
        arrays[official.key] = array
    return arrays


def verify(where: Path | str, official: Official, seen: str, advice: str, damage: str) -> None:
    """Refuses the array called `official` when the md5 `seen` is not its own."""
    if seen == official.md5:
        return
    swapped = [other.file for other in MNIST if other.md5 == seen]
    if swapped:
        damage = f"that is {swapped[0]}: the files are swapped"
    raise InputError(
        f"{where}: {official.file} ({official.key}) has md5 {seen}, expected {official.md5} "
        f"({damage or 'damaged, or not MNIST'}); {advice}"
    )


def idx_md5(array: Array) -> str:
    """The md5 that the array would have as an idx file."""
    return _hash(_header(array.shape), np.ascontiguousarray(array))


def first_line(error: BaseException) -> str:
    """What went wrong, without the advice that NumPy adds on further lines."""
    return (str(error) or type(error).__name__).splitlines()[0]


def _read_folder(folder: Path, advice: str) -> Arrays:
    """The four idx files, plain or gzipped; with the right md5 the header is right as well."""
    if not os.access(folder, os.X_OK):
        raise InputError(f"{folder}: no permission to look into this folder; {advice}")
    arrays = {}
    for official in MNIST:
        path = _idx_file(folder, official, advice)
        content, damage = _content(path)
        if not damage and len(content) != _idx_size(official):
            damage = f"{len(content):,} bytes instead of {_idx_size(official):,}"
        verify(path, official, _hash(content), advice, damage)
        data = np.frombuffer(content, np.uint8, offset=len(_header(official.shape)))
        arrays[official.key] = data.reshape(official.shape)
    return arrays


def _idx_file(folder: Path, official: Official, advice: str) -> Path:
    for name in (official.file, official.file.replace("-idx", ".idx")):
        for path in (folder / name, folder / f"{name}.gz"):
            if os.path.isfile(path):  # Path.is_file may raise
                return path
    raise InputError(f"{folder}: expected {official.file} or {official.file}.gz in it; {advice}")


def _content(path: Path) -> tuple[bytearray, str]:
    """The uncompressed bytes, as far as they can be read, and what stopped the reading."""
    most = max(map(_idx_size, MNIST)) + 1  # more is neither needed nor safe to unpack
    content = bytearray()
    try:
        with path.open("rb") as start:
            is_gzip = start.read(2) == b"\x1f\x8b"
        with gzip.open(path) if is_gzip else path.open("rb") as file:
            while len(content) < most and (chunk := file.read(min(2**20, most - len(content)))):
                content += chunk
    except Exception as error:  # damaged bytes raise several kinds
        return content, first_line(error)
    return content, ""


def _idx_size(official: Official) -> int:
    return len(_header(official.shape)) + math.prod(official.shape)


def _member(path: Path, official: Official) -> Array:
    """One array; its header is looked at before any memory is set aside for it."""
    with zipfile.ZipFile(path) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist()]
        if official.key not in names:
            raise ValueError(f"expected {official.key} in it, there is {names[:8]}")
        with archive.open(f"{official.key}.npy") as file:
            np.lib.format.read_magic(file)  # 1.0 is all that NumPy writes for such arrays
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        if dtype != np.uint8 or math.prod(shape) > LARGEST:
            raise ValueError(f"{official.key} is {dtype} {shape}, not uint8 {official.shape}")
        with archive.open(f"{official.key}.npy") as file:
            array: Array = np.lib.format.read_array(file, allow_pickle=False)
    return array


def _unreadable(path: Path, where: str, damage: str, advice: str) -> str:
    seen = f"{path.stat().st_size:,} bytes"
    if path.stat().st_size <= LARGEST and os.access(path, os.R_OK):
        seen = f"sha256 {hashlib.sha256(path.read_bytes()).hexdigest()}"
    return (
        f"{where}: expected an .npz as Keras ships it (sha256 {SHA256}) or a folder with the four "
        f"idx files, got a file of {seen} ({damage}); {advice}"
    )


def _hash(*pieces: Any) -> str:
    total = hashlib.md5(usedforsecurity=False)
    for piece in pieces:
        total.update(piece)
    return total.hexdigest()


def _header(shape: tuple[int, ...]) -> bytes:
    return struct.pack(f">BBBB{len(shape)}I", 0, 0, 8, len(shape), *shape)  # 8: unsigned bytes
