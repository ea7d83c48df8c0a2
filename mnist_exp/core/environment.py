"""Settings that other programs leave in the environment: pinned where results depend on them."""

import getpass
import logging
import os
import random
import subprocess
import sys
import tempfile
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
    "TF_ENABLE_ONEDNN_OPTS", "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "TF_DETERMINISTIC_OPS",
    "CUDA_VISIBLE_DEVICES",
    "OMP_NUM_THREADS", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy",
    "no_proxy",
)  # fmt: skip
AROUND = " \t\r\n'\"`\u2018\u2019\u201c\u201d"  # what is copied along with a path or an address
QUIET = {  # loggers of what is retried: it succeeds, or ends in an error that is reported
    "urllib3.connectionpool": logging.ERROR,
    "mlflow.store.db.utils": logging.CRITICAL,
    "mlflow.utils.databricks_utils": logging.ERROR,
}

_given: dict[str, str] = {}  # of the pinned ones, what the user's were
_forked: set[int] = set()  # ids of processes whose parent had used TensorFlow before the fork


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


def name_user() -> None:
    """Give a user without home or name, as in containers, those that libraries ask for."""
    if os.path.expanduser("~") == "~":
        os.environ["HOME"] = tempfile.gettempdir()  # where Keras would cache then, too
    try:
        getpass.getuser()
    except (KeyError, OSError):  # the latter from Python 3.13 on
        os.environ["USER"] = str(os.getuid())


@contextmanager
def keras_defaults() -> Iterator[None]:
    """Context manager: float32 and channels last, whatever keras.json or another program set.

    Afterwards these settings and the random generators are the caller's again.
    """
    with quiet_stderr():  # TensorFlow greets every import with a page of hints
        import numpy as np
        import tensorflow as tf
        from keras import config
        from tensorflow.python.eager import context  # no public function reads the seed
    before = config.floatx(), config.image_data_format(), config.dtype_policy()
    drawn, numpy_drawn, seed = random.getstate(), np.random.get_state(), context.global_seed()
    try:
        _set_keras("float32", "channels_last", "float32")
        yield
    finally:
        _set_keras(*before)
        random.setstate(drawn)
        np.random.set_state(numpy_drawn)
        tf.random.set_seed(seed)


def refuse_fork() -> None:
    """Raises `InputError` in a process forked from one that used TensorFlow, which would hang."""
    if os.getpid() in _forked:
        raise InputError(
            "this process was forked from one that had used TensorFlow, whose threads are not in "
            "it: start it with multiprocessing.get_context('spawn')"
        )


def _note_fork() -> None:
    context = sys.modules.get("tensorflow.python.eager.context")
    if context and getattr(context.context(), "_initialized", False):
        _forked.add(os.getpid())


if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    os.register_at_fork(after_in_child=_note_fork)


@contextmanager
def caller_settings() -> Iterator[None]:
    """Context manager: what a run sets of MLflow's variables and loggers is undone afterwards."""
    before, levels = _variables(), {name: logging.getLogger(name).level for name in QUIET}
    try:
        yield
    finally:
        for name in _variables().keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def _variables() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if k.startswith("MLFLOW_") or k == "no_proxy"}


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
