"""Any value of any key gives a config or an `InputError` that names a key; nothing else."""

import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from mnist_exp.config.compose import compose, flatten, parse, to_yaml
from mnist_exp.config.model import Activation
from mnist_exp.config.optimizer import ARGUMENTS
from mnist_exp.config.schema import Config, keys
from mnist_exp.core.errors import DivergedError, InputError
from mnist_exp.experiment import run_experiment

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


def check(result: Config | InputError, key: str) -> None:
    """A config survives a round trip, an error names the group of the key."""
    if isinstance(result, Config):
        assert parse(OmegaConf.create(to_yaml(result))) == result
        return
    sentence = str(result)
    assert sentence.strip()
    assert "Traceback" not in sentence
    assert key.partition(".")[0] in sentence


def config_or_error(make: Callable[[], Config]) -> Config | InputError:
    try:
        config = make()
    except InputError as error:
        return error
    assert isinstance(config, Config)
    return config


@settings(max_examples=600, deadline=None, derandomize=True, database=None)
@given(base=st.sampled_from(list(BASES)), key=st.sampled_from(KEYS), value=VALUES)
def test_any_value_of_any_key(base: str, key: str, value: Any) -> None:
    values: dict[str, Any] = deepcopy(BASES[base].model_dump(mode="json"))
    *groups, last = key.split(".")
    nested = values
    for group in groups:
        nested = nested.setdefault(group, {})
    nested[last] = value
    check(config_or_error(lambda: parse(values)), key)


PRINTABLE = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=25)
TYPED = st.one_of(
    PRINTABLE, VALUES.map(str), st.text("[]{},:='\"$\\() .0123456789eE+-nul", max_size=12)
)


@settings(max_examples=30, deadline=None, derandomize=True, database=None)
@given(key=st.sampled_from(KEYS), text=TYPED)
def test_any_text_as_the_value_of_any_key(key: str, text: str) -> None:
    check(config_or_error(lambda: compose([f"{key}={text}"])), key)


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(text=st.lists(PRINTABLE, min_size=1, max_size=3))
def test_any_text_as_an_override(text: list[str]) -> None:
    config_or_error(lambda: compose(text))


@pytest.mark.parametrize("key", ["model._target_", "optimizer._target_", "train._target_"])
@pytest.mark.parametrize("sign", ["+", "++", ""])
def test_no_target_is_ever_instantiated(key: str, sign: str) -> None:
    with pytest.raises(InputError, match="_target_"):
        compose([f"{sign}{key}=os.getcwd"])


def test_every_key_of_a_config_is_known() -> None:
    for config in BASES.values():
        assert set(flatten(config.model_dump(mode="json"))) <= set(KEYS)


WIDTHS = st.lists(st.integers(1, 40), max_size=3)
SHARE = st.floats(0, 1, exclude_max=True)
RATE = st.floats(0, 1e3, exclude_min=True)
OPTIMIZERS = st.one_of(
    st.fixed_dictionaries({"": st.just("adam"), "learning_rate": RATE, "beta_1": SHARE}),
    st.fixed_dictionaries({"": st.just("adamw"), "weight_decay": st.floats(0, 10)}),
    st.fixed_dictionaries({"": st.just("sgd"), "momentum": SHARE, "nesterov": st.booleans()}),
    st.fixed_dictionaries({"": st.just("rmsprop"), "rho": SHARE}),
    st.fixed_dictionaries({"": st.sampled_from(sorted(ARGUMENTS)), "clipnorm": RATE}),
)
HEADS = {
    "units": WIDTHS,
    "activation": st.sampled_from(get_args(Activation)),
    "dropout": SHARE,
    "output": st.sampled_from(["softmax", "sigmoid"]),
}
STAGES = st.lists(
    st.one_of(st.integers(1, 9), st.lists(st.integers(1, 9), min_size=1, max_size=2)), min_size=1,
    max_size=3,
)  # fmt: skip
MODELS = st.one_of(
    st.fixed_dictionaries({"": st.just("dense128"), **HEADS}),
    st.fixed_dictionaries(
        {
            "": st.just("cnn"),
            **HEADS,
            "filters": STAGES,
            "kernel": st.integers(1, 28),
            "stride": st.integers(1, 28),
            "padding": st.sampled_from(["same", "valid"]),
            "last_pool": st.sampled_from(["max", "global_max", "none"]),
            "batch_norm": st.booleans(),
        }
    ),
)
TRAINS = st.fixed_dictionaries(
    {
        "epochs": st.integers(1, 2),
        "clean_epochs": st.integers(0, 2),
        "checkpoint_every": st.integers(1, 3),
        "batch_size": st.integers(1, 100),
        "loss": st.sampled_from(["categorical_crossentropy", "categorical_focal_crossentropy"]),
        "class_weight": st.sampled_from([None, "balanced", [0.5] * 10]),
        "label_smoothing": SHARE,
        "patience": st.none() | st.integers(1, 2),
        "ema": st.none() | st.floats(0, 1, exclude_min=True, exclude_max=True),
        "precision": st.sampled_from(["auto", "float32", "mixed_bfloat16"]),
        "jit": st.sampled_from(["auto", True, False]),
    }
)
DATA = st.fixed_dictionaries(
    {"limit": st.integers(2, 60), "validation_split": st.sampled_from([0.0, 0.1, 0.5, 0.97])}
)
SCHEDULES = st.fixed_dictionaries(
    {"": st.sampled_from(["constant", "cosine", "onecycle"]), "warmup": SHARE}
)
AUGMENTS = st.one_of(
    st.fixed_dictionaries({"": st.just("none")}),
    st.fixed_dictionaries(
        {"": st.just("elastic"), "noise": SHARE, "erase": SHARE, "mixup": st.floats(0, 100)}
    ),
    st.fixed_dictionaries(
        {
            "": st.just("affine"),
            "rotate": st.floats(0, 180),
            "zoom": SHARE,
            "shift": st.floats(0, 27),
        }
    ),
)
GROUPS = {
    "model": MODELS, "optimizer": OPTIMIZERS, "train": TRAINS, "data": DATA, "schedule": SCHEDULES,
    "augment": AUGMENTS,
}  # fmt: skip


def train(groups: dict[str, dict[str, Any]], folder: Path) -> None:
    """Run the experiment to its end, or to an `InputError` or `DivergedError`."""
    values = [
        f"{group}.{key}={json.dumps(value)}" if key else f"{group}={value}"
        for group, settings_ in groups.items()
        for key, value in settings_.items()
    ]
    choices = [value for value in values if "." not in value.partition("=")[0]]
    others = [value for value in values if value not in choices]
    try:
        config = compose(["data=mnist5k", "tracking.enabled=false", *choices, *others])
        result = run_experiment(config, folder=folder / "run")
    except (InputError, DivergedError) as error:
        event(type(error).__name__)
        return
    assert 0 <= result.metrics["test/accuracy"] <= 1
    event("trained")


@settings(max_examples=3, deadline=None, derandomize=True, database=None)
@given(groups=st.fixed_dictionaries(GROUPS))
def test_a_valid_config_trains(groups: dict[str, dict[str, Any]]) -> None:
    with TemporaryDirectory() as folder:
        train(groups, Path(folder))


@pytest.mark.slow
@settings(max_examples=600, deadline=None, derandomize=True, database=None)
@given(key=st.sampled_from(KEYS), text=TYPED)
def test_much_text_as_the_value_of_any_key(key: str, text: str) -> None:
    check(config_or_error(lambda: compose([f"{key}={text}"])), key)


@pytest.mark.slow
@settings(max_examples=80, deadline=None, derandomize=True, database=None)
@given(groups=st.fixed_dictionaries(GROUPS))
def test_eighty_valid_configs_train(groups: dict[str, dict[str, Any]]) -> None:
    with TemporaryDirectory() as folder:
        train(groups, Path(folder))
