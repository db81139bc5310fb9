"""Intervals by the bootstrap: an estimate on cases drawn again with replacement."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from implicit_cli.sample import Array

DRAWS, SEED = 400, 0
LEVEL = 0.95
"""Of every interval."""


def interval(estimate: Callable[[np.ndarray], Array], cases: int) -> tuple[Array, Array]:
    """Lower and upper end of `LEVEL` intervals of what `estimate` finds on chosen cases, an array of any shape."""
    rng = np.random.default_rng(SEED)
    found = np.stack([estimate(rng.integers(0, cases, cases)) for _ in range(DRAWS)])
    low, high = np.quantile(found, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return low, high


def widened(estimate: Callable[[np.ndarray, float], Array], cases: int) -> tuple[Array, Array]:
    """The same where numbers are known to their bounds: the lower end with all of them at one end, the upper one at the other."""
    low, _ = interval(lambda chosen: estimate(chosen, -1.0), cases)
    _, high = interval(lambda chosen: estimate(chosen, 1.0), cases)
    return low, high
