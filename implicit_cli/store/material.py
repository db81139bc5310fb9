"""What figures and pages need of a result file besides its sample: certificates by product, residuals, the outer loop, verdicts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from implicit_cli.result import Array
from implicit_cli.store import layout
from implicit_cli.store.guard import opened
from implicit_cli.store.nodes import members, outcome, text, texts
from implicit_cli.store.products import _frame, _keys


@dataclass(frozen=True)
class ProductParts:
    """A product of one case: the 2-norm of its least sure column, the bound of that and its three parts, and the bound's kind."""

    label: str
    size: float
    bound: float
    parts: tuple[float, float, float]
    kind: str


@dataclass(frozen=True)
class Search:
    """The way of an outer loop, evaluation by evaluation."""

    steps: Array
    objective: Array
    gradient: Array
    validation: Array
    result: int
    reason: str


@dataclass(frozen=True)
class Checked:
    """What `implicit verify` found of each product and case: distance from the witness, its error, and the stored bound."""

    observed: Array
    witness: Array
    bound: Array
    verdicts: Mapping[str, int]


@dataclass(frozen=True)
class Material:
    """A result file, as pages show it. `failed` are id, status, message and remedy of the first cases that are not good,
    `basins` go by id.
    """

    path: str
    problem: str
    summary: str
    created: str
    creator: str
    statuses: Mapping[str, int]
    failed: tuple[tuple[str, str, str, str], ...]
    failures: int
    basins: Mapping[str, str]
    residual: Array
    tol: float
    linear: Mapping[str, Array]
    products: tuple[ProductParts, ...]
    search: Search | None
    checked: Checked | None
    provenance: Mapping[str, str]
    spec: str
    jacobians: Mapping[tuple[str, str], Array] = field(default_factory=dict)


MOST_FAILED = 100
LARGEST = 4_000_000
"""Entries of a Jacobian that is drawn."""


def read_material(path: Path, case: int = 0) -> Material:
    """All of that, products and Jacobians of the case in row `case`. Raises as `read_summary` does."""
    with opened(path) as file:
        group, attributes = file[layout.CASES], file.attrs
        codes = group["status"][()]
        known = {int(code): outcome(group["status"], code) for code in np.unique(codes)}
        ids, messages = texts(group["id"]), texts(group["message"])
        bad = [row for row, code in enumerate(codes) if not known[int(code)].good]
        statuses = {one.label: int(np.sum(codes == code)) for code, one in known.items()}
        products, jacobians = [], {}
        for key in _keys(file):
            node, bounds = file[layout.value_path(*key)], file[layout.bound_path(*key)]
            frame = _frame(file, key)
            value, bound = np.asarray(node[case], float), np.ravel(np.asarray(bounds["bound"][case], float))
            matrix = value.reshape(bound.size, -1).T if frame.many else value.reshape(-1, bound.size)
            sizes = np.sqrt(np.nansum(matrix**2, axis=0))
            if not np.isfinite(bound).any():
                continue
            worst = int(np.nanargmax(bound))
            truncation, linear, rounding = (
                float(np.ravel(bounds[part][case])[worst]) for part in ("truncation", "linear", "rounding")
            )
            label = f"{frame.of} by {frame.wrt}" if frame.wrt else f"{key[1]}: {frame.of}"
            products.append(
                ProductParts(
                    label, float(sizes[worst]), float(bound[worst]), (truncation, linear, rounding), texts(bounds["kind"])[case]
                )
            )
            if key[0] == "jacobian" and min(matrix.shape) > 1 and matrix.size <= LARGEST:
                jacobians[key[2], frame.wrt] = matrix
        residual = file[f"{layout.CONVERGENCE}/residual"][()] if layout.CONVERGENCE in file else np.zeros((0, 0))
        return Material(
            path=str(path),
            problem=str(attributes["problem"]),
            summary=str(attributes["summary"]),
            created=str(attributes["created"]),
            creator=f"{attributes['creator']} {attributes['creator_version']}",
            statuses=statuses,
            failed=tuple(
                (ids[row], known[int(codes[row])].label, messages[row], known[int(codes[row])].text) for row in bad[:MOST_FAILED]
            ),
            failures=len(bad),
            basins=dict(zip(ids, texts(group["basin"]), strict=True)) if "basin" in group else {},
            residual=np.asarray(residual, float),
            tol=float(np.nanmax(file[layout.SOLVER]["tol"][()])),
            linear={name: np.ravel(node["residual"][()]) for name, node in members(file, layout.LINEAR)},
            products=tuple(products),
            search=_search(file),
            checked=_checked(file),
            provenance={name: text(node) for name, node in members(file, layout.PROVENANCE)},
            spec=text(file[f"{layout.SPEC}/text"]),
            jacobians=jacobians,
        )


def _search(file: Any) -> Search | None:
    if layout.OUTER not in file:
        return None
    outer = file[layout.OUTER]
    steps, objective, gradient, validation = (outer[name][()] for name in ("steps", "objective", "gradient_norm", "validation"))
    return Search(steps, objective, gradient, validation, int(outer["result"][()]), text(outer["reason"]))


def _checked(file: Any) -> Checked | None:
    if layout.VERIFY not in file:
        return None
    found: dict[str, list[Array]] = {"observed": [], "witness": [], "bound": []}

    def look(name: str, node: Any) -> None:
        if name.endswith("/observed"):
            for part in found:
                found[part].append(np.ravel(file[f"{layout.VERIFY}/{name.removesuffix('observed')}{part}"][()]))

    file[layout.VERIFY].visititems(look)
    verdict = file[f"{layout.VERIFY}/verdict"]
    names = dict(zip(verdict.attrs["flag_values"].tolist(), verdict.attrs["flag_meanings"].split(), strict=True))
    codes, counts = np.unique(verdict[()], return_counts=True)
    joined = {part: np.concatenate(values) if values else np.zeros(0) for part, values in found.items()}
    return Checked(**joined, verdicts={names[int(code)]: int(count) for code, count in zip(codes, counts, strict=True)})
