"""Projection on the exponential cone."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from implicit_cli.core.projections.operator import Array, nearest, norm, with_margin

# r = sinh(s) is searched for s in this range: down to -1e18, where the cone meets its flat face, and up to 300.
LOWEST, HIGHEST, HALVINGS = -42.0, float(np.arcsinh(300.0)), 90


def _inside(x: Array, y: Array, z: Array) -> Array:
    """(x, y, z) in the closure of `y exp(x / y) <= z, y > 0`."""
    above = y > 0
    return jnp.where(above, _surface(x, jnp.where(above, y, 1.0)) <= z, (x <= 0) & (y == 0) & (z >= 0))


def _surface(x: Array, y: Array) -> Array:
    """`y exp(x / y)`, y > 0."""
    return y * jnp.exp(jnp.minimum(x / y, 700.0))


def _in_polar(x: Array, y: Array, z: Array) -> Array:
    """(x, y, z) in the polar cone: `x exp(y / x) <= -e z` for x > 0, its closure at x = 0."""
    right = x > 0
    return jnp.where(right, _surface(y, jnp.where(right, x, 1.0)) <= -np.e * z, (x == 0) & (y <= 0) & (z <= 0))


def _tilt(r: Array, v: Array) -> Array:
    """`<u x n, v>` over max(1, e^2r), u = (r, 1, e^r) on the surface and n its normal.

    At the root r, v lies in the plane of u and n.
    """
    x, y, z = v
    one, e, square = _powers(r)
    return -x * (one + (1.0 - r) * square) + y * (square + r * one) + z * e * (r - r**2 - 1.0)


def _powers(r: Array) -> tuple[Array, Array, Array]:
    """1, e^r and e^2r, all over max(1, e^2r)."""
    right = r > 0
    up, down = jnp.where(right, r, 0.0), jnp.where(right, 0.0, r)
    return jnp.exp(-2.0 * up), jnp.exp(down - up), jnp.exp(2.0 * down)


def _too_low(r: Array, v: Array) -> Array:
    """True where the root lies above r.

    Only roots with v on the outer side of the tangent plane (h > 0) and towards the ray (q > 0) count; these r form one interval
    with one root, and the signs of y and z tell on which side of it an r without them is.
    """
    x, y, z = v
    # both are only read for their signs; far below, e^-r overflows and z alone decides, unless it is 0
    h = jnp.where((r < -600.0) & (z != 0), -z, x + (1.0 - r) * y - z * jnp.exp(-jnp.maximum(r, -600.0)))
    q = r * x + y + z * jnp.exp(r)
    tiny = jnp.finfo(r.dtype).tiny
    top_of_h = jnp.log(jnp.maximum(z, tiny)) - jnp.log(jnp.maximum(y, tiny))
    top_of_q = jnp.log(jnp.maximum(x, tiny)) - jnp.log(jnp.maximum(-z, tiny))
    outside_h = jnp.where(y > 0, (z > 0) & (r < top_of_h), z >= 0)
    outside_q = (z > 0) | ((x > 0) & (r < top_of_q))
    h_counts = (h <= 0) & ((y > 0) | (z >= 0))
    return jnp.where(h_counts, outside_h, jnp.where(q <= 0, outside_q, _tilt(r, v) < 0))


def _root(v: Array) -> Array:
    """r = x / y of the projection of v on the curved part of the surface; differentiable in v, to any order."""

    def search(_: Any, __: Array) -> Array:
        def halve(_: int, ends: tuple[Array, Array]) -> tuple[Array, Array]:
            low, high = ends
            middle = (low + high) / 2
            above = _too_low(jnp.sinh(middle), jax.lax.stop_gradient(v))
            return jnp.where(above, middle, low), jnp.where(above, high, middle)

        ends = (jnp.asarray(LOWEST, v.dtype), jnp.asarray(HIGHEST, v.dtype))
        low, high = jax.lax.fori_loop(0, HALVINGS, halve, ends)
        return jnp.sinh((low + high) / 2)

    guess = jnp.zeros((), v.dtype)
    return jax.lax.custom_root(lambda r: _tilt(r, v), guess, search, lambda g, y: y / g(jnp.ones_like(y)))


def _on_surface(v: Array) -> Array:
    r = _root(v)
    # the ray (r, 1, e^r), shrunk where e^r or r is large
    shrink = jnp.exp(-jax.lax.stop_gradient(jnp.maximum(r, 0.0))) / (1.0 + jnp.abs(jax.lax.stop_gradient(jnp.minimum(r, 0.0))))
    u = jnp.stack([r * shrink, shrink, jnp.exp(r + jax.lax.stop_gradient(jnp.log(shrink)))])
    return u * ((u @ v) / (u @ u))


def _regions(v: Array) -> tuple[Array, Array, Array]:
    """v in the cone, in its polar, and x <= 0, y <= 0 outside of both."""
    x, y, z = v
    inside, polar = _inside(x, y, z), _in_polar(x, y, z)
    return inside, polar, ~inside & ~polar & (x <= 0) & (y <= 0)


def _depth(x: Array, y: Array, z: Array) -> Array:
    """The largest half-width of a cube around (x, y, z) in which `y exp(x / y) <= z`, by bisection: a ball fits, too."""

    def halve(_: int, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        d = (low + high) / 2
        # y exp(x / y) is convex in y: largest at an end
        fits = (y - d > 0) & (_surface(x + d, jnp.where(y - d > 0, y - d, 1.0)) <= z - d) & (_surface(x + d, y + d) <= z - d)
        return jnp.where(fits, d, low), jnp.where(fits, high, d)

    return jax.lax.fori_loop(0, 60, halve, (jnp.zeros_like(y), jnp.maximum(y, 0.0)))[0]


def _exponential_cone_margin(v: Array) -> Array:
    inside, polar, face = _regions(v)
    x, y, z = v
    safe = jnp.where(inside | polar | face, jnp.ones(3, v.dtype), v)
    p = _on_surface(safe)
    positive = jnp.maximum(v[:2], 0.0)
    outside = nearest(norm(v - p), norm(p), norm(positive))
    in_polar = _depth(y, jnp.where(polar, x, 1.0), -np.e * z) / np.e
    return jnp.where(
        inside, _depth(x, jnp.where(inside, y, 1.0), z), jnp.where(polar, in_polar, jnp.where(face, nearest(jnp.abs(v)), outside))
    )


@with_margin(_exponential_cone_margin)
def exponential_cone(v: Array) -> Array:
    """Projection on the closure of `{(x, y, z): y exp(x / y) <= z, y > 0}`, v = (x, y, z) of shape (3,).

    v in the cone, 0 in its polar, (x, 0, max(z, 0)) where x and y are negative, else on the curved surface at a ray (r, 1, e^r)
    whose r is the root of one equation. At the kinks the derivative is that of the first of these that holds (z = 0: that of 0).
    The margin is exact outside of the cone and its polar, a lower bound inside. Source of the univariate equation: Friberg,
    "Projection onto the exponential cone: a univariate root-finding problem", 2023.
    """
    inside, polar, face = _regions(v)
    safe = jnp.where(inside | polar | face, jnp.ones(3, v.dtype), v)
    x, _, z = v
    flat = jnp.stack([x, jnp.zeros_like(x), jnp.where(z > 0, z, 0.0)])
    return jnp.where(inside, v, jnp.where(polar, 0.0, jnp.where(face, flat, _on_surface(safe))))


def _exponential_dual_cone_margin(v: Array) -> Array:
    return _exponential_cone_margin(-v)


@with_margin(_exponential_dual_cone_margin)
def exponential_dual_cone(v: Array) -> Array:
    """Projection on the dual of the exponential cone, by Moreau's theorem: `v + exponential_cone(-v)`, v (3,)."""
    return v + exponential_cone(-v)
