"""Derivatives of a root that is already known: JVP, VJP and the full Jacobian of x*(theta) by A J = -B, with statuses.

These are functions of arrays throughout: they can be compiled, batched and differentiated. x, the arguments and the directions
are pytrees. `F(x, *args, **kwargs)` is the optimality mapping, or a `Condition` of the catalogue, whose tags then choose the
linear solver.

    root_jvp            J v          A u = -B v
    root_vjp            w' J         A' u = w, then -B' u
    implicit_jacobian   J            n of the first, or d of the second, one factorisation

Source: Blondel et al., "Efficient and Modular Implicit Differentiation", NeurIPS 2022, arXiv 2105.15183.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from implicit_cli.core.conditions import Condition, root
from implicit_cli.core.degeneracy import RANGE_TOLERANCE
from implicit_cli.core.linear import traced
from implicit_cli.core.linear.traced import Factor, Linear, Solved
from implicit_cli.status import Status

Array = jax.Array
Function = Callable[..., Any]


class Derivative(NamedTuple):
    """A product with the outcome of its linear solves: `status` (a `Status`) and relative `residual`, one per right-hand side.

    Where a solve failed, or no derivative exists, the value is NaN.
    """

    value: Any
    status: Array
    residual: Array


class Linearised:
    """A = dF/dx at a point, made once: products, factor, solves. Everything on vectors (d,) and matrices (d, k).

    `residual(x, theta)` is F on vectors, `null(x, theta)` its known null directions (d, l) or None.
    """

    def __init__(
        self, residual: Callable[[Array], Array], x: Array, *, symmetric: bool, definite: bool, null: Array, linear: Linear
    ) -> None:
        self.d, self.dtype, self.linear, self.symmetric, self.null = x.size, x.dtype, linear, symmetric, null
        self.method = linear.resolve(x.size, definite=definite)
        _, self.times = jax.linearize(residual, x)
        self.factor: Factor | None = None
        if self.method in traced.DENSE:
            self.factor = traced.factorise(jax.lax.stop_gradient(traced.assemble(self.times, self.d, self.dtype)), self.method)

    def transposed(self, w: Array) -> Array:
        """`A' w`."""
        if self.symmetric:
            return self.times(w)
        return jax.linear_transpose(self.times, jnp.zeros(self.d, self.dtype))(w)[0]

    def solve(self, b: Array, *, transpose: bool = False) -> Solved:
        """`A u = b` or `A' u = b` for each column of b (d, k)."""
        if self.factor is not None:
            return traced.dense(self.factor, b, self.linear, transpose=transpose)
        product = self.transposed if transpose else self.times
        value, status, residual = jax.lax.map(lambda c: traced.krylov(product, c, self.linear, self.method, self.null), b.T)
        return Solved(value.T, status, residual)

    def column(self, product: Callable[[Array], Array], b: Array, *, transpose: bool = False) -> Array:
        """The solution for one right-hand side (d,), with A or A' as `product`; as `jax.lax.custom_linear_solve` asks for it."""
        if self.factor is not None:
            return traced.dense(self.factor, b[:, None], self.linear, transpose=transpose).value[:, 0]
        return traced.krylov(product, b, self.linear, self.method, self.null).value

    def fold(self, Bt: Callable[[Array], Array]) -> Array:
        """True where A is singular and B leaves its range: then no derivative exists, whatever a transposed solve may say."""
        if self.factor is None:
            return jnp.asarray(False)
        factor, probe = self.factor, traced.probes(self.d, self.dtype)[0]

        def leaks(_: None) -> Array:
            outside, all_of_it = Bt(traced.left_null(factor, probe)), Bt(probe)
            return jnp.linalg.norm(outside) > RANGE_TOLERANCE * jnp.maximum(jnp.linalg.norm(all_of_it), jnp.finfo(self.dtype).tiny)

        return jax.lax.cond(self.factor.singular, leaks, lambda _: jnp.asarray(False), None)


class Flat(NamedTuple):
    """F at a root, flattened: residual functions of x alone and of the chosen arguments alone, and the way back to pytrees.

    `null` (d, l) are the known null directions of A, and `kink` is true where x is on a kink of F.
    """

    of_x: Callable[[Array], Array]
    of_theta: Callable[[Array], Array]
    x: Array
    theta: Array
    unravel_x: Callable[[Array], Any]
    unravel_theta: Callable[[Array], Any]
    condition: Condition
    null: Array
    kink: Array

    def linearise(self, linear: Linear) -> Linearised:
        c = self.condition
        return Linearised(self.of_x, self.x, symmetric=c.symmetric, definite=c.definite, null=self.null, linear=linear)


def flatten(
    F: Function | Condition, x: Any, args: Sequence[Any], argnums: Sequence[int], kwargs: Mapping[str, Any] | None = None
) -> Flat:
    """F on vectors at a root, with the arguments `argnums` as theta."""
    condition = F if isinstance(F, Condition) else root(F)
    rest, kwargs = list(args), dict(kwargs or {})
    flat_x, unravel_x = ravel_pytree(x)
    flat_theta, unravel_theta = ravel_pytree([rest[i] for i in argnums])

    def at(x: Array, theta: Array) -> Array:
        given = list(rest)
        for i, value in zip(argnums, unravel_theta(theta), strict=True):
            given[i] = value
        return ravel_pytree(condition.F(unravel_x(x), *given, **kwargs))[0]

    null = jnp.zeros((flat_x.size, 0), flat_x.dtype)
    if condition.null_space is not None:
        directions = condition.null_space(x, *rest, **kwargs).values()
        null = jnp.stack([ravel_pytree(direction)[0] for direction in directions], axis=1)
    kink = jnp.asarray(False)
    if condition.margin is not None:
        rounding = 8 * jnp.finfo(flat_x.dtype).eps * (1 + jnp.max(jnp.abs(flat_x), initial=0.0))
        kink = condition.margin(x, *rest, **kwargs) <= rounding
    return Flat(
        lambda v: at(v, flat_theta), lambda t: at(flat_x, t), flat_x, flat_theta, unravel_x, unravel_theta, condition, null, kink
    )


def root_jvp(
    F: Function | Condition,
    x: Any,
    args: Sequence[Any],
    tangents: Sequence[Any],
    *,
    argnums: Sequence[int] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    linear: Linear = Linear(),
) -> Derivative:
    """`J v` at a root x of `F(x, *args, **kwargs)`: solves `A u = -B v`.

    tangents   directions v, one per differentiated argument, shaped like it
    argnums    positions in `args` that are differentiated; left out: all
    value      pytree shaped like x
    """
    chosen = tuple(range(len(args))) if argnums is None else tuple(argnums)
    system = flatten(F, x, args, chosen, kwargs)
    v = ravel_pytree(list(tangents))[0]
    Bv = jax.jvp(system.of_theta, (system.theta,), (v,))[1]
    solved = system.linearise(linear).solve(-Bv[:, None])
    value, status = _judged(system, solved.value[:, 0], solved.status[0])
    return Derivative(system.unravel_x(value), status, solved.residual[0])


def root_vjp(
    F: Function | Condition,
    x: Any,
    args: Sequence[Any],
    cotangent: Any,
    *,
    argnums: Sequence[int] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    linear: Linear = Linear(),
) -> Derivative:
    """`w' J` at a root x of `F(x, *args, **kwargs)`: solves `A' u = w`, then `-B' u`.

    cotangent  w, shaped like x
    argnums    positions in `args` that are differentiated; left out: all
    value      list of one entry per differentiated argument, shaped like it
    """
    chosen = tuple(range(len(args))) if argnums is None else tuple(argnums)
    system = flatten(F, x, args, chosen, kwargs)
    A = system.linearise(linear)
    solved = A.solve(ravel_pytree(cotangent)[0][:, None], transpose=True)
    Bt = _pullback(system)
    status = jnp.where(A.fold(Bt), jnp.int32(Status.SINGULAR), solved.status[0])
    value, status = _judged(system, -Bt(solved.value[:, 0]), status)
    return Derivative(system.unravel_theta(value), status, solved.residual[0])


def implicit_jacobian(
    F: Function | Condition,
    x: Any,
    args: Sequence[Any],
    *,
    argnums: int | Sequence[int] = 0,
    kwargs: Mapping[str, Any] | None = None,
    mode: Literal["auto", "forward", "adjoint"] = "auto",
    linear: Linear = Linear(),
) -> Derivative:
    """The full J at a root x of `F(x, *args, **kwargs)`, by one factorisation of A.

    argnums   the argument, or arguments, that are differentiated
    mode      forward: one solve per entry of the arguments; adjoint: one per entry of x; auto: the fewer
    value     as `jax.jacobian` nests it: for every leaf of x, a pytree like the argument (a tuple of them where argnums is a
              sequence) whose leaves have the shape of x's leaf followed by that of the argument's
    """
    chosen = (argnums,) if isinstance(argnums, int) else tuple(argnums)
    system = flatten(F, x, args, chosen, kwargs)
    A = system.linearise(linear)
    d, n = system.x.size, system.theta.size
    if mode == "forward" or (mode == "auto" and n <= d):
        solved = A.solve(-_columns(system))
        J, status = _judged(system, solved.value, solved.status)
    else:
        solved = A.solve(jnp.eye(d, dtype=system.x.dtype), transpose=True)
        Bt = _pullback(system)
        J = -jax.vmap(Bt, in_axes=1)(solved.value)
        status = jnp.where(A.fold(Bt), jnp.int32(Status.SINGULAR), solved.status)
        J, status = _judged(system, J.T, status)
        J = J.T
    rows = jax.vmap(system.unravel_theta)(J)  # every leaf (d, *leaf of theta)
    tree = jax.tree.map(lambda leaf: _split(leaf, x, system.unravel_x), rows[0] if isinstance(argnums, int) else tuple(rows))
    nested = jax.tree.transpose(
        jax.tree.structure(args[argnums] if isinstance(argnums, int) else tuple(args[i] for i in chosen)),
        jax.tree.structure(x),
        tree,
    )
    return Derivative(nested, status, solved.residual)


def _judged(system: Flat, value: Array, status: Array) -> tuple[Array, Array]:
    """Values (.., k) and statuses (k,) with NaN where a solve was not good, and everywhere on a kink."""
    status = jnp.where(system.kink, jnp.int32(Status.NONDIFFERENTIABLE), status)
    good = status == int(Status.OK)
    return jnp.where(jnp.broadcast_to(good, value.shape), value, jnp.nan), status


def _columns(system: Flat) -> Array:
    """B (d, n): one product per entry of theta, or per entry of x where those are fewer."""
    n = system.theta.size
    return jax.vmap(lambda v: jax.jvp(system.of_theta, (system.theta,), (v,))[1], out_axes=1)(jnp.eye(n, dtype=system.theta.dtype))


def _pullback(system: Flat) -> Callable[[Array], Array]:
    """`u -> B' u`, F linearised once."""
    pull = jax.vjp(system.of_theta, system.theta)[1]
    return lambda u: pull(u)[0]


def _split(rows: Array, x: Any, unravel: Callable[[Array], Any]) -> Any:
    """Rows (d, *shape) as a pytree like x with leaves (*leaf of x, *shape)."""
    flat = rows.reshape(rows.shape[0], -1)
    parts = jax.vmap(unravel, in_axes=1, out_axes=-1)(flat)
    return jax.tree.map(lambda part: part.reshape(*part.shape[:-1], *rows.shape[1:]), parts)
