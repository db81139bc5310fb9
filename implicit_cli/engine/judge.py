"""The verdict on a case: the worst that is true of it, with the figures behind it."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

import numpy as np

from implicit_cli.core.certificate import Certifier
from implicit_cli.core.degeneracy import Degeneracy
from implicit_cli.core.linear import LinearSolver
from implicit_cli.core.solvers import Solution
from implicit_cli.engine.accuracy import Known
from implicit_cli.engine.kinks import Kink
from implicit_cli.engine.plan import Plan
from implicit_cli.engine.products import Products
from implicit_cli.engine.vectors import Vectors
from implicit_cli.result import Product
from implicit_cli.status import Status

STORED = "stored"
"""Name of the solver where the solution was there before."""
RUNAWAY = 1e3
"""A residual that has grown by this factor is said to have run away."""
DOUBTFUL = (Status.NOT_CONVERGED, Status.NOT_FINITE, Status.NO_CERTIFICATE, Status.NOT_A_MINIMUM)
"""Statuses of a case that are those of its products, too."""
LOST = 1e-3
"""Rounding beyond this part of a derivative leaves fewer than three digits of it."""


class Differentiated(Protocol):
    """What is judged: the products at a point, with what is known of A and of their errors."""

    @property
    def A(self) -> LinearSolver: ...
    @property
    def degeneracy(self) -> Degeneracy: ...
    @property
    def products(self) -> Products: ...
    @property
    def certifier(self) -> Certifier: ...
    @property
    def kink(self) -> Kink: ...
    @property
    def reached(self) -> Known: ...


def judge(vectors: Vectors, plan: Plan, solution: Solution, residual: float, done: Differentiated) -> tuple[Status, str]:
    """The worst that is true of the case, with the figures behind it, and what to do."""
    certificate, degeneracy, products = done.certifier.certificate, done.degeneracy, done.products
    if solution.status is Status.NOT_CONVERGED:
        how = "at the stored solution" if solution.name == STORED else f"after {solution.steps} steps of {solution.name}"
        found = f"max |F| is {residual:.2e} {how}, asked: {plan.tol:.2e}"
        if solution.history.size and solution.history[-1] > RUNAWAY * solution.history[0]:
            found += f" (it was {solution.history[0]:.2e} at first: the problem may have no solution)"
        if plan.rough:
            found += " (float32 may not reach it: loosen solver.tol, or set refine: true)"
        return verdict(Status.NOT_CONVERGED, found)
    if broken := _not_finite(vectors, done):
        return verdict(Status.NOT_FINITE, broken)
    kink = done.kink
    if kink.declared:
        return verdict(Status.NONDIFFERENTIABLE, f"a kink is {certificate.margin:.1e} away, x is known to {kink.reach:.1e}")
    undetermined = _describe_undetermined(vectors, degeneracy)
    if degeneracy.fatal and degeneracy.undetermined:
        return verdict(Status.SINGULAR, f"no component has a derivative ({undetermined})")
    if degeneracy.fatal or not degeneracy.solvable:
        return verdict(Status.SINGULAR, f"dF/dtheta leaves the range of dF/dx ({undetermined or 'along a gauge'})")
    if kink.found:
        return verdict(
            Status.NONDIFFERENTIABLE, f"the derivatives of F jump within {kink.reach:.1e} of x, at a kink that no margin declares"
        )
    failed = [direction for direction, solved in products.solves.items() if (solved.status != Status.OK).any()]
    if failed:
        worst = max(float(np.max(products.solves[direction].relative)) for direction in failed)
        return verdict(
            Status.LINEAR_SOLVE_FAILED,
            f"{done.A.method}, {' and '.join(failed)}: relative residual {worst:.1e}, asked {plan.linear.tol:.1e}",
        )
    if vectors.condition.kind == "stationary" and done.A.spectrum.negative:
        count, at_least = done.A.spectrum.negative, "" if done.A.spectrum.computed else "at least "
        return verdict(Status.NOT_A_MINIMUM, f"dF/dx has {at_least}{count} negative eigenvalue{'s' if count > 1 else ''}")
    if not done.certifier.available:
        if kink.edge:
            return verdict(Status.NO_CERTIFICATE, "F is not finite next to the solution, which is on the edge of its domain")
        if not done.A.spectrum.sigma_min > 0:
            return verdict(Status.NO_CERTIFICATE, f"{done.A.method} does not find the smallest singular value of dF/dx")
        return verdict(Status.NO_CERTIFICATE, f"h = {certificate.h:.2g}, the residual is {residual:.1e}")
    if kink.outputs.any():
        names = [name for name, mask in vectors.y.split(kink.outputs).items() if mask.any()]
        return verdict(Status.NONDIFFERENTIABLE, f"{' and '.join(names)}: derivatives jump within {kink.reach:.1e} of x")
    reached = done.reached
    if reached.rounding > LOST:
        digits = -np.log10(np.finfo(float).eps)
        return verdict(
            Status.PRECISION_LOST,
            f"kappa = {certificate.kappa:.1e} leaves {max(-np.log10(reached.rounding), 0.0):.1f} of {digits:.1f} digits",
        )
    if reached.relative > plan.accuracy:
        return verdict(
            Status.ACCURACY_NOT_MET,
            f"{reached.what} is known to {reached.relative:.1e} relative, asked {plan.accuracy:.1e}; "
            f"the {reached.part} part stands in the way",
        )
    digits = _digits(reached.relative) if plan.rough else ""
    if undetermined:
        return verdict(Status.PARTIAL, "; ".join(filter(None, (undetermined, digits))))
    return Status.OK, digits


def _digits(relative: float) -> str:
    """What float32 has cost: the decimal digits that it carries, less those that every derivative is known to."""
    carried = -np.log10(np.finfo(np.float32).eps)
    kept = float(np.clip(-np.log10(max(relative, np.finfo(float).tiny)), 0.0, carried))
    return f"float32 carries {carried:.1f} digits, {carried - kept:.1f} are lost: every derivative keeps {kept:.1f}"


def flagged(products: tuple[Product, ...], status: Status) -> tuple[Product, ...]:
    """The products, with the status of their case where that puts every number of it in doubt."""
    if status not in DOUBTFUL:
        return products
    return tuple(replace(product, status=status) if product.status.good else product for product in products)


def verdict(status: Status, found: str) -> tuple[Status, str]:
    """A status with what was found, and its own text, which says cause and cure."""
    return status, f"{found}: {status.text}"


def _not_finite(vectors: Vectors, done: Differentiated) -> str:
    """Which derivative of F has NaN or infinity at the solution; empty where none has."""
    p, system = done.certifier.p, vectors.system
    U, V = np.ones((p.x.size, 1)), np.ones((p.theta.size, 1))
    for name, found in (("dF/dx", system.A_times(p, U)), ("dF/dtheta", system.B_times(p, V))):
        if not np.isfinite(np.asarray(found)).all():
            return f"{name} is not finite at the solution"
    return ""


def _describe_undetermined(vectors: Vectors, degeneracy: Degeneracy) -> str:
    """`3 rattlers: position[17], position[42], position[81]`: entries along the first axis, a few of them."""
    texts = []
    for reason, mask in degeneracy.undetermined.items():
        names: list[str] = []
        for unknown, part in vectors.x.split(mask).items():
            if not part.size:
                continue
            rows = np.atleast_1d(part).reshape(len(np.atleast_1d(part)), -1).any(axis=1)
            names += [f"{unknown}[{row}]" if part.ndim else unknown for row in np.flatnonzero(rows)]
        shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
        shown = f"all of {', '.join(vectors.x.names)}" if mask.all() else shown
        texts.append(f"{len(names)} {reason}{'s' if len(names) > 1 else ''}: {shown}")
    return "; ".join(texts)
