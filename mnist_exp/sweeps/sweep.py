"""The story of a multirun: parse, drop the finished, launch, hear, summarise, close."""

import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, OmegaConf

from mnist_exp.config.compose import from_hydra, parse, translate_hydra_errors, without_hydra
from mnist_exp.config.schema import Config
from mnist_exp.config.serialize import scientific
from mnist_exp.core import provenance
from mnist_exp.core.console import console, redact
from mnist_exp.core.errors import InputError, SweepError
from mnist_exp.core.files import make_folder, removed_if_refused
from mnist_exp.core.layout import SWEEP_ARTIFACTS
from mnist_exp.core.signals import defer_interrupts, sigterm_interrupts
from mnist_exp.data.dataset import load_dataset
from mnist_exp.runs.find import finished_runs
from mnist_exp.runs.run import TITLE_TAG
from mnist_exp.sweeps import report as summary
from mnist_exp.sweeps.launch import is_remote, launch, refuse_no_workers
from mnist_exp.sweeps.results import Job, JobResult, best, data_label
from mnist_exp.sweeps.strategy import SweepStrategy
from mnist_exp.tracking import store
from mnist_exp.tracking.open_run import track_run
from mnist_exp.tracking.tracker import RunTracker

logger = logging.getLogger(__name__)


def run_sweep(
    plan: SweepStrategy, *, config: DictConfig, loader: ConfigLoader, launcher: Launcher
) -> list[JobResult]:
    """The result of every job, in order, with a parent run over them and a ranking at the end.

    Raises `InputError` naming everything wrong before the first job starts, and `SweepError` after
    the last when more failed than the plan tolerates.
    """
    parser = Parser(config, loader)
    configs = parser.all(plan.probes)
    for part in {c.data for c in configs}:
        load_dataset(part)  # usable, before the first job starts
    folder = make_folder(Path(config.hydra.sweep.dir).absolute(), "hydra.sweep.dir")
    name = f"sweep of {', '.join(plan.swept) or 'one job'}"
    with sigterm_interrupts(), removed_if_refused(folder):
        with store.connect(configs[0].tracking) if configs[0].tracking.enabled else nullcontext():
            pass  # usable, before a plan leaves anything anywhere
        refuse_no_workers(launcher)
        remote = is_remote(launcher, config.hydra.runtime.choices["hydra/launcher"])
        results = {result.number: result for result in plan.begin(configs, folder, remote)}
        with track_run(
            configs[0].tracking,
            name=name,
            folder=folder,
            params={"swept": ", ".join(plan.swept), "jobs": plan.total},
            tags={"overrides": redact(" ".join(config.hydra.overrides.task))},
            files=SWEEP_ARTIFACTS,
        ) as parent:
            try:
                _run(plan, results, parser, launcher, folder, parent)
            finally:  # an interrupted sweep is summarised, too
                with defer_interrupts():
                    ordered = [results[number] for number in sorted(results)]
                    _summarise(ordered, plan, folder, parent, name)
            _raise_if_too_many_failed(ordered, plan)
    return ordered


class Parser:
    """Jobs to configs.

    Hydra takes 40 ms for each. Jobs that choose the same groups are composed once, and their single
    values set as Hydra would; whatever goes wrong on that way is left to Hydra to say.
    """

    def __init__(self, config: DictConfig, loader: ConfigLoader) -> None:
        self.config, self.loader = config, loader
        self.parser = OverridesParser.create(config_loader=loader)
        self.known: dict[Job, Config] = {}
        self.choices: dict[Job, DictConfig] = {}
        self.values: dict[str, Override | None] = {}

    def one(self, job: Job) -> Config:
        """The job's config; raises `InputError`."""
        if job not in self.known:
            try:
                self.known[job] = parse(self._with_values_set(job))
            except Exception:
                with translate_hydra_errors():
                    composed = self.loader.load_sweep_config(self.config, list(job))
                    self.known[job] = from_hydra(composed)
        return self.known[job]

    def _with_values_set(self, job: Job) -> DictConfig:
        values = [value for override in job if (value := self._value(override))]
        choices = tuple(override for override in job if not self._value(override))
        if choices not in self.choices:
            composed = self.loader.load_sweep_config(self.config, list(choices))
            self.choices[choices] = without_hydra(composed)
        config = deepcopy(self.choices[choices])
        for value in values:
            OmegaConf.update(config, value.key_or_group, value.value(), merge=True)
        return config

    def _value(self, text: str) -> Override | None:
        """The override, if it sets a single value that is there already."""
        if text not in self.values:
            override = self.parser.parse_override(text)
            is_plain = override.type == OverrideType.CHANGE and override.package is None
            is_group = self.loader.get_group_options(override.key_or_group)
            self.values[text] = override if is_plain and not is_group else None
        return self.values[text]

    def all(self, jobs: Sequence[Job]) -> list[Config]:
        """Every job's config; raises `InputError` listing all the bad ones."""
        refused = {}
        for job in jobs:
            try:
                self.one(job)
            except InputError as error:
                told = "" if str(error).startswith(" ".join(job)) else f"{' '.join(job)}: "
                refused[job] = f"  {told}{error}".replace("\n", "\n    ")
        if refused:
            raise InputError(
                f"{len(refused)} of {len(jobs)} jobs cannot run, so none was started:\n"
                + "\n".join(refused.values())
            )
        return [self.known[job] for job in jobs]


def _run(
    plan: SweepStrategy,
    results: dict[int, JobResult],
    parser: Parser,
    launcher: Launcher,
    folder: Path,
    parent: RunTracker,
) -> None:
    """Draws batch after batch, runs what is missing of each, and fills `results`."""
    failed = sum(result.state == "failed" for result in results.values())  # of an earlier command
    while failed <= plan.tolerated and (drawn := plan.ask()):
        started = time.time()
        batch = {result.number: result for result in drawn}
        results |= batch
        try:
            results |= _reuse_finished(batch, parser)
            ahead = {n: results[n] for n in batch if results[n].state == "unfinished"}
            if len(batch) > 1:
                logger.info(f"jobs: {len(batch)}, of them to run: {len(ahead)}, in {folder}")
            if ahead:
                results |= launch(
                    launcher, ahead, plan=plan, folder=folder, started=started, parent=parent
                )
        finally:
            with defer_interrupts():
                results |= {n: results[n].collect(folder, started) for n in batch}
                plan.tell([results[n] for n in batch])
                parent.close_children()  # what still seems to run has lost its worker
        failed += sum(results[n].state == "failed" for n in batch)


def _reuse_finished(batch: Mapping[int, JobResult], parser: Parser) -> dict[int, JobResult]:
    """The results, filled in for jobs that have a finished run already, if that is wanted."""
    found = dict(batch)
    configs = {}
    for number, result in batch.items():
        try:
            configs[number] = parser.one(result.job)
        except InputError as error:  # of a search: its bounds were tried, not every combination
            found[number] = replace(result, error=str(error))
    where = next((c.tracking for c in configs.values()), None)
    if where is None or not (where.enabled and where.skip_finished):
        return found
    marks = {
        n: provenance.fingerprint(scientific(c), load_dataset(c.data).digest)
        for n, c in configs.items()
    }
    earlier = finished_runs(where, marks.values())
    return found | {
        n: replace(batch[n], outcome=earlier[mark].result(), reused=True)
        for n, mark in marks.items()
        if mark in earlier and batch[n].state == "unfinished"
    }


def _raise_if_too_many_failed(results: Sequence[JobResult], plan: SweepStrategy) -> None:
    failed = [result for result in results if result.state in ("failed", "unfinished")]
    lines = "\n".join(f"  {result.error}\n    {result.command}" for result in failed)
    missing = plan.total - len(results)
    never = f", {missing} more were not started" if missing > 0 else ""
    told = f"{len(failed)} of {len(results)} jobs failed{never}:\n{lines}"
    if not failed:
        return
    if len(failed) > plan.tolerated or not any(result.outcome for result in results):
        raise SweepError(told)
    logger.warning(told)


def _summarise(
    results: Sequence[JobResult], plan: SweepStrategy, folder: Path, parent: RunTracker, name: str
) -> None:
    """Tables to the terminal, files and figures to the folder, the best job to the record."""
    label = data_label(results)
    title = f"{name}{f' on {label}' if label else ''}"
    top = best(results)
    if top:
        title += f": best validation accuracy {100 * top.score:.2f} %"
    summary.write(folder, results, plan.swept, title)
    plan.write_figures(folder, title)
    for table in summary.tables(results, plan.swept):
        console.print(table)
    if top:
        logger.info(f"best: job {top.number}, {top.command}")
    states = Counter(result.state for result in results)
    parent.log_tags({TITLE_TAG: title})
    parent.log_metrics({f"sweep/{state}": count for state, count in states.items()}, step=0)
    if top and top.outcome:
        parent.log_tags({"best.run_id": top.outcome.run_id, "best.command": top.command})
        parent.log_metrics({"sweep/best_val_accuracy": top.score}, step=0)
