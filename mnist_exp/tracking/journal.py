"""The run folder's own record: a line of JSON for everything that was said of the run."""

import json
import logging
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from textwrap import shorten
from typing import Any

logger = logging.getLogger(__name__)

JOURNAL = "record.jsonl"
OPEN, OPENED, PUBLISHED, CLOSE = "open", "opened", "published", "close"
VERBS = {  # what is said, and its arguments
    "log_params": {"params"},
    "log_metrics": {"metrics", "step", "at"},
    "log_tags": {"tags"},
    "log_data": {"name", "digest", "source", "images"},
    "log_model": {"name", "example"},
    "log_files": {"names"},
    "close_children": set(),
    "go_on": set(),
    CLOSE: {"status", "at"},
}
Entry = tuple[str, dict[str, Any]]  # what was said (a method of `MlflowRun`), and its arguments


def _entry(line: str) -> Entry:
    """What the line says; raises `ValueError` for one that no record has."""
    try:
        ((verb, arguments),) = json.loads(line).items()
        arguments = dict(arguments)
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"no entry of a record: {shorten(line, 60)}") from error
    named = [*arguments.get("names", []), arguments.get("name", "a")]
    if verb in ("log_files", "log_model") and any(Path(each).name != each for each in named):
        raise ValueError(f"files that are not the run's own: {shorten(line, 60)}")
    return verb, arguments


@dataclass(frozen=True)
class Opening:
    """What a run is opened with."""

    uri: str  # of the store, without a password
    experiment: str
    name: str
    tags: Mapping[str, str]
    start_time: int  # milliseconds since 1970


class Journal:
    """The lines so far, and the way to add one; lines outlive a killed process."""

    def __init__(self, folder: Path) -> None:
        """Of the run in this folder, new or there already.

        Raises `OSError` or `ValueError` for one that cannot be read.
        """
        self.folder, self.path = folder, folder / JOURNAL
        self.opening: Opening | None = None
        self.run_id = ""  # MLflow's
        self.is_published = False
        self.said: list[Entry] = []
        self._writing, self._is_told = threading.Lock(), False
        self._length = 0  # of the whole lines, in bytes
        if self.path.exists():
            for line in self._whole_lines():
                try:
                    self._take(*_entry(line))
                except (KeyError, TypeError) as error:
                    raise ValueError(f"no entry of a record: {shorten(line, 60)}") from error

    @property
    def status(self) -> str:
        """How the run was closed; empty while it goes on."""
        last = self.said[-1] if self.said else ("", {})
        return str(last[1]["status"]) if last[0] == CLOSE else ""

    @property
    def params(self) -> dict[str, Any]:
        """The config values that were said; none before."""
        return next((said["params"] for verb, said in self.said if verb == "log_params"), {})

    def begin(self, opening: Opening) -> None:
        """The first line."""
        self._add(OPEN, asdict(opening))

    def opened(self, run_id: str) -> None:
        """The run has this id in MLflow."""
        self._add(OPENED, {"run_id": run_id})

    def published(self) -> None:
        """MLflow has everything."""
        self._add(PUBLISHED, {})

    def say(self, verb: str, **arguments: Any) -> None:
        """Something of the run that is to be published."""
        self._add(verb, arguments)

    def _add(self, verb: str, arguments: dict[str, Any]) -> None:
        line = json.dumps({verb: arguments}).encode() + b"\n"
        try:
            with self._writing, self.path.open("ab") as file:
                file.truncate(self._length)  # a line that broke off is cut away
                file.write(line)
                file.flush()
                self._length += len(line)
        except OSError as error:  # the store may hear of it all the same
            if not self._is_told:
                logger.warning(f"{self.path}: {error.strerror}; MLflow alone is told of this run")
            self._is_told = True
        self._take(verb, arguments)

    def _take(self, verb: str, arguments: dict[str, Any]) -> None:
        if verb == OPEN:
            self.opening = Opening(**arguments)
        elif verb == OPENED:
            self.run_id = arguments["run_id"]
        elif verb != PUBLISHED:
            if arguments.keys() != VERBS[verb]:
                raise TypeError(verb)
            self.said.append((verb, arguments))
        self.is_published = verb == PUBLISHED

    def _whole_lines(self) -> list[str]:
        """What is in the file but for a last line that broke off, or is being written."""
        text = self.path.read_bytes()
        self._length = text.rfind(b"\n") + 1
        return text[: self._length].decode().splitlines()
