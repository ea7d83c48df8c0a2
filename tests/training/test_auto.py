"""What `auto` resolves to on each kind of machine, and the memory check."""

import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight
from support import tiny

from mnist_exp.config.compose import CONF, compose
from mnist_exp.core import hardware
from mnist_exp.core.errors import InputError
from mnist_exp.training.auto import check_memory, class_weights, resolve_auto


@pytest.mark.parametrize(
    ("model", "flags", "gpu", "precision", "jit"),
    [
        ("dense128", {"avx512_bf16"}, False, "float32", True),
        ("cnn", {"avx512_bf16"}, False, "mixed_bfloat16", False),
        ("cnn", {"avx512f"}, False, "float32", False),
        ("cnn", set(), True, "float32", True),  # a GPU of no known capability
    ],
)
def test_auto_resolves_to_the_fastest_here(
    model: str,
    flags: set[str],
    gpu: bool,
    precision: str,
    jit: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Patched: the machine itself, of which the tests have only one.
    monkeypatch.setattr(hardware, "cpu_flags", lambda: flags)
    monkeypatch.setattr(hardware, "has_gpu", lambda: gpu)
    monkeypatch.setattr("tensorflow.config.list_physical_devices", lambda _: ["a GPU"])
    monkeypatch.setattr("tensorflow.config.experimental.get_device_details", lambda _: {})
    config = tiny(f"model={model}", "train.precision=auto", "train.jit=auto")
    train = resolve_auto(config.train, config.model)
    assert (train.precision, train.jit) == (precision, jit)


@pytest.mark.parametrize(
    ("setting", "is_used"),
    [
        ("TF_ENABLE_ONEDNN_OPTS=0", False),  # 19 times slower
        ("ONEDNN_MAX_CPU_ISA=AVX2", False),  # an error in the middle
        ("ONEDNN_MAX_CPU_ISA=avx512_core_vnni", False),
        ("ONEDNN_MAX_CPU_ISA=AVX512_CORE_BF16", True),
        ("DNNL_MAX_CPU_ISA=AVX2", False),  # the older name, which oneDNN still reads
        ("TF_ENABLE_ONEDNN_OPTS=false", False),
        ("TF_ENABLE_ONEDNN_OPTS=1", True),
    ],
)
def test_auto_takes_no_bfloat16_that_onednn_may_not_use(
    setting: str, is_used: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "cpu_flags", lambda: {"avx2", "avx512_bf16"})
    monkeypatch.setattr(hardware, "has_gpu", lambda: False)
    monkeypatch.setenv(*setting.split("="))
    assert hardware.has_bfloat16() == is_used
    assert hardware.describe()["instructions"] == f"AVX2, bfloat16, {setting}"


def test_explicit_settings_stay() -> None:
    config = tiny("model=cnn", "train.precision=float32", "train.jit=true")
    assert resolve_auto(config.train, config.model) == config.train


@pytest.mark.parametrize(
    "override",
    ["model.units=[1000000,1000000]", "model=cnn model.filters=[100000,100000]",
     "train.batch_size=1000000 model.units=[10000000]"],
)  # fmt: skip
def test_a_model_too_large_for_the_memory_is_refused(override: str) -> None:
    config = compose(override.split())
    with pytest.raises(InputError, match=r"need at least .* GiB of memory, and there"):
        check_memory(config.model, config.train.batch_size, 54_000)


@pytest.mark.parametrize("name", [path.stem for path in (CONF / "model").glob("*.yaml")])
def test_the_estimated_size_of_a_model_is_that_of_its_weights(name: str) -> None:
    from mnist_exp.models.families import build_model

    config = compose([f"model={name}"])
    check_memory(config.model, config.train.batch_size, 54_000)
    model = build_model(config.model)
    normalization = [layer for layer in model.layers if "normalization" in layer.name]
    weights = model.count_params() - sum(layer.count_params() for layer in normalization)
    assert config.model.size().weights == pytest.approx(weights, rel=0.01)


def test_balanced_classes_are_weighted_as_by_scikit_learn() -> None:
    labels = np.array([0, 0, 0, 1, 2, 2], np.uint8)
    theirs = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    assert class_weights("balanced", labels, classes=3) == pytest.approx(theirs)
    assert all(np.isfinite(class_weights("balanced", labels, 10) or ()))  # without images of 3 to 9
    assert class_weights(None, labels, 10) is None
    with pytest.raises(InputError, match="expected 10 numbers, one for each class, got 3"):
        class_weights((1, 2, 3), labels, 10)
