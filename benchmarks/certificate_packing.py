"""The certificate on packings of 128 soft discs: bound over true error, for FIRE stopped early and at full convergence.

    python benchmarks/certificate_packing.py [--seeds 40]

The truth is the same packing polished by Newton steps; errors near its own rounding are counted apart. Components without a
derivative (rattlers) are left out. Writes benchmarks/results/certificate_packing.json.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from implicit_cli import runtime

runtime.configure("cpu")

from implicit_cli import engine, plugins  # noqa: E402
from implicit_cli.spec import load_spec  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "certificate_packing.json"
LEVELS = (1e-5, 1e-6, 1e-7, 1e-8, 1e-10)
"""Largest force at which FIRE is stopped."""
TRUTH = 1e-12
"""Relative rounding of the polished packing's derivatives."""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--seeds", type=int, default=40)
    seeds = options.parse_args().seeds
    loaded = load_spec(ROOT / "sample_inputs" / "packing.yaml", ["sensitivity.accuracy=1.0"])
    vectors = engine.Vectors(engine.bind(loaded, plugins.load("packing", base=ROOT, allow_plugin=False, plugins=())))
    plan = engine.make_plan(loaded, vectors)
    found: dict[float, dict[str, list[float]]] = {tol: {"effectivity": [], "status": [], "rounding": []} for tol in LEVELS}
    for seed in range(seeds):
        exact = engine.run_case(vectors, plan, identity="0", seed=seed)
        truth = {(p.kind, p.name, p.of, p.wrt): p.value for p in exact.products}
        for tol in LEVELS:
            case = engine.run_case(vectors, replace(plan, tol=tol, polish=False), identity="0", seed=seed)
            found[tol]["status"].append(case.status.label)
            if not case.status.good:
                continue
            for product in case.products:
                true = truth[product.kind, product.name, product.of, product.wrt]
                error = float(np.linalg.norm(np.nan_to_num(product.value - true)))
                if error > TRUTH * float(np.linalg.norm(np.nan_to_num(true))):
                    found[tol]["effectivity"].append(float(np.max(product.bound.total)) / error)
                else:
                    found[tol]["rounding"].append(error)
    rows = []
    for tol, values in found.items():
        ratios = np.asarray(values["effectivity"])
        row = {
            "largest force": tol,
            "certified": sum(status in ("ok", "partial") for status in values["status"]),
            "kink": values["status"].count("nondifferentiable"),
            "no certificate": values["status"].count("no_certificate"),
            "numbers": len(ratios),
            "at rounding": len(values["rounding"]),
            "below 1": int((ratios < 1).sum()),
        }
        if len(ratios):
            least, median, high, most = np.quantile(ratios, [0, 0.5, 0.95, 1])
            row |= {"least": least, "median": median, "95 %": high, "largest": most}
        rows.append(row)
        print({key: f"{value:.3g}" for key, value in row.items()})
    RESULTS.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
