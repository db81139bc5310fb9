"""Many small cases at once: one compiled program solves, differentiates and certifies each, and says whether it is regular.

Where the solve needs the host, the program does the rest.

A regular case has nothing to be said of it: solved, A regular, a root nearby, no kink, the accuracy reached. What such a case ends
with needs no decision on the way, so that no Python has to look at its numbers. All others are for `run_case`, which looks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from implicit_cli.core.certificate import Certifier
from implicit_cli.core.degeneracy import RANGE_TOLERANCE
from implicit_cli.core.implicit import Point, adjoint, forward
from implicit_cli.core.linear.base import Operator
from implicit_cli.core.linear.dense import Held
from implicit_cli.core.linear.extremes import EXACT
from implicit_cli.core.measured import rounding_of_Bt
from implicit_cli.core.one_sided import kinks
from implicit_cli.core.solvers import METHODS
from implicit_cli.core.solvers.base import residual, run
from implicit_cli.core.solvers.choice import Polished, newton_steps
from implicit_cli.core.solvers.host import HostMethod
from implicit_cli.core.traceable import either
from implicit_cli.engine.kinks import NEAR, STEPS
from implicit_cli.engine.linearise import gauges, margin
from implicit_cli.engine.path import best_start
from implicit_cli.engine.plan import Plan
from implicit_cli.engine.records import Ended, Lane, Sides, Solve, record
from implicit_cli.engine.threads import one_thread
from implicit_cli.engine.vectors import Vectors
from implicit_cli.problem import Constants, Problem
from implicit_cli.result import CaseResult
from implicit_cli.status import Status

WIDTH = 32
"""Cases that one call of the program takes."""
RECORDED = 10_000
"""Most iterations of a solver: the residuals of all are kept."""


class Batch:
    """The program for cases of one problem and one plan; `unsuited` says why there can be none, and is empty where there is one.

    Where a solve needs the host, because its solver runs there or because the problem looks at its unknowns on the way, as for
    lists of neighbours, the cases come solved, and the program is that of the rest: it is `hosted`. Another one begins, where it is
    `warm`, where the residual is least: at a case's own guess, at a neighbour's solution, or at what that predicts.
    """

    def __init__(self, vectors: Vectors, plan: Plan, *, warm: bool = False) -> None:
        self.vectors, self.plan, self.warm = vectors, plan, warm
        self.sides = Sides(vectors, plan)
        self._programs: dict[Any, Any] = {}
        looks = vectors.derived or type(vectors.problem).settle is not Problem.settle
        self.hosted = bool(looks) or isinstance(METHODS[plan.solver](vectors.goal), HostMethod)
        self.unsuited = self._unsuited()

    def _unsuited(self) -> str:
        vectors, plan, condition = self.vectors, self.plan, self.vectors.condition
        d, linear = vectors.x.size, self.plan.linear
        if plan.method != "implicit" or plan.single or plan.corrected or plan.one_sided or vectors.bound.hessian:
            return "sensitivity asks for more than first derivatives in float64"
        if any(direction.kind == "hessian" for direction in vectors.bound.directions):
            return "sensitivity asks for second derivatives"
        if d > EXACT or linear.method not in ("auto", "lu", "cholesky") or not linear.dense or linear.ridge:
            return "A is not a small dense matrix"
        if self._gauge_names and not condition.symmetric:
            return "A has null vectors and is not symmetric"
        if not plan.polish or plan.in_file or plan.forward_chunks.count > 1 or plan.adjoint_chunks.count > 1:
            return "the solution is not polished, or the right-hand sides are many"
        why = self._uncompiled()
        if why and not self.hosted:  # the problem's own null space or margin may need the numbers
            self.hosted = True
            why = self._uncompiled()
        return f"the problem cannot be compiled as a whole: {why}" if why else ""

    def _uncompiled(self) -> str:
        """The error that JAX raises where the program is traced; empty where it can be."""
        try:
            jax.eval_shape(self._one, *self._blank())
        except (jax.errors.JAXTypeError, TypeError, ValueError) as error:
            return type(error).__name__
        return ""

    def _blank(self) -> tuple[Any, ...]:
        """Inputs of the right shapes."""
        vectors = self.vectors
        if not self.hosted:
            return self._inputs(Lane(vectors, 0, ""))
        d = vectors.x.size
        onward = (np.zeros(vectors.theta.size),) if self.warm else ()
        return np.zeros(d), vectors.start, vectors.data, np.zeros((d, len(self._gauge_names))), np.zeros(()), *onward

    def __call__(self, many: Sequence[Lane]) -> list[tuple[CaseResult, NDArray[np.float64]] | None]:
        """The regular ones of at most `WIDTH` cases, each with what it predicts for the next; None for those to be looked at.

        Lists of neighbours may differ in length: cases of one length go together, so that none depends on what others need.
        """
        inputs = [self._inputs(one) for one in many]
        shapes = [tuple(np.shape(leaf) for leaf in jax.tree.leaves(one)) for one in inputs]
        found: list[tuple[CaseResult, NDArray[np.float64]] | None] = [None] * len(many)
        for shape in dict.fromkeys(shapes):
            alike = [place for place, own in enumerate(shapes) if own == shape]
            together = self._together([many[place] for place in alike], [inputs[place] for place in alike])
            for place, one in zip(alike, together, strict=True):
                found[place] = one
        return found

    def _together(self, many: Sequence[Lane], inputs: list[tuple[Any, ...]]) -> list[tuple[CaseResult, NDArray[np.float64]] | None]:
        """Cases whose inputs have the same shapes."""
        begun = time.perf_counter()
        inputs = inputs + inputs[:1] * (WIDTH - len(inputs))
        leaves, tree = [jax.tree.leaves(one) for one in inputs], jax.tree.structure(inputs[0])
        # what no case has of its own is there once; the same for every call, or it would be compiled again
        own = {id(leaf) for leaf in jax.tree.leaves((self.vectors.data, dict(self.vectors.bound.initial)))}
        shared = [all(id(other[i]) in own for other in leaves) for i in range(len(leaves[0]))]
        still = [leaf if same else None for leaf, same in zip(leaves[0], shared, strict=True)]
        moving = [None if same else np.stack([np.asarray(other[i]) for other in leaves]) for i, same in enumerate(shared)]
        with one_thread(self.vectors.x.size):
            ended: Ended = jax.tree.map(np.asarray, self._program(tree)(np.int64(len(many)), moving, still))
        seconds = (time.perf_counter() - begun) / len(many)
        known: dict[str, Any] = {
            "method": self._method,
            "constants": self._constants,
            "gauges": self._gauge_names,
            "seconds": seconds,
            "warm": self.warm,
        }
        parts = [jax.tree.map(lambda a, i=number: a[i], ended) for number in range(len(many))]
        found = [record(lane, self.plan, self.sides, part, **known) for lane, part in zip(many, parts, strict=True)]
        return [None if result is None else (result, part.ahead) for result, part in zip(found, parts, strict=True)]

    def _inputs(self, lane: Lane) -> tuple[Any, ...]:
        """What the program needs to know of a case."""
        vectors = lane.vectors
        still = np.zeros(vectors.theta.size) if lane.onward is None else lane.onward
        if self.hosted:
            assert lane.found is not None
            p = lane.found.p
            known = list(gauges(vectors, p).values())
            G = np.stack([np.asarray(z) for z in known], axis=1) if known else np.zeros((vectors.x.size, 0))
            free = any(np.any(mask) for masks in vectors.problem.undetermined(*vectors.at(p)).values() for mask in masks.values())
            # a kink at no distance: what is free has to be looked at
            away = np.asarray(0.0 if free else margin(vectors, p))
            return (np.asarray(p.x), p.theta, p.data, G, away, *((still,) if self.warm else ()))
        cold = (vectors.start, vectors.data, np.asarray(lane.seed), dict(vectors.bound.initial))
        if not self.warm:
            return cold
        unknown = np.full((2, vectors.x.size), np.nan)
        return (*cold, unknown if lane.nearby is None else lane.nearby, still)

    def _program(self, tree: Any) -> Any:
        """All cases, one after the other: on a CPU that beats steps taken together, which go on until the last case is done."""
        if tree not in self._programs:

            def every(count: Any, moving: list[Any], still: list[Any]) -> Ended:
                def one(number: Any) -> Ended:
                    part = [None if a is None else a[number] for a in moving]
                    return self._one(*jax.tree.unflatten(tree, [b if a is None else a for a, b in zip(part, still, strict=True)]))

                def further(number: Any, every: Ended) -> Ended:
                    found: Ended = jax.tree.map(lambda all_, own: all_.at[number].set(own), every, one(number))
                    return found

                blank = jax.tree.map(lambda a: jnp.zeros((WIDTH, *a.shape), a.dtype), jax.eval_shape(one, count))
                found: Ended = jax.lax.fori_loop(0, count, further, blank)
                return found

            self._programs[tree] = jax.jit(every)
        return self._programs[tree]

    # Inside the program

    @property
    def _one(self) -> Callable[..., Ended]:
        return self._certified if self.hosted else self._ended

    def _held(self, p: Point, G: jax.Array) -> Held:
        system, condition = self.vectors.system, self.vectors.condition
        d = self.vectors.x.size
        operator = Operator(system.A_times, system.At_times, p, d, condition.symmetric, condition.definite, system.A_matrix)
        return Held(operator, G, method=self._method, tol=self.plan.linear.tol)

    @property
    def _method(self) -> str:
        condition, method = self.vectors.condition, self.plan.linear.method
        if method != "auto":
            return method
        return "cholesky" if condition.symmetric and (condition.definite or condition.kind == "stationary") else "lu"

    def _gauges(self, p: Point) -> jax.Array:
        directions = list(gauges(self.vectors, p).values())
        return jnp.stack(directions, axis=1) if directions else jnp.zeros((self.vectors.x.size, 0))

    def _ended(self, theta: Any, data: Any, seed: Any, given: dict[str, Any], nearby: Any = None, onward: Any = None) -> Ended:
        """A case from its guess, or a start nearby, to the end."""
        vectors = self.vectors
        p, solve, sound = self._solved(Point(vectors.guess(theta, data, seed, given), theta, data), nearby)
        arguments = vectors.arguments(p)
        margin = jnp.asarray(vectors.problem.margin(*arguments), float)
        if vectors.condition.margin is not None:
            margin = jnp.minimum(margin, vectors.condition.margin(*arguments))
        free = [jnp.any(mask) for masks in vectors.problem.undetermined(*arguments).values() for mask in masks.values()]
        ended = self._certified(p.x, theta, data, self._gauges(p), margin, onward)
        return ended._replace(regular=ended.regular & sound & ~jnp.any(jnp.asarray(free, bool)), solve=solve)

    def _solved(self, p: Point, nearby: Any) -> tuple[Point, Solve, Any]:
        """Where the solver and Newton steps lead to, how, and whether they came to an end."""
        goal, plan = self.vectors.goal, self.plan

        def held(p: Point) -> Held:
            return self._held(p, self._gauges(p))

        begun, near = jnp.asarray(0), Polished(p, jnp.asarray(jnp.inf), jnp.zeros(0), 0, False, 0)
        if nearby is not None:
            p, begun = best_start(goal, p, nearby)
            near = newton_steps(goal, p, jnp.where(begun > 0, residual(goal, p), 0.0), held)
        there = (begun > 0) & (near.size <= plan.tol)
        p = either(there, lambda: near.p, lambda: p)
        method: Any = METHODS[plan.solver](goal)
        solved = run(method, goal, p, tol=plan.tol, max_steps=plan.max_steps, length=min(RECORDED, plan.max_steps))
        finite = jnp.isfinite(solved.residual) & (solved.steps < plan.max_steps)
        polished = newton_steps(goal, p._replace(x=solved.x), jnp.where(finite & ~there, solved.residual, 0.0), held)
        story = Solve(
            begun=begun,
            near=(near.history, jnp.where(there, near.count, 0)),
            steps=(solved.history, solved.steps),
            polish=(polished.history, polished.count),
            residual=residual(goal, polished.p),
        )
        return polished.p, story, finite & (solved.steps <= RECORDED)

    def _certified(self, x: Any, theta: Any, data: Any, G: jax.Array, margin: Any, onward: Any = None) -> Ended:
        """A solution differentiated and certified; G (d, k) are its gauges, `margin` its distance to the nearest kink."""
        vectors, p = self.vectors, Point(x, theta, data)
        A, arguments = self._held(p, G), vectors.arguments(p)
        certifier = Certifier(vectors.system, p, A, vectors.problem.constants(arguments[1], arguments[2]), margin)
        found: dict[str, Any] = self._forward(p, A, certifier) | self._adjoint(p, A, certifier)
        reach = jnp.where(jnp.isfinite(certifier.lengths.radius), certifier.lengths.radius, STEPS * certifier.lengths.step)
        size = jnp.linalg.norm(p.x)
        bent = kinks(vectors.system, p, radius=jnp.minimum(reach, NEAR * jnp.where(size > 0, size, 1.0)))
        good = [
            (residual(vectors.goal, p) <= self.plan.tol) & A.regular & certifier.available & (margin > reach),
            ~bent.in_F & ~bent.edge & ~bent.in_g.any() & self._within_range(p, G),
            (A.spectrum.negative == 0) if vectors.condition.kind == "stationary" else jnp.asarray(True),
            *(jnp.all(status == int(Status.OK)) for status, _, _ in (found["forward"], found["adjoint"])),
            *(jnp.all(jnp.isfinite(found[name])) for name in ("U", "Y", "L")),
        ]
        in_x, in_y = certifier.solution()
        values = {
            name: jnp.stack([part[0] for part in (in_x if name in vectors.x.slices else in_y).norms(self._rows(name))])
            for name in (*vectors.x.names, *vectors.y.names)
        }
        return Ended(
            x=p.x,
            y=vectors.system.g(p.x, p.theta, p.data),
            values=values,
            lengths=certifier.lengths,
            spectrum=(A.spectrum.sigma_min, A.spectrum.sigma_max),
            margin=margin,
            proved=jnp.asarray(certifier.proved),
            regular=jnp.all(jnp.stack(good)),
            ahead=p.x + self._tangent(p, A, found["U"], onward) if onward is not None else jnp.zeros(0),
            **found,
        )

    def _rows(self, name: str) -> slice:
        return self.vectors.x.slices[name] if name in self.vectors.x.slices else self.vectors.y.slices[name]

    def _tangent(self, p: Point, A: Held, U: jax.Array, onward: jax.Array) -> jax.Array:
        """J dlambda."""
        if self.sides.whole:
            return U[:, : self.vectors.theta.size] @ onward
        return forward(self.vectors.system.bare, p, A, onward[:, None]).U[:, 0]

    def _within_range(self, p: Point, G: jax.Array) -> jax.Array:
        """F does not push along a gauge where theta changes."""
        system = self.vectors.system
        if not G.shape[1]:
            return jnp.asarray(True)
        leak = jnp.linalg.norm(system.Bt_times(p, jnp.linalg.qr(G)[0]))
        whole = jnp.eye(self.vectors.x.size)
        floor = RANGE_TOLERANCE * jnp.linalg.norm(system.Bt_times(p, whole))
        return leak <= jnp.maximum(floor, system.compiled(rounding_of_Bt)(p, whole))

    def _forward(self, p: Point, A: Held, certifier: Certifier) -> dict[str, Any]:
        """U, Y and the parts of their bounds by `of` (3, k)."""
        system, bound, none = self.vectors.system, self.vectors.bound, jnp.zeros(0)
        if not self.sides.V.shape[1]:
            nothing = {"U": jnp.zeros((self.vectors.x.size, 0)), "Y": jnp.zeros((self.vectors.y.size, 0)), "tangents": {}}
            return {**nothing, "forward": (none, none, none)}
        if not any(of in self.vectors.y.slices for of in bound.of):
            system = system.bare
        f = forward(system, p, A, jnp.asarray(self.sides.V))
        in_x, in_y = certifier.forward(f)
        parts = {of: jnp.stack((in_x if of in self.vectors.x.slices else in_y).norms(self._rows(of))) for of in bound.of}
        story = (f.solved.status, f.solved.relative, f.solved.steps)
        return {"U": f.U, "Y": f.Y, "tangents": parts, "forward": story}

    def _adjoint(self, p: Point, A: Held, certifier: Certifier) -> dict[str, Any]:
        """L and the parts of its bounds: for the rows of the Jacobian by `of` (3, n), for the named cotangents by `wrt` (3, l')."""
        vectors, none = self.vectors, jnp.zeros(0)
        if not self.sides.W.shape[1]:
            return {"L": jnp.zeros((vectors.theta.size, 0)), "rows": {}, "cotangents": {}, "adjoint": (none, none, none)}
        W_x, W_y = jnp.split(jnp.asarray(self.sides.W), [vectors.x.size])
        a = adjoint(vectors.system, p, A, W_x, W_y)
        parts = certifier.adjoint(a)
        assert parts.reach is not None
        rows = {}
        for of, place in self.sides.places.items():
            squares = jnp.sqrt(parts.squares(np.arange(place.start, place.stop)))
            spread = jnp.sqrt(jnp.sum(parts.spread[place] ** 2)) * parts.reach
            rows[of] = squares.at[0].add(spread)
        cotangents = {
            wrt: jnp.stack([part[self.sides.named :] for part in parts.norms(where)]) for wrt, where in vectors.theta.slices.items()
        }
        story = (a.solved.status, a.solved.relative, a.solved.steps)
        return {"L": a.L, "rows": rows, "cotangents": cotangents, "adjoint": story}

    @cached_property
    def _constants(self) -> Constants:
        _, theta, data = self.vectors.at(Point(jnp.zeros(self.vectors.x.size), self.vectors.start, self.vectors.data))
        return self.vectors.problem.constants(theta, data)

    @cached_property
    def _gauge_names(self) -> tuple[str, ...]:
        return tuple(gauges(self.vectors, Point(self.vectors.initial(0), self.vectors.start, self.vectors.data)))
