"""The training curve within epochs: means over equal stretches of steps."""

from collections.abc import Sequence
from math import ceil

import numpy as np
from numpy.typing import NDArray

from mnist_exp.core.layout import CURVE_COLUMNS

POINTS = 200  # of a run, at most


class StepCurve:
    """Mean loss and accuracy over every `every` steps, with the last one's learning rate."""

    def __init__(self, steps: int, epochs: int) -> None:
        """For epochs of so many steps; `rows` receives the points, by `CURVE_COLUMNS`."""
        self.steps, self.every = steps, ceil(steps * epochs / POINTS)
        self.rows: list[dict[str, float]] = []
        self._open = np.zeros(3)  # loss, correct answers and images since the last row

    def slots(self, epoch: int) -> NDArray[np.int32]:
        """The number (steps,) of the point that each step of the epoch counts towards, from 0."""
        first = epoch * self.steps % self.every
        return ((first + np.arange(self.steps)) // self.every).astype(np.int32)

    def add(self, epoch: int, sums: NDArray[np.float64], rates: NDArray[np.float32]) -> None:
        """Add the points that end in `epoch`, counted from 0.

        `sums` (slots, 3) are the loss, correct answers and images of the epoch's steps by slot,
        `rates` (steps,) their learning rates. The last slot may go on in the next epoch.
        """
        first = epoch * self.steps
        sums = np.concatenate([sums[:1] + self._open, sums[1:]])
        ends = self.every * (first // self.every + 1 + np.arange(len(sums)))
        for end, (loss, correct, images) in zip(ends.tolist(), sums.tolist(), strict=True):
            if end <= first + self.steps:
                rate = float(rates[end - first - 1])
                values = (end, end / self.steps, loss / images, correct / images, rate)
                self.rows.append(dict(zip(CURVE_COLUMNS, values, strict=True)))
        self._open = sums[-1] if ends[-1] > first + self.steps else np.zeros(3)

    def state(self) -> list[NDArray[np.float64]]:
        """The points so far and all that the next ones depend on, for `restore`."""
        return [np.array([list(row.values()) for row in self.rows]), self._open]

    def restore(self, state: Sequence[NDArray[np.float64]]) -> None:
        """Continue from this state; an empty one is of a run recorded without a curve."""
        if state:
            rows = ((int(step), *values) for step, *values in state[0].tolist())
            self.rows = [dict(zip(CURVE_COLUMNS, row, strict=True)) for row in rows]
            # A run with more epochs has wider points: its first one begins where it does.
            is_as_wide = not self.rows or self.rows[0]["step"] == self.every
            self._open = state[1] if is_as_wide else np.zeros(3)
