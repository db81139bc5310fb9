"""Figures of how a result came about and was checked: iterations, linear solves, a search, differences of solutions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from implicit_cli.report.style import COLOURS, HATCHES, LINES, canvas

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def convergence(residuals: np.ndarray, tol: float, linear: dict[str, np.ndarray]) -> Figure:
    """max |F| by iteration, a line for each case, and the residuals of the linear solves."""
    figure, (left, right) = canvas(12, 2)
    for row in residuals[:200]:
        left.plot(np.arange(1, len(row) + 1), row, color=COLOURS[1], alpha=min(1.0, 0.2 + 4 / len(residuals)), linewidth=1)
    left.axhline(tol, color="black", linestyle=LINES[1], label="tolerance")
    left.set_yscale("log")
    left.set_xlabel("iteration")
    left.set_ylabel("max |F|")
    left.legend(frameon=False)
    for kind, (name, values) in enumerate(linear.items()):
        finite = values[np.isfinite(values) & (values > 0)]
        if finite.size:
            right.hist(
                np.log10(finite),
                bins=20,
                color=COLOURS[kind + 1],
                hatch=HATCHES[kind % len(HATCHES)],
                edgecolor="white",
                label=name.replace("_", " "),
            )
    right.set_xlabel("log10 relative residual of a linear solve")
    right.yaxis.get_major_locator().set_params(integer=True)
    right.set_ylabel("right-hand sides")
    if right.get_legend_handles_labels()[1]:
        right.legend(frameon=False)
    return figure


def optimisation(steps: np.ndarray, objective: np.ndarray, gradient: np.ndarray, validation: np.ndarray, result: int) -> Figure:
    """Objective and gradient by evaluation; the one whose parameters are the result's is marked."""
    figure, (left, right) = canvas(12, 2)
    at = np.arange(len(objective))
    left.plot(at, objective, "-o", markersize=3, color=COLOURS[1], label="objective")
    if np.isfinite(validation).any():
        left.plot(at, validation, "--s", markersize=3, color=COLOURS[2], label="validation")
    left.plot(result, objective[result], "*", markersize=12, color="black", label="result")
    left.set_xlabel("evaluation")
    left.set_ylabel("objective")
    left.legend(frameon=False)
    right.plot(at[steps], gradient[steps], "-o", markersize=3, color=COLOURS[1])
    right.set_yscale("log")
    right.set_xlabel("evaluation of each step")
    right.set_ylabel("|projected gradient|")
    return figure


def predicted_against_observed(stored: np.ndarray, witness: np.ndarray, bound: np.ndarray) -> Figure:
    """What `implicit verify` found: distances from the witness over the bounds; below the line a bound holds."""
    figure, axes = canvas(14)
    both = np.concatenate([stored, bound])
    finite = both[np.isfinite(both) & (both > 0)]
    ends = (finite.min() / 3, finite.max() * 3) if finite.size else (1e-16, 1.0)
    axes.plot(ends, ends, color="black", linewidth=0.8)
    axes.errorbar(bound, np.maximum(stored, ends[0]), yerr=witness, fmt="o", markersize=3, color=COLOURS[1], ecolor=COLOURS[7])
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("stored bound")
    axes.set_ylabel("distance from differences of solutions")
    return figure
