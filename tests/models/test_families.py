"""Every variant builds, takes a step, and is saved in stock Keras layers."""

import json
import zipfile
from pathlib import Path
from typing import get_args

import keras
import numpy as np
import pytest
from support import fit, tiny

from mnist_exp.config.compose import CONF
from mnist_exp.config.model import Activation
from mnist_exp.data.dataset import Dataset
from mnist_exp.models.convert import to_stock_keras
from mnist_exp.models.families import build_model
from mnist_exp.models.forward import timed_scores
from mnist_exp.models.io import summary
from mnist_exp.training import optimizers
from mnist_exp.training.optimizers import with_optimizer_state

VARIANTS = sorted(path.stem for path in (CONF / "model").glob("*.yaml"))


@pytest.mark.parametrize(
    "name",
    [
        # The default run trains a cnn_wide in another test, in float32 and bfloat16.
        pytest.param(name, marks=pytest.mark.slow) if name == "cnn_wide" else name
        for name in VARIANTS
    ],
)
def test_every_variant_takes_a_training_step(name: str, few_digits: Dataset) -> None:
    config = tiny(f"model={name}")
    keras.utils.set_random_seed(config.seed)
    before = build_model(config.model).get_weights()
    model, _ = fit(config, few_digits)
    assert all((a != b).any() for a, b in zip(before, model.get_weights(), strict=True))
    assert model.output_shape == (None, 10)
    assert model.name == name


def test_every_activation_of_keras_for_hidden_layers_may_be_chosen() -> None:
    functions = keras.src.activations.ALL_OBJECTS_DICT
    of_all_units = {"glu", "log_softmax", "softmax", "sparsemax"}
    assert set(get_args(Activation)) == set(functions) - of_all_units - {"threshold"}
    values = np.linspace(-3, 3, 5, dtype=np.float32)
    for name in get_args(Activation):
        one_by_one = [float(functions[name](values[i : i + 1])[0]) for i in range(5)]
        assert np.asarray(functions[name](values)) == pytest.approx(one_by_one, abs=1e-6)


def test_parameters_are_those_of_the_notebooks() -> None:
    assert build_model(tiny("model=sigmoid100").model).count_params() == 79_510
    assert build_model(tiny("model=dense128").model).count_params() == 118_282


def test_raw_pixels_are_scaled_to_the_unit_range() -> None:
    model = build_model(tiny().model)
    pixels = np.full((1, 28, 28), 255, np.uint8)
    unit = keras.Model(model.input, model.get_layer("to_unit_range").output)
    assert np.asarray(unit(pixels)) == pytest.approx(np.ones((1, 28, 28)))
    assert model.input.name == "pixels_0_to_255"


@pytest.mark.parametrize("name", ["dropout", "cnn"])
def test_in_bfloat16_the_pixels_and_the_scores_stay_float32(name: str) -> None:
    model = build_model(tiny(f"model={name}").model, precision="mixed_bfloat16")
    dtypes = {layer.name: layer.compute_dtype for layer in model.layers}
    assert dtypes.pop("to_unit_range") == dtypes.pop("scores") == dtypes.pop("pixels_0_to_255")
    assert model.get_layer("scores").compute_dtype == "float32"
    assert set(dtypes.values()) == {"bfloat16"}
    assert all(str(v.dtype) == "float32" for v in model.trainable_variables)


def test_a_deep_net_has_the_configured_order_of_layers() -> None:
    overrides = [
        "model=cnn", "model.filters=[4,[5,6],[7,8]]", "model.kernel=5", "model.padding=same",
        "model.last_pool=global_max", "model.batch_norm=true", "model.units=[]",
        "model.dropout=0.1",
    ]  # fmt: skip
    model = build_model(tiny(*overrides).model)
    shapes = [tuple(layer.output.shape[1:]) for layer in model.layers if "conv" in layer.name]
    assert shapes == [(24, 24, 4), (12, 12, 5), (12, 12, 6), (6, 6, 7), (4, 4, 8)]
    kinds = "".join(type(layer).__name__[0] for layer in model.layers[3:])
    assert kinds == "CMBACBACMBADCBACBAGFD"
    assert [v.path for v in model.trainable_variables if "bias" in v.path] == ["scores/bias"]


def test_the_first_convolution_may_stride() -> None:
    overrides = ["model=cnn_fast", "model.stride=2", "model.kernel=6", "model.last_pool=none"]
    model = build_model(tiny(*overrides).model)
    shapes = [tuple(layer.output.shape[1:]) for layer in model.layers if "conv" in layer.name]
    assert shapes == [(12, 12, 32), (4, 4, 64)]


@pytest.mark.parametrize("last_pool", ["max", "none"])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("filters", ["[4]", "[4,4]", "[4,[4,4]]", "[4,4,4]", "[[4,4],4,4]"])
def test_what_the_config_lets_through_can_be_built(
    filters: str, stride: int, last_pool: str
) -> None:
    from mnist_exp.core.errors import InputError

    overrides = [f"model.filters={filters}", f"model.stride={stride}"]
    try:
        config = tiny("model=cnn", *overrides, f"model.last_pool={last_pool}").model
    except InputError as error:
        assert "nothing is left of 28x28 pixels" in str(error)  # noqa: PT017
        return
    assert build_model(config).output_shape == (None, 10)


@pytest.mark.parametrize("name", ["dropout", "cnn", "cnn_wide"])
def test_a_saved_model_loads_without_this_package(name: str, tmp_path: Path) -> None:
    model = build_model(tiny(f"model={name}").model)
    random = np.random.default_rng(0)
    model.set_weights([w + random.normal(0, 0.1, w.shape) for w in model.get_weights()])
    path = tmp_path / "model.keras"
    optimizer = optimizers.build(tiny().optimizer)
    optimizer.build(model.trainable_variables)
    with_optimizer_state(to_stock_keras(model), optimizer, "categorical_crossentropy").save(path)
    saved = json.loads(zipfile.ZipFile(path).read("config.json"))
    assert saved["compile_config"]["optimizer"]["module"] == "keras.optimizers"
    assert {layer["module"] for layer in saved["config"]["layers"]} == {"keras.layers"}
    pixels = random.integers(0, 256, (5, 28, 28), np.uint8)
    loaded = keras.models.load_model(path, safe_mode=True)
    assert (np.asarray(loaded(pixels)) == np.asarray(model(pixels))).all()


def test_a_compiled_copy_has_the_optimizer_state_and_the_same_accuracy(few_digits: Dataset) -> None:
    config = tiny()
    model, _ = fit(config, few_digits)
    copy = with_optimizer_state(to_stock_keras(model), model.optimizer, config.train.loss)
    assert int(copy.optimizer.iterations) == 6  # 180 images in batches of 32
    _, accuracy = copy.evaluate(few_digits.test_images, few_digits.test_labels, verbose=0)
    scores, _ = timed_scores(model, few_digits.test_images)
    assert accuracy == pytest.approx((scores.argmax(1) == few_digits.test_labels).mean())


def test_every_image_is_scored_independently_of_its_batch(digits: Dataset) -> None:
    model = build_model(tiny().model)
    images = digits.train_images[:2500]
    scores, images_per_second = timed_scores(model, images)
    assert scores.shape == (2500, 10)
    assert images_per_second > 0
    assert scores[-3:] == pytest.approx(np.asarray(model(images[-3:])), abs=1e-6)


def test_the_summary_names_the_range_of_the_pixels() -> None:
    text = summary(build_model(tiny().model))
    assert "pixels_0_to_255" in text
    assert "118,282" in text


def test_any_number_of_classes() -> None:
    model = build_model(tiny().model, classes=26)
    assert model.output_shape == (None, 26)
