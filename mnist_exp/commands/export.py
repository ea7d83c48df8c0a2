"""export: write a run's model in formats of other runtimes."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mnist_exp.commands.options import ExperimentOption, RunOption, StoreOption
from mnist_exp.core.console import TextTable, console
from mnist_exp.core.output import quiet_stderr


class FormatName(StrEnum):
    """The formats on the command line."""

    KERAS, H5, SAVED_MODEL = "keras", "h5", "saved_model"
    TFLITE, ONNX = "tflite", "onnx"


def export(
    run: RunOption = "best",
    kinds: Annotated[
        list[FormatName] | None,
        typer.Option("--format", help="May be given several times.", show_default="keras"),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Where to; default: outputs/exports/<run id>."),
    ] = None,
    experiment: ExperimentOption = "mnist",
    tracking_uri: StoreOption = None,
) -> None:
    """Write a run's model in other formats, each loaded again and held against the original."""
    from mnist_exp.core.files import make_folder
    from mnist_exp.inference.predictor import Predictor
    from mnist_exp.runs.find import find_run

    found = find_run(run, experiment, tracking_uri)
    images = found.dataset().test_images
    predictor = Predictor(found)
    with quiet_stderr():
        from mnist_exp.deployment import export as exports

    kinds = kinds or [FormatName.KERAS]
    exports.refuse_missing_tools(kinds)
    folder = make_folder(output or Path("outputs/exports") / found.run_id[:8], "--output")
    rows = []
    for kind in kinds:
        with quiet_stderr():
            exported = exports.export(predictor, kind, folder, images)
        size, speed = f"{exported.bytes / 1000:,.0f} kB", f"{exported.images_per_second:,.0f}"
        changes = [f"{exported.max_abs_difference:.1g}", str(exported.changed_predictions)]
        rows.append([exported.format, exported.name, size, speed, *changes])
    console.print(f"{found} on {len(images):,} test images, in {folder}", markup=False)
    headings = ["format", "file", "size", "images/s", "furthest probability", "changed answers"]
    console.print(TextTable(headings, rows))
    if predictor.temperature != 1:
        console.print(f"calibrated: temperature {predictor.temperature:.3g} is in the files")
    in_bfloat16 = found.tags.get("auto.precision") == "mixed_bfloat16"
    if in_bfloat16 and {"tflite", "onnx"} & {*kinds}:
        console.print("tflite and onnx compute in float32 what this model computes in bfloat16")
