"""Projections on the second-order cone, the cone of positive semidefinite matrices, and dual cones."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from implicit_cli.core.projections.operator import Array, nearest, norm, with_margin


def _second_order_cone_margin(v: Array) -> Array:
    return jnp.abs(norm(v[1:]) - jnp.abs(v[0])) / np.sqrt(2.0)


@with_margin(_second_order_cone_margin)
def second_order_cone(v: Array) -> Array:
    """Projection on `{(t, x): |x| <= t}`, v = (t, x) of shape (1 + n,), the scalar first. The cone is its own dual.

    v in the cone, 0 where |x| <= -t, else `(t + |x|) / 2 (1, x / |x|)`. At the kinks: on the cone's surface (and at 0) the
    derivative is the identity, on that of the polar cone it is 0.
    """
    t, x = v[0], v[1:]
    length = norm(x)
    inside, polar = length <= t, length <= -t
    middle = ~inside & ~polar
    safe = jnp.where(middle, length, 1.0)
    half = (t + length) / 2
    surface = jnp.concatenate([half[None], half * (x / safe)])
    return jnp.where(inside, v, jnp.where(polar, 0.0, surface))


@jax.custom_jvp
def _absolute(V: Array) -> Array:
    """`|V| = U diag(|w|) U'` of a symmetric V = U diag(w) U'."""
    w, U = jnp.linalg.eigh(V, symmetrize_input=False)
    return (U * jnp.abs(w)[None, :]) @ U.T


@_absolute.defjvp
def _absolute_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    """Y = d|V| solves `|V| Y + Y |V| = V dV + dV V`, which needs no eigenvector, so equal eigenvalues do no harm, to any order."""
    (V,), (dV,) = primals, tangents
    size = _absolute(V)
    w, U = jnp.linalg.eigh(jax.lax.stop_gradient(size), symmetrize_input=False)
    w = jnp.maximum(w, 0.0)
    total = w[:, None] + w[None, :]
    regular = total > V.shape[0] * jnp.finfo(V.dtype).eps * jnp.max(w)
    inverse = jnp.where(regular, 1.0 / jnp.where(regular, total, 1.0), 0.0)

    def solve(_: object, R: Array) -> Array:
        return U @ (inverse * (U.T @ R @ U)) @ U.T

    Y = jax.lax.custom_linear_solve(lambda Y: size @ Y + Y @ size, V @ dV + dV @ V, solve, symmetric=True)
    return size, Y


def _psd_cone_margin(V: Array) -> Array:
    return nearest(jnp.abs(jnp.linalg.eigvalsh((V + V.T) / 2)))


@with_margin(_psd_cone_margin)
def psd_cone(V: Array) -> Array:
    """Projection on the positive semidefinite matrices, V (n, n): `(V + |V|) / 2`, negative eigenvalues cut off. Its own dual.

    V is symmetrised first. Equal eigenvalues are no kink. At a kink, an eigenvalue 0, the derivative within the null space is
    1/2, the mean of both sides.
    """
    V = (V + V.T) / 2
    X = (V + _absolute(V)) / 2
    return (X + X.T) / 2


def svec(V: Array) -> Array:
    """Upper triangle of a symmetric V (n, n), column by column, off-diagonal entries times sqrt(2): lengths and angles are kept."""
    columns, rows = np.tril_indices(V.shape[0])
    return V[rows, columns] * jnp.asarray(np.where(rows == columns, 1.0, np.sqrt(2.0)), V.dtype)


def smat(v: Array) -> Array:
    """The symmetric matrix (n, n) of `svec`, v (n (n + 1) / 2,). Raises ValueError for another length."""
    n = round((np.sqrt(8 * v.size + 1) - 1) / 2)
    if n * (n + 1) // 2 != v.size:
        raise ValueError(f"found {v.size} entries, allowed: n (n + 1) / 2")
    columns, rows = np.tril_indices(n)
    entries = v * jnp.asarray(np.where(rows == columns, 1.0, np.sqrt(0.5)), v.dtype)
    return jnp.zeros((n, n), v.dtype).at[rows, columns].set(entries).at[columns, rows].set(entries)


def _psd_cone_svec_margin(v: Array) -> Array:
    return _psd_cone_margin(smat(v))


@with_margin(_psd_cone_svec_margin)
def psd_cone_svec(v: Array) -> Array:
    """`psd_cone` on vectors: v (n (n + 1) / 2,) is `svec` of a symmetric matrix, and so is the result."""
    return svec(psd_cone(smat(v)))
