"""From a problem's name to its class: entry points of the group `implicit_cli.problems`, or a file named in the spec.

Listing imports nothing; loading imports the named problem only. A file is code, so it is imported only where the user allowed it.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.abc
import importlib.util
import inspect
import shlex
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, TypeGuard

from implicit_cli.errors import InputError, PluginError, listing, nearest
from implicit_cli.problem import Bounds, Data, Option, Output, Parameter, Problem, Quantity, Shape, Unknown

GROUP = "implicit_cli.problems"


@dataclass(frozen=True)
class ProblemEntry:
    """An installed problem: its name, `module:Class`, the distribution that brings it, and the first line of its docstring."""

    name: str
    target: str
    distribution: str
    summary: str


@dataclass(frozen=True)
class QuantityRow:
    """One declaration of a problem. `kind` is parameter, data, unknown, output or option; `choices` are an option's."""

    kind: str
    name: str
    shape: Shape
    unit: str
    bounds: Bounds
    default: Any
    doc: str
    choices: tuple[Any, ...] | None = None


@dataclass(frozen=True)
class ProblemDescription:
    """All that a problem declares: its docstring, its quantities and options, and its example spec (empty where it has none)."""

    name: str
    doc: str
    quantities: tuple[QuantityRow, ...]
    example: str


def installed() -> tuple[ProblemEntry, ...]:
    """All installed problems by name, read without importing any; the summary of a broken one says what is wrong with it."""
    entries = [ProblemEntry(point.name, point.value, _distribution(point), _summary(point)) for point in entry_points(group=GROUP)]
    return tuple(sorted(entries, key=lambda entry: (entry.name, entry.distribution)))


def load(name: str, *, base: Path, allow_plugin: bool = False, plugins: Sequence[Path] = ()) -> type[Problem]:
    """The class behind `name`: an installed problem, or `./file.py:Class` relative to the folder `base`.

    `:Class` may be left out where the file defines one problem. A file is imported only with `allow_plugin`, or where it is one of
    `plugins`. Raises InputError for a problem that is unknown or not allowed, PluginError for one that does not work.
    """
    for plugin in plugins:
        if not plugin.is_file():
            raise InputError(f"--plugin: no file '{plugin}'")
    path, class_name = _split(name)
    if path is None:
        return _load_installed(name)
    file = (base / path).resolve()
    if not file.is_file():
        neighbours = [neighbour.name for neighbour in file.parent.glob("*.py")] if file.parent.is_dir() else []
        raise InputError(f"no file '{file}' for the problem '{name}'{nearest(file.name, neighbours)}")
    if not allow_plugin and file not in [plugin.resolve() for plugin in plugins]:
        # As it is called from here, for --plugin is relative to the current folder and the spec may lie in another.
        here = Path.cwd()
        called = shlex.quote(str(file.relative_to(here) if here in file.parents else file))
        raise InputError(
            f"the problem '{name}' is a file, and importing it runs its code: read it, then allow it with "
            f"--plugin {called} (this file only) or --allow-plugin (any file that the spec names)"
        )
    return _load_file(file, class_name)


def describe(name: str, cls: type[Problem]) -> ProblemDescription:
    """What the problem declares that was loaded under `name`."""
    rows = [_row(kind, quantity) for kind in (Parameter, Data, Unknown, Output) for quantity in cls.declared(kind).values()]
    rows += [
        QuantityRow("option", option.name, (), "1", (option.minimum, None), option.default, option.doc, option.choices)
        for option in cls.declared(Option).values()
    ]
    # vars(), not __doc__: a subclass without a docstring must not show another class's.
    doc = vars(cls).get("__doc__") or ""
    return ProblemDescription(name, _clean(doc), tuple(rows), _clean(cls.example))


def _row(kind: type[Quantity], quantity: Quantity) -> QuantityRow:
    default = {Parameter: "default", Unknown: "initial"}.get(kind)
    value = getattr(quantity, default) if default else None
    return QuantityRow(kind.__name__.lower(), quantity.name, quantity.shape, quantity.unit, quantity.bounds, value, quantity.doc)


def _clean(text: str) -> str:
    return inspect.cleandoc(text).strip()


# Installed problems.


def _distribution(point: EntryPoint) -> str:
    return str(point.dist.name) if point.dist is not None else "unknown"


def _target(point: EntryPoint) -> tuple[str, str]:
    """Module and class; `EntryPoint.load` would go on to import them, and `EntryPoint.module` fails on a malformed one."""
    module, _, attribute = point.value.partition("[")[0].strip().partition(":")
    return module.strip(), attribute.strip()


def _load_installed(name: str) -> type[Problem]:
    points = list(entry_points(group=GROUP, name=name))
    if not points:
        names = {point.name for point in entry_points(group=GROUP)}
        raise InputError(
            f"no problem '{name}' is installed, allowed: {listing(names)} or a file './file.py:Class'{nearest(name, names)}"
        )
    if len(points) > 1:
        owners = " and ".join(sorted(f"{_distribution(point)} ({point.value})" for point in points))
        raise PluginError(f"the problem '{name}' is offered twice, by {owners}: uninstall one")
    point = points[0]
    module_name, class_name = _target(point)
    place = f"problem '{name}' of {_distribution(point)}"
    spec = _find(module_name)
    if spec is None or spec.origin is None:
        raise PluginError(f"{place}: no module '{module_name}' for {point.value}")
    if not class_name:
        raise PluginError(f"{place}: the entry point '{point.value}' names no class, allowed: 'module:Class'")
    top = _find(module_name.partition(".")[0])
    inside = [spec.origin, *((top.submodule_search_locations or ()) if top else ())]
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        raise PluginError(f"{place}: {spec.origin} cannot be imported: {_cause(error, inside)}") from error
    return _problem(module, class_name, f"{place}: {spec.origin}")


def _find(module: str) -> ModuleSpec | None:
    """Where a module is, without importing its parents, as `importlib.util.find_spec` would."""
    path: Sequence[str] | None = None
    spec: ModuleSpec | None = None
    parts = module.split(".")
    for depth in range(len(parts)):
        name = ".".join(parts[: depth + 1])
        found = (finder.find_spec(name, path) for finder in sys.meta_path if hasattr(finder, "find_spec"))
        spec = next((candidate for candidate in found if candidate is not None), None)
        if spec is None:
            return None
        path = spec.submodule_search_locations or []
    return spec


def _summary(point: EntryPoint) -> str:
    """First line of the class's docstring, from the module's source."""
    module_name, class_name = _target(point)
    try:
        spec = _find(module_name)
        if spec is None or not isinstance(spec.loader, importlib.abc.InspectLoader):
            return f"broken: no module '{module_name}'"
        source = spec.loader.get_source(module_name)
        if source is None:  # a compiled module: nothing to read, nothing wrong
            return ""
        tree = ast.parse(source)
    except SyntaxError as error:
        return f"broken: syntax error in line {error.lineno} of {module_name}"
    except (ImportError, OSError, ValueError) as error:
        return f"broken: {_one_line(error)}"
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and node.name == class_name:
            return (ast.get_docstring(node) or "").partition("\n")[0].strip()
    if class_name in _bound_names(tree):
        return ""
    return f"broken: no class '{class_name}' in {module_name}"


def _bound_names(tree: ast.Module) -> set[str]:
    """Names that a module takes from elsewhere or assigns; its docstring is then out of sight."""
    names = {alias.asname or alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
    return names | {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}


# Files.


def _split(name: str) -> tuple[str | None, str | None]:
    """`("./file.py", "Class")` for a file, `(None, None)` for an installed name."""
    path, colon, class_name = name.rpartition(":")
    if not colon or not path.endswith(".py"):
        path, class_name = name, ""
    if not path.endswith(".py"):
        return None, None
    return path, class_name or None


class _FileLoader(importlib.abc.SourceLoader):
    """Loads what was hashed, and leaves no `__pycache__` beside the user's file."""

    def __init__(self, path: str, content: bytes) -> None:
        self.path, self.content = path, content

    def get_filename(self, fullname: str) -> str:
        return self.path

    def get_data(self, path: str) -> bytes:
        # The base class asks for bytecode by the same way; there is none.
        if path != self.path:
            raise OSError(path)
        return self.content


def _load_file(file: Path, class_name: str | None) -> type[Problem]:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise PluginError(f"{file}: {error.strerror}") from error
    # The name depends on path and content: two files never share a module, and an edited file is a new one.
    name = "implicit_plugin_" + hashlib.sha256(b"\0".join((str(file).encode(), content))).hexdigest()[:16]
    module = sys.modules.get(name)
    if module is None:
        loader = _FileLoader(str(file), content)
        spec = importlib.util.spec_from_file_location(name, file, loader=loader)
        assert spec is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            loader.exec_module(module)
        except BaseException as error:
            del sys.modules[name]
            if isinstance(error, Exception | SystemExit):
                raise PluginError(f"{file} cannot be imported: {_cause(error, [str(file)])}") from error
            raise
    return _problem(module, class_name, str(file))


def _problem(module: ModuleType, class_name: str | None, place: str) -> type[Problem]:
    """The problem class of that name in a module, or the only one that the module defines."""
    own = {key: value for key, value in vars(module).items() if _is_problem(value) and value.__module__ == module.__name__}
    if class_name is None:
        if len(own) != 1:
            raise PluginError(f"{place} defines {listing(own)}, needed: one problem class, or its name as in './file.py:Class'")
        return next(iter(own.values()))
    value: Any = module
    for part in class_name.split("."):
        value = getattr(value, part, None)
    if value is None:
        raise PluginError(f"{place} has no class '{class_name}', allowed: {listing(own)}{nearest(class_name, own)}")
    if not _is_problem(value):
        raise PluginError(f"{place}: '{class_name}' is {_kind(value)}, needed: a subclass of implicit_cli.problem.Problem")
    return value


def _is_problem(value: Any) -> TypeGuard[type[Problem]]:
    return isinstance(value, type) and issubclass(value, Problem) and value is not Problem


def _kind(value: Any) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else f"an object of type {type(value).__name__}"


# Faults inside a plug-in.


def _cause(error: BaseException, inside: Sequence[str]) -> str:
    """Type, message and place of an exception: the innermost frame whose file is one of `inside` or lies in such a folder."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{type(error).__name__}: {error.msg} ({error.filename}:{error.lineno})"
    roots = [Path(root) for root in inside]
    frames = [(Path(frame.filename), frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    places = [f"{path}:{line}" for path, line in frames if any(path == root or root in path.parents for root in roots)]
    return _one_line(error) + (f" ({places[-1]})" if places else "")


def _one_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split()).rstrip(": ")
