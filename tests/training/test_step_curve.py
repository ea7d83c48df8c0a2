"""The curve within epochs: the same points whatever the epochs, chunks and breaks."""

from math import ceil

import numpy as np
import pytest
from support import prepare, tiny, train

from mnist_exp.data.dataset import Dataset
from mnist_exp.training.step_curve import POINTS, StepCurve


@pytest.mark.parametrize(
    ("steps", "epochs"), [(20, 1), (300, 1), (201, 1), (469, 5), (7, 60), (1, 20), (1, 1000)]
)
def test_points_lie_at_fixed_steps_and_hold_every_image_once(steps: int, epochs: int) -> None:
    """Each step's loss is its number over the whole run, and its batch is of two images."""
    curve = StepCurve(steps, epochs)
    for epoch in range(epochs):
        slots = curve.slots(epoch)
        loss = np.bincount(slots, epoch * steps + np.arange(steps))
        images = np.bincount(slots, np.full(steps, 2.0))
        sums = np.column_stack([loss, images / 2, images])
        curve.add(epoch, sums, np.arange(epoch * steps, (epoch + 1) * steps, dtype=np.float32))
    every = ceil(steps * epochs / POINTS)
    ends = np.arange(every, steps * epochs + 1, every)
    assert [row["step"] for row in curve.rows] == ends.tolist()
    assert min(20, steps * epochs) <= len(curve.rows) <= POINTS
    means = [np.arange(end - every, end).mean() / 2 for end in ends]
    assert [row["step/train_loss"] for row in curve.rows] == pytest.approx(means)
    assert {row["step/train_accuracy"] for row in curve.rows} == {0.5}
    assert [row["step/learning_rate"] for row in curve.rows] == (ends - 1).tolist()
    assert curve.rows[-1]["epoch"] == pytest.approx(ends[-1] / steps)


def test_a_restored_curve_continues() -> None:
    """Of 70 epochs of 3 steps every second step is a point, so that points span two epochs."""
    whole, restored = StepCurve(3, 70), StepCurve(3, 70)
    for epoch in range(70):
        sums = np.column_stack([np.bincount(whole.slots(epoch)) * 1.0] * 3)
        for curve in (whole, restored):
            curve.add(epoch, sums, np.ones(3, np.float32))
        state, restored = restored.state(), StepCurve(3, 70)
        restored.restore(state)
    assert whole.every == 2
    assert restored.rows == whole.rows
    restored.restore([])  # of a run that had none


@pytest.mark.parametrize("jit", ["false", pytest.param("true", marks=pytest.mark.slow)])
def test_the_points_of_a_training_add_up_to_its_epochs(few_digits: Dataset, jit: str) -> None:
    """180 images in batches of 50, the last of 30: a point per step."""
    config = tiny("train.epochs=2", "train.batch_size=50", f"train.jit={jit}")
    loop = prepare(config, few_digits)
    curve = StepCurve(loop.steps, 2)
    loop.chunk_seconds = 0  # a step per chunk
    history = train(loop, config, curve=curve)
    assert [row["step"] for row in curve.rows] == list(range(1, 9))
    for epoch, row in enumerate(history.epochs):
        points = curve.rows[4 * epoch : 4 * epoch + 4]
        for name in ("loss", "accuracy"):
            mean = np.average([p[f"step/train_{name}"] for p in points], weights=[50, 50, 50, 30])
            assert row[f"train/{name}"] == pytest.approx(mean, rel=1e-5)


def test_the_curve_of_an_extended_run_goes_on_with_wider_points() -> None:
    before, after = StepCurve(3, 70), StepCurve(3, 250)  # 2 and 4 steps a point
    before.add(0, np.array([[2.0, 2, 2], [1, 1, 1]]), np.ones(3, np.float32))
    after.restore(before.state())
    after.add(1, np.array([[5.0, 1, 1], [2, 2, 2]]), np.ones(3, np.float32))
    # The point at step 4 begins with the extended run, at step 3.
    assert [(row["step"], row["step/train_loss"]) for row in after.rows] == [(2, 1.0), (4, 5.0)]
