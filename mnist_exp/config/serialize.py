"""A `Config` as YAML, as flat params, and reduced to what a result depends on."""

from collections.abc import Mapping
from typing import Any

from omegaconf import OmegaConf

from mnist_exp.config.compose import parse
from mnist_exp.config.schema import Config
from mnist_exp.core.console import redact


def fingerprint_values(config: Config) -> dict[str, Any]:
    """The values a result depends on: all but paths, names, tracking, figures and checkpoints."""
    values = config.model_dump(mode="json", exclude={"tracking", "report", "name", "notes", "tags"})
    del values["data"]["path"], values["data"]["fallback"], values["train"]["checkpoint_every"]
    return values


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
    return OmegaConf.to_yaml(OmegaConf.create(redacted_values(config)))


def from_yaml(text: str) -> Config:
    """The config that `to_yaml` wrote. Raises `InputError` as `parse`."""
    return parse(OmegaConf.create(text))


def with_values(text: str, values: Mapping[str, Any]) -> str:
    """The YAML with other values at these dotted keys; an older version may have written it."""
    config = OmegaConf.create(text)
    for key, value in values.items():
        OmegaConf.update(config, key, value)
    return OmegaConf.to_yaml(config)
