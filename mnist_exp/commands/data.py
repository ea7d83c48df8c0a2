"""data: the data sets that are known, and what is in one."""

import io
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from mnist_exp.core.classes import noun
from mnist_exp.core.console import TextTable, console
from mnist_exp.core.errors import InputError


def data(
    chosen: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME|data.KEY=VALUE",
            help="Show this data set, as the run command takes it; default: list all.",
        ),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Read and verify every data set of the list.")
    ] = False,
    sheet: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write a picture of examples of each class (PNG)."),
    ] = None,
) -> None:
    """List the data sets that are known, and where they are; or count the classes of one.

    Nothing is downloaded for the list. The exit code of --check is 1 when one is damaged.
    """
    if not chosen:
        if sheet:
            raise InputError(f"--sheet {sheet}: of which data? give its name, such as mnist5k")
        _list(check)
        return
    from mnist_exp.config.compose import compose
    from mnist_exp.data.dataset import load_dataset

    name, *values = chosen if "=" not in chosen[0] else ["data=own", *chosen]
    found = load_dataset(compose([name if "=" in name else f"data={name}", *values]).data)
    console.print(f"{found.label}: {found.source}, digest {found.digest}", markup=False)
    parts = found.train_labels, found.validation_labels, found.test_labels
    counts = np.stack([np.bincount(each, minlength=len(found.classes)) for each in parts], axis=1)
    rows = zip(found.classes, counts.tolist(), strict=True)
    cells = [[name, *(f"{n:,}" for n in row)] for name, row in rows]
    cells.append(["all", *(f"{n:,}" for n in counts.sum(axis=0).tolist())])
    console.print(TextTable([noun(found.classes), "training", "validation", "test"], cells))
    if sheet:
        from mnist_exp import plots
        from mnist_exp.core.files import write_file

        title = f"{found.label}: {len(found.train_labels):,} training images"
        images, labels = found.train_images, found.train_labels
        figure = plots.digit_sheet(images, labels, title, classes=found.classes)
        figure.savefig(png := io.BytesIO())
        write_file(sheet, png.getvalue(), "--sheet")


def _list(check: bool) -> None:
    from mnist_exp.config.compose import compose
    from mnist_exp.data.dataset import DISPLAY_NAMES, display_name, found_at, load_dataset
    from mnist_exp.data.known import KNOWN

    rows, damaged = [], []
    for name in (*DISPLAY_NAMES, *KNOWN):
        config = compose([f"data={name}"]).data
        where = found_at(config) or "downloaded on first use"
        if check and found_at(config):
            try:
                where = f"{load_dataset(config).source}, verified"
            except InputError as error:
                damaged.append(str(error))
                where = "damaged"
        rows.append([name, KNOWN[name].about if name in KNOWN else display_name(name), where])
    console.print(TextTable(["data=", "what", "where"], rows))
    console.print("pictures of yours: python -m mnist_exp data data.path=FILE")
    if damaged:
        console.print("\n".join(damaged), markup=False)
        raise typer.Exit(1)
