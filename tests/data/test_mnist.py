"""Files and folders: MNIST is returned whole, anything else is refused by name."""

import gzip
import hashlib
import io
import os
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from small_mnist import npz, same, unreadable, use_small_mnist

from mnist_exp.core.errors import InputError
from mnist_exp.data import mnist
from mnist_exp.data.mnist import Array, Arrays
from mnist_exp.data.sources import locate

pytestmark = pytest.mark.filterwarnings("error")  # an unclosed file is a fault
ADVICE = "try another"


@pytest.fixture(autouse=True)
def arrays(monkeypatch: pytest.MonkeyPatch) -> Arrays:
    return use_small_mnist(monkeypatch)


def md5(key: str) -> str:
    return next(official.md5 for official in mnist.MNIST if official.key == key)


def idx(array: Array) -> bytes:
    """The idx format from its description: 0, 0, the type 8, the axes, their lengths, the bytes."""
    lengths = b"".join(n.to_bytes(4, "big") for n in array.shape)
    return bytes([0, 0, 8, array.ndim]) + lengths + array.tobytes()


def folder(path: Path, arrays: Arrays, name: Callable[[str], str] = str) -> Path:
    for official in mnist.MNIST:
        file = path / name(official.file)
        file.parent.mkdir(parents=True, exist_ok=True)
        content = idx(arrays[official.key])
        file.write_bytes(gzip.compress(content) if file.suffix == ".gz" else content)
    return path


def read(path: Path) -> Arrays:
    return mnist.read(locate(path, ADVICE), ADVICE)


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as error:
        read(path)
    message = str(error.value)
    assert message.startswith(str(path))
    assert message.endswith(ADVICE)
    assert "\n" not in message
    return message


def test_an_npz_is_read_as_it_was_saved(tmp_path: Path, arrays: Arrays) -> None:
    found = read(npz(tmp_path / "m.npz", arrays))
    assert same(found, arrays)
    assert {array.dtype for array in found.values()} == {np.dtype(np.uint8)}


@pytest.mark.parametrize(
    "name",
    [
        str,
        "{}.gz".format,
        lambda n: n.replace("-idx", ".idx"),
        lambda n: n.replace("-idx", ".idx") + ".gz",
        lambda n: f"{n}/{n}",
        lambda n: f"{n}/{n}".replace("-idx", ".idx"),
        "MNIST/raw/{}".format,
        "raw/{}.gz".format,
    ],
    ids=["plain", "gz", "dot", "dot-gz", "kaggle", "kaggle-dot", "torchvision", "its-MNIST"],
)
def test_a_folder_of_idx_files_is_read_under_every_usual_name(
    tmp_path: Path, arrays: Arrays, name: Callable[[str], str]
) -> None:
    assert same(read(folder(tmp_path / "idx", arrays, name)), arrays)


def test_the_digest_is_that_of_the_uncompressed_idx_file(arrays: Arrays) -> None:
    assert mnist.idx_md5(arrays["x_test"]) == hashlib.md5(idx(arrays["x_test"])).hexdigest()
    fortran = np.asfortranarray(arrays["x_test"])
    assert mnist.idx_md5(fortran) == mnist.idx_md5(arrays["x_test"])


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    assert "no such file or folder" in refusal(tmp_path / "absent.npz")


def test_one_changed_label_is_refused_with_both_digests(tmp_path: Path, arrays: Arrays) -> None:
    changed = arrays | {"y_train": arrays["y_train"] ^ np.eye(1, 20, 7, dtype=np.uint8)[0]}
    seen = mnist.idx_md5(changed["y_train"])
    expected = f"train-labels-idx1-ubyte (y_train) has md5 {seen}, expected {md5('y_train')}"
    assert expected in refusal(npz(tmp_path / "m.npz", changed))
    assert seen in refusal(folder(tmp_path / "idx", changed))


def test_swapped_splits_are_named(tmp_path: Path, arrays: Arrays) -> None:
    swapped = arrays | {"x_train": arrays["x_test"], "x_test": arrays["x_train"]}
    expected = (
        f"train-images-idx3-ubyte (x_train) has md5 {md5('x_test')}, expected {md5('x_train')} "
        "(that is t10k-images-idx3-ubyte: the files are swapped)"
    )
    assert expected in refusal(npz(tmp_path / "m.npz", swapped))
    assert expected in refusal_in(folder(tmp_path / "idx", swapped), "train-images-idx3-ubyte")


def test_images_in_the_place_of_labels_are_named(tmp_path: Path, arrays: Arrays) -> None:
    swapped = arrays | {"y_test": arrays["x_train"]}
    expected = "(that is train-images-idx3-ubyte: the files are swapped)"
    assert expected in refusal(npz(tmp_path / "m.npz", swapped))
    assert expected in refusal_in(folder(tmp_path / "idx", swapped), "t10k-labels-idx1-ubyte")


def refusal_in(directory: Path, file: str) -> str:
    message = refusal(directory)
    assert message.startswith(f"{directory / file}: {file}")
    return message


@pytest.mark.parametrize("fraction", [0.0, 0.5, 0.99])
def test_a_truncated_npz_is_refused_with_its_digest(
    tmp_path: Path, arrays: Arrays, fraction: float
) -> None:
    path = npz(tmp_path / "m.npz", arrays)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * fraction)])
    message = refusal(path)
    assert re.search("got a file of sha256 [0-9a-f]{64} ", message)
    assert mnist.SHA256 in message


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("y_test", np.array([{}] * 10), "y_test is object"),
        ("x_test", np.zeros((10, 28, 28), np.float32), "x_test is float32"),
        ("x_train", np.zeros((20, 784), np.uint8), "(20, 784) instead of (20, 28, 28)"),
    ],
)
def test_an_array_of_another_kind_is_refused(
    tmp_path: Path, arrays: Arrays, key: str, value: np.ndarray, reason: str
) -> None:
    assert reason in refusal(npz(tmp_path / "m.npz", arrays | {key: value}))


def test_other_names_in_the_npz_are_listed(tmp_path: Path, arrays: Arrays) -> None:
    renamed = {key.replace("x", "images"): array for key, array in arrays.items()}
    assert "expected x_train in it, there is ['images_train'" in refusal(
        npz(tmp_path / "m.npz", renamed)
    )


def test_a_header_that_claims_a_petabyte_allocates_no_memory(tmp_path: Path) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"shape": (10**15,), "fortran_order": False, "descr": "|u1"}
    )
    with zipfile.ZipFile(tmp_path / "m.npz", "w") as archive:
        archive.writestr("x_train.npy", header.getvalue())
    assert "x_train is uint8 (1000000000000000,)" in refusal(tmp_path / "m.npz")


def test_a_large_file_is_not_read_to_be_refused(tmp_path: Path) -> None:
    (tmp_path / "m.npz").touch()
    os.truncate(tmp_path / "m.npz", mnist.LARGEST + 1)  # a hole, which takes no room
    assert "got a file of 67,108,865 bytes" in refusal(tmp_path / "m.npz")


def test_the_official_arrays_are_not_too_large() -> None:
    assert mnist.LARGEST > 70_000 * (28 * 28 + 1)


def test_a_file_that_may_not_be_read_is_refused(tmp_path: Path, arrays: Arrays) -> None:
    with unreadable(npz(tmp_path / "m.npz", arrays)) as path:
        assert "Permission denied" in refusal(path)


def test_a_folder_that_may_not_be_opened_is_refused(tmp_path: Path, arrays: Arrays) -> None:
    with unreadable(folder(tmp_path / "idx", arrays)) as path:
        assert "no permission to look into this folder" in refusal(path)


def test_a_loop_of_links_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    assert "no such file or folder" in refusal(tmp_path / "a")


def test_numpy_s_advice_to_trust_the_file_is_left_out(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "m.npz", "w") as archive:
        archive.writestr("x_train.npy", b"\x93NUMPY\x01\x00" + b"\xff\xff" + bytes(2**16))
    assert "allow_pickle" not in refusal(tmp_path / "m.npz")


def test_an_idx_file_given_instead_of_its_folder_is_refused(tmp_path: Path, arrays: Arrays) -> None:
    path = folder(tmp_path / "idx", arrays) / "train-images-idx3-ubyte"
    assert "or a folder with the four idx files" in refusal(path)


def test_a_missing_idx_file_is_named(tmp_path: Path, arrays: Arrays) -> None:
    path = folder(tmp_path / "idx", arrays)
    (path / "t10k-labels-idx1-ubyte").unlink()
    assert "expected t10k-labels-idx1-ubyte or t10k-labels-idx1-ubyte.gz" in refusal(path)


@pytest.mark.parametrize("name", ["mnist.npz", "datasets/mnist.npz"])
def test_a_folder_with_the_archive_is_read(tmp_path: Path, arrays: Arrays, name: str) -> None:
    (tmp_path / "datasets").mkdir()
    npz(tmp_path / name, arrays)
    assert same(read(tmp_path), arrays)


def test_a_folder_of_something_else_is_refused_with_what_is_there(tmp_path: Path) -> None:
    for name in ("mnist/3.0.1", "downloads", "FashionMNIST/raw"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "train.csv").touch()
    assert (
        "expected the four idx files, such as train-images-idx3-ubyte (plain or .gz), in it or in "
        "MNIST/raw below, or mnist.npz; there is ['FashionMNIST', 'downloads', 'mnist', 'train.csv"
    ) in refusal(tmp_path)


@pytest.mark.parametrize("name", [str, "{}.gz".format], ids=["plain", "gz"])
def test_a_truncated_idx_file_is_refused(
    tmp_path: Path, arrays: Arrays, name: Callable[[str], str]
) -> None:
    path = folder(tmp_path / "idx", arrays, name)
    file = path / name("t10k-images-idx3-ubyte")
    file.write_bytes(file.read_bytes()[:-9])
    message = refusal(path)
    assert message.startswith(f"{file}: t10k-images-idx3-ubyte (x_test) has md5 ")
    assert "7,847 bytes instead of 7,856" in message or "ended before" in message


def test_a_wrong_idx_header_is_refused(tmp_path: Path, arrays: Arrays) -> None:
    path = folder(tmp_path / "idx", arrays)
    file = path / "t10k-labels-idx1-ubyte"
    file.write_bytes(file.read_bytes().replace((10).to_bytes(4, "big"), b"\xff\xff\xff\xff", 1))
    assert "t10k-labels-idx1-ubyte (y_test) has md5" in refusal(path)


def test_a_gzip_bomb_is_not_unpacked(tmp_path: Path, arrays: Arrays) -> None:
    path = folder(tmp_path / "idx", arrays, "{}.gz".format)
    (path / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(bytes(50_000_000), 1))
    largest = len(idx(arrays["x_train"]))
    assert f"({largest + 1:,} bytes instead of 18)" in refusal(path)


@pytest.mark.parametrize("seed", range(100))
def test_a_flipped_bit_is_refused_or_changes_nothing(
    seed: int, tmp_path: Path, arrays: Arrays
) -> None:
    """It changes nothing where it is in a date, say."""
    random = np.random.default_rng(seed)
    if seed % 2:
        path = file = npz(tmp_path / "m.npz", arrays)
    else:
        path = folder(tmp_path / "idx", arrays, "{}.gz".format)
        file = random.choice(sorted(path.iterdir()))
    content = bytearray(file.read_bytes())
    content[random.integers(len(content))] ^= 1 << random.integers(8)
    file.write_bytes(content)
    try:
        found = read(path)
    except InputError:
        assert refusal(path)
    else:
        assert same(found, arrays)
