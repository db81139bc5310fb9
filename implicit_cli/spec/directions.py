"""Directions and cotangents as the command line gives them, and the spec of a case that is solved already."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from implicit_cli.errors import InputError
from implicit_cli.spec import reference
from implicit_cli.spec.compose import parse
from implicit_cli.spec.grammar import split_reference
from implicit_cli.spec.load import LoadedSpec, _messages
from implicit_cli.spec.model import RunSpec
from implicit_cli.spec.source import Tree, read_text
from implicit_cli.spec.words import Keys, found, shown

NAMES = {"jvp": "direction", "vjp": "cotangent"}
"""The option that gives a direction of each kind; it also names one that has no name."""


class Part(NamedTuple):
    """One quantity of a direction: its value as in a spec, and the prefix of messages about it."""

    value: Any
    place: str


Directions = dict[str, dict[str, Part]]


def read_directions(kind: str, given: Sequence[str]) -> Directions:
    """Parts by direction and quantity. Each text is one of

        QUANTITY=VALUE, NAME:QUANTITY=VALUE     a part of a direction; the value is that of a spec
        file.yaml                               {NAME: {QUANTITY: VALUE}}, as in a spec
        file.h5:/path                           a group with one dataset for each quantity; its name is the direction's

    References are relative to the working folder, those in a YAML file to that file. Raises InputError, with the option in front.
    """
    option, directions = f"--{NAMES[kind]}", Directions()
    for text in given:
        for name, quantity, part in _parts(kind, option, text):
            parts = directions.setdefault(name, {})
            if quantity in parts:
                raise InputError(f"{part.place}: found twice{'' if name == NAMES[kind] else f' in {found(name)}'}")
            parts[quantity] = part
    if not directions:
        raise InputError(f"{option}: missing, allowed: QUANTITY=VALUE, once or more often")
    return directions


def _parts(kind: str, option: str, text: str) -> Iterable[tuple[str, str, Part]]:
    left, equals, right = text.partition("=")
    if equals and left.strip():
        name, _, quantity = (word.strip() for word in left.rpartition(":"))
        place = f"{option} {shown(left.strip())}"
        value = parse(right, place, place=lambda _: place).value if right.strip() else None
        return [(name or NAMES[kind], quantity, Part(value, place))]
    inside = split_reference(text)
    if inside is not None:
        file, path = inside
        names = reference.datasets_in(Path(file), file, path, place=option)
        name = path.rstrip("/").rpartition("/")[2] or Path(file).stem
        return [(name, inner, Part(f"{file}:{path.rstrip('/')}/{inner}", f"{option} {shown(text)}")) for inner in names]
    if Path(text).suffix in (".yaml", ".yml", ".json"):
        return _from_yaml(option, text)
    hint = f"; did you mean '{shown(text)}=1.0'?" if text.isidentifier() else ""
    allowed = "QUANTITY=VALUE, NAME:QUANTITY=VALUE, 'file.yaml' or 'file.h5:/group'"
    raise InputError(f"{option}: found '{shown(text)}', allowed: {allowed}{hint}")


def _from_yaml(option: str, path: str) -> list[tuple[str, str, Part]]:
    name, text = read_text(path)
    tree = parse(text, name)
    if not isinstance(tree.value, dict) or not all(isinstance(parts, dict) and parts for parts in tree.value.values()):
        raise InputError(f"{option}: {name}: found another structure, allowed: {{NAME: {{QUANTITY: VALUE}}}}")
    folder = os.path.dirname(path)
    return [
        (direction, quantity, Part(_moved(value, folder), tree.at((direction, quantity))))
        for direction, parts in tree.value.items()
        for quantity, value in parts.items()
    ]


def _moved(value: Any, folder: str) -> Any:
    """A value whose reference is relative to `folder`, relative to the working folder."""
    if isinstance(value, Mapping):
        return {key: _moved(inner, folder) if key == "value" else inner for key, inner in value.items()}
    return os.path.join(folder, value) if isinstance(value, str) and split_reference(value) else value


class _Labelled(Tree):
    """A tree whose values are called by their labels alone."""

    def at(self, keys: Keys, *, of_key: bool = False) -> str:
        return str(self.origin(keys, of_key=of_key))


def stored_spec(
    text: str,
    resolved: str,
    place: str,
    given: Mapping[str, Iterable[str]],
    sensitivity: Mapping[str, Any],
    kind: str,
    directions: Directions,
) -> LoadedSpec:
    """The spec of a solved case with other products: its resolved JSON, where the sections in `given` have these names.

    Their values are not in the spec but at hand; `engine.bind` takes them. `place` is what messages about the rest start with.
    """
    settings = json.loads(resolved)
    for section, names in given.items():
        settings[section] = {name: ["at hand"] if section == "labels" else 0.0 for name in names}
    products = [{kind: {name: {quantity: part.value for quantity, part in parts.items()}}} for name, parts in directions.items()]
    settings["sensitivity"] = {**settings["sensitivity"], **sensitivity, "products": products}
    tree = _Labelled(place, settings, {(): place})
    for index, (name, parts) in enumerate(directions.items()):
        for quantity, part in parts.items():
            tree.values["sensitivity", "products", index, kind, name, quantity] = part.place
    for key in sensitivity:
        tree.values["sensitivity", key] = f"--{key}"
    try:
        model = RunSpec.model_validate(settings)
    except ValidationError as error:
        raise InputError(_messages(tree, error)) from None
    return LoadedSpec(model, text, None, Path.cwd(), _tree=tree, _product_rows=tuple(range(len(products))))
