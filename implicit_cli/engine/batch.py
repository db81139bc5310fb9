"""Many small cases at once: one compiled program solves, differentiates and certifies each, and says whether it is regular.

A regular case has nothing to be said of it: solved, A regular, a root nearby, no kink, the accuracy reached. What such a case ends
with needs no decision on the way, so that no Python has to look at its numbers. All others are for `run_case`, which looks.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import cache, cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from implicit_cli.core.certificate import Certifier
from implicit_cli.core.degeneracy import RANGE_TOLERANCE
from implicit_cli.core.implicit import Point, adjoint, forward
from implicit_cli.core.linear.base import Operator, Spectrum
from implicit_cli.core.linear.dense import Held
from implicit_cli.core.linear.extremes import EXACT
from implicit_cli.core.measured import rounding_of_Bt
from implicit_cli.core.nearby import Lengths, certificate
from implicit_cli.core.one_sided import kinks
from implicit_cli.core.solvers import METHODS
from implicit_cli.core.solvers.base import residual, run
from implicit_cli.core.solvers.choice import newton_steps
from implicit_cli.core.solvers.host import HostMethod
from implicit_cli.engine.asked import Direction
from implicit_cli.engine.judge import LOST
from implicit_cli.engine.kinks import NEAR, STEPS
from implicit_cli.engine.linearise import gauges
from implicit_cli.engine.plan import Plan
from implicit_cli.engine.site import columns
from implicit_cli.engine.vectors import Vectors
from implicit_cli.problem import Constants, Problem
from implicit_cli.result import Bound, CaseResult, LinearReport, NullSpace, Product, SolverReport
from implicit_cli.status import Status

RECORDED = 256
"""Residuals of a solver's iterations that are kept, at most."""


class Ended(NamedTuple):
    """What is known of a case, as arrays: the solve, the products with the parts of their bounds, the certificate.

    Products: `U` (d, k) and `Y` (m, k) of the forward columns, `L` (n, l) of the adjoint ones. `tangents` and `rows` are parts of
    bounds by `of`, (3, k) and (3, n), `cotangents` by `wrt`, (3, l'); `values` those of unknowns and outputs (3,).
    """

    x: Any
    y: Any
    steps: Any
    polish_steps: Any
    residual: Any
    history: Any
    polished: Any
    U: Any
    Y: Any
    L: Any
    tangents: Any
    rows: Any
    cotangents: Any
    values: Any
    forward: Any
    adjoint: Any
    lengths: Lengths
    spectrum: Any
    margin: Any
    proved: Any
    regular: Any


class Lane(NamedTuple):
    """A case to be computed with others: the problem at its values, its seed and its id."""

    vectors: Vectors
    seed: int
    id: str


class Batch:
    """The program for cases of one problem and one plan; `unsuited` says why there can be none, and is empty where there is one."""

    def __init__(self, vectors: Vectors, plan: Plan) -> None:
        self.vectors, self.plan = vectors, plan
        bound, x, y, theta = vectors.bound, vectors.x, vectors.y, vectors.theta
        self._jvps = [direction for direction in bound.directions if direction.kind == "jvp"]
        self._vjps = [direction for direction in bound.directions if direction.kind == "vjp"]
        self.whole = bound.jacobian and plan.mode == "forward"
        self.turned = bound.jacobian and plan.mode == "adjoint"
        self._places: dict[str, slice] = {}
        rows: list[int] = []
        for of in bound.of if self.turned else ():
            where = x.slices[of] if of in x.slices else y.slices[of]
            offset = 0 if of in x.slices else x.size
            self._places[of] = slice(len(rows), len(rows) + where.stop - where.start)
            rows += range(offset + where.start, offset + where.stop)
        one, named = np.eye(x.size + y.size)[:, rows], [np.zeros((x.size + y.size, 0))]
        named += [np.concatenate([columns(x, direction), columns(y, direction)]) for direction in self._vjps]
        self.W = np.concatenate([one, *named], axis=1)
        one = np.eye(theta.size)[:, : theta.size if self.whole else 0]
        self.V = np.concatenate([one, *(columns(theta, direction) for direction in self._jvps)], axis=1)
        self.unsuited = self._unsuited()

    def _unsuited(self) -> str:
        vectors, plan, condition = self.vectors, self.plan, self.vectors.condition
        d = vectors.x.size
        if plan.method != "implicit" or plan.single or plan.corrected or plan.one_sided or vectors.bound.hessian:
            return "sensitivity asks for more than first derivatives in float64"
        if any(direction.kind == "hessian" for direction in vectors.bound.directions):
            return "sensitivity asks for second derivatives"
        if vectors.derived or type(vectors.problem).settle is not Problem.settle:
            return "the problem looks at its unknowns on the host"
        if d > EXACT or plan.linear.method not in ("auto", "lu", "cholesky") or condition.pattern is not None or plan.linear.ridge:
            return "A is not a small dense matrix"
        if isinstance(METHODS[plan.solver](vectors.goal), HostMethod):
            return f"{plan.solver} runs on the host"
        if not plan.polish or plan.in_file or plan.forward_chunks.count > 1 or plan.adjoint_chunks.count > 1:
            return "the solution is not polished, or the right-hand sides are many"
        try:
            jax.eval_shape(self._ended, vectors.start, vectors.data, np.asarray(0), dict(vectors.bound.initial))
        except (jax.errors.JAXTypeError, TypeError, ValueError) as error:
            return f"the problem cannot be compiled as a whole: {type(error).__name__}"
        return ""

    def __call__(self, many: Sequence[Lane]) -> list[CaseResult | None]:
        """The regular ones of these cases; None for those that have to be looked at."""
        begun = time.perf_counter()
        inputs = [(one.vectors.start, one.vectors.data, np.asarray(one.seed), dict(one.vectors.bound.initial)) for one in many]
        leaves, tree = [jax.tree.leaves(one) for one in inputs], jax.tree.structure(inputs[0])
        # what no case has of its own is there once; the same for every call, or it would be compiled again
        own = {id(leaf) for leaf in jax.tree.leaves((self.vectors.data, dict(self.vectors.bound.initial)))}
        shared = [all(id(other[i]) in own for other in leaves) for i in range(len(leaves[0]))]
        still = [leaf if same else None for leaf, same in zip(leaves[0], shared, strict=True)]
        moving = [None if same else np.stack([np.asarray(other[i]) for other in leaves]) for i, same in enumerate(shared)]
        # more threads of LAPACK than one would wait for each other, and for XLA's: ten times slower
        with _libraries().limit(limits=1, user_api="blas"):
            ended: Ended = jax.tree.map(np.asarray, self._program(tree)(moving, still))
        seconds = (time.perf_counter() - begun) / len(many)
        return [self._record(one, jax.tree.map(lambda a, i=lane: a[i], ended), seconds) for lane, one in enumerate(many)]

    @cached_property
    def _programs(self) -> dict[Any, Any]:
        return {}

    def _program(self, tree: Any) -> Any:
        """All cases, one after the other: on a CPU that beats steps taken together, which go on until the last case is done."""
        if tree not in self._programs:

            def every(moving: list[Any], still: list[Any]) -> Ended:
                def one(part: list[Any]) -> Ended:
                    return self._ended(*jax.tree.unflatten(tree, [b if a is None else a for a, b in zip(part, still, strict=True)]))

                return jax.lax.map(one, moving)

            self._programs[tree] = jax.jit(every)
        return self._programs[tree]

    # Inside the program

    def _held(self, p: Point) -> Held:
        system, condition = self.vectors.system, self.vectors.condition
        d = self.vectors.x.size
        operator = Operator(system.A_times, system.At_times, p, d, condition.symmetric, condition.definite, system.A_matrix)
        return Held(operator, self._gauges(p), method=self._method, tol=self.plan.linear.tol)

    @property
    def _method(self) -> str:
        condition, method = self.vectors.condition, self.plan.linear.method
        if method != "auto":
            return method
        return "cholesky" if condition.symmetric and (condition.definite or condition.kind == "stationary") else "lu"

    def _gauges(self, p: Point) -> jax.Array:
        directions = list(gauges(self.vectors, p).values())
        return jnp.stack(directions, axis=1) if directions else jnp.zeros((self.vectors.x.size, 0))

    def _ended(self, theta: Any, data: Any, seed: Any, given: dict[str, Any]) -> Ended:
        vectors, plan = self.vectors, self.plan
        p = Point(vectors.guess(theta, data, seed, given), theta, data)
        method: Any = METHODS[plan.solver](vectors.goal)
        solved = run(method, vectors.goal, p, tol=plan.tol, max_steps=plan.max_steps, length=min(RECORDED, plan.max_steps))
        finite = jnp.isfinite(solved.residual) & (solved.steps < plan.max_steps)
        polished = newton_steps(vectors.goal, p._replace(x=solved.x), jnp.where(finite, solved.residual, 0.0), self._held)
        p = polished.p
        last = residual(vectors.goal, p)
        A = self._held(p)
        arguments = vectors.arguments(p)
        margin = jnp.asarray(vectors.problem.margin(*arguments), float)
        if vectors.condition.margin is not None:
            margin = jnp.minimum(margin, vectors.condition.margin(*arguments))
        constants = vectors.problem.constants(arguments[1], arguments[2])
        certifier = Certifier(vectors.system, p, A, constants, margin)
        found: dict[str, Any] = self._forward(p, A, certifier) | self._adjoint(p, A, certifier)
        reach = jnp.where(jnp.isfinite(certifier.lengths.radius), certifier.lengths.radius, STEPS * certifier.lengths.step)
        size = jnp.linalg.norm(p.x)
        bent = kinks(vectors.system, p, radius=jnp.minimum(reach, NEAR * jnp.where(size > 0, size, 1.0)))
        good = [
            finite & (last <= plan.tol) & A.regular & certifier.available & (margin > reach),
            ~bent.in_F & ~bent.edge & ~bent.in_g.any() & self._within_range(p),
            (A.spectrum.negative == 0) if vectors.condition.kind == "stationary" else jnp.asarray(True),
            *(jnp.all(status == int(Status.OK)) for status, _, _ in (found["forward"], found["adjoint"])),
            *(jnp.all(jnp.isfinite(found[name])) for name in ("U", "Y", "L")),
            *(~jnp.any(mask) for masks in vectors.problem.undetermined(*arguments).values() for mask in masks.values()),
        ]
        in_x, in_y = certifier.solution()
        values = {
            name: jnp.stack([part[0] for part in (in_x if name in vectors.x.slices else in_y).norms(self._rows(name))])
            for name in (*vectors.x.names, *vectors.y.names)
        }
        return Ended(
            x=p.x,
            y=vectors.system.g(p.x, p.theta, p.data),
            steps=solved.steps,
            polish_steps=polished.count,
            residual=last,
            history=solved.history,
            polished=polished.history,
            values=values,
            lengths=certifier.lengths,
            spectrum=(A.spectrum.sigma_min, A.spectrum.sigma_max),
            margin=margin,
            proved=jnp.asarray(certifier.proved),
            regular=jnp.all(jnp.stack(good)),
            **found,
        )

    def _rows(self, name: str) -> slice:
        return self.vectors.x.slices[name] if name in self.vectors.x.slices else self.vectors.y.slices[name]

    def _within_range(self, p: Point) -> jax.Array:
        """F does not push along a gauge where theta changes."""
        system, G = self.vectors.system, self._gauges(p)
        if not G.shape[1]:
            return jnp.asarray(True)
        leak = jnp.linalg.norm(system.Bt_times(p, jnp.linalg.qr(G)[0]))
        whole = jnp.eye(self.vectors.x.size)
        floor = RANGE_TOLERANCE * jnp.linalg.norm(system.Bt_times(p, whole))
        return leak <= jnp.maximum(floor, system.compiled(rounding_of_Bt)(p, whole))

    def _forward(self, p: Point, A: Held, certifier: Certifier) -> dict[str, Any]:
        """U, Y and the parts of their bounds by `of` (3, k)."""
        system, bound, none = self.vectors.system, self.vectors.bound, jnp.zeros(0)
        if not self.V.shape[1]:
            nothing = {"U": jnp.zeros((self.vectors.x.size, 0)), "Y": jnp.zeros((self.vectors.y.size, 0)), "tangents": {}}
            return {**nothing, "forward": (none, none, none)}
        if not any(of in self.vectors.y.slices for of in bound.of):
            system = system.bare
        f = forward(system, p, A, jnp.asarray(self.V))
        in_x, in_y = certifier.forward(f)
        parts = {of: jnp.stack((in_x if of in self.vectors.x.slices else in_y).norms(self._rows(of))) for of in bound.of}
        story = (f.solved.status, f.solved.relative, f.solved.steps)
        return {"U": f.U, "Y": f.Y, "tangents": parts, "forward": story}

    def _adjoint(self, p: Point, A: Held, certifier: Certifier) -> dict[str, Any]:
        """L and the parts of its bounds: for the rows of the Jacobian by `of` (3, n), for the named cotangents by `wrt` (3, l')."""
        vectors, none = self.vectors, jnp.zeros(0)
        if not self.W.shape[1]:
            return {"L": jnp.zeros((vectors.theta.size, 0)), "rows": {}, "cotangents": {}, "adjoint": (none, none, none)}
        W_x, W_y = jnp.split(jnp.asarray(self.W), [vectors.x.size])
        a = adjoint(vectors.system, p, A, W_x, W_y)
        parts = certifier.adjoint(a)
        assert parts.reach is not None
        rows = {}
        for of, place in self._places.items():
            squares = jnp.sqrt(parts.squares(np.arange(place.start, place.stop)))
            spread = jnp.sqrt(jnp.sum(parts.spread[place] ** 2)) * parts.reach
            rows[of] = squares.at[0].add(spread)
        named = sum(place.stop - place.start for place in self._places.values())
        cotangents = {wrt: jnp.stack([part[named:] for part in parts.norms(where)]) for wrt, where in vectors.theta.slices.items()}
        story = (a.solved.status, a.solved.relative, a.solved.steps)
        return {"L": a.L, "rows": rows, "cotangents": cotangents, "adjoint": story}

    # Outside of it

    def _record(self, lane: Lane, ended: Ended, seconds: float) -> CaseResult | None:
        """The record of a case; None where it is not regular, or not as accurate as was asked."""
        if not ended.regular:
            return None
        products = [*self._jacobians(ended), *self._directions(ended)]
        known = [_relative(product) for product in products]
        accuracy = max((relative for relative, _ in known), default=0.0)
        if not accuracy <= self.plan.accuracy or not max((rounding for _, rounding in known), default=0.0) <= LOST:
            return None
        plan, vectors, d = self.plan, lane.vectors, lane.vectors.x.size
        nothing = jnp.zeros((d, 0))
        low, high = ended.spectrum
        spectrum = Spectrum(low, high, nothing, nothing)
        history = np.concatenate([ended.history[: int(ended.steps)], ended.polished[: int(ended.polish_steps)]])
        kind = "bound" if ended.proved else "estimate"
        return CaseResult(
            id=lane.id,
            status=Status.OK,
            message="",
            theta={name: np.asarray(value) for name, value in vectors.bound.parameters.items()},
            solution=vectors.x.split(ended.x),
            outputs=vectors.y.split(ended.y),
            products=tuple(products),
            solver=SolverReport(
                plan.solver, Status.OK, int(ended.steps), int(ended.polish_steps), plan.tol, float(ended.residual), history
            ),
            linear=tuple(self._linear(ended)),
            certificate=certificate(ended.lengths, spectrum, self._constants, ended.margin),
            null_space=NullSpace(self._nullity, self._gauge_names),
            seconds={"batch": seconds},
            bounds={name: _bound(parts, kind if name in vectors.x.slices else "estimate") for name, parts in ended.values.items()},
            accuracy=accuracy,
        )

    @cached_property
    def _constants(self) -> Constants:
        """Which constants the problem proves: what counts here is that they are not None."""
        _, theta, data = self.vectors.arguments(Point(jnp.zeros(self.vectors.x.size), self.vectors.start, self.vectors.data))
        return self.vectors.problem.constants(theta, data)

    @cached_property
    def _gauge_names(self) -> tuple[str, ...]:
        p = Point(self.vectors.initial(0), self.vectors.start, self.vectors.data)
        return tuple(gauges(self.vectors, p))

    @property
    def _nullity(self) -> int:
        return len(self._gauge_names)

    def _linear(self, ended: Ended) -> list[LinearReport]:
        method = self._method
        return [
            LinearReport(direction, method, np.asarray(status), np.asarray(relative), np.asarray(steps))
            for direction, (status, relative, steps) in (("forward", ended.forward), ("adjoint", ended.adjoint))
            if len(status)
        ]

    def _jacobians(self, ended: Ended) -> list[Product]:
        vectors = self.vectors
        found = []
        for of in vectors.bound.of if vectors.bound.jacobian else ():
            layout, rows = (vectors.x, ended.U) if of in vectors.x.slices else (vectors.y, ended.Y)
            for wrt, where in vectors.theta.slices.items():
                value = rows[layout.slices[of], where] if self.whole else ended.L[where, self._places[of]].T
                parts = (ended.tangents if self.whole else ended.rows)[of][:, where]
                kind = "bound" if self.whole and ended.proved and of in vectors.x.slices else "estimate"
                shape = vectors.theta.shapes[wrt]
                bound = _bound(parts.reshape(3, *shape), kind)
                found.append(Product("jacobian", "", of, wrt, value.reshape(layout.shapes[of] + shape), bound))
        return found

    def _directions(self, ended: Ended) -> list[Product]:
        vectors, found = self.vectors, []
        for of in vectors.bound.of if self._jvps else ():
            layout, rows = (vectors.x, ended.U) if of in vectors.x.slices else (vectors.y, ended.Y)
            kind = "bound" if ended.proved and of in vectors.x.slices else "estimate"
            for direction, place in _laid(self._jvps, vectors.theta.size if self.whole else 0):
                many = () if direction.count is None else (direction.count,)
                value = rows[layout.slices[of], place].T.reshape(many + layout.shapes[of])
                bound = _bound(ended.tangents[of][:, place].reshape(3, *many), kind)
                found.append(Product("jvp", direction.name, of, "", value, bound, direction=dict(direction.parts)))
        named = sum(place.stop - place.start for place in self._places.values())
        for direction, place in _laid(self._vjps, named):
            many = () if direction.count is None else (direction.count,)
            within = slice(place.start - named, place.stop - named)
            for wrt, where in vectors.theta.slices.items():
                value = ended.L[where, place].T.reshape(many + vectors.theta.shapes[wrt])
                bound = _bound(ended.cotangents[wrt][:, within].reshape(3, *many), "estimate")
                found.append(Product("vjp", direction.name, "", wrt, value, bound, direction=dict(direction.parts)))
        return found


@cache
def _libraries() -> ThreadpoolController:
    """The libraries with threads of their own, as far as they are loaded."""
    return ThreadpoolController()


def _laid(directions: list[Direction], first: int) -> list[tuple[Direction, slice]]:
    """Each direction with its columns, of which the first is `first`."""
    found = []
    for direction in directions:
        found.append((direction, slice(first, first + (direction.count or 1))))
        first = found[-1][1].stop
    return found


def _bound(parts: NDArray[np.float64], kind: str) -> Bound:
    truncation, linear, rounding = map(np.asarray, parts)
    return Bound(truncation + linear + rounding, truncation, linear, rounding, kind)


def _relative(product: Product) -> tuple[float, float]:
    """Bound of a product relative to its size, as `Products.relative`, and the rounding part alike.

    Infinite for a derivative that vanishes within its bound: what to compare it with has to be looked for.
    """
    bounds, rounding = product.bound.total.reshape(-1), product.bound.rounding.reshape(-1)
    if product.kind == "jacobian":
        sizes = np.linalg.norm(product.value.reshape(-1, max(bounds.size, 1)), axis=0).max(initial=0.0, keepdims=True)
        bounds, rounding = bounds.max(initial=0.0, keepdims=True), rounding.max(initial=0.0, keepdims=True)
    else:
        sizes = np.linalg.norm(product.value.reshape(bounds.size, -1), axis=1)
    if not (sizes > bounds).all():
        return np.inf, np.inf
    relative = bounds / sizes
    total = float(bounds.max(initial=0.0))
    worst = float(relative.max(initial=0.0))
    return worst, worst * float(rounding.max(initial=0.0)) / total if total > 0 else 0.0
