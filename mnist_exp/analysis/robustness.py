"""Robustness: a model's test accuracy under corruptions of the images."""

import csv
from pathlib import Path

import numpy as np

from mnist_exp import plots
from mnist_exp.core.files import make_folder
from mnist_exp.data.dataset import Dataset
from mnist_exp.evaluation.corruptions import CORRUPTIONS, corrupt
from mnist_exp.evaluation.metrics import Evaluation
from mnist_exp.inference.predictor import Predictor

CORRUPTION_COLUMNS = ("corruption", "accuracy %", "low", "high", "points lost")


def score_corruptions(
    predictor: Predictor, data: Dataset, clean: Evaluation, folder: Path
) -> list[list[str]]:
    """The cells below `CORRUPTION_COLUMNS`: a row per corruption with its 95 % interval, the mean.

    `clean` is the evaluation of the uncorrupted test images. Writes corruptions.csv and
    corruptions.png into the folder; raises `InputError` when it cannot be made.
    """
    make_folder(folder, "--output")
    shown = np.unique(data.test_labels, return_index=True)[1][:10].tolist()
    samples = [data.test_images[shown]]
    captions = [f"as they are: {100 * clean.accuracy:.2f} %"]
    rows = []
    for kind in CORRUPTIONS:
        corrupted = corrupt(data.test_images, kind)
        evaluation = predictor.evaluate(corrupted, data.test_labels)
        shares = evaluation.accuracy, *evaluation.accuracy_interval
        lost = clean.accuracy - evaluation.accuracy
        rows.append([kind, *(f"{100 * share:.2f}" for share in (*shares, lost))])
        samples.append(corrupted[shown])
        captions.append(f"{kind}: {rows[-1][1]} %")
    mean = sum(float(row[1]) for row in rows) / len(rows)
    rows.append(["mean", f"{mean:.2f}", "", "", f"{100 * clean.accuracy - mean:.2f}"])
    with (folder / "corruptions.csv").open("w", newline="") as file:
        csv.writer(file).writerows([CORRUPTION_COLUMNS, *rows])
    title = f"{predictor.run.params['model.name']} under corruptions: {mean:.2f} % on average"
    plots.corruption_sheet(samples, captions, title).savefig(folder / "corruptions.png")
    return rows
