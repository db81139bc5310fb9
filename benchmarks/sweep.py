"""What a case of a sweep costs, solved, differentiated and certified: one by one, many at once, from neighbours; and all around it.

    python benchmarks/sweep.py [--points 1000] [--cases 20000]

Four problems with 1,000 points each: logistic regression (50 unknowns), ridge (100), packings of 32 discs, quadratic programs (50).
For logistic regression two loops written by hand in JAX stand beside: each point from zero in one compiled call, and 8 chains in
one call that start from the neighbour's solution and its tangent; they solve and differentiate, and certify nothing. Then whole
commands: what start-up and writing take, what two processes bring, and how large a file is. Writes benchmarks/results/sweep.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from implicit_cli import runtime

runtime.configure("cpu")

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402

from implicit_cli import engine, plugins, store  # noqa: E402
from implicit_cli.spec import load_spec  # noqa: E402

RESULTS = Path(__file__).resolve().parent / "results" / "sweep.json"
LOGISTIC = '''\
"""Logistic regression with a ridge."""

import jax.numpy as jnp

from implicit_cli.core import stationary
from implicit_cli.problem import Data, Parameter, Problem, Unknown


class Logistic(Problem):
    """mean log(1 + exp(-y X w)) + penalty |w|^2 / 2."""

    penalty = Parameter(transform="log")
    X = Data(shape=("sample", "feature"))
    w = Unknown(shape=("feature",))

    def condition(self):
        def loss(x, theta, data):
            return jnp.mean(jnp.logaddexp(0.0, -(data.X @ x.w))) + theta.penalty * (x.w @ x.w) / 2

        return stationary(loss)


class Program(Problem):
    """min x'Qx/2 + t c'x, G x <= h."""

    t = Parameter()
    Q = Data(shape=("n", "n"))
    c = Data(shape=("n",))
    G = Data(shape=("inequality", "n"))
    h = Data(shape=("inequality",))
    x = Unknown(shape=("n",))
    lam = Unknown(shape=("inequality",))

    def condition(self):
        from implicit_cli.core import kkt

        return kkt(
            lambda x, theta, data: x.x @ data.Q @ x.x / 2 + theta.t * data.c @ x.x,
            inequality=lambda x, theta, data: data.G @ x.x - data.h,
        )
'''
SPECS = {
    "logistic 50": "problem: ./problems.py:Logistic\ndata: {{X: data.h5:/X}}\nsensitivity: {{of: [w]}}\n"
    "sweep: {{over: {{penalty: {{geomspace: [1.0e-3, 10.0, {points}]}}}}}}\n",
    "ridge 100": "problem: ridge\ndata: {{X: data.h5:/R, y: data.h5:/y, X_validation: data.h5:/R, y_validation: data.h5:/y}}\n"
    "transforms: {{penalty: log}}\nsensitivity: {{of: [w]}}\n"
    "sweep: {{over: {{penalty: {{geomspace: [1.0e-3, 10.0, {points}]}}}}}}\n",
    "packing 32": "problem: packing\noptions: {{particle: 32}}\nparameters: {{diameter: 0.6}}\nsolver: {{name: fire, tol: 1e-8}}\n"
    "sensitivity: {{of: [position, energy]}}\nsweep: {{over: {{phi: {{linspace: [0.95, 1.0, {points}]}}}}}}\n",
    "program 50": "problem: ./problems.py:Program\ndata: {{Q: data.h5:/Q, c: data.h5:/c, G: data.h5:/G, h: data.h5:/h}}\n"
    "sensitivity: {{of: [x]}}\nsweep: {{over: {{t: {{linspace: [0.5, 2.0, {points}]}}}}}}\n",
}
ALONE = 60
"""Cases that are timed one by one."""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--points", type=int, default=1000)
    options.add_argument("--cases", type=int, default=20000, help="cases of the whole commands, and of the file")
    asked = options.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder)
        rows = [points_of(folder, problem, asked.points) for problem in SPECS]
        found = {"points": rows, "by hand": by_hand(folder, asked.points), "command": commands(folder, asked.cases)}
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")


def write(folder: Path) -> None:
    """The data and the problems."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(500, 50))
    labels = np.sign(X @ rng.normal(size=50) + rng.normal(size=500))
    R = rng.normal(size=(200, 100))
    Q = rng.normal(size=(50, 50))
    G = rng.normal(size=(20, 50))
    arrays = {"X": X * labels[:, None], "R": R, "y": R @ rng.normal(size=100) + rng.normal(size=200)}
    arrays |= {"Q": Q @ Q.T / 50 + np.eye(50), "c": rng.normal(size=50), "G": G, "h": rng.uniform(0.1, 1.0, 20)}
    with h5py.File(folder / "data.h5", "w") as file:
        for name, value in arrays.items():
            file[name] = value
    (folder / "problems.py").write_text(LOGISTIC)


def points_of(folder: Path, problem: str, points: int) -> dict[str, Any]:
    """Milliseconds of a point: one by one, many at once where that can be, and from neighbours; all certified."""
    path = folder / "spec.yaml"
    path.write_text(SPECS[problem].format(points=points))
    row: dict[str, Any] = {"problem": problem}
    statuses: Counter[str] = Counter()
    for start in ("cold", "neighbour"):
        loaded = load_spec(path, [f"sweep.start={start}"])
        cls = plugins.load(loaded.model.problem, base=folder, allow_plugin=True, plugins=())
        cases = engine.Cases(loaded, cls)
        plan = engine.make_plan(loaded, cases.vectors)
        width = cases.at_once(plan)
        if start == "cold":
            row["one by one"] = alone(cases, plan)
            row["at once"] = width
        if width > 1 or start == "neighbour":
            count = points if width > 1 else min(points, 4 * ALONE)
            row[start] = timed(lambda: list(engine.run_cases(cases, plan, range(count))), statuses) / count * 1e3  # noqa: B023
    row["statuses"] = dict(statuses)
    best = min(value for key, value in row.items() if key in ("cold", "neighbour", "one by one"))
    row["gain"] = round(row["one by one"] / best, 1)
    times = ", ".join(f"{key} {row[key]:.2f} ms" for key in ("one by one", "cold", "neighbour") if key in row)
    print(f"{problem:12} {times}; {row['gain']} times quicker; {row['statuses']}", flush=True)
    return row


def alone(cases: Any, plan: Any) -> float:
    """Median milliseconds of a case by itself, from its own guess, compiled."""
    spent = []
    for index in np.linspace(0, cases.count - 1, ALONE).astype(int):
        case = cases.at(int(index))
        vectors = cases.vectors.moved(case.bound)
        begun = time.perf_counter()
        engine.run_case(vectors, plan, identity=case.id, seed=case.seed)
        spent.append(time.perf_counter() - begun)
    return statistics.median(spent[2:]) * 1e3


def timed(compute: Callable[[], list[Any]], statuses: Counter[str]) -> float:
    """Seconds of a call, the second time, when all is compiled."""
    compute()
    begun = time.perf_counter()
    results = compute()
    statuses.update(result.status.label for result in results)
    return time.perf_counter() - begun


def by_hand(folder: Path, points: int) -> dict[str, float]:
    """Milliseconds of a point of the logistic regression, solved and differentiated by Newton's method in JAX, not certified."""
    with h5py.File(folder / "data.h5") as file:
        X = jnp.asarray(file["X"][()])

    def gradient(w: Any, s: Any) -> Any:
        return -X.T @ jax.nn.sigmoid(-(X @ w)) / len(X) + jnp.exp(s) * w

    hessian = jax.jacfwd(gradient)

    def solve(w: Any, s: Any) -> Any:
        def further(carry: Any) -> Any:
            w, g, count = carry
            w = w - jnp.linalg.solve(hessian(w, s), g)
            return w, gradient(w, s), count + 1

        w, _, _ = jax.lax.while_loop(lambda c: (jnp.abs(c[1]).max() > 1e-10) & (c[2] < 50), further, (w, gradient(w, s), 0))
        return w, -jnp.linalg.solve(hessian(w, s), jnp.exp(s) * w)

    s = np.linspace(np.log(1e-3), np.log(10.0), points)
    cold = jax.jit(solve)

    def chain(s: Any) -> Any:
        def further(carry: Any, s: Any) -> Any:
            w, J, before = carry
            w, J = solve(w + J * (s - before), s)
            return (w, J, s), (w, J)

        zero = jnp.zeros(X.shape[1])
        return jax.lax.scan(further, (zero, zero, s[0]), s)[1]

    chains = jax.jit(jax.vmap(chain))
    many = s[: points // 8 * 8].reshape(8, -1)
    single = jax.jit(chain)
    found = {
        "each from zero": repeated(lambda: [cold(jnp.zeros(X.shape[1]), one) for one in s]) / points * 1e3,
        "one chain": repeated(lambda: single(s)) / points * 1e3,
        "8 chains": repeated(lambda: chains(many)) / many.size * 1e3,
    }
    print("by hand     ", ", ".join(f"{name} {value:.3f} ms" for name, value in found.items()), flush=True)
    return found


def repeated(call: Callable[[], Any]) -> float:
    """Median seconds of some calls."""
    spent = []
    for _ in range(6):
        begun = time.perf_counter()
        jax.block_until_ready(call())
        spent.append(time.perf_counter() - begun)
    return statistics.median(spent[1:])


def commands(folder: Path, cases: int) -> dict[str, Any]:
    """Seconds of whole commands for many cases of the logistic regression, and the size of the file."""
    (folder / "spec.yaml").write_text(SPECS["logistic 50"].format(points=cases))
    found: dict[str, Any] = {"cases": cases}
    for name, words in (("one process", ()), ("one worker", ("--jobs", "1")), ("two workers", ("--jobs", "2"))):
        command = [sys.executable, "-m", "implicit_cli", "run", "spec.yaml", "-o", f"{name}.h5", "--allow-plugin", *words]
        for short in (True, False):  # the first compiles, for the cache
            given = ["--set", "sweep.over.penalty.geomspace=[1e-3,10,64]"] if short else []
            (folder / f"{name}.h5").unlink(missing_ok=True)
            begun = time.perf_counter()
            subprocess.run([*command, "-q", *given], cwd=folder, check=True, env=os.environ)
            found[f"{name}, 64 cases" if short else name] = round(time.perf_counter() - begun, 2)
    with h5py.File(folder / "one process.h5") as file:
        computing = float(np.nansum(file["cases/seconds/batch"][()]))
        raw = sum(node.nbytes for node in nodes(file))
    beyond = {name: found[name] - found[f"{name}, 64 cases"] for name in ("one worker", "two workers")}
    begun = time.perf_counter()
    again = folder / "again.h5"
    store.merge([folder / "one process.h5"], again)
    found |= {
        "computing": round(computing, 2),
        "around it": round(1 - computing / found["one process"], 3),
        "two against one": round(beyond["one worker"] / beyond["two workers"], 2),
        "writing": round(time.perf_counter() - begun, 2),
        "file over raw": round(again.stat().st_size / raw, 2),
    }
    print(json.dumps(found, indent=1), flush=True)
    return found


def nodes(file: h5py.File) -> list[Any]:
    """All arrays of numbers of a file."""
    found: list[Any] = []
    file.visititems(lambda _, node: found.append(node) if isinstance(node, h5py.Dataset) and node.dtype.kind in "fiu" else None)
    return found


if __name__ == "__main__":
    main()
