"""The events of a run's journal: a dataclass each, a line of JSON each."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from typing import Any

VERSION = 2  # of the lines that are written; journals without a version are older


class ForeignFileError(ValueError):
    """An event names a file outside the run folder."""


@dataclass(frozen=True)
class Event:
    """Something logged of a run, to be published."""


@dataclass(frozen=True)
class LogParams(Event):
    """Config values."""

    params: Mapping[str, Any]


@dataclass(frozen=True)
class LogMetrics(Event):
    """Metrics at a step, with the time in seconds since 1970."""

    metrics: Mapping[str, float]
    step: int
    at: float

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


@dataclass(frozen=True)
class LogTags(Event):
    """Tags of the run."""

    tags: Mapping[str, str]


@dataclass(frozen=True)
class LogDataset(Event):
    """The data set; `images` counts those of each split."""

    name: str
    digest: str
    source: str
    images: Mapping[str, int]


@dataclass(frozen=True)
class LogModel(Event):
    """The model file of that name in the run folder, and an input example."""

    name: str
    example: Sequence[Any]

    def __post_init__(self) -> None:
        _refuse_paths([self.name])


@dataclass(frozen=True)
class LogFiles(Event):
    """The files and folders of these names in the run folder."""

    names: Sequence[str]

    def __post_init__(self) -> None:
        _refuse_paths(self.names)


@dataclass(frozen=True)
class CloseChildren(Event):
    """The child runs that are still RUNNING end as KILLED."""


@dataclass(frozen=True)
class Reopen(Event):
    """The run was closed, and is RUNNING again."""


@dataclass(frozen=True)
class Close(Event):
    """The run ended as FINISHED, FAILED or KILLED, at that time in seconds since 1970."""

    status: str
    at: float


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


@dataclass(frozen=True)
class Version:
    """The version of the lines that follow."""

    number: int


Line = Event | Opening | Opened | Published
KINDS: dict[str, type[Line]] = {
    "go_on": Reopen,  # of journals without a version
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
NAMES = {kind: name for name, kind in KINDS.items()}  # the last of each


def to_line(event: Line) -> str:
    """The event as JSON, without a line break."""
    return json.dumps({NAMES[type(event)]: vars(event)})  # asdict would copy a model's example


def from_line(line: str) -> Line | Version:
    """The event of a line; raises `ValueError` for one that no journal has."""
    try:
        ((name, values),) = json.loads(line).items()
        return Version(int(values)) if name == "v" else KINDS[name](**values)
    except ForeignFileError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"no entry of a record: {shorten(line, 60)}") from error


def _refuse_paths(names: Sequence[str]) -> None:
    """Raise `ForeignFileError` for files outside the run folder."""
    if any(Path(name).name != name for name in names):
        raise ForeignFileError(f"files that are not the run's own: {', '.join(names)}")
