"""The theorem with A and B from complex numbers: `A e_j = Im F(x + i h e_j) / h`, exact to rounding for an analytic F.

With h = 1e-30 there is neither truncation nor cancellation (Squire and Trapp, SIAM Review 40, 110, 1998). Nothing is shared with
JAX's derivatives of F, but for the gradient in a `stationary` condition, which is itself taken at complex numbers. A is assembled
and solved by LU; its null space is that of the linearised problem. What F may not contain is `abs`, `real`, `conj`, norms and the
like: they are not analytic, and a comparison with differences of F finds them.

Error parts: truncation from the same derivative at the end of the Newton step, linear from the recomputed residual, rounding from
kappa, all as in `implicit_cli.core.certificate`.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import lu_factor, lu_solve

from implicit_cli.core.certificate import Certifier
from implicit_cli.core.implicit import Point
from implicit_cli.engine.methods.base import Columns, FloatArray
from implicit_cli.engine.passes import Solves
from implicit_cli.engine.site import Site
from implicit_cli.engine.vectors import Vectors
from implicit_cli.status import Status

KINDS = ("stationary", "root", "fixed_point")
"""Conditions whose F can be evaluated at complex numbers."""
LARGEST = 4096
"""Unknowns up to which A is assembled."""
STEP = 1e-30
WIDTH = 64
"""Columns that are evaluated at once."""
AGREEMENT = 1e-4
"""Relative difference to central differences of F below which F is taken for analytic."""
ROUNDING = 8.0
"""Roundings of a product of A or B."""
LIMIT = 1e-8
"""Largest relative residual of the dense solve."""


class ComplexMaps:
    """F and g at complex vectors, and their directional derivatives `Im f(x + i h u, theta + i h v) / h`."""

    def __init__(self, vectors: Vectors) -> None:
        self.vectors = vectors
        condition = vectors.condition
        f = condition.objective
        self._F = jax.grad(f, holomorphic=True) if condition.kind == "stationary" and f is not None else condition.F
        self.F_along, self.g_along = self._along(self.F), self._along(self.g)

    def F(self, x: Any, theta: Any, data: Any) -> Any:
        return _joined(self._F(*self.vectors.arguments(Point(x, theta, data)))._asdict(), self.vectors.x.names)

    def g(self, x: Any, theta: Any, data: Any) -> Any:
        if not self.vectors.outputs:
            return jnp.zeros(0, complex)
        return _joined(self.vectors.problem.outputs(*self.vectors.arguments(Point(x, theta, data))), self.vectors.y.names)

    @staticmethod
    def _along(f: Any) -> Any:
        def one(p: Point, u: jax.Array, v: jax.Array) -> jax.Array:
            return jnp.imag(f(p.x + 1j * STEP * u, p.theta + 1j * STEP * v, p.data)) / STEP

        columns = jax.vmap(one, in_axes=(None, 1, 1), out_axes=1)
        return jax.jit(columns)

    def fault(self, p: Point) -> str:
        """Why F or g cannot be differentiated so at p; empty where it can."""
        for name, complex_f, f in (("F", self.F, self.vectors.system.F), ("outputs", self.g, self.vectors.system.g)):
            try:
                jax.eval_shape(complex_f, p.x + 0j, p.theta + 0j, p.data)
            except Exception as error:
                first = (str(error).strip().splitlines() or [""])[0]
                return f"{name} cannot be evaluated at complex numbers ({type(error).__name__}: {first[:160]})"
            along = self.F_along if name == "F" else self.g_along
            for seed in range(2):
                keys = jax.random.split(jax.random.key(seed))
                u = jax.random.normal(keys[0], (p.x.size,)) * (1 + jnp.abs(p.x))
                v = jax.random.normal(keys[1], (p.theta.size,)) * jnp.where(p.theta != 0, jnp.abs(p.theta), 1.0)
                exact = np.asarray(along(p, u[:, None], v[:, None])[:, 0])
                if np.isfinite(exact).all() and _agrees(exact, f, p, u, v):
                    continue
                return f"{name} is not analytic here: its complex step and a difference of it disagree (abs, real, conj, a norm?)"
        return ""


class ComplexStep:
    """`A J = -B` with A and B by complex steps."""

    name = "complex_step"

    def __init__(self, site: Site) -> None:
        self.site = site
        self.maps = ComplexMaps(site.vectors)
        self.solves: dict[str, Solves] = {}
        self.note = ""
        fault = self.maps.fault(site.p)
        self._status = Status.NONDIFFERENTIABLE if fault else Status.OK
        if fault:
            self.note = f"complex_step: at the solution {fault}; use sensitivity.method: implicit"

    def columns(self, V: FloatArray) -> Columns:
        d, m, k = self.site.vectors.x.size, self.site.vectors.y.size, V.shape[1]
        if self._status is not Status.OK:
            nothing = np.full((d + m, k), np.nan)
            return Columns(nothing, nothing, nothing, nothing, np.full(k, int(self._status), np.int8))
        value, error, relative = self._at(self.site.p, V)
        status = np.where(relative <= LIMIT, int(Status.OK), int(Status.LINEAR_SOLVE_FAILED)).astype(np.int8)
        self.solves["forward"] = Solves("lu", status, relative, np.ones(k, np.int64))
        return Columns(value, np.full_like(value, np.nan), np.abs(error), np.full_like(value, np.nan), status)

    def rows(self, W: FloatArray) -> FloatArray | None:
        return None

    def seconds(self, V: FloatArray) -> Columns:
        raise NotImplementedError("refused at planning time")

    def certify(self, V: FloatArray, found: Columns, certifier: Certifier) -> Columns:
        if self._status is not Status.OK or not certifier.available:
            return found
        p, d = self.site.p, self.site.vectors.x.size
        moved, _, _ = self._at(certifier.there, V)
        truncation = (1.0 + certifier.inflation) * np.abs(moved - found.value)
        noise = ROUNDING * float(jnp.finfo(p.x.dtype).eps)
        noise_x = noise * certifier.certificate.kappa * np.linalg.norm(found.value[:d], axis=0)
        rounding = np.zeros_like(found.value)
        rounding[:d] = noise_x / max(d, 1) ** 0.5
        rounding[d:] = np.outer(certifier.reach_y, noise_x) + noise * np.abs(found.value[d:])
        return found._replace(truncation=truncation, rounding=rounding)

    def _at(self, p: Point, V: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Derivatives of (x, y) at p, the error that the linear solve left in them, and its relative residual."""
        spectrum, still = self.site.A.spectrum, np.zeros_like(V)
        Z, Y = np.asarray(spectrum.Z), np.asarray(spectrum.Y)
        d, n = p.x.size, p.theta.size
        A = self._chunked(self.maps.F_along, p, np.eye(d), np.zeros((n, d)))
        factor = lu_factor(A + (spectrum.sigma_max or 1.0) * (Y @ Z.T))

        def solve(b: FloatArray) -> FloatArray:
            u = np.asarray(lu_solve(factor, jnp.asarray(b)))
            return u - Z @ (Z.T @ u)

        b = -self._chunked(self.maps.F_along, p, np.zeros((d, V.shape[1])), V)
        b = b - Y @ (Y.T @ b)
        U = solve(b)
        U = U + solve(self._left(p, b, U, still, Y))
        left = self._left(p, b, U, still, Y)
        E = solve(left)
        size = np.linalg.norm(b, axis=0) + spectrum.sigma_max * np.linalg.norm(U, axis=0)
        relative = np.divide(np.linalg.norm(left, axis=0), size, out=np.zeros(V.shape[1]), where=size > 0)
        value = np.concatenate([U, self._chunked(self.maps.g_along, p, U, V)])
        return value, np.concatenate([E, self._chunked(self.maps.g_along, p, E, still)]), relative

    def _left(self, p: Point, b: FloatArray, U: FloatArray, still: FloatArray, Y: FloatArray) -> FloatArray:
        r = b - self._chunked(self.maps.F_along, p, U, still)
        return r - Y @ (Y.T @ r)

    @staticmethod
    def _chunked(along: Any, p: Point, U: FloatArray, V: FloatArray) -> FloatArray:
        """`along` on a few columns at a time, padded to one width so that it compiles once."""
        k = U.shape[1]
        width = min(WIDTH, max(k, 1))
        parts = []
        for begin in range(0, k, width):
            u, v = (np.pad(M[:, begin : begin + width], ((0, 0), (0, max(begin + width - k, 0)))) for M in (U, V))
            parts.append(np.asarray(along(p, jnp.asarray(u), jnp.asarray(v))))
        return np.concatenate(parts, axis=1)[:, :k] if parts else np.zeros((0, 0))


def _agrees(exact: FloatArray, f: Any, p: Point, u: jax.Array, v: jax.Array) -> bool:
    """Some step of a short ladder of central differences agrees with the complex step."""
    size = max(float(np.linalg.norm(exact)), float(np.linalg.norm(np.asarray(f(p.x, p.theta, p.data)))), 1e-300)
    for h in (1e-4, 1e-5, 1e-6):
        ends = [np.asarray(f(p.x + s * h * u, p.theta + s * h * v, p.data)) for s in (1.0, -1.0)]
        if float(np.linalg.norm((ends[0] - ends[1]) / (2 * h) - exact)) <= AGREEMENT * size:
            return True
    return False


def _joined(arrays: Any, names: tuple[str, ...]) -> jax.Array:
    parts = [jnp.ravel(jnp.asarray(arrays[name])).astype(complex) for name in names]
    return jnp.concatenate(parts) if parts else jnp.zeros(0, complex)
