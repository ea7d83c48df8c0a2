"""Pruning: report each epoch of a trial to its Optuna study, stop it below the median."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from mnist_exp.core.console import redact
from mnist_exp.core.errors import PrunedError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PruningReporter:
    """Reports the epochs of one trial to its Optuna study."""

    storage: str  # SQLAlchemy's URL
    study: str
    number: int
    epochs: int  # of the whole run

    def report(self, epoch: int, logs: Mapping[str, float]) -> None:
        """Report the validation accuracy of `epoch`, counted from 0: Keras' `on_epoch_end`.

        Raises `PrunedError` when the trial's best so far lies below the median of earlier trials at
        that epoch, except after the last one, when only the scoring is left. An unreachable study
        is a warning.
        """
        accuracy, epoch = logs["val/accuracy"], epoch + 1
        import optuna

        try:
            study = optuna.load_study(
                study_name=self.study, storage=storage(self.storage), pruner=pruner()
            )
            (frozen,) = (t for t in study.get_trials(deepcopy=False) if t.number == self.number)
            trial = optuna.Trial(study, frozen._trial_id)
            trial.report(accuracy, epoch)
            is_below = epoch < self.epochs and trial.should_prune()
        except Exception as error:  # training continues unpruned
            reason = redact(str(error).splitlines()[0] if str(error) else repr(error))
            logger.warning(
                f"the study did not hear of trial {self.number}'s epoch {epoch}: {reason}"
            )
            return
        if is_below:
            raise PrunedError(
                f"pruned after epoch {epoch} at a validation accuracy of {100 * accuracy:.2f} %: "
                "its best is below the median of earlier trials"
            )


def pruner() -> Any:
    """Optuna's median rule, from the sixth trial and the second epoch on."""
    import optuna

    return optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=2)


@lru_cache(maxsize=1)
def storage(url: str) -> Any:
    """The study's storage, created where there is none. Raises SQLAlchemy's errors."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    wait_for_writers = {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else {}
    return optuna.storages.RDBStorage(url, engine_kwargs=wait_for_writers)
