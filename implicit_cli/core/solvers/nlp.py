"""SciPy's solvers for constrained programs, `kkt` goals of any smooth f, h and g: SLSQP and a trust-region interior point.

Gradients, Jacobians and Hessians come from JAX, compiled once per goal. Both find multipliers of the primal point by least squares
on the stationarity equation, lam >= 0, over the constraints that are active there.

Source: Kraft, "A software package for sequential quadratic programming", DFVLR-FB 88-28, 1988; Byrd, Hribar and Nocedal, SIAM J.
Optim. 9 (1999) 877-900; Lawson and Hanson, "Solving Least Squares Problems", chapter 23 (bounded least squares).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from implicit_cli.core.implicit import Point
from implicit_cli.core.solvers.base import Goal
from implicit_cli.core.solvers.host import Watch
from implicit_cli.core.solvers.qp import assemble, primal_index

ACTIVE = (1e-8, 1e-6, 1e-4, 1e-2)
"""Slacks below which a constraint may have a multiplier; the one that fits best is taken, for interior points stay away."""

Array = np.ndarray


class Slopes(NamedTuple):
    """At a primal point: objective, constraints, their gradients (n,), (p, n), (m, n); arrays of JAX or NumPy."""

    f: Any
    h: Any
    g: Any
    df: Any
    dh: Any
    dg: Any


class Compiled(NamedTuple):
    """Functions of `(v, p)`, v (n,) the primal unknowns; `curvature` takes `(v, nu, lam, p)` and is that of h and g."""

    slopes: Callable[..., Any]
    hessian: Callable[..., Any]
    curvature: Callable[..., Any]


@functools.lru_cache(maxsize=16)
def compiled(goal: Goal) -> Compiled:
    """The primal functions of a `kkt` goal with their derivatives."""
    limits, f = goal.limits, goal.f
    assert limits is not None
    assert f is not None
    where = primal_index(limits)

    def primal(function: Any) -> Callable[[jax.Array, Point], jax.Array]:
        if function is None:
            return lambda v, p: jnp.zeros(0, v.dtype)
        return lambda v, p: function(p.x.at[where].set(v), p.theta, p.data)

    objective, h, g = primal(f), primal(limits.h), primal(limits.g)

    def slopes(v: jax.Array, p: Point) -> Slopes:
        value, df = jax.value_and_grad(objective)(v, p)
        return Slopes(value, h(v, p), g(v, p), df, jax.jacrev(h)(v, p), jax.jacrev(g)(v, p))

    def weighted(v: jax.Array, nu: jax.Array, lam: jax.Array, p: Point) -> jax.Array:
        return jnp.vdot(nu, h(v, p)) + jnp.vdot(lam, g(v, p))

    return Compiled(jax.jit(slopes), jax.jit(jax.hessian(objective)), jax.jit(jax.hessian(weighted)))


def multipliers(at: Slopes) -> tuple[Array, Array]:
    """nu (p,) and lam (m,) >= 0 that minimise abs(df + dh' nu + dg' lam), lam zero where a constraint is not active.

    Zero where values or gradients are not finite.
    """
    from scipy.optimize import lsq_linear

    p, m = at.h.size, at.g.size
    best, error = np.zeros(p + m), np.inf
    slopes = np.concatenate([at.dh, at.dg])
    if not slopes.size or not all(np.isfinite(part).all() for part in at):
        return best[:p], best[p:]
    for slack in ACTIVE if m else ACTIVE[:1]:
        kept = np.concatenate([np.ones(p, bool), at.g > -slack])
        trial = np.zeros(p + m)
        if kept.any():
            lowest = np.where(np.flatnonzero(kept) < p, -np.inf, 0.0)
            trial[kept] = lsq_linear(slopes[kept].T, -at.df, (lowest, np.inf), method="bvls", tol=1e-15).x
        complementary = np.max(np.abs(trial[p:] * at.g), initial=0.0)
        size = max(np.max(np.abs(at.df + trial @ slopes)), complementary)
        if size < error:
            best, error = trial, size
    return best[:p], best[p:]


class _Problem:
    """A `kkt` goal as SciPy asks for it: functions of v (n,), evaluated once per point."""

    def __init__(self, goal: Goal, p: Point) -> None:
        assert goal.limits is not None
        self.limits, self.p, self.functions = goal.limits, p, compiled(goal)
        self.start = np.asarray(p.x, dtype=float)[primal_index(goal.limits)]
        self._last: tuple[bytes, Slopes] | None = None

    def at(self, v: Array) -> Slopes:
        """All values and gradients at v; the last point is remembered, since SciPy asks for them one by one."""
        key = v.tobytes()
        if self._last is None or self._last[0] != key:
            found = jax.tree.map(lambda a: np.array(a, dtype=float), self.functions.slopes(jnp.asarray(v), self.p))
            self._last = key, found
        return self._last[1]

    def whole(self, v: Array) -> Array:
        """x (d,) with v and its multipliers."""
        return np.asarray(assemble(self.limits, self.p.x, v, *multipliers(self.at(v))))


@dataclass(frozen=True)
class Slsqp:
    """Sequential quadratic programming with BFGS updates: small and medium dense problems, n up to a few hundred."""

    goal: Goal
    name: str = "slsqp"

    def host_solve(self, p: Point, *, tol: float, max_steps: int, watch: Watch) -> Array:
        from scipy.optimize import minimize

        problem = _Problem(self.goal, p)
        first = problem.at(problem.start)
        kinds = [("eq", "h", "dh", 1.0)] * bool(first.h.size) + [("ineq", "g", "dg", -1.0)] * bool(first.g.size)
        constraints = [
            {
                "type": kind,
                "fun": lambda v, name=name, sign=sign: sign * getattr(problem.at(v), name),
                "jac": lambda v, name=slope, sign=sign: sign * getattr(problem.at(v), name),
            }
            for kind, name, slope, sign in kinds
        ]
        with np.errstate(all="ignore"):  # an unbounded program overflows, and that ends in a status
            found = minimize(
                lambda v: float(problem.at(v).f),
                problem.start,
                jac=lambda v: problem.at(v).df,
                method="SLSQP",
                constraints=constraints,
                callback=lambda v: watch(problem.whole(v)),
                options={"maxiter": max_steps, "ftol": 1e-2 * tol**2},
            )
        return problem.whole(found.x)


@dataclass(frozen=True)
class TrustConstr:
    """Trust-region SQP with an interior point for inequalities, and exact Hessians: sturdier than SLSQP, and slower."""

    goal: Goal
    name: str = "trust_constr"

    def host_solve(self, p: Point, *, tol: float, max_steps: int, watch: Watch) -> Array:
        from scipy.optimize import NonlinearConstraint, minimize

        problem = _Problem(self.goal, p)
        first = problem.at(problem.start)
        constraints = []
        for name, slope, lowest in (("h", "dh", 0.0), ("g", "dg", -np.inf)):
            if getattr(first, name).size:
                constraints.append(
                    NonlinearConstraint(
                        lambda v, name=name: getattr(problem.at(v), name),
                        lowest,
                        0.0,
                        jac=lambda v, name=slope: getattr(problem.at(v), name),
                        hess=functools.partial(self._curvature, problem, name == "h"),
                    )
                )
        with np.errstate(all="ignore"):
            found = minimize(
                lambda v: float(problem.at(v).f),
                problem.start,
                jac=lambda v: problem.at(v).df,
                hess=lambda v: np.asarray(problem.functions.hessian(jnp.asarray(v), p)),
                method="trust-constr",
                constraints=constraints,
                callback=lambda v, state: watch(problem.whole(v)),
                options={
                    "maxiter": max_steps,
                    "gtol": 0.0,  # blind to complementarity: what ends the solve is the residual, or steps that vanish
                    "xtol": 1e-15,
                    "barrier_tol": 1e-2 * tol,
                    "factorization_method": "SVDFactorization",  # the one that takes redundant constraints
                },
            )
        return problem.whole(found.x)

    def _curvature(self, problem: _Problem, equality: bool, v: Array, weights: Array) -> Array:
        at = problem.at(v)
        nu, lam = (weights, np.zeros_like(at.g)) if equality else (np.zeros_like(at.h), weights)
        return np.asarray(problem.functions.curvature(*map(jnp.asarray, (v, nu, lam)), problem.p))
