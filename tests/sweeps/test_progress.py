"""A sweep on the screen: a line for each job that ends, and a bar where jobs share no terminal."""

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from mnist_exp.core.errors import DivergedError, PrunedError
from mnist_exp.core.layout import SWEEP_PROGRESS
from mnist_exp.runs.folder import RunResult
from mnist_exp.sweeps.jobs import JobResult
from mnist_exp.sweeps.progress import SweepProgress, tell_sweep

SWEPT = ["model", "optimizer.learning_rate"]


def jobs(*numbers: int) -> dict[int, JobResult]:
    rates = ("0.001", "3e-05", "0.1", "0.2")
    return {
        n: JobResult(n, ("model=cnn", f"optimizer.learning_rate={rates[n]}"), SWEPT)
        for n in numbers
    }


def outcome(validation: float | None) -> RunResult:
    metrics = {"train/seconds": 2.06, "test/accuracy": 0.99}
    if validation is not None:
        metrics["val/accuracy"] = validation
    return RunResult("", Path("x"), "id", metrics, "MNIST")


def a_screen(width: int = 100, is_terminal: bool = False) -> Console:
    return Console(file=io.StringIO(), width=width, force_terminal=is_terminal, highlight=False)


def shown(folder: Path, ends: dict[int, RunResult | Exception], **options: object) -> str:
    """What is printed of a sweep whose jobs, in processes of their own, end so."""
    screen = a_screen()
    with SweepProgress(folder, len(ends), [], screen=screen, **options) as progress:
        progress.expect(jobs(*ends))
        for number, ended in ends.items():
            tell_sweep(folder, number, ended)
    return screen.file.getvalue()  # type: ignore[attr-defined]


def test_each_job_that_ends_is_a_line_with_the_best_so_far(tmp_path: Path) -> None:
    ends = {1: outcome(0.9), 0: outcome(0.9731), 2: outcome(0.95)}
    header, *lines = shown(tmp_path, ends).splitlines()
    results = f"results in {tmp_path}; a line as each job ends"
    assert header == f"jobs: 3, of them done earlier: 0; {results}"
    assert lines == [
        "job 1 (1 of 3)  cnn lr=3e-5  val 90.00 %  2.1 s  the best so far",
        "job 0 (2 of 3)  cnn lr=1e-3  val 97.31 %  2.1 s  the best so far",
        "job 2 (3 of 3)  cnn lr=0.1   val 95.00 %  2.1 s  best 97.31 % (job 0)",
    ]
    assert list(tmp_path.iterdir()) == []


def test_a_trial_may_be_pruned_and_a_test_figure_is_never_shown(tmp_path: Path) -> None:
    ends = {0: outcome(None), 1: PrunedError("pruned after epoch 2: too low")}
    _, *lines = shown(tmp_path, ends, noun="trial").splitlines()
    assert lines == [
        "trial 0 (1 of 2)  cnn lr=1e-3  not validated  2.1 s",
        "trial 1 (2 of 2)  cnn lr=3e-5  pruned after epoch 2: too low",
    ]


def test_a_failed_job_is_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(shown(tmp_path, {0: DivergedError("first line\nthe loss")}).splitlines()) == 1
    assert capsys.readouterr().err == "warning: job 0 (1 of 1)  cnn lr=1e-3  failed: the loss\n"


def test_earlier_results_count_without_a_line(tmp_path: Path) -> None:
    screen = a_screen()
    first, second, third = jobs(0, 1, 2).values()
    before = replace(first, run_result=outcome(0.99), reused=True)
    with SweepProgress(tmp_path, 3, [before], screen=screen) as progress:
        known = replace(second, run_result=outcome(0.5), reused=True)
        progress.expect({1: known, 2: third})
        ended = replace(third, run_result=outcome(0.6))
        tell_sweep(tmp_path, 2, outcome(0.6))
        progress.show([known, ended])  # as the launcher says
    header, line = screen.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert header.startswith("jobs: 3, of them done earlier: 2; ")
    assert line.startswith("job 2 (3 of 3)  cnn lr=0.1   val 60.00 %")
    assert line.endswith("best 99.00 % (job 0)")


def test_what_a_killed_process_left_in_the_file_is_passed_over(tmp_path: Path) -> None:
    tell_sweep(tmp_path, 0, outcome(0.1))  # by the jobs of an earlier sweep
    screen = a_screen()
    with SweepProgress(tmp_path, 3, [], screen=screen) as progress:
        progress.expect(jobs(0, 1, 2))
        with (tmp_path / SWEEP_PROGRESS).open("a") as file:
            file.write('{"number": 0, "run_res\n{"number": 7, "error": "whose?"}\n')
        tell_sweep(tmp_path, 1, outcome(0.9))
    _, line = screen.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert line.startswith("job 1 (1 of 3)")


@pytest.mark.parametrize("has_bar", [True, False])
def test_a_terminal_gets_a_bar_where_the_jobs_do_not_share_it(
    tmp_path: Path, has_bar: bool
) -> None:
    screen = a_screen(width=50, is_terminal=True)
    with SweepProgress(tmp_path, 2, [], has_bar=has_bar, screen=screen) as progress:
        progress.expect(jobs(0, 1))
        progress.show([replace(jobs(0)[0], run_result=outcome(0.9))])
    output = screen.file.getvalue()  # type: ignore[attr-defined]
    assert ("━" in output) is has_bar
    assert ("1 of 2 jobs" in output) is has_bar
    assert "val 90.00 %  2.1 s\n" in output  # a line each: what has no room is left out
