"""evaluate: a finished run's model, scored again."""

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mnist_exp.commands.options import ExperimentOption, RunOption, StoreOption
from mnist_exp.core.console import console, table
from mnist_exp.core.errors import InputError

if TYPE_CHECKING:
    from mnist_exp.data.dataset import Dataset
    from mnist_exp.evaluation.metrics import Evaluation
    from mnist_exp.inference.predictor import Predictor
    from mnist_exp.runs.run import Run


def evaluate(
    run: RunOption = "best",
    data: Annotated[
        str,
        typer.Option(metavar="mnist5k|PATH", help="Other test images than the run's own."),
    ] = "",
    corruptions: Annotated[
        bool, typer.Option("--corruptions", help="Also score eight corruptions of the images.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="For the corruptions' table and picture; default: outputs/corruptions/<run id>.",
        ),
    ] = None,
    experiment: ExperimentOption = "mnist",
    tracking_uri: StoreOption = None,
) -> None:
    """Score a finished run again, from its record alone.

    The exit code is 1 when a figure is not exactly the recorded one.
    """
    from mnist_exp.inference.predictor import Predictor
    from mnist_exp.runs.find import find_run

    found = find_run(run, experiment, tracking_uri)
    images = found.dataset(data)
    if images.is_bundled and found.tags["data.name"] == "mnist":
        raise InputError(
            f"--data {data}: {found} was trained on full MNIST, and the bundled digits are among "
            "its training images; leave --data out"
        )
    classifier = Predictor(found)
    scored = classifier.evaluate(images.test_images, images.test_labels)
    _say(found, images, scored)
    same = bool(data) or _against_record(found, scored)
    if corruptions:
        folder = output or Path("outputs/corruptions") / found.run_id[:8]
        _under_corruptions(classifier, images, scored, folder)
    if not same:
        raise typer.Exit(1)


def _say(run: "Run", images: "Dataset", scored: "Evaluation") -> None:
    from mnist_exp import plots
    from mnist_exp.data.dataset import DISPUTED, LABELS

    low, high = scored.accuracy_interval
    model, data = run.params["model.name"], LABELS[images.name]
    title = plots.score_title(model, data, scored.accuracy, low, high, scored.n)
    console.print(title, markup=False)
    if images.is_bundled:
        return
    accepted = scored.without(DISPUTED)
    console.print(
        f"without the {len(DISPUTED)} images whose label most human annotators reject: "
        f"{100 * accepted.accuracy:.2f} % of {accepted.n:,}"
    )


def _against_record(run: "Run", scored: "Evaluation") -> bool:
    """Says whether the figures are those that were stored, to the last bit."""
    stored = run.evaluation()
    now, before = scored.metrics(), run.metrics
    rows = [[name, f"{before[name]:.6g}", f"{value:.6g}"] for name, value in now.items()]
    console.print(table(["", "recorded", "now"], rows))
    max_abs_difference = float(abs(scored.probabilities - stored.probabilities).max())
    if max_abs_difference == 0 and all(before[name] == value for name, value in now.items()):
        console.print("all figures and every probability are exactly those recorded")
        return True
    console.print(
        f"not exactly as recorded: a probability differs by up to {max_abs_difference:.2g}, and "
        f"{int((scored.predictions != stored.predictions).sum())} answers of {scored.n:,}; it was "
        f"recorded on {run.tags.get('cpu')} with {run.tags.get('threads')} threads, and another "
        "machine or thread count rounds otherwise"
    )
    return False


def _under_corruptions(
    classifier: "Predictor", images: "Dataset", clean: "Evaluation", folder: Path
) -> None:
    """The table of all corruptions, printed and written, and a picture of them."""
    from mnist_exp import plots
    from mnist_exp.core.files import make_folder
    from mnist_exp.evaluation.corruptions import CORRUPTIONS, corrupt

    make_folder(folder, "--output")
    labels, samples = images.test_labels, [images.test_images]
    rows, captions = [], [f"as they are: {100 * clean.accuracy:.2f} %"]
    for kind in CORRUPTIONS:
        samples.append(corrupt(images.test_images, kind))
        scored = classifier.evaluate(samples[-1], labels)
        low, high = scored.accuracy_interval
        captions.append(f"{kind}: {100 * scored.accuracy:.2f} %")
        lost = clean.accuracy - scored.accuracy
        figures = scored.accuracy, low, high, lost
        rows.append([kind, *(f"{100 * figure:.2f}" for figure in figures)])
    headings = ["corruption", "accuracy %", "low", "high", "points lost"]
    mean = sum(float(row[1]) for row in rows) / len(rows)
    rows.append(["mean", f"{mean:.2f}", "", "", f"{100 * clean.accuracy - mean:.2f}"])
    console.print(table(headings, rows))
    with (folder / "corruptions.csv").open("w", newline="") as file:
        csv.writer(file).writerows([headings, *rows])
    title = f"{classifier.run.params['model.name']} under corruptions: {mean:.2f} % on average"
    chosen = [int((labels == digit).argmax()) for digit in range(10)]
    figure = plots.corruption_sheet([of_kind[chosen] for of_kind in samples], captions, title)
    figure.savefig(folder / "corruptions.png")
    console.print(f"picture and table: {folder}", markup=False)
