"""From the file to what `implicit show` prints. Needs no JAX, and reads each large dataset once."""

from __future__ import annotations

import dataclasses
import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import h5py
import numpy as np

from implicit_cli.result import Array, CaseResult, Header
from implicit_cli.store import layout
from implicit_cli.store.guard import opened
from implicit_cli.store.nodes import labels, members, norm, outcome, scale, text, texts
from implicit_cli.store.products import WANTED, Wanted, read_products
from implicit_cli.store.stored import chosen
from implicit_cli.store.summary import (
    CaseSummary,
    ConstantSummary,
    LinearSummary,
    NullSpaceSummary,
    QuantitySummary,
    SolverSummary,
    Summary,
    UndeterminedSummary,
)
from implicit_cli.store.write import image_of

T = TypeVar("T")

_SOLVED = (layout.SOLUTION, layout.OUTPUTS)
_SMALL = 16
"""Arrays of up to so many entries are shown entry by entry."""


def read_summary(path: Path, wanted: Wanted = WANTED, *, case: str | None = None) -> Summary:
    """What a result file holds, case by case or of one `case`, with the `wanted` numbers of every product.

    Raises InputError (one line) for a file that is missing, not HDF5, not a result, of a newer format, incomplete or damaged, and
    for a case that it lacks; EnvironmentProblem where it may not be read.
    """
    with opened(path) as file:
        found = _summary(file, str(path), wanted)
    if case is None:
        return found
    ids = [one.id for one in found.cases]
    return dataclasses.replace(found, cases=(found.cases[ids.index(chosen(path, ids, case))],))


def summarise(header: Header, cases: Sequence[CaseResult]) -> Summary:
    """What the result file of these records would hold; nothing is written."""
    with h5py.File(io.BytesIO(bytes(image_of(header, cases))), "r") as file:
        return _summary(file, "", WANTED)


def _summary(file: h5py.File, path: str, wanted: Wanted) -> Summary:
    attributes = file.attrs
    return Summary(
        path=path,
        format_version=int(attributes["format_version"]),
        problem=attributes["problem"],
        summary=attributes["summary"],
        creator=f"{attributes['creator']} {attributes['creator_version']}",
        created=attributes["created"],
        provenance={name: text(node) for name, node in members(file, layout.PROVENANCE)},
        cases=_cases(file, wanted),
    )


def _cases(file: h5py.File, wanted: Wanted) -> tuple[CaseSummary, ...]:
    group = file[layout.CASES]
    outcomes = [outcome(group["status"], code) for code in group["status"][()]]
    seconds = {stage: node[()] for stage, node in members(file, layout.SECONDS)}
    count = len(outcomes)
    columns = zip(
        texts(group["id"]),
        texts(group["message"]),
        texts(file[layout.METHOD]) if layout.METHOD in file else ["implicit"] * count,
        _transposed([_quantity(name, node) for name, node in members(file, layout.PARAMETERS)], count),
        *(_transposed([_bounded(file, group, *member) for member in members(file, group)], count) for group in _SOLVED),
        _transposed(read_products(file, wanted), count),
        _transposed([_constant(file, name) for name in layout.CONSTANTS if f"{layout.CERTIFICATE}/{name}" in file], count),
        _solvers(file),
        _transposed([_linear(name, node) for name, node in members(file, layout.LINEAR)], count),
        _null_spaces(file, count),
        strict=True,
    )
    return tuple(
        CaseSummary(
            id=name,
            status=outcomes[case].label,
            good=outcomes[case].good,
            message=message or outcomes[case].text,
            method=method,
            seconds={stage: float(values[case]) for stage, values in seconds.items() if np.isfinite(values[case])},
            parameters=parameters,
            solution=solution,
            outputs=outputs,
            products=products,
            certificate=certificate,
            solver=solver,
            linear=tuple(row for row in linear if row.right_hand_sides),
            null_space=space,
        )
        for case, (name, message, method, parameters, solution, outputs, products, certificate, solver, linear, space) in enumerate(
            columns
        )
    )


# Quantities


def _bounded(file: h5py.File, group: str, name: str, node: h5py.Dataset) -> list[QuantitySummary]:
    """A quantity with its bound, which older files do not have."""
    rows, path = _quantity(name, node), f"{layout.quantity_bound_path(group, name)}/bound"
    if path not in file:
        return rows
    return [dataclasses.replace(row, bound=float(bound)) for row, bound in zip(rows, file[path][()], strict=True)]


def _quantity(name: str, node: h5py.Dataset) -> list[QuantitySummary]:
    rows = []
    for value in node[()]:
        finite = np.asarray(value)[np.isfinite(value)]
        rows.append(
            QuantitySummary(
                name=name,
                unit=node.attrs["units"],
                doc=node.attrs["long_name"],
                shape=node.shape[1:],
                value=np.asarray(value).tolist() if np.size(value) <= _SMALL else None,
                norm=norm(finite) if finite.size else np.nan,
                minimum=float(finite.min()) if finite.size else np.nan,
                maximum=float(finite.max()) if finite.size else np.nan,
            )
        )
    return rows


# Certificate and diagnostics


def _constant(file: h5py.File, name: str) -> list[ConstantSummary]:
    node = file[f"{layout.CERTIFICATE}/{name}"]
    sources = texts(file[f"{layout.CERTIFICATE_PROVENANCE}/{name}"])
    unit, meaning = node.attrs["units"], node.attrs["long_name"]
    return [ConstantSummary(name, float(value), unit, source, meaning) for value, source in zip(node[()], sources, strict=True)]


def _solvers(file: h5py.File) -> list[SolverSummary]:
    group = file[layout.SOLVER]
    outcomes = [outcome(group["status"], code) for code in group["status"][()]]
    numbers = zip(*(group[name][()].tolist() for name in ("steps", "polish_steps", "tol", "residual")), strict=True)
    return [
        SolverSummary(name, status.label, status.good, *row)
        for name, status, row in zip(texts(group["name"]), outcomes, numbers, strict=True)
    ]


def _linear(direction: str, group: h5py.Group) -> list[LinearSummary]:
    rows = []
    arrays = (group[name][()] for name in ("status", "residual", "steps"))
    for method, codes, residuals, steps in zip(texts(group["method"]), *arrays, strict=True):
        there = codes != layout.ABSENT
        counts = Counter(outcome(group["status"], code).label for code in codes[there])
        worst = float(residuals[there].max(initial=0.0))
        rows.append(LinearSummary(direction, method, int(there.sum()), dict(counts), worst, int(steps[there].max(initial=0))))
    return rows


def _null_spaces(file: h5py.File, count: int) -> list[NullSpaceSummary]:
    group = file[layout.NULL_SPACE]
    gauges: list[tuple[str, ...]] = [()] * count
    if "gauges" in group:
        names = labels(group["gauges"], 1)
        gauges = [tuple(name for name, flag in zip(names, flags, strict=True) if flag) for flags in group["gauges"][()]]
    undetermined: list[list[UndeterminedSummary]] = [[] for _ in range(count)]
    for reason, unknowns in members(file, layout.UNDETERMINED):
        for unknown, node in members(unknowns):
            for found, mask in zip(undetermined, node[()].astype(bool), strict=True):
                if mask.any():
                    found.append(_undetermined(reason, unknown, node, mask))
    return [
        NullSpaceSummary(int(dimension), names, tuple(found))
        for dimension, names, found in zip(group["dimension"][()], gauges, undetermined, strict=True)
    ]


def _undetermined(reason: str, unknown: str, node: h5py.Dataset, mask: Array) -> UndeterminedSummary:
    rows = mask.reshape(len(mask), -1) if mask.ndim else mask.reshape(1, 1)
    indices = np.flatnonzero(rows.any(axis=1))
    return UndeterminedSummary(
        reason=reason,
        unknown=unknown,
        count=int(mask.sum()),
        size=mask.size,
        axis=str(scale(node, 1).attrs["long_name"]) if mask.ndim else "",
        indices=tuple(int(index) for index in indices) if mask.ndim else (),
        whole=bool(rows[indices].all()),
    )


def _transposed(rows: list[list[T]], count: int) -> list[tuple[T, ...]]:
    """Per case what came per quantity."""
    return [tuple(row[case] for row in rows) for case in range(count)]
