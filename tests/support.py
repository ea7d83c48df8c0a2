"""What tests use by name: small configs, a trained model, a run's figures."""

import csv
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from mnist_exp.config.compose import compose, parse
from mnist_exp.config.schema import Config
from mnist_exp.data.dataset import Dataset

TINY = [
    "data.limit=200", "train.epochs=1", "report.formats=[]", "report.dpi=50",
    "train.precision=float32", "train.jit=false",
]  # fmt: skip
Command = Callable[..., tuple[int, str, str]]  # the fixture `command`


def tiny(*overrides: str) -> Config:
    """A config that trains in a moment on bundled digits, with the same figures everywhere.

    XLA is off, since compiling takes it longer than training: `train.jit=auto` turns it on. So are
    the figures, which take longer than the rest of the run: `report.formats=[png]`.
    """
    choices = tuple(override for override in overrides if "." not in override.partition("=")[0])
    values = OmegaConf.from_dotlist([*TINY, *(o for o in overrides if o not in choices)])
    return parse(OmegaConf.merge(_chosen(choices), values))


@cache
def _chosen(choices: tuple[str, ...]) -> DictConfig:
    """Hydra's config of these options of groups; it takes 0.15 s."""
    return OmegaConf.create(compose(["data=mnist5k", *choices]).model_dump(mode="json"))


def figures(folder: Path) -> list[dict[str, str]]:
    """The rows of the run's history.csv, without what differs from run to run."""
    with (folder / "history.csv").open(newline="") as file:
        rows = csv.DictReader(file)
        return [{k: v for k, v in row.items() if "seconds" not in k} for row in rows]


def scalars(folder: Path) -> dict[tuple[str, int], float]:
    """TensorBoard's figures of the run, by name and step; without what differs from run to run."""
    import tensorflow as tf

    files = map(str, sorted((folder / "tensorboard").glob("events.*")))
    events = [e for file in files for e in tf.compat.v1.train.summary_iterator(file)]
    written = [(v.tag, e.step, v.simple_value) for e in events for v in e.summary.value]
    return {(tag, step): value for tag, step, value in written if "second" not in tag}


def prepare(config: Config, data: Dataset) -> Any:
    """The loop that trains the config's model."""
    from mnist_exp.training.auto import resolve_auto
    from mnist_exp.training.fit import prepare

    settings = resolve_auto(config.train, config.model)
    return prepare(config.model, config.optimizer, settings, data, seed=config.seed)


def train(loop: Any, config: Config, **more: Any) -> Any:
    """The history of the loop's model, trained as the config says."""
    from mnist_exp.training.fit import fit

    parts = config.train, config.schedule, config.augment
    return fit(loop, *parts, seed=config.seed, **more)


def fit(config: Config, data: Dataset, callbacks: Any = ()) -> tuple[Any, Any]:
    """The model of the config, trained as it says, and its history."""
    from mnist_exp.models.convert import to_stock_keras

    loop = prepare(config, data)
    history = train(loop, config, callbacks=callbacks)
    model = to_stock_keras(loop.model)  # the loop's own is the next call's
    model.optimizer = loop.optimizer
    return model, history


@contextmanager
def served(app: Any) -> Iterator[str]:
    """Context manager: serve the application on loopback; yields its address."""
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]  # it accepts from here on
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            server.should_exit = True
            thread.join()
