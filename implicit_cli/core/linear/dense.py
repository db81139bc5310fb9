"""Dense factorisations: A is assembled once, and one factor serves every right-hand side, the transpose and the certificate.

    cholesky   A = L L'      symmetric, positive definite outside the null space
    lu         P A = L U     any A
    qr         A = Q R       any A
    svd        A = U S V'    any A; always decomposes, so that every null vector is found

`auto` is Cholesky where A is symmetric and lets itself be factorised so, else LU. Known null directions are completed. The factor
tells whether A is close to singular (a failed Cholesky, or inverse iteration with the factor); only then is the null space
searched for by a symmetric eigendecomposition or an SVD, O(10 d^3) and more, and completed in turn.
"""

from __future__ import annotations

from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import cho_solve, lu_factor, lu_solve, solve_triangular

from implicit_cli.core.linear.base import (
    SUSPECT,
    Matrix,
    Operator,
    Solved,
    Spectrum,
    Unsuitable,
    project_out,
    rank_floor,
    solve_directly,
    spectrum_of_values,
)
from implicit_cli.core.linear.extremes import EXACT, extremes

PROBES, ROUNDS = 4, 3


def spectrum_of(A: Matrix, *, symmetric: bool) -> Spectrum:
    """Singular values and null spaces of A (d, d) by a symmetric eigendecomposition or an SVD; O(d^3)."""
    return _spectrum(*_decompose(A, symmetric))


def _spectrum(sigma: Matrix, right: Matrix, left: Matrix, signs: Matrix) -> Spectrum:
    largest = float(jnp.max(sigma, initial=0.0))
    null = sigma <= largest * rank_floor(sigma.size, sigma.dtype)
    kept = sigma[~null]
    return Spectrum(
        sigma_min=float(jnp.min(kept)) if kept.size else 0.0,
        sigma_max=largest,
        Z=right[:, null],
        Y=left[:, null],
        negative=int(jnp.sum((signs < 0) & ~null)),
    )


@partial(jax.jit, static_argnums=1)
def _decompose(A: Matrix, symmetric: bool) -> tuple[Matrix, Matrix, Matrix, Matrix]:
    if symmetric:
        values, vectors = jnp.linalg.eigh((A + A.T) / 2)
        signs = jnp.where(values < 0, -1.0, 1.0)
        return jnp.abs(values), vectors, vectors, signs
    left, sigma, right_t = jnp.linalg.svd(A)
    return sigma, right_t.T, left, jnp.ones_like(sigma)


class Factored:
    """A dense A with a factor of the completed A, as arrays that may be traced: what solves, and decides nothing."""

    operator: Operator
    tol: float
    method: str

    _A: Matrix
    _Z: Matrix
    _Y: Matrix
    _factor: Any
    _size: Any

    @property
    def null_space(self) -> tuple[Matrix, Matrix]:
        return self._Z, self._Y

    def inverse(self, b: Matrix, *, transpose: bool = False) -> Matrix:
        domain, codomain = (self._Y, self._Z) if transpose else (self._Z, self._Y)
        return project_out(domain, _substitute(self.method, self._factor, project_out(codomain, b), transpose))

    def solve(self, b: Matrix, *, transpose: bool = False) -> Solved:
        return solve_directly(
            self.operator,
            lambda b: self.inverse(b, transpose=transpose),
            b,
            self._Z if transpose else self._Y,
            transpose=transpose,
            tol=self.tol,
            method=self.method,
            size=self._size,
        )


class Held(Factored):
    """A inside a compiled program, by one method and with the gauges that are known; `regular` says whether that will do.

    Where it is not, A has to be looked at outside: another method, or a search for null vectors. For d up to `EXACT`.
    """

    tried: tuple[str, ...] = ()
    ridge = 0.0

    def __init__(self, operator: Operator, gauges: Matrix, *, method: str, tol: float) -> None:
        self.operator, self.tol, self.method = operator, tol, method
        assert operator.matrix is not None
        self._A = operator.matrix(operator.p)
        self._size, bound = _sizes(self._A)
        floor = rank_floor(operator.d, self._A.dtype)
        self._Z = self._Y = jnp.linalg.qr(gauges)[0] if gauges.shape[1] else gauges
        annulled = jnp.linalg.norm(self._A @ self._Z) <= floor * self._size
        self._factor, smallest = _factorise(self._A, self._Z, self._Y, jnp.where(self._size > 0, self._size, 1.0), method)
        # a comparison with NaN is false, so that what is not finite is not regular
        self.regular = annulled & (smallest > SUSPECT * floor * bound)

    @cached_property
    def spectrum(self) -> Spectrum:
        """All singular values."""
        symmetric = self.operator.symmetric
        return spectrum_of_values(_values(self._A, symmetric), self._Z, self._Y, symmetric=symmetric)

    def bias(self, u: Matrix, *, transpose: bool = False) -> Matrix:
        """There is no ridge."""
        return jnp.zeros_like(u)


class DenseSolver(Factored):
    """A factorisation of the completed A, with a step of refinement where the residual is above rounding.

    The residual is recomputed with `operator`, that is, from F and not from the assembled matrix. Raises `Unsuitable` where a
    Cholesky factorisation was asked for and A has negative eigenvalues, and where A is not finite.
    """

    def __init__(self, A: Matrix, operator: Operator, gauges: Matrix, *, method: str, tol: float) -> None:
        self.operator, self.tol, self._A = operator, tol, A
        column, bound = (float(size) for size in _sizes(A))
        if not np.isfinite(bound):
            raise Unsuitable("dF/dx has entries that are not finite")
        # the largest column is at most |A|, and sqrt(|A|_1 |A|_inf) at least
        self._size, self._floor = column, rank_floor(operator.d, A.dtype) * bound
        self._decomposed: Spectrum | None = None
        self._Z = self._Y = self._known(gauges)
        asked = ["cholesky", "lu"] if operator.symmetric else ["lu"]
        self._kinds = asked if method == "auto" else [method]
        self.method, self._factor = self._factorise()

    def _known(self, gauges: Matrix) -> Matrix:
        """Gauges that A does annul, orthonormal. Left null vectors of a non-symmetric A are not known: none, then."""
        if not gauges.shape[1]:
            return gauges
        if not self.operator.symmetric:
            return jnp.zeros((self.operator.d, 0))
        G = jnp.linalg.qr(gauges)[0]
        annulled = float(jnp.linalg.norm(self._A @ G)) <= rank_floor(self.operator.d, self._A.dtype) * self._size
        return G if annulled else jnp.zeros((self.operator.d, 0))

    def _factorise(self) -> tuple[str, Any]:
        if self._kinds == ["svd"]:
            return "svd", self._search()
        found: tuple[str, Any] | None = None
        for kind in self._kinds:
            factor, smallest = _factorise(self._A, self._Z, self._Y, self._size or 1.0, kind)
            if np.isfinite(float(smallest)):
                found = kind, factor
                if float(smallest) > SUSPECT * self._floor:
                    return found
                break
        if self._decomposed is None:
            before = self._Z.shape[1]
            self._search()
            if self._Z.shape[1] > before or found is None:
                return self._factorise()
        if found is None:
            raise Unsuitable(f"no {self._kinds[-1]} factorisation exists: A is not positive definite")
        return found

    def _search(self) -> Any:
        sigma, right, left, signs = _decompose(self._A, self.operator.symmetric)
        self._decomposed = _spectrum(sigma, right, left, signs)
        self._Z, self._Y = self._decomposed.Z, self._decomposed.Y
        kept = sigma > self._decomposed.sigma_max * rank_floor(sigma.size, sigma.dtype)
        return left, jnp.where(kept, signs / jnp.where(kept, sigma, 1.0), 0.0), right

    @cached_property
    def spectrum(self) -> Spectrum:
        """Exact values up to d = 512 or where A was decomposed; above, Lanczos with the factor, to a relative 1e-3."""
        if self._decomposed is not None:
            return self._decomposed
        d, symmetric = self.operator.d, self.operator.symmetric
        # an LU factor does not show the inertia
        if d <= EXACT or (symmetric and self.method != "cholesky"):
            return spectrum_of_values(np.asarray(_values(self._A, symmetric)), self._Z, self._Y, symmetric=symmetric)

        def product(transpose: bool) -> Any:
            return lambda u: np.asarray(_product(self._A, jnp.asarray(u).reshape(-1, 1), transpose))[:, 0]

        def inverse(transpose: bool) -> Any:
            return lambda u: np.asarray(self.inverse(jnp.asarray(u).reshape(-1, 1), transpose=transpose))[:, 0]

        low, high, sure = extremes(product(False), product(True), inverse(False), inverse(True), d, symmetric=symmetric)
        return Spectrum(low, high, self._Z, self._Y, 0, computed=sure)


@jax.jit
def _sizes(A: Matrix) -> tuple[Matrix, Matrix]:
    """The largest column of A, and sqrt(|A|_1 |A|_inf)."""
    entries = jnp.abs(A)
    column = jnp.max(jnp.linalg.norm(A, axis=0), initial=0.0)
    return column, jnp.sqrt(jnp.max(jnp.sum(entries, axis=0), initial=0.0) * jnp.max(jnp.sum(entries, axis=1), initial=0.0))


@partial(jax.jit, static_argnums=1)
def _values(A: Matrix, symmetric: bool) -> Matrix:
    return jnp.linalg.eigvalsh((A + A.T) / 2) if symmetric else jnp.linalg.svd(A, compute_uv=False)


@partial(jax.jit, static_argnums=2)
def _product(A: Matrix, u: Matrix, transpose: bool) -> Matrix:
    return (A.T if transpose else A) @ u


@partial(jax.jit, static_argnums=4)
def _factorise(A: Matrix, Z: Matrix, Y: Matrix, scale: float, kind: str) -> tuple[Any, Matrix]:
    """The factor of the completed A, and its smallest singular value by a few rounds of inverse iteration; NaN where it failed."""
    if Z.shape[1]:
        A = A + scale * (Y @ Z.T)
    factor: Any
    match kind:
        case "cholesky":
            factor = jnp.linalg.cholesky((A + A.T) / 2)
        case "lu":
            factor = lu_factor(A)
        case _:
            factor = jnp.linalg.qr(A)
    u = jax.random.normal(jax.random.key(0), (A.shape[0], PROBES))
    growth = jnp.ones(())
    for _ in range(ROUNDS):
        u = u / jnp.linalg.norm(u, axis=0, keepdims=True)
        first = _substitute_traced(kind, factor, u, True)
        u = _substitute_traced(kind, factor, first, False)
        growth = jnp.max(jnp.linalg.norm(u, axis=0))
    # a zero pivot gives infinity or, further on, NaN: a singular value of 0 in LU and QR, no factor at all in Cholesky
    smallest = jnp.where(jnp.isfinite(growth), 1.0 / jnp.sqrt(growth), jnp.nan)
    return factor, smallest


def _substitute_traced(kind: str, factor: Any, b: Matrix, transpose: bool) -> Matrix:
    match kind:
        case "cholesky":
            return cho_solve((factor, True), b)
        case "lu":
            return lu_solve(factor, b, trans=1 if transpose else 0)
        case "qr":
            Q, R = factor
            if transpose:
                return Q @ solve_triangular(R, b, trans=1)
            return solve_triangular(R, Q.T @ b)
        case _:
            left, inverse, right = factor
            if transpose:
                left, right = right, left
            return right @ (inverse[:, None] * (left.T @ b))


_substitute = jax.jit(_substitute_traced, static_argnums=(0, 3))
