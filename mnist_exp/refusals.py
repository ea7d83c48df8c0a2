"""Hydra's refusals in our words: the key, what came, what is allowed, the nearest right name."""

import re
from traceback import walk_tb

from hydra.errors import MissingConfigException, OverrideParseException
from omegaconf.errors import InterpolationResolutionError

from mnist_exp.config import keys, nearest

GROUPS = ["data", "debug", "experiment", "model", "optimizer", "schedule", "tracking", "train"]


def is_refusal(error: Exception) -> bool:
    """Whether Hydra or OmegaConf itself raised the error: some of theirs are plain ValueErrors."""
    *_, (frame, _) = walk_tb(error.__traceback__)
    return frame.f_globals["__name__"].partition(".")[0] in ("hydra", "omegaconf")


def explain(error: Exception) -> str:
    """One sentence for an error that Hydra raised while reading the command line."""
    message = str(error)
    if isinstance(error, MissingConfigException) and error.options is not None:
        group, _, option = (error.missing_cfg_file or "").rpartition("/")
        return (
            f"{group}={option}: no such option{nearest(option, list(error.options))}; "
            f"there are {', '.join(sorted(error.options))}"
        )
    if isinstance(error, OverrideParseException):
        return (
            f"{error.override}: not understood; expected key=value such as model=cnn or "
            f"train.epochs=5, quoted where it holds commas, brackets or spaces"
        )
    if found := re.search(r"Could not override '([^']+)'", message):
        return _unknown_key(found[1])
    if found := re.search(r"Ambiguous value for argument '([^']+)'", message):
        key = found[1].partition("=")[0]
        return f"{found[1]}: {key} takes one value; add -m to run one job for each"
    if message.startswith("Config group override"):
        return f"a group takes the name of an option, such as train=quick ({message})"
    if isinstance(error, InterpolationResolutionError):
        return f"{message.splitlines()[0]}; a value such as ${{seed}} must name a key that exists"
    return message.splitlines()[0]


def _unknown_key(key: str) -> str:
    group = key.partition(".")[0]
    if key in keys():
        return f"{key}: the chosen {group} has no such key; another one has (see conf/{group})"
    known = [*GROUPS, *keys()]
    siblings = [k for k in known if k.rpartition(".")[0] == key.rpartition(".")[0]]
    hint = nearest(key, siblings or known) or nearest(key, known)
    return f"{key}: no such key{hint}; there are {', '.join(sorted(set(siblings or GROUPS)))}"
