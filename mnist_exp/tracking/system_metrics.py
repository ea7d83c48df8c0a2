"""CPU, memory, disk and network while a run trains, sampled by MLflow."""

from collections.abc import Iterator
from contextlib import contextmanager

from mnist_exp.tracking import store
from mnist_exp.tracking.tracker import RunTracker

SECONDS = 1.0  # between two samples


@contextmanager
def sampled_system_metrics(tracker: RunTracker) -> Iterator[None]:
    """Context manager: with `tracking.system_metrics` MLflow samples `system/...` metrics.

    They go to the store directly, not through the journal: what it cannot take is lost.
    """
    config = tracker.config
    if not (config.system_metrics and config.enabled and tracker.run_id):
        yield
        return
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    monitor = SystemMetricsMonitor(
        tracker.run_id,
        sampling_interval=SECONDS,
        resume_logging=True,
        tracking_uri=store.uri(config),
    )
    monitor.start()
    try:
        yield
    finally:
        monitor.finish()
