"""The cases of a result as rows of numbers, for whoever computes with all of them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from implicit_cli import designs
from implicit_cli.errors import InputError, listing, nearest
from implicit_cli.result import Array
from implicit_cli.sample import Input, Sample
from implicit_cli.status import Status
from implicit_cli.store import layout
from implicit_cli.store.guard import opened
from implicit_cli.store.nodes import labels, members, place_of, text, texts

MOST_ENTRIES = 1000
"""Entries of outputs, and numbers that vary, that are looked at together."""
_ENTRY = re.compile(r"(?P<name>.*?)(?:\[(?P<place>.*)\])?", re.DOTALL)
_SLOPES = {
    "identity": lambda theta: np.ones_like(theta),
    "log": lambda theta: theta,
    "log10": lambda theta: theta * np.log(10.0),
    "logit": lambda theta: theta * (1.0 - theta),
    "softplus": lambda theta: -np.expm1(-theta),
}
"""dtheta/dlambda of each transform, as a function of theta."""
_BENDS = {
    "identity": lambda theta: np.zeros_like(theta),
    "log": lambda theta: theta,
    "log10": lambda theta: theta * np.log(10.0) ** 2,
    "logit": lambda theta: theta * (1.0 - theta) * (1.0 - 2.0 * theta),
    "softplus": lambda theta: -np.expm1(-theta) * np.exp(-theta),
}
"""d2theta/dlambda2 likewise."""


Read = Callable[[str], Array]


class _Varied(NamedTuple):
    """An input: its name, where its values are, the entries that it fills, and its law."""

    input: Input
    group: str
    name: str
    entries: tuple[int, ...]


def read_sample(path: Path, of: Sequence[str] = ()) -> Sample:
    """The cases of a result file. `of` are outputs or unknowns, whole or one entry, such as `x[3]`; left out, all numbers that are
    outputs, and all unknowns where there are no outputs.

    Raises InputError for a file that `read_summary` refuses, for names that it lacks, and for too many entries.
    """
    with opened(path) as file:
        resolved = json.loads(text(file[f"{layout.SPEC}/resolved"]))
        sweep = resolved.get("sweep") or {}
        ids = tuple(texts(file[layout.CASES]["id"]))
        status = file[layout.CASES]["status"][()]
        good = np.isin(status, [int(one) for one in Status if one.solved])
        varied = list(_varied(file, sweep))
        if len(varied) > MOST_ENTRIES:
            raise InputError(f"{path}: found {len(varied):,} numbers that vary, allowed: at most {MOST_ENTRIES:,}")
        theta = np.stack([_values(file, one) for one in varied], axis=1) if varied else np.zeros((len(ids), 0))
        places = list(_places(file, path, of))
        y, y_bound = (np.stack(parts, axis=1) for parts in zip(*[_output(file, *place) for place in places], strict=True))
        J, J_bound = (np.full((len(ids), len(places), len(varied)), np.nan) for _ in range(2))
        read = cache(lambda path: np.asarray(file[path][()], float))  # an array has many entries, each of which is looked at
        for k, (_, name, entry, _) in enumerate(places):
            for i, one in enumerate(varied):
                if one.group == layout.PARAMETERS:
                    J[:, k, i], J_bound[:, k, i] = _derivative(file, read, name, entry, one, theta[:, i])
        found = Sample(
            path=str(path),
            ids=ids,
            good=good,
            inputs=tuple(one.input for one in varied),
            theta=theta,
            outputs=tuple(label for *_, label in places),
            units=tuple(str(file[f"{group}/{layout.component(name)}"].attrs["units"]) for group, name, *_ in places),
            y=y,
            y_bound=y_bound,
            J=J,
            J_bound=J_bound,
            curvature=_curvature(file, places, varied, theta, J),
            design=str(sweep.get("design", "")),
            settings={name: int(sweep[name]) for name in ("samples", "second_order", "levels") if sweep.get(name) is not None},
            covariance=_covariance(sweep, len(varied)),
            branch="point" in file[layout.CASES],
        )
        seed = sweep.get("seed")
        return _in_order(found, int(resolved["seed"] if seed is None else seed))


def _varied(file: h5py.File, sweep: Mapping[str, Any]) -> Iterator[_Varied]:
    """What a sweep varies, number by number; without a sweep, all that there are derivatives by."""
    if not sweep:
        names = dict.fromkeys(theta for _, inner in members(file, layout.VALUES["jacobian"]) for theta, _ in members(inner))
        for name in names:
            node = file[f"{layout.PARAMETERS}/{layout.component(name)}"]
            for entry in range(int(np.prod(node.shape[1:], dtype=int))):
                yield _Varied(Input(f"{name}{place_of(node, entry)}", str(node.attrs["units"])), layout.PARAMETERS, name, (entry,))
        return
    for target, axis in sweep["over"].items():
        match = _ENTRY.fullmatch(target)
        assert match is not None
        name = match["name"]
        group = layout.PARAMETERS if name in dict(members(file, layout.PARAMETERS)) else layout.SWEPT
        node = file[f"{group}/{layout.component(name)}"]
        shape, unit = node.shape[1:], str(node.attrs.get("units", "1"))
        index = tuple(int(part) for part in (match["place"] or "").split(",") if part.strip())
        entries = [int(np.ravel_multi_index(index, shape))] if index else list(range(int(np.prod(shape, dtype=int))))
        kind = next(iter(axis)) if isinstance(axis, dict) else ""
        if kind in designs.LAWS:
            arguments = [np.broadcast_to(np.asarray(part, float), () if index else shape).ravel() for part in axis[kind]]
            for place, entry in enumerate(entries):
                law = kind, tuple(float(part[place]) for part in arguments)
                yield _Varied(Input(f"{name}{place_of(node, entry)}", unit, law), group, name, (entry,))
        elif len(entries) > 1 and _alike(node):
            yield _Varied(Input(name, unit), group, name, tuple(entries))
        else:
            for entry in entries:
                yield _Varied(Input(f"{name}{place_of(node, entry)}", unit), group, name, (entry,))


def _alike(node: h5py.Dataset) -> bool:
    """Whether one number fills the quantity, in every case."""
    rows = node[()].reshape(node.shape[0], -1)
    return bool((rows == rows[:, :1]).all())


def _values(file: h5py.File, one: _Varied) -> Array:
    node = file[f"{one.group}/{layout.component(one.name)}"]
    return np.asarray(node[()], float).reshape(node.shape[0], -1)[:, one.entries[0]]


def _places(file: h5py.File, path: Path, of: Sequence[str]) -> Iterator[tuple[str, str, int, str]]:
    """Group, name, entry and label of what is looked at."""
    groups = {name: group for group in (layout.SOLUTION, layout.OUTPUTS) for name, _ in members(file, group)}
    outputs = [name for name, _ in members(file, layout.OUTPUTS)]
    scalars = [name for name in outputs if file[f"{layout.OUTPUTS}/{layout.component(name)}"].ndim == 1]
    found: list[tuple[str, str, int, str]] = []
    for asked in of or scalars or outputs or [name for name, group in groups.items() if group == layout.SOLUTION]:
        match = _ENTRY.fullmatch(asked)
        assert match is not None
        name, place = (asked, None) if asked in groups else (match["name"], match["place"])
        if name not in groups:
            raise InputError(f"--of: found '{name}', allowed: {listing(groups)}{nearest(name, groups)}")
        node = file[f"{groups[name]}/{layout.component(name)}"]
        size = int(np.prod(node.shape[1:], dtype=int))
        if place is None and size > MOST_ENTRIES:
            raise InputError(
                f"{path}: found {size:,} entries of {name}, allowed: at most {MOST_ENTRIES:,}, or one: --of '{name}[0]'"
            )
        entries = range(size) if place is None else [_entry(node, name, place)]
        found += [(groups[name], name, entry, f"{name}{place_of(node, entry)}") for entry in entries]
    if len(found) > MOST_ENTRIES:
        raise InputError(f"{path}: found {len(found):,} entries of outputs, allowed: at most {MOST_ENTRIES:,}; fewer by --of")
    yield from found


def _entry(node: h5py.Dataset, name: str, place: str) -> int:
    """The entry of a quantity that is named by labels or by numbers."""
    parts, shape = [part.strip() for part in place.split(",")], node.shape[1:]
    if len(parts) != len(shape):
        raise InputError(f"--of: found '{name}[{place}]', allowed: {len(shape)} indices, for the shape {shape}")
    index = []
    for axis, part in enumerate(parts):
        known = labels(node, axis + 1)
        if part in known:
            index.append(known.index(part))
        elif part.isdecimal() and int(part) < shape[axis]:
            index.append(int(part))
        else:
            raise InputError(f"--of: found '{part}' in {name}[{place}], allowed: {listing(known[:12])}{nearest(part, known)}")
    return int(np.ravel_multi_index(index, shape))


def _output(file: h5py.File, group: str, name: str, entry: int, _: str) -> tuple[Array, Array]:
    """Values of an entry (cases,), and the bound of its quantity, which is one in the 2-norm."""
    node = file[f"{group}/{layout.component(name)}"]
    value = np.asarray(node[()], float).reshape(node.shape[0], -1)[:, entry]
    bound = file.get(layout.quantity_bound_path(group, name))
    return value, np.full(len(value), np.nan) if bound is None else np.asarray(bound["bound"][()], float)


def _derivative(file: h5py.File, read: Read, name: str, entry: int, one: _Varied, theta: Array) -> tuple[Array, Array]:
    """dy/dtheta of an entry (cases,), and its bound; NaN where there is none."""
    key = ("jacobian", "", name, one.name, "")
    path, cases, columns = layout.value_path(*key), len(theta), _size(file, one)
    if path not in file:
        return np.full(cases, np.nan), np.full(cases, np.nan)
    value = read(path).reshape(cases, -1, columns)[:, entry][:, one.entries].sum(axis=1)
    bound = read(f"{layout.bound_path(*key)}/bound").reshape(cases, columns)[:, one.entries].sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = np.abs(_SLOPES[_transform(file, one.name)](theta))
        value, bound = value / slope, bound / slope
    known = np.isfinite(value) & np.isfinite(bound)
    return np.where(known, value, np.nan), np.where(known, bound, np.nan)


def _transform(file: h5py.File, name: str) -> str:
    return str(file[f"{layout.PARAMETERS}/{layout.component(name)}"].attrs["transform"])


def _curvature(
    file: h5py.File, places: Sequence[tuple[str, str, int, str]], varied: Sequence[_Varied], theta: Array, J: Array
) -> Array | None:
    """d2y/dtheta2 (cases, m, n, n), NaN where there is none; None where there is none at all."""
    if "hessian" not in file:
        return None
    n = len(varied)
    H = np.full((len(theta), len(places), n, n), np.nan)
    for k, (_, name, _, _) in enumerate(places):
        for i, one in enumerate(varied):
            for j, other in enumerate(varied):
                path = layout.value_path("hessian", "", name, one.name, other.name)
                if path in file:
                    H[:, k, i, j] = H[:, k, j, i] = _second(file[path], file, one, other)
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = np.stack([_SLOPES[_transform(file, one.name)](theta[:, i]) for i, one in enumerate(varied)], axis=1)
        bend = np.stack([_BENDS[_transform(file, one.name)](theta[:, i]) for i, one in enumerate(varied)], axis=1)
        # y_lambda lambda = y_theta theta slope slope' + y_theta bend
        H = H - (J * bend[:, None])[..., None] * np.eye(n)
        return np.asarray(H / slope[:, None, :, None] / slope[:, None, None, :])


def _size(file: h5py.File, one: _Varied) -> int:
    """Entries of the parameter that an input is of."""
    return int(np.prod(file[f"{layout.PARAMETERS}/{layout.component(one.name)}"].shape[1:], dtype=int))


def _second(node: h5py.Dataset, file: h5py.File, first: _Varied, second: _Varied) -> Array:
    value = np.asarray(node[()], float).reshape(node.shape[0], _size(file, first), _size(file, second))
    return np.asarray(value[:, first.entries][:, :, second.entries].sum(axis=(1, 2)))


def _covariance(sweep: Mapping[str, Any], n: int) -> Array | None:
    given = sweep.get("covariance")
    if given is None:
        return None
    return np.asarray(given, float).reshape(n, n)


def _in_order(sample: Sample, seed: int) -> Sample:
    """The rows in the order of a design whose points come in blocks, and twice where it has a point twice."""
    if sample.design not in ("saltelli", "morris", "fast") or not all(one.law for one in sample.inputs):
        return sample
    axes = [designs.Distribution(one.name, one.law[0], tuple(map(np.asarray, one.law[1]))) for one in sample.inputs if one.law]
    points = designs.sampled(
        sample.design,
        axes,
        sample.settings["samples"],
        seed,
        second_order=bool(sample.settings.get("second_order")),
        levels=sample.settings.get("levels", 4),
    ).values
    where = {row.tobytes(): i for i, row in enumerate(sample.theta + 0.0)}
    found = [where.get(row.tobytes()) for row in points + 0.0]
    if None in found:
        missing = found.count(None)
        raise InputError(
            f"{sample.path}: {missing} of {len(points)} points of the design are not in it; allowed: all shards merged"
        )
    rows = np.array(found)
    parts = {name: getattr(sample, name)[rows] for name in ("good", "theta", "y", "y_bound", "J", "J_bound")}
    curvature = None if sample.curvature is None else sample.curvature[rows]
    return replace(sample, ids=tuple(sample.ids[i] for i in rows), curvature=curvature, **parts)
