"""The theorem's own numbers held against F: what A J v + B v leaves by differences of F, and forward against adjoint solves.

    tangent    [F(x + h u, theta + h v) - F(x - h u, theta - h v)] / 2h  ->  A u + B v    for u = J v from a forward solve, h to 0
    dot test   w'(J v) from a forward solve, (J'w)'v from an adjoint one

F is evaluated and not differentiated in the first, so that a derivative which JAX was told wrongly (a custom rule, a stopped
gradient) leaves a residual. In the second, with the residuals r of A u = -B v and s of A' lam = w, both in exact arithmetic,

    w'u + lam'B v = lam'r - s'u

so that |lam| |r| + |s| |u| and rounding are all by which the two may differ.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from implicit_cli.core.implicit import Forward, adjoint, forward
from implicit_cli.core.linear.base import project_out
from implicit_cli.engine.methods.finite_difference import (
    AMPLIFIED,
    FACTOR,
    LARGEST,
    LEVELS,
    SAFETY,
    relative_size,
    richardson,
)
from implicit_cli.engine.site import FloatArray, Site

TERMS = 16.0
"""Roundings of F, in units of eps |A| |x|, and of a dot product, in units of eps times the size of its vectors."""
FLOOR = 1e-7
"""A residual below this fraction of |B v| is never called wrong."""


class Check(NamedTuple):
    """A defect, how large it may be, and the same relative to the size of what it is a defect of."""

    defect: float
    allowed: float
    relative: float

    @property
    def wrong(self) -> bool:
        """False where there is no number."""
        return self.defect > self.allowed


UNKNOWN = Check(float("nan"), float("nan"), float("nan"))


class Theorem:
    """Forward and adjoint solves at the site, kept; `margin` is the distance to the nearest kink that is known of."""

    def __init__(self, site: Site, margin: float) -> None:
        self.site, self.margin = site, margin
        self._eps = float(jnp.finfo(site.p.x.dtype).eps)
        self._forward: dict[bytes, Forward] = {}
        self._tangent: dict[bytes, Check] = {}

    def tangent(self, v: FloatArray) -> Check:
        """|A u + B v| for the theorem's u = J v, by differences of F; relative to |B v|."""
        key = v.tobytes()
        if key not in self._tangent:
            self._tangent[key] = self._residual(v)
        return self._tangent[key]

    def dot(self, v: FloatArray, w: FloatArray) -> Check:
        """|w'(J v) - (J'w)'v| for a direction v (n,) and a cotangent w (d + m,); relative to |w| |J v|."""
        site, d = self.site, self.site.vectors.x.size
        f = self._solved(v)
        a = adjoint(site.vectors.system, site.p, site.A, jnp.asarray(w[:d, None]), jnp.asarray(w[d:, None]))
        u, y, lam, L = (np.asarray(part)[:, 0] for part in (f.U, f.Y, a.U, a.L))
        r, s, b, c = (np.asarray(part)[:, 0] for part in (f.solved.residual, a.solved.residual, f.solved.rhs, a.solved.rhs))
        size = _norm(w) * float(np.hypot(_norm(u), _norm(y)))
        defect = abs(float(w[:d] @ u + w[d:] @ y - L @ v))
        through = _norm(lam) * (_norm(b) + site.A.spectrum.sigma_max * _norm(u)) + _norm(c) * _norm(u)
        allowed = 2 * (_norm(lam) * _norm(r) + _norm(s) * _norm(u)) + TERMS * self._eps * (size + through + _norm(L) * _norm(v))
        return Check(defect, allowed, defect / size if size > 0 else 0.0)

    def _solved(self, v: FloatArray) -> Forward:
        key = v.tobytes()
        if key not in self._forward:
            site = self.site
            self._forward[key] = forward(site.vectors.system, site.p, site.A, jnp.asarray(v[:, None]))
        return self._forward[key]

    def _residual(self, v: FloatArray) -> Check:
        site, f = self.site, self._solved(v)
        x, theta, u = np.asarray(site.p.x), np.asarray(site.p.theta), np.asarray(f.U)[:, 0]
        if not np.isfinite(u).all():
            return UNKNOWN
        of_v, of_u = relative_size(site.vectors.theta, v, theta), relative_size(site.vectors.x, u, x)
        fastest = max(of_v, of_u, 1e-300)
        largest = min(LARGEST / fastest, 0.5 * self.margin / max(_norm(u), 1e-300))
        if not largest > 0:
            return UNKNOWN
        h: FloatArray = largest / FACTOR ** np.arange(LEVELS, dtype=np.float64)
        still = np.zeros_like(u)
        rounding: FloatArray = TERMS * self._eps * site.A.spectrum.sigma_max * _norm(x) / h
        found, error = self._differences(h, u, v, rounding)
        size, _ = self._differences(h, still, v, rounding)
        allowed = 2 * error + 2 * _norm(np.asarray(f.solved.residual)) + FLOOR * size + site.A.ridge * _norm(u)
        return Check(found, allowed, found / size if size > 0 else 0.0)

    def _differences(self, h: FloatArray, u: FloatArray, v: FloatArray, rounding: FloatArray) -> tuple[float, float]:
        """|A u + B v| outside of the left null space, and its error."""
        p, F = self.site.p, self.site.vectors.system.F
        D = []
        for step in h:
            ends = [F(p.x + s * jnp.asarray(u), p.theta + s * jnp.asarray(v), p.data) for s in (step, -step)]
            D.append(project_out(self.site.A.spectrum.Y, ((ends[0] - ends[1]) / (2 * step))[:, None])[:, 0])
        noise = dict(zip(h.tolist(), rounding.tolist(), strict=True))
        with np.errstate(all="ignore"):
            table = [
                (_norm(value), SAFETY * _norm(error) + AMPLIFIED * noise[at]) for value, error, at in richardson(h, np.asarray(D))
            ]
        finite = [entry for entry in table if np.isfinite(entry).all()]
        return min(finite, key=lambda entry: entry[1]) if finite else (float("nan"), float("nan"))


def _norm(v: FloatArray) -> float:
    return float(np.linalg.norm(v))
