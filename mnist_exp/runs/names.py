"""What a run is called in MLflow and in tables, and the Markdown that MLflow shows with it."""

import json
import os
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any

from mnist_exp.config.compose import PINNED, flatten, variant_values
from mnist_exp.config.schema import Config
from mnist_exp.core.console import TextTable
from mnist_exp.core.layout import FIGURES
from mnist_exp.runs.run import EXTENDED_AFTER_TAG, EXTENDED_FROM_TAG

SWEPT_VARIABLE = "MNIST_EXP_SWEPT"  # the keys that differ between the jobs of this process's sweep
MAX_NAME = 250  # characters that MLflow keeps
ABBREVIATIONS = {"learning_rate": "lr"}
# What says nothing of the run, or is the beginning of its name.
UNNAMED = (
    "model", "name", "notes", "seed", "save_as", "data.path", "data.test_path", "data.fallback",
)  # fmt: skip
UNNAMED_GROUPS = ("tags.", "tracking.", "report.", "hydra")


def run_name(config: Config, overrides: Iterable[str], is_extended: bool = False) -> str:
    """'dense128 lr=3e-3 seed=1': the variant or preset, and what was swept, else typed.

    Without a sweep the seed is always named. `name=` stands for the variant in a sweep, else for
    all.
    """
    typed = _choices(overrides)
    preset = typed.pop("experiment", "")
    if swept := os.environ.get(SWEPT_VARIABLE):
        chosen = {key: typed[key] for key in swept.split(",") if key in typed}
    elif config.name:
        chosen = {}
    else:
        chosen = {key: value for key, value in typed.items() if not _is_unnamed(key)}
        chosen["seed"] = str(config.seed)
    chosen.pop("model", None)
    if not (chosen or config.name):  # a sweep of models alone
        chosen["seed"] = str(config.seed)
    base = config.name or preset or config.model.name
    return " ".join(filter(None, [base, label(chosen), "extended" * is_extended]))[:MAX_NAME]


def model_label(config: Config, overrides: Iterable[str]) -> str:
    """'dense128 units=[256]': the variant and what differs from its file; else what was typed."""
    own = flatten(variant_values(config.model.name))
    values = flatten(config.model.model_dump(mode="json"))
    differing = {
        f"model.{k}": _typed(v)
        for k, v in values.items()
        if v != own.get(k, v if "args." not in k else None)
    }
    if not own:
        differing = {k: v for k, v in _choices(overrides).items() if k.startswith("model.")}
    return " ".join(filter(None, [config.model.name, label(differing)]))


def label(choices: Mapping[str, str]) -> str:
    """'lr=3e-3 dropout=0.12 seed=1': the seed last."""
    keys = sorted(choices, key=lambda key: key == "seed")
    pairs = zip(short_keys(keys), keys, strict=True)
    return " ".join(f"{short}={short_value(choices[key])}" for short, key in pairs)


def short_keys(keys: Sequence[str]) -> list[str]:
    """The last part of each key, where no other ends in it; 'lr' for 'optimizer.learning_rate'."""
    ends = [key.rpartition(".")[2] for key in keys]
    names = [end if ends.count(end) == 1 else key for key, end in zip(keys, ends, strict=True)]
    return [ABBREVIATIONS.get(name, name) for name in names]


def short_value(text: str) -> str:
    """The value as names and tables show it: a float with three significant digits, '3e-3'."""
    text = re.sub(f"([0-9a-f]{{24}})?{PINNED}.*", "", text.strip("'\""))  # 8 of a run's id
    try:
        number = float(text)
    except ValueError:
        return text
    if not isfinite(number) or text.lstrip("+-").isdigit():
        return text
    if number and not 0.01 <= abs(number) < 1e4:
        mantissa, _, exponent = f"{number:.2e}".partition("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    return f"{number:.3g}"


def _typed(value: Any) -> str:
    """The value as it would be typed."""
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def _choices(overrides: Iterable[str]) -> dict[str, str]:
    """The value of each key; `~key` chooses none."""
    pairs = (override.lstrip("+").split("=", 1) for override in overrides if "=" in override)
    return {key: value for key, value in pairs if not key.startswith("~")}


def _is_unnamed(key: str) -> bool:
    return key in UNNAMED or key.startswith(UNNAMED_GROUPS)


def _origin_note(tags: Mapping[str, str]) -> str:
    """Where an extended run started; empty for others."""
    if not (origin := tags.get(EXTENDED_FROM_TAG)):
        return ""
    is_id = re.fullmatch("[0-9a-f]{32}", origin)
    link = f"[{origin[:8]}](#/runs/{origin})" if is_id else f"in `{origin}`"
    return f"Extended from run {link}, whose {tags[EXTENDED_AFTER_TAG]} epochs are its first ones."


def run_note(
    title: str, notes: str | None, overrides: Sequence[str], run_id: str, tags: Mapping[str, str]
) -> str:
    """The result, the user's notes, its origin, what was typed, and what to do with the run.

    The first line is the title, by which `Run.title` knows it.
    """
    typed = [override for override in overrides if not override.startswith("notes=")]
    commands = (f"python -m mnist_exp {verb} --run {run_id[:8]}" for verb in ("serve", "reproduce"))
    predict = f"python -m mnist_exp predict --run {run_id[:8]} picture.png"
    parts = [
        title,
        notes or "",
        _origin_note(tags),
        f"Typed: `{shlex.join(typed)}`" if typed else "",
        "\n".join(["```sh", predict, *commands, "```"]) if run_id else "",
    ]
    return "\n\n".join(filter(None, parts))


def sweep_note(
    title: str,
    notes: str | None,
    tables: Sequence[TextTable],
    best: str,
    jobs: Sequence[str],
    run_id: str,
    pictures: Sequence[str],
) -> str:
    """The title, the user's notes, tables, the best job's command, the parent run's figures.

    `jobs` are ids of runs, to which their beginnings in the tables are links; `pictures` are files.
    """
    links = {job[:8]: f"[{job[:8]}](#/runs/{job})" for job in jobs}

    def cell(text: str) -> str:
        start, space, rest = text.partition(" ")
        return f"{links.get(start, start)}{space}{rest}".replace("|", "/")

    parts = [title, notes]
    for table in tables:
        lines = [table.headings, ["---"] * len(table.headings), *table.rows]
        parts += [f"**{table.title}**", "\n".join(f"| {' | '.join(map(cell, x))} |" for x in lines)]
    parts += [f"The best again:\n\n```sh\n{best}\n```" if best else ""]
    for file in pictures:
        address = f"get-artifact?path={FIGURES}/{file}&run_uuid={run_id}"  # from a page of MLflow
        parts.append(f"![{Path(file).stem.replace('_', ' ')}]({address})")
    return "\n\n".join(filter(None, parts))
