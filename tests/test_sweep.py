"""A sweep's results as a ranking and a file."""

import csv
import io
from pathlib import Path

from rich.console import Console

from mnist_exp import sweep
from mnist_exp.experiment import Outcome

METRICS = {
    "test/accuracy": 0.97785,
    "test/accuracy_low": 0.97,
    "test/accuracy_high": 0.98,
    "test/loss": 0.1,
    "train/seconds": 12.34,
}


def result(number: int, validation: float | None, error: str = "") -> sweep.Result:
    metrics = METRICS | ({} if validation is None else {"val/accuracy": validation})
    outcome = None if error else Outcome("", Path("outputs/run"), "0123456789", metrics)
    return sweep.Result(number, {"model": f"m{number}", "seed": "0"}, outcome, error)


def printed(results: list[sweep.Result]) -> list[str]:
    console = Console(file=io.StringIO(), width=80)
    console.print(sweep.table(results, ["model", "seed"]))
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined]


def test_the_ranking_goes_by_validation_and_failures_come_last() -> None:
    lines = printed([result(0, 0.5), result(1, None, "oh no"), result(2, 0.75)])
    jobs = [line.split()[0] for line in lines if line.split() and line.split()[0].isdigit()]
    assert jobs == ["2", "0", "1"]
    assert lines[4].split() == ["2", "m2", "0", "75.00", "97.78", "97.00-98.00", "12.3", "01234567"]
    assert "failed" in lines[6]
    assert max(map(len, lines)) <= 80


def test_a_job_without_validation_is_shown() -> None:
    assert "none" in printed([result(0, None)])[4]


def test_the_file_has_a_row_per_job_in_order(tmp_path: Path) -> None:
    results = [result(0, 0.5), result(1, None, "oh no")]
    sweep.write_csv(tmp_path / "sweep.csv", results, ["model", "seed"])
    first, second = csv.DictReader((tmp_path / "sweep.csv").open())
    assert first["model"] == "m0"
    assert first["val/accuracy"] == "0.5"
    assert first["run_id"] == "0123456789"
    assert (second["error"], second["run_id"]) == ("oh no", "")
