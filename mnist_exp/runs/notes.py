"""The Markdown that MLflow shows with a run, and with the parent of a sweep."""

import shlex
from collections.abc import Sequence

from mnist_exp.core.tables import TextTable


def run_note(title: str, notes: str | None, overrides: Sequence[str], run_id: str) -> str:
    """The result, the user's notes, what was typed, and what to do with the run.

    The first line is the title, by which `Run.title` knows it.
    """
    typed = [override for override in overrides if not override.startswith("notes=")]
    commands = (f"python -m mnist_exp {verb} --run {run_id[:8]}" for verb in ("serve", "reproduce"))
    predict = f"python -m mnist_exp predict --run {run_id[:8]} picture.png"
    parts = [
        title,
        notes or "",
        f"Typed: `{shlex.join(typed)}`" if typed else "",
        "\n".join(["```sh", predict, *commands, "```"]) if run_id else "",
    ]
    return "\n\n".join(filter(None, parts))


def sweep_note(title: str, notes: str | None, ranking: TextTable, run_ids: Sequence[str]) -> str:
    """The title, the user's notes and the ranking; the beginning of a run's id links to it."""
    links = {run_id[:8]: f"[{run_id[:8]}](#/runs/{run_id})" for run_id in run_ids}

    def cell(text: str) -> str:
        start, space, rest = text.partition(" ")
        return f"{links.get(start, start)}{space}{rest}".replace("|", "/")

    lines = [ranking.headings, ["---"] * len(ranking.headings), *ranking.rows]
    table = "\n".join(f"| {' | '.join(map(cell, line))} |" for line in lines)
    return "\n\n".join(filter(None, [title, notes, f"**{ranking.title}**", table]))
