"""One door for all: `python -m mnist_exp <command>`, or `mnist-exp <command>`."""

import sys
from importlib.metadata import version
from typing import Annotated

import typer

from mnist_exp.commands.clean import clean
from mnist_exp.commands.compare import compare
from mnist_exp.commands.data import data
from mnist_exp.commands.doctor import doctor
from mnist_exp.commands.evaluate import evaluate
from mnist_exp.commands.export import export
from mnist_exp.commands.predict import predict
from mnist_exp.commands.promote import promote
from mnist_exp.commands.reproduce import reproduce
from mnist_exp.commands.runs import runs
from mnist_exp.commands.serve import serve
from mnist_exp.commands.sync import sync
from mnist_exp.commands.visualize import visualize
from mnist_exp.core.console import exit_with, prepare_process
from mnist_exp.core.errors import InputError

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
COMMANDS = (
    runs, compare, evaluate, visualize, export, reproduce, promote, predict, serve, sync, clean,
    data, doctor,
)  # fmt: skip


@app.command(
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def run(context: typer.Context) -> None:
    """Train and record one experiment, or a sweep with -m; the same as python -m mnist_exp.run."""
    from mnist_exp.run import command  # Hydra is not needed by the other commands

    sys.argv = ["run", *context.args]
    command()


for command in COMMANDS:
    app.command()(command)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mnist_exp {version('mnist-exp')}")
        raise typer.Exit


@app.callback()
def _several(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Train, compare and use handwritten-digit models."""


def main() -> None:
    """The command; exit code 2 with a sentence for what the user can mend."""
    prepare_process()
    try:
        app()
    except InputError as error:
        exit_with(2, str(error), error)
    except KeyboardInterrupt as error:
        exit_with(130, "interrupted", error)


if __name__ == "__main__":
    main()
