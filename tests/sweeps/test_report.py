"""The report of a sweep: rankings, files and figures."""

import csv
import io
from dataclasses import replace
from math import isnan
from pathlib import Path

import pytest
from rich.console import Console
from scipy import stats

from mnist_exp.config.schema import TrackingConfig
from mnist_exp.runs.folder import RunResult
from mnist_exp.sweeps import report
from mnist_exp.sweeps.jobs import JobResult, best, groups

SWEPT = ["model", "seed"]
METRICS = {
    "test/accuracy": 0.97785,
    "test/accuracy_low": 0.97,
    "test/accuracy_high": 0.98,
    "test/loss": 0.1,
    "train/seconds": 12.34,
}


def result(
    number: int, validation: float | None, error: str = "", seed: int = 0, data: str = "MNIST"
) -> JobResult:
    metrics = METRICS | ({} if validation is None else {"val/accuracy": validation})
    job = [f"model=m{number // 2}", f"seed={seed}", "train.epochs=2"]
    outcome = None if error else RunResult("", Path("outputs/run"), "0123456789", metrics, data)
    return JobResult(number, job, SWEPT, outcome, error)


def printed(results: list[JobResult], swept: list[str] = SWEPT) -> list[str]:
    console = Console(file=io.StringIO(), width=80)
    for table in report.tables(results, swept):
        console.print(table)
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined]


def drawn(results: list[JobResult], swept: list[str] = SWEPT) -> list[str]:
    return [*report.figures(report.trials(results, {}), swept, {}, "a sweep")]


def test_without_validation_there_is_no_ranking() -> None:
    lines = printed([result(0, None), result(2, None)])
    assert lines[0].strip() == "not ranked, without validation images, on MNIST"
    assert printed([result(0, None, "oh no")])[0].strip() == "ranked by validation accuracy"


def test_jobs_are_ranked_by_validation_accuracy_and_failures_come_last() -> None:
    lines = printed([result(0, 0.5), result(2, None, "oh no"), result(4, 0.75)])
    jobs = [line.split()[0] for line in lines if line.split() and line.split()[0].isdigit()]
    assert jobs == ["4", "0", "2"]
    assert "on MNIST" in lines[0]
    best = next(line for line in lines if line.split()[:1] == ["4"])
    assert best.split() == ["4", "m2", "0", "75.00", "97.78", "97.00-98.00", "12.3", "01234567"]
    assert "failed" in lines[-2]
    assert max(map(len, lines)) <= 80


def test_a_job_without_validation_is_shown_and_never_the_best() -> None:
    assert any("none" in line for line in printed([result(0, None)]))
    assert best([result(0, None), result(1, None, "oh no")]) is None
    assert best([result(0, None), result(1, 0.1)]).number == 1


def test_scores_of_different_data_are_marked() -> None:
    text = "\n".join(printed([result(0, 0.5), result(2, 0.6, data="the bundled 5,000 digits")]))
    assert "data" in text
    assert text.count("bundled") >= 2  # in the title and in the row


def test_seeds_are_averaged_in_one_group() -> None:
    results = [result(0, 0.50), result(1, 0.60, seed=1), result(2, 0.3), result(3, None, "oh no")]
    first, second = groups(results)
    assert (first.settings, first.n) == ({"model": "m0"}, 2)
    assert first.mean("val/accuracy") == pytest.approx(0.55)
    assert first.sd("val/accuracy") == pytest.approx(0.0707107)
    assert second.n == 1
    rows = [" ".join(line.split()) for line in printed(results)]
    assert "m0 2 55.00 ± 7.07 97.78 ± 0.00" in rows
    assert "m1 1 30.00 97.78" in rows


def test_the_files_and_figures_are_written(tmp_path: Path) -> None:
    results = [result(0, 0.5), result(1, 0.6, seed=1), result(2, None, "oh no")]
    report.write_tables(tmp_path, results, SWEPT)
    first, _, last = csv.DictReader((tmp_path / "sweep.csv").open())
    assert first["model"] == "m0"
    assert first["val/accuracy"] == "0.5"
    assert first["run_id"] == "0123456789"
    assert first["command"] == "python -m mnist_exp.run model=m0 seed=0 train.epochs=2"
    assert (last["state"], last["error"], last["run_id"]) == ("failed", "oh no", "")
    (group,) = csv.DictReader((tmp_path / "over_seeds.csv").open())
    assert (group["model"], group["n"]) == ("m0", "2")
    assert float(group["val/accuracy mean"]) == pytest.approx(0.55)
    assert drawn([*results, result(4, 0.7)]) == ["by_value"]
    assert not any("_low" in column or "_high" in column for column in group)  # ends have no mean


def test_over_seeds_has_the_interval_of_each_mean(tmp_path: Path) -> None:
    results = [result(0, 0.50), result(1, 0.60, seed=1), result(2, None)]
    report.write_tables(tmp_path, results, SWEPT)
    seeds, single = csv.DictReader((tmp_path / "over_seeds.csv").open())
    low, high = stats.t.interval(0.95, 1, loc=0.55, scale=stats.sem([0.50, 0.60]))
    ends = [float(seeds[f"val/accuracy {end}"]) for end in ("low", "high")]
    assert ends == pytest.approx([max(0, low), min(1, high)])
    kinds = ("val/accuracy mean", "test/accuracy sd", "test/accuracy low", "test/loss sd")
    assert (single["n"], {single[kind] for kind in kinds}) == ("1", {""})
    assert float(single["test/accuracy mean"]) == METRICS["test/accuracy"]


STORE = TrackingConfig(enabled=True, uri=None, experiment="mnist", skip_finished=False)
COMPARE = "is the difference real? python -m mnist_exp compare"


def test_seeds_of_several_settings_are_to_be_compared() -> None:
    results = [result(0, 0.50), result(1, 0.60, seed=1), result(2, 0.3)]
    assert report.next_step(results, STORE, "abcdefghi") == COMPARE + " --sweep abcdefgh"
    beside = "beside other runs: python -m mnist_exp compare"
    assert report.next_step(results[:2], STORE, "abcdefghi") == beside
    earlier = [*results, replace(result(3, 0.4), reused=True)]  # below another parent
    assert report.next_step(earlier, STORE, "abcdefghi") == COMPARE
    other = STORE.model_copy(update={"uri": "http://me:pass@host", "experiment": "my digits"})
    options = " --experiment 'my digits' --tracking-uri 'http://***@host'"
    assert report.next_step(earlier, other, "abcdefghi") == COMPARE + options


def test_the_best_of_one_seed_is_to_be_repeated_over_seeds() -> None:
    again = "python -m mnist_exp.run -m 'seed=range(0,5)' model=m1 train.epochs=2"
    step = report.next_step([result(0, 0.5), result(2, 0.6)], STORE, "abcdefghi")
    assert step == f"the best over five seeds: {again}"
    assert report.next_step([result(0, None, "oh no")], STORE, "abcdefghi") == ""


def test_an_interrupted_sweep_is_to_be_continued() -> None:
    left = JobResult(2, ("model=m1", "seed=0"), SWEPT)
    step = report.next_step([result(0, 0.5), left], STORE, "abcdefghi")
    assert step == "the same command with tracking.skip_finished=true runs what is missing"


def test_the_command_of_a_job_runs_that_job_alone() -> None:
    job = ["sweep=seeds", "seed=1", "model.units=[8,8]", "tracking.uri=http://me:pass@host"]
    command = JobResult(0, job, ["seed"]).command
    alone = "python -m mnist_exp.run seed=1 'model.units=[8,8]' tracking.uri=http://***@host"
    assert command == alone


def test_a_sweep_of_seeds_alone_has_a_figure() -> None:
    metrics = METRICS | {"val/accuracy": 0.5}
    results = [
        JobResult(
            seed, [f"seed={seed}"], ["seed"], RunResult("", Path("x"), "id", metrics, "MNIST")
        )
        for seed in range(3)
    ]
    assert drawn(results, ["seed"]) == ["by_value"]


def test_a_sweep_of_one_job_has_a_file_and_no_figure(tmp_path: Path) -> None:
    metrics = METRICS | {"val/accuracy": 0.5}
    only = JobResult(0, ["model=cnn"], [], RunResult("", Path("x"), "id", metrics, "MNIST"))
    assert not drawn([only], [])
    report.write_tables(tmp_path, [only], [])
    assert [path.name for path in tmp_path.iterdir()] == ["sweep.csv"]


def test_a_sweep_of_failures_has_a_file_and_no_figure(tmp_path: Path) -> None:
    failure = [result(0, None, "oh no")]
    assert not drawn(failure)
    report.write_tables(tmp_path, failure, SWEPT)
    assert [path.name for path in tmp_path.iterdir()] == ["sweep.csv"]


def test_the_trials_of_the_figures_are_complete_pruned_or_failed() -> None:
    pruned = replace(result(2, None, "pruned after epoch 2"), pruned=True)
    without_validation, unfinished = result(6, None), replace(result(8, None, "x"), error="")
    results = [result(0, 0.5), pruned, result(4, None, "oh no"), without_validation, unfinished]
    trials = report.trials(results, {2: 0.25})
    assert [(t.number, t.accuracy, t.state) for t in trials[:2]] == [
        (0, 0.5, "complete"),
        (2, 0.25, "pruned"),
    ]
    assert [(t.number, isnan(t.accuracy), t.state) for t in trials[2:]] == [(4, True, "failed")]


def test_a_repeated_trial_of_a_search_is_drawn_once() -> None:
    """Else its one run would count as several seeds."""
    results = [result(n, accuracy) for n, accuracy in ((0, 0.5), (0, 0.5), (2, 0.6))]
    results = [replace(r, number=n, swept=["model"]) for n, r in enumerate(results)]
    (figure,) = report.figures(report.trials(results, {}), ["model"], {}, "a search").values()
    assert [text.get_text() for text in figure.axes[0].texts] == ["60.00 %", "50.00 %"]


def test_a_key_with_one_value_has_no_panel() -> None:
    """One trial of a search has one value of each key: there is nothing to draw."""
    assert drawn([result(0, 0.5)]) == []
    swept = ["model", "seed", "train.epochs"]
    results = [replace(result(n, 0.5 + n / 10), swept=swept) for n in (0, 2)]
    assert drawn(results, swept) == ["by_value"]  # rather than parallel coordinates of two keys


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        (["1e-4", "3e-4", "1e-3", "3e-3", "1e-2"], "log"),
        (["128", "32", "64"], "log"),
        (["0.1", "0.2", "0.3"], "linear"),
        (["1", "2", "3", "4", "5"], "linear"),
        (["0", "0.01", "0.1"], "linear"),  # no logarithm of 0
        (["0.001", "1"], "linear"),  # two say nothing of the steps
        (["adam", "sgd"], "category"),
        (["[64]", "[128]", "32"], "category"),
        (["1", "2", "inf"], "category"),
    ],
)
def test_the_scale_of_typed_values_is_that_of_their_steps(values: list[str], scale: str) -> None:
    assert report.guess_scale(values) == scale
