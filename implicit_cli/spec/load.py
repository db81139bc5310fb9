"""From a file to a checked spec: text, overrides, models; every fault with its place, all of them together."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from implicit_cli.errors import InputError, listing, nearest
from implicit_cli.spec import grammar
from implicit_cli.spec.compose import parse
from implicit_cli.spec.model import RunSpec
from implicit_cli.spec.overrides import OVERRIDE, apply
from implicit_cli.spec.source import STDIN, Mark, Tree, read_text, shown_path
from implicit_cli.spec.words import Keys, dotted, found, meant_number, some

_PRODUCTS = ("sensitivity", "products")


@dataclass(frozen=True)
class LoadedSpec:
    """A spec that holds together in itself; whether its problem knows the names in it is not yet known.

    `text` is the spec as given, `overrides` what `--set` changed in it, `path` None for standard input, and `folder` where relative
    paths start: the spec's folder, or the working folder for standard input. Files outside of it are read below `allow_paths` only.
    """

    model: RunSpec
    text: str
    path: Path | None
    folder: Path
    overrides: tuple[str, ...] = ()
    allow_paths: tuple[Path, ...] = ()
    _tree: Tree = field(repr=False, kw_only=True)
    _product_rows: tuple[int, ...] = field(repr=False, kw_only=True)
    _kept: dict[Keys, Any] = field(default_factory=dict, repr=False, compare=False, kw_only=True)

    def keep(self, keys: Keys, value: Any) -> None:
        """Keep what was read for these keys, before the problem and JAX are imported, until somebody takes it."""
        self._kept[keys] = value

    def take(self, keys: Keys) -> Any:
        """What was kept for these keys, once; None where nothing was."""
        return self._kept.pop(keys, None)

    def file(self, keys: Keys, name: str) -> Path:
        """The file that the value at `keys` calls `name`; raises InputError where the spec has no right to it.

        A spec can come from anybody: it names what is below its folder, or below `allow_paths`, links followed. A name from
        `--set` is the user's own.
        """
        path = self.folder / name
        origin = self._tree.origin(keys)
        if isinstance(origin, str) and origin.startswith(OVERRIDE):
            return path
        try:
            real = path.resolve()
        except (OSError, RuntimeError, ValueError):
            return path  # a loop of links, or no name of a file: whoever opens it says so
        if any(real.is_relative_to(root.resolve()) for root in (self.folder, *self.allow_paths)):
            return path
        raise InputError(
            f"{self.at(*keys)}: found '{shown_path(name)}', which is outside of the spec's folder, allowed: files below it, "
            "and below each --allow-path FOLDER"
        )

    def at(self, *keys: str | int) -> str:
        """Prefix of a message about `keys` of the model: `ridge.yaml:7:14: parameters.l2`, or `--set parameters.l2`.

        Where the spec has no such key, the place is that of the nearest value around it.
        """
        if keys[:2] == _PRODUCTS and len(keys) > 2 and isinstance(keys[2], int) and keys[2] < len(self._product_rows):
            # One entry of the text can hold several directions, each an entry of the model.
            keys = (*_PRODUCTS, self._product_rows[keys[2]], *keys[3:])
        return self._tree.at(keys)


def load_spec(path: str | Path, overrides: Sequence[str] = (), allow_paths: Sequence[Path] = ()) -> LoadedSpec:
    """Read, parse, override and check the spec at `path` (`-`: standard input). Nothing but the spec itself is read.

    What is below `allow_paths` may be read for it later, too.
    Raises InputError with one line per fault, EnvironmentProblem where the system does not let us read the file.
    """
    name, text = read_text(path)
    for folder in allow_paths:
        if not folder.is_dir():
            raise InputError(f"--allow-path: no folder '{shown_path(folder)}'")
    return replace(spec_of(text, name, None if str(path) == STDIN else Path(path), overrides), allow_paths=tuple(allow_paths))


def spec_of(text: str, name: str, path: Path | None = None, overrides: Sequence[str] = ()) -> LoadedSpec:
    """The same of a text at hand, called `name` in messages; relative paths start at its file's folder, or the working folder."""
    tree = parse(text, name)
    apply(tree, overrides)
    if not isinstance(tree.value, dict):
        raise InputError(f"{tree.at(())}: found {found(tree.value)}, allowed: a mapping, which starts with 'problem: NAME'")
    try:
        model = RunSpec.model_validate(tree.value)
    except ValidationError as error:
        raise InputError(_messages(tree, error)) from None
    folder = path.absolute().parent if path else Path.cwd()
    given = tree.value.get("sensitivity", {}).get("products", ("jacobian",))
    return LoadedSpec(model, text, path, folder, tuple(overrides), _tree=tree, _product_rows=grammar.product_rows(given))


def _messages(tree: Tree, error: ValidationError) -> list[str]:
    """One line per fault, in the order of the text; those of overrides come last."""
    lines: list[tuple[tuple[int, int, int], str]] = []
    for fault in error.errors(include_url=False):
        for keys, text, of_key in _faults(fault):
            origin = tree.origin(keys, of_key=of_key)
            order = (0, *origin) if isinstance(origin, Mark) else (1, 0, 0)
            lines.append((order, f"{tree.at(keys, of_key=of_key)}: {text}"))
    lines.sort(key=lambda line: line[0])
    return some(tree.name, [message for _, message in lines])


def _faults(fault: Mapping[str, Any]) -> list[tuple[Keys, str, bool]]:
    """Path, text, and whether the key itself is meant, of each fault in one of pydantic's errors."""
    keys: Keys = tuple(fault["loc"])
    if fault["type"] == grammar.FAULTS:
        return [((*keys, *inner), text, text.startswith("unknown key")) for inner, text in fault["ctx"]["faults"]]
    if fault["type"] == "missing":
        wanted = _fields(_model(keys[:-1]))[str(keys[-1])]
        return [(keys, f"missing, allowed: {wanted.description}", False)]
    if fault["type"] == "extra_forbidden":
        return [(keys, _unknown_key(keys), True)]
    return [(keys, f"found {found(fault['input'])}, allowed: {_allowed(keys, fault)}", False)]


def _unknown_key(keys: Keys) -> str:
    name, known = str(keys[-1]), list(_fields(_model(keys[:-1])))
    hint = nearest(name, known)
    if not hint:
        owners = [dotted(path) or "the top level" for path, model in _MODELS.items() if name in _fields(model)]
        hint = f"; it belongs under {' or '.join(owners)}" if owners else ""
    return f"unknown key, allowed: {listing(known)}{hint}"


def _allowed(keys: Keys, fault: Mapping[str, Any]) -> str:
    given, limits = fault["input"], fault.get("ctx", {})
    match fault["type"]:
        case "bool_type":
            meant = {"yes": "true", "on": "true", "no": "false", "off": "false"}.get(str(given).lower())
            return "true or false" + (f"; did you mean {meant}?" if meant else nearest(str(given), ["true", "false"]))
        case "int_type":
            whole = isinstance(given, float) and given.is_integer()
            return "an integer" + (f"; did you mean {int(given)}?" if whole else meant_number(given, int))
        case "float_type":
            return "a number" + meant_number(given)
        case "finite_number":
            return "a finite number"
        case "greater_than":
            return f"above {limits['gt']:g}"
        case "greater_than_equal":
            return f"at least {limits['ge']:g}"
        case "less_than":
            return f"below {limits['lt']:g}"
        case "less_than_equal":
            return f"at most {limits['le']:g}"
        case "string_type":
            return "a text"
        case "string_too_short":
            return "a text that is not empty"
        case "literal_error":
            names = re.findall(r"'([^']*)'", limits["expected"])
            return listing(names) + (nearest(given, names) if isinstance(given, str) else "")
        case "model_type":
            return f"a mapping with the keys {listing(_fields(_model(keys)))}"
        case "dict_type":
            return "a mapping of names to values"
        case other:
            raise AssertionError(f"no words for pydantic's {other}")


def _fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """The fields of a model by the keys of a spec: `continue` cannot be a name in Python."""
    return {info.alias or name: info for name, info in model.model_fields.items()}


def _nested(model: type[BaseModel], path: Keys = ()) -> dict[Keys, type[BaseModel]]:
    """Each model of the spec by the path where it stands."""
    models: dict[Keys, type[BaseModel]] = {path: model}
    for name, info in model.model_fields.items():
        for kind in (info.annotation, *get_args(info.annotation)):  # the kind itself, and what may be left out: X | None
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                models |= _nested(kind, (*path, name))
    return models


_MODELS = _nested(RunSpec)


def _model(keys: Keys) -> type[BaseModel]:
    return _MODELS[keys]
