"""MLflow's process-wide settings, which its fluent API uses and a client does not."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

ENVIRONMENT = "MLFLOW_TRACKING_URI"


@contextmanager
def global_tracking_uri(where: str) -> Iterator[None]:
    """Context manager: MLflow's process-wide tracking URI, which its model look-ups use."""
    import mlflow

    environment = os.environ.get(ENVIRONMENT)
    before = mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else None
    mlflow.set_tracking_uri(where)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(None if before == environment else before)
        if environment is not None:  # set_tracking_uri changes it, too
            os.environ[ENVIRONMENT] = environment


@contextmanager
def fluent_settings(uri: str, experiment_id: str) -> Iterator[None]:
    """Context manager: MLflow's process-wide settings point at this run, and it prints nothing."""
    import keras

    chatty = keras.config.is_interactive_logging_enabled()
    experiment_before = os.environ.get("MLFLOW_EXPERIMENT_ID")
    os.environ["MLFLOW_EXPERIMENT_ID"] = experiment_id  # where the model is listed
    # MLflow loads the model and tries the example: no progress bar, no hint about its tracing.
    keras.config.disable_interactive_logging()
    hints = logging.getLogger("tensorflow")
    hints_before = hints.level
    hints.setLevel(logging.ERROR)
    try:
        with global_tracking_uri(uri):
            yield
    finally:
        hints.setLevel(hints_before)
        if chatty:
            keras.config.enable_interactive_logging()
        del os.environ["MLFLOW_EXPERIMENT_ID"]
        if experiment_before is not None:
            os.environ["MLFLOW_EXPERIMENT_ID"] = experiment_before
