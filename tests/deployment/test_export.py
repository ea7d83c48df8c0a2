"""Exported models predict what the original predicts."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from support import Command, tiny

from mnist_exp.core.errors import InputError
from mnist_exp.data.dataset import Dataset
from mnist_exp.evaluation.metrics import calibrated, probabilities
from mnist_exp.runs.folder import RunResult

Recorded = dict[str, RunResult]


@pytest.fixture(scope="module")
def convolutional() -> Any:
    """A predictor with every layer of the conv family, half of them in bfloat16."""
    from mnist_exp.models.convert import to_stock_keras
    from mnist_exp.models.families import build_model
    from mnist_exp.models.forward import batched_scores, forward_function

    config = tiny("model=cnn").model
    model = to_stock_keras(build_model(config, precision="mixed_bfloat16"))
    scores = forward_function(model)
    return SimpleNamespace(
        model=model,
        output=config.output,
        temperature=1.0,
        probabilities=lambda pixels: probabilities(batched_scores(scores, pixels), config.output),
    )


@pytest.mark.parametrize("kind", ["keras", "h5", "saved_model", "tflite", "onnx"])
def test_an_export_loaded_by_its_own_runtime_agrees(
    convolutional: Any, digits: Dataset, tmp_path: Path, kind: str
) -> None:
    from mnist_exp.deployment import export as exports

    done = exports.export(convolutional, kind, tmp_path, digits.test_images)
    assert [path.name for path in tmp_path.iterdir()] == [done.name]
    assert done.bytes > 140_000  # 70,714 weights, two or four bytes each
    assert (
        done.max_abs_difference == 0
        if kind in ("keras", "h5", "saved_model")
        else done.max_abs_difference < 0.02
    )


@pytest.mark.parametrize(
    ("output", "kind", "sharpness"),  # at 5 some sigmoids are all but 1
    [
        ("softmax", "keras", 5),
        ("softmax", "h5", 5),
        ("sigmoid", "keras", 5),
        ("sigmoid", "tflite", 1),
    ],
)
def test_an_export_has_the_temperature_in_it(
    digits: Dataset, tmp_path: Path, output: str, kind: str, sharpness: int
) -> None:
    from mnist_exp.deployment import export as exports
    from mnist_exp.models.convert import FORMATS
    from mnist_exp.models.families import build_model
    from mnist_exp.models.forward import batched_scores, forward_function

    config = tiny("model=sigmoid100", f"model.output={output}").model
    model, images = build_model(config), digits.test_images
    weights = [sharpness * weight for weight in model.get_weights()]
    model.set_weights(weights)
    rows = probabilities(batched_scores(forward_function(model), images), config.output)
    answers = calibrated(rows, 2.5)
    predictor = SimpleNamespace(
        model=model, output=config.output, temperature=2.5, probabilities=lambda pixels: answers
    )
    done = exports.export(predictor, kind, tmp_path, images)  # type: ignore[arg-type]
    assert done.changed_predictions == 0
    scores = FORMATS[kind].read(tmp_path / done.name)(images[:100])
    assert scores == pytest.approx(answers[:100], abs=1e-5)
    for old, new in zip(weights, model.get_weights(), strict=True):  # the model is left alone
        assert np.array_equal(old, new)


@pytest.mark.parametrize("wrong", [np.nan, 1.0])
def test_a_deviating_export_is_not_kept(
    convolutional: Any,
    digits: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    wrong: float,
) -> None:
    from mnist_exp.deployment import export as exports

    scores = np.full((len(digits.test_images), 10), 0.0)
    scores[:, 3] = wrong
    deviating = exports.FORMATS["keras"]._replace(
        read=lambda path: lambda pixels: scores[: len(pixels)]
    )
    monkeypatch.setitem(exports.FORMATS, "keras", deviating)
    with pytest.raises(InputError, match="--format keras: the export does not agree"):
        exports.export(convolutional, "keras", tmp_path, digits.test_images)
    assert not list(tmp_path.iterdir())


def test_a_file_with_an_operation_that_onnx_lacks_is_refused(tmp_path: Path) -> None:
    from mnist_exp.models.convert import FORMATS
    from mnist_exp.models.families import build_model

    model, onnx = (
        build_model(tiny("model.activation=celu", "model.units=[4]").model),
        FORMATS["onnx"],
    )
    onnx.write(model, tmp_path / onnx.filename)
    with pytest.raises(
        InputError, match=r"model\.onnx: expected only .* ONNX has, got Expm1; choose"
    ):
        onnx.read(tmp_path / onnx.filename)


def test_a_file_with_an_operation_that_litert_lacks_is_refused(
    convolutional: Any, digits: Dataset, tmp_path: Path
) -> None:
    import keras
    import tensorflow as tf

    from mnist_exp.deployment import export as exports
    from mnist_exp.models.families import PIXELS

    class NarrowConvolution(keras.layers.Layer):
        """In bfloat16 whatever its dtype, which LiteRT lacks."""

        def call(self, inputs: Any) -> Any:
            images = tf.cast(inputs[..., None], tf.bfloat16)
            return tf.nn.conv2d(images, tf.ones((28, 28, 1, 10), tf.bfloat16), 1, "VALID")

    pixels = keras.Input((28, 28), dtype="uint8", name=PIXELS)
    scores = keras.layers.Dense(10)(keras.layers.Flatten()(NarrowConvolution()(pixels)))
    odd = SimpleNamespace(**vars(convolutional) | {"model": keras.Model(pixels, scores)})
    with pytest.raises(InputError, match=r"model\.tflite: expected only .* LiteRT has, got FlexCo"):
        exports.export(odd, "tflite", tmp_path, digits.test_images)
    assert not list(tmp_path.iterdir())


def test_the_command_replaces_earlier_exports(
    recorded: Recorded, command: Command, workplace: Path
) -> None:
    arguments = ("--run", "dense128 seed=0", "--format", "saved_model", "--format", "h5")
    for _ in range(2):
        code, out, err = command("export", *arguments, "--output", "to")
        assert (code, err) == (0, "")
    assert {path.name for path in (workplace / "to").iterdir()} == {"saved_model", "model.h5"}
    assert "furthest probability" in out
    assert "is in the files" in out


def test_calibrated_sigmoids_need_a_format_that_holds_operations(
    recorded: Recorded, command: Command, workplace: Path
) -> None:
    code, _, err = command("export", "--run", "sigmoid100 seed=0", "--format", "h5")
    assert code == 2
    assert err == (
        "--format h5: cannot hold the operations that calibrate sigmoids; choose --format keras\n"
    )


def test_only_an_earlier_export_is_replaced(
    recorded: Recorded, command: Command, workplace: Path
) -> None:
    (workplace / "to/saved_model").mkdir(parents=True)
    (workplace / "to/saved_model/thesis.txt").touch()
    arguments = ("--run", "sigmoid100 seed=0", "--format", "saved_model", "--output", "to")
    code, _, err = command("export", *arguments)
    assert code == 2
    assert err == "to/saved_model: this is no earlier export; move it, or give another --output\n"
    assert (workplace / "to/saved_model/thesis.txt").exists()


def test_a_missing_package_is_named_with_its_install_command(
    recorded: Recorded, command: Command, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mnist_exp.deployment import export as exports

    monkeypatch.setitem(exports.NEEDS, "onnx", ("no_such_tool",))
    code, _, err = command("export", "--run", "dense128 seed=0", "--format", "onnx")
    assert code == 2
    assert err == (
        "--format onnx needs no_such_tool: install them with pip install 'mnist-exp[onnx]'\n"
    )
