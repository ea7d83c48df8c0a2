"""The story of a multirun: parse every job, open the parent, launch, summarise, close."""

import csv
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.config_loader import ConfigLoader
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import HydraException
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig
from rich.box import SIMPLE_HEAD
from rich.table import Table

from mnist_exp import tracking
from mnist_exp.config import Config, keys, parse, refuse_lists, without_hydra, without_password
from mnist_exp.errors import InputError, SweepError
from mnist_exp.refusals import explain
from mnist_exp.signals import sigterm_interrupts
from mnist_exp.terminal import console

if TYPE_CHECKING:
    from mnist_exp.experiment import Outcome

logger = logging.getLogger(__name__)

Job = Sequence[str]  # its overrides
FIGURES = ("val/accuracy", "test/accuracy", "test/accuracy_low", "test/accuracy_high", "test/loss")


@dataclass(frozen=True)
class Result:
    """What became of one job: an outcome or an error."""

    number: int
    choices: dict[str, str]  # the swept keys and this job's values
    outcome: "Outcome | None"
    error: str = ""

    @property
    def score(self) -> float:
        """What the sweep is ranked by; the last place for a failed job."""
        return float(self.outcome) if self.outcome else float("-inf")


def run_sweep(
    jobs: Sequence[Job],
    *,
    swept: Sequence[str],
    config: DictConfig,
    loader: ConfigLoader,
    launcher: Launcher,
) -> list[JobReturn]:
    """The return of every job, in order, with a parent run over them and a table at the end.

    Raises `InputError` naming every bad job before the first starts, and `SweepError` after the
    last when some failed.
    """
    first = parse_all(jobs, config, loader)[0]
    folder = Path(config.hydra.sweep.dir).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    with (
        sigterm_interrupts(),
        tracking.record(
            first.tracking,
            name=f"sweep of {', '.join(swept) or 'one job'}",
            folder=folder,
            params={"swept": ", ".join(swept), "jobs": len(jobs)},
            tags={"overrides": without_password(" ".join(config.hydra.overrides.task))},
            files=["sweep.csv"],
        ) as parent,
    ):
        logger.info(f"sweep of {len(jobs)} jobs in {folder}")
        # By our own name: MLFLOW_RUN_ID would make every job write into the parent.
        below = [[*job, f"+hydra.job.env_set.{tracking.PARENT}={parent.run_id}"] for job in jobs]
        returns = list(launcher.launch(below, initial_job_idx=0))
        results = [_result(number, ret, swept) for number, ret in enumerate(returns)]
        write_csv(folder / "sweep.csv", results, swept)
        console.print(table(results, swept))
        failed = [result for result in results if result.error]
        if failed:
            lines = [f"  {_words(result)}: {result.error}" for result in failed]
            raise SweepError(f"{len(failed)} of {len(jobs)} jobs failed:\n" + "\n".join(lines))
    return returns


def parse_all(jobs: Sequence[Job], config: DictConfig, loader: ConfigLoader) -> list[Config]:
    """Every job's config; raises `InputError` listing all the bad ones."""
    configs, refused = [], []
    for job in jobs:
        try:
            composed = loader.load_sweep_config(config, list(job))
            refuse_lists(composed.hydra.runtime.choices)
            configs.append(parse(without_hydra(composed)))
        except (InputError, HydraException) as error:
            reason = explain(error, keys()) if isinstance(error, HydraException) else str(error)
            refused.append(f"  {' '.join(job)}: {reason}")
    if refused:
        raise InputError(
            f"{len(refused)} of {len(jobs)} jobs cannot run, so none was started:\n"
            + "\n".join(refused)
        )
    return configs


def table(results: Sequence[Result], swept: Sequence[str]) -> Table:
    """The jobs ranked by validation accuracy."""
    drawn = Table(title="ranked by validation accuracy", title_justify="left", box=SIMPLE_HEAD)
    drawn.add_column("job")
    for key in swept:
        drawn.add_column(key, overflow="fold")
    for heading in ("val %", "test %", "95 % interval", "seconds", "run"):
        drawn.add_column(heading, no_wrap=True)
    for result in sorted(results, key=lambda result: -result.score):
        drawn.add_row(str(result.number), *result.choices.values(), *_cells(result))
    return drawn


def write_csv(path: Path, results: Sequence[Result], swept: Sequence[str]) -> None:
    """One row per job in the order of the jobs."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["job", *swept, *FIGURES, "train/seconds", "run_id", "folder", "error"])
        for result in results:
            row: list[object] = [result.number, *result.choices.values()]
            if result.outcome:
                figures = result.outcome.metrics
                row += [figures.get(name, "") for name in (*FIGURES, "train/seconds")]
                row += [result.outcome.run_id, result.outcome.folder]
            else:
                row += [""] * (len(FIGURES) + 3)
            writer.writerow([*row, result.error])


def _cells(result: Result) -> list[str]:
    if result.outcome is None:
        return ["failed", "", "", "", ""]
    figures = result.outcome.metrics
    validation = f"{100 * figures['val/accuracy']:.2f}" if "val/accuracy" in figures else "none"
    score, low, high = (100 * figures[f"test/accuracy{end}"] for end in ("", "_low", "_high"))
    return [
        validation,
        f"{score:.2f}",
        f"{low:.2f}-{high:.2f}",
        f"{figures['train/seconds']:.1f}",
        result.outcome.run_id[:8],
    ]


def _result(number: int, ret: JobReturn, swept: Sequence[str]) -> Result:
    values = dict(override.split("=", 1) for override in ret.overrides or [])
    choices = {key: values.get(key, "") for key in swept}
    if ret.status == JobStatus.COMPLETED:
        return Result(number, choices, ret.return_value)
    error = str(ret._return_value).strip() or type(ret._return_value).__name__
    return Result(number, choices, None, error.splitlines()[-1])


def _words(result: Result) -> str:
    return f"job {result.number} " + " ".join(f"{k}={v}" for k, v in result.choices.items())
