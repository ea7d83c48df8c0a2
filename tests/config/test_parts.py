"""Python parts of one's own: found, checked before an import, named when they are wrong."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support import tiny

from mnist_exp.config.compose import fingerprint_values, params
from mnist_exp.config.parts import Part, call_part, check_parts, digests
from mnist_exp.config.schema import Config
from mnist_exp.core.errors import InputError

SOURCE = """
from elsewhere import borrowed
raise RuntimeError("imported")

def vit(images, classes, *, depth, width=64):
    pass

class Net:
    def __init__(self, classes, *, depth=1):
        pass

def short(images):
    pass

made = borrowed(1)
"""

M, FILE = "my_parts.", "my_parts/models.py"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Config]]:
    """A config with a model from my_parts.models, a module that raises when it is imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    package = tmp_path / "my_parts"
    package.mkdir()
    (package / "models.py").write_text(SOURCE)

    def config(build: str = "my_parts.models:vit", **args: Any) -> Config:
        values = {"name": "own", "family": "python", "build": build, "args": args}
        values |= {"output": "softmax"}
        return Config.model_validate(tiny().model_dump() | {"model": values})

    yield config
    for name in [name for name in sys.modules if name.startswith("my_parts")]:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("build", "args"),
    [
        ("my_parts.models:vit", {"depth": 2}),
        ("my_parts.models:Net", {"depth": 2}),
        ("my_parts.models:borrowed", {"anything": 2}),  # not seen without an import
        ("my_parts.models:made", {}),
    ],
)
def test_a_part_is_checked_without_an_import(project: Any, build: str, args: Any) -> None:
    check_parts(project(build, **args))
    assert "my_parts.models" not in sys.modules


@pytest.mark.parametrize(
    ("build", "args", "sentence"),
    [
        (f"{M}modles:vit", {}, f"model.build: no module {M}modles (did you mean {M}models?)"),
        (f"{M}models:vitt", {}, f"vitt (did you mean vit?) in {FILE}; there are vit, Net, short"),
        (
            f"{M}models:vit", {"depht": 1},
            f"model.args.depht: no such argument of vit in {FILE}, line 5 (did you mean depth?)",
        ),
        (f"{M}models:vit", {"width": 1}, f"depth: missing; vit in {FILE}, line 5 needs it"),
        (f"{M}models:Net", {"width": 1}, f"width: no such argument of Net in {FILE}, line 8"),
        (f"{M}models:short", {}, "a function of (images, classes, and its args by name), got"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(project: Any, build: str, args: Any, sentence: str) -> None:
    with pytest.raises(InputError) as error:
        check_parts(project(build, **args))
    assert sentence in str(error.value)


def test_an_error_of_the_part_is_told_with_its_place(project: Any) -> None:
    part = Part("model.build", "my_parts.models:vit")
    with pytest.raises(InputError, match=r"cannot be imported .*No module named 'elsewhere'"):
        call_part(part)
    Path("my_parts/models.py").write_text("def vit():\n    return 1 / 0\n")
    with pytest.raises(InputError, match=r"it fails \(my_parts/models.py, line 2: ZeroDivision"):
        call_part(part)
    Path("my_parts/models.py").write_text("def vit(:\n")
    with pytest.raises(InputError, match=r"my_parts/models.py, line 1: "):
        check_parts(project())


def test_the_source_belongs_to_record_and_fingerprint(project: Any) -> None:
    config = project(depth=2)
    before = params(config), fingerprint_values(config)
    assert before[0]["model.args.depth"] == 2
    assert before[0]["model.source"].startswith("my_parts/models.py ")
    with Path("my_parts/models.py").open("a") as file:
        file.write("# changed\n")
    assert params(config) != before[0]
    assert fingerprint_values(config) != before[1]
    Path("my_parts/models.py").unlink()
    assert digests(config) == {"model.source": ""}  # a record is read without its parts


def test_a_config_without_parts_is_recorded_as_before() -> None:
    assert not digests(tiny())
