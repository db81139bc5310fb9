"""Figures of sweeps and analyses: responses with their tangents, maps with basins, indices with intervals, active subspaces."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from implicit_cli.analysis.prediction import HERMITE, predict
from implicit_cli.report.style import COLOURS, LINES, MARKS, SEQUENTIAL, bars, canvas

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from implicit_cli.sample import Finding, Sample

Band = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Points along an input, and lowest, middle and highest output there."""
TANGENTS = 60
"""Tangents that are drawn at most; cases in between have a mark."""
DECADES = 100
"""Ratio of the largest to the smallest input from which its axis is logarithmic."""
MANY = 300
"""Cases from which marks are small."""
GAPS, POINTS = 150, 8
"""Gaps between cases that a curve goes through at most, and its points in each."""
FEWEST, IN_A_BIN, BINS = 50, 25, 20
"""Cases that a band of quantiles takes at least, those in each bin, and bins at most."""
MIDDLE = (0.1, 0.9)


def response(sample: Sample, k: int, i: int, basins: Sequence[str] = ()) -> Figure:
    """Output k over input i: a mark for each case, its tangent, failed cases at the bottom.

    Where only this input varies, the curve that cases and slopes make, with a band as wide as its error; else where most cases are.
    """
    figure, axes = canvas(14)
    t, y, J = sample.theta[:, i], sample.y[:, k], sample.J[:, k, i]
    good = sample.good & np.isfinite(y)
    kinds = list(dict.fromkeys(basins)) if basins else [""]
    of = np.array([kinds.index(basin) for basin in basins]) if basins else np.zeros(len(t), int)
    size = 3 if len(t) <= MANY else 1.5
    for kind in range(len(kinds)):
        rows = np.flatnonzero(good & (of == kind))
        label = f"basin {kinds[kind][:8]}" if len(kinds) > 1 else ""
        axes.plot(t[rows], y[rows], MARKS[kind % len(MARKS)], markersize=size, color=COLOURS[1 + kind % 7], label=label, zorder=3)
    order = np.flatnonzero(good & np.isfinite(J))
    law = sample.inputs[i].law
    wide = good.any() and (t[good] > 0).all() and t[good].max() > DECADES * t[good].min()
    log = wide and (law is None or law[0].startswith("log"))
    along = np.log(t) if log else t
    half = 0.6 * (np.ptp(along[good]) if good.any() else 1.0) / max(min(len(order), TANGENTS), 1)
    for row in order[:: max(len(order) // TANGENTS, 1)]:
        at = along[row] + np.linspace(-half, half, 5)
        at = np.exp(at) if log else at
        axes.plot(at, y[row] + J[row] * (at - t[row]), color="black", linewidth=0.8, zorder=2)
    for at, low, middle, high in _curves(sample, k, i, of) if len(sample.inputs) == 1 else _middle(t[good], y[good]):
        axes.fill_between(at, low, high, color=COLOURS[7], alpha=0.35, linewidth=0, zorder=0)
        axes.plot(at, middle, LINES[1], color="black", linewidth=1, zorder=4)
    if (~good).any():
        axes.plot(
            t[~good],
            np.full((~good).sum(), 0.01),
            "x",
            color=COLOURS[2],
            transform=axes.get_xaxis_transform(),
            label="failed",
            clip_on=False,
        )
    axes.set_xscale("log" if log else "linear")
    axes.set_xlabel(_with_unit(sample.names[i], sample.inputs[i].unit))
    axes.set_ylabel(_with_unit(sample.outputs[k], sample.units[k]))
    if axes.get_legend_handles_labels()[1]:
        axes.legend(frameon=False)
    return figure


def _curves(sample: Sample, k: int, i: int, of: np.ndarray) -> Iterator[Band]:
    """Hermite's cubics through neighbouring cases of one basin, as points, and where they may be at lowest and at highest.

    A branch that folds is drawn as it goes, from case to case.
    """
    known = sample.good & np.isfinite(sample.y[:, k]) & np.isfinite(sample.J[:, k, i])
    if sample.folds:
        rows = np.flatnonzero(known)
        yield sample.theta[rows, i], sample.y[rows, k], sample.y[rows, k], sample.y[rows, k]
        return
    rows = np.argsort(sample.theta[:, i], kind="stable")
    gaps = [(a, b) for a, b in pairwise(rows) if known[a] and known[b] and of[a] == of[b]]
    for a, b in gaps if len(gaps) <= GAPS else []:
        at = np.linspace(sample.theta[a, i], sample.theta[b, i], POINTS)
        found = [predict(sample, {sample.names[i]: float(t)}, order=HERMITE).columns["value"] for t in at]
        low, high = (
            np.array([np.nan if end is None else end[k] for end in ends])
            for ends in zip(*((one.low, one.high) for one in found), strict=True)
        )
        yield at, low, np.array([one.values[k] for one in found]), high


def _middle(t: np.ndarray, y: np.ndarray) -> Iterator[Band]:
    """Median and the middle 80 % of cases with about the same t."""
    if t.size >= FEWEST:
        bins = np.array_split(np.argsort(t, kind="stable"), min(t.size // IN_A_BIN, BINS))
        low, middle, high = np.array([np.quantile(y[one], (MIDDLE[0], 0.5, MIDDLE[1])) for one in bins]).T
        yield np.array([t[one].mean() for one in bins]), low, middle, high


def sweep_map(sample: Sample, k: int, i: int, j: int, basins: Sequence[str] = ()) -> Figure:
    """Output k over two inputs: colour is its value, the form of a mark its basin."""
    figure, axes = canvas(16)
    good = sample.good & np.isfinite(sample.y[:, k])
    kinds = list(dict.fromkeys(basins)) if basins else [""]
    of = np.array([kinds.index(basin) for basin in basins]) if basins else np.zeros(len(good), int)
    y = sample.y[good, k]
    limits = {"vmin": float(y.min()), "vmax": float(y.max())} if good.any() else {}
    image = None
    for kind in range(len(kinds)):
        rows = good & (of == kind)
        points = axes.scatter(
            sample.theta[rows, i],
            sample.theta[rows, j],
            c=sample.y[rows, k],
            cmap=SEQUENTIAL,
            marker=MARKS[kind % len(MARKS)],
            s=18,
            **limits,
        )
        image = points if rows.any() else image
    if image is not None:
        figure.colorbar(image, ax=axes, label=_with_unit(sample.outputs[k], sample.units[k]))
    axes.plot(sample.theta[~good, i], sample.theta[~good, j], "x", color=COLOURS[2], label="failed")
    axes.set_xlabel(_with_unit(sample.names[i], sample.inputs[i].unit))
    axes.set_ylabel(_with_unit(sample.names[j], sample.inputs[j].unit))
    return figure


def indices(found: Finding) -> Figure:
    """Columns of an analysis with intervals, of one unit, as bars: first-order and total indices, bounds of DGSM, mu* of Morris."""
    unit = next(iter(found.columns.values())).unit
    shown = [name for name, one in found.columns.items() if one.low is not None and one.unit == unit][:2] or list(found.columns)[:1]
    first = found.columns[shown[0]].values
    order = np.argsort(-np.abs(np.nan_to_num(first)))[:30]
    figure, axes = canvas(len(order) * len(shown))
    names = [found.rows[row] for row in order]
    height = 0.8 / len(shown)
    for kind, name in enumerate(shown):
        column = found.columns[name]
        ends = () if column.low is None or column.high is None else (column.low[order], column.high[order])
        bars(
            axes,
            names,
            column.values[order],
            *ends,
            place=(kind - (len(shown) - 1) / 2) * height,
            kind=kind,
            height=height,
            label=f"{name}: {column.doc}",
        )
    axes.legend(frameon=False)
    axes.set_xlabel(f"{found.method} of {found.of}")
    return figure


def active(sample: Sample, k: int, eigen: Finding, xi: np.ndarray, direction: np.ndarray) -> Figure:
    """Eigenvalues of the mean outer product of gradients, and the output over the first direction (the summary plot)."""
    figure, (left, right) = canvas(12, 2)
    column = eigen.columns["eigenvalue"]
    assert column.low is not None
    assert column.high is not None
    at = np.arange(1, len(column.values) + 1)
    shown = column.values > 0
    left.errorbar(
        at[shown],
        column.values[shown],
        yerr=np.maximum(np.stack([column.values - column.low, column.high - column.values])[:, shown], 0.0),
        fmt="o",
        markersize=4,
        capsize=2,
        color="black",
    )
    left.set_yscale("log")
    left.xaxis.get_major_locator().set_params(integer=True)
    left.set_xlabel("direction")
    left.set_ylabel("eigenvalue")
    left.axvline(float(eigen.facts["dimension"]) + 0.5, color=COLOURS[2], linestyle=LINES[1])
    right.plot(xi @ direction, sample.y[:, k], "o", markersize=3, color=COLOURS[1])
    right.set_xlabel("first direction")
    right.set_ylabel(_with_unit(sample.outputs[k], sample.units[k]))
    return figure


def _with_unit(name: str, unit: str) -> str:
    return name if unit == "1" else f"{name} ({unit})"
