"""Which particles are held by their contacts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

APART = 1e-5
"""Gap, relative to the contact distance, to which what is free is moved off what it touches."""
STRIDES, TRIALS = (1.0, 4.0, 16.0, 64.0), 32
"""Lengths of moves that are tried, in gaps, and random directions of each."""


def held(n: int, i: NDArray[np.integer], j: NDArray[np.integer], least: int) -> NDArray[np.bool_]:
    """Particles (n,) with at least so many contacts (i, j) with others that are held: the rest is pruned until nothing changes.

    A particle that is in contact with an image of itself counts that contact twice.
    """
    kept = np.ones(n, dtype=bool)
    while True:
        live = kept[i] & kept[j]
        count = np.bincount(i[live], minlength=n) + np.bincount(j[live], minlength=n)
        still = kept & (count >= least)
        if (still == kept).all():
            return kept
        kept = still


def parted(
    free: NDArray[np.bool_], i: NDArray[np.integer], j: NDArray[np.integer], D: NDArray[np.float64], edge: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Moves (n, axis) that take free particles off what they just touch; zero where there is no need, or no room nearby.

    i, j (E,) are the pairs with a free particle, D (E, axis) the vectors from i to j, and edge (E,) their contact distances.
    """
    moves = np.zeros((free.size, D.shape[1]))
    rng = np.random.default_rng(0)
    for k in np.flatnonzero(free):
        mine = (i == k) | (j == k)
        away = np.where((j[mine] == k)[:, None], 1.0, -1.0) * (D + moves[j] - moves[i])[mine]  # from the others to k

        def gap(move: NDArray[np.float64], away: NDArray[np.float64] = away, edge: NDArray[np.float64] = edge[mine]) -> float:
            return float(np.min(np.linalg.norm(away + move, axis=1) / edge - 1.0, initial=np.inf))

        best, stays = moves[k], gap(moves[k])
        if stays >= APART:
            continue
        for stride in STRIDES:
            directions = rng.normal(size=(TRIALS, D.shape[1]))
            trials = stride * APART * edge[mine].min() * directions / np.linalg.norm(directions, axis=1, keepdims=True)
            gaps = [gap(trial) for trial in trials]
            if max(gaps) > stays:
                best, stays = trials[int(np.argmax(gaps))], max(gaps)
            if stays >= APART:
                break
        moves[k] = best
    return moves
