"""What every group of the config is made of: the base of its model, and its kinds of numbers."""

from collections.abc import Iterator
from typing import Annotated, Any, get_args

from pydantic import BaseModel, ConfigDict, Field

Fraction = Annotated[float, Field(ge=0, lt=1)]
Width = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Widths = Annotated[tuple[Width, ...], Field(strict=False)]  # a YAML list


class ConfigModel(BaseModel):
    """One group of the config: unknown keys and silent conversions are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def keys(kind: type[ConfigModel], prefix: str = "") -> Iterator[str]:
    """Every dotted key that such a part, or one of its parts, may hold."""
    for name, field in kind.model_fields.items():
        yield prefix + name
        for part in _parts(field.annotation):
            yield from keys(part, f"{prefix}{name}.")


def siblings(whole: type[ConfigModel], location: tuple[int | str, ...]) -> list[str]:
    """The names beside the one in `whole` that a validation error points at."""
    kinds = [whole]
    for name in location[:-1]:
        if name in kinds[0].model_fields:
            kinds = _parts(kinds[0].model_fields[str(name)].annotation)
        else:  # a union's branch, by its tag
            kinds = [kind for kind in kinds if name in _tags(kind)]
    return sorted(kinds[0].model_fields) if kinds else []


def _parts(annotation: Any) -> list[type[ConfigModel]]:
    kinds = (annotation, *get_args(annotation))
    return [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, ConfigModel)]


def _tags(kind: type[ConfigModel]) -> list[str]:
    return [tag for field in kind.model_fields.values() for tag in get_args(field.annotation)]
