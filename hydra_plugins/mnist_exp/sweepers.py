"""The sweepers, each tracked as one sweep: Hydra's grid and `hydra/sweeper=optuna`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

if TYPE_CHECKING:
    from mnist_exp.sweeps.strategy import GridStrategy


@dataclass
class GridConf:
    """Sweeps every combination of the comma-separated values."""

    _target_: str = "hydra_plugins.mnist_exp.sweepers.GridSweeper"
    max_batch_size: int | None = None
    params: dict[str, str] | None = None


@dataclass
class OptunaConf:
    """Searches for the best validation accuracy."""

    _target_: str = "hydra_plugins.mnist_exp.sweepers.OptunaSweeper"
    n_trials: int = 20
    n_jobs: int = 1
    sampler: str = "tpe"
    seed: int = 0
    prune: bool = True
    max_failed: int = 3
    storage: str | None = None
    params: dict[str, str] | None = None
    trial: str | None = None  # study and number, set by the sweep for each of its jobs


ConfigStore.instance().store(group="hydra/sweeper", name="mnist_exp", node=GridConf)
ConfigStore.instance().store(group="hydra/sweeper", name="optuna", node=OptunaConf)


class GridSweeper(BasicSweeper):
    """Expands the overrides as Hydra does; `mnist_exp.sweeps.sweep` does the rest."""

    def sweep(self, arguments: list[str]) -> Any:
        """The result of every job, in order."""
        from mnist_exp.sweeps.sweep import run_sweep

        assert self.hydra_context is not None
        assert self.config is not None
        assert self.launcher is not None
        return run_sweep(
            self.strategy(arguments),
            config=self.config,
            loader=self.hydra_context.config_loader,
            launcher=self.launcher,
        )

    def strategy(self, arguments: Sequence[str]) -> "GridStrategy":
        """The grid of the preset's overrides and these; raises `InputError` for an unusable one."""
        from mnist_exp.sweeps.strategy import GridStrategy

        assert self.hydra_context is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        overrides = parser.parse_overrides([*self._parse_config(), *arguments])
        swept = [override for override in overrides if override.is_sweep_override()]
        for override in swept:
            _refuse_endless_or_empty(override)
        keys = [override.get_key_element().lstrip("+") for override in swept]
        jobs = [tuple(job) for batch in self.split_arguments(overrides, None) for job in batch]
        # Once each: a value may be given twice, and a preset's key on the command line, too.
        return GridStrategy(list(dict.fromkeys(jobs)), list(dict.fromkeys(keys)))


def _refuse_endless_or_empty(override: Override) -> None:
    from mnist_exp.core.errors import InputError

    if isinstance(override.value(), IntervalSweep):
        raise InputError(
            f"{override.input_line}: an interval has no end of values; search it with "
            "hydra/sweeper=optuna"
        )
    if not list(override.sweep_string_iterator()):
        raise InputError(f"{override.input_line}: there is nothing to choose from")


class OptunaSweeper(Sweeper):
    """Reads the search space; `mnist_exp.sweeps.sweep` does the rest."""

    def __init__(self, params: dict[str, str] | None, trial: str | None, **settings: Any) -> None:
        self.params, self.settings = params or {}, settings

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        self.config = config
        self.loader: ConfigLoader = hydra_context.config_loader
        self.launcher: Launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        """The result of every trial, in order."""
        from mnist_exp.config.compose import validate
        from mnist_exp.config.schema import SearchSettings

        settings = validate(SearchSettings, self.settings, "hydra.sweeper")
        from mnist_exp.sweeps import search_space  # imports Optuna, which takes a second
        from mnist_exp.sweeps.optuna_strategy import OptunaStrategy
        from mnist_exp.sweeps.sweep import run_sweep

        parser = OverridesParser.create(config_loader=self.loader)
        preset = [f"{key}={value}" for key, value in self.params.items()]
        space, fixed = search_space.read(parser.parse_overrides([*preset, *arguments]))
        strategy = OptunaStrategy(space, fixed, settings)
        assert self.config is not None
        return run_sweep(strategy, config=self.config, loader=self.loader, launcher=self.launcher)
