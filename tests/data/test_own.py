"""Data of one's own: every form that is read, what is done to it, what is told, what is refused."""

import gzip
import io
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet
from small_mnist import npz, same, use_small_mnist

from mnist_exp.config.compose import compose
from mnist_exp.config.data import DataConfig, OwnDataConfig
from mnist_exp.core.errors import InputError
from mnist_exp.data.dataset import Dataset, load_dataset
from mnist_exp.data.own import picture_reader

N, RANDOM = 30, np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (N, 28, 28), dtype=np.uint8)
IMAGES[:, [0, -1]] = IMAGES[:, :, [0, -1]] = 0
LABELS = np.arange(N) % 3
Data = dict[str, Any]


def own(path: Path, **changes: Any) -> OwnDataConfig:
    values: Data = {"name": "own", "path": str(path), "validation_split": 0.0}
    if not {"test_split", "test_path"} & changes.keys():
        values["test_split"] = 0.2
    return OwnDataConfig.model_validate(values | changes)


def load(path: Path, **changes: Any) -> Dataset:
    return load_dataset(own(path, **changes))


def images_of(dataset: Dataset) -> set[bytes]:
    return {image.tobytes() for image in (*dataset.train_images, *dataset.test_images)}


@pytest.fixture
def given(tmp_path: Path) -> Callable[..., Path]:
    """Writes images and labels as an .npz."""

    def write(images: Any = IMAGES, labels: Any = LABELS, **more: Any) -> Path:
        path = tmp_path / "made.npz"
        np.savez(path, images=images, labels=labels, **more)
        return path

    return write


def write_idx(path: Path, array: np.ndarray) -> None:
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    content = header + array.astype(np.uint8).tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def write_csv(path: Path, *, header: bool = True) -> None:
    names = "label," + ",".join(f"pixel{k}" for k in range(784))
    rows = [f"{k}," + ",".join(map(str, x.ravel())) for k, x in zip(LABELS, IMAGES, strict=True)]
    path.write_text("\n".join([names, *rows] if header else rows) + "\n")


def write_parquet(path: Path, names: list[str]) -> None:
    contents = [{"bytes": png(image), "path": None} for image in IMAGES]
    table = pyarrow.table({"image": contents, "label": LABELS})
    about = {"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}}}}
    parquet.write_table(table.replace_schema_metadata({"huggingface": json.dumps(about)}), path)


def test_every_form_of_the_same_pictures_is_the_same_data(
    tmp_path: Path, given: Callable[..., Path]
) -> None:
    write_csv(tmp_path / "kaggle.csv")
    write_csv(tmp_path / "headless.csv", header=False)
    write_parquet(tmp_path / "hub.parquet", [])
    (tmp_path / "packed.csv.gz").write_bytes(gzip.compress((tmp_path / "kaggle.csv").read_bytes()))
    found = [
        load(given(), classes=["a", "b", "c"]),
        load(given(IMAGES / 255, LABELS[:, None].astype(float)), classes=["a", "b", "c"]),
        load(given(IMAGES.reshape(N, 784), LABELS + 1), classes=["a", "b", "c"]),
        load(given(IMAGES[..., None], np.array(["a", "b", "c"])[LABELS])),
        load(given(np.repeat(IMAGES[..., None], 3, -1)), classes=["a", "b", "c"]),
        load(given(255 - IMAGES), classes=["a", "b", "c"]),
        *(
            load(tmp_path / name, classes=["a", "b", "c"])
            for name in ("kaggle.csv", "headless.csv", "packed.csv.gz", "hub.parquet")
        ),
    ]
    assert {each.digest for each in found} == {found[0].digest}
    assert found[0].classes == ("a", "b", "c")
    assert images_of(found[0]) == {image.tobytes() for image in IMAGES}
    assert [each.name for each in found[-4:]] == [
        "own:kaggle", "own:headless", "own:packed", "own:hub",
    ]  # fmt: skip
    assert load(given()).digest != found[0].digest  # other names are other data


def test_the_test_part_is_the_files_or_named_or_split_off_by_class(
    tmp_path: Path, given: Callable[..., Path]
) -> None:
    whole = tmp_path / "whole.npz"
    np.savez(
        whole, x_train=IMAGES[:20], y_train=LABELS[:20], x_test=IMAGES[20:], y_test=LABELS[20:]
    )
    folder = tmp_path / "idx" / "MNIST" / "raw"
    write_idx(folder / "train-images-idx3-ubyte.gz", IMAGES[:20])
    write_idx(folder / "train-labels.idx1-ubyte", LABELS[:20])
    write_idx(folder / "t10k-images-idx3-ubyte", IMAGES[20:])
    write_idx(folder / "t10k-images-idx3-ubyte.gz", IMAGES[20:])  # unpacked beside its archive
    write_idx(folder / "t10k-labels-idx1-ubyte.gz", LABELS[20:])
    found = [load(path, test_split=None) for path in (whole, tmp_path / "idx")]
    assert np.array_equal(found[0].test_images, IMAGES[20:])
    assert np.array_equal(found[0].test_labels, LABELS[20:])
    assert found[0].digest == found[1].digest
    named = load(whole, test_path=str(given(IMAGES[:6], LABELS[:6])))
    assert np.array_equal(named.test_images, IMAGES[:6])
    split = load(given(), test_split=0.3)
    assert sorted(split.test_labels) == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert not images_of(split) - {image.tobytes() for image in IMAGES}
    assert (len(split.train_images), len(split.test_images)) == (21, 9)
    assert np.array_equal(split.test_images, load(given(), test_split=0.3).test_images)


@pytest.mark.parametrize("resize", [False, True])
def test_smaller_pictures_are_placed_in_the_middle_unless_resized(
    given: Callable[..., Path], caplog: pytest.LogCaptureFixture, resize: bool
) -> None:
    caplog.set_level("INFO")
    small = np.zeros((N, 8, 6), np.uint8)
    small[:, 1:7, 1:5] = 200
    image = load(given(small), resize=resize).train_images[0]
    rows, columns = np.nonzero(image.max(axis=1))[0], np.nonzero(image.max(axis=0))[0]
    height = 28 if resize else 8
    assert abs(len(rows) - height * 6 / 8) <= (4 if resize else 0)
    assert abs(rows.mean() - 13.5) <= 0.5
    assert abs(columns.mean() - 13.5) <= 0.5
    assert f"pictures of 8x6 are {'resized' if resize else 'placed'}" in caplog.text


def test_a_folder_of_pictures_per_class_is_read_as_predict_reads_them(
    tmp_path: Path, digits: Dataset, caplog: pytest.LogCaptureFixture
) -> None:
    for part, first in (("train", 0), ("test", 20)):
        for k, image in enumerate(digits.train_images[first : first + 20]):
            folder = tmp_path / "pictures" / part / ("even", "odd")[k % 2]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(folder / f"{k}.png")
    Image.new("L", (40, 40)).save(tmp_path / "pictures" / "train" / "odd" / "blank.png")
    (tmp_path / "pictures" / "train" / "none").mkdir()
    found = load(tmp_path / "pictures", test_split=None)
    assert (found.name, found.classes) == ("own:pictures", ("even", "odd"))
    assert found.counts() == {"train_images": 20, "validation_images": 0, "test_images": 20}
    assert images_of(found) == {image.tobytes() for image in digits.train_images[:40]}
    assert "none: no picture in it, so it is left out as a class" in caplog.text
    assert "1 pictures are left out, such as" in caplog.text


def test_labels_stay_with_their_pictures(given: Callable[..., Path]) -> None:
    texts = np.array(["b", "c", "a"])[LABELS]
    truth = {x.tobytes(): text for x, text in zip(IMAGES, texts, strict=True)}
    for labels, names in (
        (texts, None),
        (texts, ["c", "a", "b"]),
        (LABELS + 3, ["b", "c", "a"]),
        (LABELS, ["b", "c", "a", "d"]),
    ):
        found = load(given(IMAGES, labels), classes=names)
        assert found.classes == tuple(names or "abc")
        named = [found.classes[label] for label in (*found.train_labels, *found.test_labels)]
        images = [x.tobytes() for x in (*found.train_images, *found.test_images)]
        assert named == [truth[image] for image in images]


def test_a_folder_of_small_pictures_is_taken_as_it_is(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    small = random.integers(150, 256, (12, 8, 8), dtype=np.uint8)
    small[:, 2:6, 3:5] = 0
    for k, image in enumerate(small):
        (tmp_path / "ab"[k % 2]).mkdir(exist_ok=True)
        Image.fromarray(image).save(tmp_path / "ab"[k % 2] / f"{k}.png")
    for resize in (False, True):
        found = load(tmp_path, test_split=0.5, resize=resize)
        assert (len(found.train_images), found.classes) == (6, ("a", "b"))
        read = picture_reader(own(tmp_path, resize=resize))
        [pixels] = [read((tmp_path / "a" / "0.png").read_bytes(), "0.png").pixels]
        assert pixels is not None
        assert pixels.tobytes() in images_of(found)  # predict gives the model the same
    assert read(png(np.zeros((8, 8), np.uint8)), "black.png").pixels is None


def png(image: np.ndarray) -> bytes:
    Image.fromarray(image).save(file := io.BytesIO(), "PNG")
    return file.getvalue()


def test_what_was_done_is_told(
    given: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    load(given(1 - IMAGES[:, 1:-1, 1:-1] / 255, LABELS * 2 + 1))
    for words in (
        "pixels of 0-1 are multiplied by 255",
        "their border is light, so they are inverted",
        "pictures of 26x26 are placed in the middle of 28x28",
        "labels are 1 to 5, so they are numbered anew from 0",
    ):
        assert words in caplog.text
    load(given(IMAGES // 16))
    assert "the brightest pixel is 15 of 255" in caplog.text


def test_test_pictures_seen_in_training_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    parts = {"x_train": IMAGES[:20], "y_train": LABELS[:20], "x_test": IMAGES[18:]}
    np.savez(tmp_path / "leak.npz", **parts, y_test=LABELS[18:])
    load(tmp_path / "leak.npz", test_split=None)
    assert "2 of 12 test pictures are training pictures, too" in caplog.text


REFUSED: list[tuple[Data, Data, str]] = [
    ({"labels": LABELS * 0}, {}, "expected 2 to 200 classes, got 1"),
    ({"labels": LABELS + 0.5}, {}, "expected labels that are whole numbers or texts, got 0.5"),
    ({"labels": np.eye(3)[LABELS]}, {}, "take numpy.argmax(labels, axis=1)"),
    ({"labels": LABELS[1:]}, {}, "expected a label per picture, got 29 labels of 30 pictures"),
    ({"images": np.zeros((N, 100, 100))+1}, {}, "at most 28x28 pixels, got 100x100; data.resize="),
    ({"images": IMAGES / 127.5 - 1}, {}, "expected pixels of 0-255 or 0-1, got -1 to 1"),
    ({"images": IMAGES * np.nan}, {}, "expected pixels of 0-255 or 0-1, got nan"),
    ({"images": np.zeros((N, 3, 5, 7))}, {}, "expected pictures (n, h, w), (n, h, w, 1)"),
    ({}, {"test_split": None}, "expected a test part; set data.test_split=0.2"),
    ({}, {"classes": ["a", "b"]}, "expected a name for each of the 3 labels"),
    ({}, {"classes": ["a", "b", "a"]}, "each once, got 'a'"),
    ({"labels": np.array(["a", "b", "c"])[LABELS]}, {"classes": ["a", "b", "d"]}, "got a, b, d"),
]  # fmt: skip


@pytest.mark.parametrize(("data", "changes", "sentence"), REFUSED)
def test_unusable_data_is_refused_in_a_sentence(
    given: Callable[..., Path], data: Data, changes: Data, sentence: str
) -> None:
    with pytest.raises(InputError) as error:
        load(given(**data), **changes)
    assert sentence in str(error.value)


def test_unreadable_files_are_refused_in_a_sentence(
    tmp_path: Path, given: Callable[..., Path]
) -> None:
    path = tmp_path / "kaggle.csv"
    write_csv(path)
    lines = path.read_text().splitlines()
    lines[4] = lines[4].replace(",0,", ",,", 1)
    path.write_text("\n".join(lines))
    (tmp_path / "unlabelled.csv").write_text("pixel0,pixel1,pixel2\n1,2,3\n4,5,6\n")
    (tmp_path / "names.csv").write_text("name,label,pixel0,pixel1,pixel2\nann,1,2,3,4\n")
    (tmp_path / "ragged.csv").write_text("label,pixel0\n1,2\n1,2,3\n")
    (tmp_path / "notes.txt").touch()
    (tmp_path / "damaged.npz").write_bytes(b"PK")
    (tmp_path / "damaged.parquet").write_bytes(b"PAR1")
    (tmp_path / "empty").mkdir()
    np.savez(tmp_path / "pickled.npz", images=np.array([{}, None]), labels=LABELS)
    np.savez(tmp_path / "others.npz", a=IMAGES)
    write_idx(tmp_path / "half" / "train-images-idx3-ubyte", IMAGES)
    for name, sentence in {
        "kaggle.csv": "line 5 has no value for pixel",
        "unlabelled.csv": "got 2 columns beside pixel0: pixel1, ...; add or remove columns",
        "names.csv": "got 4 columns beside label: name, ...",
        "ragged.csv": "could not be read (CSV parse error",
        "notes.txt": "expected an .npz, .csv or .parquet file, or a folder",
        "damaged.npz": "could not be read",
        "damaged.parquet": "could not be read",
        "pickled.npz": "could not be read (Object arrays cannot be loaded",
        "others.npz": "expected x_train and y_train, with x_test and y_test, or images and labels",
        "empty": "expected a folder of pictures (.png, .jpg",
        "half": "expected one labels file named after train, there are none",
        "gone.npz": "no such file or folder",
    }.items():
        with pytest.raises(InputError) as error:
            load(tmp_path / name)
        assert str(error.value).startswith(str(tmp_path / name))
        assert sentence in str(error.value)
    with pytest.raises(InputError, match="has a test part; leave it out"):
        load(given(test_images=IMAGES, test_labels=LABELS), test_split=0.2)


def test_mnist_is_still_mnist_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = use_small_mnist(monkeypatch)
    path = npz(tmp_path / "mine.npz", arrays | {"x_train": arrays["x_train"][::-1]})
    values = {"path": str(path), "fallback": "error", "validation_split": 0.0, "limit": None}
    with pytest.raises(InputError, match="not MNIST; other pictures are read with data=own"):
        load_dataset(DataConfig.model_validate({"name": "mnist"} | values))
    assert load(path, test_split=None).name == "own:mine"


def test_the_keys_of_own_data_are_checked() -> None:
    for overrides, sentence in (
        (["data=own"], "data.path: missing"),
        (["data=own", "data.path=a", "data.test_split=2"], "data.test_split: expected a number"),
        (["data=own", "data.path=a", "data.classes=a"], "data.classes: expected a list"),
        (["data=own", "data.path=a", "data.test_path=b", "data.test_split=0.1"], "leave one out"),
        (["data=mnist", "data.test_split=0.1"], "data.test_split: mnist has no such key"),
    ):
        with pytest.raises(InputError, match=sentence):
            compose(overrides)
    config = compose(["data=own", "data.path=~/a=b/c.npz", "data.classes=[1,b]"]).data
    assert isinstance(config, OwnDataConfig)
    assert (config.path, config.classes) == ("~/a=b/c.npz", ("1", "b"))


def test_data_is_read_once_and_a_changed_file_anew(given: Callable[..., Path]) -> None:
    first = load(given())
    assert load(given()).digest == first.digest
    assert load(given(IMAGES[::-1])).digest != first.digest
    assert same({"a": load(given()).train_images}, {"a": first.train_images})
