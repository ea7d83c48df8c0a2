"""A search space: Hydra's override syntax as Optuna's distributions."""

from collections.abc import Sequence
from typing import Any

from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from mnist_exp.core.errors import InputError

Distribution = CategoricalDistribution | FloatDistribution | IntDistribution


def read(overrides: Sequence[Override]) -> tuple[dict[str, Distribution], tuple[str, ...]]:
    """The distribution of each swept key, and the other overrides; a key's last override counts.

    Raises `InputError` for bounds that enclose nothing.
    """
    last = {override.get_key_element(): override for override in overrides}
    space = {key: _distribution(o) for key, o in last.items() if o.is_sweep_override()}
    fixed = [f"{key}={o.get_value_element_as_str()}" for key, o in last.items() if key not in space]
    return space, tuple(fixed)


def extremes(distribution: Distribution) -> list[Any]:
    """The values to probe, which stand for all: the bounds, or every choice."""
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    return [distribution.low, distribution.high]


def _distribution(override: Override) -> Distribution:
    text, sweep = override.input_line or "", override.value()
    is_log = "log" in getattr(sweep, "tags", ())
    if isinstance(sweep, IntervalSweep):
        return _interval(text, sweep.start, sweep.end, is_log)
    values: list[Any] = list(override.sweep_iterator())
    if not values:
        raise InputError(f"{text}: there is nothing to choose from")
    if isinstance(sweep, RangeSweep) and not sweep.shuffle:
        if is_log:
            raise InputError(f"{text}: a range has even steps; write tag(log, interval(...))")
        low, high, step = min(values), max(values), abs(sweep.step)
        if all(isinstance(value, int) for value in values):
            return IntDistribution(low, high, step=int(step))
        return FloatDistribution(low, high, step=step)
    return CategoricalDistribution(list(dict.fromkeys(override.sweep_string_iterator())))


def _interval(text: str, low: Any, high: Any, is_log: bool) -> Distribution:
    if low >= high:
        raise InputError(f"{text}: expected the lower bound first and the upper one second")
    if is_log and low <= 0:
        raise InputError(f"{text}: a logarithmic search needs a lower bound above 0")
    if isinstance(low, int) and isinstance(high, int):  # int(interval(...))
        return IntDistribution(low, high, log=is_log)
    return FloatDistribution(low, high, log=is_log)
