"""Messages for wrong input: the key, the value given, what is allowed, the nearest name."""

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from traceback import walk_tb

from hydra.errors import MissingConfigException, OverrideParseException
from omegaconf.errors import InterpolationResolutionError
from pydantic_core import ErrorDetails
from yaml import MarkedYAMLError  # type: ignore[import-untyped]

GROUPS = [
    "augment", "callbacks", "data", "debug", "experiment", "model", "optimizer", "schedule",
    "sweep", "tracking", "train",
]  # fmt: skip
TAGS = {"callbacks": 2, "data": 1, "model": 1, "optimizer": 1}  # where the branch stands
MAX_SHOWN = 80  # characters of a wrong value
EXTRAS = {"submitit_local": "slurm", "submitit_slurm": "slurm"}  # of optional launchers
INSTEAD = {  # of Keras' callbacks that a run has no need of
    "BackupAndRestore": "resume", "CSVLogger": "history.csv", "EarlyStopping": "train.patience",
    "LearningRateScheduler": "schedule", "ModelCheckpoint": "train.checkpoint_every",
    "SwapEMAWeights": "train.ema",
}  # fmt: skip
EXPECTED = {  # by pydantic's types of errors
    "greater_than": "a number above {gt}",
    "greater_than_equal": "a number of at least {ge}",
    "less_than": "a number below {lt}",
    "less_than_equal": "a number of at most {le}",
    "literal_error": "one of {expected}",
    "enum": "one of {expected}",
    "int_type": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "dict_type": "keys with values",
    "string_type": "text",
    "string_too_short": "text",
    "string_too_long": "text of at most {max_length} characters",
    "string_pattern_mismatch": "letters, digits, dots, dashes and underscores",
    "tuple_type": "a list, written [{given}]",
    "model_type": "a group of keys",
    "model_attributes_type": "a group of keys",
}


def raised_by_hydra(error: Exception) -> bool:
    """Whether Hydra, OmegaConf or YAML raised it; some of their errors are plain ValueErrors."""
    names = [frame.f_globals["__name__"] for frame, _ in walk_tb(error.__traceback__)]
    if isinstance(error, RecursionError):
        return "hydra._internal.defaults_list" in names
    while names[-1] == "codecs":  # a file that is not UTF-8
        del names[-1]
    return names[-1].partition(".")[0] in ("hydra", "omegaconf", "yaml")


def raised_before_experiment(error: Exception) -> bool:
    """Whether the error was raised while Hydra prepared the experiment or sweep."""
    modules = {frame.f_globals["__name__"] for frame, _ in walk_tb(error.__traceback__)}
    return not modules & {"mnist_exp.experiment", "mnist_exp.sweeps.sweep"}


def hydra_error_message(error: Exception, keys: Sequence[str]) -> str:
    """One sentence for an error that Hydra raised while it read the command line."""
    message = str(error)
    if told := _unreadable(error):
        return told
    group, _, option = (getattr(error, "missing_cfg_file", None) or "").rpartition("/")
    if isinstance(error, MissingConfigException) and group:
        if group == "hydra/launcher" and option in EXTRAS:
            extra = EXTRAS[option]
            return f"{group}={option}: not installed; pip install 'mnist-exp[{extra}]' brings it"
        folders = [Path(f, group) for f in re.findall(r"path=(?:file|own)://(.+)", message)]
        for folder in folders:
            if (file := folder / f"{option}.yml").exists():
                return f"{file}: Hydra reads files that end with .yaml; rename it to {option}.yaml"
        # Of a list of options Hydra does not tell what there is.
        options = error.options or [file.stem for f in folders for file in f.glob("*.yaml")]
        return (
            f"{group}={option}: no such option{nearest(option, list(options))}; "
            f"there are {', '.join(sorted(set(options)))}"
        )
    if isinstance(error, OverrideParseException):
        return (
            f"{error.override}: not understood; expected key=value such as model=cnn or "
            f"train.epochs=5, quoted where it holds commas, brackets or spaces"
        )
    if match := re.search(r"Could not override '([^']+)'", message):
        return _unknown_key(match[1], keys)
    if match := re.search(r"Ambiguous value for argument '([^']+)'", message):
        key = match[1].partition("=")[0]
        return f"{match[1]}: {key} takes one value; add -m to run one job for each"
    if match := re.match(r"Multiple values for (\w+)\.", message):
        return f"+{match[1]}=...: {match[1]} has its option already; write {match[1]}=... without +"
    if match := re.match(r"(?:Error merging override|Sweep parameters) '?([^']+)", message):
        hint = "; add -m to run a job for each value" if "(" in match[1] else ""
        return f"{match[1]}: the key does not take such a value{hint}"
    if message.startswith("Config group override"):
        *_, (frame, _) = walk_tb(error.__traceback__)  # the message does not name it
        given = frame.f_locals["override"].input_line
        return f"{given}: a group takes the name of an option, such as train=quick"
    if isinstance(error, InterpolationResolutionError):
        return f"{message.splitlines()[0]}; a value such as ${{seed}} must name a key that exists"
    return message.splitlines()[0]


def _unreadable(error: Exception) -> str:
    """Which file cannot be read, and where; empty for other errors, and for one without a place."""
    if isinstance(error, RecursionError):
        frames = [frame.f_locals for frame, _ in walk_tb(error.__traceback__)]
        node = next(names["root"].node for names in frames[::-1] if "is_root_config" in names)
        file = f"{node.get_config_path()}.yaml"
        return f"{file}: its defaults lead back to it; give the file another name"
    if isinstance(error, UnicodeDecodeError):  # it does not name the file
        opened = [frame.f_locals.get("f") for frame, _ in walk_tb(error.__traceback__)]
        file = next((each.name for each in opened if each is not None), "a YAML file")
        byte = f"byte {error.object[error.start]:#x}"
        return f"{file}: expected text in UTF-8, got {byte}; save it so"
    if not isinstance(error, MarkedYAMLError) or not (mark := error.problem_mark):
        return ""
    place = f"{mark.name}, line {mark.line + 1}"
    return f"{place}: no valid YAML, {error.problem}; mend that line"


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
    place = f"in all of conf/{group} " if siblings and "." in key and group in GROUPS else ""
    return (
        f"{key}: no such key{hint}; {place}there are {', '.join(sorted(set(siblings or GROUPS)))}"
    )


def nearest(word: str, words: list[str]) -> str:
    """' (did you mean X?)' with the closest of `words`; empty when none is close.

    Compares the last parts of keys, which may be initials: optimizer.lr, optimizer.learning_rate.
    """
    last = {option: option.rpartition(".")[2] for option in words}
    name = word.rpartition(".")[2]
    close = [option for option in words if name == _initials(last[option])]
    if not close:
        names = difflib.get_close_matches(name, list(last.values()), n=1, cutoff=0.6)
        close = [option for option in words if last[option] in names]
    closest = difflib.get_close_matches(word, close, n=1, cutoff=0)
    return f" (did you mean {closest[0]}?)" if closest else ""


def _initials(name: str) -> str:
    return "".join(part[0] for part in name.split("_") if part)


def validation_error_message(error: ErrorDetails, siblings: Sequence[str]) -> str:
    """One of pydantic's errors as 'key: expected ..., got ...'.

    `siblings` are the names allowed in place of the last part of the key.
    """
    kind, given, context = error["type"], error["input"], error.get("ctx", {})
    key = _key(error["loc"])
    if kind == "value_error":  # of several keys
        return str(context["error"])
    if kind == "extra_forbidden":
        prefix, dot, _ = key.rpartition(".")
        known = [f"{prefix}{dot}{name}" for name in siblings]
        owner = f"{error['loc'][1]} has " if prefix in TAGS else ""
        return f"{key}: {owner}no such key{nearest(key, known)}; there are {', '.join(known)}"
    if kind == "missing":
        return f"{key}: missing; give it a value"
    name, hint = context.get("discriminator", "").strip("'"), ""
    if kind == "union_tag_not_found":
        return f"{key}.{name}: missing; copy it from a file in conf/{key.partition('.')[0]}"
    if kind == "union_tag_invalid":
        kind, key, given = "literal_error", f"{key}.{name}", context["tag"]
        context = {"expected": context["expected_tags"]}
    if kind == "literal_error":
        options = _options(context["expected"])
        context = {"expected": ", ".join(options)}
        if isinstance(given, str):
            hint = nearest(given, [option.strip("'") for option in options])
            if given in INSTEAD and key.startswith("callbacks."):
                hint = f", in place of which there is {INSTEAD[given]}"
    expected = EXPECTED[kind].format(**context, given=given) if kind in EXPECTED else error["msg"]
    got = "null" if given is None else _cut(repr(given))
    return f"{key}: expected {expected}, got {got}{hint}"


def _cut(text: str) -> str:
    """The text, or its beginning where it is long."""
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."


def _options(text: str) -> list[str]:
    """Pydantic's "'a', True or None" as a list in YAML's spelling."""
    yaml = {"True": "true", "False": "false", "None": "null"}
    return [yaml.get(part, part) for part in text.replace(" or ", ", ").split(", ")]


def _key(location: tuple[int | str, ...]) -> str:
    """The key as typed: without the union's branch, which pydantic adds after the group."""
    parts = [str(part) for part in location if part != "[key]"]  # of a mapping's wrong key
    if (tag := TAGS.get(".".join(parts[:1]))) and len(parts) > tag:
        del parts[tag]
    return ".".join(parts)
