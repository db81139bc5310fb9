"""Projections on a polyhedron and on a box cut by a hyperplane."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from implicit_cli.core.projections.operator import Array, like, nan_unless, nearest, over, with_margin
from implicit_cli.core.projections.simple import affine_set

# A constraint is violated beyond this fraction of the size of the data; a row this near to the span of others depends on them.
VIOLATED, DEPENDENT = 1e-12, 1e-9


class _Walk(NamedTuple):
    """State of the dual active-set method: x is optimal for the active rows, with multipliers; row `entering` is on its way in."""

    x: Array
    multipliers: Array
    active: Array
    entering: Array
    is_entering: Array
    done: Array
    empty: Array
    steps: Array


def _equalities(A: Array, b: Array) -> tuple[Array, Array, Array]:
    """Orthonormal rows E (p, n) of the same set E x = e, zero where A is rank deficient, and whether A x = b has a solution."""
    if A.shape[0] == 0:
        return A, b, jnp.asarray(True)
    U, lengths, Vt = jnp.linalg.svd(A, full_matrices=False)
    kept = lengths > max(A.shape) * jnp.finfo(A.dtype).eps * jnp.max(lengths)
    coordinates = jnp.where(kept, (U.T @ b) / jnp.where(kept, lengths, 1.0), 0.0)
    rest = b - (U * lengths[None, :]) @ coordinates
    E = jnp.where(kept[:, None], Vt, 0.0)
    return E, coordinates, jnp.max(jnp.abs(rest)) <= 1e-9 * (jnp.max(jnp.abs(b)) + jnp.max(lengths))


def _walk(v: Array, A: Array, b: Array, G: Array, h: Array) -> tuple[Array, Array]:
    """Rows of G that are active at the projection, linearly independent of each other and of A, and whether the set has a point.

    The dual method starts from the projection on A x = b and brings in the most violated inequality, one by one, dropping rows
    whose multiplier would turn negative on the way. It needs no feasible start, ends after finitely many steps, and tells an
    empty set.
    """
    p, m = A.shape[0], G.shape[0]
    E, e, solvable = _equalities(A, b)
    length = jnp.sqrt(jnp.sum(G**2, axis=1))
    length = jnp.where(length > 0, length, 1.0)
    G, h = G / length[:, None], h / length
    rows, sides = jnp.concatenate([E, G]), jnp.concatenate([e, h])
    size = jnp.max(jnp.abs(v)) + jnp.max(jnp.abs(sides), initial=0.0) + jnp.finfo(v.dtype).tiny
    is_row = jnp.any(E != 0, axis=1)

    def on(active: Array) -> tuple[Array, Array]:
        """Active rows with zeros elsewhere, and their Gram matrix, completed to an invertible one."""
        mask = jnp.concatenate([is_row, active])
        N = jnp.where(mask[:, None], rows, 0.0)
        return N, N @ N.T + jnp.diag(jnp.where(mask, 0.0, 1.0).astype(v.dtype))

    def project(active: Array) -> tuple[Array, Array]:
        N, gram = on(active)
        y = jnp.linalg.solve(gram, N @ v - jnp.where(jnp.concatenate([is_row, active]), sides, 0.0))
        return v - N.T @ y, y[p:]

    def step(w: _Walk) -> _Walk:
        excess = jnp.where(w.active, -jnp.inf, G @ w.x - h)
        q = jnp.where(w.is_entering, w.entering, jnp.argmax(excess))
        done = ~w.is_entering & (excess[q] <= VIOLATED * size)
        N, gram = on(w.active)
        r = jnp.linalg.solve(gram, N @ G[q])
        z = G[q] - N.T @ r
        falls = w.active & (r[p:] > DEPENDENT)
        ratios = jnp.where(falls, w.multipliers / jnp.where(falls, r[p:], 1.0), jnp.inf)
        leaving = jnp.argmin(ratios)
        moves = jnp.sqrt(z @ z) > DEPENDENT
        full = jnp.where(moves, (G[q] @ w.x - h[q]) / jnp.where(moves, z @ z, 1.0), jnp.inf)
        t = jnp.minimum(ratios[leaving], full)
        empty = ~done & jnp.isinf(t)
        enters = full <= ratios[leaving]
        # entered: x and all multipliers afresh from the active rows, so that no rounding piles up
        with_q = w.active.at[q].set(True)
        x_full, y_full = project(with_q)
        without = w.active.at[leaving].set(False)
        finite = jnp.where(jnp.isinf(t), 0.0, t)
        partial = jnp.maximum(w.multipliers - finite * r[p:], 0.0).at[q].set(w.multipliers[q] + finite)
        following = _Walk(
            x=jnp.where(enters, x_full, w.x - jnp.where(moves, finite, 0.0) * z),
            multipliers=jnp.where(enters, jnp.maximum(y_full, 0.0), jnp.where(without | (jnp.arange(m) == q), partial, 0.0)),
            active=jnp.where(enters, with_q, without),
            entering=q,
            is_entering=~enters,
            done=empty,
            empty=empty,
            steps=w.steps + 1,
        )
        stay = w._replace(done=jnp.asarray(True), steps=w.steps + 1)
        return jax.tree.map(lambda a, b: jnp.where(done, a, b), stay, following)

    none = jnp.zeros(m, bool)
    x, _ = project(none)
    no = jnp.asarray(False)
    start = _Walk(x, jnp.zeros(m, v.dtype), none, jnp.asarray(0), no, no, no, jnp.asarray(0))
    limit = 20 * (m + v.size) + 100
    end = jax.lax.while_loop(lambda w: ~w.done & (w.steps < limit), step, start)
    return end.active, solvable & ~end.empty & end.done


def _active(v: Array, A: Array, b: Array, G: Array, h: Array) -> tuple[Array, Array]:
    if G.shape[0] == 0:
        return jnp.zeros(0, bool), _equalities(A, b)[2]
    return _walk(*jax.lax.stop_gradient((v, A, b, G, h)))


def _polyhedron_margin(v: Array, A: Array, b: Array, G: Array, h: Array) -> Array:
    active, sound = _active(v, A, b, G, h)
    length = jnp.sqrt(jnp.sum(G**2, axis=1))
    C = jnp.concatenate([A, jnp.where(active[:, None], G, 0.0)])
    if C.shape[0] == 0:
        return jnp.asarray(jnp.inf, v.dtype)
    inverse = jnp.linalg.pinv(C)
    multipliers = inverse.T @ (v - affine_set(v, C, jnp.concatenate([b, jnp.where(active, h, 0.0)])))
    x = v - C.T @ multipliers
    to_leave = over(multipliers[A.shape[0] :], jnp.sqrt(jnp.sum(inverse[:, A.shape[0] :] ** 2, axis=0)))
    free = G - (G @ inverse) @ C
    scale = jnp.where(length > 0, length, 1.0)
    to_enter = over((G @ x - h) / scale, jnp.sqrt(jnp.sum(free**2, axis=1)) / scale)
    return nan_unless(sound, nearest(jnp.where(active, to_leave, to_enter)))


@with_margin(_polyhedron_margin)
def polyhedron(v: Array, A: Array, b: Array, G: Array, h: Array) -> Array:
    """Projection on `{A x = b, G x <= h}`: v (n,), A (p, n), b (p,), G (m, n), h (m,); p or m may be 0, rows may depend on others.

    On the active rows C x = d it is `v - C^+ (C v - d)`. At a kink, where an active row has multiplier 0, the row counts as
    active if the search for the active set met it first. Where active rows depend on each other (more than n at a vertex) a
    spanning set of them carries the derivative with respect to the sides, and the margin is a lower bound; otherwise it is exact.
    NaN where the set is empty. Source of the search: Goldfarb and Idnani, "A numerically stable dual method", 1983.
    """
    active, sound = _active(v, A, b, G, h)
    C = jnp.concatenate([A, jnp.where(active[:, None], G, 0.0)])
    d = jnp.concatenate([b, jnp.where(active, h, 0.0)])
    return nan_unless(sound, affine_set(v, C, d))


class _Section(NamedTuple):
    """Which entries are free, at the lower and at the upper bound (bool), the shift t, and whether the set has a point."""

    free: Array
    low: Array
    high: Array
    middle: Array
    sound: Array


def _section(v: Array, lower: Array, upper: Array, w: Array, c: Array) -> _Section:
    """Solve `w'x(t) = c` for `x(t) = clip(v - t w, lower, upper)`.

    The left side is piecewise linear in t and falls, so the search is a bisection over its breakpoints.
    """
    v, lower, upper, w, c = jax.lax.stop_gradient((v, lower, upper, w, c))
    weighed = w != 0
    slope = jnp.where(weighed, w, 1.0)
    ends = jnp.where(weighed, jnp.stack([(v - lower) / slope, (v - upper) / slope]), jnp.inf).ravel()
    # beyond the outermost breakpoints, so that the root lies between two entries of a sorted list
    finite = jnp.isfinite(ends)
    first = jnp.min(jnp.where(finite, ends, jnp.inf))
    last = jnp.max(jnp.where(finite, ends, -jnp.inf))
    first, last = (jnp.where(jnp.isfinite(t), t, 0.0) for t in (first, last))
    stretch = 1.0 + jnp.abs(first) + jnp.abs(last)
    knots = jnp.sort(jnp.concatenate([jnp.where(finite, ends, last + stretch), jnp.stack([first - stretch, last + stretch])]))

    def excess(t: Array) -> Array:
        return jnp.sum(w * jnp.clip(v - t * w, lower, upper)) - c

    def halve(_: int, bracket: tuple[Array, Array]) -> tuple[Array, Array]:
        left, right = bracket
        centre = (left + right) // 2
        above = excess(knots[centre]) > tolerance
        return jnp.where(above, centre, left), jnp.where(above, right, centre)

    bounds = jnp.where(jnp.isfinite(jnp.stack([w * lower, w * upper])), jnp.abs(jnp.stack([w * lower, w * upper])), 0.0)
    tolerance = 1e-14 * (jnp.sum(jnp.max(bounds, axis=0)) + jnp.abs(c))
    left, right = jax.lax.fori_loop(0, max(knots.size - 1, 1).bit_length(), halve, (jnp.asarray(0), jnp.asarray(knots.size - 1)))
    following = jnp.min(jnp.where(knots > knots[right], knots, jnp.inf))
    # a flat stretch at height c to the right of the root: every entry is at a bound, and the middle of it is farthest from kinks
    flat = (jnp.abs(excess(knots[right])) <= tolerance) & (jnp.abs(excess(following)) <= tolerance) & jnp.isfinite(following)
    middle = jnp.where(flat, (knots[right] + following) / 2, (knots[left] + knots[right]) / 2)
    moved = v - middle * w
    low, high = moved <= lower, moved >= upper
    highest = jnp.sum(jnp.maximum(w * lower, w * upper), where=weighed)
    lowest = jnp.sum(jnp.minimum(w * lower, w * upper), where=weighed)
    slack = 1e-12 * (jnp.sum(jnp.max(bounds, axis=0)) + jnp.abs(c))
    sound = jnp.all(lower <= upper) & (c >= lowest - slack) & (c <= highest + slack)
    return _Section(~low & ~high, low, high & ~low, middle, sound)


def _shift(s: _Section, v: Array, lower: Array, upper: Array, w: Array, c: Array) -> tuple[Array, Array]:
    """The exact t on the piece, differentiable, and w'w over the free entries."""
    at_bounds = jnp.sum(
        jnp.where(s.low, w * jnp.where(s.low, lower, 0.0), 0.0) + jnp.where(s.high, w * jnp.where(s.high, upper, 0.0), 0.0)
    )
    weight = jnp.sum(jnp.where(s.free, w**2, 0.0))
    some = weight > 0
    t = (jnp.sum(jnp.where(s.free, w * v, 0.0)) + at_bounds - c) / jnp.where(some, weight, 1.0)
    return jnp.where(some, t, s.middle), weight


def _box_section_margin(v: Array, lower: Array, upper: Array, w: Array, c: Array) -> Array:
    lower, upper = like(v, lower), like(v, upper)
    s = _section(v, lower, upper, w, c)
    t, weight = _shift(s, v, lower, upper, w, c)
    some = weight > 0
    share = jnp.where(some, w**2 / jnp.where(some, weight, 1.0), 0.0)
    gradient = jnp.sqrt(jnp.maximum(jnp.where(s.free, 1.0 - share, 1.0 + share), 0.0))
    moved = v - t * w
    return nan_unless(s.sound, nearest(over(moved - lower, gradient), over(moved - upper, gradient)))


@with_margin(_box_section_margin)
def box_section(v: Array, lower: Array, upper: Array, w: Array, c: Array) -> Array:
    """Projection on `{lower <= x <= upper, <w, x> = c}`: `clip(v - t w, lower, upper)`; v and w (n,), bounds (n,) or scalars, c a
    scalar.

    w may have any signs and zeros, bounds may be infinite. At a kink the entry counts as at its bound. Where no entry is free (c at
    a corner of the box) x does not depend on v, and the margin is a lower bound; otherwise it is exact. NaN where the set is empty.
    """
    lower, upper = like(v, lower), like(v, upper)
    s = _section(v, lower, upper, w, c)
    t, _ = _shift(s, v, lower, upper, w, c)
    return nan_unless(s.sound, jnp.where(s.free, v - t * w, jnp.where(s.low, lower, upper)))
