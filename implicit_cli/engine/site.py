"""The point where derivatives are taken: the factor at hand, and which components have no derivative there."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from implicit_cli.core.certificate import Certifier
from implicit_cli.core.degeneracy import Degeneracy
from implicit_cli.core.implicit import Adjoint, Forward, Point, System, adjoint, forward
from implicit_cli.core.linear import LinearSolver
from implicit_cli.core.precision import float32
from implicit_cli.engine.asked import Direction
from implicit_cli.engine.chunks import Memory, Room
from implicit_cli.engine.linearise import Single, margin
from implicit_cli.engine.plan import Plan
from implicit_cli.engine.vectors import Layout, Vectors
from implicit_cli.result import Bound
from implicit_cli.status import Status

FloatArray = NDArray[np.float64]
Mask = NDArray[np.bool_]

NEARBY = 1e-4
"""How far an undetermined component is moved to see which outputs it changes, relative to the size of x."""


@dataclass(frozen=True)
class Site:
    """One solution, linearised; `room` is where large blocks of a Jacobian go, `single` where first derivatives are computed."""

    vectors: Vectors
    plan: Plan
    p: Point
    A: LinearSolver
    degeneracy: Degeneracy
    room: Room = field(default_factory=Memory)
    single: Single | None = None

    def forward(self, V: FloatArray) -> Forward:
        """Directions pushed through the solution; where `single` is given, in float32, with the residual that float64 sees."""
        system, p = self._seen(self.vectors), self.p
        if self.single is None:
            return forward(system, p, self.A, jnp.asarray(V))
        with float32():
            f = forward(self._seen(self.single.vectors), self.single.p, self.single.A, jnp.asarray(V))
        U, Y = _double(f.U), _double(f.Y)
        residual = -system.F_tangent(p, U, jnp.asarray(V))
        return Forward(jnp.asarray(V), U, Y, f.solved._replace(value=U, rhs=-system.B_times(p, jnp.asarray(V)), residual=residual))

    @staticmethod
    def _seen(vectors: Vectors) -> System:
        """The system with its outputs, if one of them is asked for."""
        return vectors.system if any(of in vectors.y.slices for of in vectors.bound.of) else vectors.system.bare

    def adjoint(self, W_x: FloatArray, W_y: FloatArray) -> Adjoint:
        """Cotangents pulled back, likewise."""
        system, p = self.vectors.system, self.p
        if self.single is None:
            return adjoint(system, p, self.A, jnp.asarray(W_x), jnp.asarray(W_y))
        with float32():
            a = adjoint(self.single.vectors.system, self.single.p, self.single.A, jnp.asarray(W_x), jnp.asarray(W_y))
        U = _double(a.U)
        rhs = jnp.asarray(W_x) + system.g_cotangent(p, jnp.asarray(W_y))[0]
        residual = rhs - system.At_times(p, U)
        return Adjoint(jnp.asarray(W_x), jnp.asarray(W_y), U, _double(a.L), a.solved._replace(value=U, rhs=rhs, residual=residual))

    @cached_property
    def free(self) -> Mask:
        """Unknown components (d,) without a derivative."""
        return np.broadcast_to(self.degeneracy.mask, (self.vectors.x.size,))

    @cached_property
    def free_outputs(self) -> Mask:
        """Output components (m,) that change when undetermined components move: a random move finds them with probability one.

        They are looked at here and, for what has no slope here by chance, a little way along the move; no further than a kink is.
        """
        vectors, free, x = self.vectors, self.free, self.p.x
        m = vectors.y.size
        if not free.any() or m == 0:
            return np.zeros(m, dtype=bool)
        moves, everything = (jax.random.normal(jax.random.key(i), (x.size, 2)) for i in range(2))
        moves, still = moves * jnp.asarray(free)[:, None], jnp.zeros((vectors.theta.size, 2))
        rms, reach = float(jnp.linalg.norm(x)) / x.size**0.5, jnp.max(jnp.abs(moves))
        way = min(NEARBY * (rms or 1.0), margin(vectors, self.p) / 2) / reach

        def largest(p: Point, tangents: jax.Array) -> jax.Array:
            return jnp.max(jnp.abs(vectors.system.g_tangent(p, tangents, still)), axis=1)

        places = self.p, self.p._replace(x=x + way * moves[:, 0])
        seen, scale = (jnp.fmax(*(largest(p, tangents) for p in places)) for tangents in (moves, everything))
        return np.asarray(seen > 1e-9 * jnp.maximum(scale, jnp.finfo(float).tiny))

    def parts_of(self, of: str) -> tuple[Layout, slice, Mask]:
        """Layout and rows of an unknown or output, and which of the rows have no derivative."""
        unknown = of in self.vectors.x.slices
        layout, free = (self.vectors.x, self.free) if unknown else (self.vectors.y, self.free_outputs)
        return layout, layout.slices[of], free[layout.slices[of]]

    def weighs_free(self, direction: Direction) -> str | None:
        """Whether a cotangent weighs undetermined components, directly ("unknown") or through an output ("output")."""
        if (columns(self.vectors.y, direction)[self.free_outputs] != 0).any():
            return "output"
        return "unknown" if (columns(self.vectors.x, direction)[self.free] != 0).any() else None

    def status(self, solves: NDArray[np.int8], free: Mask) -> Status:
        """Of a product, from its linear solves and its components without a derivative."""
        if self.degeneracy.fatal:
            return Status.SINGULAR
        if (solves != Status.OK).any():
            return Status.LINEAR_SOLVE_FAILED
        if not self.degeneracy.solvable:
            return Status.SINGULAR
        return Status.PARTIAL if free.any() else Status.OK

    def bound(self, parts: Iterable[FloatArray], kind: str, certifier: Certifier) -> Bound:
        """Sum of truncation, linear and rounding part; NaN where there is no certificate, or no derivative at all."""
        truncation, linear, rounding = (np.array(part, dtype=float) for part in parts)
        if not certifier.available:
            truncation = np.full_like(truncation, np.nan)
        bound = Bound(truncation + linear + rounding, truncation, linear, rounding, kind)
        return no_bound(bound) if self.degeneracy.fatal else bound


def estimate(truncation: FloatArray, rounding: FloatArray) -> Bound:
    """An estimate without a linear part."""
    return Bound(truncation + rounding, truncation, np.zeros_like(truncation), rounding, "estimate")


def _double(a: jax.Array) -> jax.Array:
    return jnp.asarray(np.asarray(a), dtype=np.float64)


def no_bound(bound: Bound) -> Bound:
    """The bound of what has no derivative, or no certificate: NaN throughout."""
    nothing = np.full_like(bound.total, np.nan)
    return Bound(nothing, nothing, nothing, nothing, bound.kind)


def columns(layout: Layout, direction: Direction) -> FloatArray:
    """The vectors (size, k) of a direction's parts in a layout; what is missing is zero."""
    k = direction.count or 1
    matrix = np.zeros((layout.size, k))
    for name, where in layout.slices.items():
        if name in direction.parts:
            matrix[where] = np.asarray(direction.parts[name], dtype=float).reshape(k, -1).T
    return matrix
