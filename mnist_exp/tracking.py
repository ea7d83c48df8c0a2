"""The only way a run is opened and closed: from RUNNING to FINISHED, FAILED or KILLED."""

import getpass
import logging
import os
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from mnist_exp.config import Tracking, without_password
from mnist_exp.errors import InputError
from mnist_exp.locks import alone
from mnist_exp.records import MlflowRun, Record
from mnist_exp.signals import uninterrupted

logger = logging.getLogger(__name__)

PARENT = "MNIST_EXP_PARENT_RUN"  # not MLFLOW_RUN_ID: that one would override the run to open
TRACEBACK = "traceback.txt"


@contextmanager
def record(
    config: Tracking,
    *,
    name: str,
    folder: Path,
    params: Mapping[str, Any],
    tags: Mapping[str, str],
    files: Sequence[str] = (),
) -> Iterator[Record]:
    """An open run that is closed whatever happens, and `files` of its folder published.

    FINISHED at a normal end, KILLED at Ctrl-C or SIGTERM, FAILED with the traceback otherwise.
    Raises `InputError` when there is no store to write to.
    """
    if not config.enabled:
        yield Record()
        return
    with uninterrupted():
        run = _open(config, name, tags)
    try:
        run.log_params(params)
        yield run
    except KeyboardInterrupt:
        with uninterrupted(), _best_effort(run.uri):
            run.log_tags({"outcome": "interrupted"})
            _close(run, "KILLED", folder, files)
        raise
    except Exception:
        (folder / TRACEBACK).write_text(traceback.format_exc())
        with uninterrupted(), _best_effort(run.uri):
            _close(run, "FAILED", folder, [*files, TRACEBACK])
        raise
    with uninterrupted():
        try:
            run.log_files(folder, files)
        except Exception:
            run.close("FAILED")
            raise
        run.close("FINISHED")


def _close(run: MlflowRun, status: str, folder: Path, files: Sequence[str]) -> None:
    """Ends the run with its files; without them rather than not at all."""
    try:
        run.log_files(folder, files)
    finally:
        run.close(status)


@contextmanager
def _best_effort(uri: str) -> Iterator[None]:
    """Within: an error of the store is a warning; another error is on its way already."""
    try:
        yield
    except Exception as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        logger.warning(f"{without_password(uri)} did not hear how the run ended: {reason}")


def _open(config: Tracking, name: str, tags: Mapping[str, str]) -> MlflowRun:
    """A new run; the first to come makes the store's schema while the others wait."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # else minutes at a closed port
    from mlflow.exceptions import MlflowException

    uri = store_uri(config)
    file = Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None
    try:
        with alone(file.with_name(f"{file.name}.lock")) if file else nullcontext():
            return MlflowRun(uri, config.experiment, name, _run_tags(tags))
    except (MlflowException, OSError) as error:
        reason = without_password(str(error).splitlines()[0])[:200]
        raise InputError(
            f"{without_password(uri)}: this tracking store cannot be used ({reason}); start it, "
            "name another with tracking.uri=..., or run without one: tracking.enabled=false"
        ) from error


def store_uri(config: Tracking) -> str:
    """The tracking URI: as configured, MLFLOW_TRACKING_URI, or mlflow.db in this folder."""
    if uri := config.uri or os.environ.get("MLFLOW_TRACKING_URI"):
        return uri
    return f"sqlite:///{Path.cwd() / 'mlflow.db'}"


def _run_tags(tags: Mapping[str, str]) -> dict[str, str]:
    own = {
        "mlflow.user": _user(),
        "mlflow.source.name": "python -m mnist_exp.run",
        "mlflow.source.type": "LOCAL",
    }
    if parent := os.environ.get(PARENT):
        own["mlflow.parentRunId"] = parent
    return own | {key: value for key, value in tags.items() if value}


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return str(os.getuid())
