"""A `Config` as YAML, as flat params, and as what a result depends on."""

from collections.abc import Mapping
from typing import Any

from omegaconf import OmegaConf

from mnist_exp.config.compose import parse
from mnist_exp.config.schema import Config
from mnist_exp.core.console import redact


def scientific(config: Config) -> dict[str, Any]:
    """What a result depends on: all but where things are and how runs are recorded."""
    values = config.model_dump(mode="json", exclude={"tracking": True})
    del values["data"]["path"], values["data"]["fallback"], values["train"]["checkpoint_every"]
    return values


def public(config: Config) -> dict[str, Any]:
    """The config as plain nested values, without the password a tracking URI may carry."""
    values = config.model_dump(mode="json")
    if uri := values["tracking"]["uri"]:
        values["tracking"]["uri"] = redact(uri)
    return values


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The nested mapping as one level with dotted keys, as typed on the command line."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def to_yaml(config: Config) -> str:
    """The public config as YAML."""
    return OmegaConf.to_yaml(OmegaConf.create(public(config)))


def from_yaml(text: str) -> Config:
    """The config that `to_yaml` wrote; raises `InputError`."""
    return parse(OmegaConf.create(text))


def with_values(text: str, values: Mapping[str, Any]) -> str:
    """The config's YAML with other values at these dotted keys, whatever version wrote it."""
    config = OmegaConf.create(text)
    for key, value in values.items():
        OmegaConf.update(config, key, value)
    return OmegaConf.to_yaml(config)
