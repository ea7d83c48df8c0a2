"""evaluate: score a finished run's model again."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mnist_exp.commands.options import ExperimentOption, RunOption, StoreOption
from mnist_exp.core.console import TextTable, console
from mnist_exp.core.errors import InputError

if TYPE_CHECKING:
    from mnist_exp.data.dataset import Dataset
    from mnist_exp.evaluation.metrics import Evaluation
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
    """Score a finished run again, from its record alone, as recorded: uncalibrated.

    The exit code is 1 when a score is not exactly the recorded one.
    """
    from mnist_exp.data.dataset import display_name
    from mnist_exp.inference.predictor import Predictor
    from mnist_exp.runs.find import find_run

    found = find_run(run, experiment, tracking_uri)
    dataset = found.dataset(data)
    if dataset.is_bundled and found.tags["data.name"] == "mnist":
        raise InputError(
            f"--data {data}: {found} was trained on full MNIST, and the bundled digits are among "
            "its training images; leave --data out"
        )
    predictor = Predictor(found)
    evaluation = predictor.evaluate(dataset.test_images, dataset.test_labels)
    # The run's own label has the limit it was trained with.
    other = data if dataset.name.startswith("own:") else display_name(dataset.name)
    label = other if data else found.data
    _print_scores(found, dataset, label, evaluation)
    is_recorded = bool(data) or _print_change(found, evaluation)
    if corruptions:
        from mnist_exp.analysis.robustness import CORRUPTION_COLUMNS, score_corruptions

        folder = output or Path("outputs/corruptions") / found.run_id[:8]
        rows = score_corruptions(predictor, dataset, evaluation, folder)
        console.print(TextTable(CORRUPTION_COLUMNS, rows))
        console.print(f"picture and table: {folder}", markup=False)
    if not is_recorded:
        raise typer.Exit(1)


def _print_scores(run: "Run", dataset: "Dataset", label: str, evaluation: "Evaluation") -> None:
    from mnist_exp import plots
    from mnist_exp.data.dataset import DISPUTED

    low, high = evaluation.accuracy_interval
    model = run.title.partition(" on ")[0]
    title = plots.score_title(model, label, evaluation.accuracy, low, high, evaluation.n)
    console.print(f"{run}: {title}", markup=False)
    if dataset.name != "mnist":
        return
    accepted = evaluation.without(DISPUTED)
    console.print(
        f"without the {len(DISPUTED)} images whose label most human annotators reject: "
        f"{100 * accepted.accuracy:.2f} % of {accepted.n:,}"
    )


def _print_change(run: "Run", evaluation: "Evaluation") -> bool:
    """Whether the scores are the recorded ones to the bit; the table of both is printed."""
    from mnist_exp.analysis.reproduction import score_change

    change = score_change(run, evaluation, evaluation.metrics())
    console.print(TextTable(["", "recorded", "now"], change.rows()))
    if change.is_zero:
        console.print("all scores and every probability are exactly those recorded")
        return True
    console.print(
        f"not exactly as recorded: a probability differs by up to {change.probability:.2g}, and "
        f"{change.predictions} answers of {evaluation.n:,}; it was recorded on "
        f"{run.tags.get('cpu')} with {run.tags.get('threads')} threads, and another machine or "
        "thread count rounds otherwise"
    )
    return False
