"""A sweep on the screen: a line for each job that ends, and a bar over the jobs of this process."""

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from math import inf
from pathlib import Path
from threading import Event, RLock, Thread
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from mnist_exp.core.console import TimeLeft, console, print_line, print_warning
from mnist_exp.core.files import short_path
from mnist_exp.core.layout import SWEEP_PROGRESS
from mnist_exp.core.signals import defer_interrupts
from mnist_exp.runs.folder import RunResult
from mnist_exp.runs.names import label
from mnist_exp.runs.run import OBJECTIVE
from mnist_exp.sweeps.jobs import JobResult, best

POLL_SECONDS = 0.1


class SweepProgress:
    """Context manager: shows each job as it ends, in whichever process that is.

    Jobs write to a file of the sweep's folder how they ended (`tell_sweep`), a thread reads it.
    """

    def __init__(
        self,
        folder: Path,
        total: int,
        earlier: Iterable[JobResult],
        *,
        noun: str = "job",
        has_bar: bool = False,
        screen: Console = console,
    ) -> None:
        """For `total` jobs, of which an earlier command did some; `has_bar` in a terminal only."""
        self.folder, self.total, self.noun, self.screen = folder, total, noun, screen
        self.ended = {result.number: result for result in earlier}
        self.batch: dict[int, JobResult] = {}
        self._hint = "" if has_bar else f"; a line as each {noun} ends"
        self._widths = 0, 0  # of the number and of the choices, at most
        self._file, self._read_to = folder / SWEEP_PROGRESS, 0
        self._lock, self._is_over = RLock(), Event()
        self._thread = Thread(target=self._watch, daemon=True)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[best]}"),
            TimeLeft(compact=True),
            console=screen,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            speed_estimate_period=inf,  # the mean of all jobs but the first, which imports
            disable=not (has_bar and screen.is_terminal),
        )
        self._task = self._bar.add_task("", total=total, best="")

    def __enter__(self) -> Self:
        self._file.unlink(missing_ok=True)  # an earlier sweep's that was killed in this folder
        self._thread.start()
        return self

    @defer_interrupts()  # or the terminal is left without its cursor
    def __exit__(self, *error: object) -> None:
        self._is_over.set()
        self._thread.join()
        self.show(self._told())
        self._bar.stop()
        self._file.unlink(missing_ok=True)

    def expect(self, batch: Mapping[int, JobResult]) -> None:
        """Wait for these jobs; those that need not run have ended already."""
        if not self.batch:
            reused = sum(result.reused for result in batch.values())
            done = f"{self.noun}s: {self.total}, of them done earlier: {len(self.ended) + reused}"
            line = f"{done}; results in {short_path(self.folder)}{self._hint}"
            print_line(line, self.screen, fold=True)
            self._update_bar()
            self._bar.start()
        with self._lock:
            self.batch |= batch
            width = max(self._widths[1], *(len(_choices(result)) for result in batch.values()))
            self._widths = len(str(max(self.total - 1, *self.batch))), width
        self.show(batch.values())

    def show(self, results: Iterable[JobResult]) -> None:
        """Show those of the results that are new; what an earlier run did is only counted."""
        with self._lock:
            before = len(self.ended)
            for result in results:
                if result.state != "unfinished" and result.number not in self.ended:
                    self.ended[result.number] = result
                    self._show(result)
            if len(self.ended) > before:
                self._update_bar()

    def _update_bar(self) -> None:
        done, top = len(self.ended), self._best(best([*self.ended.values()]))
        text = f"{done} of {self.total} {self.noun}s"
        self._bar.update(self._task, completed=done, description=text, best=top)

    def _show(self, result: JobResult) -> None:
        if result.state == "failed":
            print_warning(f"{self._name(result)}  failed: {result.error}", fold=True)
        elif result.state != "reused":
            print_line(self._line(result), self.screen, fold=True)

    def _line(self, result: JobResult) -> str:
        if not result.run_result:  # it was pruned
            return f"{self._name(result)}  {result.error}"
        metrics, top = result.run_result.metrics, best([*self.ended.values()])
        parts = [
            self._name(result),
            f"val {_percent(result)}" if OBJECTIVE in metrics else "not validated",
            f"{metrics['train/seconds']:.1f} s",
            "the best so far" if top is result else self._best(top),
        ]
        line = "  ".join(filter(None, parts))
        is_too_long = self.screen.is_terminal and len(line) > self.screen.width
        return "  ".join(parts[:-1]) if is_too_long else line

    def _best(self, top: JobResult | None) -> str:
        return f"best {_percent(top)} ({self.noun} {top.number})" if top else ""

    def _name(self, result: JobResult) -> str:
        """'job 2 (3 of 12)  lr=3e-3 seed=1', as wide as the widest of the batch."""
        number, choices = self._widths
        place = f"({len(self.ended):>{len(str(self.total))}} of {self.total})"
        name = f"{self.noun} {result.number:>{number}} {place}  {_choices(result):<{choices}}"
        return name if choices else name.rstrip()

    def _watch(self) -> None:
        while not self._is_over.wait(POLL_SECONDS):
            self.show(self._told())

    def _told(self) -> Iterable[JobResult]:
        """The results of the jobs whose lines are new in the file."""
        try:
            with self._file.open("rb") as file:
                file.seek(self._read_to)
                lines = file.read().rpartition(b"\n")[0]
        except OSError:  # no job has ended
            return
        self._read_to += len(lines) + bool(lines)
        for line in lines.splitlines():
            with suppress(ValueError, KeyError):  # that of a worker killed while writing it
                end: dict[str, Any] = json.loads(line)
                if end["run_result"]:
                    end["run_result"] = RunResult.from_dict(end["run_result"])
                yield replace(self.batch[end["number"]], **end)


def tell_sweep(folder: Path, number: int, ended: RunResult | Exception) -> None:
    """Tell the sweep in `folder` how its job ended; if this fails, its launcher will."""
    result = JobResult(number, (), ()).with_end(ended)
    values = result.run_result and result.run_result.to_dict()
    end = {"number": number, "run_result": values, "error": result.error, "pruned": result.pruned}
    with suppress(OSError), (folder / SWEEP_PROGRESS).open("ab") as file:
        file.write(json.dumps(end).encode() + b"\n")


def _choices(result: JobResult) -> str:
    """'cnn lr=3e-3 seed=1': what was chosen for the job."""
    choices = result.choices
    return " ".join(filter(None, [choices.pop("model", ""), label(choices)]))


def _percent(result: JobResult) -> str:
    return f"{100 * result.objective:.2f} %"
