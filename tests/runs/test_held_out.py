"""Runs with different validation images are compared on those that both have."""

from pathlib import Path

import mlflow
import numpy as np
import pytest
from support import tiny

from mnist_exp.core.errors import InputError
from mnist_exp.data.dataset import load_dataset
from mnist_exp.deployment.registry import promote
from mnist_exp.experiment import run_experiment
from mnist_exp.runs.find import resolve_run, shared_accuracies
from mnist_exp.runs.search import store_config


def test_a_lucky_validation_set_wins_nothing(tmp_path: Path, store: str) -> None:
    """It has 10 of the other's 100 images, and a val/accuracy of 100 %."""
    where = [f"tracking.uri={store}", "tracking.experiment=held_out", "data.validation_split=0.5"]
    good = run_experiment(tiny(*where, "train.epochs=3"), folder=tmp_path / "good")
    few = ["data.validation=10", "optimizer.learning_rate=1e-6"]
    lucky = run_experiment(tiny(*where, *few), folder=tmp_path / "lucky")
    mlflow.MlflowClient(store).log_metric(lucky.run_id, "val/accuracy", 1.0, step=9)

    runs = [resolve_run(run.run_id, store_config("held_out", store)) for run in (good, lucky)]
    assert [run.metrics["val/accuracy"] for run in runs] == [good.metrics["val/accuracy"], 1.0]
    data = load_dataset(tiny(*where, *few).data)
    indices, validation = runs[1].validation()
    assert np.array_equal(indices, data.validation_indices)
    assert np.array_equal(validation.labels, data.validation_labels)
    assert validation.accuracy == lucky.metrics["val/accuracy"]

    whole, (accuracies, n) = runs[0].validation()[1], shared_accuracies(runs)
    assert n == 10
    assert accuracies == [whole.correct[indices - 100].mean(), validation.accuracy]
    assert accuracies[0] > accuracies[1]
    assert resolve_run("best", store_config("held_out", store)).run_id == good.run_id
    promote(runs[0], "held_out", "champion")
    with pytest.raises(InputError, match="has on the 10 images that both validated on an accuracy"):
        promote(runs[1], "held_out", "champion")


@pytest.mark.slow
def test_without_common_predictions_nothing_is_compared(tmp_path: Path, store: str) -> None:
    """The last 20 of 200 images and the last 10 of 100."""
    where = [f"tracking.uri={store}", "tracking.experiment=apart"]
    made = [
        run_experiment(tiny(*where, f"data.limit={limit}"), folder=tmp_path / str(limit))
        for limit in (100, 200)
    ]
    runs = [resolve_run(run.run_id, store_config("apart", store)) for run in made]
    assert shared_accuracies(runs) == ([], 0)
    promote(runs[0], "apart", "champion")
    with pytest.raises(InputError, match="they share no stored predictions of validation images"):
        promote(runs[1], "apart", "champion")
