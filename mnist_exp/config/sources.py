"""Where options are: the package's `conf/`, and before it folders of the user's own."""

import logging
from functools import cache
from importlib.metadata import entry_points
from importlib.util import find_spec
from itertools import chain
from pathlib import Path

from hydra.core.config_search_path import ConfigSearchPath
from omegaconf import OmegaConf

from mnist_exp.config.messages import GROUPS, nearest
from mnist_exp.core.errors import InputError
from mnist_exp.core.files import short_path

PACKAGE = Path(__file__).parents[1]
# Beside the package in a checkout, inside it in a wheel.
CONF = next(folder for folder in (PACKAGE / "conf", PACKAGE.parent / "conf") if folder.is_dir())

logger = logging.getLogger(__name__)
named: list[Path] = []  # by --config-dir


def own_folders() -> list[Path]:
    """The user's own: those named, and conf/ of the current folder unless it is the package's."""
    folders = [*named, Path.cwd() / "conf", *installed_folders()]
    return [folder for folder in folders if folder.is_dir() and not folder.samefile(CONF)]


@cache
def installed_folders() -> list[Path]:
    """The conf/ in each package that names itself in the entry point group `mnist_exp.conf`."""
    found = [find_spec(point.value) for point in entry_points(group="mnist_exp.conf")]
    places = [place for spec in found if spec for place in spec.submodule_search_locations or ()]
    return [Path(place) / "conf" for place in places]


def add_own(search_path: ConfigSearchPath, folders: list[Path]) -> None:
    """Let Hydra look into these first, and log what is taken from them.

    Raises `InputError` for one that does not exist.
    """
    for folder in reversed(folders):
        if not folder.is_dir():
            raise InputError(f"{folder}: expected a folder with groups of options such as model/")
        search_path.prepend("own", f"own://{folder.absolute()}")
        _tell(folder)


def takes(path: str) -> bool:
    """Whether this path in a folder of one's own is in a group of the package."""
    return path.partition("/")[0] in GROUPS


def list_own() -> str:
    """'Yours, in conf: model=vit': a line for each folder of one's own, for --help."""
    lines = [f"Yours, in {short_path(f)}: {', '.join(_options(f))}\n" for f in own_folders()]
    return "".join(lines).replace("$", "$$")  # Hydra's template


def _options(folder: Path) -> list[str]:
    files = [file for group in GROUPS for file in sorted((folder / group).rglob("*.yaml"))]
    return [str(file.relative_to(folder).with_suffix("")).replace("/", "=", 1) for file in files]


@cache
def _tell(folder: Path) -> None:
    """Log what is taken in place of the package's, and what is not taken; once each."""
    place = short_path(folder)
    taken = [o for o in _options(folder) if (CONF / f"{o.replace('=', '/', 1)}.yaml").is_file()]
    if taken:
        logger.warning(f"{place}: taken in place of the package's: {', '.join(taken)}")
    files = chain.from_iterable(map(folder.glob, ("*.yaml", "*/*.yaml", "*/*/*.yaml")))
    others = sorted({file.relative_to(folder).parts[0] for file in files} - {*GROUPS})
    if others and folder not in named:  # of which Hydra takes the rest, after the package's
        names = ", ".join(f"{name}{nearest(name, GROUPS)}" for name in others)
        logger.warning(f"{place}: not taken: {names}; the groups are {', '.join(GROUPS)}")


OmegaConf.register_new_resolver("mnist_exp.list_own", list_own, replace=True)
