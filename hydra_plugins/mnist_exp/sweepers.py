"""The sweepers, each tracked as one sweep: Hydra's grid and `hydra/sweeper=optuna`.

Their settings are in conf/hydra/sweeper/.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override

from mnist_exp.core.errors import InputError

if TYPE_CHECKING:
    from mnist_exp.sweeps.jobs import SweepStrategy


class GridSweeper(BasicSweeper):
    """Expands the overrides as Hydra does; `mnist_exp.sweeps.sweep` does the rest."""

    def __init__(self, params: dict[str, str] | None) -> None:
        super().__init__(None, params)

    def sweep(self, arguments: list[str]) -> Any:
        """The result of every job, in order."""
        assert self.hydra_context is not None
        assert self.config is not None
        assert self.launcher is not None
        strategy, loader = self.strategy(arguments), self.hydra_context.config_loader
        from mnist_exp.sweeps.sweep import run_sweep  # after a refusal: it takes a second

        return run_sweep(strategy, config=self.config, loader=loader, launcher=self.launcher)

    def strategy(self, arguments: Sequence[str]) -> "SweepStrategy":
        """The grid of the preset's overrides and these; raises `InputError` for an unusable one."""
        from mnist_exp.sweeps.jobs import GridStrategy

        overrides = self._parsed(arguments)
        swept = [override for override in overrides if override.is_sweep_override()]
        for override in swept:
            _refuse_endless_or_empty(override)
        keys = [override.get_key_element().lstrip("+") for override in swept]
        jobs = [tuple(job) for batch in self.split_arguments(overrides, None) for job in batch]
        # Once each: a value may be given twice, and a preset's key on the command line, too.
        return GridStrategy(list(dict.fromkeys(jobs)), list(dict.fromkeys(keys)))

    def _parsed(self, arguments: Sequence[str]) -> list[Override]:
        assert self.hydra_context is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        return parser.parse_overrides([*self._parse_config(), *arguments])


class OptunaSweeper(GridSweeper):
    """Reads the search space in place of a grid."""

    def __init__(self, params: dict[str, str] | None, trial: str | None, **settings: Any) -> None:
        super().__init__(params)
        self.settings = settings

    def strategy(self, arguments: Sequence[str]) -> "SweepStrategy":
        """The search in the space of the preset's overrides and these; raises `InputError`."""
        from mnist_exp.config.compose import validate
        from mnist_exp.config.schema import SearchSettings

        settings = validate(SearchSettings, self.settings, "hydra.sweeper")
        from mnist_exp.sweeps import search_space  # imports Optuna, which takes a second
        from mnist_exp.sweeps.optuna_strategy import OptunaStrategy

        return OptunaStrategy(*search_space.read(self._parsed(arguments)), settings)


def _refuse_endless_or_empty(override: Override) -> None:
    if isinstance(override.value(), IntervalSweep):
        raise InputError(
            f"{override.input_line}: an interval has no end of values; search it with "
            "hydra/sweeper=optuna"
        )
    if not list(override.sweep_string_iterator()):
        raise InputError(f"{override.input_line}: there is nothing to choose from")
