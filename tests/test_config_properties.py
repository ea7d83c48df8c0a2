"""Any value of any key is either a config or refused in sentences that name a key; nothing else."""

from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from mnist_exp.config import compose, flatten, parse, to_yaml
from mnist_exp.errors import InputError
from mnist_exp.schema import Config, keys

BASES = {
    name: compose([*overrides])
    for name, overrides in {
        "dense": ["optimizer=adamw", "schedule=cosine"],
        "conv": ["model=cnn", "augment=affine", "optimizer=sgd"],
        "search": ["optimizer=rmsprop", "data=mnist5k"],
    }.items()
}
KEYS = [key for key in keys() if not key.startswith("hydra.") and key != "resume"]
NUMBERS = st.one_of(
    st.integers(-3, 3),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.sampled_from([1e-320, 0.1, 1.0, 1e308, -0.0]),
)
SCALARS = st.one_of(
    st.none(), st.booleans(), NUMBERS, st.text(max_size=20), st.sampled_from(["relu", "auto", "a"])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)


def told(config_or_error: Any, key: str) -> None:
    """It is a whole config, or sentences that name this key, its group or one beside it."""
    if isinstance(config_or_error, Config):
        assert parse(OmegaConf.create(to_yaml(config_or_error))) == config_or_error
        return
    sentence = str(config_or_error)
    assert sentence.strip()
    assert "Traceback" not in sentence
    group = key.partition(".")[0]
    assert group in sentence


def attempt(make: Any) -> Config | InputError:
    try:
        made = make()
    except InputError as error:
        return error
    assert isinstance(made, Config)
    return made


@settings(max_examples=600, deadline=None, derandomize=True, database=None)
@given(base=st.sampled_from(list(BASES)), key=st.sampled_from(KEYS), value=VALUES)
def test_any_value_of_any_key(base: str, key: str, value: Any) -> None:
    values: dict[str, Any] = deepcopy(BASES[base].model_dump(mode="json"))
    *groups, last = key.split(".")
    place = values
    for group in groups:
        place = place.setdefault(group, {})
    place[last] = value
    told(attempt(lambda: parse(values)), key)


PRINTABLE = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=25)
TYPED = st.one_of(
    PRINTABLE, VALUES.map(str), st.text("[]{},:='\"$\\() .0123456789eE+-nul", max_size=12)
)


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(key=st.sampled_from(KEYS), text=TYPED)
def test_anything_typed_behind_any_key(key: str, text: str) -> None:
    told(attempt(lambda: compose([f"{key}={text}"])), key)


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(text=st.lists(PRINTABLE, min_size=1, max_size=3))
def test_anything_typed_at_all(text: list[str]) -> None:
    attempt(lambda: compose(text))


@pytest.mark.parametrize("key", ["model._target_", "optimizer._target_", "train._target_"])
@pytest.mark.parametrize("sign", ["+", "++", ""])
def test_no_target_is_ever_instantiated(key: str, sign: str) -> None:
    with pytest.raises(InputError, match="_target_"):
        compose([f"{sign}{key}=os.getcwd"])


def test_every_key_of_a_config_is_known() -> None:
    for config in BASES.values():
        assert set(flatten(config.model_dump(mode="json"))) <= set(KEYS)
