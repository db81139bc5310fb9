"""Sobol indices with derivatives and without: how many solves does an accuracy take?

    python benchmarks/global_sensitivity.py [--seeds 5]

Three functions, each solved as an equation (sample_inputs/ishigami.yaml, sobol_g.yaml, borehole.yaml): `implicit analyze` by
polynomial chaos with derivatives on a Latin hypercube, beside SALib's estimator on Saltelli's design, both from results of
`implicit run`. The error is the largest of all first-order and total indices, against closed forms, for the borehole against
Gauss-Legendre quadrature with six nodes an input; medians over seeds of the design. Writes
benchmarks/results/global_sensitivity.json, of which docs/analyze.md tells.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "global_sensitivity.json"
CHAOS = {"ishigami": (32, 64, 128, 256), "sobol_g": (32, 64, 128, 256), "borehole": (16, 32, 64)}
SALTELLI = {"ishigami": (256, 1024, 4096), "sobol_g": (256, 1024, 4096), "borehole": (256, 1024, 4096)}
NODES = 6


def ishigami() -> tuple[np.ndarray, np.ndarray]:
    """First-order and total indices, for a = 7 and b = 0.1 (Ishigami and Homma 1990)."""
    a, b, pi = 7.0, 0.1, np.pi
    first, second, both = (1 + b * pi**4 / 5) ** 2 / 2, a**2 / 8, b**2 * pi**8 * (1 / 18 - 1 / 50)
    whole = first + second + both
    return np.array([first, second, 0.0]) / whole, np.array([first + both, second, both]) / whole


def sobol_g() -> tuple[np.ndarray, np.ndarray]:
    """The same of prod (|4 u_i - 2| + a_i) / (1 + a_i) (Saltelli and Sobol 1995)."""
    V = 1 / (3 * (1 + np.array([0, 1, 4.5, 9, 99, 99, 99, 99])) ** 2)
    whole = np.prod(1 + V) - 1
    return V / whole, V * np.prod(1 + V) / (1 + V) / whole


def borehole() -> tuple[np.ndarray, np.ndarray]:
    """The same by tensor quadrature: variances of conditional means."""
    low = np.array([0.05, 100, 63070, 990, 63.1, 700, 1120, 9855])
    high = np.array([0.15, 50000, 115600, 1110, 116, 820, 1680, 12045])
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    grids = np.meshgrid(*[(a + b) / 2 + (b - a) / 2 * nodes for a, b in zip(low, high, strict=True)], indexing="ij", sparse=True)
    rw, r, Tu, Hu, Tl, Hl, L, Kw = grids
    log = np.log(r / rw)
    y = 2 * np.pi * Tu * (Hu - Hl) / (log * (1 + 2 * L * Tu / (log * rw**2 * Kw) + Tu / Tl))
    w = weights / 2

    def mean(y: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
        for axis in sorted(axes, reverse=True):
            y = np.tensordot(y, w, axes=(axis, 0))
        return y

    n = len(low)
    whole = float(mean(y**2, tuple(range(n))) - mean(y, tuple(range(n))) ** 2)

    def share(kept: tuple[int, ...]) -> float:
        """Variance of E[y | kept]."""
        left = mean(y, tuple(i for i in range(n) if i not in kept))
        every = tuple(range(len(kept)))
        return float(mean(left**2, every) - mean(left, every) ** 2) / whole

    first = [share((i,)) for i in range(n)]
    total = [1 - share(others) for i in reversed(range(n)) for others in combinations(range(n), n - 1) if i not in others]
    return np.array(first), np.array(total)[::-1]


def measured(name: str, folder: Path, design: str, samples: int, seed: int, method: str) -> dict[str, Any]:
    """Solves, error and seconds of one design and its analysis."""
    from implicit_cli import api

    out = folder / "sweep.h5"
    overrides = [f"sweep.design={design}", f"sweep.samples={samples}", f"sweep.seed={seed}"]
    if method == "sobol":
        overrides.append("sensitivity.products=[]")
    begun = time.perf_counter()
    report = api.run(str(ROOT / "sample_inputs" / f"{name}.yaml"), out, overrides=overrides)
    solved = time.perf_counter() - begun
    found = api.analyze(out, [method])
    (table,) = found.findings
    first, total = TRUTH[name]
    columns = table.columns
    errors = [np.abs(columns["S1"].values - first), np.abs(columns["ST"].values - total)]
    inside = [(c.low <= truth) & (truth <= c.high) for c, truth in ((columns["S1"], first), (columns["ST"], total))]
    return {
        "solves": sum(report.counts.values()),
        "error": float(np.max(errors)),
        "inside": float(np.mean(inside)),
        "solving": solved,
        "analysis": found.seconds,
    }


TRUTH = {"ishigami": ishigami(), "sobol_g": sobol_g(), "borehole": borehole()}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--seeds", type=int, default=5)
    seeds = range(options.parse_args().seeds)
    sys.path.insert(0, str(ROOT))
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in TRUTH:
            found[name] = {}
            for method, design, sizes in (("chaos", "latin_hypercube", CHAOS[name]), ("sobol", "saltelli", SALTELLI[name])):
                for samples in sizes:
                    each = [measured(name, Path(folder), design, samples, seed, method) for seed in seeds]
                    row = {key: statistics.median(one[key] for one in each) for key in each[0]}
                    row["inside"] = statistics.mean(one["inside"] for one in each)
                    found[name].setdefault(method, []).append(row)
                    told = f"error {row['error']:.1e}   {100 * row['inside']:.0f} % within their intervals"
                    print(f"{name:10} {method:6} {row['solves']:7.0f} solves   {told}   {row['analysis']:.2f} s", flush=True)
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
