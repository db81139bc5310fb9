"""Preconditioners: block Jacobi, the inverse of A's diagonal blocks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from implicit_cli.core.linear.assembly import by_columns
from implicit_cli.core.linear.base import FloatArray, Matrix, Operator, Unsuitable


def block_jacobi(operator: Operator, size: int, A: Any = None) -> Callable[[Any, Matrix], Matrix]:
    """`(p, U)` to M^-1 U, M the diagonal blocks of A of `size` rows each (the last may be smaller).

    They are read from the sparse A (SciPy) where there is one, else from products with unit vectors. A singular block is replaced
    by I; blocks of a symmetric A by their absolute value (eigenvalues made positive), as CG and MINRES need it. The result is a
    pytree: its blocks are arguments of compiled programs. Raises `Unsuitable` where a block is not finite.
    """
    blocks = diagonal_blocks(operator, size, A)
    if not np.isfinite(blocks).all():
        raise Unsuitable("dF/dx has entries that are not finite")
    return jax.tree_util.Partial(_apply, jnp.asarray(_inverses(blocks, operator.symmetric)))


def _apply(inverse: Matrix, _: Any, U: Matrix) -> Matrix:
    count, size, _size = inverse.shape
    (d, k), padded = U.shape, count * size
    parts = jnp.concatenate([U, jnp.zeros((padded - d, k), U.dtype)]).reshape(count, size, k)
    return jnp.einsum("bij,bjk->bik", inverse, parts).reshape(padded, k)[:d]


def diagonal_blocks(operator: Operator, size: int, A: Any = None) -> FloatArray:
    """Diagonal blocks (ceil(d / size), size, size) of A; the last is filled up with I."""
    d = operator.d
    count = -(-d // size)
    blocks = np.zeros((count, size, size))
    if A is not None:
        entries = A.tocoo()
        inside = entries.row // size == entries.col // size
        i, j = entries.row[inside], entries.col[inside]
        np.add.at(blocks, (i // size, i % size, j % size), entries.data[inside])
    else:
        for first, columns in by_columns(operator):
            for j, column in enumerate(columns.T, first):
                rows = np.arange(j // size * size, min((j // size + 1) * size, d))
                blocks[j // size, rows % size, j % size] = column[rows]
    for missing in range(d, count * size):
        blocks[-1, missing % size, missing % size] = 1.0
    return blocks


def _inverses(blocks: FloatArray, symmetric: bool) -> FloatArray:
    if symmetric:
        values, vectors = np.linalg.eigh((blocks + np.swapaxes(blocks, 1, 2)) / 2)
        left, sigma, right = vectors, np.abs(values), vectors
    else:
        left, sigma, right_t = np.linalg.svd(blocks)
        right = np.swapaxes(right_t, 1, 2)
    fine = sigma.min(axis=1) > 1e-8 * sigma.max(axis=1, initial=0.0)
    result = np.einsum("bik,bk,bjk->bij", right, 1.0 / np.where(fine[:, None], sigma, 1.0), left)
    result[~fine] = np.eye(blocks.shape[1])
    return np.asarray(result)
