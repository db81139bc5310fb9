"""What all forward solvers share: the goal, the residual that decides, and one loop with two drivers.

`iterate` runs the loop in compiled chunks, so that progress is seen and a signal is heard; `run` is one traced program, for use
under `jit` and `vmap`. Solvers of the host are driven by `host`.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from implicit_cli.core.implicit import Point
from implicit_cli.errors import RanAway
from implicit_cli.status import Status

CHUNK = 512
"""Longest run of iterations in one compiled call."""
FAR = 30.0
"""Length, in units of the gradient, of the mirror step that looks for entries that ought to grow: by exp(30) at most."""
MISLED = 1e-9
"""Change of F, relative to its largest entry, with data found anew, that says that the old data did not serve."""
PATIENCE = 0.25
"""Seconds that a call should take: calls grow from a few iterations until they last this long."""

Function = Callable[[jax.Array, jax.Array, Any], jax.Array]


Range = tuple[int, int]
"""First and last-but-one index of a part of the vector x."""


class Limits(NamedTuple):
    """Constraints of a `kkt` goal: h = 0 and g <= 0 as functions to vectors, and where x holds primal unknowns and multipliers."""

    h: Function | None
    g: Function | None
    primal: tuple[Range, ...]
    nu: Range
    lam: Range


class Goal(NamedTuple):
    """What is solved, on vectors x (d,): F, and what else the condition has (`implicit_cli.core.conditions.Condition`).

    All functions end with `(theta, data)`:
    F, f, T     `(x, ...)`: residual (d,), objective (a scalar), fixed-point map (d,)
    r           `(x, ...)`: residuals of a least-squares objective, any length
    prox        `(v, eta, ...)`: proximal operator or projection of v (d,)
    mirror      `(x, g, ...)`: mirror step from x along -g
    blocks      parts of x with steps of their own
    bounds      `(...)`: lower and upper limits of x, or the bracket of a root, each (d,)
    limits      the constraints of a `kkt` condition
    program     `(...)`: c, A, b of a conic program, with its `cones`; x is then (u, v, w) end to end
    stale       `(x, ...)`: the data hold something found from another x, a list of neighbours, that no longer serves at this one
    refresh     a point to the same with that found anew; on the host
    """

    F: Function
    f: Function | None = None
    T: Function | None = None
    r: Function | None = None
    prox: Callable[..., jax.Array] | None = None
    mirror: Callable[..., jax.Array] | None = None
    blocks: tuple[Range, ...] = ()
    bounds: Callable[..., Any] | None = None
    limits: Limits | None = None
    program: Callable[..., Any] | None = None
    cones: tuple[tuple[str, int], ...] = ()
    stale: Function | None = None
    refresh: Callable[[Point], Point] | None = None

    def fresh(self, p: Point) -> Point:
        """p with what its data hold of x found anew."""
        return p if self.refresh is None else self.refresh(p)

    def moved(self, p: Point, x: jax.Array) -> Point | None:
        """p at x, with what its data hold of x found anew; None where x is so far off that nothing is found."""
        try:
            return self.fresh(p._replace(x=x))
        except RanAway:
            return None


class Solution(NamedTuple):
    """The iterate reached, why it stopped there, and the `residual` after each iteration."""

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


class Run(NamedTuple):
    """What `run` returns, all arrays: x (d,), status and steps (integers), residual, and its history (length,), padded with NaN."""

    x: jax.Array
    status: jax.Array
    steps: jax.Array
    history: jax.Array
    residual: jax.Array


class Method(Protocol):
    """One iterative method in JAX. State is a pytree whose non-array leaves stay as `init` made them."""

    @property
    def name(self) -> str: ...

    def __hash__(self) -> int: ...

    def init(self, p: Point) -> Any:
        """State before the first step from p.x."""

    def step(self, p: Point, state: Any) -> tuple[jax.Array, Any]:
        """Next iterate and state."""

    def stop(self, state: Any) -> jax.Array:
        """True when the method itself gives up: it can make no further progress."""


@runtime_checkable
class KnowsF(Protocol):
    """A method that has F at the iterate, so that it need not be computed again for the residual."""

    def F(self, state: Any) -> jax.Array:
        """F at the iterate that the last step came to (d,)."""


def residual(goal: Goal, p: Point, F: jax.Array | None = None) -> jax.Array:
    """How far p.x is from a solution: max |F|, and what F alone does not see.

    With inequalities g <= 0 it counts max(g, 0) and max(-lam, 0) too: F = 0 has roots with negative multipliers, or outside of the
    feasible set, that solve nothing. The residual of a conic program (u, v, w) is homogeneous: it is divided by w, and infinite
    where w <= 0, since no solution belongs to such a point. A mirror step hardly moves an entry near zero, even one that ought to
    grow: there -g'd / (1 + max |g|) counts, with d a long mirror step. NaN in, NaN out. `F` is given where it is known.
    """
    worst = jnp.max(jnp.abs(goal.F(p.x, p.theta, p.data) if F is None else F), initial=0.0)
    if goal.limits is not None and goal.limits.g is not None:
        lam = p.x[slice(*goal.limits.lam)]
        outside = jnp.max(goal.limits.g(p.x, p.theta, p.data), initial=0.0)
        worst = jnp.maximum(worst, jnp.maximum(outside, jnp.max(-lam, initial=0.0)))
    if goal.mirror is not None and goal.f is not None:
        g = jax.grad(goal.f)(p.x, p.theta, p.data)
        size = jnp.max(jnp.abs(g), initial=0.0)
        far = goal.mirror(p.x, FAR / jnp.maximum(size, 1.0) * g, p.theta, p.data)
        worst = jnp.maximum(worst, jnp.vdot(g, p.x - far) / (1 + size))
    if goal.program is not None:
        w = p.x[-1]
        worst = jnp.where(w > 0, worst / jnp.where(w > 0, w, 1.0), jnp.where(jnp.isnan(w), jnp.nan, jnp.inf))
    return worst


def iterate(method: Method, goal: Goal, p: Point, *, tol: float, max_steps: int, observer: Observer | None = None) -> Solution:
    """Run until the residual is at most tol, the method gives up, the residual is not finite, or max_steps are done."""
    start, advance = _compiled(method, goal)
    p = goal.fresh(p)
    state, first = start(p)
    x, size = p.x, float(first)
    history: list[np.ndarray] = []
    done, limit, gave_up = 0, 8, False
    while size > tol and done < max_steps and not gave_up and np.isfinite(size):
        begun = time.perf_counter()
        x, state, taken, recorded, last, stopped, stale = advance(
            p._replace(x=x), state, jnp.asarray(min(limit, max_steps - done)), jnp.asarray(tol)
        )
        history.append(np.asarray(recorded)[: int(taken)])
        done, size, gave_up = done + int(taken), float(last), bool(stopped)
        if stale and np.isfinite(size):
            if (moved := goal.moved(p, x)) is None:
                return Solution(x, Status.NOT_CONVERGED, np.concatenate(history), method.name)
            p = moved
            size = float(compiled_residual(goal)(p))
            if not isinstance(method, KnowsF) or bool(_misled(goal)(p, method.F(state))):
                state, _ = start(p)
        if observer is not None:
            observer.progress(done, size, tol)
        if time.perf_counter() - begun < PATIENCE:
            limit = min(2 * limit, CHUNK)
    return Solution(x, verdict(size, tol), np.concatenate(history) if history else np.zeros(0), method.name)


def verdict(size: float, tol: float) -> Status:
    """Status of a solve that ended with this residual."""
    return Status.OK if size <= tol else Status.NOT_CONVERGED if np.isfinite(size) else Status.NOT_FINITE


def run(
    method: Method, goal: Goal, p: Point, *, tol: float | jax.Array, max_steps: int | jax.Array, length: int | None = None
) -> Run:
    """The same as `iterate` as one traced program: under `jit`, and under `vmap` over any part of p, tol and max_steps.

    `length` is how many residuals are recorded, `max_steps` where it is left out; further ones are not kept. A lane that has ended
    keeps its iterate while others go on. Nothing is raised, and no host sees it before it ends.
    """
    length = int(max_steps) if length is None else length
    first = residual(goal, p)
    goes_on = (first > tol) & jnp.isfinite(first)
    limit = jnp.where(goes_on, jnp.asarray(max_steps), 0)
    x, _, steps, history, last, _, _ = _loop(method, goal, p, strong(method.init(p)), limit, jnp.asarray(tol), length)
    last = jnp.where(steps > 0, last, first)
    failed = jnp.where(jnp.isfinite(last), int(Status.NOT_CONVERGED), int(Status.NOT_FINITE))
    status = jnp.where(last <= tol, int(Status.OK), failed)
    return Run(x, status, steps, history, last)


def _loop(
    method: Method, goal: Goal, p: Point, state: Any, limit: jax.Array, tol: jax.Array, length: int
) -> tuple[jax.Array, Any, jax.Array, jax.Array, jax.Array, jax.Array, jax.Array]:
    """Up to `limit` iterations from p.x, until the data are stale.

    x, state, how many, their residuals (length,), the last one, whether it gave up, and whether the data are stale.
    """
    arrays, fixed = eqx.partition(state, eqx.is_array)

    def unfinished(carry: tuple[Any, ...]) -> jax.Array:
        _, _, count, _, last, stopped, stale = carry
        return (count < limit) & ~stopped & ~stale & (last > tol) & ((count == 0) | jnp.isfinite(last))

    def body(carry: tuple[Any, ...]) -> tuple[Any, ...]:
        x, arrays, count, recorded, _, _, _ = carry
        x, arrays, state = stepped(method, p._replace(x=x), arrays, fixed)
        last = residual(goal, p._replace(x=x), method.F(state) if isinstance(method, KnowsF) else None)
        recorded = recorded.at[count].set(last, mode="drop")
        stale = jnp.asarray(False) if goal.stale is None else jnp.asarray(goal.stale(x, p.theta, p.data))
        return x, arrays, count + 1, recorded, last, method.stop(state), stale

    unknown = jnp.full(length, jnp.nan, p.x.dtype)
    no = jnp.asarray(False)
    carry = (p.x, arrays, jnp.asarray(0), unknown, jnp.asarray(jnp.inf, p.x.dtype), no, no)
    x, arrays, count, recorded, last, stopped, stale = jax.lax.while_loop(unfinished, body, carry)
    return x, eqx.combine(arrays, fixed), count, recorded, last, stopped, stale


def stepped(method: Method, p: Point, arrays: Any, fixed: Any) -> tuple[jax.Array, Any, Any]:
    """One step from p.x as the body of a loop: x, the state's arrays in the types that they had, and the state itself.

    A state is carried in two parts, `eqx.partition(state, eqx.is_array)`.
    """
    x, state = method.step(p, eqx.combine(arrays, fixed))
    new = jax.tree.map(lambda a, b: a.astype(b.dtype), eqx.filter(state, eqx.is_array), arrays)
    return x, strong(new), state


def strong(state: Any) -> Any:
    """Arrays without weak types, so that the state of every chunk is of one type and the chunk compiles once."""
    return jax.tree.map(lambda a: jax.lax.convert_element_type(a, a.dtype) if eqx.is_array(a) else a, state)


@functools.lru_cache(maxsize=16)
def compiled_residual(goal: Goal) -> Callable[[Point], jax.Array]:
    """`residual` of this goal, compiled once."""
    return jax.jit(lambda p: residual(goal, p))


@functools.lru_cache(maxsize=16)
def _misled(goal: Goal) -> Callable[[Point, jax.Array], jax.Array]:
    """Whether F at p is not what a method was told, for its step led beyond what the data of that step could see: it starts anew.

    A line search that holds on to an f which is too small would find no better one for ever.
    """

    def differs(p: Point, told: jax.Array) -> jax.Array:
        F = goal.F(p.x, p.theta, p.data)
        return jnp.max(jnp.abs(F - told), initial=0.0) > MISLED * jnp.max(jnp.abs(F), initial=0.0)

    return jax.jit(differs)


@functools.lru_cache(maxsize=16)
def _compiled(method: Method, goal: Goal) -> tuple[Any, Any]:
    """The method's compiled start and chunk, one pair per method and goal, so that further cases do not compile again."""

    @eqx.filter_jit
    def start(p: Point) -> tuple[Any, jax.Array]:
        return strong(method.init(p)), residual(goal, p)

    @eqx.filter_jit
    def advance(p: Point, state: Any, limit: jax.Array, tol: jax.Array) -> tuple[Any, ...]:
        return _loop(method, goal, p, state, limit, tol, CHUNK)

    return start, advance
