"""Kullback-Leibler projections on the transportation polytope and on the Birkhoff polytope."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from implicit_cli.core.projections.operator import Array, nan_unless, smooth, with_margin
from implicit_cli.core.projections.transport import balance, gram, spread, sums

STEPS = 1000
CONVERGED = 1e-9
"""A solve whose sums miss by more than this fraction has failed: NaN."""


class _Scaling(NamedTuple):
    """Potentials y = (f, g) of `exp(v + spread(y))`, error of its sums, whether that still falls."""

    y: Array
    error: Array
    falling: Array
    steps: Array


def _log(s: Array) -> Array:
    return jnp.where(s > 0, jnp.log(jnp.where(s > 0, s, 1.0)), -jnp.inf)


def _less(s: Array, sum_of_exp: Array) -> Array:
    """`log s - log sum exp`, -inf where s is 0 and whatever the sum is."""
    return jnp.where(s > 0, _log(s) - jnp.where(jnp.isneginf(sum_of_exp), 0.0, sum_of_exp), -jnp.inf)


def _potentials(v: Array, a: Array, b: Array) -> tuple[Array, Array]:
    """y = (f, g) with `sums(exp(v + spread(y))) = (a, b)`, and whether they were found.

    Each step is one Sinkhorn sweep, which always helps, and then a Newton step on the concave dual, cut back until the sums come
    nearer; near the end it converges quadratically.
    """
    m = v.shape[0]
    s = jnp.concatenate([a, b])
    size = jnp.max(s)
    positive = s > 0
    # the sums fix y but for a shift of f against g
    gauge = jnp.concatenate([jnp.ones_like(a), -jnp.ones_like(b)]) / jnp.sqrt(jnp.asarray(s.size, v.dtype))
    lengths = jnp.concatenate([0.5 ** jnp.arange(6).astype(v.dtype), jnp.zeros(1, v.dtype)])

    def error(y: Array) -> Array:
        return jnp.sum(jnp.abs(sums(jnp.exp(v + spread(y, m))) - s))

    def sweep(y: Array) -> Array:
        f = _less(a, jax.nn.logsumexp(v + y[None, m:], axis=1))
        g = _less(b, jax.nn.logsumexp(v + f[:, None], axis=0))
        return jnp.concatenate([f, g])

    def step(state: _Scaling) -> _Scaling:
        swept = sweep(state.y)
        P = jnp.exp(v + spread(swept, m))
        # scaled to unit diagonal, which keeps small sums as sharp as large ones
        scale = jnp.where(positive, 1.0 / jnp.sqrt(jnp.where(positive, s, 1.0)), 0.0)
        scaled = scale[:, None] * gram(P) * scale[None, :] + jnp.diag(jnp.where(positive, 0.0, 1.0).astype(v.dtype))
        null = gauge * jnp.sqrt(s)
        completed = scaled + null[:, None] * null[None, :] / jnp.maximum(null @ null, jnp.finfo(v.dtype).tiny)
        newton = scale * jnp.linalg.solve(completed, scale * (s - sums(P)))
        newton = jnp.where(jnp.isfinite(newton), newton, 0.0)
        trials = swept[None, :] + lengths[:, None] * newton[None, :]
        errors = jax.vmap(error)(trials)
        errors = jnp.where(jnp.isfinite(errors), errors, jnp.inf)
        best = jnp.argmin(errors)
        still = (errors[best] < state.error) | (errors[best] > CONVERGED * size)
        return _Scaling(
            jnp.where(still, trials[best], state.y), jnp.where(still, errors[best], state.error), still, state.steps + 1
        )

    start = sweep(jnp.zeros_like(s))
    begin = _Scaling(start, error(start), size >= 0, jnp.asarray(0))
    end = jax.lax.while_loop(lambda w: w.falling & (w.error > 0) & (w.steps < STEPS), step, begin)
    return end.y, end.error <= CONVERGED * size


@jax.custom_jvp
def _scaled(v: Array, a: Array, b: Array) -> tuple[Array, Array]:
    """`P = exp(v + f 1' + 1 g')` with row sums a and column sums b, sum a = sum b; and (f, g), as a constant."""
    y, found = _potentials(v, a, b)
    return nan_unless(found, jnp.exp(v + spread(y, v.shape[0]))), y


@_scaled.defjvp
def _scaled_jvp(primals: tuple[Array, Array, Array], tangents: tuple[Array, Array, Array]) -> tuple[Any, Any]:
    """`dP = P dv + R phi + C gamma`, where R and C are P with rows and columns scaled to sum 1 and (phi, gamma) keep the sums
    right.

    With phi = a df and gamma = b dg in place of df and dg nothing is divided by a sum that is 0.
    """
    v, a, b = primals
    dv, da, db = tangents
    P, y = _scaled(v, a, b)
    m = a.size
    # where a sum is 0, the shares that its entries take as soon as it is not
    row_share = jax.nn.softmax(v + y[None, m:], axis=1)
    column_share = jax.nn.softmax(v + y[:m, None], axis=0)
    R = jnp.where(a[:, None] > 0, P / jnp.where(a > 0, a, 1.0)[:, None], row_share)
    C = jnp.where(b[None, :] > 0, P / jnp.where(b > 0, b, 1.0)[None, :], column_share)
    eye_a, eye_b = jnp.eye(m, dtype=v.dtype), jnp.eye(b.size, dtype=v.dtype)
    K = jnp.concatenate([jnp.concatenate([eye_a, C], axis=1), jnp.concatenate([R.T, eye_b], axis=1)])
    # K (a, -b) = 0 and (1, -1)' K = 0: complete it; the right-hand side has no part along (1, -1) while the sums stay equal
    left = jnp.concatenate([jnp.ones_like(a), -jnp.ones_like(b)])
    right = jnp.concatenate([a, -b]) / jnp.sum(a)
    moved = P * jnp.where(P > 0, dv, 0.0)
    both = jnp.linalg.solve(K + left[:, None] * right[None, :] / left.size, jnp.concatenate([da, db]) - sums(moved))
    return (P, y), (moved + R * both[:m, None] + C * both[None, m:], jnp.zeros_like(y))


@with_margin(smooth)
def kl_transport(v: Array, a: Array, b: Array) -> Array:
    """KL projection of `exp(v)` on `{P >= 0, P 1 = a, P' 1 = b}`: v (m, n), a (m,), b (n,), `P = diag(e^f) exp(v) diag(e^g)`.

    It maximises `<v, P> - sum P log P` over the set. sum a and sum b must agree (to 1e-6; both are scaled to their mean). Entries
    of v may be -inf (P_ij = 0) where the rest has a solution; sums may be 0, with the right one-sided derivative. Smooth in v.
    NaN where the set is empty or the solve fails, as it can where v spans hundreds. Source: Sinkhorn, 1967; Cuturi, 2013.
    """
    a, b, sound = balance(a, b)
    return nan_unless(sound, _scaled(v, a, b)[0])


@with_margin(smooth)
def kl_birkhoff(v: Array) -> Array:
    """KL projection of `exp(v)` on the doubly stochastic matrices, v (n, n): `kl_transport` with sums 1. Smooth."""
    one = jnp.ones(v.shape[0], v.dtype)
    return kl_transport(v, one, one)
