"""predict: read the digits on pictures."""

import io
import json
import os
import stat
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from rich.progress import track

from mnist_exp.commands.options import ExperimentOption, RunOption, StoreOption
from mnist_exp.core.classes import noun
from mnist_exp.core.console import TextTable, console, errors
from mnist_exp.core.errors import InputError

if TYPE_CHECKING:
    from mnist_exp.inference.predictor import Prediction
    from mnist_exp.pictures.preprocess import PreprocessedPicture

STDIN = "-"
MAX_SHOWN = 200  # pictures in the figure of --show


def predict(
    pictures: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE...",
            help="PNG, JPEG, BMP, WebP or GIF files, folders of them, or - for stdin.",
        ),
    ],
    run: RunOption = "best",
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    show: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write a picture of what the model saw (PNG)."),
    ] = None,
    experiment: ExperimentOption = "mnist",
    tracking_uri: StoreOption = None,
) -> None:
    """Read the digit, or what the run learned, on each picture, or say why there is none to read.

    The exit code is 2 when a file is no picture; the others are read all the same.
    """
    from mnist_exp.runs.find import find_run

    if show and (show.suffix != ".png" or show.is_dir()):
        raise InputError(f"--show {show}: expected the name of a file, ending in .png")
    found = find_run(run, experiment, tracking_uri)
    names = _names(pictures)
    preprocessed, refused = _preprocess(names, found.picture_reader())
    if len(refused) == len(names) and not as_json:
        raise InputError("\n".join(map(str, refused)))

    from mnist_exp.inference.predictor import Predictor, predictions

    digits = [picture.pixels for picture in preprocessed if picture.pixels is not None]
    none = np.empty((0, len(found.classes)), np.float32)
    probabilities = Predictor(found).probabilities(np.stack(digits)) if digits else none
    results = predictions(names, preprocessed, probabilities, found.classes)
    if as_json:
        typer.echo(json.dumps([asdict(result) for result in results], indent=2))
    else:
        console.print(str(found), markup=False)
        _print(results, noun(found.classes))
    if show and digits:
        read = [result.image for result in results if result.digit is not None]
        _draw(show, np.stack(digits), probabilities, read, f"Read by {found}", found.classes)
    if refused:
        raise InputError(f"{len(refused)} of {len(names)} could not be read as pictures")


def _preprocess(
    names: Sequence[str], read: "Callable[[bytes, str], PreprocessedPicture]"
) -> "tuple[list[PreprocessedPicture], list[InputError]]":
    """A digit, or the reason why there is none, for each file; the errors of those unreadable."""
    from mnist_exp.pictures.preprocess import PreprocessedPicture

    preprocessed, refused = [], []
    for name in track(names, "reading", console=errors, transient=True, disable=len(names) < 50):
        try:
            preprocessed.append(read(_content(name), name))
        except InputError as error:
            refused.append(error)
            reason = str(error).removeprefix(f"{name}: ")
            preprocessed.append(PreprocessedPicture(None, reason))
    return preprocessed, refused


def _print(results: "Sequence[Prediction]", noun: str) -> None:
    rows = [_row(result) for result in results if result.digit is not None]
    if rows:
        console.print(TextTable(["image", noun, "probability", "second choice"], rows))
    for result in results:
        if result.note:
            console.print(f"{result.image}: {result.note}", markup=False)


def _draw(
    path: Path,
    digits: np.ndarray,
    probabilities: np.ndarray,
    names: Sequence[str],
    title: str,
    classes: Sequence[str],
) -> None:
    """Write the figure of `--show`, of the first `MAX_SHOWN` pictures that were read."""
    from mnist_exp import plots
    from mnist_exp.core.files import write_file

    if names[MAX_SHOWN:]:
        title += f", the first {MAX_SHOWN} of {len(names)}"
    first = slice(MAX_SHOWN)
    shown = digits[first], probabilities[first], names[first]
    figure = plots.preprocessed_pictures(*shown, title, classes)
    figure.savefig(png := io.BytesIO())
    write_file(path, png.getvalue(), "--show")


def _names(pictures: Sequence[str]) -> list[str]:
    """The paths of the pictures, those in folders included; raises `InputError`."""
    from mnist_exp.pictures.decode import FORMATS

    suffixes = tuple(suffix for of_format in FORMATS.values() for suffix in of_format)
    names = []
    for picture in pictures:
        try:
            if not os.path.isdir(picture):
                names.append(picture)
                continue
            files = [file for file in os.listdir(picture) if file.lower().endswith(suffixes)]
        except OSError as error:
            raise InputError(f"{picture}: {error.strerror}; give another folder") from error
        if not files:
            raise InputError(
                f"{picture}: expected pictures in this folder ({', '.join(suffixes)}), found none"
            )
        names += [os.path.join(picture, file) for file in sorted(files)]
    return names


def _content(name: str) -> bytes:
    """The file's bytes, up to one more than a picture may have; raises `InputError`."""
    from mnist_exp.pictures.decode import MAX_BYTES

    limit = MAX_BYTES + 1
    if name == STDIN:
        return sys.stdin.buffer.read(limit)
    try:
        if not stat.S_ISREG(Path(name).stat().st_mode):  # a pipe may never end
            raise InputError(f"{name}: expected a file; send what it gives to predict -")
        with Path(name).open("rb") as file:
            return file.read(limit)
    except OSError as error:
        raise InputError(f"{name}: {error.strerror}; give the path of a picture") from error


def _row(result: "Prediction") -> list[str]:
    probability = result.probability or 0
    percent = ">99.9 %" if probability > 0.999 else f"{100 * probability:.1f} %"
    return [result.image, str(result.digit), percent, str(result.second)]
