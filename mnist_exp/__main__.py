"""Use finished runs: `python -m mnist_exp <command>`."""

import typer

from mnist_exp.commands.compare import compare
from mnist_exp.commands.doctor import doctor
from mnist_exp.commands.evaluate import evaluate
from mnist_exp.commands.export import export
from mnist_exp.commands.predict import predict
from mnist_exp.commands.promote import promote
from mnist_exp.commands.reproduce import reproduce
from mnist_exp.commands.serve import serve
from mnist_exp.commands.sync import sync
from mnist_exp.commands.visualize import visualize
from mnist_exp.core.console import exit_with, prepare_process
from mnist_exp.core.errors import InputError

app = typer.Typer(
    help="Compare, check and use recorded runs; python -m mnist_exp.run makes them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
COMMANDS = (
    compare, evaluate, visualize, export, reproduce, promote, predict, serve, sync, doctor,
)  # fmt: skip
for command in COMMANDS:
    app.command()(command)


@app.callback()
def _several() -> None:
    """Compare, check and use recorded runs; python -m mnist_exp.run makes them."""


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
