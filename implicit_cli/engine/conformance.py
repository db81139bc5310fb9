"""Does a problem keep the contract (`implicit_cli.problem`)? Its functions are tried, and what it declares of A is held against A.

Nothing here knows a problem. Each trait is shown to hold, or violated with what was found, or not decided where there is nothing to
try. The last one is `verify_case`: derivatives against solutions nearby.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.sparse import coo_array

from implicit_cli.core.implicit import Point
from implicit_cli.engine.case import run_case
from implicit_cli.engine.linearise import gauges, margin
from implicit_cli.engine.plan import Plan
from implicit_cli.engine.solving import Observer
from implicit_cli.engine.vectors import Vectors
from implicit_cli.engine.verification import verify_case
from implicit_cli.problem import Unknown
from implicit_cli.result import CaseResult
from implicit_cli.status import Status
from implicit_cli.verdict import CaseVerdict, Trait, Verdict, claim_of

NEAR = 1e-6
"""How far apart the points are at which F is tried, relative to x: near enough for any derived list to serve at all of them."""
SAME = 1e-9
"""Relative difference of one F computed in two ways, at most: orders of summation differ."""
PROBES = 4
"""Random directions along which A is tried."""
TAGS = 1e-7
"""Relative difference between A and what is declared of it, at most."""
SHARP = 1e-5
"""Error of a witness, relative to the derivative, at which it still tells a right one from a wrong one."""
EXACT = 1000
"""Unknowns up to which all eigenvalues of A are looked at."""


def conformance(vectors: Vectors, plan: Plan, *, seed: int, observer: Observer | None = None) -> tuple[Trait, ...]:
    """All traits of a bound problem, tried at its initial guess and its solution; random directions come from `seed`."""
    found = list(_Functions(vectors, seed).traits())
    result = run_case(vectors, plan, identity="0", seed=seed, observer=observer)
    found.append(_solution(vectors, result))
    if result.solver.status is Status.OK:  # whatever became of the derivatives: a wrong declaration may be why
        found += _Linear(vectors, result, seed).traits()
    case = verify_case(vectors, plan, claim_of(result), directions=2, full=False, seed=seed, observer=observer)
    found.append(_derivatives(case))
    return tuple(found)


def _trait(name: str, faults: list[str], good: str) -> Trait:
    return Trait(name, Verdict.VIOLATED if faults else Verdict.HOLDS, "; ".join(faults) or good)


class _Functions:
    """F and the outputs as functions: real numbers, the same ones each time, compiled or not, alone or many at once."""

    def __init__(self, vectors: Vectors, seed: int) -> None:
        self.vectors, self.seed = vectors, seed
        rng = np.random.default_rng(seed)
        x = vectors.initial(seed)
        self.p = vectors.refreshed(Point(x, vectors.start, vectors.data))
        moves = NEAR * (1.0 + np.abs(np.asarray(x))) * rng.normal(size=(2, vectors.x.size))
        self.points = [self.p, *(self.p._replace(x=x + jnp.asarray(move)) for move in moves)]

    def plain(self, p: Point) -> jax.Array:
        """F and outputs end to end (d + m,), as Python runs them."""
        vectors = self.vectors
        arguments = vectors.arguments(p)
        outputs = vectors.y.join(vectors.problem.outputs(*arguments))
        return jnp.concatenate([vectors.x.join(vectors.condition.F(*arguments)._asdict()), outputs])

    def traits(self) -> Iterator[Trait]:
        yield self._guess()
        yield self._numbers()
        once = [np.asarray(self.plain(p)) for p in self.points]
        again = np.asarray(self.plain(self.p))
        changed = [] if np.array_equal(once[0], again, equal_nan=True) else ["F or outputs differ when they are computed again"]
        yield _trait("deterministic", changed, "the same numbers each time")
        compiled = jax.jit(self.plain)
        compiled(self.p)  # what Python decides while it is traced is decided at this point
        yield self._same("jit", "compiled", once, [compiled(p) for p in self.points])
        X = jnp.stack([p.x for p in self.points])
        yield self._same("vmap", "for many x at once", once, list(jax.jit(jax.vmap(lambda x: self.plain(self.p._replace(x=x))))(X)))

    def _guess(self) -> Trait:
        vectors, faults = self.vectors, list[str]()
        named = vectors.x.split(np.asarray(self.p.x))
        faults += [f"'{name}' is not finite" for name, value in named.items() if not np.isfinite(value).all()]
        faults += [f"'{name}' is outside of its bounds" for name in _outside(vectors, named, dict.fromkeys(named, 0.0))]
        if not np.array_equal(np.asarray(vectors.initial(self.seed)), np.asarray(self.p.x)):
            faults.append("another one for the same seed")
        return _trait("initial guess", faults, "finite, within bounds, the same for the same seed")

    def _numbers(self) -> Trait:
        """Real numbers in double precision: what is rounded to less on the way has no bound that holds."""
        vectors = self.vectors
        shapes = jax.eval_shape(
            lambda p: (vectors.condition.F(*vectors.arguments(p))._asdict(), vectors.problem.outputs(*vectors.arguments(p))), self.p
        )
        faults = [
            f"{what} '{name}' is {leaf.dtype}, expected float64"
            for what, named in zip(("F of", "output"), shapes, strict=True)
            for name, leaf in named.items()
            if leaf.dtype != np.float64
        ]
        if not faults and not np.isfinite(np.asarray(self.plain(self.p))).all():
            faults.append("F or an output is not finite at the initial guess")
        names = [*vectors.x.names, *vectors.y.names]
        return _trait("shapes and dtypes", faults, f"float64, as declared: {', '.join(names)}")

    def _same(self, name: str, how: str, expected: list[Any], found: list[Any]) -> Trait:
        size = max(np.abs(one).max(initial=0.0) for one in expected)
        worst = max(np.abs(np.asarray(b) - a).max(initial=0.0) for a, b in zip(expected, found, strict=True))
        held = worst <= SAME * size + SAME * NEAR
        return _trait(name, [] if held else [f"{how}, F or outputs differ by {worst:.1e}"], f"{how}, the same numbers")


def _derivatives(case: CaseVerdict) -> Trait:
    """Products against solutions nearby: here it is enough that the witness agrees, however far it is from the bound."""
    findings = case.findings
    notes = [case.note, *(finding.note for finding in findings if finding.verdict is not Verdict.HOLDS)]
    if case.verdict is Verdict.VIOLATED:
        return Trait("derivatives", case.verdict, "; ".join(dict.fromkeys(filter(None, notes))))
    seen = [finding for finding in findings if finding.agrees and finding.witness <= SHARP * max(finding.size, SHARP)]
    if len(seen) < len(findings) or not seen:
        return Trait("derivatives", Verdict.NOT_DECIDED, "; ".join(dict.fromkeys(filter(None, notes))))
    worst = max(finding.witness / max(finding.size, SHARP) for finding in seen)
    return Trait("derivatives", Verdict.HOLDS, f"{len(seen)} checked by solving again nearby, to {worst:.0e}")


def _outside(vectors: Vectors, named: Mapping[str, Any], slack: Mapping[str, Any]) -> list[str]:
    """Unknowns that are outside of their declared bounds."""
    found = []
    for name, declared in vectors.problem.declared(Unknown).items():
        low, high = (np.nan if side is None else side for side in declared.bounds)
        if ((named[name] < low - slack[name]) | (named[name] > high + slack[name])).any():
            found.append(name)
    return found


def _solution(vectors: Vectors, result: CaseResult) -> Trait:
    """The solver comes to where the condition holds."""
    solver, faults = result.solver, list[str]()
    if not result.status.good:
        faults.append(f"{result.status.label}: {result.message}" if result.message else result.status.label)
    slack = {name: 1e-9 * (1.0 + np.abs(value)) for name, value in result.solution.items()}
    faults += [f"'{name}' is outside of its bounds" for name in _outside(vectors, result.solution, slack)]
    steps = f"{solver.steps} of {solver.name} and {solver.polish_steps} of Newton's"
    return _trait("solution", faults, f"max |F| = {solver.residual:.1e} after these steps: {steps}")


class _Linear:
    """What is declared of A = dF/dx and of F around the solution, tried along random directions."""

    def __init__(self, vectors: Vectors, result: CaseResult, seed: int) -> None:
        self.vectors, self.result = vectors, result
        x = jnp.asarray(vectors.x.join(result.solution))
        self.p = vectors.refreshed(Point(x, vectors.start, vectors.data))
        self.U = jnp.asarray(np.random.default_rng(seed).normal(size=(vectors.x.size, PROBES)))
        self.A_U = np.asarray(vectors.system.A_times(self.p, self.U))
        self.size = float(np.linalg.norm(self.A_U) / np.linalg.norm(self.U) * max(vectors.x.size, 1) ** 0.5) or 1.0

    def traits(self) -> Iterator[Trait]:
        condition = self.vectors.condition
        tried: list[tuple[str, bool, Callable[[], list[str]], str]] = [
            ("transpose", True, self._transpose, "A' by reverse mode is that of A by forward mode"),
            ("symmetric", condition.symmetric, self._symmetric, "A is symmetric, as declared"),
            ("definite", condition.definite, self._definite, "A is positive semi-definite, as declared"),
            ("null space", bool(gauges(self.vectors, self.p)), self._null_space, "F does not change along the gauges"),
            ("entries", condition.entries is not None, self._entries, "pattern and entries are those of A"),
            ("preconditioner", condition.precondition is not None, self._preconditioner, "it is finite, and definite where A is"),
            ("constants", any(c is not None for c in self._constants), self._constants_hold, "A and B keep them nearby"),
            ("margin", condition.margin is not None, self._margin, f"{margin(self.vectors, self.p):.2g} to the nearest kink"),
        ]
        for name, declared, faults, good in tried:
            if declared:
                yield _trait(name, faults(), good)

    @property
    def _constants(self) -> Any:
        _, theta, data = self.vectors.at(self.p)
        return self.vectors.problem.constants(theta, data)

    def _off(self, difference: Any) -> bool:
        return not float(np.abs(difference).max(initial=0.0)) <= TAGS * self.size * float(np.linalg.norm(self.U, axis=0).max()) ** 2

    def _transpose(self) -> list[str]:
        W = self.U[:, ::-1]
        pulled = np.asarray(self.vectors.system.F_cotangent(self.p, W)[0])
        difference = np.asarray(W).T @ self.A_U - pulled.T @ np.asarray(self.U)
        return [f"w'(A u) and (A'w)'u differ by {np.abs(difference).max():.1e}"] if self._off(difference) else []

    def _symmetric(self) -> list[str]:
        S = np.asarray(self.U).T @ self.A_U
        return [f"u'A v and v'A u differ by {np.abs(S - S.T).max():.1e}"] if self._off(S - S.T) else []

    def _definite(self) -> list[str]:
        if self.vectors.x.size <= EXACT:
            A = np.asarray(self.vectors.system.A_matrix(self.p))
            lowest = float(np.linalg.eigvalsh((A + A.T) / 2).min(initial=0.0))
        else:
            lowest = float(np.min(np.sum(np.asarray(self.U) * self.A_U, axis=0) / np.sum(np.asarray(self.U) ** 2, axis=0)))
        return [f"A has an eigenvalue of {lowest:.1e} or less"] if lowest < -TAGS * self.size else []

    def _null_space(self) -> list[str]:
        faults = []
        for name, z in gauges(self.vectors, self.p).items():
            length = float(jnp.linalg.norm(z))
            moved = float(jnp.linalg.norm(self.vectors.system.A_times(self.p, z[:, None])))
            if not moved <= TAGS * self.size * length:
                faults.append(f"along '{name}' A z is {moved / max(length, 1e-300):.1e} of z")
        return faults

    def _entries(self) -> list[str]:
        condition, d = self.vectors.condition, self.vectors.x.size
        assert condition.pattern is not None
        rows, cols = condition.pattern(*self.vectors.at(self.p))
        assert self.vectors.entries is not None
        values = np.asarray(self.vectors.entries(self.p))
        A = coo_array((values, (np.asarray(rows), np.asarray(cols))), shape=(d, d)).tocsr()
        difference = np.abs(A @ np.asarray(self.U) - self.A_U).max(initial=0.0)
        return [f"they differ from A by {difference:.1e}"] if not difference <= TAGS * self.size * d**0.5 else []

    def _preconditioner(self) -> list[str]:
        assert self.vectors.precondition is not None
        found = np.asarray(self.vectors.precondition(self.p, self.U))
        if not np.isfinite(found).all():
            return ["it is not finite"]
        weights = np.sum(np.asarray(self.U) * found, axis=0)
        return ["it is not positive definite"] if self.vectors.condition.definite and (weights <= 0).any() else []

    def _constants_hold(self) -> list[str]:
        system, certificate, p, faults = self.vectors.system, self.result.certificate, self.p, []
        alpha, gamma, beta = self._constants
        if alpha is not None and float(alpha) > certificate.sigma_min * (1 + TAGS):
            faults.append(f"alpha {float(alpha):.3g} is more than the smallest singular value of A, {certificate.sigma_min:.3g}")
        move = self.U[:, 0] * (NEAR / float(jnp.linalg.norm(self.U[:, 0]))) * (1.0 + float(jnp.linalg.norm(p.x)))
        there, distance = p._replace(x=p.x + move), float(jnp.linalg.norm(move))
        V = jnp.asarray(np.random.default_rng(1).normal(size=(self.vectors.theta.size, PROBES)))
        for name, limit, product, along in (("gamma", gamma, system.A_times, self.U), ("beta", beta, system.B_times, V)):
            if limit is None or not along.size:
                continue
            change = np.linalg.norm(product(there, along) - product(p, along), axis=0) / np.linalg.norm(along, axis=0)
            rounding = TAGS * NEAR * max(self.size, float(np.abs(product(p, along)).max(initial=0.0)))
            if (change > float(limit) * distance * (1 + TAGS) + rounding).any():
                faults.append(f"{name} {float(limit):.3g} is less than {change.max() / distance:.3g}, which is found nearby")
        return faults

    def _margin(self) -> list[str]:
        found = margin(self.vectors, self.p)
        return [] if found >= 0 else [f"the margin is {found}, expected 0 or more"]
