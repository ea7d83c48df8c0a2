"""Python parts of a user's own, `build: module:name`: found, checked unimported, called."""

import ast
import hashlib
import importlib
import importlib.util
import inspect
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from mnist_exp.config.base import ConfigGroup
from mnist_exp.config.messages import nearest
from mnist_exp.core.errors import InputError
from mnist_exp.core.files import short_path
from mnist_exp.core.output import quiet_stderr

# What each kind of part is called with, by the first part of its key; its `args` follow by name.
CALLED_WITH = {
    "augment": ("images", "random"),
    "callbacks": (),
    "data": (),
    "metrics": ("labels", "probabilities"),
    "model": ("images", "classes"),
    "optimizer": ("learning_rate",),
    "schedule": ("steps", "total"),
    "train": ("labels", "scores"),
}


def _build(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", text):
        raise PydanticCustomError("build", "a function or class as module:name")
    return text


Build = Annotated[str, AfterValidator(_build)]
Definition = ast.FunctionDef | ast.ClassDef


class Given(NamedTuple):
    """An object given from Python, as a part."""

    function: Callable[..., Any]
    digest: str


GIVEN: dict[str, Given] = {}  # of this process, by the key
OBJECT = "given"  # the module that they seem to be in
SCRIPT = "__main__"  # a notebook or a script: known in its own process only


class Arguments(dict[str, Any]):
    """The arguments of a part by name; hashable, as a frozen config is."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(repr(self))


Args = Annotated[dict[str, Any], AfterValidator(Arguments)]


class PythonPart(ConfigGroup):
    """A part given as `build: module:name`, with the arguments `args`."""

    build: Build
    args: Args = Arguments()


class Part(NamedTuple):
    """A part that a config names."""

    key: str  # such as model.build
    build: str  # module:name
    args: Mapping[str, Any] = {}

    def key_of(self, name: str) -> str:
        """The key beside that of the part: model.args."""
        return f"{self.key.removesuffix('.build')}.{name}"


def parts(values: Mapping[str, Any], prefix: str = "") -> Iterator[Part]:
    """The parts that the nested values of a config name."""
    if values.get("build"):
        yield Part(f"{prefix}build", values["build"], values.get("args", {}))
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from parts(value, f"{prefix}{key}.")
        elif key == "loss" and ":" in value:
            yield Part(f"{prefix}{key}", value, {})


def check_parts(config: ConfigGroup) -> None:
    """Raise `InputError` for a part that is not there, or takes other arguments.

    Its module is read, not imported: that may import TensorFlow.
    """
    for part in parts(config.model_dump()):
        module, _, name = part.build.partition(":")
        if module not in (SCRIPT, OBJECT):
            _check_definition(part, _file(part.build, part.key), name)


def load_part(part: Part) -> Callable[..., Any]:
    """The function or class, imported, and again if its file has changed since.

    Raises `InputError` when its module cannot be.
    """
    name, _, attribute = part.build.partition(":")
    if name == OBJECT and attribute in GIVEN:
        return GIVEN[attribute].function
    digest = source(part)
    try:
        with quiet_stderr():  # TensorFlow greets every import with a page of hints
            module = importlib.import_module(name)
            if _imported.setdefault(name, digest) != digest and name != SCRIPT:
                _imported[name] = digest
                module = importlib.reload(module)
    except Exception as error:  # whatever the user's own code raises
        raise _failed(part, "cannot be imported", error) from error
    function: Callable[..., Any] | None = getattr(module, attribute, None)
    if function is None:
        raise InputError(f"{part.key}: expected a function or class {attribute} in {name}")
    return function


_imported: dict[str, str] = {}  # the digest of a module's file when it was imported


def call_part(part: Part, *given: Any, kind: type | None = None) -> Any:
    """What the part returns for its arguments.

    Raises `InputError` for an error of its own, and for another kind of thing.
    """
    function = load_part(part)
    try:
        made = function(*given, **part.args)
    except Exception as error:
        raise _failed(part, "fails", error) from error
    if kind and not isinstance(made, kind):
        got = type(made).__name__
        raise InputError(f"{part.key}={part.build}: expected a {kind.__name__}, got {got}")
    return made


def digests(config: ConfigGroup) -> dict[str, str]:
    """The file of each part and the beginning of its SHA-256, by key; empty for one missing now."""
    found = {}
    for part in parts(config.model_dump()):
        try:
            found[part.key_of("source")] = source(part)
        except InputError:
            found[part.key_of("source")] = ""
    return found


def source(part: Part) -> str:
    """The file that the part is in, and the beginning of its SHA-256; raises `InputError`."""
    module, _, name = part.build.partition(":")
    if module == OBJECT and name in GIVEN:
        return f"{OBJECT} {GIVEN[name].digest}"
    if module == SCRIPT:
        text, place = inspect.getsource(getattr(sys.modules[SCRIPT], name)).encode(), SCRIPT
    else:
        text = _file(part.build, part.key).read_bytes()
        place = str(Path(*module.split(".")).with_suffix(".py"))
    return f"{place} {hashlib.sha256(text).hexdigest()[:12]}"


def _file(build: str, key: str) -> Path:
    """The source of the part's module; the current folder comes last among the places searched."""
    module, _, _ = build.partition(":")
    if module == OBJECT:
        raise InputError(
            f"{key}={build}: it was an object of another process; give it to run_experiment again"
        )
    if (folder := os.getcwd()) not in sys.path:
        sys.path.append(folder)
    try:
        spec = importlib.util.find_spec(module)  # imports the packages around it
    except ModuleNotFoundError:
        spec = None
    origin = (spec and spec.origin) or ""
    if not origin.endswith(".py") or not os.path.exists(origin):
        there = [".".join(file.with_suffix("").parts) for file in Path().glob("*/*.py")]
        hint = nearest(module, [*there, *(file.stem for file in Path().glob("*.py"))])
        raise InputError(
            f"{key}: no module {module}{hint}; it is looked for in {folder} and among the "
            "installed packages"
        )
    return Path(origin)


def _check_definition(part: Part, file: Path, name: str) -> None:
    """Raise `InputError` where the file's source shows that the part cannot be called."""
    try:
        tree = ast.parse(file.read_bytes(), str(file))
    except SyntaxError as error:
        place = f"{short_path(file)}, line {error.lineno}"
        raise InputError(f"{part.key}: {place}: {error.msg}; mend it") from error
    defined = {node.name: node for node in tree.body if isinstance(node, Definition)}
    if name in defined:
        _check_signature(part, defined[name], file)
    elif not any(name in ast.unparse(node) for node in tree.body):  # neither assigned nor imported
        there = ", ".join(defined) or "none"
        raise InputError(
            f"{part.key}: no function or class {name}{nearest(name, [*defined])} in "
            f"{short_path(file)}; there are {there}"
        )


def _check_signature(part: Part, definition: Definition, file: Path) -> None:
    given = CALLED_WITH[part.key.partition(".")[0]]
    function: Any = definition
    if isinstance(definition, ast.ClassDef):
        own = [node for node in definition.body if getattr(node, "name", "") == "__init__"]
        if not own:
            return
        function, given = own[0], ("self", *given[-1:])
    a = function.args
    positional = [each.arg for each in (*a.posonlyargs, *a.args)]
    named = [*positional[len(given) :], *(each.arg for each in a.kwonlyargs)]
    defaults = zip(a.kwonlyargs, a.kw_defaults, strict=True)
    optional = {*positional[len(positional) - len(a.defaults) :]}
    optional |= {each.arg for each, default in defaults if default is not None}
    args = part.key_of("args")
    place = f"{definition.name} in {short_path(file)}, line {definition.lineno}"
    if len(positional) < len(given) and not a.vararg:
        raise InputError(
            f"{part.key}: expected a function of ({', '.join(given)}, and its args by name), "
            f"got {place}, which takes ({', '.join(positional)})"
        )
    for name in part.args:
        if name not in named and not a.kwarg:
            raise InputError(
                f"{args}.{name}: no such argument of {place}{nearest(name, named)}; there are "
                f"{', '.join(named) or 'none'}"
            )
    for name in named:
        if name not in optional and name not in part.args:
            raise InputError(f"{args}.{name}: missing; {place} needs it")


def _failed(part: Part, what: str, error: Exception) -> InputError:
    """The error of a user's own code as a sentence: its last line, and the last place of theirs."""
    frames = traceback.extract_tb(error.__traceback__)
    module = importlib.util.find_spec(part.build.partition(":")[0])
    own = [frame for frame in frames if module and frame.filename == module.origin]
    place = f"{short_path(Path(own[-1].filename))}, line {own[-1].lineno}: " if own else ""
    reason = traceback.format_exception_only(error)[-1].strip()
    return InputError(f"{part.key}={part.build}: it {what} ({place}{reason})")
