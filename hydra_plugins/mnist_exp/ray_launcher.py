"""`hydra/launcher=ray`: each job a task of a Ray cluster, or of one started on this machine.

Its settings are in conf/hydra/launcher/ray.yaml.

hydra-ray-launcher 1.2.2 has the same settings, but needs cloudpickle<3, which conflicts with
joblib's current release, and loses every result when one task is lost.
"""

import os
import socket
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, run_job, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from mnist_exp.core.errors import InputError

CONNECT_SECONDS = 3


class RayLauncher(Launcher):
    """Submits every job to Ray, which retries a dead node's once."""

    def __init__(self, ray: Any) -> None:
        parts: Any = OmegaConf.to_container(ray) if OmegaConf.is_config(ray) else ray
        match parts:
            case {"init": dict(init), "remote": dict(remote)} if isinstance(
                remote.get("num_cpus", 1), int | float
            ):
                self.init: dict[str, Any] = init
                self.remote: dict[str, Any] = remote
            case _:
                raise InputError(
                    "hydra.launcher.ray: expected the keys init and remote, this with a number as "
                    f"num_cpus, got {parts}; write such as hydra.launcher.ray.remote.num_cpus=2"
                )

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        if find_spec("ray") is None:
            raise InputError(
                "hydra/launcher=ray: not installed; pip install 'mnist-exp[ray]' brings it"
            )
        _check_reachable(self.init)
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """The return of each job; a lost one has failed, the others continue."""
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_DEDUP_LOGS", "0")  # jobs log equal lines
        import ray

        _connect(self.init)
        task = ray.remote(**self.remote)(job)
        shared = self.hydra_context, self.task_function, Singleton.get_state()
        tasks = [
            task.remote(self._compose(number, overrides), *shared)
            for number, overrides in enumerate(job_overrides, initial_job_idx)
        ]
        try:
            return [_job_return(pending) for pending in tasks]
        except KeyboardInterrupt:
            for pending in tasks:
                ray.cancel(pending)  # raises KeyboardInterrupt in the worker
            ray.wait(tasks, num_returns=len(tasks), timeout=10)
            raise

    def _compose(self, number: int, overrides: Sequence[str]) -> DictConfig:
        config = self.hydra_context.config_loader.load_sweep_config(self.config, list(overrides))
        with open_dict(config):
            config.hydra.job.id = f"{config.hydra.job.name}_{number}"
            config.hydra.job.num = number
        return config


def _check_reachable(arguments: dict[str, Any]) -> None:
    """Raises `InputError` when nothing listens at the address: Ray itself retries for minutes."""
    host, _, port = str(arguments.get("address", "")).removeprefix("ray://").rpartition(":")
    if not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
    except OSError as error:
        raise _refused(arguments, error) from error


def _connect(arguments: dict[str, Any]) -> None:
    """Join the cluster at `address`, or start one on this machine that ends with this process."""
    import ray

    if ray.is_initialized():
        return
    try:
        ray.init(**{"logging_level": "WARNING"} | arguments)
    except (ConnectionError, TypeError, ValueError, RuntimeError) as error:
        raise _refused(arguments, error) from error


def _refused(arguments: dict[str, Any], error: Exception) -> InputError:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
    return InputError(
        f"hydra.launcher.ray.init={arguments}: Ray did not start or answer ({reason}); "
        "check the address and the settings, or choose hydra/launcher=joblib"
    )


def job(
    config: DictConfig, context: HydraContext, function: TaskFunction, singletons: dict[Any, Any]
) -> JobReturn:
    """One job, in a worker."""
    setup_globals()
    Singleton.set_state(singletons)
    return run_job(function, config, "hydra.sweep.dir", "hydra.sweep.subdir", context)


def _job_return(task: Any) -> JobReturn:
    import ray

    try:
        returned: JobReturn = ray.get(task)
    except ray.exceptions.RayError as error:
        reason = f"Ray lost the job: {str(error).strip().splitlines()[0]}"
        returned = JobReturn(status=JobStatus.FAILED)
        returned.return_value = RuntimeError(reason)
    return returned
