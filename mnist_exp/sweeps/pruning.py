"""A search's trial as its worker sees it: epochs are reported, and a laggard is stopped."""

import logging
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from mnist_exp.config.compose import without_password
from mnist_exp.core.errors import PrunedError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trial:
    """One trial of an Optuna study that lies in a storage."""

    storage: str  # SQLAlchemy's URL
    study: str
    number: int

    def report(self, epoch: int, accuracy: float, *, last: bool) -> None:
        """Tells the study the validation accuracy after `epoch`, counted from 1.

        Raises `PrunedError` when the trial's best so far lies below the median of earlier trials at
        that epoch, except after the last one: scoring it then takes no time. A study that cannot
        be reached is a warning.
        """
        import optuna

        try:
            study = optuna.load_study(
                study_name=self.study, storage=storage(self.storage), pruner=pruner()
            )
            (frozen,) = (t for t in study.get_trials(deepcopy=False) if t.number == self.number)
            trial = optuna.Trial(study, frozen._trial_id)
            trial.report(accuracy, epoch)
            is_laggard = not last and trial.should_prune()
        except Exception as error:  # training goes on without being compared
            reason = without_password(str(error).splitlines()[0] if str(error) else repr(error))
            logger.warning(
                f"the study did not hear of trial {self.number}'s epoch {epoch}: {reason}"
            )
            return
        if is_laggard:
            raise PrunedError(
                f"pruned after epoch {epoch} at a validation accuracy of {100 * accuracy:.2f} %: "
                "its best is below the median of earlier trials"
            )


def pruner() -> Any:
    """Optuna's median rule, once five trials are complete, from the second epoch on."""
    import optuna

    return optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=2)


@lru_cache(maxsize=1)
def storage(url: str) -> Any:
    """The study's storage; made where it is not there yet. Raises SQLAlchemy's errors."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    for_other_writers = {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else {}
    return optuna.storages.RDBStorage(url, engine_kwargs=for_other_writers)
