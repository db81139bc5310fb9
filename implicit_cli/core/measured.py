"""Measurements of F and g around a point, each one compiled program: what rounding does to them, and how A and B change.

Every function here takes a `System` first and is called as `system.compiled(function)(...)`.

Rounding is not bounded from the operations inside F, which nobody knows: every floating-point number that enters, x, theta and data
alike, is moved up or down by one rounding, at random, a few times, and what becomes of the result is its error.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import accumulate
from typing import Any

import jax
import jax.numpy as jnp

from implicit_cli.core.implicit import Matrix, Point, System, Vector

PROBES = 4
"""Random vectors that measure norms and rounding."""
ROUNDING = 4.0
"""Roundings of each operand, of which one is measured."""
WIDTH = 64
"""Columns of I at once."""
WORD = 32
"""Random signs that one random number gives."""

Pair = Callable[[System, Point, Matrix, Matrix], tuple[Matrix, Matrix]]
"""Two matrices that depend on a point and on two matrices of as many columns."""


def rounded(numbers: Any, seed: Any) -> Any:
    """Every floating-point number of a pytree moved up or down by one rounding; by none where the seed is 0."""
    leaves, tree = jax.tree.flatten(jax.tree.map(jnp.asarray, numbers))
    where = [i for i, leaf in enumerate(leaves) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    # One draw for all: a generator is most of what there is to compile here.
    words = [-(-leaves[i].size // WORD) for i in where]
    bits = jax.random.bits(jax.random.key(seed), (sum(words),), jnp.uint32)
    for i, own in zip(where, jnp.split(bits, list(accumulate(words))[:-1]), strict=True):
        eps = jnp.where(jnp.asarray(seed) == 0, 0.0, jnp.finfo(leaves[i].dtype).eps).astype(leaves[i].dtype)
        leaves[i] = leaves[i] * (1 + eps * _signs(own, leaves[i]))
    return jax.tree.unflatten(tree, leaves)


def _signs(words: jax.Array, like: jax.Array) -> jax.Array:
    """-1 or 1 at random, one bit each: random numbers are what rounding a large array would otherwise spend its time on."""
    taken = (words[:, None] >> jnp.arange(WORD, dtype=jnp.uint32)[None]) & jnp.uint32(1)
    return (2 * taken.astype(like.dtype) - 1).reshape(-1)[: like.size].reshape(like.shape)


def _each(f: Callable[[Any], Any], count: int) -> Any:
    """f(0), .., f(count - 1), stacked; as a loop with one copy of f, for it is compiling that takes time."""
    return jax.lax.map(f, jnp.arange(count))


def rounding_of_F(system: System, p: Point) -> Matrix:
    """F, its changes where everything that enters is rounded, and a random vector, as columns (d, PROBES + 2)."""

    def F(seed: Any) -> Vector:
        q = rounded(p, seed)
        return system.F(q.x, q.theta, q.data)

    found = _each(F, PROBES + 1)
    moved = found[1:] - found[:1]
    return jnp.concatenate([found[:1], moved, jax.random.normal(jax.random.key(4), (1, p.x.size), p.x.dtype)]).T


def of_g(system: System, p: Point, e: Vector, unit: Matrix) -> tuple[Vector, Vector, Vector, Vector]:
    """g(x, theta), entry by entry (m,): its change as x moves by e, the largest change that rounding makes and its own rounding,
    |g_x| at x + e, and the largest change by the columns of `unit` (d, k).
    """

    def g(which: Any) -> Vector:
        q = rounded(p, jnp.where(which == 1, 0, which))
        return system.g(q.x + jnp.where(which == 1, e, jnp.zeros_like(e)), q.theta, q.data)

    found = _each(g, PROBES + 2)
    along = system.g_tangent(p, unit, jnp.zeros((p.theta.size, unit.shape[1]), p.theta.dtype))
    return (
        found[1] - found[0],
        ROUNDING * (jnp.max(jnp.abs(found[2:] - found[:1]), axis=0) + jnp.finfo(found.dtype).eps * jnp.abs(found[0])),
        row_lengths(system, p._replace(x=p.x + e), found.shape[1]),
        jnp.max(jnp.abs(along), axis=1, initial=0.0),
    )


def row_lengths(system: System, p: Point, m: int) -> Vector:
    """|g_x| row by row (m,): from products with columns of I, on the side that has fewer, so many at a time."""
    d = p.x.size
    if m <= WIDTH:
        return jnp.linalg.norm(system.g_cotangent(p, jnp.eye(m, dtype=p.x.dtype))[0], axis=0)

    def columns(begin: Any, size: int) -> Matrix:
        return (jnp.arange(size)[:, None] == begin + jnp.arange(WIDTH)[None, :]).astype(p.x.dtype)

    if m <= d:
        starts = jnp.arange(0, m, WIDTH)
        found = jax.lax.map(lambda begin: jnp.linalg.norm(system.g_cotangent(p, columns(begin, m))[0], axis=0), starts)
        return found.ravel()[:m]
    still = jnp.zeros((p.theta.size, WIDTH), p.theta.dtype)

    def added(begin: Any, squares: Vector) -> Vector:
        return squares + jnp.sum(system.g_tangent(p, columns(WIDTH * begin, d), still) ** 2, axis=1)

    return jnp.sqrt(jax.lax.fori_loop(0, -(-d // WIDTH), added, jnp.zeros(m, p.x.dtype)))


def rounding_of(
    f: Pair, system: System, p: Point, moves: Matrix, before: Vector, U: Matrix, V: Matrix, chosen: jax.Array
) -> tuple[Matrix, Matrix, Matrix]:
    """The largest that rounding of all numbers makes of `f` in the chosen columns of U and V, entry by entry.

    Rounding also leaves x unknown: each time x moves by another column of `moves` (d, PROBES), for in a single direction `f` may
    change by next to nothing. Last comes the change of the first matrix from x = `before` to p.
    """
    U, V = U[:, chosen], V[:, chosen]

    def at(which: Any) -> tuple[Matrix, Matrix]:
        q, U_, V_ = rounded((p, U, V), jnp.where(which > 1, which, 0))
        move = jnp.where(which > 1, moves[:, jnp.maximum(which - 2, 0)], jnp.zeros_like(before))
        return f(system, q._replace(x=jnp.where(which == 1, before, q.x + move)), U_, V_)

    def largest(found: jax.Array) -> Matrix:
        return ROUNDING * jnp.max(jnp.abs(found[2:] - found[:1]), axis=0)

    first, second = _each(at, PROBES + 2)
    return largest(first), largest(second), first[0] - first[1]


def products(system: System, p: Point, U: Matrix, V: Matrix) -> tuple[Matrix, Matrix]:
    """What directions leave of the tangent equation, `A U + B V`, and the product `g_x U + g_theta V`."""
    return system.F_tangent(p, U, V), system.g_tangent(p, U, V)


def adjoint_products(system: System, p: Point, U: Matrix, W_y: Matrix) -> tuple[Matrix, Matrix]:
    """`g_x' w - A' u`, which with w's own weight on x vanishes, and the product `g_theta' w - B' u`."""
    return tuple(map(jnp.subtract, system.g_cotangent(p, W_y), system.F_cotangent(p, U)))  # type: ignore[return-value]


def adjoint_left(system: System, p: Point, U: Matrix, C: Matrix, W_x: Matrix, W_y: Matrix) -> tuple[Matrix, Matrix]:
    """What U + C leaves of the adjoint's equation, `W_x + g_x' W_y - A' (U + C)`, and the product with U + C."""
    left, L = adjoint_products(system, p, U + C, W_y)
    return W_x + left, L


rounding_of_products = partial(rounding_of, products)
rounding_of_adjoint_products = partial(rounding_of, adjoint_products)


def rounding_of_Bt(system: System, p: Point, U: Matrix) -> jax.Array:
    """Frobenius norm of what rounding of all numbers makes of B' U."""
    found = _each(lambda seed: system.Bt_times(rounded(p, seed), U), PROBES + 1)
    return ROUNDING * jnp.sqrt(jnp.max(jnp.sum((found[1:] - found[:1]) ** 2, axis=(1, 2))))


def change_of_A(system: System, p: Point, e: Vector, U: Matrix) -> Matrix:
    """`(A(x + e) - A(x)) U`."""
    found = _each(lambda k: system.A_times(p._replace(x=p.x + k.astype(e.dtype) * e), U), 2)
    return found[1] - found[0]


def change_of_At(system: System, p: Point, e: Vector, U: Matrix) -> Matrix:
    """`(A(x + e) - A(x))' U`."""
    found = _each(lambda k: system.At_times(p._replace(x=p.x + k.astype(e.dtype) * e), U), 2)
    return found[1] - found[0]


def changes(system: System, p: Point, e: Vector) -> jax.Array:
    """Frobenius norms (4,), from random vectors: A(x + e) - A(x), the same half-way, B, and B(x + e) - B(x)."""
    U, V = jnp.split(jax.random.normal(jax.random.key(5), (p.x.size + p.theta.size, PROBES), p.x.dtype), [p.x.size])
    zero, still = jnp.zeros_like(U), jnp.zeros_like(V)
    UU, VV = jnp.concatenate([U, zero], axis=1), jnp.concatenate([still, V], axis=1)
    found = _each(lambda k: system.F_tangent(p._replace(x=p.x + k.astype(e.dtype) / 2 * e), UU, VV), 3)
    A, B = found[:, :, :PROBES], found[:, :, PROBES:]
    return jnp.stack([jnp.sqrt(jnp.mean(jnp.sum(image**2, axis=0))) for image in (A[2] - A[0], A[1] - A[0], B[0], B[2] - B[0])])


def whole_changes(system: System, p: Point, e: Vector) -> Matrix:
    """A(x + e) - A(x), and the same half-way, beside each other (d, 2 d)."""
    one = jnp.eye(p.x.size, dtype=p.x.dtype)
    found = _each(lambda k: system.A_times(p._replace(x=p.x + k.astype(e.dtype) / 2 * e), one), 3)
    return jnp.concatenate([found[2] - found[0], found[1] - found[0]], axis=1)
