"""What `auto` becomes, whatever machine the tests run on."""

import pytest
from conftest import tiny

from mnist_exp import hardware


@pytest.mark.parametrize(
    ("model", "flags", "gpu", "precision", "jit"),
    [
        ("dense128", {"avx512_bf16"}, False, "float32", True),
        ("cnn", {"avx512_bf16"}, False, "mixed_bfloat16", False),
        ("cnn", {"avx512f"}, False, "float32", False),
        ("cnn", set(), True, "float32", True),  # a GPU of no known capability
    ],
)
def test_auto_is_what_is_best_here(
    model: str,
    flags: set[str],
    gpu: bool,
    precision: str,
    jit: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hardware, "cpu_flags", lambda: flags)
    monkeypatch.setattr(hardware, "has_gpu", lambda: gpu)
    monkeypatch.setattr("tensorflow.config.list_physical_devices", lambda _: ["a GPU"])
    monkeypatch.setattr("tensorflow.config.experimental.get_device_details", lambda _: {})
    train = hardware.settled(tiny(f"model={model}", "train.precision=auto"))
    assert (train.precision, train.jit) == (precision, jit)


def test_what_was_chosen_stays() -> None:
    config = tiny("model=cnn", "train.precision=float32", "train.jit=true")
    assert hardware.settled(config) == config.train
