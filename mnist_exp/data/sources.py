"""What the text of `data.path` means, and which files of MNIST are there."""

import os
import re
from pathlib import Path
from urllib.request import url2pathname

from mnist_exp.core.environment import AROUND
from mnist_exp.core.errors import InputError
from mnist_exp.data import mnist

FOLDERS = ("", "MNIST/raw", "raw", "MNIST", "mnist")  # torchvision's root, and folders below
ARCHIVES = ("mnist.npz", "datasets/mnist.npz")  # the latter below Keras' folder


def understand(text: str) -> str:
    """The absolute path or the web address that is meant; empty for none.

    Raises `InputError` for an address of another kind.
    """
    plain = without_decoration(text)
    return str(Path(plain).absolute()) if plain and not is_web(plain) else plain


def without_decoration(text: str) -> str:
    """The path, perhaps a relative one, or the web address; raises as `understand`."""
    if os.path.exists(text):
        return text
    plain = os.path.expandvars(text.strip(AROUND))
    if is_web(plain):
        return plain
    if match := re.match("file:(//(localhost)?(?=/)|(?!//))", plain, re.IGNORECASE):
        plain = url2pathname(plain[match.end() :])
    elif match := re.match(r"[a-z][\w+.-]+:/", plain, re.IGNORECASE):
        raise InputError(
            f"{plain}: expected a path on this machine or a web address such as https://..., got "
            f"{match[0]}...; copy the data to this machine and give its path with data.path=..."
        )
    return os.path.expanduser(plain)


def is_web(text: str) -> bool:
    """Whether the text is a web address."""
    return text.lower().startswith(("https://", "http://"))


def locate(path: Path, advice: str) -> tuple[Path, ...]:
    """The .npz or the four idx files that the path names, or that are below its folder.

    Raises `InputError`, ending with the advice.
    """
    if os.path.isfile(path):  # Path.is_file may raise
        return (path,)
    if not os.path.isdir(path):
        what = "neither a file nor a folder" if os.path.exists(path) else "no such file or folder"
        raise InputError(f"{path}: {what}; {advice}")
    if not os.access(path, os.X_OK):
        raise InputError(f"{path}: no permission to look into this folder; {advice}")
    for folder in (path / name for name in FOLDERS):
        files = [_idx_file(folder, official.file) for official in mnist.MNIST]
        found = [file for file in files if file]
        if len(found) == len(files):
            return tuple(found)
        if found:
            name = mnist.MNIST[files.index(None)].file
            raise InputError(f"{folder}: expected {name} or {name}.gz in it; {advice}")
    for archive in (path / name for name in ARCHIVES):
        if os.path.isfile(archive):
            return (archive,)
    there = sorted(os.listdir(path))[:8] if os.access(path, os.R_OK) else "no list of it"
    raise InputError(
        f"{path}: expected the four idx files, such as {mnist.MNIST[0].file} (plain or .gz), in it "
        f"or in MNIST/raw below, or mnist.npz; there is {there}; {advice}"
    )


def _idx_file(folder: Path, official: str) -> Path | None:
    """The file under one of its usual names; Kaggle has it in a folder of the same name."""
    for name in (official, official.replace("-idx", ".idx")):
        for path in (folder / name, folder / f"{name}.gz", folder / name / name):
            if os.path.isfile(path):
                return path
    return None
