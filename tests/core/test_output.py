"""Output that cannot be written costs nothing: no reader, closed, full, or only ASCII."""

import io
import os
import subprocess
import sys

import pytest
from rich.console import Console

from mnist_exp.core.console import TextTable
from mnist_exp.core.output import PLAIN, LenientFile, make_output_lenient

PROGRAM = """
from mnist_exp.core.console import console, prepare_process, print_warning
prepare_process()
for number in range(5000):
    console.print("97.46 ± 0.28 … ✓")
    print("printed")
print_warning("a warning")
with open("opened.txt", "w") as file:  # not in the place of a closed output
    print(file.fileno(), file=file)
"""


def ends(shell: str, tmp_path) -> tuple[int, str]:
    """The exit code of the program that the shell's line runs as $0 -c "$1", and its errors."""
    done = subprocess.run(
        ["bash", "-c", shell, sys.executable, PROGRAM],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert int((tmp_path / "opened.txt").read_text()) > 2
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    "redirection",
    ["| head -1 >/dev/null", ">&-", "2>&-", "<&- >&- 2>&-", ">/dev/full", "2>/dev/full"],
)
def test_a_program_ends_as_if_its_output_were_read(redirection: str, tmp_path) -> None:
    code, errors = ends(f'set -o pipefail; "$0" -c "$1" {redirection}', tmp_path)
    assert code == 0
    assert "Traceback" not in errors
    assert "Exception ignored" not in errors


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_a_terminal_without_the_signs_gets_words(encoding: str, tmp_path) -> None:
    line = f'PYTHONIOENCODING={encoding} "$0" -c "$1" >out.txt'
    assert ends(line, tmp_path)[0] == 0
    first = (tmp_path / "out.txt").read_bytes().partition(b"\n")[0]
    expected = {"ascii": b"97.46 +- 0.28 ... v", "latin-1": b"97.46 \xb1 0.28 ... v"}
    assert first == expected.get(encoding, b"97.46 \xb1 0.28 \x85 v")


def test_a_table_in_ascii_stays_aligned() -> None:
    file = io.TextIOWrapper(io.BytesIO(), "ascii", PLAIN)
    make_output_lenient()  # pytest's own output is left alone
    console = Console(file=file, width=40)
    console.print(TextTable(["a", "test %"], [["x…", "97.46 ± 0.28"], ["y", "9.1"]]))
    file.flush()
    lines = file.buffer.getvalue().decode("ascii").splitlines()  # type: ignore[attr-defined]
    first, second = (line for line in lines if line[:2] in ("|x", "|y"))
    assert "97.46 +- 0.28" in first
    assert len(first.rstrip()) == len(second.rstrip())


def test_what_is_written_is_whole_as_long_as_somebody_reads() -> None:
    out, into = os.pipe()
    file = LenientFile(into, "wb")
    assert file.write(b"one") == 3
    assert os.read(out, 10) == b"one"
    os.close(out)
    assert file.write(memoryview(b"two")) == 3
    assert file.write(b"three") == 5
    file.close()


def test_a_pipe_that_does_not_block_is_waited_for() -> None:
    out, into = os.pipe()
    os.set_blocking(into, False)
    program = f"import os, time; time.sleep(0.3)\nwhile os.read({out}, 65536): pass"
    reader = subprocess.Popen([sys.executable, "-c", program], pass_fds=[out])
    os.close(out)
    with LenientFile(into, "wb") as file, io.BufferedWriter(file) as buffer:
        buffer.write(bytes(300_000))  # more than a pipe holds
    assert reader.wait(timeout=30) == 0
