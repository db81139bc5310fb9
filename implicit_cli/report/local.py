"""Figures of single cases: what moves what, and how sure that is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from implicit_cli.report.style import COLOURS, DIVERGING, HATCHES, MARKS, bars, canvas, shortened

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from implicit_cli.engine import Spectrum
    from implicit_cli.sample import Sample

MOST_BARS, MOST_CELLS = 30, 60


def tornado(sample: Sample, case: int, k: int, share: float = 0.1) -> Figure:
    """How far each input alone moves output k, to first order, when it changes by a share of itself up and down."""
    step = share * np.abs(sample.theta[case])
    effect, error = sample.J[case, k] * step, sample.J_bound[case, k] * step
    order = np.argsort(-np.abs(np.nan_to_num(effect)))[:MOST_BARS]
    figure, axes = canvas(len(order))
    names = [sample.names[i] for i in order]
    y = sample.y[case, k]
    for kind, sign in enumerate((1.0, -1.0)):
        values = sign * effect[order]
        bars(
            axes,
            names,
            values,
            values - error[order],
            values + error[order],
            kind=kind,
            label=f"{'+' if sign > 0 else '-'} {share:.0%}",
        )
    axes.axvline(0.0, color="black", linewidth=0.8)
    axes.set_xlabel(f"change of {sample.outputs[k]} from {y:.6g} {_unit(sample.units[k])}")
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def heatmap(sample: Sample, case: int) -> Figure:
    """Elasticities of all outputs by all inputs: colour and sign say which way, numbers how far."""
    with np.errstate(divide="ignore", invalid="ignore"):
        # what is no larger than its bound may be zero, and is told so
        J = np.where(np.abs(sample.J[case]) <= sample.J_bound[case], 0.0, sample.J[case])
        e = sample.theta[case] / sample.y[case, :, None] * J
    e = e[:MOST_CELLS, :MOST_CELLS]
    figure, axes = canvas(max(len(e) * 1.2, 6))
    finite = np.abs(e[np.isfinite(e)])
    most = float(finite.max()) if finite.size else 1.0
    image = axes.imshow(e, cmap=DIVERGING, vmin=-most, vmax=most, aspect="auto")
    figure.colorbar(image, ax=axes, label="(theta / y) dy/dtheta")
    axes.set_xticks(range(e.shape[1]), [shortened(name) for name in sample.names[: e.shape[1]]], rotation=60, ha="right")
    axes.set_yticks(range(e.shape[0]), [shortened(name) for name in sample.outputs[: e.shape[0]]])
    if e.size <= 150:
        for (row, column), value in np.ndenumerate(e):
            dark = np.isfinite(value) and abs(value) > 0.6 * most
            axes.text(
                column,
                row,
                f"{value:.2g}" if np.isfinite(value) else "none",
                ha="center",
                va="center",
                fontsize=7,
                color="white" if dark else "black",
            )
    axes.spines[:].set_visible(False)
    return figure


def jacobian(matrix: np.ndarray, of: str, wrt: str) -> Figure:
    """A Jacobian entry by entry: which entries are not zero, and how large they are (logarithm)."""
    figure, (left, right) = canvas(14, 2)
    size = np.abs(matrix)
    floor = np.finfo(float).eps * float(np.nanmax(size, initial=0.0))
    left.spy(np.nan_to_num(size) > floor, markersize=max(40 / max(matrix.shape), 0.3), color="black", aspect="auto")
    with np.errstate(divide="ignore"):
        image = right.imshow(np.log10(np.where(size > floor, size, np.nan)), aspect="auto", cmap="cividis")
    figure.colorbar(image, ax=right, label=f"log10 |d {of} / d {wrt}|")
    for axes in (left, right):
        axes.set_xlabel(f"entry of {wrt}")
        axes.set_ylabel(f"entry of {of}")
    return figure


def certificate(names: list[str], sizes: np.ndarray, parts: np.ndarray) -> Figure:
    """The bound on each product beside its size, and what it is made of: parts (products, 3) as truncation, linear, rounding."""
    figure, axes = canvas(len(names) * 1.4)
    start = np.zeros(len(names))
    for kind, label in enumerate(("truncation", "linear solve", "rounding")):
        width = np.maximum(np.nan_to_num(parts[:, kind]), 0.0)
        look = {"color": COLOURS[kind + 1], "hatch": HATCHES[kind], "edgecolor": "white", "label": label}
        axes.barh(np.arange(len(names)), width, left=start, **look)
        start = start + width
    axes.plot(sizes, np.arange(len(names)), "k|", markersize=12, label="size of the derivative")
    shown = np.concatenate([start[start > 0], sizes[sizes > 0]])
    if shown.size:
        axes.set_xscale("log")
        axes.set_xlim(0.03 * shown.min(), 30 * shown.max())
    axes.set_yticks(np.arange(len(names)), [shortened(name) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlabel("2-norm of a column, at most")
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def spectrum(found: Spectrum) -> Figure:
    """The eigenvalues of A by mode, softest first; those that count as zero lie on the axis, negative ones have their own mark."""
    figure, axes = canvas(12)
    mode = np.arange(1, len(found.values) + 1)
    zero = mode <= found.nullity
    for kind, (chosen, label) in enumerate(
        ((~zero & (found.values > 0), "above zero"), (~zero & (found.values < 0), "below zero"))
    ):
        if chosen.any():
            axes.plot(mode[chosen], np.abs(found.values[chosen]), MARKS[kind], markersize=3, color=COLOURS[kind + 1], label=label)
    if zero.any():
        where = axes.get_xaxis_transform()
        axes.plot(mode[zero], np.full(found.nullity, 0.015), "x", color=COLOURS[0], transform=where, label="zero")
    axes.set_yscale("log")
    axes.set_xlabel("mode")
    axes.set_ylabel("|eigenvalue of A|" if found.symmetric else "singular value of A")
    axes.legend(frameon=False)
    return figure


def displacements(
    position: np.ndarray, vectors: np.ndarray, cell: np.ndarray | None, kinds: np.ndarray, undetermined: np.ndarray
) -> Figure:
    """Particles, seen along the third axis where there is one, and the derivative of each position as an arrow."""
    figure, axes = canvas(20)
    scale = np.nanmax(np.linalg.norm(np.nan_to_num(vectors), axis=1), initial=0.0)
    side = np.ptp(position[:, :2], axis=0).max() or 1.0
    for kind in np.unique(kinds):
        rows = kinds == kind
        axes.plot(
            position[rows, 0],
            position[rows, 1],
            MARKS[int(kind) % len(MARKS)],
            markersize=5,
            color=COLOURS[7 - int(kind) % 7],
            zorder=1,
        )
    if undetermined.any():
        axes.plot(position[undetermined, 0], position[undetermined, 1], "x", color=COLOURS[2], label="no derivative", zorder=3)
        axes.legend(frameon=False)
    if scale > 0:
        axes.quiver(
            position[:, 0],
            position[:, 1],
            *(np.nan_to_num(vectors[:, axis]) for axis in (0, 1)),
            angles="xy",
            scale_units="xy",
            scale=scale / (0.12 * side),
            width=0.003,
            zorder=2,
        )
    if cell is not None and np.abs(np.linalg.det(cell)) > 0:
        corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]) @ cell[:2, :2]
        axes.plot(*corners.T, color="black", linewidth=0.8)
    axes.set_aspect("equal")
    axes.set_axis_off()
    return figure


def _unit(unit: str) -> str:
    return "" if unit == "1" else unit
