"""Decorators that give any solver the derivatives of the root that it finds, in both modes, of any order, compiled and batched.

    @custom_root(jax.grad(loss))                      # or a Condition of the catalogue
    def solver(init, theta, X, y): ...                # JAX, Python, or a host library with callback=True

    jax.jacobian(solver, argnums=1)(None, theta, X, y)

`F(x, *args, **kwargs)` takes what the solver takes after its first argument, the initial guess, which has no derivative. The solver
itself is never differentiated: x* is a function of the arguments by F(x*, theta) = 0 alone, whatever was done to find it.

Source: Blondel et al., "Efficient and Modular Implicit Differentiation", NeurIPS 2022, arXiv 2105.15183, figure 1.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero
from jax.flatten_util import ravel_pytree

from implicit_cli.core.conditions import Condition, difference
from implicit_cli.core.derivatives import flatten
from implicit_cli.core.linear.traced import Linear

Solver = Callable[..., Any]


def custom_root(
    F: Callable[..., Any] | Condition,
    *,
    has_aux: bool = False,
    linear: Linear = Linear(),
    callback: bool = False,
    aux_like: Any = None,
) -> Callable[[Solver], Solver]:
    """Decorate `solver(init, *args, **kwargs)`, which returns a root x of `F(x, *args, **kwargs)`, with implicit derivatives.

    F          the optimality mapping, pytree to pytree like x, or a `Condition`, whose tags then choose the linear solver
    has_aux    the solver returns (x, aux); aux has no derivative: statuses, residual histories, counts
    linear     how A u = b is solved; a solve that fails, or a derivative that does not exist, is NaN
    callback   the solver is host code (NumPy, SciPy): it is called with NumPy arrays through a callback, also under jit and vmap;
               x is then shaped like `init`, and aux like `aux_like`

    All other arguments, positional or by keyword, pytrees of arrays, are differentiable; what F or the solver close over is, too.
    """

    def decorate(solver: Solver) -> Solver:
        hosted = _hosted(solver, has_aux, aux_like) if callback else solver

        @functools.wraps(solver)
        def solve(init: Any, *args: Any, **kwargs: Any) -> Any:
            mapping = F.F if isinstance(F, Condition) else F
            mapping, run = _converted(mapping, init, args, kwargs), _converted(hosted, init, args, kwargs)
            given = (mapping, args, kwargs)
            moving, still = eqx.partition(given, eqx.is_inexact_array)
            arrays, fixed = eqx.partition((init, run, still), eqx.is_array)
            call = _implicit(fixed, F if isinstance(F, Condition) else None, has_aux, linear)
            x, aux = call(arrays, moving)
            return (x, aux) if has_aux else x

        return solve

    return decorate


def custom_fixed_point(
    T: Callable[..., Any],
    *,
    has_aux: bool = False,
    linear: Linear = Linear(),
    callback: bool = False,
    aux_like: Any = None,
) -> Callable[[Solver], Solver]:
    """As `custom_root`, for a solver that returns a fixed point of `T(x, *args, **kwargs)`: F = T - x."""

    return custom_root(difference(T), has_aux=has_aux, linear=linear, callback=callback, aux_like=aux_like)


def _implicit(fixed: Any, condition: Condition | None, has_aux: bool, linear: Linear) -> Callable[[Any, Any], Any]:
    """The solver as a function of arrays with its derivative: `fixed` holds all that is no array."""

    @jax.custom_jvp
    def call(arrays: Any, moving: Any) -> Any:
        init, run, still = eqx.combine(arrays, fixed)
        _, args, kwargs = eqx.combine(moving, still)
        found = run(init, *args, **kwargs)
        return found if has_aux else (found, None)

    def rule(primals: Any, tangents: Any) -> Any:
        arrays, moving = primals
        x, aux = call(arrays, moving)
        leaves, tree = jax.tree.flatten(moving)
        dots = jax.tree.leaves(tangents[1], is_leaf=lambda leaf: isinstance(leaf, SymbolicZero))
        varied = [i for i, dot in enumerate(dots) if not isinstance(dot, SymbolicZero)]
        still = eqx.combine(arrays, fixed)[2]

        def given(some: Any) -> Any:
            whole = dict(enumerate(leaves)) | dict(zip(varied, some, strict=True))
            return eqx.combine(jax.tree.unflatten(tree, [whole[i] for i in range(len(leaves))]), still)

        def F(x: Any, some: Any) -> Any:
            mapping, args, kwargs = given(some)
            return mapping(x, *args, **kwargs)

        def known(tag: Callable[..., Any] | None) -> Callable[..., Any] | None:
            """What the condition knows of F, as a function of what is varied."""
            if tag is None:
                return None

            def at(x: Any, some: Any) -> Any:
                _, args, kwargs = given(some)
                return tag(x, *args, **kwargs)

            return at

        tags = Condition("root", F)
        if condition is not None:
            tags = Condition(
                condition.kind,
                F,
                symmetric=condition.symmetric,
                definite=condition.definite,
                null_space=known(condition.null_space),
                margin=known(condition.margin),
            )
        x_dot = _tangent(tags, x, [leaves[i] for i in varied], [dots[i] for i in varied], linear)
        return (x, aux), (x_dot, jax.tree.map(_still, aux))

    call.defjvp(rule, symbolic_zeros=True)
    return call


def _tangent(condition: Condition, x: Any, theta: Any, v: Any, linear: Linear) -> Any:
    """`J v` by `A u = -B v`, linear in v, transposable, and differentiable in x and theta once more."""
    if not theta:
        return jax.tree.map(jnp.zeros_like, x)
    system = flatten(condition, x, [theta], (0,))
    A = system.linearise(linear)
    Bv = jax.jvp(system.of_theta, (system.theta,), (ravel_pytree(v)[0],))[1]
    u = jax.lax.custom_linear_solve(
        A.times,
        -Bv,
        lambda times, b: A.column(times, b),
        lambda times, b: A.column(times, b, transpose=True),
        symmetric=condition.symmetric,
    )
    pull = jax.vjp(system.of_theta, system.theta)[1]
    nowhere = jax.lax.stop_gradient(jnp.logical_or(A.fold(lambda w: pull(w)[0]), system.kink))
    return system.unravel_x(u * jnp.where(nowhere, jnp.nan, 1.0))


def _still(leaf: Any) -> Any:
    """The tangent of what has no derivative."""
    leaf = jnp.asarray(leaf)
    return jnp.zeros_like(leaf) if jnp.issubdtype(leaf.dtype, jnp.inexact) else np.zeros(leaf.shape, jax.dtypes.float0)


def _hosted(solver: Solver, has_aux: bool, aux_like: Any) -> Solver:
    """A host function as a callback of compiled code, one call per case of a batch."""

    def hosted(init: Any, *args: Any, **kwargs: Any) -> Any:
        like = (init, aux_like) if has_aux else init
        expected = jax.tree.map(lambda a: jax.ShapeDtypeStruct(jnp.shape(a), jnp.result_type(a)), like)
        arrays, fixed = eqx.partition((init, args, kwargs), eqx.is_array)

        def on_host(arrays: Any) -> Any:
            start, rest, named = eqx.combine(jax.tree.map(np.asarray, arrays), fixed)
            return jax.tree.map(lambda s, value: np.asarray(value, s.dtype), expected, solver(start, *rest, **named))

        return jax.pure_callback(on_host, expected, arrays, vmap_method="sequential")

    return hosted


def _converted(f: Callable[..., Any], init: Any, args: Any, kwargs: Any) -> Callable[..., Any]:
    """f with the traced values that it closes over made arguments, so that they too have their derivative."""
    if not _closes_over_tracers(f, set()):
        return f
    return eqx.filter_closure_convert(f, init, *args, **kwargs)


def _closes_over_tracers(thing: Any, seen: set[int]) -> bool:
    if id(thing) in seen:
        return False
    seen.add(id(thing))
    if isinstance(thing, jax.core.Tracer):
        return True
    if isinstance(thing, functools.partial):
        return any(_closes_over_tracers(part, seen) for part in (thing.func, thing.args, thing.keywords))
    if not callable(thing):
        leaves = jax.tree.leaves(thing)
        return any(leaf is not thing and _closes_over_tracers(leaf, seen) for leaf in leaves)
    inner = [getattr(thing, name, None) for name in ("__wrapped__", "__self__", "__func__")]
    inner += [cell.cell_contents for cell in getattr(thing, "__closure__", None) or () if _filled(cell)]
    return any(_closes_over_tracers(part, seen) for part in inner if part is not None)


def _filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:  # a name that is bound later
        return False
