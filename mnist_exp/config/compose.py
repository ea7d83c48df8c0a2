"""Configs composed by Hydra, parsed, and written as YAML."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar, cast

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException
from pydantic import ValidationError

from mnist_exp.config import messages
from mnist_exp.config.base import ConfigGroup, siblings
from mnist_exp.config.messages import GROUPS
from mnist_exp.config.parts import digests
from mnist_exp.config.schema import Config, keys
from mnist_exp.config.sources import CONF, add_own, own_folders
from mnist_exp.core.console import redact
from mnist_exp.core.errors import InputError

# Hydra's options.
CONFIG_OPTIONS = {"--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd"}
OPTIONS_WITH_VALUE = CONFIG_OPTIONS | {"--cfg", "-c", "--package", "-p", "--experimental-rerun"}
PINNED = "@sha256:"  # in a recorded start_from, before the digest of its file
RESUME = "resume"  # a key of the command, not of an experiment
UNQUOTED_TEXT = (  # with a character that Hydra's grammar wants quoted
    r"^(data\.(?:test_)?path|start_from|tracking\.\w+|name|notes|\+{0,2}tags\.\S+?)="
    r"(?=.*[^A-Za-z0-9_/\\+.$%*@?|: -])([^'\",[{]*[^'\",[{\\])$"
)
START, NUMERIC_ID = "start_from=", r"(?<=[=,])(\d[\de]*)(?=,|$)"  # an id that reads as a number
COMPOSING = Lock()
UNLISTED = ("augment", "data", "metrics", "model", "optimizer", "schedule", "tags")
MERGED = ("augment", "callbacks")  # groups of which each option has keys of its own
# Hydra refuses keys that no YAML lists; these may have others, which `parse` checks.
ConfigStore.instance().store(
    "unlisted",
    {key: OmegaConf.create(flags={"struct": False}) for key in UNLISTED},
)
Group = TypeVar("Group", bound=ConfigGroup)


def parse(values: Any) -> Config:
    """The validated config of a composed Hydra config or a plain mapping.

    Raises `InputError` naming every wrong key, its value and what is allowed.
    """
    if OmegaConf.is_config(values):
        try:
            values = OmegaConf.to_container(values, resolve=True, throw_on_missing=True)
        except MissingMandatoryValue as error:
            raise InputError(f"{error.full_key}: missing; give it a value") from error
        except OmegaConfBaseException as error:
            reason = error.msg or str(error)
            raise InputError(f"{error.full_key}: {reason}".splitlines()[0]) from error
    if isinstance(values, Mapping) and (values := dict(values)).pop(RESUME, None) is not None:
        raise InputError(
            f"{RESUME}: one run at a time: python -m mnist_exp.run {RESUME}=..., no -m"
        )
    return validate(Config, values)


def validate(group: type[Group], values: Any, prefix: str = "") -> Group:
    """The values as a group of the config with the key `prefix`. Raises `InputError` as `parse`."""
    try:
        return group.model_validate(values)
    except ValidationError as error:
        key = (prefix,) if prefix else ()
        sentences = [
            messages.validation_error_message(
                {**e, "loc": (*key, *e["loc"])}, siblings(group, e["loc"])
            )
            for e in error.errors()
        ]
        raise InputError("\n".join(sentences)) from None


def options_first(arguments: Sequence[str]) -> list[str]:
    """Hydra's options before the overrides: its parser takes none after `-m` that follows one."""
    words = sorted(_with_values(arguments), key=lambda words: not words[0].startswith("-"))
    return [*chain(*words)]


def config_sources(arguments: Sequence[str]) -> list[str]:
    """Those of the arguments that say where configs are, which a command repeated needs, too."""
    names = CONFIG_OPTIONS | {"hydra.searchpath"}
    kept = (words for words in _with_values(arguments) if words[0].partition("=")[0] in names)
    return [*chain(*kept)]


def _with_values(arguments: Sequence[str]) -> Iterator[list[str]]:
    """Each argument, with the next one where that is its value."""
    rest = iter(arguments)
    for argument in rest:
        yield [argument, next(rest, "")] if argument in OPTIONS_WITH_VALUE else [argument]


def translate_overrides(overrides: Sequence[str]) -> list[str]:
    """The overrides as Hydra takes them, free text quoted.

    Its grammar has no `~`, `=`, `&` or umlaut outside quotes; lists and `${...}` stay as they are.
    Raises `InputError` as `refuse_lists`, where Hydra could not even compose them.
    """
    for text in overrides:
        if re.match(r"sweep=.*,", text):
            raise InputError(f"{text}: one sweep at a time; start each with a command of its own")
        match = re.match(r"\+{0,2}(\w+)=\s*[\[{]", text)
        if match and match[1] in GROUPS:
            refuse_lists(dict.fromkeys(set(GROUPS) - {match[1]}))
    ids = (re.sub(NUMERIC_ID, r"'\1'", o) if o.startswith(START) else o for o in overrides)
    return [re.sub(UNQUOTED_TEXT, r"\1='\2'", text) for text in ids]


def refuse_lists(choices: Mapping[str, Any]) -> None:
    """Raise `InputError` when a group has several options, which Hydra would merge, or none.

    Such a group is missing in `choices`, Hydra's runtime choices. Those of `MERGED` may be merged.
    """
    for group in GROUPS:
        if group not in choices and group not in MERGED:
            raise InputError(
                f"{group}: expected one option, neither a list nor none; write {group}=a,b with -m "
                "to run a job for each"
            )


def refuse_unhonoured(hydra: DictConfig) -> None:
    """Raise `InputError` for settings of Hydra that would change nothing here."""
    if hydra.job.chdir:
        raise InputError(
            "hydra.job.chdir=true: paths are understood from the folder you are in; leave it out, "
            "and name the run folder with hydra.run.dir=..."
        )
    if (logs := hydra.runtime.choices["hydra/job_logging"]) != "none":
        raise InputError(
            f"hydra/job_logging={logs}: a run's own log is run.log in its folder; leave it out"
        )
    subdir = cast(dict[str, str], OmegaConf.to_container(hydra.sweep, resolve=False))["subdir"]
    if subdir != "${hydra.job.num}":
        raise InputError(
            f"hydra.sweep.subdir={subdir}: the folders of jobs have numbers; leave it out, and "
            "name the folder of the sweep with hydra.sweep.dir=..."
        )


def compose(overrides: Sequence[str] = (), *, config_dir: str | Path | None = None) -> Config:
    """The config of `python -m mnist_exp.run` with these overrides, and --config-dir.

    Hydra's own `compose` knows one folder of configs for the whole process, which another program
    may have set; this one is independent of it, and may be called from several threads.
    """
    from hydra._internal.config_loader_impl import ConfigLoaderImpl
    from hydra._internal.utils import create_config_search_path
    from hydra.types import RunMode

    overrides = translate_overrides(overrides)
    with COMPOSING, translate_hydra_errors():
        search_path = create_config_search_path(str(CONF))
        add_own(search_path, [Path(config_dir)] if config_dir else [])
        loader = ConfigLoaderImpl(search_path)
        composed = loader.load_configuration("config", overrides, RunMode.RUN, from_shell=False)
        return parse(without_hydra(composed))


def variant_values(name: str) -> dict[str, Any]:
    """The values in the model variant's own file, conf/model/<name>.yaml; empty without one."""
    files = [folder / "model" / f"{name}.yaml" for folder in (*own_folders(), CONF)]
    found = next((OmegaConf.load(file) for file in files if file.is_file()), OmegaConf.create())
    return cast(dict[str, Any], OmegaConf.to_container(found, resolve=False))


@contextmanager
def translate_hydra_errors() -> Iterator[None]:
    """Context manager: an error that Hydra raises itself becomes an `InputError`."""
    try:
        yield
    except Exception as error:
        if not messages.raised_by_hydra(error):
            raise
        if isinstance(error.__cause__, InputError):  # of a plugin that it was making
            raise error.__cause__ from None
        raise InputError(messages.hydra_error_message(error, keys())) from error


def without_hydra(composed: Any) -> DictConfig:
    """The composed config without Hydra's own group. Raises `InputError` as `refuse_lists`."""
    refuse_lists(composed.hydra.runtime.choices)
    ours = OmegaConf.create({k: v for k, v in composed.items_ex(resolve=False) if k != "hydra"})
    OmegaConf.set_struct(ours, True)
    return ours


def fingerprint_values(config: Config) -> dict[str, Any]:
    """The values a result depends on: all but paths, names, tracking, figures and checkpoints."""
    values = config.model_dump(mode="json", exclude={"tracking", "report", "name", "notes", "tags"})
    del values["train"]["checkpoint_every"]
    for place in ("path", "test_path", "fallback"):
        values["data"].pop(place, None)
    if config.start_from:  # the weights, wherever they are
        values["start_from"] = config.start_from.rpartition(PINNED)[2]
    return values | digests(config)


def params(config: Config) -> dict[str, Any]:
    """The values as MLflow's params, by dotted keys, with the sources of Python parts."""
    return flatten(redacted_values(config)) | digests(config)


def redacted_values(config: Config) -> dict[str, Any]:
    """The config as nested values; a password in the tracking URI is redacted."""
    values = config.model_dump(mode="json")
    if uri := values["tracking"]["uri"]:
        values["tracking"]["uri"] = redact(uri)
    return values


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The nested mapping flattened to dotted keys, as on the command line."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def to_yaml(config: Config) -> str:
    """The config as YAML; a password is redacted."""
    return OmegaConf.to_yaml(OmegaConf.create(_literal(redacted_values(config))))


def from_yaml(text: str) -> Config:
    """The config that `to_yaml` wrote. Raises `InputError` as `parse`."""
    return parse(OmegaConf.create(text))


def with_values(text: str, values: Mapping[str, Any]) -> str:
    """The YAML with other values at these dotted keys; an older version may have written it."""
    config = OmegaConf.create(text)
    for key, value in values.items():
        OmegaConf.update(config, key, _literal(value))
    return OmegaConf.to_yaml(config)


def _literal(value: Any) -> Any:
    """The value as OmegaConf reads it back: `${` in a text, such as a path, is no interpolation."""
    match value:
        case str():
            return value.replace("${", "\\${")
        case list():
            return [_literal(each) for each in value]
        case dict():
            return {key: _literal(each) for key, each in value.items()}
    return value
