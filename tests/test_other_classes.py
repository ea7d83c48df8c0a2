"""A run on data of one's own, of three named classes: everything around it says their names."""

import csv
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np
import pytest
import requests
from omegaconf import OmegaConf
from PIL import Image
from support import Command, served, tiny

from mnist_exp.config.compose import compose, from_yaml, parse, to_yaml
from mnist_exp.config.schema import Config
from mnist_exp.core.errors import InputError
from mnist_exp.data.dataset import Dataset
from mnist_exp.experiment import run_experiment
from mnist_exp.resume import extend_experiment
from mnist_exp.runs.find import find_run
from mnist_exp.runs.folder import RunResult
from mnist_exp.runs.run import Run

NAMES = ("low", "middle", "high")


def own(path: Path, *overrides: str) -> Config:
    """As `tiny`, on data of one's own."""
    chosen = compose(["data=own", f"data.path={path}", "model=sigmoid100"]).model_dump(mode="json")
    values = tiny("data.limit=null", "train.epochs=2").model_dump(mode="json")
    kept = {key: values[key] for key in ("train", "report")} | {"data": chosen["data"]}
    return parse(OmegaConf.merge(chosen, kept, OmegaConf.from_dotlist(list(overrides))))


def write(path: Path, digits: Dataset, names: Sequence[str] = NAMES) -> Path:
    """The digits as three classes."""
    images = digits.train_images[:300], digits.test_images[:100]
    labels = (
        np.array(names)[d // 4] for d in (digits.train_labels[:300], digits.test_labels[:100])
    )
    arrays = dict(zip(("x_train", "x_test"), images, strict=True))
    np.savez(path, **arrays, **dict(zip(("y_train", "y_test"), labels, strict=True)))
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, digits: Dataset) -> tuple[Path, str, RunResult]:
    folder = tmp_path_factory.mktemp("own")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    config = own(
        write(folder / "letters.npz", digits), f"tracking.uri={uri}", "report.formats=[png]"
    )
    return folder, uri, run_experiment(config, folder=folder / "run")


@pytest.fixture
def run(made: tuple[Path, str, RunResult], monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", made[1])
    return find_run(made[2].run_id)


def test_the_run_knows_its_classes_in_a_fixed_order(
    run: Run, made: tuple[Path, str, RunResult]
) -> None:
    assert run.classes == ("high", "low", "middle")
    assert (run.tags["data.name"], run.params["data.name"]) == ("own:letters", "own")
    assert made[2].title.startswith("sigmoid100 on own:letters: ")
    assert run.model().output_shape == (None, 3)
    with (made[2].folder / "tables" / "per_class.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == ["high", "low", "middle"]
    assert sum(int(row["support"]) for row in rows) == 100
    assert (
        (made[2].folder / "tables" / "confusion.csv")
        .read_text()
        .startswith("true,predicted_high,predicted_low,predicted_middle\nhigh,")
    )
    assert (made[2].folder / "figures" / "confusion_matrix.png").stat().st_size > 1000


def test_predict_answers_with_names(
    run: Run, digits: Dataset, command: Command, workplace: Path
) -> None:
    Image.fromarray(digits.test_images[0]).save("picture.png")
    code, out, _ = command("predict", "picture.png", "--run", run.run_id)
    assert code == 0
    assert "class" in out.split("probability")[0]
    code, out, _ = command(
        "predict", "picture.png", "--run", run.run_id, "--json", "--show", "seen.png"
    )
    [answer] = json.loads(out)
    assert {answer["digit"], answer["second"]} < {*NAMES}


def test_the_page_answers_with_names(run: Run, digits: Dataset) -> None:
    from mnist_exp.deployment.server import create_app

    pixels = digits.test_images[0].tolist()
    with served(create_app(run)) as address:
        listed = requests.get(f"{address}/models", timeout=30).json()
        assert listed[0]["classes"] == ["high", "low", "middle"]
        said = requests.post(f"{address}/predict", json={"pixels": pixels}, timeout=30).json()
        assert (said["digit"] in NAMES, len(said["probabilities"])) == (True, 3)
        refused = requests.get(f"{address}/examples", {"label": 3}, timeout=30)
        assert refused.json() == {"detail": "label: expected 0 to 2, got 3"}
        found = requests.get(f"{address}/examples", {"label": 2}, timeout=30).json()
        assert {example["label"] for example in found["examples"]} == {2}


def test_the_logged_model_says_what_it_tells_apart(run: Run, digits: Dataset) -> None:
    model = mlflow.pyfunc.load_model(f"runs:/{run.run_id}/sigmoid100")
    assert model.predict(digits.test_images[:5]).shape == (5, 3)
    assert model.metadata.signature.outputs.to_dict()[0]["tensor-spec"]["shape"] == (-1, 3)
    assert model.metadata.metadata["outputs"].endswith("(n, 3) of high, low, middle")


def test_it_is_scored_again_also_on_other_pictures(
    run: Run, made: tuple[Path, str, RunResult], digits: Dataset, command: Command
) -> None:
    code, out, _ = command("evaluate", "--run", run.run_id)
    assert code == 0
    assert "exactly those recorded" in out
    assert "annotators" not in out
    other = write(made[0] / "more.npz", replace(digits, test_images=digits.test_images[100:]))
    code, out, _ = command("evaluate", "--run", run.run_id, "--data", str(other))
    assert (code, f"sigmoid100 on {other}: " in out.replace("\n", "")) == (0, True)
    strange = write(made[0] / "strange.npz", digits, ("a", "b", "c"))
    code, _, err = command("evaluate", "--run", run.run_id, "--data", str(strange))
    assert (code, "tells other classes apart" in err) == (2, True)


def test_other_data_of_the_same_name_stays_apart(
    run: Run, made: tuple[Path, str, RunResult], digits: Dataset, command: Command, tmp_path: Path
) -> None:
    path = write(tmp_path / "letters.npz", digits, ("a", "b", "c"))
    result = run_experiment(own(path, f"tracking.uri={made[1]}"), folder=tmp_path / "run")
    assert find_run("best").run_id == result.run_id  # none is on MNIST: of the newest one's data
    code, out, _ = command("compare")
    assert code == 0
    headings = [line for line in out.splitlines() if line.startswith("1 group on own:letters ")]
    assert len({*headings}) == 2


def test_it_is_extended_as_long_as_its_data_is_there(
    made: tuple[Path, str, RunResult], run: Run, tmp_path: Path
) -> None:
    result = extend_experiment(made[2].folder, 3, tmp_path / "more")
    assert result.title.startswith("sigmoid100 on own:letters: ")
    (made[0] / "letters.npz").rename(made[0] / "gone.npz")
    try:
        with pytest.raises(InputError, match=r"letters\.npz: no such file"):
            extend_experiment(made[2].folder, 4, tmp_path / "even more")
        with pytest.raises(InputError, match="was made with"):
            run.dataset()
    finally:
        (made[0] / "gone.npz").rename(made[0] / "letters.npz")


def test_the_config_of_mnist_has_no_new_key() -> None:
    keys = {"name", "path", "fallback", "validation_split", "validation", "limit"}
    assert set(compose(["data=mnist"]).model_dump()["data"]) == keys
    config = own(Path("a b/c=d.npz"), "data.test_split=0.2", "data.classes=[b,a]")
    assert from_yaml(to_yaml(config)) == config
