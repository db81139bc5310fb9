"""Solvers of the host (SciPy and others) under the rules of the compiled ones: same record, same residual, a signal is heard.

A `HostMethod` calls `watch(x)` after each of its iterations and returns its last x. What it says of its own success is not used.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from implicit_cli.core.implicit import Point
from implicit_cli.core.solvers.base import Goal, Observer, Solution, compiled_residual, verdict
from implicit_cli.status import Status

Watch = Callable[[np.ndarray], None]


@runtime_checkable
class HostMethod(Protocol):
    """One method of the host, on NumPy vectors (d,)."""

    @property
    def name(self) -> str: ...

    def host_solve(self, p: Point, *, tol: float, max_steps: int, watch: Watch) -> np.ndarray:
        """The solution from p.x. `watch(x)` after each iteration ends the solve by an exception of its own: let it through."""


class _Done(Exception):
    """Raised by `watch` to leave a solver that has arrived, is lost, or has used up its steps."""


def drive(method: HostMethod, goal: Goal, p: Point, *, tol: float, max_steps: int, observer: Observer | None = None) -> Solution:
    """Run until the residual is at most tol, the solver ends, x is not finite, or max_steps are done."""
    size_of = compiled_residual(goal)
    history: list[float] = []
    seen = [np.asarray(p.x)]
    first = float(size_of(p))
    if np.isnan(first) or first <= tol:
        return Solution(p.x, verdict(first, tol), np.zeros(0), method.name)

    def watch(x: np.ndarray) -> None:
        seen.append(np.array(x, dtype=float))
        history.append(float(size_of(p._replace(x=jnp.asarray(seen[-1])))))
        if observer is not None:
            observer.progress(len(history), history[-1], tol)
        if history[-1] <= tol or np.isnan(history[-1]) or len(history) >= max_steps:
            raise _Done

    try:
        x = np.asarray(method.host_solve(p, tol=tol, max_steps=max_steps, watch=watch), dtype=float)
        if not history or not np.array_equal(x, seen[-1]):
            watch(x)
    except _Done:
        pass
    except (ArithmeticError, np.linalg.LinAlgError):  # a breakdown inside the solver: the last iterate is what there is
        pass
    size = history[-1] if history else first
    status = Status.NOT_FINITE if np.isnan(size) else Status.NOT_CONVERGED if np.isinf(size) else verdict(size, tol)
    return Solution(jnp.asarray(seen[-1]), status, np.asarray(history), method.name)


@functools.lru_cache(maxsize=16)
def compiled_slope(goal: Goal) -> Callable[[Point], tuple[Any, Any]]:
    """f and its gradient at a point, compiled once."""
    assert goal.f is not None
    f = goal.f
    return jax.jit(lambda p: jax.value_and_grad(f)(p.x, p.theta, p.data))
