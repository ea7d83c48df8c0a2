"""The events of a run's journal: a dataclass each, a line of JSON each."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from typing import Any, Protocol

VERSION = 2  # of the lines that are written; journals without a version are older


class Backend(Protocol):
    """Where events are published; applying one twice leaves the run as it is."""

    experiment_id: str
    run_id: str

    def log_params(self, params: Mapping[str, Any]) -> None: ...
    def log_metrics(self, metrics: Mapping[str, float], step: int, at: float) -> None: ...
    def log_curve(
        self, metrics: Mapping[str, Sequence[float]], steps: Sequence[int], at: float
    ) -> None: ...
    def log_tags(self, tags: Mapping[str, str]) -> None: ...
    def log_dataset(
        self, name: str, digest: str, source: str, images: Mapping[str, int]
    ) -> None: ...
    def log_model(self, name: str, example: Sequence[Any]) -> None: ...
    def log_files(self, names: Sequence[str]) -> None: ...
    def close_children(self) -> None: ...
    def reopen(self) -> None: ...
    def close(self, status: str, at: float) -> None: ...


class ForeignFileError(ValueError):
    """An event names a file outside the run folder."""


@dataclass(frozen=True)
class Event:
    """Something logged of a run, to be published."""

    def apply(self, backend: Backend) -> None:
        """Publish it."""
        raise NotImplementedError


@dataclass(frozen=True)
class LogParams(Event):
    """Config values."""

    params: Mapping[str, Any]

    def apply(self, backend: Backend) -> None:
        backend.log_params(self.params)


@dataclass(frozen=True)
class LogMetrics(Event):
    """Metrics at a step, with the time in seconds since 1970."""

    metrics: Mapping[str, float]
    step: int
    at: float

    def apply(self, backend: Backend) -> None:
        backend.log_metrics(self.metrics, self.step, self.at)

    @property
    def key(self) -> tuple[int, frozenset[str]]:
        """The step and the metrics' names: logged once in a run."""
        return self.step, frozenset(self.metrics)


@dataclass(frozen=True)
class LogCurve(Event):
    """The values of metrics at several steps, with the time in seconds since 1970."""

    metrics: Mapping[str, Sequence[float]]
    steps: Sequence[int]
    at: float

    def apply(self, backend: Backend) -> None:
        backend.log_curve(self.metrics, self.steps, self.at)


@dataclass(frozen=True)
class LogTags(Event):
    """Tags of the run."""

    tags: Mapping[str, str]

    def apply(self, backend: Backend) -> None:
        backend.log_tags(self.tags)


@dataclass(frozen=True)
class LogDataset(Event):
    """The data set; `images` counts those of each split."""

    name: str
    digest: str
    source: str
    images: Mapping[str, int]

    def apply(self, backend: Backend) -> None:
        backend.log_dataset(self.name, self.digest, self.source, self.images)


@dataclass(frozen=True)
class LogModel(Event):
    """The model file of that name in the run folder, and an input example."""

    name: str
    example: Sequence[Any]

    def __post_init__(self) -> None:
        _refuse_paths([self.name])

    def apply(self, backend: Backend) -> None:
        backend.log_model(self.name, self.example)


@dataclass(frozen=True)
class LogFiles(Event):
    """The files and folders of these names in the run folder."""

    names: Sequence[str]

    def __post_init__(self) -> None:
        _refuse_paths(self.names)

    def apply(self, backend: Backend) -> None:
        backend.log_files(self.names)


@dataclass(frozen=True)
class CloseChildren(Event):
    """The child runs that are still RUNNING end as KILLED."""

    def apply(self, backend: Backend) -> None:
        backend.close_children()


@dataclass(frozen=True)
class Reopen(Event):
    """The run was closed, and is RUNNING again."""

    def apply(self, backend: Backend) -> None:
        backend.reopen()


@dataclass(frozen=True)
class Close(Event):
    """The run ended as FINISHED, FAILED or KILLED, at that time in seconds since 1970."""

    status: str
    at: float

    def apply(self, backend: Backend) -> None:
        backend.close(self.status, self.at)


@dataclass(frozen=True)
class Opening:
    """What a run is opened with."""

    uri: str  # of the store, without a password
    experiment: str
    name: str
    tags: Mapping[str, str]
    start_time: int  # milliseconds since 1970


@dataclass(frozen=True)
class Opened:
    """MLflow gave the run this id."""

    run_id: str


@dataclass(frozen=True)
class Published:
    """MLflow has every event before this one."""


Line = Event | Opening | Opened | Published
KINDS: dict[str, type[Line]] = {
    "open": Opening,
    "opened": Opened,
    "published": Published,
    "log_params": LogParams,
    "log_metrics": LogMetrics,
    "log_curve": LogCurve,
    "log_tags": LogTags,
    "log_data": LogDataset,
    "log_model": LogModel,
    "log_files": LogFiles,
    "close_children": CloseChildren,
    "reopen": Reopen,
    "close": Close,
}
BEFORE_1 = {"go_on": Reopen}  # written by journals without a version
NAMES = {kind: name for name, kind in KINDS.items()}


def to_line(event: Line) -> str:
    """The event as JSON, without a line break."""
    return json.dumps({NAMES[type(event)]: vars(event)})  # asdict would copy a model's example


def from_line(line: str) -> Line:
    """The event of a line; raises `ValueError` for one that no journal has."""
    try:
        ((name, values),) = json.loads(line).items()
        return (KINDS | BEFORE_1)[name](**values)
    except ForeignFileError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"no entry of a record: {shorten(line, 60)}") from error


def _refuse_paths(names: Sequence[str]) -> None:
    """Raise `ForeignFileError` for files outside the run folder."""
    if any(Path(name).name != name for name in names):
        raise ForeignFileError(f"files that are not the run's own: {', '.join(names)}")
