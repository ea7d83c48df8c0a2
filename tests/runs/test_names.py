"""The names of runs."""

import pytest
from support import tiny

from mnist_exp.runs.names import SWEPT_VARIABLE, model_label, run_name, short_value


@pytest.mark.parametrize(
    ("value", "short"),
    [
        ("0.003", "3e-3"), ("0.0031415926", "3.14e-3"), ("0.1234567", "0.123"), ("1e+30", "1e30"),
        ("0.5", "0.5"), ("0.0", "0"), ("-0.25", "-0.25"), ("12345.6", "1.23e4"), ("64", "64"),
        ("100000", "100000"), ("[256,128]", "[256,128]"), ("'x y'", "x y"), ("nan", "nan"),
        ("relu", "relu"), ("", ""),
    ],
)  # fmt: skip
def test_floats_have_three_digits(value: str, short: str) -> None:
    assert short_value(value) == short


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        ([], "dense128 seed=3"),
        (["model=dense128", "seed=3", "tracking.uri=a", "data.path=b"], "dense128 seed=3"),
        (["optimizer.learning_rate=0.003"], "dense128 lr=3e-3 seed=3"),
        (["seed=3", "+tags.a=b", "train=quick"], "dense128 train=quick seed=3"),
        (["model.units=[256]", "~sweep"], "dense128 units=[256] seed=3"),
        (["experiment=fast99"], "fast99 seed=3"),
        (["experiment=fast99", "model.dropout=0.1"], "fast99 dropout=0.1 seed=3"),
        (["a.rate=1", "b.rate=2"], "dense128 a.rate=1 b.rate=2 seed=3"),
    ],
)
def test_a_run_is_named_by_what_was_typed(overrides: list[str], name: str) -> None:
    assert run_name(tiny("seed=3"), overrides) == name


def test_a_job_is_named_by_what_is_swept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SWEPT_VARIABLE, "model,seed,optimizer.learning_rate,model.dropout")
    job = ["train=quick", "model=dense128", "seed=3", "optimizer.learning_rate=0.003"]
    job.append("model.dropout=0.1234")
    assert run_name(tiny("seed=3"), job) == "dense128 lr=3e-3 dropout=0.123 seed=3"
    assert run_name(tiny("name=mine"), job) == "mine lr=3e-3 dropout=0.123 seed=3"


def test_a_name_of_the_user_s_own_counts() -> None:
    assert run_name(tiny("name=first"), ["name=first", "train=quick"]) == "first"
    assert len(run_name(tiny(), [f"model.name={'a' * 300}"])) == 250


def test_the_title_names_what_differs_from_the_variant_s_file() -> None:
    other = tiny("model.units=[256]", "model.dropout=0.25")
    assert model_label(other, ["train=quick"]) == "dense128 units=[256] dropout=0.25"
    preset = tiny("experiment=cnn_5_epochs")
    assert model_label(preset, []) == "cnn filters=[32,[64,64],[128,128]]"
    assert model_label(tiny("model.units=[128,128]"), ["model.units=[128,128]"]) == "dense128"
    without_file = tiny("model.name=mine")
    assert model_label(without_file, ["model.units=[256]"]) == "mine units=[256]"
