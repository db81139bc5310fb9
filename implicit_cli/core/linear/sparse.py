"""Sparse factorisations of an assembled A: SuperLU through SciPy, and CHOLMOD's Cholesky through cholespy where that is installed.

    sparse_lu        any A; a symmetric one keeps its pivots on the diagonal, so that the factor is as sparse as Cholesky's
    sparse_cholesky  symmetric, positive definite outside the null space

A singular A is factorised without as many rows and columns as it has null vectors: those in which the null vectors are largest
and most independent (QR with column pivoting), for example one particle's for translations. With u zero there and b in the range
of A, what is left is regular and its solution solves A u = b; freed of its part along Z it is A^+ b. Known null vectors are taken
from the problem; a tiny or missing pivot, or a factor that inverse iteration finds close to singular, starts the search for
others by subspace iteration.

Unknowns that the problem calls loose, such as rattlers, may be hundreds: they are eliminated first, exactly, for what they hang
together with is small (`Condensed`), and the factor is that of the rest.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import jax.numpy as jnp
import numpy as np
from scipy.linalg import qr
from scipy.sparse import csc_array, eye_array
from scipy.sparse.linalg import eigsh, splu

from implicit_cli.core.linear.base import (
    SUSPECT,
    FloatArray,
    IntArray,
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
from implicit_cli.core.linear.condensed import Condensed, size_of
from implicit_cli.core.linear.extremes import EXACT, extremes

NULL_MOST = 64
"""More null vectors than this are not searched for: A needs a dense method then, or the problem is not determined at all."""
SHIFT = 1e-13
"""Shift of A, relative to its size, in the search of the null space only: below the rank tolerance, above rounding."""
PROBES, ROUNDS, LOWEST = 4, 3, 6


def cholesky_installed() -> bool:
    return importlib.util.find_spec("cholespy") is not None


class _SuperLU:
    """P_r A P_c = L U."""

    def __init__(self, A: csc_array, *, symmetric: bool, diagonal_pivots: bool) -> None:
        try:
            if symmetric and diagonal_pivots:
                self._lu = splu(
                    A, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True, "Equil": False}
                )
            else:
                self._lu = splu(A, permc_spec="COLAMD")
        except RuntimeError as error:  # "Factor is exactly singular"
            raise Unsuitable(str(error)) from None

    def solve(self, b: FloatArray, transpose: bool) -> FloatArray:
        return np.asarray(self._lu.solve(np.ascontiguousarray(b), "T" if transpose else "N"))

    @property
    def negative(self) -> int | None:
        """Negative eigenvalues of a symmetric A, by Sylvester's law of inertia; None where rows and columns were not paired."""
        if not np.array_equal(self._lu.perm_r, self._lu.perm_c):
            return None
        return int((self._lu.U.diagonal() < 0).sum())


@contextmanager
def _without_output() -> Iterator[None]:
    """CHOLMOD prints a warning to standard output where A is not definite, which is not ours to fill."""
    sys.stdout.flush()
    try:
        kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    except OSError:  # closed
        yield
        return
    try:
        os.dup2(nowhere, 1)
        yield
    finally:
        ctypes.CDLL(None).fflush(None)
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)


class _Cholmod:
    """P A P' = L L'."""

    negative = 0

    def __init__(self, A: csc_array) -> None:
        from cholespy import CholeskySolverD, MatrixType

        if not np.isfinite(A.data).all() or (A.diagonal() <= 0).any():
            raise Unsuitable("A is not positive definite")
        try:
            with _without_output():
                self._factor = CholeskySolverD(
                    A.shape[0], A.indptr.astype(np.int32), A.indices.astype(np.int32), np.ascontiguousarray(A.data), MatrixType.CSC
                )
        except ValueError as error:
            raise Unsuitable(str(error)) from None

    def solve(self, b: FloatArray, transpose: bool) -> FloatArray:
        b = np.array(b, dtype=np.float64, order="C")  # a copy: what JAX hands out cannot be written to, and is refused for it
        x = np.empty_like(b)
        self._factor.solve(b, x)
        return x


class SparseSolver:
    """`sparse_lu` or `sparse_cholesky` of A with a step of refinement where the residual, recomputed from F, is above rounding.

    Raises `Unsuitable` where A has more null vectors than can be searched for, or does not let itself be factorised.
    """

    def __init__(self, A: csc_array, operator: Operator, gauges: Matrix, *, method: str, tol: float) -> None:
        self.operator, self.tol, self.method = operator, tol, method
        self._A = csc_array(A)
        self._A.sort_indices()
        entries = abs(self._A)
        if not np.isfinite(entries.data).all():
            raise Unsuitable("dF/dx has entries that are not finite")
        self._size = size_of(self._A)
        bound = float(np.sqrt(entries.sum(axis=0).max(initial=0.0) * entries.sum(axis=1).max(initial=0.0)))
        self._floor = rank_floor(operator.d) * bound
        if bound == 0.0:
            raise Unsuitable("dF/dx is zero")
        self._whole = self._A
        self._condensed: Condensed | None = None
        known = np.asarray(gauges)
        if operator.loose is not None and operator.loose.any() and operator.symmetric and operator.d > EXACT:
            self._condensed = Condensed(self._A, operator.loose)
            self._A, known = self._condensed.A, self._condensed.without(known)
        self._Z = self._Y = self._known(known)
        self._factor = self._prepare()

    def _known(self, gauges: FloatArray) -> FloatArray:
        none = np.zeros((self.operator.d, 0))
        if not gauges.shape[1] or not self.operator.symmetric:
            return none
        G = np.linalg.qr(gauges)[0]
        return G if np.linalg.norm(self._A @ G) <= rank_floor(self.operator.d) * self._size else none

    def _prepare(self) -> Any:
        """The factor; null vectors are searched for where it does not come off or is close to singular."""
        factor, regular = self._attempt()
        if not regular:
            self._search()
            factor, regular = self._attempt()
            if not regular and factor is None:
                raise Unsuitable(f"no {self.method} factorisation of A was found")
        return factor

    def _attempt(self) -> tuple[Any, bool]:
        """A factor of what is left of A, and whether it is away from singular; None where there is no factor."""
        self._pin()
        for diagonal_pivots in (True, False):
            try:
                factor = self._factorise(self._left, diagonal_pivots)
            except Unsuitable:
                if self.method == "sparse_cholesky":
                    return None, False
                continue
            smallest, accurate = self._quality(factor)
            if accurate or not self.operator.symmetric or self.method == "sparse_cholesky":
                return factor, smallest > SUSPECT * self._floor
        return None, False

    def _factorise(self, A: csc_array, diagonal_pivots: bool) -> Any:
        if self.method == "sparse_cholesky":
            return _Cholmod(A)
        return _SuperLU(A, symmetric=self.operator.symmetric, diagonal_pivots=diagonal_pivots)

    def _pin(self) -> None:
        """Leave out rows where Y and columns where Z are most independent."""
        d, k = self._Z.shape
        self._rows = self._cols = np.arange(d)
        self._left = self._A
        if k:
            self._cols = _without(self._Z)
            self._rows = self._cols if self.operator.symmetric else _without(self._Y)
            self._left = csc_array(self._A[:, self._cols][self._rows, :])
            self._left.sort_indices()

    def _quality(self, factor: Any) -> tuple[float, bool]:
        """Smallest singular value of what is left, by inverse iteration, and whether its solves have a small residual."""
        u = np.random.default_rng(0).normal(size=(self._left.shape[0], PROBES))
        growth, accurate = np.ones(()), True
        with np.errstate(all="ignore"):
            for _ in range(ROUNDS):
                u = u / np.linalg.norm(u, axis=0)
                first = factor.solve(u, True)
                error = np.linalg.norm(self._left.T @ first - u, axis=0)
                accurate &= bool((error <= 1e-6 * (1.0 + self._size * np.linalg.norm(first, axis=0))).all())
                u = factor.solve(first, False)
                growth = np.linalg.norm(u, axis=0).max(initial=0.0)
        return (float(1.0 / np.sqrt(growth)) if np.isfinite(growth) and growth > 0 else 0.0), accurate

    def _search(self) -> None:
        """Null vectors by subspace iteration with (A + mu I)^-1, mu below the rank tolerance; those of A' too if not symmetric."""
        d = self.operator.d
        shifted = csc_array(self._A + SHIFT * self._size * eye_array(d, format="csc"))
        factor = _SuperLU(shifted, symmetric=self.operator.symmetric, diagonal_pivots=True)
        width = min(d, 8)
        while True:
            Z = self._null_vectors(factor, width, transpose=False)
            if Z.shape[1] < width or width == d:
                break
            if width >= min(NULL_MOST, d):
                raise Unsuitable(f"A has {width} or more null vectors")
            width = min(2 * width, d)
        self._Z = self._Y = Z
        if not self.operator.symmetric:
            self._Y = self._null_vectors(factor, width, transpose=True)
            if self._Y.shape != self._Z.shape:
                raise Unsuitable("left and right null vectors of A do not match")

    def _null_vectors(self, factor: _SuperLU, width: int, *, transpose: bool) -> FloatArray:
        A = self._A.T if transpose else self._A
        X = np.linalg.qr(np.random.default_rng(1).normal(size=(self.operator.d, width)))[0]
        with np.errstate(all="ignore"):
            for _ in range(4):
                if not self.operator.symmetric:
                    X = np.linalg.qr(factor.solve(X, not transpose))[0]
                X = factor.solve(X, transpose)
                if not np.isfinite(X).all():
                    raise Unsuitable("inverse iteration broke down")
                X = np.linalg.qr(X)[0]
        _, sigma, rotation = np.linalg.svd(A @ X, full_matrices=False)
        return np.asarray((X @ rotation.T)[:, sigma <= self._floor])

    @cached_property
    def null_space(self) -> tuple[Matrix, Matrix]:
        Z, Y = self._Z, self._Y
        if self._condensed is not None and Z.shape[1]:
            Z = Y = self._condensed.completed(Z)
        return jnp.asarray(Z), jnp.asarray(Y)

    @cached_property
    def spectrum(self) -> Spectrum:
        """Exact values up to d = 512; above, Lanczos with the factor, to a relative 1e-3."""
        d, symmetric = self.operator.d, self.operator.symmetric
        Z, Y = self.null_space
        if d <= EXACT:
            A = self._A.toarray()
            values = np.linalg.eigvalsh((A + A.T) / 2) if symmetric else np.linalg.svd(A, compute_uv=False)
            return spectrum_of_values(values, Z, Y, symmetric=symmetric)

        def product(A: Any) -> Any:
            return lambda u: A @ u.ravel()

        def inverse(transpose: bool) -> Any:
            return lambda u: self._regular_inverse(u.reshape(-1, 1), transpose)[:, 0]

        low, high, sure = extremes(product(self._A), product(self._A.T), inverse(False), inverse(True), d, symmetric=symmetric)
        return Spectrum(low, high, Z, Y, self._negative() if symmetric else 0, computed=sure)

    def _negative(self) -> int:
        """Negative eigenvalues: from the factor, else the lowest few (then at most `LOWEST`) by Lanczos."""
        counted = self._factor.negative
        if counted is not None:
            return int(counted)
        start = np.random.default_rng(0).normal(size=self.operator.d)
        lowest = eigsh(self._A, k=LOWEST, which="SA", v0=start, tol=1e-3, return_eigenvectors=False)
        return int((lowest < -self._floor).sum())

    def _inverse(self, b: FloatArray, transpose: bool) -> FloatArray:
        """A^+ b for b (d, k), a part outside the range apart."""
        if self._condensed is None:
            return self._regular_inverse(b, transpose)
        return self._condensed.whole(self._regular_inverse(self._condensed.rest(b), transpose), b)

    def _regular_inverse(self, b: FloatArray, transpose: bool) -> FloatArray:
        """The same for A without what is loose."""
        domain, codomain = (self._Y, self._Z) if transpose else (self._Z, self._Y)
        if not domain.shape[1]:
            return np.asarray(self._factor.solve(b, transpose))
        rows, cols = (self._cols, self._rows) if transpose else (self._rows, self._cols)
        b = project_out(codomain, b)
        u = np.zeros_like(b)
        u[cols] = self._factor.solve(b[rows], transpose)
        return project_out(domain, u)

    def inverse(self, b: Matrix, *, transpose: bool = False) -> Matrix:
        null = self.null_space[0 if transpose else 1]
        return jnp.asarray(self._inverse(np.asarray(project_out(null, jnp.asarray(b))), transpose))

    def solve(self, b: Matrix, *, transpose: bool = False) -> Solved:
        return solve_directly(
            self.operator,
            lambda b: jnp.asarray(self._inverse(np.asarray(b), transpose)),
            b,
            self.null_space[0 if transpose else 1],
            transpose=transpose,
            tol=self.tol,
            method=self.method,
            size=self._size,
            unjudged=None if self._condensed is None else self._condensed.loose,
            product=lambda u: np.asarray((self._whole.T if transpose else self._whole) @ u),
        )


def _without(Z: FloatArray) -> IntArray:
    """All indices but those of the k most independent rows of Z (d, k)."""
    _, order = qr(Z.T, mode="r", pivoting=True)[-2:]
    return np.sort(order[Z.shape[1] :]).astype(np.int64)
