"""A search: an Optuna study samples the jobs from the results so far."""

import logging
import platform
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
from optuna.distributions import CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState

from mnist_exp.config.compose import fingerprint_values, flatten
from mnist_exp.config.schema import Config, SearchSettings
from mnist_exp.core import provenance
from mnist_exp.core.console import redact
from mnist_exp.core.errors import InputError
from mnist_exp.core.files import is_orphaned
from mnist_exp.data.dataset import load_dataset
from mnist_exp.runs.folder import RunResult
from mnist_exp.sweeps.jobs import Job, JobResult, SweepStrategy
from mnist_exp.sweeps.pruning import pruner, storage
from mnist_exp.sweeps.search_space import Distribution, extremes
from mnist_exp.tracking import store
from mnist_exp.tracking.places import SQLITE, sqlite_file, sqlite_uri

if TYPE_CHECKING:
    from mnist_exp.plots import Figure, Trial

logger = logging.getLogger(__name__)

# A trial's user attributes in the study.
HOST_ATTR, FOLDER_ATTR, RESULT_ATTR = "host", "folder", "outcome"
REASON_ATTR, INTERRUPTED_ATTR = "reason", "interrupted"
ENOUGH = 10  # complete trials, below which importances say nothing
WAITING = TrialState.WAITING


class OptunaStrategy(SweepStrategy):
    """Asks for `settings.n_trials` jobs in batches, each from the results known by then.

    The study's name is a fingerprint of space, config and source: the same command continues it.
    """

    noun = "trial"

    def __init__(
        self, space: dict[str, Distribution], fixed: Job, settings: SearchSettings
    ) -> None:
        """`fixed` are the overrides of every job. Raises `InputError` for an unusable space."""
        self.space, self.fixed, self.settings = space, fixed, settings
        self.swept = tuple(key.lstrip("+") for key in self.space)
        self.scales = {
            key.lstrip("+"): "log" if values.log else "linear"
            for key, values in space.items()
            if not isinstance(values, CategoricalDistribution)
        }
        self.total, self.tolerated = settings.n_trials, settings.max_failed
        if not self.space:
            raise InputError(
                "hydra/sweeper=optuna: nothing to search; give a key several values, such as "
                "'optimizer.learning_rate=tag(log, interval(1e-4, 1e-2))'"
            )
        if "seed" in self.space:
            raise InputError(
                "seed: a search would find the luckiest seed, not the best config; search with one "
                "seed, then compare the best configs over several"
            )
        first = {key: extremes(values)[0] for key, values in self.space.items()}
        ends = [(key, end) for key, values in self.space.items() for end in extremes(values)]
        self.probes = list(dict.fromkeys(self._job(first | {key: end}) for key, end in ends))
        self._asked: dict[int, optuna.Trial] = {}

    def begin(self, configs: Sequence[Config], folder: Path, remote: bool) -> Sequence[JobResult]:
        if not all(config.data.validation_split for config in configs):
            raise InputError(
                "hydra/sweeper=optuna: a search goes by validation accuracy, but "
                "data.validation_split=0: set data.validation_split=0.1"
            )
        self.folder = folder
        storage_url, tracking = self.settings.storage, configs[0].tracking
        self.url = store.absolute(storage_url) if storage_url else _default_url(store.uri(tracking))
        if self.settings.prune and remote and self.url.startswith(SQLITE):
            raise InputError(
                "hydra.sweeper.storage: workers on other machines report to the study and cannot "
                f"reach {self.url}; give the URL of a database server, or hydra.sweeper.prune=false"
            )
        self.study = self._open(f"{tracking.experiment}-{self._fingerprint(configs[0])}")
        self.search = self.study.study_name
        for trial in self._trials(TrialState.RUNNING):
            self._end_orphan(trial)
        ended = self._trials(TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
        known = [trial for trial in ended if INTERRUPTED_ATTR not in trial.user_attrs]
        logger.info(f"study {self.search} in {redact(self.url)}")
        return [self._earlier_result(trial) for trial in known]

    def ask(self) -> Sequence[JobResult]:
        trials = self.study.get_trials(deepcopy=False)
        counted = [t for t in trials if INTERRUPTED_ATTR not in t.user_attrs and t.state != WAITING]
        self.study.sampler = self._sampler(len(counted))
        asked = []
        for _ in range(min(self.settings.n_jobs, self.settings.n_trials - len(counted))):
            trial = self.study.ask({**self.space})
            trial.set_user_attr(HOST_ATTR, platform.node())
            trial.set_user_attr(FOLDER_ATTR, str(self.folder))
            self._asked[trial.number] = trial
            asked.append(self._known_result(trial) or self._unfinished(trial))
        return asked

    def tell(self, results: Sequence[JobResult]) -> None:
        for result in results:
            trial = self._asked.pop(result.number)
            if result.run_result:
                trial.set_user_attr(RESULT_ATTR, result.run_result.to_dict())
                self.study.tell(trial, float(result.run_result))
            elif result.error:
                trial.set_user_attr(REASON_ATTR, result.error)
                state = TrialState.PRUNED if result.pruned else TrialState.FAIL
                self.study.tell(trial, state=state)
            else:  # unfinished: its values are queued for a new trial
                trial.set_user_attr(INTERRUPTED_ATTR, True)
                self.study.tell(trial, state=TrialState.FAIL)
                self.study.enqueue_trial(trial.params)

    def job_settings(self, number: int) -> Mapping[str, str]:
        if not self.settings.prune:
            return {}
        return {
            "hydra.sweeper.storage": self.url,
            "hydra.sweeper.trial": f"{self.search}/{number}",
        }

    def pruned_at(self) -> Mapping[int, float]:
        pruned = self._trials(TrialState.PRUNED)
        return {trial.number: trial.value for trial in pruned if trial.value is not None}

    def figures(self, trials: "Sequence[Trial]", title: str) -> dict[str, "Figure"]:
        from mnist_exp import plots

        figures = {"optimisation_history": plots.optimisation_history(trials, title)}
        n = len(self._trials(TrialState.COMPLETE))
        if importances := self.importances():
            shares = ", ".join(f"{key} {100 * share:.0f} %" for key, share in importances.items())
            logger.info(f"importance for the validation accuracy (fANOVA, n = {n}): {shares}")
            figures["importances"] = plots.importances(importances, n, title)
        elif len(self.space) > 1:
            logger.info(
                f"no importances: they need {ENOUGH} complete trials that differ, there are {n}"
            )
        return figures

    def importances(self) -> dict[str, float]:
        """Each key's share of the validation accuracy's variance, by fANOVA.

        Hutter, Hoos and Leyton-Brown, 2014. Empty for one key, or too few complete trials.
        """
        complete = self._trials(TrialState.COMPLETE)
        is_constant = len({trial.value for trial in complete}) < 2
        if len(self.space) < 2 or len(complete) < ENOUGH or is_constant:
            return {}
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=self.settings.seed)
        return optuna.importance.get_param_importances(self.study, evaluator=evaluator)

    def _open(self, name: str) -> optuna.Study:
        """The study of that name, created where there is none."""
        try:
            with store.schema_lock(self.url):
                return optuna.create_study(
                    storage=storage(self.url),
                    study_name=name,
                    direction="maximize",
                    pruner=pruner(),
                    load_if_exists=True,
                )
        except Exception as error:  # SQLAlchemy's, its drivers', a missing driver's ImportError
            reason = redact(str(error).splitlines()[0] if str(error) else repr(error))
            raise InputError(
                f"hydra.sweeper.storage: no study can be kept in {redact(self.url)} "
                f"({reason}); give another, such as sqlite:///optuna.db"
            ) from error

    def _fingerprint(self, config: Config) -> str:
        """Equal for searches of the same space, config, data and source."""
        swept = tuple(f"{key}." for key in self.swept)
        values = flatten(fingerprint_values(config)).items()
        fixed = {key: value for key, value in values if not f"{key}.".startswith(swept)}
        space = {key: repr(values) for key, values in self.space.items()}
        how = [self.settings.sampler, self.settings.seed]
        digest = load_dataset(config.data).digest
        return provenance.fingerprint({"config": fixed, "space": space, "how": how}, digest)[:12]

    def _sampler(self, known: int) -> optuna.samplers.BaseSampler:
        """Seeded anew for each batch, so that a resumed search samples as if never interrupted."""
        sequence = np.random.SeedSequence([self.settings.seed, known])
        seed = int(sequence.generate_state(1)[0])
        if self.settings.sampler == "random":
            return optuna.samplers.RandomSampler(seed=seed)
        return optuna.samplers.TPESampler(seed=seed)

    def _trials(self, *states: TrialState) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False, states=states)

    def _end_orphan(self, trial: FrozenTrial) -> None:
        """End the running trial of a killed sweep of this machine; its result, if any, is kept."""
        folder = Path(trial.user_attrs.get(FOLDER_ATTR, ""))
        has_orphan = not folder.is_dir() or is_orphaned(folder)
        if trial.user_attrs.get(HOST_ATTR) != platform.node() or not has_orphan:
            return
        if trial.number not in [other.number for other in self._trials(TrialState.RUNNING)]:
            return  # its sweep has told the study, and ended, in the meantime
        result = self._unfinished(trial).collect(folder, since=0)
        self._asked[trial.number] = optuna.Trial(self.study, trial._trial_id)
        self.tell([result])
        logger.info(f"trial {trial.number} had died; it counts as {result.state}")

    def _known_result(self, trial: optuna.Trial) -> JobResult | None:
        """The result of an earlier trial with the same values, which would repeat."""
        for other in self._trials(TrialState.COMPLETE):
            if other.params == trial.params and RESULT_ATTR in other.user_attrs:
                return replace(self._earlier_result(other), number=trial.number)
        return None

    def _earlier_result(self, trial: FrozenTrial) -> JobResult:
        job = self._unfinished(trial)
        if trial.state != TrialState.COMPLETE:
            pruned = trial.state == TrialState.PRUNED
            return replace(job, error=trial.user_attrs.get(REASON_ATTR, "failed"), pruned=pruned)
        run_result = RunResult.from_dict(trial.user_attrs[RESULT_ATTR])
        return replace(job, run_result=run_result, reused=True)

    def _unfinished(self, trial: optuna.Trial | FrozenTrial) -> JobResult:
        return JobResult(trial.number, self._job(trial.params), self.swept)

    def _job(self, params: Mapping[str, Any]) -> Job:
        return (*self.fixed, *(f"{key}={params[key]}" for key in self.space))


def _default_url(tracking_uri: str) -> str:
    """The study's SQLite file: beside MLflow's, or in this folder when MLflow's is no file."""
    is_file = tracking_uri.startswith(SQLITE)
    folder = sqlite_file(tracking_uri).parent if is_file else Path.cwd()
    return sqlite_uri(folder / "optuna.db")
