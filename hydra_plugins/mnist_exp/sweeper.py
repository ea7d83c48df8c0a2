"""Our default sweeper: Hydra's grid, run as one recorded sweep."""

from dataclasses import dataclass
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser


@dataclass
class GridConf:
    """Sweeps every combination of the comma-separated values."""

    _target_: str = "hydra_plugins.mnist_exp.sweeper.GridSweeper"
    max_batch_size: int | None = None
    params: dict[str, str] | None = None


ConfigStore.instance().store(group="hydra/sweeper", name="mnist_exp", node=GridConf)


class GridSweeper(BasicSweeper):
    """Expands the overrides as Hydra does and leaves the rest to `mnist_exp.sweep`."""

    def sweep(self, arguments: list[str]) -> Any:
        """The outcome of every job, in order."""
        from mnist_exp.plans import Grid
        from mnist_exp.sweep import run_sweep

        assert self.hydra_context is not None
        assert self.config is not None
        assert self.launcher is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        overrides = parser.parse_overrides([*self._parse_config(), *arguments])
        keys = [o.get_key_element() for o in overrides if o.is_sweep_override()]
        swept = list(dict.fromkeys(keys))  # a preset's key may be given on the command line, too
        jobs = [tuple(job) for batch in self.split_arguments(overrides, None) for job in batch]
        return run_sweep(
            Grid(jobs, swept),
            config=self.config,
            loader=self.hydra_context.config_loader,
            launcher=self.launcher,
        )
