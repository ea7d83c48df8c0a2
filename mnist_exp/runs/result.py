"""What an experiment came to, and the file in its folder that says so."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnist_exp.runs.run import Run
from mnist_exp.training.checkpoints import write_whole

OUTCOME = "outcome.json"


@dataclass(frozen=True)
class Outcome:
    """What an experiment came to; as a number its validation accuracy, which sweeps optimise."""

    title: str  # model, data, score and n in one line
    folder: Path
    run_id: str  # empty when tracking is off
    metrics: Mapping[str, float]
    data: str  # the label of the data set the scores are of

    def __float__(self) -> float:
        return self.metrics.get("val/accuracy", float("nan"))

    def save(self) -> None:
        """Leaves the outcome in the run folder: the run is complete."""
        values = self.as_dict() | {"folder": ""}  # it may be moved
        text = json.dumps(values, indent=2) + "\n"
        write_whole(self.folder / OUTCOME, lambda file: file.write(text.encode()))

    @classmethod
    def load(cls, folder: Path) -> "Outcome":
        """The outcome of the complete run in `folder`; raises `FileNotFoundError` for others."""
        return cls.of_dict(json.loads((folder / OUTCOME).read_text()) | {"folder": folder})

    def as_dict(self) -> dict[str, Any]:
        """The outcome in JSON's types."""
        return vars(self) | {"folder": str(self.folder), "metrics": dict(self.metrics)}

    @classmethod
    def of_dict(cls, values: Mapping[str, Any]) -> "Outcome":
        """The outcome that `as_dict` told of."""
        return cls(**dict(values) | {"folder": Path(values["folder"])})

    @classmethod
    def of_run(cls, run: Run) -> "Outcome":
        """The outcome as the record has it."""
        return cls(run.title, Path(run.folder), run.run_id, run.metrics, run.data)
