"""What every linear solver has: the problem it solves, null spaces treated alike, and results that carry their status.

A may be singular. With right and left null spaces `Z` and `Y` (orthonormal columns, A Z = 0, A' Y = 0, equal for symmetric A) the
answer is always the minimum-norm solution `A^+ b` of the part of b in the range: b loses its part along Y, u its part along Z.
Dense and Krylov methods work on the *completed* operator

    A_c = A + s Y Z'

which is regular, equals A on the complement of Z, and maps Z onto Y; sparse factorisations leave out as many rows and columns as
there are null vectors. Nothing outside the null space is shifted. The transposed solve is the mirror image.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from implicit_cli.core.traceable import either, namespace, numbers, quotient
from implicit_cli.status import Status

Matrix = jax.Array
FloatArray = NDArray[np.float64]
Columns = TypeVar("Columns", jax.Array, NDArray[np.float64])
IntArray = NDArray[np.int64]

RANK_TOLERANCE = 1e-12
"""Singular values below this fraction of the largest (or d eps, if more) count as zero: they are rounding, not information."""
SUSPECT = 100.0
"""A factor whose smallest singular value is estimated below this many rank tolerances calls for a search of the null space."""
FEW, COMBINATIONS, AGREES = 32, 4, 64.0
"""Columns whose residual is always found from F; combinations of more that are; and how many roundings count as the same."""


class Unsuitable(ArithmeticError):
    """This method cannot be prepared for this A; the text says why. Never leaves the package: the next method is tried."""


class Spectrum(NamedTuple):
    """Extreme singular values of A outside its null space, and orthonormal bases of the right (Z) and left (Y) null spaces (d, k).

    `negative` counts negative eigenvalues of a symmetric A (0 otherwise); `computed` is False where the values come from
    iterations that were not run to convergence rather than from a factorisation.
    """

    sigma_min: float
    sigma_max: float
    Z: Matrix
    Y: Matrix
    negative: int = 0
    computed: bool = True

    @property
    def kappa(self) -> float:
        return float(self.sigma_max) / float(self.sigma_min) if self.sigma_min > 0 else float("inf")

    @property
    def nullity(self) -> int:
        return int(self.Z.shape[1])


class Solved(NamedTuple):
    """Solutions (d, k) and the projected right-hand sides they answer, with status, relative residual and steps of each column.

    `method` names what was used, "cg -> lu" where the first did not do.
    """

    value: Matrix
    rhs: Matrix
    residual: Matrix
    status: np.ndarray
    relative: np.ndarray
    steps: np.ndarray
    method: str


class Method(Protocol):
    """One method prepared for A, ready to solve many times."""

    @property
    def method(self) -> str: ...

    @property
    def null_space(self) -> tuple[Matrix, Matrix]:
        """Z and Y as far as they are known without further work."""

    @property
    def spectrum(self) -> Spectrum:
        """Computed when it is first asked for."""

    def solve(self, b: Matrix, *, transpose: bool = False) -> Solved:
        """`A u = b`, or `A' u = b`, for each column of b (d, k): the minimum-norm solution, of the part of b in the range."""

    def inverse(self, b: Matrix, *, transpose: bool = False) -> Matrix:
        """The value of `solve`, by a factor neither refined nor judged: for what need not be known to all digits."""


class LinearSolver(Method, Protocol):
    """A with everything needed to solve with it: what `prepare` returns."""

    @property
    def tried(self) -> tuple[str, ...]:
        """A sentence for each method that was tried in vain before the present one."""

    @property
    def ridge(self) -> float:
        """A + ridge I is what is solved with: 0 unless it was asked for."""

    def bias(self, u: Matrix, *, transpose: bool = False) -> Matrix:
        """What the ridge has done to solutions u (d, k): `A^-1 ridge u`, to be added to the error of u; infinite where unknown."""


class Operator(NamedTuple):
    """A at a point p as products `A_times(p, U)` and `At_times(p, U)`, (d, k) -> (d, k): they define the residual that is reported.

    p is an argument of the products, not captured by them, so that compiled programs are shared by all cases.

    symmetric     A = A'
    definite      A is positive definite outside its null space
    matrix        p to the assembled A (d, d); left out: products with the columns of I
    pattern       rows and columns (nnz,) of the entries that may differ from zero
    entries       p to the values (nnz,) at `pattern`; left out: from products, by colouring
    precondition  (p, U) to M^-1 U, with M close to A, symmetric positive definite where A is symmetric
    loose         unknowns (d,) that the problem says nothing holds, rattlers: A may be singular along any of them
    """

    A_times: Callable[[Any, Matrix], Matrix]
    At_times: Callable[[Any, Matrix], Matrix]
    p: Any
    d: int
    symmetric: bool
    definite: bool = False
    matrix: Callable[[Any], Matrix] | None = None
    pattern: tuple[Any, Any] | None = None
    entries: Callable[[Any], Any] | None = None
    precondition: Callable[[Any, Matrix], Matrix] | None = None
    loose: NDArray[np.bool_] | None = None

    def times(self, U: Matrix, *, transpose: bool = False) -> Matrix:
        return (self.At_times if transpose else self.A_times)(self.p, U)


def project_out(Z: Columns, b: Columns) -> Columns:
    """b without its part along the columns of Z; twice, because once leaves rounding of the size of what was removed."""
    if Z.shape[1] == 0:
        return b
    b = b - Z @ (Z.T @ b)
    return b - Z @ (Z.T @ b)


def rank_floor(d: int, dtype: Any = np.float64) -> float:
    """Singular values below this fraction of the largest count as zero, in the arithmetic of dtype."""
    return max(RANK_TOLERANCE, d * float(jnp.finfo(dtype).eps))


def spectrum_of_values(values: FloatArray, Z: Matrix, Y: Matrix, *, symmetric: bool) -> Spectrum:
    """Spectrum from all eigenvalues (symmetric) or singular values (d,) of A; as many of the smallest as Z has columns are null."""
    xp = namespace(values)
    kept = values[xp.argsort(xp.abs(values))[Z.shape[1] :]]
    sizes = xp.abs(kept)
    negative = (kept < 0).sum() if symmetric else 0
    return Spectrum(sizes.min() if kept.size else 0.0, sizes.max(initial=0.0), Z, Y, negative)


@jax.jit
def at_rounding(u: Matrix, b: Matrix, residual: Matrix, size_of_A: Any) -> Matrix:
    """True where the backward error of every column is a few roundings: refinement in the same precision has nothing to add."""
    allowed = 4.0 * jnp.finfo(b.dtype).eps * (jnp.linalg.norm(b, axis=0) + size_of_A * jnp.linalg.norm(u, axis=0))
    return jnp.all(jnp.linalg.norm(residual, axis=0) <= allowed)


def solve_directly(
    operator: Operator,
    inverse: Callable[[Matrix], Matrix],
    b: Matrix,
    null: Matrix,
    *,
    transpose: bool,
    tol: float,
    method: str,
    size: float,
    unjudged: NDArray[np.bool_] | None = None,
    product: Callable[[FloatArray], FloatArray] | None = None,
) -> Solved:
    """`inverse(b)` by a factor, for b freed of its part along `null`, refined once where the residual is above rounding.

    `size` is |A|. The residual is recomputed with `operator`, that is, from F and not from the assembled matrix; rows that are
    `unjudged` (d,), since nobody asks for their unknowns, have none. Many columns may take the assembled matrix's `product`, if the
    operator says the same of random combinations of the solutions.
    """
    b = project_out(null, b)

    def remainder(u: Matrix) -> Matrix:
        left = b - project_out(null, _image(operator, u, product, size, transpose=transpose))
        return left if unjudged is None else jnp.where(jnp.asarray(unjudged)[:, None], 0.0, left)

    def refined() -> tuple[Matrix, Matrix]:
        better = u + inverse(residual)
        return better, remainder(better)

    u = inverse(b)
    residual = remainder(u)
    u, residual = either(at_rounding(u, b, residual, size), lambda: (u, residual), refined)
    return report(u, b, residual, 1, False, tol=tol, method=method, size_of_A=size)


def _image(
    operator: Operator, u: Matrix, product: Callable[[FloatArray], FloatArray] | None, size: float, *, transpose: bool
) -> Matrix:
    """A u, or A' u, of the operator; by `product` where that is checked to be the same, to rounding."""
    if product is None or u.shape[1] <= FEW:
        return operator.times(u, transpose=transpose)
    known = np.asarray(u)
    image, mixed = product(known), np.random.default_rng(0).normal(size=(u.shape[1], COMBINATIONS))
    difference = np.linalg.norm(image @ mixed - np.asarray(operator.times(jnp.asarray(known @ mixed), transpose=transpose)), axis=0)
    scale = size * np.sqrt(np.sum(known**2, axis=0) @ mixed**2)
    same = bool((difference <= AGREES * np.finfo(known.dtype).eps * scale).all())
    return jnp.asarray(image) if same else operator.times(u, transpose=transpose)


def report(
    u: Matrix, b: Matrix, residual: Matrix, steps: Any, failed: Any, *, tol: float, method: str, size_of_A: float = 0.0
) -> Solved:
    """Judge each column by its recomputed residual; the solver's own word (`failed`) only ever makes a status worse.

    A column is good where |residual| <= tol (|b| + size_of_A |u|). With size_of_A = 0 that is relative to b, as for an iteration;
    with |A| it is a small backward error, which is all that a factorisation of an ill-conditioned A can promise.
    """
    xp = namespace(u)
    scale, length, size = (numbers(jnp.linalg.norm(part, axis=0)) for part in (b, u, residual))
    finite = numbers(jnp.all(jnp.isfinite(u), axis=0))
    allowed = tol * (scale + size_of_A * xp.where(xp.isfinite(length), length, 0.0))
    bad = ~finite | ~(size <= allowed) | xp.asarray(failed, dtype=bool)
    status = xp.where(bad, int(Status.LINEAR_SOLVE_FAILED), int(Status.OK)).astype(np.int8)
    steps = xp.broadcast_to(xp.asarray(steps, dtype=np.int64), status.shape)
    return Solved(u, b, residual, status, quotient(size, scale), steps, method)
