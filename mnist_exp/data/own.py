"""Data of one's own: any grey pictures up to 28x28, any number of classes, made like MNIST."""

import hashlib
import json
import logging
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mnist_exp.config.data import AnyDataConfig, OwnDataConfig
from mnist_exp.config.parts import Part as PythonPart
from mnist_exp.config.parts import call_part, digests
from mnist_exp.core.errors import InputError
from mnist_exp.data import sources
from mnist_exp.data.labels import numbered_labels, shown
from mnist_exp.data.mnist import Array, Arrays, idx_md5
from mnist_exp.data.readers import PARTS, SIDE, Part, files_of, read_parts

if TYPE_CHECKING:
    from mnist_exp.pictures.preprocess import PreprocessedPicture

logger = logging.getLogger(__name__)

WHITE = 255
LUMINANCE = (0.299, 0.587, 0.114)  # of red, green and blue: ITU-R BT.601
Indices = NDArray[np.intp]


class Found(NamedTuple):
    """A data set before its split: `arrays` by the keys of Keras' mnist.npz."""

    name: str
    source: str
    digest: str
    arrays: Arrays
    classes: tuple[str, ...]


def load(config: OwnDataConfig) -> Found:
    """The data of the config; the jobs of a sweep read unchanged files only once.

    What was done to pictures and labels is logged. Raises `InputError` for unusable data.
    """
    split: dict[str, Any] = {"validation_split": 0.0, "validation": None, "limit": None}
    config = config.model_copy(update=split)
    paths = [Path(sources.understand(text)) for text in (config.path, config.test_path) if text]
    if config.build:
        paths.insert(0, Path(config.build.partition(":")[2]))
    files = [file for path in paths for file in files_of(path) if path.exists()]
    stats = [(str(f), f.stat().st_mtime_ns, f.stat().st_size) for f in files]
    return _load(config, tuple(paths), (*stats, str(digests(config))))


@lru_cache(maxsize=1)
def _load(config: OwnDataConfig, paths: tuple[Path, ...], unchanged: Hashable) -> Found:
    path, notes = paths[0], list[str]()
    parts = _parts(config, paths)
    images = _images(parts, path, config.resize, notes)
    labels, classes = numbered_labels(parts, path, config.classes, notes)
    order = np.random.RandomState(5000).permutation(len(parts[0].labels))
    test = np.arange(len(order), len(labels))
    if config.test_split:
        held_out = stratified(labels[order], round(config.test_split * len(order)))
        test, order = order[held_out], np.delete(order, held_out)
    arrays = {
        "x_train": images[order], "y_train": labels[order],
        "x_test": images[test], "y_test": labels[test],
    }  # fmt: skip
    _check_parts(arrays, path, classes)
    if notes:
        logger.info(f"{path}: {'; '.join(notes)}")
    name = path.name if path.is_dir() else path.name.partition(".")[0]
    return Found(f"own:{name}", str(path), digest_of(arrays, classes), arrays, classes)


def _parts(config: OwnDataConfig, paths: Sequence[Path]) -> list[Part]:
    """The part to train on, then that to test on where it is not split off."""
    parts = _call(config.build, config.args) if config.build else read_parts(paths[0])
    if len(paths) > 1:
        other = read_parts(paths[1])
        parts["test"] = other.get("test", other["train"])
    if config.test_split and "test" in parts:
        raise InputError(
            f"data.test_split={config.test_split:g}: {paths[0]} has a test part; leave it out"
        )
    if not config.test_split and "test" not in parts:
        raise InputError(
            f"{paths[0]}: expected a test part; set data.test_split=0.2 to take a fifth of each "
            "class, or data.test_path=..."
        )
    for path, part in zip((paths[0], paths[-1]), parts.values(), strict=False):
        if len(part.images) != len(part.labels):
            counts = f"{len(part.labels)} labels of {len(part.images)} pictures"
            raise InputError(f"{path}: expected a label per picture, got {counts}")
    return [*parts.values()]


def _call(build: str, args: Mapping[str, Any]) -> dict[str, Part]:
    """The parts that the user's own function returns; raises `InputError` for another number."""
    part = PythonPart("data.build", build, args)
    made = call_part(part, kind=tuple)
    if len(made) not in (2, 4):
        raise InputError(
            f"{part.key}={build}: expected images and labels, or those of training and of test, "
            f"got {len(made)} things"
        )
    arrays = [np.asarray(each) for each in made]
    pairs = zip(PARTS, arrays[::2], arrays[1::2], strict=False)
    return {name: Part(images, labels) for name, images, labels in pairs}


def picture_reader(config: AnyDataConfig | None) -> "Callable[[bytes, str], PreprocessedPicture]":
    """How a picture's file is read for a model of this data; of unknown data as of MNIST.

    Models of other data than MNIST get a small picture as it is, as their own were.
    """
    from mnist_exp.pictures.decode import decode  # these import SciPy, which is heavy
    from mnist_exp.pictures.preprocess import PreprocessedPicture, preprocess

    if config is None or config.name in ("mnist", "mnist5k"):
        return preprocess
    resize = isinstance(config, OwnDataConfig) and config.resize

    def read(content: bytes, name: str) -> PreprocessedPicture:
        pixels, note = decode(content, name)
        if max(pixels.shape[:2]) > SIDE or not np.ptp(pixels):
            return preprocess(content, name)
        part = Part([pixels.round().astype(np.uint8)], np.zeros(1))
        return PreprocessedPicture(_images([part], Path(name), resize, [])[0], note)

    return read


def digest_of(arrays: Arrays, classes: tuple[str, ...]) -> str:
    """One md5 for the arrays and what their classes are called."""
    text = "".join(map(idx_md5, arrays.values())) + json.dumps(classes)
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def stratified(labels: Array, n: int) -> Indices:
    """Sorted positions of `n` labels, as many of each class as in proportion; always the same."""
    order = np.random.RandomState(6000).permutation(len(labels))  # a stream that never changes
    by_class = order[np.argsort(labels[order], kind="stable")]
    return np.sort(by_class[((np.arange(n) + 0.5) * len(labels) / n).astype(int)])


def _images(parts: Sequence[Part], path: Path, resize: bool, notes: list[str]) -> Array:
    """The pictures of all parts (n, 28, 28) uint8, light on black; notes on what was done."""
    blocks = [block for part in parts for block in _grey(part.images, path, notes)]
    sizes = sorted({block.shape[1:] for block in blocks})
    blocks = _in_bytes(blocks, path, notes)
    border = [side.ravel() for b in blocks for side in (b[:, [0, -1]], b[:, :, [0, -1]])]
    if np.median(np.concatenate(border)) > WHITE / 2:
        notes.append("their border is light, so they are inverted: light on black, as MNIST")
        blocks = [WHITE - block for block in blocks]
    if sizes == [(SIDE, SIDE)]:
        return np.concatenate(blocks)
    shown = "x".join(map(str, sizes[0]))
    shown += f" to {'x'.join(map(str, sizes[-1]))}" if len(sizes) > 1 else ""
    if not resize and max(max(size) for size in sizes) > SIDE:
        raise InputError(
            f"{path}: expected pictures of at most {SIDE}x{SIDE} pixels, got {shown}; "
            "data.resize=true makes them fit"
        )
    done = f"resized to fit {SIDE}x{SIDE}" if resize else f"placed in the middle of {SIDE}x{SIDE}"
    notes.append(f"pictures of {shown} are {done}")
    return np.concatenate([_fit(block, resize) for block in blocks])


def _grey(images: Any, path: Path, notes: list[str]) -> list[NDArray[Any]]:
    """Blocks (n, h, w) of pictures of one size, in order."""
    if isinstance(images, list):
        if len({image.shape for image in images}) > 1:
            return [block for image in images for block in _grey(image[None], path, notes)]
        images = np.stack(images)
    shape = images.shape
    if images.ndim == 2 and round(shape[1] ** 0.5) ** 2 == shape[1]:
        side = round(shape[1] ** 0.5)
        images = images.reshape(-1, side, side)
    if images.ndim == 4 and shape[-1] == 1:
        images = images[..., 0]
    if images.ndim == 4 and shape[-1] == 3:
        images = images @ np.array(LUMINANCE)
        note = "colours are turned to grey by their luminance"
        notes += [note] if note not in notes else []
    if images.ndim != 3 or images.dtype.kind not in "buif" or not images.size:
        raise InputError(
            f"{path}: expected pictures (n, h, w), (n, h, w, 1), (n, h, w, 3) or (n, h * w), got "
            f"{images.dtype} {shape}; reshape them"
        )
    return [images]


def _in_bytes(blocks: list[NDArray[Any]], path: Path, notes: list[str]) -> list[Array]:
    """The blocks in uint8, 0-255."""
    low, high = min(float(b.min()) for b in blocks), max(float(b.max()) for b in blocks)
    if not (low >= 0 and 0 < high <= WHITE):  # NaN is neither
        raise InputError(
            f"{path}: expected pixels of 0-255 or 0-1, got {low:g} to {high:g}; scale them"
        )
    if high <= 1:
        notes.append("pixels of 0-1 are multiplied by 255")
        return [np.round(WHITE * block.astype(np.float64)).astype(np.uint8) for block in blocks]
    if high < WHITE / 4:
        logger.warning(f"{path}: the brightest pixel is {high:g} of 255: are they scaled to 0-255?")
    return [block.round().astype(np.uint8) for block in blocks]


def _fit(block: Array, resize: bool) -> Array:
    if resize:
        from mnist_exp.pictures.preprocess import resized

        block = np.stack([resized(image, SIDE) for image in block])
    placed = np.zeros((len(block), SIDE, SIDE), np.uint8)
    height, width = block.shape[1:]
    top, left = (SIDE - height) // 2, (SIDE - width) // 2
    placed[:, top : top + height, left : left + width] = block
    return placed


def _check_parts(arrays: Arrays, path: Path, classes: tuple[str, ...]) -> None:
    """Warn of classes that cannot be learned or scored, and of test pictures seen in training."""
    for part, what in (("train", "training"), ("test", "test")):
        labels = arrays[f"y_{part}"]
        if not len(labels):
            raise InputError(f"{path}: no {what} picture is left; change data.test_split")
        if missing := [n for k, n in enumerate(classes) if k not in labels]:
            logger.warning(f"{path}: no {what} picture of {shown(missing)}")
    seen = {image.tobytes() for image in arrays["x_train"]}
    leaked = sum(image.tobytes() in seen for image in arrays["x_test"])
    if leaked:
        logger.warning(
            f"{path}: {leaked:,} of {len(arrays['x_test']):,} test pictures are training pictures, "
            "too: the test scores are too high"
        )
