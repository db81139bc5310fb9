"""The loop that all solvers share: compiled in chunks, so that progress is seen, a signal is heard, each residual is recorded."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from implicit_cli.core.implicit import Point
from implicit_cli.status import Status

CHUNK = 512
"""Longest run of iterations in one compiled call."""
PATIENCE = 0.25
"""Seconds that a call should take: calls grow from a few iterations until they last this long."""

Function = Callable[[jax.Array, jax.Array, Any], jax.Array]


class Goal(NamedTuple):
    """What is solved, on vectors: F (the residual), and f or T where the condition has them (`F = grad f`, `F = T - x`)."""

    F: Function
    f: Function | None = None
    T: Function | None = None


class Solution(NamedTuple):
    """The iterate reached, why it stopped there, and max |F| after each iteration."""

    x: jax.Array
    status: Status
    history: np.ndarray
    name: str
    polish_steps: int = 0

    @property
    def steps(self) -> int:
        return len(self.history) - self.polish_steps


class Observer(Protocol):
    """Sees progress; the command line draws it."""

    def stage(self, text: str) -> None: ...
    def progress(self, step: int, residual: float, tol: float) -> None: ...


class Method(Protocol):
    """One iterative method. State is a pytree whose non-array leaves stay as `init` made them."""

    @property
    def name(self) -> str: ...

    def __hash__(self) -> int: ...

    def init(self, p: Point) -> Any:
        """State before the first step from p.x."""

    def step(self, p: Point, state: Any) -> tuple[jax.Array, Any]:
        """Next iterate and state."""

    def stop(self, state: Any) -> jax.Array:
        """True when the method itself gives up: it can make no further progress."""


def iterate(method: Method, goal: Goal, p: Point, *, tol: float, max_steps: int, observer: Observer | None = None) -> Solution:
    """Run until max |F| <= tol, the method gives up, x is not finite, or max_steps are done."""

    def size(x: jax.Array) -> jax.Array:
        return jnp.max(jnp.abs(goal.F(x, p.theta, p.data)), initial=0.0)

    start, advance = _compiled(method, goal)
    state = start(p)
    x, residual = p.x, float(size(p.x))
    history: list[np.ndarray] = []
    done, limit, gave_up = 0, 8, False
    while residual > tol and done < max_steps and not gave_up and np.isfinite(residual):
        begun = time.perf_counter()
        x, state, taken, recorded, stopped = advance(
            p._replace(x=x), state, jnp.asarray(min(limit, max_steps - done)), jnp.asarray(tol)
        )
        count = int(taken)
        history.append(np.asarray(recorded)[:count])
        done, gave_up = done + count, bool(stopped)
        residual = float(history[-1][-1])
        if observer is not None:
            observer.progress(done, residual, tol)
        if time.perf_counter() - begun < PATIENCE:
            limit = min(2 * limit, CHUNK)
    status = Status.OK if residual <= tol else Status.NOT_CONVERGED if np.isfinite(residual) else Status.NOT_FINITE
    return Solution(x, status, np.concatenate(history) if history else np.zeros(0), method.name)


def _strong(state: Any) -> Any:
    """Arrays without weak types, so that the state of every chunk is of one type and the chunk compiles once."""
    return jax.tree.map(lambda a: jax.lax.convert_element_type(a, a.dtype) if eqx.is_array(a) else a, state)


@functools.lru_cache(maxsize=16)
def _compiled(method: Method, goal: Goal) -> tuple[Any, Any]:
    """The method's compiled start and chunk, one pair per method and goal, so that further cases do not compile again."""

    @eqx.filter_jit
    def start(p: Point) -> Any:
        return _strong(method.init(p))

    @eqx.filter_jit
    def advance(p: Point, state: Any, limit: jax.Array, tol: jax.Array) -> tuple[Any, ...]:
        arrays, fixed = eqx.partition(state, eqx.is_array)

        def unfinished(carry: tuple[Any, ...]) -> jax.Array:
            _, _, count, recorded, stopped = carry
            last = jnp.where(count > 0, recorded[count - 1], jnp.inf)
            return (count < limit) & ~stopped & (last > tol) & ((count == 0) | jnp.isfinite(last))

        def body(carry: tuple[Any, ...]) -> tuple[Any, ...]:
            x, arrays, count, recorded, _ = carry
            x, state = method.step(p._replace(x=x), eqx.combine(arrays, fixed))
            recorded = recorded.at[count].set(jnp.max(jnp.abs(goal.F(x, p.theta, p.data)), initial=0.0))
            new = jax.tree.map(lambda a, b: a.astype(b.dtype), eqx.filter(state, eqx.is_array), arrays)
            return x, _strong(new), count + 1, recorded, method.stop(state)

        carry = (p.x, arrays, jnp.asarray(0), jnp.zeros(CHUNK, p.x.dtype), jnp.asarray(False))
        x, arrays, count, recorded, stopped = jax.lax.while_loop(unfinished, body, carry)
        return x, eqx.combine(arrays, fixed), count, recorded, stopped

    return start, advance
