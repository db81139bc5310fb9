"""Does the bound hold, and how tight is it? Effectivity = bound / true error, on problems whose derivatives are known to 30 digits.

    python benchmarks/certificate.py [--seeds N] [--only NAME ...] [--workers N] [-o FILE.json]
    python benchmarks/certificate.py --page          write page and figure anew from the stored results

Each problem of `certificate_problems.py` is drawn at random, its own iteration is stopped early when x is within 1e-1, .., 1e-10 of
x*, and the certificate's bounds are compared with the true errors, in float64 and for x and J computed in float32. Without names,
the results go to benchmarks/results/certificate.json, docs/explanation/certificate.svg and docs/explanation/certificate.md.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import time
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from implicit_cli import runtime

if __name__ in ("__main__", "__mp_main__"):
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")
    runtime.configure("cpu")

import certificate_report as report
import jax
import jax.numpy as jnp
from certificate_problems import problems
from certificate_truth import OUTPUTS, Case, Draw, Truth

from implicit_cli.core.certificate import Certifier, Parts
from implicit_cli.core.implicit import Adjoint, Forward, Point, System, adjoint, forward
from implicit_cli.core.linear import LinearSolver, choose, prepare
from implicit_cli.core.linear.base import Operator, Solved

LEVELS = (1e-1, 1e-2, 1e-3, 1e-5, 1e-7, 1e-10)
PRECISIONS = ("float64", "float32")
PATIENCE, STEPS = 200, 50_000
RESULTS = Path(__file__).parent / "results" / "certificate.json"
AT_ROUNDING = 1e-15
"""True errors below this fraction of |J| are float64's own."""
MEDIAN, MOST = 2.5, 5.0
"""What is aimed at: median and 95th percentile."""
PRODUCTS = ("column", "entry", "corrected", "output", "adjoint row", "x")
ANY_SCALE = ("output", "adjoint row")
"""What is unique also where x* is unique but for its scale."""
SHORT = (1e-6, 1e-4, 1e-2, 1e-1)
"""By how much of the error a bound may be too small: violations are counted beyond each of these."""
PARTS = ("truncation", "linear", "rounding")


class Found(NamedTuple):
    """Numbers of one product at one solution: true errors (k,), the parts of their bounds (3, k), size of the whole matrix (k,)."""

    error: np.ndarray
    parts: np.ndarray
    scale: np.ndarray
    kind: str


class Site(NamedTuple):
    """One solution stopped early: how far x is off, why there is no certificate ("" where there is one), h, and the products."""

    error: float
    refused: str
    h: float
    products: dict[str, Found]


class Study:
    """A problem with its compiled programs."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.system = System(case.F, case.outputs, symmetric=case.symmetric)
        self.levels, self.polished = jax.jit(self._levels), jax.jit(self._polished)
        self.margin = None if case.margin is None else jax.jit(case.margin)
        self.W = np.eye(case.d + OUTPUTS)

    def point(self, draw: Draw, x: np.ndarray, dtype: Any = np.float64) -> Point:
        cast = lambda a: jnp.asarray(a, dtype) if a.dtype.kind == "f" else jnp.asarray(a)  # noqa: E731
        return Point(cast(x), cast(draw.theta), tuple(cast(a) for a in draw.data))

    # Solutions, stopped early.

    def _newton(self, p: Point) -> jax.Array:
        return jnp.linalg.solve(jax.jacfwd(self.case.F)(p.x, p.theta, p.data), self.case.F(p.x, p.theta, p.data))

    def _advance(self, p: Point, x_true: jax.Array, eta: jax.Array) -> jax.Array:
        """One step of the problem's own iteration; quadratic convergence is damped, so that it can be stopped at every level."""
        c = self.case
        if not c.unique:
            return (p.x + x_true) / 2.0
        if c.mapping == "newton":
            assert c.T is not None
            return (p.x + c.T(p.x, p.theta, p.data)) / 2.0
        if c.T is not None:
            return c.T(p.x, p.theta, p.data)
        if c.definite:
            return p.x - eta * c.F(p.x, p.theta, p.data)
        return p.x - self._newton(p) / 2.0

    def _levels(self, p: Point, x_true: jax.Array, eta: jax.Array) -> jax.Array:
        """x (levels, d), the first to come within each level of x*, or where the iteration got to."""

        def until(x: jax.Array, target: jax.Array) -> tuple[jax.Array, jax.Array]:
            def going(state: Any) -> jax.Array:
                _, error, _, since, steps = state
                return (error > target) & (since < PATIENCE) & (steps < STEPS)

            def body(state: Any) -> Any:
                x, _, best, since, steps = state
                x = self._advance(p._replace(x=x), x_true, eta)
                error = jnp.linalg.norm(x - x_true)
                return x, error, jnp.minimum(best, error), jnp.where(error < best, 0, since + 1), steps + 1

            first = jnp.linalg.norm(x - x_true)
            x = jax.lax.while_loop(going, body, (x, first, first, 0, 0))[0]
            return x, x

        return jax.lax.scan(until, p.x, jnp.asarray(LEVELS, p.x.dtype) * jnp.linalg.norm(x_true))[1]

    def _polished(self, p: Point) -> jax.Array:
        """x* to a few digits: the problem's iteration, or Newton's, from the start."""
        if self.case.T is None or self.case.mapping == "newton":
            return jax.lax.fori_loop(0, 100, lambda _, x: x - self._newton(p._replace(x=x)) / 2.0, p.x)
        return jax.lax.fori_loop(0, 5000, lambda _, x: self._advance(p._replace(x=x), x, jnp.ones(())), p.x)

    def instance(self, seed: int) -> tuple[Draw, Truth]:
        draw = self.case.instance(seed)
        near = draw.start
        if self.case.unique:
            near = np.asarray(self.polished(self.point(draw, draw.start)))
        return draw, self.case.truth(draw, near)

    def stopped(self, draw: Draw, truth: Truth, precision: str) -> np.ndarray:
        """x at every level (levels, d), as the solver in that precision leaves it."""
        dtype = np.dtype(precision)
        size = np.linalg.norm(self.system.A_matrix(self.point(draw, truth.x.high)), 2)
        with jax.enable_x64(precision == "float64"):
            p = self.point(draw, draw.start, dtype)
            found = self.levels(p, jnp.asarray(truth.x.high, dtype), jnp.asarray(0.5 / size, dtype))
        return np.asarray(found, np.float64)

    # Derivatives and bounds.

    def linearise(self, p: Point, tol: float = 1e-10) -> LinearSolver:
        d, symmetric = self.case.d, self.case.symmetric
        operator = Operator(self.system.A_times, self.system.At_times, p, d, symmetric=symmetric)
        return prepare(choose(d, symmetric=symmetric, tol=tol), operator, self.system.A_matrix(p), jnp.zeros((d, 0)))

    def products(self, p: Point, A: LinearSolver) -> tuple[Forward, Adjoint]:
        d, dtype = self.case.d, p.x.dtype
        W = jnp.asarray(self.W, dtype)
        return forward(self.system, p, A, jnp.eye(self.case.n, dtype=dtype)), adjoint(self.system, p, A, W[:d], W[d:])

    def from_single(self, draw: Draw, x: np.ndarray, p: Point) -> tuple[Forward, Adjoint]:
        """The solutions of float32, with residuals, outputs and products with B recomputed in float64 at p."""
        with jax.enable_x64(False):
            single = self.point(draw, x, np.float32)
            f, a = self.products(single, self.linearise(single, tol=1e-3))
            U, U_adjoint = np.asarray(f.U, np.float64), np.asarray(a.U, np.float64)
        system, d = self.system, self.case.d
        V, W = jnp.eye(self.case.n), jnp.asarray(self.W)
        U, U_adjoint = jnp.asarray(U), jnp.asarray(U_adjoint)
        c, c_theta = system.g_cotangent(p, W[d:])
        rhs, rhs_adjoint = -system.B_times(p, V), W[:d] + c
        forwards = Forward(V, U, system.g_tangent(p, U, V), _solved(f.solved, U, rhs, rhs - system.A_times(p, U)))
        L = c_theta - system.Bt_times(p, U_adjoint)
        back = _solved(a.solved, U_adjoint, rhs_adjoint, rhs_adjoint - system.At_times(p, U_adjoint))
        return forwards, Adjoint(W[:d], W[d:], U_adjoint, L, back)

    def certify(self, draw: Draw, truth: Truth, x: np.ndarray, precision: str) -> Site:
        p = self.point(draw, x)
        A = self.linearise(p)
        margin = np.inf if self.margin is None else float(self.margin(p.x, p.theta, p.data))
        certifier = Certifier(self.system, p, A, self.case.constants(draw), margin)
        c = certifier.certificate
        off = float(np.linalg.norm(truth.x.error(p.x)))
        if A.null_space[0].shape[1] and self.case.unique:
            return Site(off, "singular", c.h, {})
        if not certifier.available:
            return Site(off, "h" if c.h >= 0.5 else "steps", c.h, {})
        if margin <= c.radius:
            return Site(off, "kink", c.h, {})
        f, a = self.products(p, A) if precision == "float64" else self.from_single(draw, x, p)
        return Site(off, "", c.h, self._compare(certifier, truth, f, a, off))

    def _compare(self, certifier: Certifier, truth: Truth, f: Forward, a: Adjoint, off: float) -> dict[str, Found]:
        case = self.case
        in_x, in_y = certifier.forward(f)
        in_adjoint = certifier.adjoint(a)
        J, Y, L = (np.asarray(m) for m in (f.U, f.Y, a.L))
        error_J, error_Y = truth.J.error(J), truth.Y.error(Y)
        size_J, size_Y = np.linalg.norm(truth.J.high), np.linalg.norm(truth.Y.high)
        if size_J == 0.0:  # at a vertex x* does not move
            size_J = np.linalg.norm(truth.x.high) / np.linalg.norm(f.V)
        rows_L = slice(0 if case.unique else case.d, None)
        error_L = np.concatenate([truth.J.error(L.T[: case.d]), truth.Y.error(L.T[case.d :])])[rows_L]
        size_L = np.repeat([size_J, size_Y], [case.d, OUTPUTS])[rows_L]
        kind = "bound" if certifier.proved else "estimate"
        found = {
            "output": Found(error_Y.ravel(), _each(in_y, OUTPUTS), np.full(error_Y.size, size_Y), "estimate"),
            "adjoint row": Found(np.linalg.norm(error_L, axis=1), np.stack(in_adjoint.norms())[:, rows_L], size_L, "estimate"),
        }
        if case.unique:
            in_solution = np.stack(certifier.solution()[0].norms())
            error_after, in_after = truth.J.error(J + in_x.correction), np.stack(in_x.corrected.norms())
            columns = np.full(case.n, size_J)
            found |= {
                "column": Found(np.linalg.norm(error_J, axis=0), np.stack(in_x.norms()), columns, kind),
                "entry": Found(error_J.ravel(), _each(in_x, case.d), np.full(error_J.size, size_J), kind),
                "corrected": Found(np.linalg.norm(error_after, axis=0), in_after, columns, kind),
                "x": Found(np.array([off]), in_solution, np.linalg.norm(truth.x.high)[None], kind),
            }
        return found


def _solved(of: Solved, value: jax.Array, rhs: jax.Array, residual: jax.Array) -> Solved:
    return of._replace(value=value, rhs=rhs, residual=residual)


def _each(parts: Parts, rows: int) -> np.ndarray:
    """The parts of the bound of every entry (3, rows k)."""
    return np.concatenate([np.stack(parts.norms(slice(i, i + 1))) for i in range(rows)], axis=1)


# From sites to rows of the table.


def study(name: str, seeds: int) -> list[dict[str, Any]]:
    """Rows of one problem: for each precision, product and kind, all levels together and each level."""
    work = Study(next(case for case in problems() if case.name == name))
    sites: dict[tuple[str, int], list[tuple[int, Site]]] = defaultdict(list)
    unreached: dict[str, int] = defaultdict(int)
    for seed in range(seeds):
        draw, truth = work.instance(seed)
        size = np.linalg.norm(truth.x.high)
        for precision in PRECISIONS:
            before = None
            for level, x in enumerate(work.stopped(draw, truth, precision)):
                if before is not None and np.array_equal(x, before):
                    continue  # this precision does not get any further
                before = x
                far = np.linalg.norm(x - truth.x.high) > size * (LEVELS[level] if precision == "float64" else LEVELS[0])
                if far or not np.isfinite(x).all():
                    unreached[precision] += 1  # another root, or none
                    continue
                sites[precision, level].append((seed, work.certify(draw, truth, x, precision)))
    return [row for precision in PRECISIONS for row in _rows(work.case, precision, sites, unreached[precision])]


def _rows(case: Case, precision: str, sites: dict[tuple[str, int], list[tuple[int, Site]]], unreached: int) -> list[dict[str, Any]]:
    rows = []
    for product in PRODUCTS:
        shown = "column" if case.unique else "output"
        each = [[level] for level in range(len(LEVELS))] if product == shown else []
        for levels in (range(len(LEVELS)), *each):
            chosen = [(level, seed, site) for level in levels for seed, site in sites[precision, level]]
            kinds = {site.products[product].kind for _, _, site in chosen if product in site.products}
            refused = [site for _, _, site in chosen if site.refused]
            for kind in sorted(kinds) or ["estimate"]:
                if case.unique or product in ANY_SCALE:
                    row: dict[str, Any] = {
                        "problem": case.name,
                        "mapping": case.mapping,
                        "precision": precision,
                        "product": product,
                        "kind": kind,
                        "level": "all" if len(levels) > 1 else f"{LEVELS[levels[0]]:.0e}",
                        "solutions": len(chosen),
                        "unreached": unreached if len(levels) > 1 else None,
                        "refused": {why: sum(s.refused == why for s in refused) for why in report.WHY},
                        "h": _range([site.h for site in refused if site.refused == "h"]),
                    }
                    row |= _effectivity(chosen, product, kind)
                    rows.append(row if len(levels) > 1 else row | {"violations": []})
    return rows


def _range(values: list[float]) -> list[float]:
    """Least, median and largest."""
    return [float(f"{value:.3g}") for value in (min(values), float(np.median(values)), max(values))] if values else []


def _effectivity(chosen: list[tuple[int, int, Site]], product: str, kind: str) -> dict[str, Any]:
    """Quantiles of bound / error over the products of one kind, what is below 1 and what is above 5, with the part to blame."""
    found = [(level, seed, s.products[product]) for level, seed, s in chosen if product in s.products]
    found = [(level, seed, f) for level, seed, f in found if f.kind == kind]
    if not found:
        return {"compared": 0, "at_rounding": 0, "below": 0, "violations": [], "short": {}, "above": dict.fromkeys(PARTS, 0)}
    error, scale = (np.concatenate([getattr(f, name) for _, _, f in found]) for name in ("error", "scale"))
    parts = np.concatenate([f.parts for _, _, f in found], axis=1)
    where = np.concatenate([np.stack([np.full(f.error.size, k), np.arange(f.error.size)]) for k, (_, _, f) in enumerate(found)], 1)
    bound = parts.sum(axis=0)
    tiny = error <= AT_ROUNDING * scale
    ratio = bound / np.maximum(error, 1e-300)
    broken = np.flatnonzero(~(bound >= error))
    real = ratio[~tiny]
    loose = ~tiny & (ratio > MOST)
    blame = np.argmax(parts[:, loose], axis=0)
    order = broken[np.argsort(ratio[broken])][:5]
    result: dict[str, Any] = {
        "compared": int(real.size),
        "at_rounding": int(tiny.sum()),
        "below": int(np.sum(~tiny[broken])),
        "below_at_rounding": int(np.sum(tiny[broken])),
        "short": {f"{by:.0e}": int(np.sum(1 - ratio[broken][~tiny[broken]] > by)) for by in SHORT},
        "above": {part: int(np.sum(blame == k)) for k, part in enumerate(PARTS)},
        "violations": [
            {
                "level": f"{LEVELS[found[where[0, i]][0]]:.0e}",
                "seed": found[where[0, i]][1],
                "index": int(where[1, i]),
                "effectivity": float(ratio[i]),
                "error": float(error[i]),
                "scale": float(scale[i]),
                **{part: float(parts[k, i]) for k, part in enumerate(PARTS)},
            }
            for i in order
        ],
    }
    if real.size:
        quantiles = np.quantile(real, [0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0])
        result["quantiles"] = [float(f"{q:.5g}") for q in quantiles]
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="problems to run; page and figure stay as they are")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--page", action="store_true", help="run nothing; write page and figure from the stored results")
    parser.add_argument("-o", "--output", type=Path, help="where the results go; page and figure stay as they are")
    args = parser.parse_args()
    if args.page:
        report.write(json.loads(RESULTS.read_text()))
        return 0
    names = [case.name for case in problems()]
    if wrong := set(args.only or ()) - set(names):
        parser.error(f"no problem {', '.join(sorted(wrong))}, allowed: {', '.join(names)}")
    begun, rows = time.perf_counter(), []
    chosen = args.only or names
    with ProcessPoolExecutor(min(args.workers, len(chosen)), multiprocessing.get_context("spawn")) as pool:
        for found in pool.map(partial(study, seeds=args.seeds), chosen):
            rows += found
            print(f"{found[0]['problem']}: {time.perf_counter() - begun:.0f} s", flush=True)
    results = {"facts": facts(), "seeds": args.seeds, "levels": LEVELS, "seconds": time.perf_counter() - begun, "rows": rows}
    print(report.tables(results))
    output = args.output or (None if args.only else RESULTS)
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        # a row to a line: what has changed shows in a difference of two runs
        lines = ",\n".join(json.dumps(row) for row in rows)
        head = json.dumps(results | {"rows": []})
        output.write_text(head.replace('"rows": []', f'"rows": [\n{lines}\n]') + "\n")
    if output == RESULTS:
        report.write(results)
    return 0


def facts() -> dict[str, str]:
    return {**runtime.versions(), "platform": f"{platform.system()} {platform.machine()}"}


if __name__ == "__main__":
    raise SystemExit(main())
