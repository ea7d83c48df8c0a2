"""Refusals in our words: the key, what came, what is allowed, the nearest right name."""

import difflib
import re
from collections.abc import Sequence
from traceback import walk_tb

from hydra.errors import MissingConfigException, OverrideParseException
from omegaconf.errors import InterpolationResolutionError
from pydantic_core import ErrorDetails

GROUPS = [
    "augment",
    "data",
    "debug",
    "experiment",
    "model",
    "optimizer",
    "schedule",
    "sweep",
    "tracking",
    "train",
]


EXTRAS = {"submitit_local": "slurm", "submitit_slurm": "slurm"}  # launchers that do not come along
EXPECTED = {  # pydantic's kinds of error in our words
    "greater_than": "a number above {gt}",
    "greater_than_equal": "a number of at least {ge}",
    "less_than": "a number below {lt}",
    "less_than_equal": "a number of at most {le}",
    "literal_error": "one of {expected}",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "text",
    "string_too_short": "text",
    "string_pattern_mismatch": "letters, digits, dots, dashes and underscores",
    "tuple_type": "a list, written [{given}]",
    "too_short": "a list of at least {min_length}",
    "too_long": "a list of at most {max_length}",
    "model_type": "a group of keys",
    "model_attributes_type": "a group of keys",
}


def is_refusal(error: Exception) -> bool:
    """Whether Hydra or OmegaConf itself raised the error: some of theirs are plain ValueErrors."""
    *_, (frame, _) = walk_tb(error.__traceback__)
    return frame.f_globals["__name__"].partition(".")[0] in ("hydra", "omegaconf")


def made_by_hydra(error: Exception) -> bool:
    """Whether the error arose while Hydra prepared the job: none of our story had begun."""
    rooms = {frame.f_globals["__name__"] for frame, _ in walk_tb(error.__traceback__)}
    return not rooms & {"mnist_exp.experiment", "mnist_exp.sweeps.sweep"}


def explain(error: Exception, keys: Sequence[str]) -> str:
    """One sentence for an error that Hydra raised while reading the command line."""
    message = str(error)
    if isinstance(error, MissingConfigException) and error.options is not None:
        group, _, option = (error.missing_cfg_file or "").rpartition("/")
        if group == "hydra/launcher" and option in EXTRAS:
            extra = EXTRAS[option]
            return f"{group}={option}: not installed; pip install 'mnist-exp[{extra}]' brings it"
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
        return _unknown_key(found[1], keys)
    if found := re.search(r"Ambiguous value for argument '([^']+)'", message):
        key = found[1].partition("=")[0]
        return f"{found[1]}: {key} takes one value; add -m to run one job for each"
    if found := re.match(r"Multiple values for (\w+)\.", message):
        return f"+{found[1]}=...: {found[1]} has its option already; write {found[1]}=... without +"
    if found := re.match(r"(?:Error merging override|Sweep parameters) '?([^']+)", message):
        hint = "; add -m to run a job for each value" if "(" in found[1] else ""
        return f"{found[1]}: the key does not take such a value{hint}"
    if message.startswith("Config group override"):
        *_, (frame, _) = walk_tb(error.__traceback__)  # the message does not say which one
        given = frame.f_locals["override"].input_line
        return f"{given}: a group takes the name of an option, such as train=quick"
    if isinstance(error, InterpolationResolutionError):
        return f"{message.splitlines()[0]}; a value such as ${{seed}} must name a key that exists"
    return message.splitlines()[0]


def _unknown_key(key: str, keys: Sequence[str]) -> str:
    group = key.partition(".")[0]
    if group == "hydra" and not key.startswith("hydra.sweeper."):
        return f"{key}: Hydra has no such key; see --hydra-help"
    if key in keys and group == "hydra":
        return f"{key}: the grid has no such key; it is one of hydra/sweeper=optuna"
    if key in keys:
        return f"{key}: the chosen {group} has no such key; another one has (see conf/{group})"
    known = [*GROUPS, *keys]
    siblings = [k for k in known if k.rpartition(".")[0] == key.rpartition(".")[0]]
    hint = nearest(key, siblings or known) or nearest(key, known)
    place = f"in all of conf/{group} " if siblings and "." in key and group != "hydra" else ""
    return (
        f"{key}: no such key{hint}; {place}there are {', '.join(sorted(set(siblings or GROUPS)))}"
    )


def nearest(word: str, words: list[str]) -> str:
    """' (did you mean X?)' for the closest of `words`, or nothing when none is close.

    A key's last part decides, and may be initials: optimizer.lr means optimizer.learning_rate.
    """
    last = {option: option.rpartition(".")[2] for option in words}
    name = word.rpartition(".")[2]
    close = [option for option in words if name == _initials(last[option])]
    if not close:
        names = difflib.get_close_matches(name, list(last.values()), n=1, cutoff=0.6)
        close = [option for option in words if last[option] in names]
    return f" (did you mean {close[0]}?)" if close else ""


def _initials(name: str) -> str:
    return "".join(part[0] for part in name.split("_") if part)


def sentence(error: ErrorDetails, siblings: Sequence[str]) -> str:
    """One of pydantic's errors as 'key: expected ..., got ...'.

    `siblings` are the names that may stand beside the last part of the key.
    """
    kind, given, context = error["type"], error["input"], error.get("ctx", {})
    key = _key(error["loc"])
    if kind == "pair":
        return error["msg"]
    if kind == "extra_forbidden":
        prefix, dot, _ = key.rpartition(".")
        known = [f"{prefix}{dot}{name}" for name in siblings]
        return f"{key}: no such key{nearest(key, known)}; there are {', '.join(known)}"
    if kind == "missing":
        return f"{key}: missing; give it a value"
    if kind == "union_tag_invalid":
        key = f"{key}.{context['discriminator'].strip(chr(39))}"
        given, allowed = context["tag"], context["expected_tags"]
        options = [tag.strip("'") for tag in _options(allowed)]
        return f"{key}: expected one of {allowed}, got {given!r}{nearest(str(given), options)}"
    hint = ""
    if kind == "literal_error" and isinstance(given, str):
        hint = nearest(given, [option.strip("'") for option in _options(context["expected"])])
    if kind == "literal_error":
        context = {"expected": ", ".join(_options(context["expected"]))}
    wanted = EXPECTED[kind].format(**context, given=given) if kind in EXPECTED else error["msg"]
    written = "null" if given is None else repr(given)
    return f"{key}: expected {wanted}, got {written}{hint}"


def _options(text: str) -> list[str]:
    """Pydantic's "'a', True or None" as its parts, as YAML has them."""
    yaml = {"True": "true", "False": "false", "None": "null"}
    return [yaml.get(part, part) for part in text.replace(" or ", ", ").split(", ")]


def _key(location: tuple[int | str, ...]) -> str:
    """The key as typed: pydantic names the union's branch after the group."""
    parts = [str(part) for part in location]
    if len(parts) > 1 and parts[0] in ("augment", "model", "optimizer"):
        del parts[1]
    return ".".join(parts)
