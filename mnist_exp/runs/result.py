"""The result of an experiment, as `run_experiment` returns it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class RunResult:
    """The result of one run; as a number its validation accuracy, which sweeps optimise."""

    title: str  # model, data, score and n in one line
    folder: Path
    run_id: str  # empty when tracking is off
    metrics: Mapping[str, float]
    data: str  # the label of the data set the scores are of

    def __float__(self) -> float:
        return self.metrics.get("val/accuracy", float("nan"))

    def to_dict(self) -> dict[str, Any]:
        """The result in JSON's types."""
        return vars(self) | {"folder": str(self.folder), "metrics": dict(self.metrics)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "RunResult":
        """The result that `to_dict` gave."""
        return cls(**dict(values) | {"folder": Path(values["folder"])})
