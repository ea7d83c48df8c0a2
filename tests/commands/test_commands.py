"""evaluate, visualize and runs, as typed."""

import csv
import json
import shutil
from importlib.metadata import version
from pathlib import Path

import mlflow
import numpy as np
import pytest
from support import Command

from mnist_exp.runs.find import find_run, resolve_run
from mnist_exp.runs.folder import RunResult
from mnist_exp.runs.search import find_runs, store_config
from mnist_exp.tracking.logged_model import MODEL_FILE

Recorded = dict[str, RunResult]
NAME = "dense128 seed=0"


def test_evaluate_scores_a_run_as_recorded_to_the_bit(recorded: Recorded, command: Command) -> None:
    code, out, err = command("evaluate", "--run", NAME)
    assert (code, err) == (0, "")
    accuracy = recorded[NAME].metrics["test/accuracy"]
    assert f"{100 * accuracy:.2f} % of 1,000 test images" in out
    assert "all scores and every probability are exactly those recorded" in out
    first = out.splitlines()[0]
    assert first.startswith(f"run {recorded[NAME].run_id[:8]} (")  # which one was chosen
    assert f"dense128 on {recorded[NAME].data}: " in first  # with the limit of its training
    first = command("evaluate", "--run", NAME, "--data", "mnist5k")[1].splitlines()[0]
    assert "dense128 on the bundled 5,000 digits: " in first  # the images that were named


def test_evaluate_exits_with_1_when_scores_are_not_those_recorded(
    recorded: Recorded, command: Command
) -> None:
    run, other = (resolve_run(name, store_config()) for name in (NAME, "dense128 seed=1"))
    model = run.file(MODEL_FILE)
    whole = model.read_bytes()
    model.chmod(0o600)
    model.write_bytes(other.file(MODEL_FILE).read_bytes())
    code, out, _ = command("evaluate", "--run", NAME)
    model.write_bytes(whole)
    assert code == 1
    assert "not exactly as recorded: a probability differs by up to" in out


def test_evaluate_writes_the_scores_under_corruptions(
    recorded: Recorded, command: Command, workplace: Path
) -> None:
    code, out, _ = command("evaluate", "--run", NAME, "--corruptions", "--output", "worse")
    assert code == 0
    rows = list(csv.DictReader((workplace / "worse/corruptions.csv").open()))
    assert [row["corruption"] for row in rows][::8] == ["gaussian_noise", "mean"]
    assert float(rows[-1]["accuracy %"]) == pytest.approx(
        np.mean([float(row["accuracy %"]) for row in rows[:-1]]), abs=0.01
    )
    assert (workplace / "worse/corruptions.png").stat().st_size > 10_000
    assert "translate" in out


def test_a_model_of_full_mnist_is_not_scored_on_its_own_training_images(
    recorded: Recorded, command: Command
) -> None:
    client, run_id = mlflow.MlflowClient(), recorded[NAME].run_id
    client.set_tag(run_id, "data.name", "mnist")
    code, _, err = command("evaluate", "--run", NAME, "--data", "mnist5k")
    client.set_tag(run_id, "data.name", "mnist5k")
    assert code == 2
    assert "was trained on full MNIST, and the bundled digits are among its training" in err


def test_visualize_draws_every_figure_without_the_run_folder(
    recorded: Recorded, command: Command, workplace: Path
) -> None:
    folder = recorded[NAME].folder
    shutil.move(folder, workplace / "moved")
    try:
        files = []
        for output in ("first", "second"):
            code, out, _ = command("visualize", "--run", NAME, "--output", output)
            assert code == 0
            assert recorded[NAME].title in out
            files.append({p.name: p.read_bytes() for p in (workplace / output).iterdir()})
        assert len(files[0]) == 6
        assert files[0] == files[1]  # to the last pixel
    finally:
        shutil.move(workplace / "moved", folder)


def test_a_run_whose_artifacts_are_gone_is_read_from_its_folder(
    recorded: Recorded, command: Command, tmp_path: Path
) -> None:
    artifacts = Path(find_run(NAME).artifact_uri).parents[1]  # of the experiment
    shutil.move(artifacts, tmp_path / "away")
    try:
        code, out, _ = command("evaluate", "--run", NAME)
        folder = recorded[NAME].folder
        journal = (folder / "record.jsonl").read_text()
        (folder / "record.jsonl").write_text(journal.replace(recorded[NAME].run_id, "0" * 32))
        other = command("evaluate", "--run", NAME)
        (folder / "record.jsonl").write_text(journal)
    finally:
        shutil.move(tmp_path / "away", artifacts)
    assert (code, "exactly those recorded" in out) == (0, True)
    assert (other[0], "could be read" in other[2]) == (2, True)


@pytest.mark.parametrize("verb", ["evaluate", "visualize"])
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--run", "none@"], "no run of experiment mnist has this id or name; give best, last or"),
        (["--run", "models:/none@champion"], "there is no such registered model"),
        (["--experiment", "other"], "has no experiment other; choose with --experiment"),
    ],
)
def test_a_run_that_cannot_be_found_is_refused_in_one_sentence(
    recorded: Recorded, command: Command, verb: str, arguments: list[str], sentence: str
) -> None:
    code, _, err = command(verb, *arguments)
    assert code == 2
    sentences = [line for line in err.splitlines() if not line.startswith("  ")]  # no candidates
    assert len(sentences) == 1
    assert sentence in sentences[0]


def test_runs_lists_the_newest_first(recorded: Recorded, command: Command) -> None:
    code, out, _ = command("runs")
    assert code == 0
    newest, oldest = (out.index(recorded[f"dense128 seed={n}"].run_id[:8]) for n in (1, 0))
    assert newest < oldest
    accuracy = recorded[NAME].metrics["test/accuracy"]
    assert f"{100 * accuracy:.2f}" in out[oldest:].partition("\n")[0]
    code, out, _ = command("runs", "--where", "params.model.name = 'sigmoid100'", "--limit", "1")
    assert "sigmoid100 seed=1" in out
    assert "dense128" not in out
    assert "the newest 1 of 2; --limit 2 lists them all" in out
    code, out, _ = command("runs", "--json", "--limit", "1")
    (run,) = json.loads(out)
    assert run["run_id"] == recorded["dense128 seed=1"].run_id
    assert run["params"]["seed"] == "1"
    code, _, err = command("runs", "--where", "params.seed = '9'")
    assert code == 2
    assert err.startswith("experiment mnist has no FINISHED runs that fit params.seed = '9'; make")


def test_runs_lists_the_failed_ones_when_asked(recorded: Recorded, command: Command) -> None:
    client = mlflow.MlflowClient()
    failed = client.create_run("1", run_name="broken", tags={"fingerprint": "x", "data.label": "y"})
    try:
        client.set_terminated(failed.info.run_id, "FAILED")
        assert "broken" not in command("runs")[1]
        (line,) = (line for line in command("runs", "--all")[1].splitlines() if "broken" in line)
        assert line.split()[-1] == "FAILED"
        assert "broken" in command("runs", "--where", "attributes.status = 'FAILED'")[1]
    finally:
        client.delete_run(failed.info.run_id)


def test_the_runs_as_a_table_of_pandas(recorded: Recorded) -> None:
    table = find_runs("params.model.name = 'dense128'")
    assert [*table["name"]] == ["dense128 seed=1", "dense128 seed=0"]
    assert table["test/accuracy"][1] == recorded[NAME].metrics["test/accuracy"]
    assert [*table["seed"]] == ["1", "0"]
    assert table["start_time"][0] > table["start_time"][1]


def test_the_version_is_that_of_the_package(command: Command) -> None:
    code, out, _ = command("--version")
    assert (code, out) == (0, f"mnist_exp {version('mnist-exp')}\n")
