"""What differs between two runs, and only that."""

from dataclasses import replace

from mnist_exp.analysis.comparison_tables import run_diff
from mnist_exp.core.console import TextTable
from mnist_exp.runs.run import Run
from mnist_exp.runs.search import store_config

RUN = Run(
    run_id="a" * 32,
    name="cnn",
    status="FINISHED",
    metrics={
        "test/accuracy": 0.99234,
        "test/errors": 76.0,
        "val/accuracy": 0.99,
        "step/train_loss": 0.1,
    },
    params={"model.name": "cnn", "seed": "0", "tracking.uri": "here", "data.name": "mnist"},
    tags={"version.numpy": "2.4", "data.name": "mnist", "host": "here", "cpu": "EPYC"},
    tracking=store_config(),
)


def test_settings_versions_and_metrics_that_differ_are_listed() -> None:
    other = replace(
        RUN,
        run_id="b" * 32,
        metrics=RUN.metrics
        | {"test/accuracy": 0.99231, "test/errors": 77.0, "step/train_loss": 0.2},
        params=RUN.params | {"seed": "1", "tracking.uri": "there", "model.dropout": "0.1"},
        tags=RUN.tags | {"version.numpy": "2.5", "host": "there"},
    )
    causes, results = run_diff(RUN, other)
    assert isinstance(causes, TextTable)
    assert causes.headings == ["what", "aaaaaaaa cnn", "bbbbbbbb cnn"]
    assert causes.rows == [
        ["model.dropout", "-", "0.1"],
        ["seed", "0", "1"],
        ["version.numpy", "2.4", "2.5"],
    ]
    assert isinstance(results, TextTable)
    assert results.headings[3] == "change"
    assert results.rows == [
        ["test/accuracy", "0.99234", "0.99231", "-3e-05"],
        ["test/errors", "76", "77", "+1"],
    ]
    assert run_diff(replace(RUN, metrics={}), other)[1].rows[0][3] == "-"


def test_equal_runs_are_said_to_be_equal() -> None:
    again = replace(RUN, run_id="another")
    assert run_diff(RUN, again) == ["No setting differs.", "The results are equal."]
    assert run_diff(RUN, RUN) == [f"Both are {RUN}."]
