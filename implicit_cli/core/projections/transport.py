"""Euclidean projections on the transportation polytope and on the Birkhoff polytope."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from implicit_cli.core.projections.operator import Array, nan_unless, nearest, over, with_margin

STEPS = 300
BALANCED = 1e-6
"""Sums of a and b that differ by more than this fraction leave the polytope empty."""


class _Dual(NamedTuple):
    """Multipliers y = (f, g) of the row and column sums, size of the gradient of the dual, whether it still falls."""

    y: Array
    error: Array
    falling: Array
    steps: Array


def balance(a: Array, b: Array) -> tuple[Array, Array, Array]:
    """a (m,) and b (n,) scaled to the mean of their sums, and whether those agree and nothing is negative."""
    total, other = jnp.sum(a), jnp.sum(b)
    mean = (total + other) / 2
    sound = (jnp.abs(total - other) <= BALANCED * mean) & jnp.all(a >= 0) & jnp.all(b >= 0)
    return a * (mean / jnp.where(total > 0, total, 1.0)), b * (mean / jnp.where(other > 0, other, 1.0)), sound


def sums(P: Array) -> Array:
    """Row sums and column sums of P (m, n), one vector (m + n,)."""
    return jnp.concatenate([jnp.sum(P, axis=1), jnp.sum(P, axis=0)])


def spread(y: Array, m: int) -> Array:
    """The transpose of `sums`: f_i + g_j for y = (f, g)."""
    return y[:m, None] + y[None, m:]


def gram(P: Array) -> Array:
    """`sums(P * spread(y)) = gram(P) y`: row sums and column sums on the diagonal, P beside it."""
    rows, columns = jnp.diag(jnp.sum(P, axis=1)), jnp.diag(jnp.sum(P, axis=0))
    return jnp.concatenate([jnp.concatenate([rows, P], axis=1), jnp.concatenate([P.T, columns], axis=1)])


def _multipliers(v: Array, s: Array) -> tuple[Array, Array]:
    """y with `sums(max(v + spread(y), 0)) = s`, and whether it was found: semismooth Newton on the dual, with a line search.

    The dual `|max(v + spread(y), 0)|^2 / 2 - s'y` is convex and piecewise quadratic. A ridge as small as the gradient makes the
    steps unique; once the support is right the next step lands on the solution.
    """
    m = v.shape[0]
    size = jnp.max(jnp.abs(v)) + jnp.max(s)
    lengths = 0.5 ** jnp.arange(12).astype(v.dtype)

    def dual(y: Array) -> Array:
        return jnp.sum(jnp.maximum(v + spread(y, m), 0.0) ** 2) / 2 - s @ y

    def gradient(y: Array) -> Array:
        return sums(jnp.maximum(v + spread(y, m), 0.0)) - s

    def step(state: _Dual) -> _Dual:
        slope = gradient(state.y)
        support = (v + spread(state.y, m) > 0).astype(v.dtype)
        ridge = jnp.minimum(1e-3, 1e-3 * state.error / size) + 1e-14
        newton = -jnp.linalg.solve(gram(support) + ridge * jnp.eye(s.size, dtype=v.dtype), slope)
        trials = state.y[None, :] + lengths[:, None] * newton[None, :]
        lowest = trials[jnp.argmin(jax.vmap(dual)(trials))]
        # near the end differences of the dual drown in rounding, those of its gradient do not
        full_error = jnp.max(jnp.abs(gradient(trials[0])))
        y = jnp.where(full_error < state.error / 2, trials[0], lowest)
        error = jnp.max(jnp.abs(gradient(y)))
        still = (error < state.error) | (error > 1e-9 * size)
        return _Dual(jnp.where(still, y, state.y), jnp.where(still, error, state.error), still, state.steps + 1)

    # the projection on the sums alone
    missing = s - sums(v)
    start = (missing - jnp.sum(missing) / (4 * m)) / v.shape[1]
    start = start.at[m:].set((missing[m:] - jnp.sum(missing) / (4 * v.shape[1])) / m)
    begin = _Dual(start, jnp.max(jnp.abs(gradient(start))), size >= 0, jnp.asarray(0))
    end = jax.lax.while_loop(lambda w: w.falling & (w.error > 0) & (w.steps < STEPS), step, begin)
    return end.y, end.error <= 1e-9 * size


class _Piece(NamedTuple):
    """Support of the solution, pseudo-inverse of its Gram matrix, multipliers, and whether all is sound."""

    support: Array
    inverse: Array
    y: Array
    sound: Array


def _piece(v: Array, s: Array) -> _Piece:
    v, s = jax.lax.stop_gradient((v, s))
    y, found = _multipliers(v, s)
    size = jnp.max(jnp.abs(v)) + jnp.max(s)
    support = v + spread(y, v.shape[0]) > 1e-14 * size
    return _Piece(support, jnp.linalg.pinv(gram(support.astype(v.dtype)), hermitian=True, rtol=1e-10), y, found)


def _transport_margin(v: Array, a: Array, b: Array) -> Array:
    a, b, sound = balance(a, b)
    piece = _piece(v, jnp.concatenate([a, b]))
    m, k = v.shape[0], piece.inverse
    share = jnp.diag(k)[:m, None] + jnp.diag(k)[None, m:] + 2.0 * k[:m, m:]
    gradient = jnp.sqrt(jnp.maximum(jnp.where(piece.support, 1.0 - share, 1.0 + share), 0.0))
    margin = nearest(over(v + spread(piece.y, m), gradient))
    return nan_unless(sound & piece.sound, margin)


@with_margin(_transport_margin)
def transport(v: Array, a: Array, b: Array) -> Array:
    """Projection on `{P >= 0, P 1 = a, P' 1 = b}`: v (m, n), a (m,), b (n,), `P = max(v + f 1' + 1 g', 0)`.

    f and g are the multipliers of the sums. sum a and sum b must agree (to 1e-6; both are scaled to their mean, so only the part of
    a change that keeps them equal is a change of the set). At a kink, v_ij + f_i + g_j = 0, the entry counts as zero. The margin is
    exact where the support of P is connected; else f and g are not unique and it is a lower bound. NaN where the set is empty.
    Source of the Newton method: Li, Sun and Toh, "On the efficient computation of a projector over the Birkhoff polytope", 2020.
    """
    a, b, sound = balance(a, b)
    s = jnp.concatenate([a, b])
    piece = _piece(v, s)
    y = piece.inverse @ (s - sums(jnp.where(piece.support, v, 0.0)))
    P = jnp.where(piece.support, v + spread(y, v.shape[0]), 0.0)
    # once more on what rounding left in the sums
    P = jnp.where(piece.support, P + spread(piece.inverse @ (s - sums(P)), v.shape[0]), 0.0)
    return nan_unless(sound & piece.sound, P)


def _birkhoff_margin(v: Array) -> Array:
    one = jnp.ones(v.shape[0], v.dtype)
    return _transport_margin(v, one, one)


@with_margin(_birkhoff_margin)
def birkhoff(v: Array) -> Array:
    """Projection on the doubly stochastic matrices `{P >= 0, P 1 = 1, P' 1 = 1}`, v (n, n): `transport` with sums 1."""
    one = jnp.ones(v.shape[0], v.dtype)
    return transport(v, one, one)
