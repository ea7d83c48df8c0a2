"""serve: an HTTP API of a run's model, with a page to draw digits on."""

import socket
from typing import Annotated

import typer

from mnist_exp.commands.options import ExperimentOption, RunOption, StoreOption
from mnist_exp.core.console import console
from mnist_exp.core.errors import InputError


def serve(
    run: RunOption = "best",
    host: Annotated[
        str, typer.Option(help="Who may connect: 0.0.0.0 is everyone who reaches this machine.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any free one.")] = 8000,
    experiment: ExperimentOption = "mnist",
    tracking_uri: StoreOption = None,
) -> None:
    """Open a page where a run reads digits as they are drawn; POST /predict is its API."""
    from mnist_exp.runs.find import find_run

    found = find_run(run, experiment, tracking_uri)
    with _listening(host, port) as listener:
        import uvicorn

        from mnist_exp.deployment.server import create_app

        app = create_app(found)
        address, port = listener.getsockname()[:2]
        url_host = f"[{address}]" if ":" in address else address
        console.print(f"{found}: {found.title}", markup=False)
        console.print(f"http://{url_host}:{port}  (API: /docs; Ctrl-C ends it)", markup=False)
        try:
            uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])
        except KeyboardInterrupt:  # uvicorn has shut down and raises it again
            console.print("stopped")


def _listening(host: str, port: int) -> socket.socket:
    """A socket that listens at this address; raises `InputError`."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family)
        # As asyncio does for its own sockets: without it each response waits 40 ms for an ACK.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listener
    except OSError as error:
        raise InputError(
            f"{host}:{port}: {error.strerror or error}; give another with --port or --host"
        ) from error
