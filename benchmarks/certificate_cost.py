"""What the certificate costs: its time over that of the solve and the derivatives, on warm programs, medians of several runs.

    python benchmarks/certificate_cost.py [--repeats 25]

Problems of the paper's sizes: ridge with 100 and 1000 penalties, logistic regression with 500 sample weights, a quadratic program
with 100 parameters, and the packing of 128 discs. Writes benchmarks/results/certificate_cost.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from implicit_cli import runtime

runtime.configure("cpu")

import jax.numpy as jnp  # noqa: E402

from implicit_cli import engine, plugins  # noqa: E402
from implicit_cli.core import kkt, stationary  # noqa: E402
from implicit_cli.problem import Data, Parameter, Problem, Unknown  # noqa: E402
from implicit_cli.spec import load_spec  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "certificate_cost.json"


class Logistic(Problem):
    """Logistic regression, each sample with a weight of its own."""

    weight = Parameter(shape=("sample",))
    X = Data(shape=("sample", "feature"))
    w = Unknown(shape=("feature",))

    def condition(self):
        def loss(x, theta, data):
            return jnp.mean(theta.weight * jnp.logaddexp(0.0, -(data.X @ x.w))) + 0.005 * (x.w @ x.w)

        return stationary(loss)


class Program(Problem):
    """min x'Qx/2 + c'x, E x = e, G x <= h, with parameters c, e and h."""

    c = Parameter(shape=("n",))
    e = Parameter(shape=("equality",))
    h = Parameter(shape=("inequality",))
    Q = Data(shape=("n", "n"))
    E = Data(shape=("equality", "n"))
    G = Data(shape=("inequality", "n"))
    x = Unknown(shape=("n",))
    nu = Unknown(shape=("equality",))
    lam = Unknown(shape=("inequality",))

    def condition(self):
        return kkt(
            lambda x, theta, data: x.x @ data.Q @ x.x / 2 + theta.c @ x.x,
            lambda x, theta, data: data.E @ x.x - theta.e,
            lambda x, theta, data: data.G @ x.x - theta.h,
        )


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--repeats", type=int, default=25)
    repeats = options.parse_args().repeats
    rows = []
    for name, vectors, plan in problems():
        for _ in range(2):  # compiles
            engine.run_case(vectors, plan, identity="0", seed=0)
        runs = [engine.run_case(vectors, plan, identity="0", seed=0) for _ in range(repeats)]
        seconds = {stage: statistics.median(run.seconds.get(stage, 0.0) for run in runs) for stage in runs[0].seconds}
        work = seconds["solve"] + seconds["differentiate"]
        ratios = [run.seconds["certify"] / (run.seconds["solve"] + run.seconds["differentiate"]) for run in runs]
        rows.append(
            {
                "problem": name,
                "status": runs[-1].status.label,
                **{stage: round(value, 5) for stage, value in seconds.items()},
                "ratio": round(statistics.median(ratios), 3),
            }
        )
        times = f"solve + derivatives {work * 1e3:8.1f} ms  certificate {seconds['certify'] * 1e3:8.1f} ms"
        print(f"{name:14} {times}  ratio {rows[-1]['ratio']}")
    RESULTS.write_text(json.dumps(rows, indent=1) + "\n")


def problems() -> Any:
    rng = np.random.default_rng(0)
    for d in (100, 1000):
        X = rng.normal(size=(2 * d, d))
        data = {"X": X, "y": X @ rng.normal(size=d) + rng.normal(size=2 * d), "X_validation": X[:50], "y_validation": np.ones(50)}
        cls = plugins.load("ridge", base=ROOT, allow_plugin=False, plugins=())
        yield f"ridge {d}", *bound(cls, data, {"penalty": rng.uniform(0.1, 1.0, d)}, "sensitivity: {of: [w]}\n")
    X = rng.normal(size=(500, 100))
    yield "logistic", *bound(Logistic, {"X": X}, {"weight": rng.uniform(0.5, 1.5, 500)})
    Q = rng.normal(size=(50, 50))
    E, G = rng.normal(size=(10, 50)), rng.normal(size=(40, 50))
    x = rng.normal(size=50)
    values = {"c": rng.normal(size=50), "e": E @ x, "h": G @ x + rng.uniform(0.0, 1.0, 40)}
    yield "program", *bound(Program, {"Q": Q @ Q.T / 50 + np.eye(50), "E": E, "G": G}, values, "sensitivity: {of: [x]}\n")
    loaded = load_spec(ROOT / "sample_inputs" / "packing.yaml")
    vectors = engine.Vectors(engine.bind(loaded, plugins.load("packing", base=ROOT, allow_plugin=False, plugins=())))
    yield "packing", vectors, engine.make_plan(loaded, vectors)


def bound(cls: type[Problem], data: dict[str, Any], parameters: dict[str, Any], text: str = "") -> tuple[Any, Any]:
    """Vectors and plan of a problem with these arrays."""
    import h5py

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        with h5py.File(path / "data.h5", "w") as file:
            for name, value in {**data, **parameters}.items():
                file[name] = value
        lines = ["problem: ridge", "data:", *(f"  {name}: data.h5:/{name}" for name in data)]
        lines += ["parameters:", *(f"  {name}: data.h5:/{name}" for name in parameters)]
        (path / "spec.yaml").write_text("\n".join(lines) + f"\n{text}")
        loaded = load_spec(path / "spec.yaml")
        vectors = engine.Vectors(engine.bind(loaded, cls))
        return vectors, engine.make_plan(loaded, vectors)


if __name__ == "__main__":
    main()
