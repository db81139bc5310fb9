"""Projections on the simplex, and on balls and spheres of the l1, l2 and l-infinity norms."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from implicit_cli.core.projections.operator import Array, nan_unless, nearest, norm, over, smooth, with_margin
from implicit_cli.core.projections.simple import box


def _support(v: Array, radius: Array) -> Array:
    """Entries (bool) that stay positive in the projection of v on `{x >= 0, sum x = radius}`, by sorting."""
    v, radius = jax.lax.stop_gradient((v.ravel(), radius))
    down = jnp.sort(v, descending=True)
    counts = jnp.arange(1, v.size + 1).astype(v.dtype)
    thresholds = (jnp.cumsum(down - down[0]) - radius) / counts
    count = jnp.maximum(jnp.sum(down - down[0] > thresholds), 1)
    threshold = thresholds[count - 1] + down[0]
    return (v > threshold) | (v == down[0])


def _excess(v: Array, radius: Array, support: Array) -> Array:
    """`v - tau` with `sum (v - tau) = radius` over the support.

    The largest entry is the origin, so that large v keep their digits.
    """
    v = v - jax.lax.stop_gradient(jnp.max(v))
    count = jnp.sum(support).astype(v.dtype)
    return v - (jnp.sum(jnp.where(support, v, 0.0)) - radius) / count


def _support_margin(v: Array, radius: Array, support: Array) -> Array:
    """Distance to the nearest v with an entry at the threshold, v (n,): |v_i - tau| over the length of its gradient."""
    count = jnp.sum(support).astype(v.dtype)
    share = jnp.where(support, -1.0, 1.0).astype(v.dtype) / count
    return nearest(over(_excess(v, radius, support), jnp.sqrt(jnp.maximum(1.0 + share, 0.0))))


def _simplex_margin(v: Array, radius: Array | float = 1.0) -> Array:
    radius = jnp.asarray(radius, v.dtype)
    return _support_margin(v.ravel(), radius, _support(v, radius))


@with_margin(_simplex_margin)
def simplex(v: Array, radius: Array | float = 1.0) -> Array:
    """Projection on `{x >= 0, sum x = radius}`: `max(v - tau, 0)`, any shape; entries of v may be -inf.

    At a kink (v_i = tau) the entry counts as zero. NaN where radius < 0.
    """
    radius = jnp.asarray(radius, v.dtype)
    support = _support(v, radius).reshape(v.shape)
    x = jnp.where(support, _excess(v, radius, support), 0.0)
    return nan_unless(radius >= 0, x)


@with_margin(smooth)
def kl_simplex(v: Array, radius: Array | float = 1.0) -> Array:
    """KL projection of `exp(v)` on `{x >= 0, sum x = radius}`: `radius softmax(v)`, any shape. Smooth for finite v.

    It maximises `<v, x> - sum x log x` over the set. Entries with v_i = -inf are 0.
    """
    return nan_unless(jnp.asarray(radius >= 0), radius * jax.nn.softmax(v.ravel()).reshape(v.shape))


def _signs(v: Array) -> Array:
    return jnp.where(v < 0, -1.0, 1.0).astype(v.dtype)


def _l1_ball_margin(v: Array, radius: Array) -> Array:
    size = jnp.abs(v).ravel()
    support = _support(size, radius)
    outside = jnp.sum(size) > radius
    to_ball = norm(size - jnp.where(support, _excess(size, radius, support), 0.0))
    to_sphere = (radius - jnp.sum(size)) / jnp.sqrt(jnp.asarray(v.size, v.dtype))
    return jnp.where(outside, jnp.minimum(_support_margin(size, radius, support), to_ball), to_sphere)


@with_margin(_l1_ball_margin)
def l1_ball(v: Array, radius: Array) -> Array:
    """Projection on `{|x|_1 <= radius}`, any shape: v inside, else `sign(v) max(|v| - tau, 0)`.

    At the kinks: on the sphere the derivative is the identity, an entry at the threshold counts as zero. NaN where radius < 0.
    """
    return jnp.where(jnp.sum(jnp.abs(v)) > radius, l1_sphere(v, radius), nan_unless(radius >= 0, v))


def _l1_sphere_margin(v: Array, radius: Array) -> Array:
    size = jnp.abs(v).ravel()
    support = _support(size, radius)
    to_sign_change = jnp.where(jnp.all(support), jnp.min(size), jnp.inf)
    return jnp.minimum(_support_margin(size, radius, support), to_sign_change)


@with_margin(_l1_sphere_margin)
def l1_sphere(v: Array, radius: Array) -> Array:
    """A nearest point of `{|x|_1 = radius}`, any shape: `sign(v) max(|v| - tau, 0)`, tau < 0 for v inside.

    The sphere is not convex: for v inside with v_i = 0 both signs are equally near, and the positive one is taken, with its
    derivative. Outside, an entry at the threshold counts as zero. NaN where radius < 0.
    """
    sign = _signs(v)
    return sign * simplex(sign * v, radius)


def _l2_margin(v: Array, radius: Array) -> Array:
    return jnp.abs(norm(v) - radius)


@with_margin(_l2_margin)
def l2_ball(v: Array, radius: Array) -> Array:
    """Projection on `{|x|_2 <= radius}`, any shape: `v min(1, radius / |v|)`.

    The derivative at v = 0 is the identity, as everywhere inside; so it is at the kink |v| = radius. NaN where radius < 0.
    """
    length = norm(v)
    outside = length > radius
    return nan_unless(radius >= 0, jnp.where(outside, v * (radius / jnp.where(outside, length, 1.0)), v))


def _l2_sphere_margin(v: Array, radius: Array) -> Array:
    return norm(v)


@with_margin(_l2_sphere_margin)
def l2_sphere(v: Array, radius: Array) -> Array:
    """A nearest point of `{|x|_2 = radius}`, any shape: `v radius / |v|`.

    At v = 0 all points of the sphere are equally near: the first unit vector times radius is taken, and the derivative with respect
    to v is 0 there. NaN where radius < 0.
    """
    length = norm(v)
    moved = length > 0
    first = jnp.zeros(v.size, v.dtype).at[0].set(1.0).reshape(v.shape)
    direction = jnp.where(moved, v / jnp.where(moved, length, 1.0), first)
    return nan_unless(radius >= 0, radius * direction)


def _linf_ball_margin(v: Array, radius: Array) -> Array:
    return nearest(jnp.abs(jnp.abs(v) - radius))


@with_margin(_linf_ball_margin)
def linf_ball(v: Array, radius: Array) -> Array:
    """Projection on `{|x|_inf <= radius}`, any shape: the box `[-radius, radius]`, with its choice at the kinks.

    NaN where radius < 0.
    """
    return box(v, -radius, radius)
