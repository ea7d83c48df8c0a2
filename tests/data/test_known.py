"""Data sets known by name: found, downloaded, verified; made files and digests on loopback."""

import gzip
import hashlib
import io
import struct
import zipfile
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from small_mnist import serving
from support import Command

from mnist_exp.config.compose import compose
from mnist_exp.config.data import DataConfig
from mnist_exp.core.errors import InputError
from mnist_exp.data import known
from mnist_exp.data.dataset import Dataset, load_dataset

IMAGES = np.random.default_rng(0).integers(0, 256, (40, 28, 28), dtype=np.uint8)
LABELS = np.arange(40, dtype=np.uint8) % 10


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty Keras cache, and no way to a proxy."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return tmp_path / "keras" / "datasets"


def idx(array: np.ndarray, kind: int = 8) -> bytes:
    header = bytes([0, 0, kind, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return gzip.compress(header + array.tobytes())


def npz(array: np.ndarray) -> bytes:
    np.savez(file := io.BytesIO(), array)
    return file.getvalue()


def archive(name: str, labels: np.ndarray) -> bytes:
    contents = [idx(IMAGES.transpose(0, 2, 1).copy()), idx(labels)] * 2
    with zipfile.ZipFile(file := io.BytesIO(), "w") as written:
        for member, content in zip(known.KNOWN[name].members, contents, strict=True):
            written.writestr(member, content)
    return file.getvalue()


def contents(name: str) -> list[bytes]:
    """Small files in the form of the official ones."""
    if name.startswith("emnist"):
        return [archive(name, LABELS + (name == "emnist_letters"))]
    if name == "k49":
        return [npz(IMAGES), npz(LABELS)] * 2
    wide = np.stack([LABELS, LABELS + 7], axis=1).astype(">i4")
    return [idx(IMAGES), idx(wide, 12) if name == "qmnist" else idx(LABELS)] * 2


def make_official(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Files of this content in the folder, whose digests are the official ones for this test."""
    files = dict(zip(known.KNOWN[name].md5, contents(name), strict=True))
    folder.mkdir(parents=True)
    for file, content in files.items():
        (folder / file).write_bytes(content)
    md5 = {file: hashlib.md5(content).hexdigest() for file, content in files.items()}
    monkeypatch.setitem(known.KNOWN, name, known.KNOWN[name]._replace(md5=md5))
    return files


def load(name: str, *overrides: str) -> Dataset:
    return load_dataset(compose([f"data={name}", "data.validation_split=0", *overrides]).data)


def test_the_config_knows_them_all() -> None:
    names = get_args(DataConfig.model_fields["name"].annotation)
    assert set(names) == {"mnist", "mnist5k", *known.KNOWN}
    sizes = {name: len(each.classes) for name, each in known.KNOWN.items()}
    assert sizes == dict.fromkeys(sizes, 10) | {
        "k49": 49, "emnist_letters": 26, "emnist_balanced": 47,
    }  # fmt: skip
    assert all(len({*each.classes}) == len(each.classes) for each in known.KNOWN.values())


@pytest.mark.parametrize("name", known.KNOWN)
def test_the_official_files_are_found_in_a_folder_and_read(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_official(name, tmp_path / "root" / "raw", monkeypatch)
    found = load(name, f"data.path={tmp_path / 'root'}")
    assert np.array_equal(found.train_images, IMAGES)
    assert np.array_equal(found.test_labels, LABELS)
    assert (found.name, found.classes) == (name, tuple(known.KNOWN[name].classes))
    assert found.label == known.KNOWN[name].title


def test_they_are_downloaded_once_and_verified(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [content] = make_official("emnist_letters", tmp_path / "served", monkeypatch).values()
    with serving(content) as server:
        address = server.url.removesuffix("mnist.npz")
        ours = known.KNOWN["emnist_letters"]._replace(url=address)
        monkeypatch.setitem(known.KNOWN, "emnist_letters", ours)
        server.body = content + b"more"
        with pytest.raises(
            InputError, match=r"gzip\.zip: md5 \w+ came, expected \w+; the download"
        ):
            load("emnist_letters")
        assert not list(cache.glob("emnist/gzip.zip"))
        server.body = content
        assert load("emnist_letters").source == str(cache / "emnist")
        load("emnist_letters")
        assert server.requests == 2
    (cache / "emnist" / "gzip.zip").unlink()
    with pytest.raises(InputError, match=r"could not be downloaded .*data\.path=\.\.\.$"):
        load("emnist_letters")


def test_other_or_missing_files_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "raw"
    make_official("kmnist", folder, monkeypatch)
    (folder / "t10k-labels-idx1-ubyte.gz").write_bytes(b"other")
    with pytest.raises(InputError, match=r"labels.*expected the official file of Kuzushiji-MNIST"):
        load("kmnist", f"data.path={folder}")
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(InputError, match=r"raw: expected t10k-labels-idx1-ubyte\.gz of Kuzushiji"):
        load("kmnist", f"data.path={folder}")


@pytest.mark.slow
def test_the_command_lists_counts_and_checks(
    command: Command, cache: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MNIST_PATH", raising=False)
    make_official("fashion_mnist", cache / "fashion-mnist", monkeypatch)
    code, out, _ = command("data", "--check")
    assert code == 0
    assert "fashion_mnist" in out
    assert out.count("verified") == 2  # with the bundled digits
    (cache / "fashion-mnist" / "t10k-labels-idx1-ubyte.gz").write_bytes(b"other")
    code, out, _ = command("data", "--check")
    assert (code, "expected the official file of Fashion-MNIST" in out) == (1, True)
    code, out, _ = command("data", "mnist5k", "data.limit=1000", "--sheet", "sheet.png")
    assert code == 0
    assert "the bundled 5,000 digits limited to 1,000 training images: bundled with" in out
    assert out.splitlines()[-2].split() == ["all", "900", "100", "1,000"]
    assert (workplace / "sheet.png").stat().st_size > 1000
    assert command("data", "--sheet", "x.png")[0] == 2
    assert command("data", "fashon")[0] == 2
