"""The one place that picks a linear solver: by size, tags, sparsity pattern, right-hand sides, device, and what was asked for.

A method that was named is used. What fails is followed by the next method of `LinearPlan.then`, and that is said (`escalation`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import breadth_first_order, connected_components

from implicit_cli.core.linear import assembly
from implicit_cli.core.linear.base import Matrix, Method, Operator
from implicit_cli.core.linear.condensed import Condensed
from implicit_cli.core.linear.dense import DenseSolver
from implicit_cli.core.linear.escalation import Chain
from implicit_cli.core.linear.held import Factor, HeldSolver
from implicit_cli.core.linear.krylov import KrylovSolver
from implicit_cli.core.linear.precondition import block_jacobi
from implicit_cli.core.linear.refined import Refined
from implicit_cli.core.linear.simultaneous import STEPS
from implicit_cli.core.linear.sparse import SparseSolver, cholesky_installed

DENSE = ("lu", "cholesky", "qr", "svd")
SPARSE = ("sparse_lu", "sparse_cholesky")
KRYLOV = ("cg", "minres", "gmres", "bicgstab", "lsmr")
HELD = "lu_of_free"
"""LU of the unknowns that a projection or proximal operator leaves free; `auto` takes it, nobody can ask for it."""
METHODS = ("auto", *DENSE, *SPARSE, *KRYLOV)
SYMMETRIC_ONLY = ("cholesky", "sparse_cholesky", "cg", "minres")

# Measured by benchmarks/linear.py.
DENSE_SMALL = 128
"""Up to this d a dense factorisation is quick whatever A is."""
DENSE_LIMIT = {"cpu": 2048, "gpu": 8192}
"""Largest d that `auto` assembles without a pattern, whatever the number of right-hand sides."""
DENSE_BYTES = 2 * 2**30
"""Largest A, in bytes, that is assembled at all: for many right-hand sides, or as the last resort."""
HOST_ENTRIES = 18
"""Entries a row up to which a Krylov method on the CPU takes SciPy's sparse product; beyond, the problem's own is quicker."""
ITERATIONS = 300
"""Products that a Krylov solve takes, as a guess."""


class LinearPlan(NamedTuple):
    """The method picked and why, for `implicit check` and the result file; `then` are the methods tried where it fails."""

    method: str
    dense: bool
    reason: str
    tol: float
    max_steps: int
    then: tuple[str, ...] = ()
    ridge: float = 0.0
    preconditioner: str = "auto"
    block: int = 1
    filled: int = 0
    """Entries of a sparse A and its factor, as estimated."""

    @property
    def computes_spectrum(self) -> bool:
        """sigma_min and kappa come from a factorisation."""
        return self.method not in (*KRYLOV, HELD)

    def bytes(self, d: int) -> int:
        """Memory for A and its factor, roughly."""
        if self.dense:
            return 8 * 4 * d * d
        return 16 * self.filled


def choose(
    d: int,
    *,
    symmetric: bool,
    name: str = "auto",
    tol: float = 1e-10,
    max_steps: int | None = None,
    definite: bool = False,
    pattern: tuple[Any, Any] | None = None,
    gauges: bool = False,
    holds: bool = False,
    right_hand_sides: int = 1,
    device: str = "cpu",
    ridge: float = 0.0,
    preconditioner: str = "auto",
    block: int = 1,
    escalate: bool = True,
) -> LinearPlan:
    """Pick for a d x d system with that many right-hand sides.

    `pattern` are the rows and columns of a sparse A, here or at a representative point; `gauges`: null vectors are known; `holds`:
    F comes from an operator that may hold many unknowns where they are.
    Raises ValueError where a named method does not go with the system.
    """
    filled = 0
    if name != "auto":
        _check(name, symmetric=symmetric, pattern=pattern is not None, gauges=gauges)
        method, reason = name, "asked for"
    elif pattern is not None and d > DENSE_SMALL:
        found = assembly.make_pattern(*pattern, d)
        method, reason, filled = _with_pattern(found, symmetric, definite, right_hand_sides)
    else:
        method, reason = _without_pattern(d, symmetric, gauges, holds, right_hand_sides, device)
    then = _next(method, d, symmetric=symmetric, pattern=pattern is not None, gauges=gauges) if escalate else ()
    if then:
        reason += f"; if that fails, {', then '.join(_title(name, symmetric) for name in then)}"
    if ridge:
        reason += f"; A + {ridge:g} I in place of A, as asked for"
    steps = max_steps or max(1000, 10 * d)
    return LinearPlan(method, method in ("auto", *DENSE), reason, tol, steps, then, ridge, preconditioner, block, filled)


def _check(name: str, *, symmetric: bool, pattern: bool, gauges: bool) -> None:
    allowed = [
        other
        for other in METHODS
        if (symmetric or other not in SYMMETRIC_ONLY)
        and (pattern or other not in SPARSE)
        and (symmetric or not gauges or other not in KRYLOV)
    ]
    if name in allowed:
        return
    if name in SYMMETRIC_ONLY and not symmetric:
        why = "dF/dx is not symmetric"
    elif name in SPARSE and not pattern:
        why = "it gives no sparsity pattern"
    else:
        why = "it is not symmetric and has gauges"
    raise ValueError(f"found '{name}', allowed for this condition: {', '.join(map(repr, allowed))} ({why})")


def _title(method: str, symmetric: bool) -> str:
    if method == "auto":
        return f"dense {'Cholesky if definite, else LU' if symmetric else 'LU'}"
    return f"dense {method}" if method in DENSE else method


def _without_pattern(d: int, symmetric: bool, gauges: bool, holds: bool, right_hand_sides: int, device: str) -> tuple[str, str]:
    limit = DENSE_LIMIT["gpu" if device != "cpu" else "cpu"]
    dense = _title("auto", symmetric)
    if d <= limit:
        return "auto", f"{dense}: d = {d} is at most {limit}"
    if holds and not gauges:
        return HELD, f"LU of the unknowns that are free: d = {d} is above {limit}, and others may be held where they are"
    if _fits(d) and gauges and not symmetric:
        return "auto", f"{dense}: gauges of a non-symmetric dF/dx need a factorisation"
    if _fits(d) and ITERATIONS * right_hand_sides >= 2 * d:
        return "auto", f"{dense}: d = {d}, and one factorisation serves {_count(right_hand_sides)}"
    method = "cg" if symmetric else "gmres"
    return method, f"matrix-free {method}: d = {d} is above {limit}, {_count(right_hand_sides)}"


def _with_pattern(pattern: assembly.Pattern, symmetric: bool, definite: bool, k: int) -> tuple[str, str, int]:
    """The cheapest of a dense factorisation, a sparse one and, for symmetric A, conjugate gradients."""
    d, w = pattern.d, separator(pattern)
    seconds = {"sparse_lu": sparse_seconds(pattern, w, k, "sparse_lu")}
    if symmetric and definite and cholesky_installed():
        seconds["sparse_cholesky"] = sparse_seconds(pattern, w, k, "sparse_cholesky")
    if symmetric:
        seconds["cg"] = krylov_seconds(pattern, w, k)
    if _fits(d):
        seconds["auto"] = dense_seconds(d, k)
    method = min(seconds, key=seconds.__getitem__)
    filled = f"d = {d}, {pattern.density:.0f} entries a row, separator of {w}"
    match method:
        case "cg":
            return method, f"cg: {filled}: {_count(k)} cost less than a factorisation", 2 * pattern.rows.size
        case "auto":
            return method, f"{_title('auto', symmetric)}: {filled}: quicker than a sparse factor", 0
        case _:
            return method, f"{method.replace('_', ' ')}: {filled}: one factor serves {_count(k)}", filled_entries(pattern, w)


def _count(k: int) -> str:
    return f"{k} right-hand side{'' if k == 1 else 's'}"


def _next(method: str, d: int, *, symmetric: bool, pattern: bool, gauges: bool) -> tuple[str, ...]:
    """Methods to try after `method`, dense last where it fits."""
    last = ("auto",) if _fits(d) else ()
    direct = ("sparse_lu",) if pattern else ()
    match method:
        case "auto" | "svd":  # `auto` decomposes A by itself where its factors are not good enough
            return ()
        case "lu" | "qr":
            return ("svd",) if _fits(2 * d) else ()
        case "cholesky":
            return ("lu", "svd") if _fits(2 * d) else ("lu",)
        case "sparse_cholesky":
            return (*direct, *last)
        case "sparse_lu":
            iterative = ("minres",) if symmetric else () if gauges else ("gmres",)
            return last or iterative
        case "cg":
            return ("minres", *direct, *last)
        case "gmres":
            return (*direct, *(last or ("bicgstab", "lsmr")))
        case _ if method == HELD:
            return ("gmres", *last)
        case _:
            return (*direct, *last)


def _fits(d: int) -> bool:
    return 8 * d * d <= DENSE_BYTES


def prepare(
    plan: LinearPlan,
    operator: Operator,
    assemble: Matrix | None,
    gauges: Matrix,
    *,
    single: Method | None = None,
    last: list[Factor] | None = None,
) -> Chain:
    """The solver of a plan, with those that follow it; `assemble` is the matrix A where it is at hand.

    `single` is a solver for the same A in float32: it is refined, and comes first. `last` keeps a factor
    for where A is the same again.
    """
    if plan.ridge:
        operator = _shifted(operator, plan.ridge)
        assemble = None if assemble is None else assemble + plan.ridge * np.eye(operator.d)
    held: dict[str, Any] = {}

    def sparse() -> Any:
        if "sparse" not in held:
            held["sparse"] = assembly.sparse(operator)
        return held["sparse"]

    def make(name: str) -> Method:
        if name in ("auto", *DENSE):
            A = assemble if assemble is not None else assembly.dense(operator)
            return DenseSolver(A, operator, gauges, method=name, tol=plan.tol)
        if name == HELD:
            return HeldSolver(operator, tol=plan.tol, last=last)
        if name in SPARSE:
            return SparseSolver(sparse(), operator, gauges, method=name, tol=plan.tol)
        pattern = operator.pattern
        thin = pattern is not None and np.size(pattern[0]) <= HOST_ENTRIES * operator.d
        on_host = thin and operator.entries is not None and jax.default_backend() == "cpu"
        condensed = Condensed(sparse(), operator.loose) if operator.loose is not None and loose else None
        host = csr_array(sparse()) if on_host and condensed is None else None
        precondition = None
        if plan.preconditioner == "block_jacobi":
            precondition = block_jacobi(operator, plan.block, sparse() if operator.pattern is not None else None)
        elif plan.preconditioner == "auto" and operator.precondition is not None:
            precondition = jax.tree_util.Partial(operator.precondition)
        return KrylovSolver(
            operator,
            gauges,
            method=name,
            tol=plan.tol,
            max_steps=plan.max_steps,
            host=host,
            precondition=precondition,
            condensed=condensed,
        )

    names = (plan.method, *plan.then)
    loose = operator.loose is not None and operator.loose.any() and operator.pattern is not None
    if loose and plan.method in KRYLOV and plan.method not in STEPS:
        # only those of `simultaneous` take what is left of A without its loose unknowns, the others meet what is next to singular
        first = ("sparse_cholesky",) if operator.definite and cholesky_installed() else ()
        names = (*first, "sparse_lu", *(name for name in names if name in ("auto", *DENSE)))
    links: list[tuple[str, Callable[[], Method]]] = [(name, partial(make, name)) for name in names]
    if single is not None:
        links.insert(0, (f"{single.method} in float32", partial(Refined, single, operator, gauges, tol=plan.tol)))
    return Chain(links, operator.d, ridge=plan.ridge)


def _shifted(operator: Operator, ridge: float) -> Operator:
    """A + ridge I; pattern and entries gain the diagonal, a dense assembly is left to products."""
    pattern, entries = operator.pattern, None
    if pattern is not None:
        diagonal = np.arange(operator.d)
        rows, cols = (np.concatenate([np.asarray(part), diagonal]) for part in pattern)
        pattern, given = (rows, cols), operator.entries
        if given is not None:
            entries = lambda p: np.concatenate([np.asarray(given(p)), np.full(operator.d, ridge)])  # noqa: E731
    return operator._replace(
        A_times=_plus(operator.A_times, ridge),
        At_times=_plus(operator.At_times, ridge),
        matrix=None,
        pattern=pattern,
        entries=entries,
    )


@lru_cache(maxsize=32)
def _plus(products: Callable[[Any, Matrix], Matrix], ridge: float) -> Callable[[Any, Matrix], Matrix]:
    """The same function for the same products, so that nothing compiles twice."""
    return lambda p, U: products(p, U) + ridge * U


# Costs.


def separator(pattern: assembly.Pattern) -> int:
    """Unknowns in the widest level of a breadth-first search from a far corner: about the top separator of a nested dissection."""
    graph = csr_array((np.ones(pattern.rows.size, dtype=np.int8), (pattern.rows, pattern.cols)), shape=(pattern.d, pattern.d))
    _, labels = connected_components(graph, directed=False)
    start, width = int(np.argmax(np.bincount(labels)[labels])), 1
    for _ in range(3):
        order, before = breadth_first_order(graph, start, directed=False)
        depth = np.zeros(pattern.d, dtype=np.int64)
        for node in order[1:]:
            depth[node] = depth[before[node]] + 1
        start, width = int(order[-1]), int(np.max(np.bincount(depth[order])))
    return width


def filled_entries(pattern: assembly.Pattern, w: int) -> int:
    """Entries of a sparse factor: those of A, some per unknown, and a dense block for the separator of w unknowns."""
    return 3 * pattern.rows.size + 20 * pattern.d + w * w


def sparse_seconds(pattern: assembly.Pattern, w: int, k: int, method: str) -> float:
    """A factorisation, a d + b w^3, for the separator becomes a dense block of its own; and k substitutions, by entries."""
    linear, cubic, read = RATES[method]
    return SPARSE_CALL + linear * pattern.d + cubic * w**3 + k * read * filled_entries(pattern, w)


def krylov_seconds(pattern: assembly.Pattern, w: int, k: int) -> float:
    """k solves of 30 products per level of a breadth-first search, of which there are 2 d / w: information travels that far."""
    steps = min(60.0 * pattern.d / w, 10.0 * pattern.d)
    return steps * (STEP_CALL + k * PRODUCT * pattern.rows.size)


def dense_seconds(d: int, k: int) -> float:
    return DENSE_CALL + DENSE_RATE * d**3 + k * DENSE_READ * d**2


# Seconds on one core: per unknown, per cubed separator, per entry and substitution; per entry and product; calls.
RATES = {"sparse_lu": (6e-6, 1.6e-10, 2.8e-9), "sparse_cholesky": (2e-6, 4e-10, 7e-10)}
PRODUCT, STEP_CALL, SPARSE_CALL = 1.2e-9, 6e-5, 1.5e-3
DENSE_CALL, DENSE_RATE, DENSE_READ = 3e-3, 3e-11, 1e-9
