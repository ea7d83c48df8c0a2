"""Readers of pictures of one's own: npz, idx, csv, parquet, and a folder of pictures per class."""

import gzip
import json
import logging
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from textwrap import shorten
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mnist_exp.core.errors import InputError
from mnist_exp.data.mnist import first_line

logger = logging.getLogger(__name__)

SIDE = 28  # pixels: larger pictures are photographs and scans of marks

ARRAYS = (  # in an .npz: images and labels, with or without those of a test part
    ("x_train", "y_train", "x_test", "y_test"),
    ("train_images", "train_labels", "test_images", "test_labels"),
    ("images", "labels", "test_images", "test_labels"),
    ("x", "y", "x_test", "y_test"),
)
LABELS = ("label", "labels", "class", "target", "character", "y")  # columns
PARTS = {"train": ("train", "training"), "test": ("test", "testing", "t10k")}  # words in names
IDX_TYPES = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}


class Part(NamedTuple):
    """Pictures and labels as they were found: any shape, scale, type and names."""

    images: NDArray[Any] | list[NDArray[np.uint8]]  # (n, ...), or one (h, w[, 3]) per picture
    labels: NDArray[Any]  # (n,)
    names: tuple[str, ...] = ()  # of the labels 0, 1, ..., where the file tells


def read_parts(path: Path) -> dict[str, Part]:
    """The parts in a file or folder: `train`, and `test` where there is one.

    Raises `InputError`, which starts with the path, for what cannot be read.
    """
    if not path.exists():
        raise InputError(
            f"{path}: no such file or folder; give the right data.path or data.test_path"
        )
    try:
        return _read_folder(path) if path.is_dir() else _read_file(path)
    except InputError:
        raise
    except Exception as error:  # damaged bytes raise dozens of kinds
        raise InputError(
            f"{path}: could not be read ({shorten(first_line(error), 120)}); save it again, or in "
            "another format"
        ) from error


def files_of(path: Path) -> list[Path]:
    """Every file that reading the path may open."""
    return sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]


def parse_idx(content: bytes, name: str) -> NDArray[Any]:
    """The array in the bytes of an idx file, gzipped or not; raises `InputError`."""
    content = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    kind, rank = content[2:4] if content[:2] == b"\0\0" and len(content) > 3 else (0, 0)
    shape = np.frombuffer(content, ">u4", rank, 4).astype(int) if kind in IDX_TYPES else ()
    data = content[4 + 4 * rank :]
    dtype = np.dtype(IDX_TYPES.get(kind, "u1"))
    if not len(shape) or len(data) != np.prod(shape) * dtype.itemsize:
        raise InputError(f"{name}: expected a whole idx file; copy or download it again")
    return np.frombuffer(data, dtype).reshape(shape)


def _read_file(path: Path) -> dict[str, Part]:
    for suffix, reader in READERS.items():
        if path.name.lower().endswith((suffix, f"{suffix}.gz")):
            return reader(path)
    raise InputError(
        f"{path}: expected an .npz, .csv or .parquet file, or a folder of four idx files, or of a "
        "folder of pictures per class"
    )


def _read_folder(path: Path) -> dict[str, Part]:
    if idx := [file for file in files_of(path) if re.search(r"[.-]idx\d", file.name)]:
        return {
            part: Part(
                _idx(_only(path, idx, part, "images")), _idx(_only(path, idx, part, "labels"))
            )
            for part in PARTS
        }
    tables = [f for f in path.iterdir() if f.name.lower().endswith((*READERS, ".csv.gz"))]
    if tables and not _folders(path):
        return {p: read_parts(_only(path, tables, p, ""))["train"] for p in PARTS}
    folders = {folder.name.lower(): folder for folder in _folders(path)}
    parts = {
        part: next((folders[word] for word in words if word in folders), path)
        for part, words in PARTS.items()
    }
    if parts["train"] == path or parts["test"] == path:
        return {"train": _read_pictures(path)}
    return {part: _read_pictures(folder) for part, folder in parts.items()}


def _idx(path: Path) -> NDArray[Any]:
    return parse_idx(path.read_bytes(), str(path))


def _only(folder: Path, files: Iterable[Path], part: str, kind: str) -> Path:
    """The one file of this part; of an unpacked one and its archive the former."""
    words = PARTS[part]
    found = [f for f in files if kind in f.name and any(word in f.name.lower() for word in words)]
    plain = {file.name.removesuffix(".gz"): file for file in sorted(found, reverse=True)}
    if len(plain) != 1:
        what = f"{kind} file" if kind else "file"
        raise InputError(
            f"{folder}: expected one {what} named after {words[0]}, there are "
            f"{sorted(plain) or 'none'}; give the file with data.path=..., or a folder with one"
        )
    return next(iter(plain.values()))


def _read_npz(path: Path) -> dict[str, Part]:
    with np.load(path, allow_pickle=False) as file:
        for names in ARRAYS:
            if {*names[:2]} <= {*file.files}:
                parts = {"train": Part(file[names[0]], file[names[1]])}
                if {*names[2:]} <= {*file.files}:
                    parts["test"] = Part(file[names[2]], file[names[3]])
                return parts
        raise InputError(
            f"{path}: expected x_train and y_train, with x_test and y_test, or images and labels "
            f"in it, there is {file.files[:8]}; rename the arrays"
        )


def _read_csv(path: Path) -> dict[str, Part]:
    """A row per picture: its label, in the column `label` or the first one, and its pixels."""
    from pyarrow import csv

    with (gzip.open if path.suffix == ".gz" else open)(path, "rt") as file:
        head = file.readline().split(",")
    is_headless = head[0].strip(' "\r\n').lstrip("-").isdigit()
    table = csv.read_csv(
        path,
        read_options=csv.ReadOptions(autogenerate_column_names=is_headless),
        convert_options=csv.ConvertOptions(null_values=[""], strings_can_be_null=True),
    )
    for name, column in zip(table.column_names, table.columns, strict=True):
        if column.null_count:
            row = int(np.flatnonzero(column.is_null())[0]) + (1 if is_headless else 2)
            raise InputError(
                f"{path}: line {row} has no value for {name}; fill it, or drop the row"
            )
    label = next((name for name in LABELS if name in table.column_names), table.column_names[0])
    pixels = [name for name in table.column_names if name != label]
    images = np.column_stack([table[name].to_numpy() for name in pixels])
    if images.dtype.kind not in "iuf" or round(len(pixels) ** 0.5) ** 2 != len(pixels):
        raise InputError(
            f"{path}: expected a column label and h * w columns of numbers, got {len(pixels)} "
            f"columns beside {label}: {pixels[0]}, ...; add or remove columns"
        )
    return {"train": Part(images, table[label].to_numpy())}


def _read_parquet(path: Path) -> dict[str, Part]:
    """A row per picture, as Hugging Face ships it: its bytes and its label."""
    from pyarrow import parquet, types

    table = parquet.read_table(path)
    fields = {field.name: field.type for field in table.schema}
    pictures = [k for k, t in fields.items() if types.is_struct(t) or types.is_binary(t)]
    label = next((name for name in LABELS if name in fields), "")
    if not pictures or not label:
        raise InputError(
            f"{path}: expected a column of pictures (their bytes) and a column label, there is "
            f"{', '.join(fields)}"
        )
    rows = table[pictures[0]].to_pylist()
    contents = [row["bytes"] if isinstance(row, dict) else row for row in rows]
    if table[label].null_count or not all(contents):
        raise InputError(f"{path}: a row has no label or no picture in it; drop such rows")
    about = json.loads((table.schema.metadata or {}).get(b"huggingface", b"{}"))
    names = about.get("info", {}).get("features", {}).get(label, {}).get("names", ())
    images = [_decoded(content, f"{path}, row {row}") for row, content in enumerate(contents)]
    return {"train": Part(images, table[label].to_numpy(), tuple(names))}


def _decoded(content: bytes, name: str) -> NDArray[np.uint8]:
    from mnist_exp.pictures.decode import decode

    return decode(content, name)[0].round().astype(np.uint8)


def _read_pictures(path: Path) -> Part:
    """A folder of pictures per class: small ones as they are, others as `predict` reads them."""
    from mnist_exp.pictures.decode import FORMATS

    suffixes = tuple(suffix for of_format in FORMATS.values() for suffix in of_format)
    files, labels = [], []
    for folder in _folders(path):
        found = [file for file in files_of(folder) if file.suffix.lower() in suffixes]
        files += found
        labels += [folder.name] * len(found)
        if not found:
            logger.warning(f"{folder}: no picture in it, so it is left out as a class")
    if not files:
        raise InputError(
            f"{path}: expected a folder of pictures ({', '.join(suffixes)}) per class in it, there "
            f"is {sorted(each.name for each in path.iterdir())[:8]}"
        )
    images = []
    for file in files:
        images.append(_decoded(file.read_bytes(), str(file)))
        if max(images[-1].shape[:2]) > SIDE:
            return _preprocessed(files, labels)
    return Part(images, np.array(labels))


def _preprocessed(files: Sequence[Path], labels: Sequence[str]) -> Part:
    """The pictures as `predict` reads them, without those in which it finds nothing."""
    from mnist_exp.pictures.preprocess import preprocess

    logger.info(f"reading {len(files):,} pictures")  # a second for about 200
    pictures = [preprocess(file.read_bytes(), str(file)) for file in files]
    unread = [f"{f}: {p.note}" for f, p in zip(files, pictures, strict=True) if p.pixels is None]
    if unread:
        logger.warning(f"{len(unread)} pictures are left out, such as {unread[0]}")
    pairs = zip(pictures, labels, strict=True)
    kept = [(p.pixels, label) for p, label in pairs if p.pixels is not None]
    if not kept:
        raise InputError(f"none of {len(files)} pictures could be read, such as {unread[0]}")
    images, names = zip(*kept, strict=True)
    return Part(np.stack(images), np.array(names))


def _folders(path: Path) -> list[Path]:
    return sorted(each for each in path.iterdir() if each.is_dir() and each.name[0] not in "._")


READERS: dict[str, Callable[[Path], dict[str, Part]]] = {
    ".npz": _read_npz, ".csv": _read_csv, ".parquet": _read_parquet,
}  # fmt: skip
