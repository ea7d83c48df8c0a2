"""The door that makes runs: Hydra in, one experiment or a sweep out.

python -m mnist_exp.run model=dense128
"""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, cast

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from mnist_exp.config.compose import CONF, parse, refuse_lists, refuse_typed_lists
from mnist_exp.config.messages import explain, is_refusal, made_by_hydra
from mnist_exp.config.schema import keys
from mnist_exp.core.console import FULL_ERROR, leave, prepare_process
from mnist_exp.core.errors import DivergedError, InputError, PrunedError, StorageError, SweepError
from mnist_exp.core.signals import Terminated, ends_with_sweep
from mnist_exp.runs.folder import remove_empty, unusable
from mnist_exp.sweeps.pruning import Trial

if TYPE_CHECKING:
    from mnist_exp.runs.result import Outcome

logger = logging.getLogger("mnist_exp.run")  # not __main__
finished: "list[Outcome]" = []  # of this process, sweeps left out: they have workers to see to


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def job(values: DictConfig) -> "Outcome":
    """One experiment from its composed config."""
    context = HydraConfig.get()
    os.chdir(context.runtime.cwd)  # hydra.job.chdir would take mlflow.db and relative paths along
    folder = Path(context.runtime.output_dir)
    overrides = cast(list[str], OmegaConf.to_container(context.overrides.task, resolve=False))
    if context.mode == RunMode.MULTIRUN:
        return _sweep_job(values, folder, overrides)
    with sentences(empty_folder=folder):
        refuse_lists(context.runtime.choices)
        goes_on = values.resume is not None
        outcome = _resume(values, overrides) if goes_on else _run(values, folder, overrides)
        _say_where(outcome)
        finished.append(outcome)
        return outcome


def main() -> None:
    """The command: a sentence and exit code 2 for what the user can mend, 1 for what failed."""
    with sentences():
        # Hydra would print its own errors and leave with 1; asked for all of them, it raises.
        os.environ[FULL_ERROR] = "1"
        prepare_process()
        refuse_typed_lists(sys.argv[1:])
        job()


@contextmanager
def sentences(empty_folder: Path | None = None) -> Iterator[None]:
    """Within: errors meant for the user end the program with a sentence, not a traceback.

    With HYDRA_FULL_ERROR=1 set by the user they stay tracebacks. An `empty_folder` that Hydra made
    for a run that never began is removed.
    """
    try:
        yield
    except InputError as error:
        leave(2, str(error), error)
    except (DivergedError, StorageError, SweepError) as error:
        leave(1, str(error), error)
    except Terminated as error:
        leave(143, "terminated; what was finished is kept", error)
    except KeyboardInterrupt as error:
        leave(130, "interrupted; what was finished is kept", error)
    except Exception as error:
        if is_refusal(error):
            leave(2, explain(error, keys()), error)
        if isinstance(error, OSError) and made_by_hydra(error):  # a run folder, before our part
            leave(2, unusable(error, "hydra.run.dir=... or hydra.sweep.dir"), error)
        raise
    finally:
        if empty_folder is not None:
            remove_empty(empty_folder)


def _run(values: DictConfig, folder: Path, overrides: list[str]) -> "Outcome":
    config = parse(values)
    from mnist_exp.experiment import run_experiment  # heavy, so after the config proved valid

    return run_experiment(config, folder=folder, overrides=overrides, trial=_trial())


def _resume(values: DictConfig, overrides: list[str]) -> "Outcome":
    if len(overrides) > 1:
        raise InputError(
            "resume: the run goes on as its record says, so it stands alone; without "
            f"{', '.join(each for each in overrides if not each.startswith('resume='))}"
        )
    reference = overrides[0].partition("=")[2].strip("'\"")  # as typed: some ids look like numbers
    if not reference:
        raise InputError("resume: expected the folder of a run or its id, got nothing")
    from mnist_exp.resume import resume_experiment

    if Path(reference).exists():
        return resume_experiment(Path(reference))
    from mnist_exp.runs import find as runs

    where = runs.tracking(values.tracking.experiment, values.tracking.uri)
    return resume_experiment(Path(runs.to_resume(reference, where).folder))


def _trial() -> Trial | None:
    """The trial that this job is, if a search launched it."""
    sweeper = HydraConfig.get().sweeper
    if not sweeper.get("trial"):
        return None
    study, _, number = sweeper.trial.rpartition("/")
    return Trial(sweeper.storage, study, int(number))


def _sweep_job(values: DictConfig, folder: Path, overrides: list[str]) -> "Outcome":
    """As `_run`, in a sweep that hears of every error and goes on."""
    prepare_process()  # a worker has no console yet
    number = HydraConfig.get().sweep.subdir  # not job.num: finished jobs are not launched
    logger.info(f"\njob {number}: {' '.join(overrides)}")
    try:
        with ends_with_sweep():
            return _run(values, folder, overrides)
    except PrunedError as error:
        logger.info(f"job {number} {error}")
        raise
    except Exception as error:
        logger.warning(f"job {number} failed: {error}")
        raise
    except SystemExit as error:  # Hydra would end the whole sweep, silently
        raise RuntimeError(f"the job called sys.exit({error.code})") from error


def _say_where(outcome: "Outcome") -> None:
    folder = outcome.folder
    if folder.is_relative_to(Path.cwd()):
        folder = folder.relative_to(Path.cwd())
    logger.info(f"figures, tables and model: {folder}")
    if outcome.run_id:
        logger.info(f"MLflow run {outcome.run_id[:8]}; compare all runs with: mlflow ui")


if __name__ == "__main__":
    # As a module of its own name: a worker process can then import `job`.
    from mnist_exp.run import finished as done
    from mnist_exp.run import main as named_main

    named_main()
    if done:  # all is written and closed; to take TensorFlow apart takes a second
        logging.shutdown()
        sys.stdout.flush()
        os._exit(0)
