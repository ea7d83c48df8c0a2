"""Options of the user's own join the package's, from conf/ of the current folder or a named one."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from mnist_exp.config import sources
from mnist_exp.config.compose import compose, variant_values
from mnist_exp.config.sources import CONF, list_own, own_folders
from mnist_exp.core.errors import InputError

DENSE = (CONF / "model" / "dense128.yaml").read_text()


@pytest.fixture
def notes() -> Iterator[list[str]]:
    """What is logged about the folders."""
    handler = logging.Handler()
    told: list[str] = []
    handler.emit = lambda record: told.append(record.getMessage())  # type: ignore[method-assign]
    sources.logger.addHandler(handler)
    sources._tell.cache_clear()
    yield told
    sources.logger.removeHandler(handler)


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        file = folder / f"{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return folder


def dense(name: str, units: int) -> str:
    return DENSE.replace("dense128", name).replace("[128, 128]", f"[{units}]")


def test_options_of_ones_own_join_the_packages(workplace: Path, notes: list[str]) -> None:
    preset = "# @package _global_\ndefaults:\n  - override /model: wide\ntrain: {epochs: 2}\n"
    wide = "defaults: [dense128, _self_]\nname: wide\nunits: [64]\n"
    files = {"model/wide": wide, "model/big/wide": dense("wide", 128), "experiment/first": preset}
    write(workplace / "conf", files)
    config = compose(["experiment=first", "optimizer=sgd"])
    assert (config.model.name, config.train.epochs, config.optimizer.name) == ("wide", 2, "sgd")
    assert (config.model.units, compose(["model=big/wide"]).model.units) == ((64,), (128,))
    assert list_own() == "Yours, in conf: experiment=first, model=big/wide, model=wide\n"
    assert not notes
    with pytest.raises(InputError, match=r"model=wid: no such option.*; there are .*dropout, sigm"):
        compose(["model=wid"])


def test_of_the_same_name_the_users_own_is_taken_and_told_once(
    workplace: Path, notes: list[str]
) -> None:
    write(workplace / "conf", {"model/dense128": dense("dense128", 32), "model/b": dense("b", 8)})
    named = write(workplace / "named", {"model/dense128": dense("dense128", 16)})
    assert compose().model.units == compose().model.units == (32,)
    assert compose(config_dir="named").model.units == compose(config_dir=named).model.units == (16,)
    taken = "taken in place of the package's: model=dense128"
    assert notes[:2] == [f"conf: {taken}", f"named: {taken}"]
    assert variant_values("dense128")["units"] == [32]
    write(workplace / "conf", {"model/wide": "dropout: ${seed}\nunits: ???\n"})
    assert variant_values("wide") == {"dropout": "${seed}", "units": "???"}
    assert variant_values("nothing") == {}


def test_only_groups_are_taken_from_a_conf_of_another_project(
    workplace: Path, notes: list[str]
) -> None:
    others = {"config": "seed: 9", "model": "seed: 9", "modle/a": "", "hydra/sweeper/mnist_exp": ""}
    write(workplace / "conf", others)
    (workplace / "conf" / "notes").mkdir()
    assert compose().seed == 0
    (note,) = notes
    told = (
        "conf: not taken: config.yaml, hydra, model.yaml, modle (did you mean model?); the groups"
    )
    assert note.startswith(told)


def test_the_packages_own_conf_is_none_of_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CONF.parent)
    assert (own_folders(), list_own()) == ([], "")


def test_a_folder_that_is_named_must_exist(workplace: Path) -> None:
    with pytest.raises(InputError, match="nowhere: expected a folder with groups of options"):
        compose(config_dir="nowhere")


def test_a_file_with_the_name_that_its_defaults_name_is_refused(workplace: Path) -> None:
    write(workplace / "conf", {"model/cnn": "defaults: [cnn]\nname: cnn\n"})
    with pytest.raises(InputError, match=r"model/cnn\.yaml: its defaults lead back to it; give"):
        compose(["model=cnn"])


@pytest.mark.filterwarnings("ignore:Support for .yml")
def test_a_yml_is_named_with_its_folder(workplace: Path) -> None:
    (workplace / "conf" / "model").mkdir(parents=True)
    (workplace / "conf" / "model" / "wide.yml").write_text(dense("wide", 64))
    with pytest.raises(InputError, match=r"conf/model/wide\.yml: Hydra reads files that end with"):
        compose(["model=wide"])
