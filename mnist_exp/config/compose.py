"""Text becomes truth once, here: a composed YAML config in, a frozen, validated `Config` out."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException
from pydantic import ValidationError

from mnist_exp.config.base import ConfigModel, siblings
from mnist_exp.config.messages import GROUPS, explain, is_refusal, sentence
from mnist_exp.config.schema import Config, keys
from mnist_exp.core.errors import InputError

PACKAGE = Path(__file__).parents[1]
# Beside the package in a checkout, inside it in a wheel.
CONF = next(folder for folder in (PACKAGE / "conf", PACKAGE.parent / "conf") if folder.is_dir())

RESUME = "resume"  # a key of the command alone, not of an experiment
Kind = TypeVar("Kind", bound=ConfigModel)


def parse(values: Any) -> Config:
    """The validated config; raises `InputError` naming each wrong key, value and what is allowed.

    `values` is a composed Hydra config or a plain mapping.
    """
    if OmegaConf.is_config(values):
        try:
            values = OmegaConf.to_container(values, resolve=True, throw_on_missing=True)
        except OmegaConfBaseException as error:
            reason = (
                "missing; give it a value"
                if isinstance(error, MissingMandatoryValue)
                else error.msg
            )
            raise InputError(f"{error.full_key}: {reason or error}".splitlines()[0]) from error
    if isinstance(values, Mapping) and (values := dict(values)).pop(RESUME, None) is not None:
        raise InputError(
            f"{RESUME}: one run at a time: python -m mnist_exp.run {RESUME}=..., no -m"
        )
    return validate(Config, values)


def validate(kind: type[Kind], values: Any, prefix: str = "") -> Kind:
    """The values as that part of the config; raises `InputError` as `parse`.

    `prefix` is the key the part itself has.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        sentences = [
            sentence({**e, "loc": (*filter(None, [prefix]), *e["loc"])}, siblings(kind, e["loc"]))
            for e in error.errors()
        ]
        raise InputError("\n".join(sentences)) from None


def refuse_typed_lists(overrides: Sequence[str]) -> None:
    """As `refuse_lists`, for what is typed: some of it Hydra cannot even compose."""
    for text in overrides:
        found = re.match(r"\+{0,2}(\w+)=\s*[\[{]", text)
        if found and found[1] in GROUPS:
            refuse_lists(dict.fromkeys(set(GROUPS) - {found[1]}))


def refuse_lists(choices: Mapping[str, Any]) -> None:
    """Raises `InputError` when a group was given several options: Hydra would merge them.

    `choices` are Hydra's runtime choices, where such a group is not listed.
    """
    for group in GROUPS:
        if group not in choices:
            raise InputError(
                f"{group}: expected one option, neither a list nor none; write {group}=a,b with -m "
                "to run a job for each"
            )


def compose(overrides: Sequence[str] = ()) -> Config:
    """The config that `python -m mnist_exp.run` would use with these overrides."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir

    refuse_typed_lists(overrides)
    with initialize_config_dir(str(CONF), version_base="1.3"), translate_hydra_errors():
        composed = hydra_compose("config", list(overrides), return_hydra_config=True)
        return from_hydra(composed)


@contextmanager
def translate_hydra_errors() -> Iterator[None]:
    """Within: what Hydra refuses is an `InputError`."""
    try:
        yield
    except Exception as error:
        if is_refusal(error):
            raise InputError(explain(error, keys())) from error
        raise


def from_hydra(composed: Any) -> Config:
    """The validated config of what Hydra composed, its own part included; raises as `parse`."""
    return parse(without_hydra(composed))


def without_hydra(composed: Any) -> DictConfig:
    """What Hydra composed without its own part; raises `InputError` as `refuse_lists`."""
    refuse_lists(composed.hydra.runtime.choices)
    ours = OmegaConf.create({k: v for k, v in composed.items_ex(resolve=False) if k != "hydra"})
    OmegaConf.set_struct(ours, True)
    return ours
