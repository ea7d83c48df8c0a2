"""The code in every logged model, which MLflow runs from there: it may import nothing of ours."""

from pathlib import Path
from typing import Any

import numpy as np
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

INPUTS = (
    "28x28 pixels of 0-255, light digits on black, as integers or floats: (n, 28, 28), "
    "(n, 28, 28, 1) or (n, 784), or one image as (28, 28) or (784,)"
)
BATCH = 1000  # images per forward pass
SIGMOID_EPSILON = 1e-8


def outputs(classes: list[str] | None = None) -> str:
    """What comes back for an input; no classes are the digits."""
    named = f"{len(classes)}) of {', '.join(classes)}" if classes else "10) of the digits 0-9"
    return f"the uncalibrated probabilities (n, {named}"


def description(classes: list[str] | None = None) -> str:
    """The logged model's note; no classes are the digits."""
    reads = f"Tells {len(classes)} classes apart" if classes else "Reads handwritten digits"
    return f"{reads}. Takes {INPUTS}. Returns {outputs(classes)}."


class DigitReader(PythonModel):
    """The Keras model beside this file, behind checks of what it is given."""

    def load_context(self, context: Any) -> None:
        """Load the Keras model; none of its code is run."""
        import keras

        file = Path(__file__).parent / "data" / "model.keras"
        self.model = keras.saving.load_model(file, compile=False, safe_mode=True)
        last = getattr(self.model.layers[-1], "activation", None)
        self.has_sigmoids = last is keras.activations.sigmoid

    def predict(self, model_input: np.ndarray) -> np.ndarray:
        """The probabilities (n, classes); raises `MlflowException` for input unlike `INPUTS`."""
        import keras

        images = read_images(model_input)
        batches = [images[i : i + BATCH] for i in range(0, len(images), BATCH)]
        scores = [self.model(batch.astype(np.float32), training=False) for batch in batches]
        weights = np.concatenate([keras.ops.convert_to_numpy(each) for each in scores], dtype=float)
        if self.has_sigmoids:  # trained as the logits of a softmax
            weights = weights / np.maximum(1 - weights, SIGMOID_EPSILON)
        weights = np.maximum(weights, np.finfo(float).tiny)  # zeros alone are uniform
        shares: np.ndarray = weights / weights.sum(axis=1, keepdims=True)
        return shares.astype(np.float32)


def read_images(data: Any) -> np.ndarray:
    """The images (n, 28, 28); raises `MlflowException`."""
    try:
        given = np.asarray(data)
    except ValueError:  # a list of images of different sizes
        raise refusal(INPUTS, "a list of lists of different lengths") from None
    pixels = given.squeeze()
    if given.dtype.kind not in "buif":
        kind = f"an object of type {type(data).__name__}"
        raise refusal(INPUTS, f"{kind} that is no array of numbers")
    shape = pixels.shape[-2:] if pixels.shape[-2:] == (28, 28) else pixels.shape[-1:]
    if not given.size or shape not in ((28, 28), (784,)) or pixels.ndim > len(shape) + 1:
        raise refusal(INPUTS, f"an array of shape {given.shape}")
    low, high = pixels.min(), pixels.max()
    if not (low >= 0 and high <= 255):  # NaN is neither
        advice = "divide those of 16 bits by 257" if low >= 0 else "do not scale or normalize them"
        raise refusal("pixels of 0-255", f"values of {low:.6g} to {high:.6g}; {advice}")
    if 0 < high <= 1:
        raise refusal("pixels of 0-255", f"none above {high:.6g}; multiply those of 0-1 by 255")
    return pixels.reshape(-1, 28, 28)


def refusal(expected: str, actual: str) -> MlflowException:
    """The error that the scoring server answers with status 400."""
    return MlflowException.invalid_parameter_value(f"expected {expected}; got {actual}")


set_model(DigitReader())
