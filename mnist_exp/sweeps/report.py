"""A sweep's results as they are shown: a ranking, files and figures."""

import csv
from collections.abc import Iterator, Sequence
from math import inf, isfinite, nan
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.table import Table

from mnist_exp.core.layout import FIGURES, SWEEP_GROUPS, SWEEP_JOBS
from mnist_exp.runs.run import OBJECTIVE
from mnist_exp.sweeps.results import REPORTED, JobResult, SeedGroup, best, data_label, groups

SHOWN, WIDE = 30, 16  # rows in the terminal, and letters of a swept key's column


def tables(results: Sequence[JobResult], swept: Sequence[str]) -> Iterator[Table]:
    """The jobs ranked by validation accuracy, and their means when several seeds were run."""
    yield _ranking(results, swept)
    if _has_seeds(results, swept):
        yield _means(groups(results), [key for key in swept if key != "seed"])


def write(folder: Path, results: Sequence[JobResult], swept: Sequence[str], title: str) -> None:
    """Fills the sweep's folder: sweep.csv, over_seeds.csv and the figures."""
    _write_jobs(folder / SWEEP_JOBS, results, swept)
    if _has_seeds(results, swept):
        _write_groups(folder / SWEEP_GROUPS, groups(results))
    if not swept or not any(OBJECTIVE in group.scores for group in groups(results)):
        return
    from mnist_exp import plots  # heavy

    keys = [key for key in swept if key != "seed"]
    spreads = [(group.choices, group.spread(OBJECTIVE)) for group in groups(results)]
    drawn = [(choices, *spread) for choices, spread in spreads if spread]
    if not keys:  # nothing but seeds: each for itself
        keys = list(swept)
        drawn = [(result.choices, result.score, nan) for result in results if result.score > -inf]
    (folder / FIGURES).mkdir(exist_ok=True)
    plots.by_value(keys, drawn, title).savefig(folder / FIGURES / "by_value.png")
    if len(keys) > 1:
        parallel = plots.parallel_coordinates(keys, drawn, title)
        parallel.savefig(folder / FIGURES / "parallel_coordinates.png")


def short(value: str) -> str:
    """The value as a table shows it: a drawn number to four digits."""
    try:
        return f"{float(value):.4g}" if len(value) > 8 else value
    except ValueError:
        return value


def _has_seeds(results: Sequence[JobResult], swept: Sequence[str]) -> bool:
    return "seed" in swept and any(group.n > 1 for group in groups(results))


def _ranking(results: Sequence[JobResult], swept: Sequence[str]) -> Table:
    label = data_label(results)
    blind = label and not best(results)
    order = "not ranked, without validation images" if blind else "ranked by validation accuracy"
    drawn = Table(
        title=f"{order}{f', on {label}' if label else ''}",
        title_justify="left",
        box=SIMPLE_HEAD,
    )
    drawn.add_column("job", no_wrap=True)
    for key in swept:
        heading = key if len(key) <= WIDE else key.replace(".", ".\n")
        words = [*heading.split("\n"), *(short(result.choices[key]) for result in results)]
        widest = min(max(map(len, words)), WIDE)
        drawn.add_column(heading, overflow="fold", min_width=widest)
    mixed = len({result.outcome.data for result in results if result.outcome}) > 1
    headings = ["val %", "test %", "95 % interval", "seconds", "run"]
    for heading in [*headings, "data"] if mixed else headings:
        drawn.add_column(heading, no_wrap=True)
    ranked = sorted(results, key=lambda result: -result.score)
    if len(ranked) > SHOWN:
        drawn.caption = f"the first {SHOWN} of {len(ranked)}; sweep.csv has them all"
    for result in ranked[:SHOWN]:
        cells = _cells(result)
        if mixed and result.outcome:
            cells.append(result.outcome.data)
        drawn.add_row(str(result.number), *map(short, result.choices.values()), *cells)
    return drawn


def _means(found: Sequence[SeedGroup], keys: Sequence[str]) -> Table:
    drawn = Table(title="mean ± sd over seeds", title_justify="left", box=SIMPLE_HEAD)
    for key in keys:
        drawn.add_column(key, overflow="fold")
    for heading in ("n", "val %", "test %"):
        drawn.add_column(heading, no_wrap=True)
    for group in sorted(found, key=_rank):
        cells = [_spread(group.spread(figure)) for figure in (OBJECTIVE, "test/accuracy")]
        drawn.add_row(*map(short, group.choices.values()), str(group.n), *cells)
    return drawn


def _rank(group: SeedGroup) -> float:
    """Sorts the best mean validation accuracy first."""
    return -(group.spread(OBJECTIVE) or (0.0,))[0]


def _spread(values: tuple[float, float] | None) -> str:
    if values is None:
        return "none"
    middle, deviation = (100 * value for value in values)
    return f"{middle:.2f}" + (f" ± {deviation:.2f}" if isfinite(deviation) else "")


def _cells(result: JobResult) -> list[str]:
    if result.outcome is None:
        return [result.state, "", "", "", ""]
    figures = result.outcome.metrics
    validation = f"{100 * figures[OBJECTIVE]:.2f}" if OBJECTIVE in figures else "none"
    score, low, high = (100 * figures[f"test/accuracy{end}"] for end in ("", "_low", "_high"))
    return [
        validation,
        f"{score:.2f}",
        f"{low:.2f}-{high:.2f}",
        f"{figures['train/seconds']:.1f}",
        result.outcome.run_id[:8] + (" (earlier)" if result.reused else ""),
    ]


def _write_jobs(path: Path, results: Sequence[JobResult], swept: Sequence[str]) -> None:
    """One row per job in the order of the jobs."""
    columns = ["job", *swept, "state", "data", *REPORTED, "train/seconds", "run_id", "folder"]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*columns, "error", "command"], extrasaction="ignore")
        writer.writeheader()
        for result in results:
            row: dict[str, object] = {"job": result.number, **result.choices}
            row |= {"state": result.state, "error": result.error, "command": result.command}
            if outcome := result.outcome:
                row |= outcome.metrics
                row |= {"data": outcome.data, "run_id": outcome.run_id, "folder": outcome.folder}
            writer.writerow(row)


def _write_groups(path: Path, found: Sequence[SeedGroup]) -> None:
    """One row per choice, the best first: n, then the mean and sd of each figure."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        columns = [f"{figure} {kind}" for figure in REPORTED for kind in ("mean", "sd")]
        writer.writerow([*(found[0].choices), "n", *columns])
        for group in sorted(found, key=_rank):
            spreads = [group.spread(figure) or ("", "") for figure in REPORTED]
            cells = [value for spread in spreads for value in spread]
            writer.writerow([*group.choices.values(), group.n, *cells])
