"""Data sets in MNIST's form that are known by name: official files, digests, licences, classes."""

import hashlib
import string
from collections.abc import Mapping
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import ZipFile

import numpy as np
from numpy.typing import NDArray

from mnist_exp.core.classes import DIGITS
from mnist_exp.core.errors import InputError
from mnist_exp.data import download
from mnist_exp.data.own import Found, digest_of
from mnist_exp.data.readers import parse_idx

KANA = (
    "a i u e o ka ki ku ke ko sa shi su se so ta chi tsu te to na ni nu ne no ha hi fu he ho "
    "ma mi mu me mo ya yu yo ra ri ru re ro wa wi we wo n iteration"
)
KEYS = ("x_train", "y_train", "x_test", "y_test")


class KnownSet(NamedTuple):
    """A data set by its official files: training images and labels, test images and labels.

    `md5` is of each file as it is downloaded. A data set with `members` has these in one archive.
    """

    title: str
    counts: tuple[int, int]  # training and test images
    classes: tuple[str, ...]
    url: str  # of the folder of the files
    md5: Mapping[str, str]
    licence: str
    members: tuple[str, ...] = ()


def _emnist(split: str, counts: tuple[int, int], classes: str) -> KnownSet:
    """A split of EMNIST. Its labels begin at the number of its first class, its images lie."""
    names = (f"emnist-{split}-{part}" for part in ("train", "test"))
    kinds = ("images-idx3-ubyte.gz", "labels-idx1-ubyte.gz")
    return KnownSet(
        f"EMNIST {split}", counts, tuple(classes),
        "https://biometrics.nist.gov/cs_links/EMNIST/",
        {"gzip.zip": "58c8d27c78d21e728a6bc7b3cc06412e"},
        "none stated; from NIST Special Database 19",
        tuple(f"gzip/{name}-{kind}" for name in names for kind in kinds),
    )  # fmt: skip


# Digests of gzipped and zipped files: torchvision's datasets/mnist.py. Of k49, which it lacks, the
# md5 agrees in four independent projects. No digest here is our own.
KNOWN = {
    "fashion_mnist": KnownSet(
        "Fashion-MNIST", (60_000, 10_000),
        ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker",
         "Bag", "Ankle boot"),
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        {"train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
         "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
         "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
         "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310"},
        "MIT, Zalando SE",
    ),
    "kmnist": KnownSet(
        "Kuzushiji-MNIST", (60_000, 10_000),
        ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
        "http://codh.rois.ac.jp/kmnist/dataset/kmnist/",
        {"train-images-idx3-ubyte.gz": "bdb82020997e1d708af4cf47b453dcf7",
         "train-labels-idx1-ubyte.gz": "e144d726b3acfaa3e44228e80efcd344",
         "t10k-images-idx3-ubyte.gz": "5c965bf0a639b31b8f53240b1b52f4d7",
         "t10k-labels-idx1-ubyte.gz": "7320c461ea6c1c855c0b718fb2a4b134"},
        "CC BY-SA 4.0, CODH",
    ),
    "k49": KnownSet(
        "Kuzushiji-49", (232_365, 38_547),
        tuple(KANA.split()),
        "http://codh.rois.ac.jp/kmnist/dataset/k49/",
        {"k49-train-imgs.npz": "7ac088b20481cf51dcd01ceaab89d821",
         "k49-train-labels.npz": "44a8e1b893f81e63ff38d73cad420f7a",
         "k49-test-imgs.npz": "d352e201d846ce6b94f42c990966f374",
         "k49-test-labels.npz": "4da6f7a62e67a832d5eb1bd85c5ee448"},
        "CC BY-SA 4.0, CODH",
    ),
    "emnist_digits": _emnist("digits", (240_000, 40_000), string.digits),
    "emnist_letters": _emnist("letters", (124_800, 20_800), string.ascii_lowercase),
    "emnist_balanced": _emnist(
        "balanced", (112_800, 18_800), string.digits + string.ascii_uppercase + "abdefghnqrt"
    ),
    "qmnist": KnownSet(
        "QMNIST", (60_000, 60_000), DIGITS,
        "https://raw.githubusercontent.com/facebookresearch/qmnist/master/",
        {"qmnist-train-images-idx3-ubyte.gz": "ed72d4157d28c017586c42bc6afe6370",
         "qmnist-train-labels-idx2-int.gz": "0058f8dd561b90ffdd0f734c6a30e5e4",
         "qmnist-test-images-idx3-ubyte.gz": "1394631089c404de565df7b7aeaf9412",
         "qmnist-test-labels-idx2-int.gz": "5b5b05890a5e13444e108efe57b788aa"},
        "BSD, Facebook",
    ),
}  # fmt: skip


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
    return Found(name, "", digest_of(arrays, known.classes), arrays, known.classes)


def _array(content: bytes, name: str) -> NDArray[Any]:
    if content[:2] != b"PK":
        return parse_idx(content, name)
    with np.load(BytesIO(content), allow_pickle=False) as file:
        return np.asarray(file["arr_0"])
