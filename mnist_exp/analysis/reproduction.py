"""A recorded run made again: its config, its data, its code; and whether it came out the same."""

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mnist_exp.config.serialize import scientific, with_values
from mnist_exp.core import provenance
from mnist_exp.core.console import quiet_stderr
from mnist_exp.core.errors import InputError
from mnist_exp.core.files import make_folder
from mnist_exp.core.layout import MODEL
from mnist_exp.core.provenance import Commit
from mnist_exp.runs.folder import RunFolder
from mnist_exp.runs.run import FINGERPRINT_TAG, Run

# A process of its own: it may import other code, and threads are counted when TensorFlow starts.
AGAIN = """
import sys
from pathlib import Path
from omegaconf import OmegaConf
from mnist_exp import run_experiment
try:
    from mnist_exp.config.compose import parse
    from mnist_exp.core.console import prepare_process
    from mnist_exp.core.errors import InputError
except ImportError:  # code from before these packages
    from mnist_exp.config import parse
    from mnist_exp.errors import InputError
    from mnist_exp.terminal import prepare_process
prepare_process()
try:
    run_experiment(parse(OmegaConf.load(sys.argv[1])), folder=Path(sys.argv[2]))
except InputError as error:
    sys.exit(str(error))
except KeyboardInterrupt:
    sys.exit(130)
"""
TIMINGS = ("train/seconds", "train/compile_seconds", "train/epoch_seconds")


@dataclass(frozen=True)
class Reproduction:
    """How the second time compares with the record."""

    folder: Path
    weight: float  # the largest difference of a weight; inf for other shapes
    probability: float  # of a test image's probability
    answers: int  # test images that are read as another digit
    epoch: int | None  # the first, from 1, whose figures differ
    scores: dict[str, tuple[float, float]]  # test/accuracy ...: recorded, now
    reasons: list[str]  # what is not as it was

    @property
    def is_equal(self) -> bool:
        """Whether every weight, probability and epoch's figure is the recorded one, to the bit."""
        return not self.weight and not self.probability and self.epoch is None


def reproduce(run: Run, folder: Path) -> Reproduction:
    """Trains the run again, in the folder; raises `InputError` when it cannot be."""
    before = run.history(), run.evaluation(), run.model()  # there must be some
    run.dataset()
    folder = make_folder(folder.absolute(), "--output")
    if any(folder.iterdir()):
        raise InputError(f"--output {folder}: expected an empty folder; give another")
    with tempfile.TemporaryDirectory() as place:
        code, reasons = _code(run, Path(place))
        _train(run, code, Path(place) / "asked.yaml", folder)
    history, evaluation, model = before
    with quiet_stderr():
        from mnist_exp.core import hardware
        from mnist_exp.models.io import load_model

        weights = load_model(folder / MODEL, MODEL).get_weights()
        machine = hardware.describe()
    again = RunFolder(folder)
    now, metrics = again.evaluation(), again.metrics()
    scored = {name for name in metrics if name.startswith(("test/", "val/"))} & set(run.metrics)
    return Reproduction(
        folder,
        weight=_max_abs_difference(model.get_weights(), weights),
        probability=_max_abs_difference([evaluation.probabilities], [now.probabilities]),
        answers=int((evaluation.predictions != now.predictions).sum()),
        epoch=_first_other(history, again.history()),
        scores={name: (run.metrics[name], metrics[name]) for name in sorted(scored)},
        reasons=reasons + _changes(run, machine),
    )


def _code(run: Run, place: Path) -> tuple[Path, list[str]]:
    """The folder of the run's code, and why it is not quite that."""
    try:
        digest = run.tags["data.digest"]
        mark = provenance.fingerprint(scientific(run.config()), digest)
        if run.tags[FINGERPRINT_TAG] == mark:
            return provenance.ROOT, []
    except InputError:  # of other code, that had other keys
        pass
    dirty = run.tags.get("git.dirty") == "true"
    diff = run.file("code.diff").read_text() if dirty else ""
    try:
        provenance.rebuild(Commit(run.tags.get("mlflow.source.git.commit", ""), diff), place)
    except InputError as error:
        return provenance.ROOT, [f"the code is not the run's: {error}"]
    return place, []


def _train(run: Run, code: Path, config: Path, folder: Path) -> None:
    """Trains with that code in a process of its own, which leaves its results in the folder."""
    data = run.data_config()
    values = {
        "data.name": data.name,
        "data.path": data.path and str(Path(data.path).absolute()),
        "data.fallback": data.fallback,
        "save_as": [MODEL],
        "tracking.enabled": False,
        "train.precision": run.tags["auto.precision"],  # what auto was there
        "train.jit": run.tags["auto.jit"] == "true",
    }
    config.write_text(with_values(run.file("config.yaml").read_text(encoding="utf-8"), values))
    threads = {"TF_NUM_INTRAOP_THREADS": run.tags["threads"]}
    command = [sys.executable, "-c", AGAIN, str(config), str(folder)]
    done = subprocess.run(
        command, cwd=code, env=os.environ | threads | {"PYTHONPATH": str(code)}, check=False
    )
    if done.returncode == 130:
        raise KeyboardInterrupt
    if done.returncode:
        raise InputError(f"{run} could not be trained again: see above; choose another with --run")


def _max_abs_difference(these: list[np.ndarray], those: list[np.ndarray]) -> float:
    """The largest difference; inf for other shapes."""
    if [array.shape for array in these] != [array.shape for array in those]:
        return float("inf")
    max_abs_difference = 0.0
    for one, other in zip(these, those, strict=True):
        same = (one == other) | (np.isnan(one) & np.isnan(other))
        differences = np.nan_to_num(np.abs(one - other), nan=np.inf)
        max_abs_difference = max(max_abs_difference, float(differences.max(initial=0, where=~same)))
    return max_abs_difference


def _first_other(recorded: list[dict[str, float]], now: list[dict[str, float]]) -> int | None:
    for number, (before, after) in enumerate(zip(recorded, now, strict=False), start=1):
        figures = before.keys() - TIMINGS
        if any(repr(before[name]) != repr(after.get(name)) for name in figures):  # nan is nan
            return number
    return None if len(recorded) == len(now) else min(len(recorded), len(now)) + 1


def _changes(run: Run, machine: dict[str, str]) -> list[str]:
    """What is not as it was when the run was recorded, and could make a difference."""
    now = {f"version.{name}": number for name, number in provenance.versions().items()}
    now |= {"cpu": machine["cpu"], "gpu": machine["gpu"]}
    changes = [
        f"{name.removeprefix('version.')} is {value}, it was {run.tags[name]}"
        for name, value in now.items()
        if run.tags.get(name, value) != value
    ]
    if machine["gpu"] != "none":
        changes.append("a GPU sums in another order each time")
    return changes
