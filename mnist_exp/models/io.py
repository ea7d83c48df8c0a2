"""Model files: atomic saving, loading in Keras' safe mode."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import shorten
from zipfile import BadZipFile, ZipFile

import keras

from mnist_exp.core.environment import refuse_fork
from mnist_exp.core.errors import InputError
from mnist_exp.models.families import PIXELS

CHOOSE = "choose a run made by python -m mnist_exp.run"
SIGNATURE = [keras.InputSpec("uint8", (None, 28, 28), name=PIXELS)]  # of exported models
MAX_EXPANSION = 20  # times the file's size: Keras does not compress


def save_model(model: keras.Model, path: Path) -> None:
    """Save the model atomically; the suffix is the format, no suffix a SavedModel folder."""
    from absl import logging as absl

    with TemporaryDirectory(dir=path.parent, prefix=".", suffix=".part") as place:
        part = Path(place) / path.name
        if path.suffix:
            verbosity = absl.get_verbosity()
            absl.set_verbosity(absl.ERROR)  # Keras advises against .h5; the user asked for it
            model.save(part)
            absl.set_verbosity(verbosity)
        else:
            model.export(part, verbose=False, input_signature=SIGNATURE)
        if path.is_dir():  # left by the attempt that a resumed run repeats
            shutil.rmtree(path)
        part.replace(path)


def load_model(
    path: Path,
    name: str,
    shapes: Sequence[tuple[int, ...]] = ((28, 28),),
    classes: int | None = 10,
) -> keras.Model:
    """The saved model, loaded in Keras' safe mode: code inside the file is not run.

    Raises `InputError`, which calls the file `name`, for anything but a model of pixels in one of
    these shapes and a score for each of the classes; None stands for any number of them.
    """
    refuse_fork()
    if path.suffix == ".keras":
        _check_archive(path, name)
    try:
        model = keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # any type, for a damaged archive or an unsafe layer
        reason = shorten(str(error), 160, placeholder=" ...")
        raise InputError(
            f"{name}: expected a Keras model that loads in safe mode ({reason}); {CHOOSE}"
        ) from error
    takes, gives = (getattr(model, f"{end}_shape", None) for end in ("input", "output"))
    scores = classes or (gives or (0,))[-1]
    if takes not in [(None, *shape) for shape in shapes] or gives != (None, scores):
        expected = " or ".join(f"(n, {', '.join(map(str, shape))})" for shape in shapes)
        raise InputError(
            f"{name}: expected a model of {expected} pixels and (n, {scores}) scores, got {takes} "
            f"and {gives}; {CHOOSE}"
        )
    return model


def summary(model: keras.Model) -> str:
    """Keras' own table of layers, shapes and parameters."""
    lines: list[str] = []
    model.summary(print_fn=lines.append, line_length=78)
    return "\n".join(lines) + "\n"


def _check_archive(path: Path, name: str) -> None:
    """Raises `InputError` for a pickle, which runs code when opened, and for a zip bomb."""
    try:
        with ZipFile(path) as archive:
            unpacked = sum(file.file_size for file in archive.infolist())
    except (BadZipFile, OSError) as error:
        actual = "one of another kind or a damaged one"
        raise InputError(f"{name}: expected a .keras file, got {actual}; {CHOOSE}") from error
    if unpacked > MAX_EXPANSION * path.stat().st_size:
        actual = f"an archive that would unpack to {unpacked / 2**30:.1f} GiB"
        raise InputError(f"{name}: expected a .keras file, got {actual}; {CHOOSE}")
