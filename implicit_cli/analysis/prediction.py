"""What solved cases say of parameters at which nothing was solved: Taylor from one case, Hermite interpolation between many.

    first order   y + J dtheta
    second        y + J dtheta + dtheta' H dtheta / 2
    hermite       one input: the cubic that has y and dy/dtheta at both neighbours; many: sum of w_i (y_i + J_i dtheta_i) over the
                  nearest cases with w_i ~ 1 / |dtheta_i|^4 (Shepard's method on tangents), which has them at every case

Certified is how far the bounds of y and J move the prediction: bound(y) + b'|dtheta|. What curvature does beyond that is estimated:
to second order by the second-order term itself, between cases by predicting the nearest ones without themselves. A first-order
prediction from one case has no such estimate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from implicit_cli.errors import InputError
from implicit_cli.sample import Array, Column, Finding, Sample

NEIGHBOURS = 12
JUDGES = 3
"""Nearest cases that are predicted without themselves."""
POWER = 4.0
FIRST, SECOND, HERMITE = "first", "second", "hermite"
ORDERS = (FIRST, SECOND, HERMITE)
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class _Made:
    """Predicted outputs (m,), how far bounds move them, and what is estimated for curvature; NaN where nothing is known."""

    value: Array
    certified: Array
    curvature: Array
    cases: Rows


def predict(sample: Sample, values: Mapping[str, float | Sequence[float]], *, order: str = "", case: int | None = None) -> Finding:
    """The outputs at other values of some inputs, the others as in the nearest case, or in `case`.

    `order` is `first` or `second`, from one case, or `hermite`, between several; left out, the best that the result allows.
    Raises InputError for an input that is none, and for an order that the result does not allow.
    """
    columns = _columns(sample, values)
    target = np.full(len(sample.inputs), np.nan)
    target[list(columns)] = list(columns.values())
    spread = _spread(sample.theta)
    usable = np.flatnonzero(sample.good & np.any(np.isfinite(sample.J).all(axis=2), axis=1))
    if case is not None:
        usable = usable[usable == case]
    if not usable.size:
        raise InputError(f"{sample.path}: no case with derivatives to predict from")
    given = np.isfinite(target)
    first = int(usable[np.argmin(np.linalg.norm(((sample.theta[usable] - target) / spread)[:, given], axis=1))])
    target = np.where(given, target, sample.theta[first])
    several = case is None and usable.size > 1
    order = order or (HERMITE if several else SECOND if _bends(sample, first) else FIRST)
    if order == HERMITE and not several:
        raise InputError(f"{sample.path}: '{HERMITE}' goes between several cases, found one; allowed: '{FIRST}', '{SECOND}'")
    if order == HERMITE and sample.folds:
        raise InputError(f"{sample.path}: the branch folds, and {sample.names[0]} has several solutions; allowed: --case ID")
    if order == SECOND and not _bends(sample, first):
        raise InputError(f"{sample.path}: no second derivatives; allowed: '{FIRST}', or products: [jacobian, hessian] in the spec")
    made = _between(sample, target, usable, spread) if order == HERMITE else _from_one(sample, target, first, order == SECOND)
    half = made.certified + made.curvature
    known = bool(np.isfinite(half).any())
    table = {
        "value": Column(made.value, "predicted output", *((made.value - half, made.value + half) if known else ())),
        "certified": Column(made.certified, "how far the bounds of outputs and derivatives move it"),
        "curvature": Column(made.curvature, "estimate of what the prediction leaves out"),
    }
    low, high = sample.theta[usable].min(axis=0), sample.theta[usable].max(axis=0)
    outside = [name for name, t, a, b in zip(sample.names, target, low, high, strict=True) if not a <= t <= b]
    notes = [f"beyond all cases in {', '.join(outside)}"] if outside and several else []
    if not known:
        notes.append("what curvature leaves out is not known: products: [jacobian, hessian] in the spec tells")
    facts: dict[str, float | str] = {"order": order, "case": sample.ids[first], "cases": float(made.cases.size)}
    return Finding("predict", "", "output", sample.outputs, table, facts, tuple(notes))


def _columns(sample: Sample, values: Mapping[str, float | Sequence[float]]) -> dict[int, float]:
    """Values by input; a name without an index is that of all its entries, which take one number or as many."""
    found: dict[int, float] = {}
    for name, value in values.items():
        chosen = sample.called(name, "--set")
        numbers = [value] * len(chosen) if isinstance(value, (int, float)) else list(value)
        if len(numbers) != len(chosen):
            raise InputError(f"--set: found {len(numbers)} numbers for '{name}', allowed: one, or {len(chosen)}")
        found |= dict(zip(chosen, map(float, numbers), strict=True))
    return found


def _spread(theta: Array) -> Array:
    """Length by which each input is measured."""
    deviation = theta.std(axis=0)
    return np.where(deviation > 0, deviation, np.maximum(np.abs(theta).max(axis=0), 1e-300))


def _bends(sample: Sample, case: int) -> bool:
    return sample.curvature is not None and bool(np.isfinite(sample.curvature[case]).any())


def _from_one(sample: Sample, target: Array, case: int, second: bool) -> _Made:
    step = target - sample.theta[case]
    value = sample.y[case] + sample.J[case] @ step
    certified = np.nan_to_num(sample.y_bound[case]) + sample.J_bound[case] @ np.abs(step)
    curvature = np.full(len(value), np.nan)
    if second and sample.curvature is not None:
        bend = np.einsum("i,mij,j->m", step, sample.curvature[case], step) / 2
        value, curvature = value + bend, np.abs(bend)
    return _Made(value, certified, curvature, np.array([case]))


def _between(sample: Sample, target: Array, usable: Rows, spread: Array) -> _Made:
    distance = np.linalg.norm((sample.theta[usable] - target) / spread, axis=1)
    order = usable[np.argsort(distance, kind="stable")]
    made = _interpolated(sample, target, order, spread)
    missed = []
    for one in _within(sample.theta[order], order, target)[:JUDGES]:
        others = _interpolated(sample, sample.theta[one], order[order != one], spread)
        missed.append(np.abs(others.value - sample.y[one]))
    return _Made(made.value, made.certified, np.max(missed, axis=0), made.cases)


def _within(theta: Array, order: Rows, target: Array) -> Rows:
    """The cases in `order` that judge a prediction: along one input, those at the ends lie beyond all others, and say nothing of a
    target between them.
    """
    low, high = theta.min(axis=0), theta.max(axis=0)
    varied = high > low
    inside = ((low < theta) & (theta < high))[:, varied].all(axis=1)
    between = bool(((low <= target) & (target <= high)).all())
    return order[inside] if varied.sum() == 1 and between and inside.any() else order


def _interpolated(sample: Sample, target: Array, order: Rows, spread: Array) -> _Made:
    """Between the cases in `order`, the nearest to the target first."""
    varied = np.ptp(sample.theta[order], axis=0) > 0
    if varied.sum() == 1 and order.size > 1:
        return _cubic(sample, target, order, int(np.flatnonzero(varied)[0]))
    near = order[np.argsort(np.linalg.norm((sample.theta[order] - target) / spread, axis=1), kind="stable")[:NEIGHBOURS]]
    step = target - sample.theta[near]
    each = sample.y[near] + np.einsum("cmi,ci->cm", sample.J[near], step)
    bounds = np.nan_to_num(sample.y_bound[near]) + np.einsum("cmi,ci->cm", sample.J_bound[near], np.abs(step))
    weight = 1 / np.maximum(np.linalg.norm(step / spread, axis=1), 1e-12) ** POWER
    weight /= weight.sum()
    return _Made(weight @ each, weight @ bounds, np.zeros(each.shape[1]), near)


def _cubic(sample: Sample, target: Array, order: Rows, i: int) -> _Made:
    """Hermite's cubic between the two cases beside the target, or beyond the last two."""
    rows = order[np.argsort(sample.theta[order, i], kind="stable")]
    t = sample.theta[rows, i]
    k = int(np.clip(np.searchsorted(t, target[i]) - 1, 0, len(rows) - 2))
    a, b = rows[k], rows[k + 1]
    h = t[k + 1] - t[k]
    s = (target[i] - t[k]) / h if h > 0 else 0.0
    weights = np.array([(1 + 2 * s) * (1 - s) ** 2, s**2 * (3 - 2 * s), h * s * (1 - s) ** 2, h * s**2 * (s - 1)])
    value = weights[0] * sample.y[a] + weights[1] * sample.y[b] + weights[2] * sample.J[a, :, i] + weights[3] * sample.J[b, :, i]
    parts = (sample.y_bound[a], sample.y_bound[b], sample.J_bound[a, :, i], sample.J_bound[b, :, i])
    certified = sum(abs(weight) * np.nan_to_num(part) for weight, part in zip(weights, parts, strict=True))
    return _Made(value, np.asarray(certified), np.zeros(len(value)), np.array([a, b]))
