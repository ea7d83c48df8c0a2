"""The journal of a run folder: an append-only file with a line for every event."""

import json
import logging
import threading
from os.path import exists
from pathlib import Path
from typing import Any

from mnist_exp.core.console import REDACTED
from mnist_exp.core.errors import InputError
from mnist_exp.core.files import relocated
from mnist_exp.core.layout import JOURNAL
from mnist_exp.tracking import events
from mnist_exp.tracking.places import FOLDER_TAG, SQLITE, sqlite_file, sqlite_uri

logger = logging.getLogger(__name__)


class Journal:
    """The events logged so far; what was appended outlives a killed process."""

    def __init__(self, folder: Path) -> None:
        """Read the journal in this run folder, or begin one.

        Raises `OSError` or `ValueError` for one that cannot be read, and `InputError` for one of a
        newer version.
        """
        self.path = folder / JOURNAL
        self.opening: events.Opening | None = None
        self.run_id = ""  # MLflow's
        self.is_published = False
        self.events: list[events.Event] = []
        self._lock, self._warned = threading.Lock(), False
        self._length = 0  # of the complete lines, in bytes
        if self.path.exists():
            for line in self._complete_lines():
                self._take(events.from_line(line))

    @property
    def status(self) -> str:
        """How the run was closed; empty while it is open."""
        ends = (e for e in reversed(self.events) if isinstance(e, events.Close | events.Reopen))
        last = next(ends, None)
        return last.status if isinstance(last, events.Close) else ""

    @property
    def store(self) -> str:
        """The URI of the run's store, moved with it perhaps; empty for none, or with a password."""
        uri = self.opening.uri if self.opening else ""
        if REDACTED in uri or not self.opening or not uri.startswith(SQLITE):
            return "" if REDACTED in uri else uri
        recorded, folder = sqlite_file(uri), self.path.parent.absolute()
        moved = relocated(recorded, Path(self.opening.tags.get(FOLDER_TAG, folder)), folder)
        is_moved = exists(moved) or not exists(recorded.parent)
        return sqlite_uri(moved if is_moved else recorded, uri.partition("?")[2])

    @property
    def params(self) -> dict[str, Any]:
        """The params logged; empty before."""
        return next((dict(e.params) for e in self.events if isinstance(e, events.LogParams)), {})

    def append(self, event: events.Line) -> None:
        """Add the event to the file; what cannot be written is a warning."""
        version = "" if self.opening or self._length else json.dumps({"v": events.VERSION}) + "\n"
        lines = f"{version}{events.to_line(event)}\n".encode()
        try:
            with self._lock, self.path.open("ab") as file:
                file.truncate(self._length)  # an incomplete line is cut away
                file.write(lines)
                file.flush()
                self._length += len(lines)
        except OSError as error:  # the store may still receive it
            if not self._warned:
                logger.warning(f"{self.path}: {error.strerror}; MLflow alone is told of this run")
            self._warned = True
        self._take(event)

    def _take(self, event: events.Line | events.Version) -> None:
        match event:
            case events.Opening():
                self.opening = event
            case events.Opened():
                self.run_id = event.run_id
            case events.Event():
                self.events.append(event)
            case events.Version(number) if number > events.VERSION:
                raise InputError(
                    f"{self.path}: expected a journal of version {events.VERSION} or older, got "
                    f"version {number}; upgrade mnist_exp"
                )
        self.is_published = isinstance(event, events.Published)

    def _complete_lines(self) -> list[str]:
        """The lines of the file without an incomplete last one."""
        content = self.path.read_bytes()
        self._length = content.rfind(b"\n") + 1
        return content[: self._length].decode().splitlines()
