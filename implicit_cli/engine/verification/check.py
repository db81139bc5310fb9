"""One case, judged: is each stored derivative within its stored bound of what a witness finds?

violated      |stored - witness| > bound + SAFETY * (the witness's own error); or A J v + B v is not zero by differences of F; or
              forward and adjoint solves disagree beyond their residuals; or there is a kink and the status does not say so
not decided   the witness's own error is more than FAR times the bound, or there is no bound, or nothing to compare with
holds         else
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from implicit_cli.core.implicit import Point
from implicit_cli.core.linear.base import project_out
from implicit_cli.core.solvers import compiled_residual
from implicit_cli.engine.linearise import degeneracy, linearise, margin
from implicit_cli.engine.methods.finite_difference import LEVELS
from implicit_cli.engine.plan import Plan
from implicit_cli.engine.products import KINDS
from implicit_cli.engine.site import Site
from implicit_cli.engine.solving import Observer, solved_again
from implicit_cli.engine.vectors import Vectors
from implicit_cli.engine.verification.theorem import UNKNOWN, Check, Theorem
from implicit_cli.engine.verification.trials import Trial, Trials
from implicit_cli.engine.verification.witness import Sight, Witness
from implicit_cli.result import Product
from implicit_cli.status import Status
from implicit_cli.verdict import SAFETY, CaseVerdict, Claim, Finding, Verdict, worst

FAR = 10.0
"""A witness whose own error is this many times the bound decides nothing about it."""
RESIDUAL = 10.0
"""By how much max |F| may exceed its tolerance, or what was stored: another machine rounds otherwise."""
STEEP = 0.5
"""A Taylor remainder whose exponent is this much below what it should be is told."""


class Judged(NamedTuple):
    """One trial, judged."""

    trial: Trial
    sight: Sight
    tangent: Check
    dot: Check
    verdict: Verdict
    note: str
    observed: float


def verify_case(
    vectors: Vectors,
    plan: Plan,
    claim: Claim,
    *,
    directions: int,
    full: bool,
    seed: int,
    of: Sequence[str] = (),
    wrt: Sequence[str] = (),
    observer: Observer | None = None,
) -> CaseVerdict:
    """Check what is claimed of a case; `of` and `wrt` leave only products of and with respect to these."""
    begun = time.perf_counter()
    p = vectors.refreshed(Point(vectors.x.join(claim.solution), vectors.start, vectors.data))
    residual = float(compiled_residual(vectors.goal)(p))
    products = [
        one
        for one in claim.products
        if one.value.size and (not of or not one.of or one.of in of) and (not wrt or not one.wrt or one.wrt in wrt)
    ]
    nan = float("nan")
    if not (np.isfinite(residual) and bool(jnp.all(jnp.isfinite(p.x)))):
        note = f"max |F| is {residual:.2g} at the stored solution: nothing can be checked there"
        verdict = Verdict.VIOLATED if claim.good else Verdict.NOT_DECIDED
        seconds = time.perf_counter() - begun
        return CaseVerdict(claim.id, claim.status, verdict, note, residual, plan.tol, nan, claim.radius, seconds, ())
    A = linearise(vectors, plan, p)
    site = Site(vectors, plan, p, A, degeneracy(vectors, p, A))
    trials = Trials(site, directions, full=full, seed=seed)
    asked = [(product, trials.of(product) if product.kind in KINDS else []) for product in products]
    judge = _Judge(site, claim, margin(vectors, p), seed)
    judge.prepare([v for _, many in asked for trial in many for _, v in trial.terms], observer)
    findings = tuple(judge.finding(product, many) for product, many in asked)
    own, note, moved = judge.solution(residual)
    verdict = worst([own, *(finding.verdict for finding in findings)])
    seconds = time.perf_counter() - begun
    return CaseVerdict(claim.id, claim.status, verdict, note, residual, plan.tol, moved, claim.radius, seconds, findings)


class _Judge:
    def __init__(self, site: Site, claim: Claim, margin: float, seed: int) -> None:
        self.site, self.claim, self.margin = site, claim, margin
        self.witness, self.theorem = Witness(site, partial(solved_again, site.vectors, site.plan)), Theorem(site, margin)
        self.rng = np.random.default_rng(seed)

    def prepare(self, V: list[np.ndarray], observer: Observer | None) -> None:
        """Solve along all directions, each once."""
        different = {v.tobytes(): v for v in V}
        if observer is not None and different:
            many = f"{len(different)} direction{'' if len(different) == 1 else 's'}"
            observer.stage(f"verifying: {many}, at most {2 * LEVELS * len(different) + 1} solves")
        for done, v in enumerate(different.values(), 1):
            self.witness.prepare(v)
            if observer is not None:
                observer.chunk(done, len(different))

    # The solution

    def solution(self, residual: float) -> tuple[Verdict, str, float]:
        """Verdict on the solution itself, a note, and how far it moves when it is solved for again."""
        claim, tol = self.claim, self.site.plan.tol
        found = self.witness.moved()
        if found is None:
            return Verdict.NOT_DECIDED, "the problem could not be solved again from the stored solution", float("nan")
        change, noise = found
        change = project_out(np.asarray(self.site.A.spectrum.Z), change[:, None])[:, 0]
        moved = float(np.linalg.norm(change[~self.site.free]))
        if not claim.good:
            return Verdict.HOLDS, "", moved
        if residual > RESIDUAL * max(tol, np.nan_to_num(claim.residual)):
            told = f"max |F| is {residual:.2g} at the stored solution, asked: {tol:.2g}, stored: {claim.residual:.2g}"
            return Verdict.VIOLATED, told, moved
        if moved > claim.radius + SAFETY * noise:
            told = f"the solution moves by {moved:.2g} when it is solved for again, its radius is {claim.radius:.2g}"
            return Verdict.VIOLATED, told, moved
        return Verdict.HOLDS, "", moved

    # Products

    def finding(self, product: Product, trials: list[Trial]) -> Finding:
        """The worst of a product's trials."""
        named = (product.kind, product.name, product.of, product.wrt, product.wrt2)
        left_out = int(np.isnan(product.value).sum())
        if not trials:
            note = "every entry is without a derivative" if product.kind in KINDS else "no witness for products of this kind"
            return Finding(*named, Verdict.NOT_DECIDED, note, 0, left_out)
        judged = [self._judged(trial) for trial in trials]
        order = [Verdict.HOLDS, Verdict.NOT_DECIDED, Verdict.VIOLATED]
        last = max(judged, key=lambda one: (order.index(one.verdict), _excess(one)))
        slope = _extreme(min, [one.sight.slope for one in judged])
        note = last.note
        if last.verdict is not Verdict.VIOLATED and slope < trials[0].order + 1 - STEEP and not note:
            note = f"a Taylor remainder falls like h^{slope:.1f}, not like h^{trials[0].order + 1}"
        return Finding(
            *named,
            last.verdict,
            note,
            len(trials),
            left_out,
            along=last.trial.along,
            observed=last.observed,
            bound=last.trial.bound,
            witness=last.sight.error,
            size=float(np.linalg.norm(last.sight.value)),
            slope=slope,
            order=trials[0].order + 1,
            residual=_extreme(max, [one.tangent.relative for one in judged]),
            dot=_extreme(max, [one.dot.relative for one in judged]),
        )

    def _judged(self, trial: Trial) -> Judged:
        sight = self.witness.look(trial)
        observed = float(np.linalg.norm(trial.value - sight.value)) if sight.solved else float("nan")
        tangent = dot = UNKNOWN
        if trial.order == 1:
            v = trial.terms[0][1]
            tangent = self.theorem.tangent(v)
            dot = self.theorem.dot(v, trial.seen.cotangent(self.site.vectors.x.size + self.site.vectors.y.size, self.rng))
        verdict, note = self._verdict(trial, sight, observed, tangent, dot)
        return Judged(trial, sight, tangent, dot, verdict, note, observed)

    def _verdict(self, trial: Trial, sight: Sight, observed: float, tangent: Check, dot: Check) -> tuple[Verdict, str]:
        claim, allowed = self.claim, trial.bound + SAFETY * sight.error
        if claim.status == Status.NONDIFFERENTIABLE.label:
            seen = f"one-sided derivatives differ by {sight.kink:.2g}" if sight.kink else "none is seen along these directions"
            return Verdict.NOT_DECIDED, f"kink: {seen}"
        if sight.branch:
            return Verdict.NOT_DECIDED, "solutions nearby do not approach this one: they are on another branch"
        if sight.slips and trial.order == 2 and trial.seen.within(self.site.vectors.x.size):
            return Verdict.NOT_DECIDED, "solutions nearby have moved along a gauge, on which second derivatives of unknowns depend"
        near = self.margin <= sight.reach
        if sight.kink > allowed and claim.good and not near:
            return Verdict.VIOLATED, f"kink: one-sided derivatives differ by {sight.kink:.2g}, and the status does not say so"
        if observed > allowed and not near:
            return Verdict.VIOLATED, f"off by {observed:.2g}; the bound and the witness's error allow {allowed:.2g}"
        if claim.method == "implicit" and tangent.wrong and not near:
            told = f"A J v + B v is {tangent.relative:.2g} of B v by differences of F, which allow {_share(tangent):.2g}"
            return Verdict.VIOLATED, f"{told}: JAX has a wrong derivative of F"
        if claim.method == "implicit" and dot.wrong:
            return Verdict.VIOLATED, f"forward and adjoint solves differ by {dot.relative:.2g}, {_share(dot):.2g} is allowed"
        if not sight.solved:
            return Verdict.NOT_DECIDED, "the problem could not be solved again at enough points nearby"
        if np.isnan(trial.bound):
            return Verdict.NOT_DECIDED, "there is no bound"
        if near and observed > allowed:
            return Verdict.NOT_DECIDED, f"a kink is {self.margin:.2g} away, the smallest step {sight.reach:.2g}"
        if sight.error > FAR * trial.bound:
            return Verdict.NOT_DECIDED, "the witness is not sharp enough for this bound, and agrees"
        return Verdict.HOLDS, ""


def _share(check: Check) -> float:
    """What is allowed, relative to what the defect is."""
    return check.relative * check.allowed / check.defect


def _excess(one: Judged) -> float:
    """How near a trial is to a violation."""
    allowed = one.trial.bound + SAFETY * one.sight.error
    ratio = one.observed / allowed if allowed > 0 else one.observed
    return ratio if np.isfinite(ratio) else 0.0


def _extreme(which: Callable[[list[float]], float], values: list[float]) -> float:
    """The least or the greatest of the numbers among values; NaN where there is none."""
    known = [value for value in values if not np.isnan(value)]
    return which(known) if known else float("nan")
