"""Where the data of a recorded run is on this machine now."""

import os
from collections.abc import Mapping
from pathlib import Path

from mnist_exp.config.data import AnyDataConfig, OwnDataConfig
from mnist_exp.core.files import relocated
from mnist_exp.data import sources
from mnist_exp.tracking.places import FOLDER_TAG


def relocated_data(config: AnyDataConfig, tags: Mapping[str, str], folder: Path) -> AnyDataConfig:
    """The data config of the run now in `folder`, with its paths as they are on this machine."""
    if isinstance(config, OwnDataConfig):
        paths = {}
        if config.path:
            paths["path"] = data_path(config.path, tags, folder, "")
        if config.test_path:
            paths["test_path"] = data_path(config.test_path, {}, folder, "")
        return config.model_copy(update=paths)
    instead = None if config.name == "mnist" else ""
    found = data_path(config.path, tags, folder, instead) if config.path else None
    return config.model_copy(update={"path": found})


def data_path(path: str, tags: Mapping[str, str], folder: Path, instead: str | None = None) -> str:
    """A path of the run now in `folder`, else `instead`; absolute, though it may be gone.

    `instead` is MNIST_PATH by default. A relative path was meant from where the run was started:
    its recorded source tells, or it lies in a folder around the run's.
    """
    instead = os.environ.get("MNIST_PATH", "") if instead is None else instead
    given = sources.without_decoration(path)
    if not given or sources.is_web(given):
        return given or instead
    asked = Path(given)
    source = Path(tags.get("data.source", ""))
    known = source if source.is_absolute() and not asked.is_absolute() else asked.absolute()
    moved = relocated(known, Path(tags.get(FOLDER_TAG, folder)), folder)
    places = [moved, known, *(base / asked for base in folder.parents)]
    return next((str(place) for place in places if os.path.exists(place)), instead or str(known))
