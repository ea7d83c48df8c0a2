"""Checkpoints: written atomically; the newest readable one is found."""

import os
from pathlib import Path

import numpy as np
import pytest

from mnist_exp.core.files import write_atomic
from mnist_exp.core.layout import CHECKPOINTS
from mnist_exp.training.checkpoints import Checkpoint, Checkpoints


def made(epoch: int) -> Checkpoint:
    rows = [{"train/loss": 0.1 + 0.2 * n} for n in range(epoch)]
    arrays = {"state": [np.full((3, 2), epoch, np.float32), np.array(epoch)], "best": []}
    return Checkpoint(rows, {"seconds": 0.1, "best_loss": float("inf")}, arrays)


def saved(folder: Path, epochs: int, every: int = 1) -> Checkpoints:
    checkpoints = Checkpoints(folder, every)
    for epoch in range(1, epochs + 1):
        if checkpoints.is_due(epoch):
            checkpoints.save(epoch, made(epoch))
    checkpoints.wait()
    return checkpoints


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / CHECKPOINTS).iterdir())


def test_the_newest_is_restored_bit_for_bit(tmp_path: Path) -> None:
    found = saved(tmp_path, 3).newest()
    assert found
    assert found.epochs == made(3).epochs
    assert found.scalars == made(3).scalars
    assert list(found.arrays) == ["state"]
    for ours, theirs in zip(found.arrays["state"], made(3).arrays["state"], strict=True):
        assert ours.dtype == theirs.dtype
        assert np.array_equal(ours, theirs)


def test_two_are_kept(tmp_path: Path) -> None:
    saved(tmp_path, 5)
    assert names(tmp_path) == ["epoch-000004.npz", "epoch-000005.npz"]


def test_one_per_three_epochs(tmp_path: Path) -> None:
    saved(tmp_path, 7, every=3)
    assert names(tmp_path) == ["epoch-000003.npz", "epoch-000006.npz"]


def test_the_newest_is_that_of_the_last_epoch(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    for epoch in (999_999, 1_000_000):
        checkpoints.save(epoch, made(epoch % 10))
    checkpoints.close()
    (tmp_path / CHECKPOINTS / "epoch-1000000-a-copy-of-it.npz").touch()
    found = checkpoints.newest()
    assert found
    assert found.epochs == []
    checkpoints.keep_newest()
    assert names(tmp_path) == ["epoch-1000000-a-copy-of-it.npz", "epoch-1000000.npz"]


def test_an_empty_folder_has_none(tmp_path: Path) -> None:
    assert Checkpoints(tmp_path).newest() is None


@pytest.mark.parametrize("seed", range(20))
def test_a_damaged_one_is_a_warning_and_the_one_before_it_is_read(
    seed: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoints = saved(tmp_path, 2)
    path = tmp_path / CHECKPOINTS / "epoch-000002.npz"
    content = bytearray(path.read_bytes())
    random = np.random.default_rng(seed)
    if seed % 4 == 0:
        content = content[: random.integers(len(content))]
    else:
        content[random.integers(len(content))] ^= 1 << random.integers(8)
    path.write_bytes(content)
    found = checkpoints.newest()
    assert found
    if len(found.epochs) == 2:  # the bit was part of a date, say
        assert np.array_equal(found.arrays["state"][0], made(2).arrays["state"][0])
        assert found.epochs == made(2).epochs
    else:
        assert len(found.epochs) == 1
        assert "damaged" in caplog.text
        assert str(path) in caplog.text


def test_pickled_objects_are_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    checkpoints = saved(tmp_path, 1)
    with (tmp_path / CHECKPOINTS / "epoch-000002.npz").open("wb") as file:
        np.savez(file, text=np.array([object()], dtype=object))
    found = checkpoints.newest()
    assert found
    assert len(found.epochs) == 1
    assert "allow_pickle" in caplog.text


def test_an_intact_archive_of_something_else_counts_as_damaged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoints = saved(tmp_path, 1)
    np.savez(tmp_path / CHECKPOINTS / "epoch-000002.npz", text=np.frombuffer(b"{}", np.uint8))
    found = checkpoints.newest()
    assert found
    assert len(found.epochs) == 1
    assert "damaged ('epochs')" in caplog.text


def test_a_full_disk_is_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    checkpoints = saved(tmp_path, 1)
    monkeypatch.setattr(os, "fsync", full)  # patched: the disk itself
    for epoch in (2, 3):
        checkpoints.save(epoch, made(epoch))
    checkpoints.wait()
    assert names(tmp_path) == ["epoch-000001.npz"]
    (message,) = caplog.messages
    assert "No space left on device; training goes on" in message


def test_a_file_is_replaced_atomically(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"before")

    def half(file: object) -> None:
        file.write(b"half")  # type: ignore[attr-defined]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomic(path, half)
    assert path.read_bytes() == b"before"
    assert os.listdir(tmp_path) == ["file"]
    write_atomic(path, lambda file: file.write(b"after"))
    assert path.read_bytes() == b"after"
