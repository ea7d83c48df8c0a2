"""`python -m mnist_exp.run`: Hydra in, one run or a sweep out.

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
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from mnist_exp.config import compose, sources
from mnist_exp.config.messages import raised_before_experiment
from mnist_exp.config.parts import check_parts
from mnist_exp.config.schema import Config
from mnist_exp.core.console import FULL_ERROR, exit_with, only_warnings, prepare_process
from mnist_exp.core.environment import refuse_nonsense
from mnist_exp.core.errors import DivergedError, InputError, StorageError, SweepError
from mnist_exp.core.files import folder_error_message, remove_empty, short_path
from mnist_exp.core.output import quiet_stderr
from mnist_exp.core.signals import Terminated, ends_with_sweep
from mnist_exp.sweeps.pruning import PruningReporter

if TYPE_CHECKING:
    from keras.callbacks import Callback

    from mnist_exp.runs.folder import RunResult

logger = logging.getLogger("mnist_exp.run")  # not __main__
finished: "list[RunResult]" = []  # in this process; a sweep's are left out, its workers need an end


@hydra.main(version_base="1.3", config_path=str(sources.CONF), config_name="config")
def job(values: DictConfig) -> "RunResult":
    """One experiment from its composed config."""
    context = HydraConfig.get()
    paths = cast(dict[str, str], OmegaConf.to_container(context.runtime, resolve=False))
    os.chdir(paths["cwd"])  # hydra.job.chdir would move mlflow.db and relative paths
    folder = Path(paths["output_dir"])
    overrides = cast(list[str], OmegaConf.to_container(context.overrides.task, resolve=False))
    if context.mode == RunMode.MULTIRUN:
        return _sweep_job(values, folder, overrides)
    with exit_on_error(empty_folder=folder):
        compose.refuse_lists(context.runtime.choices)
        compose.refuse_unhonoured(cast(DictConfig, context))
        start = _run if values.resume is None else _resume
        result = start(values, folder, overrides)
        logger.info(f"figures, tables and model: {short_path(result.folder)}")
        finished.append(result)
        return result


def main() -> None:
    """The command; exit code 2 with a sentence for what the user can mend, 1 for a failure."""
    with exit_on_error():
        # By default Hydra prints its own errors and exits with 1; with this it raises them.
        os.environ[FULL_ERROR] = "1"
        prepare_process()
        refuse_nonsense()
        sys.argv[1:] = compose.options_first(compose.translate_overrides(sys.argv[1:]))
        named = get_args_parser().parse_known_args()[0].config_dir
        sources.named[:] = [Path(named)] if named else []
        job()


@contextmanager
def exit_on_error(empty_folder: Path | None = None) -> Iterator[None]:
    """Context manager: errors meant for the user end the program with a sentence.

    Where the user set HYDRA_FULL_ERROR=1 they stay tracebacks. An `empty_folder` that Hydra made
    for a run that did not start is removed.
    """
    try:
        with compose.translate_hydra_errors():
            yield
    except InputError as error:
        exit_with(2, str(error), error)
    except (DivergedError, StorageError, SweepError) as error:
        exit_with(1, str(error), error)
    except Terminated as error:
        exit_with(143, "terminated; what was finished is kept", error)
    except KeyboardInterrupt as error:
        exit_with(130, "interrupted; what was finished is kept", error)
    except OSError as error:
        if raised_before_experiment(error):  # its run folder
            exit_with(2, folder_error_message(error, "hydra.run.dir=... or hydra.sweep.dir"), error)
        raise
    finally:
        if empty_folder is not None:
            remove_empty(empty_folder)


def _run(values: DictConfig, folder: Path, overrides: list[str]) -> "RunResult":
    config = compose.parse(values)
    check_parts(config)
    from mnist_exp.experiment import run_experiment  # heavy, so after the config proved valid

    callbacks = _callbacks(config)
    return run_experiment(config, folder=folder, overrides=overrides, callbacks=callbacks)


def _resume(values: DictConfig, folder: Path, overrides: list[str]) -> "RunResult":
    typed = {override.lstrip("+").partition("=")[0]: override for override in overrides}
    reference = typed.pop("resume", "")
    is_extended = typed.pop("train.epochs", None) is not None
    if typed:
        raise InputError(
            "resume: the run goes on as its record says, so it stands alone, or with a higher "
            f"train.epochs for a finished run; without {', '.join(typed.values())}"
        )
    reference = reference.partition("=")[2].strip("'\"")  # as typed: some ids look like numbers
    if not reference:
        raise InputError("resume: expected the folder of a run or its id, got nothing")
    from mnist_exp.resume import extend_experiment, resume_experiment

    path = Path(reference)
    if not path.exists():
        from mnist_exp.runs.find import find_resumable
        from mnist_exp.runs.search import store_config

        tracking = store_config(values.tracking.experiment, values.tracking.uri)
        path = Path(find_resumable(reference, tracking).folder)
    if is_extended:
        return extend_experiment(path, values.train.epochs, folder)
    return resume_experiment(path)


def _callbacks(config: Config) -> "list[Callback]":
    """The callback that reports to the study, if a search launched this job."""
    sweeper = HydraConfig.get().sweeper
    if not sweeper.get("trial"):
        return []
    with quiet_stderr():  # importing TensorFlow prints a page of hints
        from keras.callbacks import LambdaCallback
    study, _, number = sweeper.trial.rpartition("/")
    reporter = PruningReporter(sweeper.storage, study, int(number), config.train.epochs)
    return [LambdaCallback(on_epoch_end=reporter.report)]


def _sweep_job(values: DictConfig, folder: Path, overrides: list[str]) -> "RunResult":
    """Like `_run`; every error is raised, and the sweep, which tells how jobs end, continues."""
    prepare_process()  # a worker has no console yet
    from mnist_exp.sweeps.progress import tell_sweep  # imports NumPy

    sweep = HydraConfig.get().sweep
    place, number = Path(sweep.dir), int(sweep.subdir)  # not job.num: finished jobs do not count
    try:
        with only_warnings(f"job {number}: "), ends_with_sweep():
            result = _run(values, folder, overrides)
    except SystemExit as error:  # Hydra would end the whole sweep silently
        ended = RuntimeError(f"the job called sys.exit({error.code})")
        tell_sweep(place, number, ended)
        raise ended from error
    except Exception as error:
        tell_sweep(place, number, error)
        raise
    tell_sweep(place, number, result)
    return result


def command() -> None:
    """The whole process: `main`, then an end without taking TensorFlow apart, which takes a second.

    Only where all is written and closed: not after a sweep, whose workers need an end.
    """
    main()
    if finished:
        logging.shutdown()
        sys.stdout.flush()
        os._exit(0)


if __name__ == "__main__":
    # Imported by its own name, so that a worker process can import `job`.
    from mnist_exp.run import command as named_command

    named_command()
