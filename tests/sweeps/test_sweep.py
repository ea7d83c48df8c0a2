"""A sweep's jobs are composed quickly, and exactly as Hydra composes them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra import initialize_config_dir
from hydra._internal.callbacks import Callbacks
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, OmegaConf

from hydra_plugins.mnist_exp.ray_launcher import RayLauncher
from mnist_exp.config.compose import CONF, parse, translate_hydra_errors, without_hydra
from mnist_exp.core.errors import InputError
from mnist_exp.sweeps.composer import JobComposer
from mnist_exp.sweeps.launch import _quoted, is_remote


@pytest.fixture
def composer() -> Iterator[JobComposer]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        composed = hydra.compose_config("config", [], RunMode.MULTIRUN, from_shell=False)
        yield JobComposer(composed, hydra.config_loader)


JOBS = [
    (),
    ("model=cnn", "seed=3"),
    ("model.units=[64,32]", "model.units=[16]"),
    ("optimizer=sgd", "optimizer.learning_rate=0.1", "optimizer.momentum=0"),
    ("optimizer=lion", "optimizer.clipnorm=1"),  # which no YAML lists
    ("experiment=sigmoid100", "train.epochs=2", "train.patience=null"),
    ("train.epochs=2", "experiment=sigmoid100"),
    ("train=long", "data.path='/a folder/with spaces'", "seed=${train.epochs}"),
    ("save_as=[a.keras,b.h5]", "optimizer={learning_rate:0.2}"),
    ("++seed=4", "train.jit=true"),
]


@pytest.mark.parametrize("job", JOBS, ids=" ".join)
def test_a_job_is_what_hydra_composes(composer: JobComposer, job: tuple[str, ...]) -> None:
    composed = composer.loader.load_sweep_config(composer.base, list(job))
    assert composer.config(job) == parse(without_hydra(composed))


@pytest.mark.parametrize(
    "job", [("train.epoch=3",), ("model=cnn", "train.epochs=0"), ("model=foo",), ("seed=${no}",)]
)
def test_a_bad_job_is_refused_in_the_same_words(
    composer: JobComposer, job: tuple[str, ...]
) -> None:
    with pytest.raises(InputError) as expected, translate_hydra_errors():
        parse(without_hydra(composer.loader.load_sweep_config(composer.base, list(job))))
    with pytest.raises(InputError) as refused:
        composer.config(job)
    assert str(refused.value) == str(expected.value)


def test_a_launcher_chosen_in_a_file_that_is_swept_is_refused(tmp_path: Path) -> None:
    """Hydra takes the launcher before it composes a job."""
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "many.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /hydra/launcher: joblib\n"
    )
    search_path = [f"hydra.searchpath=[file://{tmp_path}]", "hydra.mode=MULTIRUN"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        hydra = GlobalHydra.instance().hydra
        assert hydra
        composed = hydra.compose_config("config", search_path, RunMode.MULTIRUN)
        refused = r"hydra/launcher=joblib: a file that is swept chooses it, which is too late"
        with pytest.raises(InputError, match=refused):
            JobComposer(composed, hydra.config_loader).configs([("experiment=many",)])


def test_a_job_runs_once_and_its_keys_have_no_prefix(composer: JobComposer) -> None:
    context = HydraContext(config_loader=composer.loader, callbacks=Callbacks())
    sweeper: Any = Plugins.instance().instantiate_sweeper(
        hydra_context=context, task_function=lambda _: None, config=composer.base
    )
    jobs = sweeper.strategy(["++seed=1,2,1", "model=cnn"]).ask()
    assert [result.job for result in jobs] == [
        ("++seed=1", "model=cnn"),
        ("++seed=2", "model=cnn"),
    ]
    assert [result.choices for result in jobs] == [{"seed": "1"}, {"seed": "2"}]


class CountingLoader:
    """A config loader that lists the overrides of every composition."""

    def __init__(self, loader: ConfigLoader) -> None:
        self.loader, self.composed = loader, []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)

    def load_sweep_config(self, config: DictConfig, overrides: list[str]) -> DictConfig:
        self.composed.append(overrides)
        return self.loader.load_sweep_config(config, overrides)


def test_jobs_of_equal_groups_are_composed_once(composer: JobComposer) -> None:
    loader = CountingLoader(composer.loader)
    jobs = [(f"model={m}", f"seed={s}") for m in ("cnn", "dropout") for s in range(5)]
    configs = JobComposer(composer.base, loader).configs(jobs)
    assert [(c.model.name, c.seed) for c in configs] == [
        (m, s) for m in ("cnn", "dropout") for s in range(5)
    ]
    assert loader.composed == [["model=cnn"], ["model=dropout"]]


@pytest.mark.parametrize(
    ("name", "address", "expected"),
    [
        ("basic", None, False),
        ("joblib", None, False),
        ("submitit_local", None, False),
        ("submitit_slurm", None, True),
        ("ray", None, False),
        ("ray", "local", False),
        ("ray", "10.0.0.1:6379", True),
    ],
)
def test_remote_launchers(
    name: str, address: str | None, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    launcher = RayLauncher(OmegaConf.create({"init": {"address": address}, "remote": {}}))
    assert is_remote(launcher, name) is expected


@pytest.mark.parametrize("path", ["/a/${z}/b", "/it's/a, b=c", "/a?b%20#&;:+"])
def test_a_job_gets_the_folder_of_its_sweep_whatever_its_name(path: str) -> None:
    override = OverridesParser.create().parse_override(f"folder={_quoted(path)}")
    assert OmegaConf.create({"folder": override.value()}).folder == path
