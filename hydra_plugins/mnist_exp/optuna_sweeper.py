"""`hydra/sweeper=optuna`: a search with Optuna, tracked as one sweep."""

from dataclasses import dataclass
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


@dataclass
class OptunaConf:
    """Searches for the best validation accuracy."""

    _target_: str = "hydra_plugins.mnist_exp.optuna_sweeper.OptunaSweeper"
    n_trials: int = 20
    n_jobs: int = 1
    sampler: str = "tpe"
    seed: int = 0
    prune: bool = True
    max_failed: int = 3
    storage: str | None = None
    params: dict[str, str] | None = None
    trial: str | None = None  # study and number, set by the sweep for each of its jobs


ConfigStore.instance().store(group="hydra/sweeper", name="optuna", node=OptunaConf)


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
