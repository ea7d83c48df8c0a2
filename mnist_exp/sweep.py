"""The story of a multirun: parse every job, drop the finished, launch, summarise, close."""

import logging
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from hydra.core.config_loader import ConfigLoader
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig

from mnist_exp import data as datasets
from mnist_exp import folders, hardware, provenance, runs, summary, tracking
from mnist_exp.config import from_hydra, in_our_words, scientific, without_password
from mnist_exp.errors import InputError, SweepError
from mnist_exp.experiment import OUTCOME, Outcome
from mnist_exp.records import Record
from mnist_exp.schema import Config
from mnist_exp.signals import sigterm_interrupts, uninterrupted
from mnist_exp.summary import Result
from mnist_exp.terminal import console

logger = logging.getLogger(__name__)

Job = Sequence[str]  # its overrides


def run_sweep(
    jobs: Sequence[Job],
    *,
    swept: Sequence[str],
    config: DictConfig,
    loader: ConfigLoader,
    launcher: Launcher,
) -> list[Result]:
    """The result of every job, in order, with a parent run over them and a ranking at the end.

    Raises `InputError` naming every bad job before the first starts, and `SweepError` after the
    last when some failed.
    """
    configs = parse_all(jobs, config, loader)
    results = [Result(number, job, swept) for number, job in enumerate(jobs)]
    results = _reuse_finished(results, configs)
    folder = folders.make(Path(config.hydra.sweep.dir).absolute(), "hydra.sweep.dir")
    with (
        sigterm_interrupts(),
        folders.given_back_if_refused(folder),
        tracking.record(
            configs[0].tracking,
            name=f"sweep of {', '.join(swept) or 'one job'}",
            folder=folder,
            params={"swept": ", ".join(swept), "jobs": len(jobs)},
            tags={"overrides": without_password(" ".join(config.hydra.overrides.task))},
            files=summary.FILES,
        ) as parent,
    ):
        ahead = {result.number: result for result in results if not result.outcome}
        logger.info(f"jobs: {len(jobs)}, of them to run: {len(ahead)}, in {folder}")
        started = time.time()
        try:
            for number, result in _launch(launcher, ahead, folder, started, parent).items():
                results[number] = result
        finally:  # an interrupted sweep is summarised, too
            with uninterrupted():
                results = [_from_disk(result, folder, started) for result in results]
                _summarise(results, swept, folder, parent)
        failed = [result for result in results if not result.outcome]
        if failed:
            lines = [f"  {result.error}\n    {result.command}" for result in failed]
            raise SweepError(f"{len(failed)} of {len(jobs)} jobs failed:\n" + "\n".join(lines))
    return results


def parse_all(jobs: Sequence[Job], config: DictConfig, loader: ConfigLoader) -> list[Config]:
    """Every job's config; raises `InputError` listing all the bad ones."""
    configs, refused = [], []
    for job in jobs:
        try:
            with in_our_words():
                configs.append(from_hydra(loader.load_sweep_config(config, list(job))))
        except InputError as error:
            reason = str(error)
            told = "" if reason.startswith(" ".join(job)) else f"{' '.join(job)}: "
            refused.append(f"  {told}{reason}")
    if refused:
        raise InputError(
            f"{len(refused)} of {len(jobs)} jobs cannot run, so none was started:\n"
            + "\n".join(refused)
        )
    return configs


def _reuse_finished(results: list[Result], configs: Sequence[Config]) -> list[Result]:
    """The results, those filled in that have a finished run already, if that is wanted.

    The data set is loaded for it, and so is known to be usable before the first job starts.
    """
    digests = {part: datasets.load(part).digest for part in {c.data for c in configs}}
    marks = [provenance.fingerprint(scientific(c), digests[c.data]) for c in configs]
    where = configs[0].tracking
    if not (where.enabled and where.skip_finished):
        return results
    found = runs.finished(where, marks)
    return [
        replace(result, outcome=Outcome.of_run(found[mark]), reused=True)
        if mark in found
        else result
        for result, mark in zip(results, marks, strict=True)
    ]


def _launch(
    launcher: Launcher, jobs: Mapping[int, Result], folder: Path, started: float, parent: Record
) -> dict[int, Result]:
    """What the launcher gave back for each job; one that a dead worker lost is started again."""
    ahead = dict(jobs)
    done: dict[int, Result] = {}
    for attempt in (1, 2):
        overrides = [[*ahead[n].job, *_own_overrides(n, launcher, parent)] for n in ahead]
        try:
            returns = launcher.launch(overrides, initial_job_idx=0)
            pairs = zip(ahead.values(), returns, strict=True)
            return done | {result.number: _from_return(result, ret) for result, ret in pairs}
        except KeyboardInterrupt:
            with uninterrupted():
                _end_workers()
                parent.close_the_dead()
            raise
        except Exception as error:  # of the launcher: a job's own come as returns
            _end_workers()
            seen = {n: _from_disk(result, folder, started) for n, result in ahead.items()}
            done |= {n: result for n, result in seen.items() if result.state != "unfinished"}
            ahead = {n: result for n, result in seen.items() if result.state == "unfinished"}
            reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
            logger.warning(
                f"a worker died ({reason}); {len(ahead)} jobs were not finished"
                + (" and are started once more" if attempt == 1 else " after a second start")
            )
    return done | {n: replace(r, error="its worker died, twice") for n, r in ahead.items()}


def _own_overrides(number: int, launcher: Launcher, parent: Record) -> Iterator[str]:
    """What a job needs to know beside its own overrides, in a form that reaches every launcher."""
    yield f"hydra.sweep.subdir={number}"
    # By our own name: MLFLOW_RUN_ID would make every job write into the parent.
    variables = {tracking.PARENT: parent.run_id}
    if threads := _threads(launcher):
        variables["TF_NUM_INTRAOP_THREADS"] = str(threads)
    for name, value in variables.items():
        yield f"+hydra.job.env_set.{name}='{value}'"


def _threads(launcher: Launcher) -> int | None:
    """The threads of each worker when joblib shares out this machine's cores."""
    settings = getattr(launcher, "joblib", None)
    if settings is None:
        return None
    workers = settings["n_jobs"] if settings["n_jobs"] > 0 else hardware.cores()
    return max(1, hardware.cores() // workers)


def _end_workers() -> None:
    """Ends joblib's workers: they would go on without us."""
    if "joblib" in sys.modules:
        from joblib.externals.loky import get_reusable_executor  # type: ignore[import-untyped]

        get_reusable_executor().shutdown(wait=True, kill_workers=True)


def _from_return(result: Result, returned: JobReturn) -> Result:
    if returned.status == JobStatus.COMPLETED:
        return replace(result, outcome=returned.return_value)
    error = str(returned._return_value).strip() or type(returned._return_value).__name__
    return replace(result, error=error.splitlines()[-1])


def _from_disk(result: Result, folder: Path, started: float) -> Result:
    """The result filled in from what the job left in its folder since `started`, if it ended."""
    if result.state != "unfinished":
        return result
    for place in (folder / str(result.number), *folder.glob(f"{result.number}-*")):
        ended = [place / OUTCOME, place / tracking.TRACEBACK]
        for path in ended:
            if path.exists() and path.stat().st_mtime >= started:
                if path.name == OUTCOME:
                    return replace(result, outcome=Outcome.load(place))
                return replace(result, error=path.read_text().strip().splitlines()[-1])
    return result


def _summarise(
    results: Sequence[Result], swept: Sequence[str], folder: Path, parent: Record
) -> None:
    """Tables to the terminal, files and figures to the folder, the best job to the record."""
    label = summary.data_label(results)
    title = f"sweep of {', '.join(swept) or 'one job'}{f' on {label}' if label else ''}"
    top = summary.best(results)
    if top and top.outcome:
        title += f": best validation accuracy {100 * top.score:.2f} %"
        parent.log_tags({"best.run_id": top.outcome.run_id, "best.command": top.command})
        parent.log_metrics({"sweep/best_val_accuracy": top.score}, step=0)
    parent.log_tags({runs.TITLE: title})
    states = Counter(result.state for result in results)
    parent.log_metrics({f"sweep/{state}": count for state, count in states.items()}, step=0)
    summary.write(folder, results, swept, title)
    for table in summary.tables(results, swept):
        console.print(table)
    if top:
        logger.info(f"best: job {top.number}, {top.command}")
