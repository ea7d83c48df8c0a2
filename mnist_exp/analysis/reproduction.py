"""Reproduction: a recorded run trained again, and how its result differs from the record."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mnist_exp.config.compose import fingerprint_values, with_values
from mnist_exp.core import provenance
from mnist_exp.core.errors import InputError
from mnist_exp.core.files import make_folder
from mnist_exp.core.layout import CODE_DIFF, CONFIG, MODEL
from mnist_exp.core.output import quiet_stderr
from mnist_exp.core.provenance import Commit
from mnist_exp.evaluation.metrics import Evaluation
from mnist_exp.runs.folder import RunFolder
from mnist_exp.runs.run import EXTENDED_FROM_TAG, FINGERPRINT_TAG, Run
from mnist_exp.tracking import store

# In a child process: it may import other code, and TensorFlow counts its threads when it starts.
TRAIN_PROGRAM = """
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
DATA_PLACES = ("name", "path", "test_path", "fallback")  # keys that may differ here
TIMINGS = ("train/seconds", "train/compile_seconds", "train/epoch_seconds")


@dataclass(frozen=True)
class ScoreChange:
    """The difference between the recorded scores of a run and new ones of its test images."""

    probability: float  # the largest absolute difference
    predictions: int  # images with another predicted class
    metrics: Mapping[str, tuple[float, float]]  # recorded, now

    @property
    def is_zero(self) -> bool:
        """Whether all probabilities and metrics are bit-equal."""
        return not self.probability and all(old == new for old, new in self.metrics.values())

    def rows(self) -> list[list[str]]:
        """The cells of a table: each metric, recorded and now."""
        return [[name, f"{old:.6g}", f"{new:.6g}"] for name, (old, new) in self.metrics.items()]


@dataclass(frozen=True)
class Reproduction:
    """The difference between a run and its second training."""

    scores: ScoreChange
    weight: float  # the largest absolute difference; inf for other shapes
    epoch: int | None  # the first with other metrics, from 1
    reasons: list[str]  # differences of code, versions and hardware

    @property
    def is_equal(self) -> bool:
        """Whether all weights, probabilities and metrics per epoch are bit-equal."""
        return not self.weight and not self.scores.probability and self.epoch is None


def reproduce(run: Run, folder: Path) -> Reproduction:
    """Train the run again, in the empty `folder`, and compare; raises `InputError`."""
    history, _, model = run.history(), run.evaluation(), run.model()  # before any training
    run.dataset()
    folder = make_folder(folder.absolute(), "--output")
    if any(folder.iterdir()):
        raise InputError(f"--output {folder}: expected an empty folder; give another")
    with tempfile.TemporaryDirectory() as temporary:
        code, reasons = _code(run, Path(temporary))
        _train(run, code, Path(temporary) / "asked.yaml", folder)
    with quiet_stderr():
        from mnist_exp.core import hardware
        from mnist_exp.models.io import load_model

        weights = load_model(folder / MODEL, MODEL, classes=len(run.classes)).get_weights()
        machine = hardware.describe()
    again = RunFolder(folder)
    if origin := run.tags.get(EXTENDED_FROM_TAG):
        reasons.append(f"it is trained from the start, and was extended from run {origin[:8]}")
    return Reproduction(
        score_change(run, again.evaluation(), dict(sorted(again.metrics().items()))),
        weight=_max_abs_difference(model.get_weights(), weights),
        epoch=_first_changed_epoch(history, again.history()),
        reasons=reasons + machine_changes(run, machine),
    )


def score_change(run: Run, evaluation: Evaluation, metrics: Mapping[str, float]) -> ScoreChange:
    """The difference from the record of the run; raises `InputError` when it has no predictions."""
    recorded = run.evaluation()
    return ScoreChange(
        _max_abs_difference([recorded.probabilities], [evaluation.probabilities]),
        int((recorded.predictions != evaluation.predictions).sum()),
        {
            name: (run.metrics[name], value)
            for name, value in metrics.items()
            if name.startswith(("test/", "val/")) and name in run.metrics
        },
    )


def _code(run: Run, folder: Path) -> tuple[Path, list[str]]:
    """The folder of the run's code, rebuilt in `folder` if need be, and how it differs."""
    try:
        digest = run.tags["data.digest"]
        fingerprint = provenance.fingerprint(fingerprint_values(run.config()), digest)
        if run.tags[FINGERPRINT_TAG] == fingerprint:
            return provenance.ROOT, []
    except InputError:  # the config has keys of other code
        pass
    dirty = run.tags.get("git.dirty") == "true"
    diff = run.file(CODE_DIFF).read_text() if dirty else ""
    try:
        provenance.rebuild(Commit(run.tags.get("mlflow.source.git.commit", ""), diff), folder)
    except InputError as error:
        return provenance.ROOT, [f"the code is not the run's: {error}"]
    return folder, []


def _train(run: Run, code: Path, config: Path, folder: Path) -> None:
    """Train with this code in a child process that fills the folder; raises `InputError`."""
    data = run.data_config()
    values = {
        **{f"data.{key}": value for key, value in data if key in DATA_PLACES},
        "save_as": [MODEL],
        "tracking.enabled": False,
        "tracking.uri": store.uri(run.tracking),  # in which start_from is found
        "train.precision": run.tags["auto.precision"],  # `auto` may resolve to another one here
        "train.jit": run.tags["auto.jit"] == "true",
    }
    config.write_text(with_values(run.file(CONFIG).read_text(encoding="utf-8"), values))
    threads = {"TF_NUM_INTRAOP_THREADS": run.tags["threads"]}
    command = [sys.executable, "-c", TRAIN_PROGRAM, str(config), str(folder)]
    places = os.pathsep.join([str(code), os.getcwd()])  # where parts of the user's own are
    child = subprocess.run(
        command, cwd=code, env=os.environ | threads | {"PYTHONPATH": places}, check=False
    )
    if child.returncode == 130:
        raise KeyboardInterrupt
    if child.returncode:
        raise InputError(f"{run} could not be trained again: see above; choose another with --run")


def _max_abs_difference(before: list[np.ndarray], after: list[np.ndarray]) -> float:
    """The largest absolute difference, with NaN equal to NaN; inf for other shapes."""
    if [array.shape for array in before] != [array.shape for array in after]:
        return float("inf")
    largest = 0.0
    for a, b in zip(before, after, strict=True):
        same = (a == b) | (np.isnan(a) & np.isnan(b))
        differences = np.nan_to_num(np.abs(a - b), nan=np.inf)
        largest = max(largest, float(differences.max(initial=0, where=~same)))
    return largest


def _first_changed_epoch(
    before: list[dict[str, float]], after: list[dict[str, float]]
) -> int | None:
    """The first epoch, from 1, whose metrics but for times differ; None when all are equal."""
    for number, (old, new) in enumerate(zip(before, after, strict=False), start=1):
        names = old.keys() - TIMINGS
        if any(repr(old[name]) != repr(new.get(name)) for name in names):  # NaN equals NaN
            return number
    return None if len(before) == len(after) else min(len(before), len(after)) + 1


def machine_changes(run: Run, machine: Mapping[str, str]) -> list[str]:
    """The versions and hardware that differ from the run's and may change its result."""
    now = {f"version.{name}": version for name, version in provenance.versions().items()}
    now |= {name: machine[name] for name in ("cpu", "gpu", "instructions")}
    changes = [
        f"{name.removeprefix('version.')} is {value}, it was {run.tags[name]}"
        for name, value in now.items()
        if run.tags.get(name, value) != value
    ]
    if machine["gpu"] != "none":
        changes.append("a GPU sums in another order each time")
    return changes
