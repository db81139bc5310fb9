"""Projections with a formula of one line: orthant, box, hyperplane, half-space, affine set."""

from __future__ import annotations

import jax.numpy as jnp

from implicit_cli.core.projections.operator import Array, like, nan_unless, nearest, norm, smooth, with_margin


def _nonnegative_margin(v: Array) -> Array:
    return nearest(jnp.abs(v))


@with_margin(_nonnegative_margin)
def nonnegative(v: Array) -> Array:
    """Projection on `{x >= 0}`: `max(v, 0)`, any shape. At the kink v_i = 0 the derivative is 0."""
    return jnp.where(v > 0, v, 0.0)


def _box_margin(v: Array, lower: Array, upper: Array) -> Array:
    return nearest(jnp.abs(v - like(v, lower)), jnp.abs(v - like(v, upper)))


@with_margin(_box_margin)
def box(v: Array, lower: Array, upper: Array) -> Array:
    """Projection on `{lower <= x <= upper}`, any shape; bounds are scalars or of v's shape, and may be infinite.

    At the kink v_i = bound the derivative is that from the inside: 1 with respect to v_i, 0 to the bound. NaN where lower > upper.
    """
    lower, upper = like(v, lower), like(v, upper)
    inside = jnp.where(v > upper, upper, v)
    return nan_unless(jnp.all(lower <= upper), jnp.where(v < lower, lower, inside))


def _linear_margin(v: Array, a: Array, b: Array) -> Array:
    return jnp.abs(jnp.vdot(a, v) - b) / norm(a)


@with_margin(smooth)
def hyperplane(v: Array, a: Array, b: Array) -> Array:
    """Projection on `{<a, x> = b}`: `v - a (<a, v> - b) / <a, a>`, a of v's shape and not 0, b a scalar. Smooth."""
    return v - a * ((jnp.vdot(a, v) - b) / jnp.vdot(a, a))


@with_margin(_linear_margin)
def half_space(v: Array, a: Array, b: Array) -> Array:
    """Projection on `{<a, x> <= b}`: `v - a max(<a, v> - b, 0) / <a, a>`, a of v's shape and not 0, b a scalar.

    At the kink <a, v> = b the derivative is that from the inside, the identity.
    """
    excess = jnp.vdot(a, v) - b
    return v - a * (jnp.where(excess > 0, excess, 0.0) / jnp.vdot(a, a))


@with_margin(smooth)
def affine_set(v: Array, A: Array, b: Array) -> Array:
    """Projection on `{A x = b}`: `v - A^+ (A v - b)`, v (n,), A (p, n), b (p,). Smooth in v.

    A may be rank deficient, A^+ is the pseudo-inverse; the derivative with respect to A is then that at constant rank. Where
    A x = b has no solution, x is the nearest point to v among those of least |A x - b|.
    """
    if A.shape[0] == 0:
        return v
    return v - jnp.linalg.pinv(A) @ (A @ v - b)
