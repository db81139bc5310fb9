"""A chain of linear solvers: what one cannot do the next one does, and what was tried is said.

The first method that can be prepared serves every right-hand side. Columns that it fails on go to the next method, which then
stays in charge; columns that were solved are kept. At the end of the chain a failed column keeps its status.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax.numpy as jnp
import numpy as np

from implicit_cli.core.linear.base import Matrix, Method, Solved, Spectrum, Unsuitable
from implicit_cli.core.linear.dense import DenseSolver
from implicit_cli.core.linear.held import HeldSolver
from implicit_cli.core.linear.sparse import SparseSolver
from implicit_cli.status import Status

BIAS_TERMS = 200


class Chain:
    """Linear solvers by name, each prepared when it is needed; `tried` says what each one before the present did not do."""

    def __init__(self, links: Sequence[tuple[str, Callable[[], Method]]], d: int, *, ridge: float = 0.0) -> None:
        self._links, self._next, self._d = list(links), 0, d
        self._path: list[str] = []
        self._solver: Method | None = None
        self._tried: tuple[str, ...] = ()
        self._ridge = ridge
        self._advance()

    @property
    def method(self) -> str:
        """What is in charge, after what was tried before it: "cg -> lu"."""
        return " -> ".join(self._path)

    @property
    def tried(self) -> tuple[str, ...]:
        return self._tried

    @property
    def ridge(self) -> float:
        return self._ridge

    @property
    def null_space(self) -> tuple[Matrix, Matrix]:
        return self._last.null_space

    @property
    def spectrum(self) -> Spectrum:
        """Of the method in charge; an iteration that does not find the smallest singular value gives way."""
        found = self._last.spectrum
        while not (found.computed or found.sigma_min > 0):
            if not self._give_way("the smallest singular value was not found"):
                break
            found = self._last.spectrum
        return found

    @property
    def _last(self) -> Method:
        assert self._solver is not None
        return self._solver

    def _advance(self) -> bool:
        """Prepare the next method that lets itself be prepared; False where there is none."""
        while self._next < len(self._links):
            name, make = self._links[self._next]
            self._next += 1
            try:
                solver = make()
            except Unsuitable as reason:
                self._path.append(name)
                self._tried += (f"{name}: {reason}",)
                continue
            self._path.append(solver.method)
            self._solver = solver
            return True
        if self._solver is None:
            self._solver = _Nothing(self._d)
        return False

    def _give_way(self, why: str) -> bool:
        """The next method takes over, and what the one in charge did not do is kept; False where there is none."""
        before = self._path[-1] if self._path else "nothing"
        if not self._advance():
            return False
        self._tried += (f"{before}: {why}",)
        return True

    def solve(self, b: Matrix, *, transpose: bool = False) -> Solved:
        solved = self._last.solve(b, transpose=transpose)
        while (solved.status != Status.OK).any():
            bad = np.flatnonzero(solved.status != Status.OK)
            found = f"relative residual {np.max(solved.relative[bad]):.1e} on {bad.size} of {b.shape[1]} right-hand sides"
            steps = int(solved.steps[bad].max(initial=0))
            if not self._give_way(found + (f" after {steps} steps" if steps > 1 else "")):
                break
            solved = _merge(solved, bad, self._last.solve(b[:, bad], transpose=transpose))
        return solved._replace(method=self.method)

    def inverse(self, b: Matrix, *, transpose: bool = False) -> Matrix:
        """By the method in charge if that is a factorisation, else as `solve`, with NaN for columns that it fails on."""
        if isinstance(self._last, (DenseSolver, HeldSolver, SparseSolver)):
            return self._last.inverse(b, transpose=transpose)
        solved = self.solve(b, transpose=transpose)
        return jnp.where(jnp.asarray(solved.status == Status.OK)[None], solved.value, jnp.nan)

    def bias(self, u: Matrix, *, transpose: bool = False) -> Matrix:
        """What the ridge has done to solutions u (d, k): `A^-1 ridge u`, by which A^-1 b is larger than u = (A + ridge I)^-1 b.

        The series of (ridge (A + ridge I)^-1)^j u; infinite where it does not converge, as along null vectors of A.
        """
        if self.ridge == 0.0:
            return jnp.zeros_like(u)
        total, term = jnp.zeros_like(u), u
        start = jnp.linalg.norm(u, axis=0)
        for _ in range(BIAS_TERMS):
            term = self.ridge * self.solve(term, transpose=transpose).value
            total = total + term
            if bool(jnp.all(jnp.linalg.norm(term, axis=0) <= 1e-3 * jnp.linalg.norm(total, axis=0))):
                return total
        settled = jnp.linalg.norm(term, axis=0) <= 1e-3 * jnp.linalg.norm(total, axis=0)
        return jnp.where((settled | (start == 0.0))[None], total, jnp.inf)


class _Nothing:
    """In charge where no method could be prepared: every solve fails, and says so."""

    method = "none"

    def __init__(self, d: int) -> None:
        self.null_space = jnp.zeros((d, 0)), jnp.zeros((d, 0))

    @property
    def spectrum(self) -> Spectrum:
        return Spectrum(0.0, float("nan"), *self.null_space, computed=False)

    def inverse(self, b: Matrix, *, transpose: bool = False) -> Matrix:
        return jnp.full_like(b, jnp.nan)

    def solve(self, b: Matrix, *, transpose: bool = False) -> Solved:
        k = b.shape[1]
        nan = jnp.full_like(b, jnp.nan)
        failed = np.full(k, int(Status.LINEAR_SOLVE_FAILED), dtype=np.int8)
        return Solved(nan, b, nan, failed, np.full(k, np.nan), np.zeros(k, dtype=np.int64), self.method)


def _merge(solved: Solved, bad: np.ndarray, again: Solved) -> Solved:
    """`again` in the columns `bad` of `solved`, wherever its residual is smaller or its status good."""
    better = (again.status == Status.OK) | ~(again.relative > solved.relative[bad])
    take, where = np.flatnonzero(better), bad[better]

    def put(old: Matrix, new: Matrix) -> Matrix:
        both = np.array(old)
        both[:, where] = np.asarray(new)[:, take]
        return jnp.asarray(both)

    status, relative, steps = solved.status.copy(), solved.relative.copy(), solved.steps.copy()
    status[where], relative[where] = again.status[take], again.relative[take]
    steps[bad] = steps[bad] + again.steps
    value, rhs, residual = (put(*pair) for pair in zip(solved[:3], again[:3], strict=True))
    return Solved(value, rhs, residual, status, relative, steps, "")
