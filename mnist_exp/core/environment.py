"""Settings that other programs leave in the environment: pinned where results depend on them."""

import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from mnist_exp.core.errors import InputError
from mnist_exp.core.output import quiet_stderr
from mnist_exp.core.signals import SWEEP

THREADS = "TF_NUM_INTRAOP_THREADS"
XLA = "XLA_FLAGS"
TRY_XLA = "import tensorflow as tf; tf.function(lambda: tf.ones(1) + 1, jit_compile=True)()"
PINNED = {  # what they are while the program runs
    "KERAS_BACKEND": "tensorflow",
    "TF_USE_LEGACY_KERAS": "0",
}
HONOURED = (
    "MNIST_PATH", "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", THREADS, XLA,
    "TF_ENABLE_ONEDNN_OPTS", "ONEDNN_MAX_CPU_ISA", "TF_DETERMINISTIC_OPS", "CUDA_VISIBLE_DEVICES",
    "OMP_NUM_THREADS", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy",
    "no_proxy",
)  # fmt: skip


_given: dict[str, str] = {}  # of the pinned ones, what the user's were


def use_tensorflow() -> None:
    """Make TensorFlow the backend of Keras, and Keras 3 that of TensorFlow.

    Raises `InputError` where another program in this process uses another backend already.
    """
    keras = sys.modules.get("keras")
    if keras and hasattr(keras, "config") and keras.config.backend() != "tensorflow":
        raise InputError(
            f"Keras runs on {keras.config.backend()} in this process already, and mnist_exp needs "
            "tensorflow: set KERAS_BACKEND=tensorflow before Keras is imported"
        )
    _given.update({name: os.environ[name] for name in PINNED if name in os.environ} | _given)
    os.environ.update(PINNED)


@contextmanager
def keras_defaults() -> Iterator[None]:
    """Context manager: float32 and channels last, whatever keras.json or another program set."""
    with quiet_stderr():  # TensorFlow greets every import with a page of hints
        from keras import config
    before = config.floatx(), config.image_data_format(), config.dtype_policy()
    try:
        _set_keras("float32", "channels_last", "float32")
        yield
    finally:
        _set_keras(*before)


def _set_keras(floatx: str, image_data_format: str, policy: Any) -> None:
    from keras import config

    config.set_floatx(floatx)
    config.set_image_data_format(image_data_format)
    config.set_dtype_policy(policy)


def own_warnings_only() -> None:
    """Where warnings are errors (`PYTHONWARNINGS=error`), leave it at those of this package."""
    if any(action == "error" and module is None for action, _, _, module, _ in warnings.filters):
        warnings.simplefilter("ignore")
        warnings.filterwarnings("error", module=r"mnist_exp\b")


@cache
def refuse_nonsense() -> None:
    """Raises `InputError` for settings with which TensorFlow would end the process, or guess."""
    threads = os.environ.get(THREADS, "0")
    if not threads.isdecimal():
        raise InputError(f"{THREADS}: expected a number of threads, got {threads!r}; unset it")
    flags = os.environ.get(XLA)
    if flags and SWEEP not in os.environ:  # an unknown one ends the process: tried in another
        done = subprocess.run(
            [sys.executable, "-c", TRY_XLA], check=False, capture_output=True, text=True
        )
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if XLA in line]
            reason = lines[-1].partition("] ")[2] if lines else f"XLA ends with {done.returncode}"
            raise InputError(f"{XLA}={flags}: {reason}; mend or unset it")


def described() -> dict[str, str]:
    """The settings that are there, by their names, with what is done about each."""
    found = {name: f"{os.environ[name]}, honoured" for name in HONOURED if os.environ.get(name)}
    for name, value in PINNED.items():
        if (given := _given.get(name, value)) != value:
            found[name] = f"{given}, not honoured: it is {value} here"
    return found
