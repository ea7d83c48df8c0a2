"""The four official arrays, read from files and always verified."""

import gzip
import hashlib
import math
import os
import struct
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mnist_exp.core.errors import InputError

Array = npt.NDArray[np.uint8]
Arrays = dict[str, Array]  # by the keys of Keras' mnist.npz


class OfficialArray(NamedTuple):
    """One of the four arrays; the md5 is that of the uncompressed idx file, header and data."""

    key: str
    file: str
    shape: tuple[int, ...]
    md5: str


MNIST = (
    OfficialArray(
        "x_train", "train-images-idx3-ubyte", (60000, 28, 28), "6bbc9ace898e44ae57da46a324031adb"
    ),
    OfficialArray(
        "y_train", "train-labels-idx1-ubyte", (60000,), "a25bea736e30d166cdddb491f175f624"
    ),
    OfficialArray(
        "x_test", "t10k-images-idx3-ubyte", (10000, 28, 28), "2646ac647ad5339dbf082846283269ea"
    ),
    OfficialArray("y_test", "t10k-labels-idx1-ubyte", (10000,), "27ae3e4e09519cfbb04c329615203637"),
)
SHA256 = "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1"  # of Keras' mnist.npz
OTHER = "; other pictures are read with data=own"
LARGEST = 64 * 2**20  # bytes read or kept at most; the four arrays, uncompressed, are 55 MB


def read(files: Sequence[Path], advice: str) -> Arrays:
    """The verified arrays of an .npz or of the four idx files, plain or gzipped.

    Raises `InputError`, ending with the advice, for a damaged file.
    """
    if len(files) == 1:
        return read_npz(files[0], advice)
    arrays = {}
    for official, path in zip(MNIST, files, strict=True):  # the md5 covers the header, too
        content, damage = _content(path)
        if not damage and len(content) != _idx_size(official):
            damage = f"{len(content):,} bytes instead of {_idx_size(official):,}"
        verify(path, official, _hash(content), advice, damage)
        data = np.frombuffer(content, np.uint8, offset=len(_header(official.shape)))
        arrays[official.key] = data.reshape(official.shape)
    return arrays


def read_npz(path: Path, advice: str, source: str = "") -> Arrays:
    """The verified arrays of an .npz; errors name its `source`, by default the path."""
    arrays = {}
    source = source or str(path)
    for official in MNIST:
        try:
            array = _member(path, official)
        except Exception as error:  # damaged bytes raise a dozen kinds
            raise InputError(_unreadable(path, source, first_line(error), advice)) from error
        shape = f"{array.shape} instead of {official.shape}{OTHER}"
        damage = shape if array.shape != official.shape else ""
        verify(source, official, idx_md5(array), advice, damage)
        arrays[official.key] = array
    return arrays


def verify(source: Path | str, official: OfficialArray, md5: str, advice: str, damage: str) -> None:
    """Raise `InputError` when the md5 is not that of the official array."""
    if md5 == official.md5:
        return
    swapped = [other.file for other in MNIST if other.md5 == md5]
    if swapped:
        damage = f"that is {swapped[0]}: the files are swapped"
    raise InputError(
        f"{source}: {official.file} ({official.key}) has md5 {md5}, expected {official.md5} "
        f"({damage or f'damaged, or not MNIST{OTHER}'}); {advice}"
    )


def idx_md5(array: Array) -> str:
    """The md5 of the array as an idx file."""
    return _hash(_header(array.shape), np.ascontiguousarray(array))


def first_line(error: BaseException) -> str:
    """The message without the advice that NumPy adds on further lines."""
    return (str(error) or type(error).__name__).splitlines()[0]


def _content(path: Path) -> tuple[bytearray, str]:
    """The uncompressed bytes, as far as they can be read, and the error that ended them."""
    limit = max(map(_idx_size, MNIST)) + 1  # more is neither needed nor safe to unpack
    content = bytearray()
    try:
        with path.open("rb") as file:
            is_gzip = file.read(2) == b"\x1f\x8b"
        with gzip.open(path) if is_gzip else path.open("rb") as plain:
            while len(content) < limit and (chunk := plain.read(min(2**20, limit - len(content)))):
                content += chunk
    except Exception as error:  # damaged bytes raise several kinds
        return content, first_line(error)
    return content, ""


def _idx_size(official: OfficialArray) -> int:
    return len(_header(official.shape)) + math.prod(official.shape)


def _member(path: Path, official: OfficialArray) -> Array:
    """One array; its header is checked before memory is allocated."""
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


def _unreadable(path: Path, source: str, damage: str, advice: str) -> str:
    or_folder = " or a folder with the four idx files" if source == str(path) else ""
    content = f"{path.stat().st_size:,} bytes"
    if path.stat().st_size <= LARGEST and os.access(path, os.R_OK):
        content = f"sha256 {hashlib.sha256(path.read_bytes()).hexdigest()}"
    return (
        f"{source}: expected an .npz as Keras ships it (sha256 {SHA256}){or_folder}, "
        f"got a file of {content} ({damage}{OTHER}); {advice}"
    )


def _hash(*pieces: Any) -> str:
    md5 = hashlib.md5(usedforsecurity=False)
    for piece in pieces:
        md5.update(piece)
    return md5.hexdigest()


def _header(shape: tuple[int, ...]) -> bytes:
    return struct.pack(f">BBBB{len(shape)}I", 0, 0, 8, len(shape), *shape)  # 8: unsigned bytes
