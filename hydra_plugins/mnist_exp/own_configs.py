"""Options of the user's own, in `conf/` of the current folder, join the package's."""

from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin

from mnist_exp.config.sources import CONF, add_own, own_folders, takes


class OwnConfigSource(FileConfigSource):
    """A folder of which only the groups of the package are taken."""

    @staticmethod
    def scheme() -> str:
        """The beginning of its paths."""
        return "own"

    def is_group(self, config_path: str) -> bool:
        return (not config_path or takes(config_path)) and super().is_group(config_path)

    def is_config(self, config_path: str) -> bool:
        return "/" in config_path and takes(config_path) and super().is_config(config_path)


class OwnSearchPath(SearchPathPlugin):
    """Adds the folders of the user's own, to this program and no other one of Hydra's."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        if any(element.path == str(CONF) for element in search_path.get_path()):
            add_own(search_path, own_folders())
