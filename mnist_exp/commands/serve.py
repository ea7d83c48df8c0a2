"""serve: a page where digits are read as they are drawn, and an API."""

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

        from mnist_exp.deployment import server as serving

        app = serving.app(found)
        name, number = listener.getsockname()[:2]
        address = f"[{name}]" if ":" in name else name
        console.print(f"{found}: {found.title}", markup=False)
        console.print(f"http://{address}:{number}  (API: /docs; Ctrl-C ends it)", markup=False)
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        try:
            server.run(sockets=[listener])
        except KeyboardInterrupt:  # uvicorn ended in order, and passes it on
            console.print("stopped")


def _listening(host: str, port: int) -> socket.socket:
    """A socket at this address; raises `InputError`."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family)
        # asyncio does so for sockets it made itself; without, each answer waits 40 ms for an ACK.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listener
    except OSError as error:
        raise InputError(
            f"{host}:{port}: {error.strerror or error}; give another with --port or --host"
        ) from error
