"""predict, as typed: tables and JSON for pictures, folders and stdin."""

import io
import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from support import Command

from mnist_exp.data.dataset import Dataset
from mnist_exp.deployment.server import WEB
from mnist_exp.pictures.decode import FORMATS
from mnist_exp.runs.find import resolve_run
from mnist_exp.runs.folder import RunResult
from mnist_exp.runs.search import store_config

Recorded = dict[str, RunResult]
RUN = ("--run", "dense128 seed=0")


@pytest.fixture
def pictures(workplace: Path, digits: Dataset) -> Path:
    """A folder of three digits, a blank page and a text file."""
    folder = workplace / "pictures"
    folder.mkdir()
    for number in range(3):
        Image.fromarray(digits.test_images[number]).save(folder / f"{number}.PNG")
    Image.new("L", (100, 100), 255).save(folder / "blank.gif")
    (folder / "notes.txt").write_text("no picture")
    return folder


def test_the_help_and_the_page_name_every_format(command: Command) -> None:
    help_text, page = command("predict", "--help")[1], (WEB / "index.html").read_text()
    for name in FORMATS:
        assert name in help_text
        assert f"image/{name.lower()}" in page


def test_a_picture_of_a_digit_is_predicted_as_its_pixels_are(
    recorded: Recorded, command: Command, pictures: Path
) -> None:
    code, out, err = command("predict", *RUN, "--json", "pictures")
    assert (code, err) == (0, "")
    results = json.loads(out)
    assert [result["image"] for result in results] == [
        "pictures/0.PNG",
        "pictures/1.PNG",
        "pictures/2.PNG",
        "pictures/blank.gif",
    ]
    run = resolve_run(RUN[1], store_config())
    expected = run.evaluation().at_temperature(run.temperature()).probabilities
    for result, probabilities in zip(results, expected[:3], strict=False):
        assert result["probability"] == pytest.approx(probabilities.max(), abs=1e-6)
        assert [result["second"], result["digit"]] == list(probabilities.argsort()[-2:])
        assert result["note"] == ""
    assert results[3] == {
        "image": "pictures/blank.gif",
        "digit": None,
        "probability": None,
        "second": None,
        "note": "no digit found: the picture is blank, too faint or too noisy; "
        "write larger or darker",
    }


def test_notes_are_printed_below_the_table_and_show_writes_a_figure(
    recorded: Recorded, command: Command, pictures: Path
) -> None:
    code, out, _ = command("predict", *RUN, "pictures", "--show", "new/seen.png")
    assert code == 0
    assert "second choice" in out
    assert "\npictures/blank.gif: no digit found" in out
    assert Image.open(pictures.parent / "new/seen.png").size[0] == 1110


def test_stdin_is_read(
    recorded: Recorded, command: Command, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = (pictures / "0.PNG").read_bytes()
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content)))
    code, out, _ = command("predict", *RUN, "--json", "-")
    assert code == 0
    assert json.loads(out)[0]["digit"] in range(10)


def test_a_broken_picture_does_not_stop_the_others(
    recorded: Recorded, command: Command, pictures: Path
) -> None:
    (pictures / "broken.jpg").write_bytes(b"\xff\xd8\xff broken")
    code, out, err = command("predict", *RUN, "pictures")
    assert code == 2
    assert " pictures/2.PNG" in out
    assert "\npictures/broken.jpg: expected a " in out
    assert err == "1 of 5 could not be read as pictures\n"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["no.png"], "no.png: No such file or directory; give the path of a picture"),
        (["pictures/notes.txt"], "pictures/notes.txt: expected a picture (PNG, JPEG, BMP, WebP"),
        (["empty"], "empty: expected pictures in this folder (.png, .jpg, .jpeg, .bmp, .webp, .g"),
        (["pictures", "--show", "seen.doc"], "--show seen.doc: expected the name of a file, endi"),
        (["pictures", "--show", "/proc/a.png"], "--show /proc/a.png: No such file or directory;"),
        (["pipe.png"], "pipe.png: expected a file; send what it gives to predict -"),
        (["/dev/zero"], "/dev/zero: expected a file; send what it gives to predict -"),
        (["a" * 300], f"{'a' * 300}: File name too long; give the path of a picture"),
        (["pictures", "--run", "nobody"], "--run nobody: no run of experiment mnist has this id"),
    ],
)
def test_unreadable_input_is_refused_in_one_sentence(
    recorded: Recorded, command: Command, pictures: Path, arguments: list[str], sentence: str
) -> None:
    (pictures.parent / "empty").mkdir()
    os.mkfifo(pictures.parent / "pipe.png")
    code, _, err = command("predict", *RUN, *arguments)
    assert code == 2
    assert err.startswith(sentence)
    assert len([line for line in err.splitlines() if not line.startswith("  ")]) == 1


def test_json_is_a_list_even_when_nothing_can_be_read(
    recorded: Recorded, command: Command, pictures: Path
) -> None:
    code, out, err = command("predict", *RUN, "--json", "pictures/notes.txt")
    assert code == 2
    assert json.loads(out)[0]["note"].startswith("expected a picture")
    assert err == "1 of 1 could not be read as pictures\n"


def test_a_blank_page_alone_is_reported(
    recorded: Recorded, command: Command, workplace: Path
) -> None:
    Image.fromarray(np.zeros((28, 28), np.uint8)).save("blank.png")
    code, out, _ = command("predict", *RUN, "blank.png")
    assert code == 0
    assert "blank.png: no digit found" in out
