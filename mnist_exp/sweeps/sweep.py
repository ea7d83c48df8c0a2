"""A sweep and its parent run: compose, reuse finished runs, launch, collect, summarise, close."""

import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from hydra.core.config_loader import ConfigLoader
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig

from mnist_exp.config.compose import fingerprint_values, refuse_unhonoured
from mnist_exp.config.parts import check_parts
from mnist_exp.config.schema import Config
from mnist_exp.core import provenance
from mnist_exp.core.console import console, only_warned_of, redact
from mnist_exp.core.errors import InputError
from mnist_exp.core.files import make_folder, removed_if_refused
from mnist_exp.core.layout import FIGURES, SWEEP_ARTIFACTS
from mnist_exp.core.signals import defer_interrupts, sigterm_interrupts
from mnist_exp.data.dataset import load_dataset
from mnist_exp.runs.names import short_keys, sweep_note
from mnist_exp.runs.run import TITLE_TAG
from mnist_exp.runs.search import SEARCH_TAG, finished_runs
from mnist_exp.runs.warm_start import pinned
from mnist_exp.sweeps import report
from mnist_exp.sweeps.composer import JobComposer
from mnist_exp.sweeps.jobs import JobResult, SweepStrategy, best, data_label, raise_if_many_failed
from mnist_exp.sweeps.launch import Sweep, is_in_process, is_remote, launch, refuse_no_workers
from mnist_exp.sweeps.progress import SweepProgress
from mnist_exp.tracking import store
from mnist_exp.tracking.open_run import track_run

logger = logging.getLogger(__name__)


def run_sweep(
    strategy: SweepStrategy, *, config: DictConfig, loader: ConfigLoader, launcher: Launcher
) -> list[JobResult]:
    """The result of every job, in order; a parent run tracks them and ends with a ranking.

    Raises `InputError` naming every bad job before the first one starts, and `SweepError` after the
    last when more failed than the strategy tolerates.
    """
    refuse_unhonoured(config.hydra)
    composer = JobComposer(config, loader)
    configs = [pinned(c, in_sweep=True) for c in composer.configs(strategy.probes)]
    for each in configs:
        check_parts(each)
    for data in {c.data for c in configs}:
        load_dataset(data)  # refuses unusable data before the first job starts
    folder = make_folder(Path(config.hydra.sweep.dir).absolute(), "hydra.sweep.dir")
    kind = "search" if strategy.search else "sweep"
    space = f"{kind} of {' and '.join(short_keys(strategy.swept)) or 'one job'}"
    with sigterm_interrupts(), removed_if_refused(folder):
        with store.connect(configs[0].tracking) if configs[0].tracking.enabled else nullcontext():
            pass  # refuses an unusable store before the strategy writes anything
        refuse_no_workers(launcher)
        remote = is_remote(launcher, config.hydra.runtime.choices["hydra/launcher"])
        results = {result.number: result for result in strategy.begin(configs, folder, remote)}
        with track_run(
            configs[0].tracking,
            name=configs[0].name or f"{space}, {datetime.now():%Y-%m-%d %H:%M}",
            folder=folder,
            params={"swept": ", ".join(strategy.swept), "jobs": strategy.total},
            tags={
                "overrides": redact(" ".join(config.hydra.overrides.task)),
                SEARCH_TAG: strategy.search,
            },
            files=SWEEP_ARTIFACTS,
        ) as parent:
            sweep = Sweep(strategy, launcher, folder, parent)
            try:
                from mnist_exp.runs.figures import drawn_meanwhile  # matplotlib is heavy

                done, is_here = results.values(), is_in_process(launcher)
                has_figures = is_here and strategy.total > 2 and configs[0].report.formats
                with (
                    drawn_meanwhile() if has_figures else nullcontext(),
                    SweepProgress(
                        folder, strategy.total, done, noun=strategy.noun, has_bar=is_here
                    ) as progress,
                ):
                    _run(sweep, results, composer, progress)
            finally:  # an interrupted sweep is summarised, too
                with defer_interrupts():
                    ordered = [results[number] for number in sorted(results)]
                    _summarise(ordered, sweep, space, configs[0])
            raise_if_many_failed(ordered, strategy.total, strategy.tolerated)
    return ordered


def _run(
    sweep: Sweep,
    results: dict[int, JobResult],
    composer: JobComposer,
    progress: SweepProgress,
) -> None:
    """Ask for batch after batch, run what is missing of each, and fill `results`."""
    strategy = sweep.strategy
    failed = sum(result.state == "failed" for result in results.values())  # of an earlier command
    while failed <= strategy.tolerated and (asked := strategy.ask()):
        started = time.time()
        batch = {result.number: result for result in asked}
        results |= batch
        try:
            results |= _reuse_finished(batch, composer)
            ahead = {n: results[n] for n in batch if results[n].state == "unfinished"}
            progress.expect({n: results[n] for n in batch})
            if ahead:
                results |= launch(ahead, sweep, started)
        finally:
            with defer_interrupts():
                results |= {n: results[n].collect(sweep.folder, started) for n in batch}
                progress.show([results[n] for n in batch])
                strategy.tell([results[n] for n in batch])
                sweep.parent.close_children()  # a run that is still open has lost its worker
        failed += sum(results[n].state == "failed" for n in batch)


def _reuse_finished(batch: Mapping[int, JobResult], composer: JobComposer) -> dict[int, JobResult]:
    """The results, filled in from earlier runs where `tracking.skip_finished` asks for it."""
    results, configs = dict(batch), {}
    for number, result in batch.items():
        try:
            configs[number] = pinned(composer.config(result.job))
        except InputError as error:  # a search probes its bounds, not every combination
            results[number] = replace(result, error=str(error))
    tracking = next((c.tracking for c in configs.values()), None)
    if tracking is None or not (tracking.enabled and tracking.skip_finished):
        return results
    digests = {data: load_dataset(data).digest for data in {c.data for c in configs.values()}}
    fingerprints = {
        n: provenance.fingerprint(fingerprint_values(c), digests[c.data])
        for n, c in configs.items()
    }
    earlier = finished_runs(tracking, fingerprints.values())
    return results | {
        n: replace(batch[n], run_result=earlier[fingerprint].result(), reused=True)
        for n, fingerprint in fingerprints.items()
        if fingerprint in earlier and batch[n].state == "unfinished"
    }


def _summarise(results: Sequence[JobResult], sweep: Sweep, space: str, config: Config) -> None:
    """Print the tables, write files and figures to the folder, log the best job to MLflow."""
    strategy, folder, parent = sweep.strategy, sweep.folder, sweep.parent
    label = data_label(results)
    title = f"{space}{f' on {label}' if label else ''}"
    top = best(results)
    if top:
        title += f": best validation accuracy {100 * top.objective:.2f} %"
    report.write_tables(folder, results, strategy.swept)
    if config.report.formats:
        with only_warned_of("figures of the sweep are missing"):
            report.write_figures(folder, results, strategy, title, config.report)
    tables = report.tables(results, strategy.swept, strategy.noun)
    for table in tables:
        console.print(table)
    if top:
        logger.info(f"best: {strategy.noun} {top.number}, {top.command}")
    if page := parent.page:
        logger.info(f"in MLflow: {page}")
    if step := report.next_step(results, config.tracking, parent.run_id):
        logger.info(f"next: {step}")
    states = Counter(result.state for result in results)
    pictures = sorted(path.name for path in (folder / FIGURES).glob("*.png"))
    jobs = [result.run_result.run_id for result in results if result.run_result]
    again = top.command if top else ""
    note = sweep_note(title, config.notes, tables, again, jobs, parent.run_id, pictures)
    parent.log_tags({TITLE_TAG: note})
    parent.log_metrics({f"sweep/{state}": count for state, count in states.items()}, step=0)
    if top and top.run_result:
        parent.log_tags({"best.run_id": top.run_result.run_id, "best.command": top.command})
        parent.log_metrics({"sweep/best_val_accuracy": top.objective}, step=0)
