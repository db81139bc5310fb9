"""Which particles are near which: lists of pairs and of clusters, found on the host by a k-d tree.

A list holds all pairs nearer than `reach`, which is longer than the interaction by a skin, so that it serves until something has
moved by half of that. Every pair knows the cell vectors between its two particles, so that nothing here asks for a cell larger
than twice the interaction: a particle may be its own neighbour, and two particles may be neighbours several times.

    D = R_j - R_i + S H        S integers, rows of H the cell vectors

Lists have a capacity beyond their length, in steps of about a fifth: a longer list in the same capacity needs no new compilation,
and one that does not fit any more is simply made with the next.
"""

from __future__ import annotations

from itertools import product
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from implicit_cli.errors import RanAway

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

STEP = 2**0.25
"""Ratio of one capacity to the next."""
MOST_IMAGES, MOST_PAIRS = 200_000_000, 100_000_000
"""Particles and images of them, and pairs, at most: a reach of many cells' lengths is a mistake, and would fill the memory."""


class Pairs(NamedTuple):
    """Half a list of neighbours: every pair once, with the cell vectors between; entries beyond the list are not `present`.

    i, j (E,) with j's image `shift` (E, axis) away; position (n, axis), cell (axis, axis) and reach of when it was made.
    """

    i: Any
    j: Any
    shift: Any
    present: Any
    position: Any
    cell: Any
    reach: Any


class Clusters(NamedTuple):
    """All neighbours of every particle: j (n, K), their images `shift` (n, K, axis) away; what is not `present` is filling."""

    j: Any
    shift: Any
    present: Any
    position: Any
    cell: Any
    reach: Any


def find_pairs(position: FloatArray, cell: FloatArray, periodic: NDArray[np.bool_], reach: float) -> Pairs:
    """All pairs nearer than `reach`; raises RanAway where that takes more images or pairs than memory can hold."""
    i, j, shift = _half(position, cell, periodic, reach)
    size = capacity(i.size)
    present = np.arange(size) < i.size
    i, j, shift = (_filled(part, size) for part in (i, j, shift))
    return Pairs(i, j, shift, present, position, cell, np.float64(reach))


def find_clusters(position: FloatArray, cell: FloatArray, periodic: NDArray[np.bool_], reach: float) -> Clusters:
    """The neighbours of every particle, as `find_pairs` finds them, in both directions."""
    i, j, shift = _half(position, cell, periodic, reach)
    centre, other, away = np.concatenate([i, j]), np.concatenate([j, i]), np.concatenate([shift, -shift])
    order = np.argsort(centre, kind="stable")
    centre, other, away = centre[order], other[order], away[order]
    n = len(position)
    counts = np.bincount(centre, minlength=n)
    width = max(int(counts.max(initial=0)), 1)
    place = np.arange(centre.size) - np.repeat(np.cumsum(counts) - counts, counts)
    neighbours, shifts = np.zeros((n, width), np.int32), np.zeros((n, width, position.shape[1]), np.int32)
    neighbours[centre, place], shifts[centre, place] = other, away
    present = np.arange(width) < counts[:, None]
    return Clusters(neighbours, shifts, present, position, cell, np.float64(reach))


def capacity(count: int) -> int:
    """The smallest of the sizes that lists may have which holds `count`."""
    if count <= 16:
        return 16
    size = int(np.ceil(16 * STEP ** np.ceil(np.log(count / 16) / np.log(STEP) - 1e-9)))
    return max(size, count)


def _filled(part: NDArray[Any], size: int) -> NDArray[Any]:
    found = np.zeros((size, *part.shape[1:]), np.int32)
    found[: len(part)] = part
    return found


def _half(position: FloatArray, cell: FloatArray, periodic: NDArray[np.bool_], reach: float) -> tuple[IntArray, IntArray, IntArray]:
    """i, j and shift of each pair once: of the two ways to see a pair the one with i < j, or with the first shift above zero."""
    n = len(position)
    where, wrapped, index, shift = images(position, cell, periodic, reach)
    tree = KDTree(where)
    if len(where) ** 2 > 2 * MOST_PAIRS and tree.count_neighbors(tree, reach) > 2 * MOST_PAIRS:
        raise RanAway(f"a reach of {reach:g} takes more than {MOST_PAIRS} pairs of {n} particles in this cell")
    found = tree.query_pairs(reach, output_type="ndarray").astype(np.int64)
    # real particles come first: a pair of two images is seen elsewhere
    a, b = np.minimum(found[:, 0], found[:, 1]), np.maximum(found[:, 0], found[:, 1])
    kept = a < n
    a, b = a[kept], b[kept]
    i, j, away = index[a], index[b], shift[b] - shift[a]
    seen_twice = b >= n
    across = shift[b] - wrapped[j]  # from the cell that the particle was wrapped into
    first = np.where(across != 0, np.sign(across), 0)
    lead = first[np.arange(len(first)), np.argmax(first != 0, axis=1)] if len(first) else np.zeros(0, np.int64)
    kept = ~seen_twice | (i < j) | ((i == j) & (lead > 0))
    return i[kept], j[kept], away[kept]


def images(
    position: FloatArray, cell: FloatArray, periodic: NDArray[np.bool_], reach: float
) -> tuple[FloatArray, IntArray, IntArray, IntArray]:
    """Particles wrapped into the cell, then their images within `reach` of it.

    Places (m, axis), the shift (n, axis) by which each was wrapped, and of every place its particle (m,) and its whole shift
    (m, axis): place = position[particle] + shift @ cell.
    """
    n = len(position)
    inverse = np.linalg.inv(cell)
    fraction = position @ inverse
    wrapped = np.where(periodic, -np.floor(fraction), 0.0).astype(np.int64)
    fraction = fraction + wrapped
    margin = reach * np.linalg.norm(inverse, axis=0)  # in parts of the distance between opposite faces
    most = np.where(periodic, np.ceil(margin), 0).astype(int)
    if n * np.prod(1.0 + 2.0 * margin[periodic]) > MOST_IMAGES:
        raise RanAway(f"a reach of {reach:g} takes more than {MOST_IMAGES} images of {n} particles in this cell")
    index, shift = [np.arange(n)], [wrapped]
    for step in product(*(range(-k, k + 1) for k in most)):
        if not any(step):
            continue
        moved = fraction + np.array(step)
        near = np.all(~periodic | ((moved > -margin) & (moved < 1 + margin)), axis=1)
        index.append(np.flatnonzero(near))
        shift.append(wrapped[near] + np.array(step))
    of, by = np.concatenate(index), np.concatenate(shift)
    return position[of] + by @ cell, wrapped, of, by
