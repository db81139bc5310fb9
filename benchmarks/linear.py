"""Every linear method on Hessians of jammed soft spheres, and the policy's choice beside the best of them.

    python benchmarks/linear.py [--quick] [-o FILE.json]

Packings of soft spheres, U = sum (1 - r / sigma)^2 / 2, half of diameter 1 and half of 0.6, are minimised by SciPy's L-BFGS-B;
spheres without a cage of contacts are left out. A is the Hessian, with one null vector per axis (translations), given as entries
of a pattern and as products with pair blocks. A time is that of everything from the entries to the solutions: assembly,
factorisation, all right-hand sides, refinement and recomputed residuals; compiled programs are warm. Median of several runs. A
method that would take longer than its cap is left out.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize
from scipy.spatial import cKDTree

from implicit_cli import runtime

runtime.configure("cpu")

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402

from implicit_cli.core.linear import choose, prepare  # noqa: E402
from implicit_cli.core.linear.base import Operator  # noqa: E402
from implicit_cli.core.linear.policy import KRYLOV  # noqa: E402
from implicit_cli.core.linear.sparse import cholesky_installed  # noqa: E402

CASES = [(128, 2), (1024, 2), (8192, 2), (8192, 3)]
COLUMNS = [1, 16, 256]
METHODS = [
    "lu",
    "cholesky",
    "qr",
    "svd",
    "sparse_lu",
    "sparse_cholesky",
    "cg",
    "minres",
    "cg, products",
    "gmres",
    "bicgstab",
    "lsmr",
]
DENSE_MOST, SVD_MOST = 4096, 1024
CAP = 30.0
TARGET = 1.3
STEPS = 5000
PHI = {2: 0.98, 3: 0.80}


class Packing(NamedTuple):
    """Contacts i, j of n held particles with their blocks (contact, axis, axis)."""

    n: int
    axis: int
    i: np.ndarray
    j: np.ndarray
    blocks: np.ndarray


def packing(n: int, axis: int, seed: int = 0) -> Packing:
    rng = np.random.default_rng(seed)
    diameter = np.where(np.arange(n) < n // 2, 1.0, 0.6)
    volume = np.pi * np.sum(diameter**axis) / (4 if axis == 2 else 6)
    side = (volume / PHI[axis]) ** (1 / axis)
    skin = 0.15
    lists = {"at": None, "pairs": None}

    def contacts(x):
        if lists["at"] is None or np.abs(x - lists["at"]).max() > skin / (2 * np.sqrt(axis)):
            pairs = cKDTree(x % side, boxsize=side).query_pairs(1.0 + skin, output_type="ndarray")
            lists["at"], lists["pairs"] = x.copy(), (pairs[:, 0], pairs[:, 1])
        i, j = lists["pairs"]
        sigma = (diameter[i] + diameter[j]) / 2
        apart = x[i] - x[j]
        apart -= side * np.round(apart / side)
        r = np.sqrt(np.einsum("ca,ca->c", apart, apart))
        touching = r < sigma
        return i[touching], j[touching], apart[touching], r[touching], sigma[touching]

    def energy(flat):
        i, j, apart, r, sigma = contacts(flat.reshape(n, axis))
        overlap = 1 - r / sigma
        pull = (-overlap / sigma / r)[:, None] * apart
        gradient = np.stack([np.bincount(i, pull[:, a], n) - np.bincount(j, pull[:, a], n) for a in range(axis)], axis=1)
        return np.sum(overlap**2) / 2, gradient.ravel()

    x = rng.uniform(size=n * axis) * side
    x = minimize(
        energy, x, jac=True, method="L-BFGS-B", options={"maxcor": 20, "maxiter": 20_000, "maxfun": 40_000, "ftol": 0, "gtol": 1e-7}
    ).x
    i, j, apart, r, sigma = contacts(x.reshape(n, axis))
    held = np.ones(n, dtype=bool)
    while True:
        live = held[i] & held[j]
        still = held & (np.bincount(i[live], minlength=n) + np.bincount(j[live], minlength=n) > axis)
        if (still == held).all():
            break
        held = still
    name = np.cumsum(held) - 1
    i, j, apart, r, sigma = (part[live] for part in (i, j, apart, r, sigma))
    normal = apart / r[:, None]
    along = normal[:, :, None] * normal[:, None, :]
    force = (1 - r / sigma) / sigma
    blocks = along / (sigma**2)[:, None, None] - (force / r)[:, None, None] * (np.eye(axis) - along)
    return Packing(int(held.sum()), axis, name[i], name[j], blocks)


@jax.jit
def products(p, U):
    i, j, blocks, like = p
    n, axis = like.shape
    u = U.reshape(n, axis, -1)
    pull = jnp.einsum("cab,cbk->cak", blocks, u[i] - u[j])
    return jnp.zeros_like(u).at[i].add(pull).at[j].add(-pull).reshape(U.shape)


def system(packed: Packing):
    """The operator, its gauges, and the same operator without pattern."""
    i, j, blocks, axis, n = packed.i, packed.j, packed.blocks, packed.axis, packed.n
    a, b = (part.ravel() for part in np.meshgrid(np.arange(axis), np.arange(axis), indexing="ij"))
    pairs = [(i, i, 1.0), (j, j, 1.0), (i, j, -1.0), (j, i, -1.0)]
    rows = np.concatenate([(axis * left[:, None] + a).ravel() for left, _, _ in pairs])
    cols = np.concatenate([(axis * right[:, None] + b).ravel() for _, right, _ in pairs])
    flat = blocks.reshape(len(i), -1)
    signs = [sign for _, _, sign in pairs]
    p = (jnp.asarray(i), jnp.asarray(j), jnp.asarray(blocks), jnp.zeros((n, axis)))
    gauges = np.tile(np.eye(axis), (n, 1))
    operator = Operator(
        products,
        products,
        p,
        n * axis,
        symmetric=True,
        definite=True,
        pattern=(rows, cols),
        entries=lambda _: np.concatenate([sign * flat.ravel() for sign in signs]),
    )
    return operator, jnp.asarray(gauges)


def once(operator, gauges, plan, b):
    begun = time.perf_counter()
    solver = prepare(plan, operator, None, gauges)
    solved = solver.solve(b)
    jax.block_until_ready(solved.value)
    return time.perf_counter() - begun, solved


def measure(operator, gauges, plan, b, known):
    """Median seconds and the last solution; None where `known`, the time for fewer columns, says it would take too long."""
    if known is not None and known > CAP:
        return None, None
    first, solved = once(operator, gauges, plan, b)
    if first > CAP / 3:
        return first, solved
    times = []
    begun = time.perf_counter()
    while len(times) < 3 or (len(times) < 7 and time.perf_counter() - begun < 3.0):
        seconds, solved = once(operator, gauges, plan, b)
        times.append(seconds)
        if sum(times) > CAP / 3:
            break
    return float(np.median(times)), solved


def facts():
    names = ("jax", "jaxlib", "lineax", "scipy", "numpy", "cholespy")
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed" if not (name == "cholespy" and cholesky_installed()) else "installed"
    return {
        "cpus": os.cpu_count(),
        "load": os.getloadavg()[0],
        "machine": platform.machine(),
        "python": platform.python_version(),
        **found,
    }


def run_case(n, axis, methods):
    operator, gauges = system(packing(n, axis))
    d, rng = operator.d, np.random.default_rng(1)
    b_all = jnp.asarray(rng.normal(size=(d, max(COLUMNS))))
    seconds, errors = {}, {}
    reference = {}
    for method in methods:
        name = method.split(",")[0]
        if d > {"lu": DENSE_MOST, "cholesky": DENSE_MOST, "qr": DENSE_MOST, "svd": SVD_MOST}.get(name, d):
            continue
        if name == "sparse_cholesky" and not cholesky_installed():
            continue
        op = operator._replace(pattern=None, entries=None) if "products" in method else operator
        plan = choose(d, symmetric=True, definite=True, name=name, pattern=op.pattern, gauges=True, escalate=False, max_steps=STEPS)
        known, before = None, 1
        for k in COLUMNS:
            guess = None if known is None else known * (k / before if name in KRYLOV else 1)
            found, solved = measure(op, gauges, plan, b_all[:, :k], guess)
            if found is None:
                break
            known, before = found, k
            good = bool((solved.status == 0).all())
            seconds[method, k] = found if good else None
            value = np.asarray(solved.value[:, 0])
            reference.setdefault("u", value)
            errors[method] = float(np.linalg.norm(value - reference["u"]) / np.linalg.norm(reference["u"]))
            print(f"  d={d} {method:16s} k={k:4d} {found * 1e3:10.1f} ms {'' if good else 'FAILED ' + solved.method}", flush=True)
    rows = []
    for k in COLUMNS:
        picked = choose(d, symmetric=True, definite=True, pattern=operator.pattern, gauges=True, right_hand_sides=k)
        times = {method: seconds.get((method, k)) for method in methods}
        found = times.get(picked.method)  # the same measurement where the policy's choice is a method of the table
        if found is None:
            found, solved = measure(operator, gauges, picked, b_all[:, :k], None)
            found = times.get(solved.method) or found
        best = min((value, method) for method, value in times.items() if value is not None)
        rows.append(
            {
                "d": d,
                "axis": axis,
                "entries": len(set(zip(*map(np.ndarray.tolist, operator.pattern), strict=True))),
                "right_hand_sides": k,
                "seconds": times,
                "best": best[1],
                "policy": picked.method,
                "policy_seconds": found,
                "reason": picked.reason,
                "ratio": found / best[0],
                "difference": errors,
            }
        )
        said = f"policy {picked.method} {found * 1e3:.1f} ms, best {best[1]} {best[0] * 1e3:.1f} ms: {found / best[0]:.2f}"
        print(f"d={d} k={k}: {said}\n    {picked.reason}", flush=True)
    return rows


def table(rows, methods):
    head = f"{'d':>6} {'k':>4} " + " ".join(f"{method:>15}" for method in methods) + f" {'policy':>15} {'ratio':>6}"
    lines = [head]
    for row in rows:
        cells = [row["seconds"][method] for method in methods]
        shown = " ".join(f"{1e3 * cell:15.1f}" if cell is not None else f"{'-':>15}" for cell in cells)
        lines.append(f"{row['d']:6} {row['right_hand_sides']:4} {shown} {row['policy']:>15} {row['ratio']:6.2f}")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="the two small cases only")
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).parent / "results" / "linear.json")
    parser.add_argument("--methods", nargs="*", default=METHODS)
    parser.add_argument("--cases", nargs="*", type=int, default=None, help="numbers of cases to run")
    args = parser.parse_args()
    cases = CASES[:2] if args.quick else CASES if args.cases is None else [CASES[c] for c in args.cases]
    rows = [row for n, axis in cases for row in run_case(n, axis, args.methods)]
    print("milliseconds, median; -: not applicable, failed or beyond the cap")
    print(table(rows, args.methods))
    worst = max(row["ratio"] for row in rows)
    print(f"policy against the best: at most {worst:.2f} (target {TARGET})")
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps({"facts": facts(), "target": TARGET, "worst": worst, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
