"""Assembling A: dense from products, or the entries of a known sparsity pattern from a few products, by colouring.

Columns that share no row are given one colour; a product of A with the sum of the unit vectors of a colour then shows each of
their entries in a row of its own. The number of products is the number of colours, a small multiple of the entries per row,
whatever d is.

Source: Curtis, Powell and Reid, "On the estimation of sparse Jacobian matrices", 1974.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from scipy.sparse import csc_array, csr_array

from implicit_cli.core.linear.base import FloatArray, IntArray, Matrix, Operator

COLUMNS = 256
"""Products at a time: bounds the memory of a dense assembly beside A itself."""


class Pattern(NamedTuple):
    """Rows and columns (nnz,) of the entries that may differ from zero, without duplicates, column by column."""

    rows: IntArray
    cols: IntArray
    d: int

    @property
    def density(self) -> float:
        return self.rows.size / max(self.d, 1)


def make_pattern(rows: Any, cols: Any, d: int) -> Pattern:
    """The pattern of possibly repeated entries; raises ValueError where an index is outside 0 .. d - 1."""
    rows, cols = np.asarray(rows, dtype=np.int64).ravel(), np.asarray(cols, dtype=np.int64).ravel()
    if rows.shape != cols.shape:
        raise ValueError(f"pattern: found {rows.size} rows and {cols.size} columns, needed: one of each per entry")
    if rows.size and (min(rows.min(), cols.min()) < 0 or max(rows.max(), cols.max()) >= d):
        raise ValueError(f"pattern: found indices outside 0 .. {d - 1}")
    keys = np.unique(cols * d + rows)
    return Pattern(keys % d, keys // d, d)


def dense(operator: Operator) -> Matrix:
    """A (d, d), by the operator's own assembly, its entries, or products with unit vectors."""
    if operator.matrix is not None:
        return operator.matrix(operator.p)
    if operator.pattern is not None:
        return jnp.asarray(sparse(operator).toarray())
    return jnp.asarray(np.concatenate([columns for _, columns in by_columns(operator)], axis=1))


def by_columns(operator: Operator) -> Iterator[tuple[int, FloatArray]]:
    """A from products with unit vectors, `COLUMNS` columns at a time: the index of the first, and the columns (d, k)."""
    for first in range(0, operator.d, COLUMNS):
        unit = np.eye(operator.d, min(COLUMNS, operator.d - first), -first)
        yield first, np.asarray(operator.times(jnp.asarray(unit)))


def sparse(operator: Operator) -> csc_array:
    """A as a SciPy matrix, from the operator's entries or from coloured products."""
    assert operator.pattern is not None
    d = operator.d
    if operator.entries is not None:
        rows, cols = (np.asarray(index, dtype=np.int32) for index in operator.pattern)
        return csc_array((np.asarray(operator.entries(operator.p), dtype=float), (rows, cols)), shape=(d, d))
    pattern = make_pattern(*operator.pattern, d)
    colours = colouring(pattern.rows.tobytes(), pattern.cols.tobytes(), d)
    values = _read(operator, pattern, colours)
    return csc_array((values, (pattern.rows.astype(np.int32), pattern.cols.astype(np.int32))), shape=(d, d))


def _read(operator: Operator, pattern: Pattern, colours: IntArray) -> FloatArray:
    count = int(np.max(colours, initial=-1)) + 1
    seeds = np.eye(count)[colours]
    products = [operator.times(jnp.asarray(seeds[:, i : i + COLUMNS])) for i in range(0, count, COLUMNS)]
    compressed = np.concatenate([np.asarray(product) for product in products], axis=1) if products else np.zeros((operator.d, 0))
    return np.asarray(compressed[pattern.rows, colours[pattern.cols]])


@lru_cache(maxsize=8)
def colouring(rows: bytes, cols: bytes, d: int) -> IntArray:
    """Colour (d,) of each column, none the same on two columns with a row in common: greedy, largest columns first.

    The pattern comes as bytes of int64 arrays, so that Newton steps with an unchanged pattern find their colours again.
    """
    i, j = np.frombuffer(rows, dtype=np.int64), np.frombuffer(cols, dtype=np.int64)
    there = csr_array((np.ones(i.size, dtype=np.int32), (i, j)), shape=(d, d))
    conflicts = csr_array(there.T @ there)
    starts, neighbours = conflicts.indptr, conflicts.indices
    colours = np.full(d, -1, dtype=np.int64)
    for column in np.argsort(-np.diff(starts), kind="stable"):
        taken = colours[neighbours[starts[column] : starts[column + 1]]]
        taken = np.unique(taken[taken >= 0])
        gaps = np.flatnonzero(taken != np.arange(taken.size))
        colours[column] = gaps[0] if gaps.size else taken.size
    return colours
