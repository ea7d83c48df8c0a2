"""Our default sweeper: Hydra's grid, run as one recorded sweep."""

from dataclasses import dataclass
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override


@dataclass
class GridConf:
    """Sweeps every combination of the comma-separated values."""

    _target_: str = "hydra_plugins.mnist_exp.sweeper.GridSweeper"
    max_batch_size: int | None = None
    params: dict[str, str] | None = None


ConfigStore.instance().store(group="hydra/sweeper", name="mnist_exp", node=GridConf)


class GridSweeper(BasicSweeper):
    """Expands the overrides as Hydra does and leaves the rest to `mnist_exp.sweeps.sweep`."""

    def sweep(self, arguments: list[str]) -> Any:
        """The outcome of every job, in order."""
        from mnist_exp.sweeps.strategy import GridStrategy
        from mnist_exp.sweeps.sweep import run_sweep

        assert self.hydra_context is not None
        assert self.config is not None
        assert self.launcher is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        overrides = parser.parse_overrides([*self._parse_config(), *arguments])
        swept = [override for override in overrides if override.is_sweep_override()]
        for override in swept:
            _refuse_endless_or_empty(override)
        keys = [override.get_key_element().lstrip("+") for override in swept]
        jobs = [tuple(job) for batch in self.split_arguments(overrides, None) for job in batch]
        return run_sweep(
            # once each: a value may be given twice, and a preset's key on the command line, too
            GridStrategy(list(dict.fromkeys(jobs)), list(dict.fromkeys(keys))),
            config=self.config,
            loader=self.hydra_context.config_loader,
            launcher=self.launcher,
        )


def _refuse_endless_or_empty(override: Override) -> None:
    from mnist_exp.core.errors import InputError

    if isinstance(override.value(), IntervalSweep):
        raise InputError(
            f"{override.input_line}: an interval has no end of values; search it with "
            "hydra/sweeper=optuna"
        )
    if not list(override.sweep_string_iterator()):
        raise InputError(f"{override.input_line}: there is nothing to choose from")
