"""Proximal operators: `prox(v, weight) = argmin_x |x - v|^2 / 2 + weight r(x)`, at step 1.

For a proximal-gradient step of length eta the weight is eta times that of the objective. What holds for every operator
(derivatives, kinks, margins) is told in `implicit_cli.core.projections.operator`. Weights are never negative; elementwise operators
take a scalar or an array of v's shape. Source: Parikh and Boyd, "Proximal Algorithms", 2014, section 6.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from implicit_cli.core.projections.operator import Array, like, nearest, norm, over, smooth, with_margin

__all__ = [
    "antitonic",
    "elastic_net",
    "group_lasso",
    "isotonic",
    "lasso",
    "log",
    "none",
    "nonnegative_lasso",
    "nonnegative_ridge",
    "ridge",
]


@with_margin(smooth)
def none(v: Array) -> Array:
    """r = 0: the identity."""
    return v


def _lasso_margin(v: Array, weight: Array) -> Array:
    return nearest(jnp.abs(jnp.abs(v) - like(v, weight)))


@with_margin(_lasso_margin)
def lasso(v: Array, weight: Array) -> Array:
    """r = |x|_1, soft threshold: `sign(v) max(|v| - weight, 0)`, any shape. At the kinks |v_i| = weight the derivative is 0."""
    weight = like(v, weight)
    return jnp.where(v > weight, v - weight, jnp.where(v < -weight, v + weight, 0.0))


def _nonnegative_lasso_margin(v: Array, weight: Array) -> Array:
    return nearest(jnp.abs(v - like(v, weight)))


@with_margin(_nonnegative_lasso_margin)
def nonnegative_lasso(v: Array, weight: Array) -> Array:
    """r = sum x for x >= 0, else infinite: `max(v - weight, 0)`, any shape. At the kink v_i = weight the derivative is 0."""
    weight = like(v, weight)
    return jnp.where(v > weight, v - weight, 0.0)


def _elastic_net_margin(v: Array, l1: Array, l2: Array) -> Array:
    return _lasso_margin(v, l1)


@with_margin(_elastic_net_margin)
def elastic_net(v: Array, l1: Array, l2: Array) -> Array:
    """`argmin |x - v|^2 / 2 + l1 |x|_1 + l2 / 2 |x|^2 = lasso(v, l1) / (1 + l2)`, any shape. At the kinks of `lasso` it is 0."""
    return lasso(v, l1) / (1.0 + like(v, l2))


def _group_lasso_margin(v: Array, weight: Array) -> Array:
    return jnp.abs(norm(v) - weight)


@with_margin(_group_lasso_margin)
def group_lasso(v: Array, weight: Array) -> Array:
    """r = |x|_2 of the whole of v, any shape, weight a scalar: `v max(1 - weight / |v|, 0)`.

    The derivative is 0 for |v| < weight, at v = 0 too, and so it is at the kink |v| = weight.
    """
    length = norm(v)
    outside = length > weight
    return jnp.where(outside, v * (1.0 - weight / jnp.where(outside, length, 1.0)), 0.0)


@with_margin(smooth)
def ridge(v: Array, weight: Array) -> Array:
    """r = |x|^2 / 2 (with the half): `v / (1 + weight)`, any shape. Smooth."""
    return v / (1.0 + like(v, weight))


def _nonnegative_ridge_margin(v: Array, weight: Array) -> Array:
    return nearest(jnp.abs(v))


@with_margin(_nonnegative_ridge_margin)
def nonnegative_ridge(v: Array, weight: Array) -> Array:
    """r = |x|^2 / 2 (with the half) for x >= 0, else infinite: `max(v, 0) / (1 + weight)`, any shape.

    At the kink v_i = 0 the derivative is 0.
    """
    return jnp.where(v > 0, v, 0.0) / (1.0 + like(v, weight))


def _log_margin(v: Array, weight: Array) -> Array:
    return nearest(jnp.where(like(v, weight) > 0, jnp.inf, jnp.abs(v)))


@with_margin(_log_margin)
def log(v: Array, weight: Array) -> Array:
    """r = -sum log x: `(v + sqrt(v^2 + 4 weight)) / 2`, any shape. Smooth for weight > 0.

    weight = 0 is the projection on x >= 0, with derivative 0 at v_i = 0.
    """
    weight = like(v, weight)
    square = v**2 + 4.0 * weight
    positive = square > 0
    root = jnp.where(positive, jnp.sqrt(jnp.where(positive, square, 1.0)), 0.0)
    # for v < 0 the sum cancels; this is the same number without the cancellation
    below = v < 0
    flipped = 2.0 * weight / jnp.where(below, root - v, 1.0)
    return jnp.where(below, flipped, jnp.where(positive, (v + root) / 2.0, 0.0))


# Monotone sequences. Both are projections; they are here because they are used as proximal operators.


def _mean(v: Array, blocks: Array) -> Array:
    """Mean of v over each block, at every position; `blocks` (n,) are consecutive integers from 0."""
    sums = jax.ops.segment_sum(v, blocks, num_segments=v.size, indices_are_sorted=True)
    counts = jax.ops.segment_sum(jnp.ones_like(v), blocks, num_segments=v.size, indices_are_sorted=True)
    return (sums / jnp.where(counts > 0, counts, 1.0))[blocks]


def _first(blocks: Array) -> Array:
    """True at the first position of each block."""
    return jnp.concatenate([jnp.ones(1, bool), blocks[1:] != blocks[:-1]])


def _pooled(v: Array) -> Array:
    """Blocks (n,) of equal value in the isotonic fit: all adjacent violators are pooled at once until none is left.

    Two adjacent blocks whose means decrease lie in one block of the fit, so pooling many pairs in one round is right, too.
    """

    def pool(state: tuple[Array, Array]) -> tuple[Array, Array]:
        blocks, _ = state
        mean = _mean(v, blocks)
        starts = _first(blocks)
        keep = starts & jnp.concatenate([jnp.ones(1, bool), mean[1:] >= mean[:-1]])
        return jnp.cumsum(keep) - 1, jnp.any(keep != starts)

    v = jax.lax.stop_gradient(v)
    # `changed` starts from v so that it varies wherever v does, under every transformation
    return jax.lax.while_loop(lambda state: state[1], pool, (jnp.arange(v.size), v[0] == v[0]))[0]


def _isotonic_margin(v: Array) -> Array:
    blocks = _pooled(v)
    mean = _mean(v, blocks)
    starts = _first(blocks)
    ones = jnp.ones_like(v)
    total = jax.ops.segment_sum(ones, blocks, num_segments=v.size)[blocks]
    position = jnp.arange(v.size)
    begin = jax.lax.cummax(jnp.where(starts, position, 0))
    # how far each block is from splitting after position i: the means of both halves
    centred = jnp.cumsum(v - mean)
    before = jnp.where(begin > 0, centred[begin - 1], 0.0)
    left = (position - begin + 1).astype(v.dtype)
    right = total - left
    split = over(centred - before, jnp.sqrt(left * right / total))
    # and how far two neighbours are from being pooled
    merge = over(mean[1:] - mean[:-1], jnp.sqrt(1.0 / total[1:] + 1.0 / total[:-1]))
    return nearest(split, jnp.where(starts[1:], merge, jnp.inf))


@with_margin(_isotonic_margin)
def isotonic(v: Array) -> Array:
    """Projection on `{x_1 <= x_2 <= ... <= x_n}`, v (n,): means over blocks of v (pool adjacent violators).

    At a kink, where two neighbouring blocks have equal means, they count as two. Source: Best and Chakravarti, "Active set
    algorithms for isotonic regression", 1990.
    """
    return _mean(v, _pooled(v))


def _antitonic_margin(v: Array) -> Array:
    return _isotonic_margin(v[::-1])


@with_margin(_antitonic_margin)
def antitonic(v: Array) -> Array:
    """Projection on `{x_1 >= x_2 >= ... >= x_n}`, v (n,): `isotonic` backwards, with its choice at the kinks."""
    return isotonic(v[::-1])[::-1]
