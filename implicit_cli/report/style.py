"""How figures look: readable in grey and in print, so that what colour tells a mark, a line or a hatch tells too."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, dark to light: apart in grey, and for eyes that do not see red and green
COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#999999")
LINES = ("-", "--", ":", "-.")
MARKS = ("o", "s", "^", "D", "v", "P", "X", "*")
HATCHES = ("", "///", "...", "xxx", "\\\\\\", "+++")
DIVERGING, SEQUENTIAL = "PuOr", "cividis"
SETTINGS: dict[Any, Any] = {
    "font.size": 9.0,
    "axes.titlesize": 10.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.w_pad": 0.1,
    "figure.constrained_layout.h_pad": 0.1,
    "savefig.facecolor": "white",
    "svg.fonttype": "none",
    "svg.hashsalt": "implicit",
}
WIDTH, ROW, TALLEST = 6.4, 0.26, 14.0
"""Inches: of a figure, of a row of bars, and at most."""
LONG = 36
SEEN = 1e-3
"""Part of the longest bar below which an interval is not drawn: its caps alone would look like one."""


@contextmanager
def styled() -> Iterator[None]:
    """Matplotlib's settings for figures, without a display and without leaving a trace."""
    import matplotlib

    with matplotlib.rc_context(SETTINGS):
        yield


def canvas(rows: float = 12.0, columns: int = 1, **settings: Any) -> tuple[Figure, Any]:
    """A figure as tall as so many rows of bars need, and its axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, min(max(ROW * rows + 1.0, 2.4), TALLEST)))
    return figure, figure.subplots(1, columns, **settings)


def shortened(name: str) -> str:
    """A long name with its middle left out."""
    return name if len(name) <= LONG else f"{name[: LONG // 2 - 1]}...{name[-LONG // 2 + 2 :]}"


def bars(
    axes: Axes, names: Any, values: Any, low: Any = None, high: Any = None, *, place: float = 0.0, kind: int = 0, **more: Any
) -> None:
    """Horizontal bars from the top down, with intervals."""
    import numpy as np

    at, values = np.arange(len(names)) + place, np.asarray(values, float)
    axes.barh(at, values, color=COLOURS[kind + 1], hatch=HATCHES[kind], edgecolor="white", **more)
    if low is not None and high is not None:
        ends = np.abs(np.stack([values - low, high - values]))
        seen = np.isfinite(ends).all(axis=0) & (ends.max(axis=0) > SEEN * np.nanmax(np.abs(values), initial=0.0))
        axes.errorbar(values[seen], at[seen], xerr=ends[:, seen], fmt="none", ecolor="black", capsize=2, linewidth=0.9)
    axes.set_yticks(np.arange(len(names)), [shortened(name) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
