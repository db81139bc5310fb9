"""Figures of the programs with constraints (docs/problems/)."""

from __future__ import annotations

from typing import Any

import h5py
import matplotlib.pyplot as plt
import numpy as np

FOLDER = "problems"
BOOK = {
    6.5: (0.03, 0.10),
    7.0: (0.13, 0.12),
    7.5: (0.24, 0.14),
    8.0: (0.35, 0.16),
    8.5: (0.45, 0.18),
    9.0: (0.56, 0.20),
    9.5: (0.67, 0.22),
    10.0: (0.78, 0.22),
    10.5: (0.93, 0.07),
}
"""Stocks and bonds by return in percent, as Cornuejols and Tutuncu print them."""
SIPOPT = (0.5765306, 0.3775510, -0.0459184)
"""First-order estimate at p1 = 4.5 from p1 = 5, as sIPOPT prints it."""
EXACT = 0.009 / 525
"""Regularisation up to which Dantzig's example has the solution of the linear program."""
SMALLEST = 1e-9
"""Share that is held."""
SHADES = ("0.85", "0.65", "0.95")
STYLES = ("-", "--", ":", "-.", (0, (1, 3)))
MARKERS = ("o", "s", "^", "D", "v", "x")


def labels(file: h5py.File, axis: str) -> list[str]:
    """Names of the entries of an axis."""
    return list(file[axis].asstr()[()])


def qp(file: h5py.File) -> Any:
    """What is held for each return, and how that answers to the return."""
    percent, x = -100 * file["cases/parameters/h"][:, 0], file["solution/x"][()]
    moved = -file["sensitivity/x/h"][:, :, 0] / 100
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 3.0), layout="constrained")
    edges = np.concatenate([np.zeros((len(x), 1)), np.cumsum(x, axis=1)], axis=1)
    for k, name in enumerate(labels(file, "variable")):
        left.fill_between(percent, edges[:, k], edges[:, k + 1], facecolor=SHADES[k], edgecolor="0.3", linewidth=0.6)
        at = np.argmin(np.abs(percent - (9.5, 8.5, 7.5)[k]))
        left.annotate(name, (percent[at], (edges[at, k] + edges[at, k + 1]) / 2), ha="center", va="center")
        for some, label in ((x[:, 2] > SMALLEST, name), (x[:, 2] <= SMALLEST, None)):
            right.plot(percent[some], moved[some, k], color="black", linestyle=STYLES[k], label=label)
    for k in (1, 2):
        left.plot(list(BOOK), [sum(shares[:k]) for shares in BOOK.values()], "o", color="black", markersize=3.5, mfc="white")
    left.set(xlabel="expected return (%)", ylabel="share", xlim=(percent.min(), percent.max()), ylim=(0, 1))
    left.set_title("least variance for a return; circles: the book's table")
    right.set(xlabel="expected return (%)", ylabel="d share / d return (1 / %)")
    right.legend(frameon=False, loc="center left", bbox_to_anchor=(0.0, 0.3))
    return figure


def linear_program(file: h5py.File) -> Any:
    """Shipments over the weight of the quadratic term, and how much they answer to costs."""
    weight, x = file["cases/parameters/regularisation"][()], file["solution/x"][()]
    moved = np.linalg.norm(file["sensitivity/x/c"][()], axis=(1, 2))
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 3.2), layout="constrained")
    for k, name in enumerate(labels(file, "variable")):
        left.plot(weight, x[:, k], MARKERS[k] + "-", color="black", mfc="white", markersize=3.5, linewidth=0.6, label=name)
    left.set(xscale="log", xlabel="regularisation", ylabel="shipment (cases)")
    right.plot(weight, moved, "o", color="black", mfc="white", markersize=3.5)
    right.set(xscale="log", yscale="symlog", ylim=(-0.5, 2 * moved.max()), xlabel="regularisation", ylabel="|dx / dc|")
    for axis in (left, right):
        axis.axvline(EXACT, color="0.5", linestyle="--", linewidth=0.8)
    figure.legend(*left.get_legend_handles_labels(), loc="outside right center", frameon=False)
    return figure


def socp(file: h5py.File) -> Any:
    """The sites, the depot, and where it goes as each weight grows by one."""
    sites, weights = -file["cases/parameters/b"][0], file["cases/parameters/c"][0, 2:]
    depot, moved = file["outputs/x"][0, :2], file["sensitivity/x/c"][0, :2, 2:]
    figure, axis = plt.subplots(figsize=(4.6, 4.2), layout="constrained")
    axis.plot(*np.stack([sites, np.broadcast_to(depot, sites.shape)]).transpose(2, 0, 1), color="0.75", linewidth=0.8)
    axis.scatter(*sites.T, s=120 * weights, facecolor="white", edgecolor="black", zorder=2)
    for name, site in zip(labels(file, "cone"), sites, strict=True):
        axis.annotate(name, site, ha="center", va="center")
    axis.plot(*depot, "s", color="black", markersize=5)
    axis.quiver(*np.broadcast_to(depot[:, None], moved.shape), *moved, angles="xy", scale_units="xy", scale=1, width=0.005)
    axis.set(xlabel="x", ylabel="y", aspect="equal", title="depot, and its move for one more unit of each weight")
    axis.margins(0.12)
    return figure


def sdp(file: h5py.File) -> Any:
    """Theta of the pentagon over the weight of a vertex, and the vertices' shares, which are its derivatives."""
    weight, theta, x = -file["cases/parameters/c"][:, 0], -file["outputs/objective"][()], file["outputs/x"][()]
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 3.0), layout="constrained")
    left.plot(weight, theta, "o-", color="black", mfc="white", markersize=3.5, linewidth=0.8, label="theta")
    left.plot(weight, np.maximum(2, 1 + weight), "--", color="black", linewidth=0.8, label="largest set without an edge")
    left.plot(1, np.sqrt(5), "x", color="black", markersize=8)
    left.annotate("√5", (1, np.sqrt(5)), xytext=(0, 9), textcoords="offset points", ha="center")
    left.set(xlabel="weight of vertex 0", ylabel="theta")
    left.legend(frameon=False)
    for k, name in enumerate(("vertex 0", "vertices 1 and 4", "vertices 2 and 3")):
        right.plot(weight, x[:, k], color="black", linestyle=STYLES[k], label=name)
    right.set(xlabel="weight of vertex 0", ylabel="d theta / d weight")
    right.legend(frameon=False)
    return figure


def nlp(file: h5py.File) -> Any:
    """The solution over p1, and the straight line that its derivative at p1 = 5 makes."""
    p1, x = file["cases/parameters/p1"][()], file["solution/x"][()]
    last = np.argmax(p1)
    line = x[last] + (p1 - p1[last])[:, None] * file["sensitivity/x/p1"][last]
    figure, axis = plt.subplots(figsize=(5.0, 3.4), layout="constrained")
    for k in range(3):
        axis.plot(p1, x[:, k], MARKERS[k], color="black", mfc="white", markersize=3.5, label=f"x{k + 1}")
        axis.plot(p1, line[:, k], color="black", linewidth=0.8, linestyle="--", label="derivative at p1 = 5" if k == 2 else None)
    axis.plot([4.5] * 3, SIPOPT, "x", color="black", markersize=8, label="as sIPOPT prints it")
    axis.axvline(63 / 13, color="0.5", linewidth=0.8)
    axis.axhline(0, color="0.8", linewidth=0.8)
    axis.set(xlabel="p1", ylabel="x")
    axis.legend(frameon=False, loc="center left", bbox_to_anchor=(0.0, 0.42))
    return figure


def transport(file: h5py.File) -> Any:
    """The plan, and what one more flower in each bin costs."""
    plan, rows, columns = file["outputs/plan"][0], labels(file, "bin"), labels(file, "target_bin")
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 3.4), layout="constrained")
    left.imshow(plan, cmap="Greys", vmin=0, vmax=1.8 * plan.max())
    for i, j in np.ndindex(*plan.shape):
        if plan[i, j] > 0.0005:
            left.annotate(f"{100 * plan[i, j]:.1f}", (j, i), ha="center", va="center")
    left.set_xticks(range(len(columns)), columns)
    left.set_yticks(range(len(rows)), rows)
    left.set(xlabel="virginica, petal", ylabel="versicolor, petal", title="plan (% of the mass)")
    for name, part, hatch, of in (("versicolor", "source", "", rows), ("virginica", "target", "///", columns)):
        slope = file[f"sensitivity/objective/{part}"][0]
        right.bar(
            [float(one.split()[0]) + (-0.09 if hatch else 0.09) for one in of],
            slope,
            width=0.17,
            facecolor="0.85",
            edgecolor="black",
            hatch=hatch,
            linewidth=0.6,
            label=f"one more {name}",
        )
    right.axhline(0.0, color="black", linewidth=0.8)
    right.set(xlabel="petal (cm)", ylabel="d objective / d flowers (cm²)")
    right.legend(frameon=False)
    return figure


def expression(file: h5py.File) -> Any:
    """Elasticities of demand, as numbers on their sizes."""
    names, amount = list(file["good"].asstr()[()]), file["solution/amount"][0]
    elasticity = file["sensitivity/amount/price"][0] / amount[:, None]
    figure, axis = plt.subplots(figsize=(4.6, 3.0), layout="constrained")
    axis.imshow(np.abs(elasticity), cmap="Greys", vmin=0.0, vmax=1.8 * np.abs(elasticity).max(), aspect="auto")
    for i, j in np.ndindex(*elasticity.shape):
        axis.annotate(f"{elasticity[i, j]:+.3f}", (j, i), ha="center", va="center")
    axis.set_xticks(range(len(names)), names)
    axis.set_yticks(range(len(names)), names)
    axis.set(xlabel="price of", ylabel="amount of", title="d log amount / d log price")
    return figure


FIGURES = (expression, qp, linear_program, socp, sdp, nlp, transport)
