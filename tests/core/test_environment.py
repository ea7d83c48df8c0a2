"""Settings that others leave behind: pinned, honoured, or refused in a sentence."""

import getpass
import logging
import os
import random
import sys
import tempfile
import warnings
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.eager import context

from mnist_exp.config.compose import compose
from mnist_exp.core import environment
from mnist_exp.core.environment import (
    caller_settings,
    described,
    keras_defaults,
    name_user,
    own_warnings_only,
    refuse_fork,
    refuse_nonsense,
    use_tensorflow,
)
from mnist_exp.core.errors import InputError
from mnist_exp.tracking import store


def test_keras_runs_on_tensorflow_whatever_the_environment_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(environment, "_given", {})
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    monkeypatch.setenv("TF_USE_LEGACY_KERAS", "1")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "mine")
    use_tensorflow()
    assert os.environ["KERAS_BACKEND"] == "tensorflow"
    assert os.environ["TF_USE_LEGACY_KERAS"] == "0"
    use_tensorflow()  # again: what the user's were is not forgotten
    found = described()
    assert found["KERAS_BACKEND"] == "torch, not honoured: it is tensorflow here"
    assert found["TF_USE_LEGACY_KERAS"] == "1, not honoured: it is 0 here"
    assert found["MLFLOW_EXPERIMENT_NAME"] == "mine, honoured"


def test_another_backend_that_is_in_use_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    other = SimpleNamespace(config=SimpleNamespace(backend=lambda: "torch"))
    monkeypatch.setitem(sys.modules, "keras", other)
    with pytest.raises(InputError, match="Keras runs on torch in this process already"):
        use_tensorflow()


def test_what_another_program_set_in_keras_is_as_before_afterwards() -> None:
    keras.config.set_floatx("float16")
    keras.config.set_image_data_format("channels_first")
    keras.config.set_dtype_policy("mixed_float16")
    try:
        with keras_defaults():
            inside = (
                keras.config.floatx(),
                keras.config.image_data_format(),
                keras.config.dtype_policy().name,
            )
        assert inside == ("float32", "channels_last", "float32")
        assert keras.config.floatx() == "float16"
        assert keras.config.image_data_format() == "channels_first"
        assert keras.config.dtype_policy().name == "mixed_float16"
    finally:
        keras.config.set_floatx("float32")
        keras.config.set_image_data_format("channels_last")
        keras.config.set_dtype_policy("float32")


def test_a_run_leaves_the_random_generators_as_they_were() -> None:
    for seed in (3, 4):
        keras.utils.set_random_seed(seed)
        expected = random.random(), np.random.rand()
        keras.utils.set_random_seed(seed)
        with keras_defaults():
            keras.utils.set_random_seed(0)
        assert (random.random(), np.random.rand()) == expected
        assert context.global_seed() == seed
    tf.random.set_seed(None)  # as it is where nobody seeds
    with keras_defaults():
        keras.utils.set_random_seed(0)
    assert context.global_seed() is None


def test_the_variables_of_mlflow_and_its_loggers_are_as_before_afterwards(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name, noisy = "MLFLOW_HTTP_REQUEST_MAX_RETRIES", logging.getLogger("urllib3.connectionpool")
    monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "99")
    monkeypatch.setenv("OTHER", "1")
    before = dict(os.environ)
    noisy.setLevel(logging.INFO)
    with caller_settings():
        store.check_reachable(compose([]).tracking)
        assert os.environ[name] == "1"
        assert noisy.level == logging.ERROR
        del os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"]
        os.environ["OTHER"] = "2"  # by a callback of the caller's: it stays
    assert dict(os.environ) == before | {"OTHER": "2"}
    assert noisy.level == logging.INFO


def test_a_fork_of_a_process_that_used_tensorflow_is_refused() -> None:
    """It would wait for TensorFlow's threads, which are in the parent, without an end."""
    refuse_fork()
    assert tf.ones(1) + 1 == 2
    child = os.fork()
    if not child:  # nothing of pytest may run here
        try:
            refuse_fork()
        except InputError as error:
            os._exit(7 if "multiprocessing.get_context('spawn')" in str(error) else 1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_a_user_without_home_and_name_gets_some(monkeypatch: pytest.MonkeyPatch) -> None:
    before = os.environ["HOME"]
    name_user()
    assert os.environ["HOME"] == before
    monkeypatch.setattr(os, "getuid", lambda: 54321)  # as in a container: nobody has this id
    monkeypatch.setenv("USER", "")  # so that it is as before afterwards
    for name in ("HOME", "LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(RuntimeError):
        Path.home()
    name_user()
    assert str(Path.home()) == tempfile.gettempdir()
    assert getpass.getuser() == "54321"


def test_warnings_of_others_are_no_errors() -> None:
    with warnings.catch_warnings():
        warnings.resetwarnings()
        warnings.simplefilter("error")
        own_warnings_only()
        warnings.warn_explicit("theirs", DeprecationWarning, "keras/x.py", 1, "keras.x")
        with pytest.raises(UserWarning):
            warnings.warn_explicit("ours", UserWarning, "mnist_exp/x.py", 1, "mnist_exp.x")
    with warnings.catch_warnings():
        warnings.resetwarnings()
        own_warnings_only()
        assert not warnings.filters  # nothing was asked for


def test_threads_that_are_no_number_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "many")
    refuse_nonsense.cache_clear()
    with pytest.raises(InputError, match="expected a number of threads, got 'many'; unset it"):
        refuse_nonsense()
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "2")
    refuse_nonsense()


@pytest.mark.slow
def test_flags_that_xla_does_not_know_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XLA_FLAGS", "--nonsense=1")
    refuse_nonsense.cache_clear()
    with pytest.raises(InputError, match=r"^XLA_FLAGS=--nonsense=1: Unknown flag"):
        refuse_nonsense()
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=false")
    refuse_nonsense()
