"""The base class of the config's groups, and the types of their numbers."""

from collections.abc import Iterator
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


def _as_text(value: object) -> object:
    """YAML reads 2024 and true as no text."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float) else value


AS_TEXT = BeforeValidator(_as_text)

Fraction = Annotated[float, Field(ge=0, lt=1)]
Width = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Widths = Annotated[tuple[Width, ...], Field(strict=False)]  # a YAML list
UNSET = Field(exclude_if=lambda value: value is None)  # a later key, no param of runs without it


class ConfigGroup(BaseModel):
    """A group of the config: frozen, without unknown keys and silent conversions."""

    # Validators are built when they are used: --help and Hydra's refusals need none.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, defer_build=True)


def dotted_keys(group: type[ConfigGroup], prefix: str = "") -> Iterator[str]:
    """Every dotted key that the group, and the groups in it, may hold."""
    for name, field in group.model_fields.items():
        yield prefix + name
        is_mapping = get_origin(field.annotation) is dict  # any key
        for nested in [] if is_mapping else _groups(field.annotation):
            yield from dotted_keys(nested, f"{prefix}{name}.")


def siblings(group: type[ConfigGroup], location: tuple[int | str, ...]) -> list[str]:
    """The names allowed in place of the last part of a validation error's location."""
    groups = [group]
    for name in location[:-1]:
        if groups and name in groups[0].model_fields:
            groups = _groups(groups[0].model_fields[str(name)].annotation)
        else:  # a union's branch, by its tag; or any key of a mapping
            groups = [branch for branch in groups if name in _tags(branch)] or groups
    return sorted(groups[0].model_fields) if groups else []


def _groups(annotation: Any) -> list[type[ConfigGroup]]:
    if isinstance(annotation, type) and issubclass(annotation, ConfigGroup):
        return [annotation]
    return [group for kind in get_args(annotation) for group in _groups(kind)]


def _tags(group: type[ConfigGroup]) -> list[str]:
    return [tag for field in group.model_fields.values() for tag in get_args(field.annotation)]
