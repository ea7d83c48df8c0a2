"""The file names in a run folder and in a sweep folder."""

from enum import StrEnum

CONFIG = "config.yaml"
OVERRIDES = "overrides.txt"
CODE_DIFF = "code.diff"
LOG = "run.log"
LOCK = ".running"  # locked by the process of the run
JOURNAL = "record.jsonl"
HISTORY, CURVE = "history.csv", "steps.csv"  # epochs; steps within them
CURVE_COLUMNS = ("step", "epoch", "step/train_loss", "step/train_accuracy", "step/learning_rate")
CHECKPOINTS = "checkpoints"
INTERRUPTED_MODEL = "interrupted.keras"
MODEL = "model.keras"
METRICS = "metrics.json"
SUMMARY = "summary.txt"
PREDICTIONS, VALIDATION = "predictions.npz", "validation.npz"
CALIBRATION = "calibration.json"
TABLES, FIGURES = "tables", "figures"
TENSORBOARD = "tensorboard"  # its files, if callbacks=tensorboard
RESULT = "outcome.json"
TRACEBACK = "traceback.txt"
RUN_ARTIFACTS = (  # uploaded as files; the model is logged as an MLflow model
    CONFIG, OVERRIDES, LOG, HISTORY, CURVE, METRICS, SUMMARY, PREDICTIONS, VALIDATION,
    CALIBRATION, CODE_DIFF, TABLES, FIGURES,
)  # fmt: skip

SWEEP_JOBS, SWEEP_GROUPS = "sweep.csv", "over_seeds.csv"
SWEEP_PROGRESS = "progress.jsonl"  # how jobs ended, while the sweep runs
SWEEP_ARTIFACTS = (SWEEP_JOBS, SWEEP_GROUPS, FIGURES)


class FigureFormat(StrEnum):
    """The format of a figure's file, which is also its suffix."""

    PNG, SVG, PDF = "png", "svg", "pdf"
