"""Locks between processes: exclusive, given back by a killed process, not needed to exist."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mnist_exp.core.errors import InputError
from mnist_exp.core.files import exclusive, is_orphaned, run_lock
from mnist_exp.core.layout import LOCK

fcntl = pytest.importorskip("fcntl")


@contextmanager
def flocked(path: Path, operation: int = fcntl.LOCK_EX) -> Iterator[None]:
    """Context manager: the file is locked as the first versions of this package locked it."""
    with path.open("a") as file:
        fcntl.flock(file, operation | fcntl.LOCK_NB)
        yield


def run(code: str, *arguments: object) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


COUNT = """
import sys
from pathlib import Path
from mnist_exp.core.files import exclusive
folder = Path(sys.argv[1])
for _ in range(50):
    with exclusive(folder / "lock"):
        count = int((folder / "count").read_text())
        (folder / "count").write_text(str(count + 1))
"""


def test_one_process_at_a_time_and_no_file_left(tmp_path: Path) -> None:
    (tmp_path / "count").write_text("0")
    processes = [run(COUNT, tmp_path) for _ in range(3)]
    assert [process.wait(60) for process in processes] == [0] * 3
    assert (tmp_path / "count").read_text() == "150"
    assert [path.name for path in tmp_path.iterdir()] == ["count"]


@pytest.mark.parametrize("is_replaced", [False, True], ids=["removed", "replaced"])
def test_a_lock_on_a_file_removed_meanwhile_is_no_lock(tmp_path: Path, is_replaced: bool) -> None:
    path, is_locked = tmp_path / "lock", []

    def wait() -> None:
        with exclusive(path):
            try:
                with flocked(path):
                    is_locked.append(False)
            except BlockingIOError:
                is_locked.append(True)

    waiting = threading.Thread(target=wait)
    with flocked(path):
        waiting.start()
        time.sleep(0.05)
        path.unlink()
        if is_replaced:
            path.touch()
    waiting.join(10)
    assert is_locked == [True]
    assert not path.exists()


HOLD = """
import sys, time
from pathlib import Path
from mnist_exp.core.files import run_lock
with run_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_killed_process_gives_its_run_back(tmp_path: Path) -> None:
    holder = run(HOLD, tmp_path)
    assert holder.stdout
    assert holder.stdout.readline() == "held\n"
    assert not is_orphaned(tmp_path)
    refusal = "another process is at work on this run; wait for it"
    with pytest.raises(InputError, match=refusal), run_lock(tmp_path):
        pass
    holder.send_signal(signal.SIGKILL)
    holder.communicate(timeout=60)
    assert (tmp_path / LOCK).exists()
    assert is_orphaned(tmp_path)
    with run_lock(tmp_path):
        assert not is_orphaned(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_runs_of_earlier_versions_are_honoured_and_honour_ours(tmp_path: Path) -> None:
    with flocked(tmp_path / LOCK):
        assert not is_orphaned(tmp_path)
        with pytest.raises(InputError), run_lock(tmp_path):
            pass
    with run_lock(tmp_path):
        for operation in (fcntl.LOCK_EX, fcntl.LOCK_SH):
            with pytest.raises(BlockingIOError), flocked(tmp_path / LOCK, operation):
                pass


def test_a_probe_creates_no_file_and_excludes_no_other_probe(tmp_path: Path) -> None:
    assert not is_orphaned(tmp_path / "missing")
    assert is_orphaned(tmp_path)
    assert list(tmp_path.iterdir()) == []
    with flocked(tmp_path / LOCK, fcntl.LOCK_SH):
        assert is_orphaned(tmp_path)


def test_a_run_waits_for_the_end_of_a_probe(tmp_path: Path) -> None:
    probe = (tmp_path / LOCK).open("a")
    fcntl.flock(probe, fcntl.LOCK_SH)
    threading.Timer(0.05, probe.close).start()
    with run_lock(tmp_path, seconds=30):  # this process may get no CPU for a while
        assert not is_orphaned(tmp_path)


def test_the_folder_of_a_run_is_never_created(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), run_lock(tmp_path / "missing"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_without_locks_will_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no locks here")

    monkeypatch.setattr(fcntl, "flock", refuse)  # patched: the file system
    with run_lock(tmp_path):
        assert not is_orphaned(tmp_path)
        (tmp_path / LOCK).unlink()  # another process is done
    with exclusive(tmp_path / "lock"), exclusive(tmp_path / "lock"):
        pass
    assert list(tmp_path.iterdir()) == []
