"""F(x, lambda) along one number lambda, and at a point of it the bordered matrix, factorised.

With A = dF/dx, b = dF/dlambda, a direction c across which the branch goes, and gauges N (d, g), symmetries along which F does not
change,

    M = [ A     b    N ]
        [ c_x'  c_l  0 ]
        [ N'    0    0 ]

is regular on the whole branch where c' t is not zero, t being its tangent: at a fold, too, where A is singular and b outside of its
range (Keller 1977). Unknowns are scaled, z = (x / X, lambda / L).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lu_factor, lu_solve
from scipy.sparse import block_array, csc_array, csr_array, diags_array
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import splu

from implicit_cli.core.implicit import Point
from implicit_cli.core.linear import assembly
from implicit_cli.core.linear.policy import DENSE_SMALL
from implicit_cli.core.solvers import compiled_residual
from implicit_cli.core.transforms import TRANSFORMS
from implicit_cli.engine.linearise import gauges, operator_at
from implicit_cli.engine.vectors import Vectors

FloatArray = NDArray[np.float64]
STIFFNESS = 1e-8
"""Stiffness, relative to A, that keeps what the problem calls loose from going astray."""
ANNULLED = 1e-6
"""A gauge counts where A makes no more of it than this, relative to A."""
MISSED = 1e-6
"""Relative residual beyond which M counts as singular."""


class Lost(ArithmeticError):
    """A step did not lead back to the branch: a shorter one may."""


class Line:
    """lambda: the number that some entries of a parameter are, as it is differentiated."""

    def __init__(self, vectors: Vectors, name: str, index: tuple[int, ...]) -> None:
        self.name, self.transform = name, TRANSFORMS[vectors.bound.variables[name].transform]
        self._chosen = np.zeros(vectors.bound.shapes[name], dtype=bool)
        self._chosen[index] = True
        where = vectors.theta.slices.get(name)
        self._entries = None if where is None else where.start + np.flatnonzero(self._chosen)

    def at(self, p: Point, value: Any) -> Point:
        """p at another lambda."""
        if self._entries is not None:
            return p._replace(theta=p.theta.at[self._entries].set(value))
        data, still = p.data  # nobody asks for derivatives with respect to it
        moved = jnp.where(self._chosen, self.transform.to_theta(jnp.asarray(value)), still[self.name])
        return p._replace(data=(data, {**still, self.name: moved}))


class Curve:
    """F as a function of scaled z = (x, lambda), with what the problem derives from x found anew where it has to be."""

    def __init__(self, vectors: Vectors, line: Line) -> None:
        self.vectors, self.line = vectors, line
        self._p = Point(jnp.zeros(vectors.x.size), vectors.start, vectors.data)
        self._gauges: tuple[str, ...] | None = None
        stale = vectors.goal.stale
        self._stale = None if stale is None else jax.jit(stale)

        def slope(p: Point, value: jax.Array) -> jax.Array:
            def F(value: jax.Array) -> jax.Array:
                q = line.at(p, value)
                return vectors.system.F(q.x, q.theta, q.data)

            return jax.jvp(F, (value,), (jnp.ones_like(value),))[1]

        self._slope = jax.jit(slope)

    def bordered(self, z: FloatArray, across: FloatArray, scale: FloatArray) -> Bordered:
        """M at z. Raises Lost where F, or a derivative of it, is not finite there, or M is singular."""
        if not np.isfinite(z).all():
            raise Lost
        q = self._at(z, scale)
        operator = operator_at(self.vectors, q)
        sparse = operator.pattern is not None and operator.d > DENSE_SMALL
        A = assembly.sparse(operator) if sparse else np.asarray(assembly.dense(operator))
        b = np.asarray(self._slope(q, jnp.asarray(z[-1] * scale[1])))
        F, size = self.vectors.system.F(q.x, q.theta, q.data), float(compiled_residual(self.vectors.goal)(q))
        if not (np.isfinite(size) and np.isfinite(abs(A).max()) and np.isfinite(b).all()):
            raise Lost
        N = self._null(q, A)
        if operator.loose is not None and operator.loose.any():
            held = STIFFNESS * abs(A).max() * operator.loose
            A = A + (diags_array(held) if sparse else np.diag(held))
        return Bordered(A, b, N, np.asarray(F), size, across, scale)

    def _at(self, z: FloatArray, scale: FloatArray) -> Point:
        """The point of a scaled z, with what the problem derives from x."""
        q = self.line.at(self._p._replace(x=jnp.asarray(z[:-1] * scale[0])), jnp.asarray(z[-1] * scale[1]))
        if self._gauges is None or (self._stale is not None and bool(self._stale(q.x, q.theta, q.data))):
            q = self.vectors.refreshed(q)
            self._p = self._p._replace(data=q.data)
        return q

    def _null(self, q: Point, A: Any) -> FloatArray:
        """Orthonormal gauges (d, g), of those that A annuls where the branch begins or goes on."""
        found = {name: np.asarray(g) for name, g in gauges(self.vectors, q).items()}
        if self._gauges is None:
            least = ANNULLED * abs(A).max()
            self._gauges = tuple(name for name, g in found.items() if np.linalg.norm(A @ g) <= least * np.linalg.norm(g))
        if not self._gauges:
            return np.zeros((q.x.size, 0))
        return np.linalg.qr(np.stack([found[name] for name in self._gauges], axis=1))[0]


class Bordered:
    """M at a point, factorised, dense or sparse as A is; `size` is the residual there, `sign` that of the determinant.

    The rows of F are divided by the largest entry of A and b.
    """

    def __init__(
        self, A: Any, b: FloatArray, N: FloatArray, F: FloatArray, size: float, across: FloatArray, scale: FloatArray
    ) -> None:
        self.size, self._d, self._g = size, b.size, N.shape[1]
        X, L = scale
        unit = max(float(abs(A).max()) * X, float(np.abs(b).max(initial=0.0)) * L) or 1.0
        self._F = F / unit
        A, column = A * (X / unit), (b * L / unit)[:, None]
        self._M: Any
        self._solve: Callable[[FloatArray], FloatArray]
        if isinstance(A, np.ndarray):
            corner = np.concatenate([column, N], axis=1)
            M = np.zeros((self._d + 1 + self._g,) * 2)
            M[: self._d, : self._d], M[: self._d, self._d :] = A, corner
            M[self._d, : self._d + 1], M[self._d + 1 :, : self._d] = across, N.T
            with np.errstate(all="ignore"):
                factors = lu_factor(M, check_finite=False)
            self._M, self._solve = M, lambda r: lu_solve(factors, r, check_finite=False)
            self.sign = _sign(np.diagonal(factors[0])) * (-1) ** int((factors[1] != np.arange(len(M))).sum())
            return
        rows: list[list[Any]] = [[A, csc_array(column)], [csc_array(across[None, :-1]), csc_array([[across[-1]]])]]
        if self._g:
            rows = [[*rows[0], csc_array(N)], [*rows[1], None], [csc_array(N.T), None, None]]
        self._M = csc_array(block_array(rows))
        try:
            factor = splu(self._M)
        except RuntimeError:  # exactly singular
            raise Lost from None
        self._solve = factor.solve
        self.sign = _sign(factor.U.diagonal()) * _parity(factor.perm_r) * _parity(factor.perm_c)

    def newton(self, forward: float) -> FloatArray:
        """The step to F = 0, so far along the direction across which it goes."""
        return self._solved(np.concatenate([-self._F, [forward], np.zeros(self._g)]))

    def tangent(self) -> FloatArray:
        """The tangent, of length 1, along that direction."""
        t = self.kernel()
        return np.asarray(t / np.linalg.norm(t))

    def kernel(self) -> FloatArray:
        """The tangent whose product with that direction is 1."""
        return self._solved(np.concatenate([np.zeros(self._d), [1.0], np.zeros(self._g)]))

    def _solved(self, r: FloatArray) -> FloatArray:
        with np.errstate(all="ignore"):
            u = self._solve(r)
            u = u + self._solve(r - self._M @ u)
            missed = np.linalg.norm(r - self._M @ u)
        if not missed <= MISSED * np.linalg.norm(r):  # NaN too
            raise Lost
        return np.asarray(u[: self._d + 1])


def _sign(values: FloatArray) -> int:
    return -1 if int((values < 0).sum()) % 2 else 1


def _parity(order: NDArray[Any]) -> int:
    """1 for an even permutation, -1 for an odd one: each cycle of length l is l - 1 swaps."""
    cycles, _ = connected_components(csr_array((np.ones(order.size), (np.arange(order.size), order))), directed=False)
    return -1 if (order.size - int(cycles)) % 2 else 1
