"""`python -m mnist_exp compare`, as typed."""

from pathlib import Path

import mlflow
import pytest
from support import Command

from mnist_exp.runs.folder import RunResult

Recorded = dict[str, RunResult]


def test_the_table_and_the_verdict_are_printed(recorded: Recorded, command: Command) -> None:
    code, out, _ = command("compare")
    assert code == 0
    assert "2 groups on the bundled 5,000 digits" in out
    assert "do not compare with full MNIST" in out
    mean = sum(recorded[f"dense128 seed={seed}"].metrics["test/accuracy"] for seed in (0, 1)) / 2
    (row,) = [line for line in out.splitlines() if line.startswith(" dense128")]
    assert f"{100 * mean:.2f} ± " in row
    assert "n = 2 seeds each" in out


def test_the_report_is_written_and_recorded(
    recorded: Recorded, command: Command, workplace: Path
) -> None:
    code, _, err = command("compare", "--where", "params.seed = '0'", "--output", "new/r.html")
    assert (code, err) == (0, "")
    page = (workplace / "new/r.html").read_text()
    assert "data:image/png;base64," in page
    assert "exact McNemar test" in page
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("mnist")
    query = "attributes.run_name LIKE 'mnist, compared, 20%'"
    (run,) = client.search_runs([experiment.experiment_id], query)
    assert {a.path for a in client.list_artifacts(run.info.run_id)} == {"figures", "r.html"}
    assert run.data.params["runs"] == "2"
    assert command("compare")[1].count("2 groups") == 1  # the report is no run to compare


def test_two_runs_are_set_side_by_side(recorded: Recorded, command: Command) -> None:
    code, out, _ = command("compare", "--diff", "dense128 seed=0", "dense128 seed=1")
    assert code == 0
    causes, results = out.split("Results")
    assert [line.split()[0] for line in causes.splitlines()[4:] if line.strip()] == ["seed"]
    accuracy = f"{recorded['dense128 seed=1'].metrics['test/accuracy']:.6g}"
    rows = [row.split() for row in results.splitlines() if "accuracy " in row]
    assert any(row[2] == accuracy and row[3][0] in "+-" for row in rows)


def test_a_latex_table_has_the_rows_and_columns_asked_for(
    recorded: Recorded, command: Command, workplace: Path
) -> None:
    code, _, err = command("compare", "--output", "t.tex", "--columns", "train.epochs")
    assert (code, err) == (0, "")
    text = (workplace / "t.tex").read_text()
    assert "model.name & 1 \\\\" in text
    assert "sigmoid100 & " in text


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--output", "r.pdf"], "--output r.pdf: expected a name ending in .html, .md, .csv"),
        (["--by", "modle"], "modle: no run has such a param; they have augment.name"),
        (["--output", "t.tex", "--rows", "modle"], "modle: no run has such a param; they have"),
        (["--by", "model.nmae"], "no run has such a param (did you mean model.name?); they have"),
        (["--rows", "seed"], "--rows and --columns are those of a table: add --output table.tex"),
        (["--baseline", "x"], "--baseline x: no group has this name; there are dense128, sigmoid"),
        (["--sweep", "x"], "--sweep x: no sweeps of experiment mnist match; give last or the id"),
        (["--where", "x"], "--where x: MLflow does not understand it"),
        (["--experiment", "x"], "has no experiment x; choose with --experiment"),
        (["--tracking-uri", "http://127.0.0.1:9"], "this tracking store cannot be used"),
        (["--output", "/proc/r.csv"], "--output /proc/r.csv: "),
    ],
)
def test_wrong_options_are_refused_in_one_sentence(
    recorded: Recorded, command: Command, workplace: Path, arguments: list[str], sentence: str
) -> None:
    code, _, err = command("compare", *arguments)
    assert code == 2
    assert sentence in err
    assert "Traceback" not in err
    assert err.count("\n") == 1


def test_options_are_listed_without_heavy_imports(command: Command) -> None:
    code, out, _ = command("compare", "--help")
    assert code == 0
    assert "--where" in out
