"""Hypergradients of the multiclass SVM (Blondel et al. 2022, section 4.1) beside unrolling and JAXopt: time, memory, error.

    python benchmarks/bilevel.py [--features 100 1000 10000] [--repeats 3] [--search]

700 samples for training, 200 held out, 5 classes. One hypergradient is d(validation loss)/d(log penalty) from a cold start: the
inner problem is solved, and differentiated. Peers take the paper's numbers of steps. Each measurement runs in a process of its own:
the first call compiles, the median of the others is the time, and the memory is the largest growth of the process during a warm
call. With --search `implicit optimize`, and nothing else. Writes benchmarks/results/bilevel.json, of which
docs/explanation/bilevel.md tells.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "bilevel.json"
SAMPLES, HELD_OUT, CLASSES = 700, 200, 5
PENALTY = 1.0
STEPS = {"projected_gradient": 2500, "mirror_descent": 2500, "block_coordinate_descent": 500}
"""Steps of each solver in the paper's experiment."""
MAPPINGS = {"projected_gradient": "projected_gradient", "mirror_descent": "mirror_descent", "block_coordinate_descent": "block"}
"""The fixed point of problem `svm` that belongs to a solver."""
STEPS_ASIDE = (1e-6, 2e-6, 4e-6)
"""Steps of differences in log penalty."""
MOST_MEMORY = 14 * 2**30
"""What is expected to take more is not run."""


def make_data(folder: Path, features: int) -> Path:
    """Clusters around a centre for each class, so far apart that the noise leaves room for errors."""
    rng = np.random.default_rng(700)
    centre = rng.normal(size=(CLASSES, features))
    label = rng.integers(0, CLASSES, SAMPLES + HELD_OUT)
    noise = rng.normal(size=(len(label), features)) * 0.7 * features**0.25
    X = centre[label] * 0.7 + noise
    X /= (5 * np.mean(np.sum(X**2, axis=1))) ** 0.5  # then some samples are inside of their simplex at a penalty of 1, and some not
    path = folder / f"svm_{features}.h5"
    with h5py.File(path, "w") as file:
        file["X"], file["y"] = X[:SAMPLES], label[:SAMPLES]
        file["X_validation"], file["y_validation"] = X[SAMPLES:], label[SAMPLES:]
    return path


def spec(data: Path, solver: str, more: str = "") -> str:
    """The problem in the words of the tool."""
    names = ", ".join(f"{name}: '{data.name}:/{name}'" for name in ("X", "y", "X_validation", "y_validation"))
    return (
        f"problem: svm\noptions: {{classes: {CLASSES}, mapping: {MAPPINGS[solver]}}}\ndata: {{{names}}}\n"
        f"parameters: {{penalty: {PENALTY}}}\ntransforms: {{penalty: log}}\n"
        f"outer: {{objective: validation_loss{more}}}\n"
    )


# One measurement, in a process of its own


def measured(call: Callable[[], tuple[float, float]], repeats: int) -> dict[str, Any]:
    """Value, hypergradient, seconds of a warm call, and how far the process grows during it."""
    begun = time.perf_counter()
    call()
    first, seconds, growth = time.perf_counter() - begun, [], []
    for _ in range(repeats):
        with Watch() as watch:
            begun = time.perf_counter()
            value, slope = call()
            seconds.append(time.perf_counter() - begun)
        growth.append(watch.most)
    return {"value": value, "slope": slope, "seconds": statistics.median(seconds), "first": first, "memory": max(growth)}


class Watch:
    """The largest resident size of this process above that at the start."""

    def __enter__(self) -> Watch:
        ctypes.CDLL(None).malloc_trim(0)  # what an earlier call has left to the allocator is not there to be taken again
        self.before, self.most, self._over = self._resident(), 0, threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(0.005):
            self.most = max(self.most, self._resident() - self.before)

    @staticmethod
    def _resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def objective_of(problem: str, text: str, folder: Path) -> Any:
    """The objective of a spec as `implicit optimize` evaluates it, for a process that does nothing else."""
    from implicit_cli import engine, plugins, runtime
    from implicit_cli.spec import spec_of

    runtime.configure("cpu")
    from implicit_cli.engine.outer import Objective

    os.chdir(folder)
    loaded = spec_of(text, problem)
    return Objective(loaded, engine.Vectors(engine.bind(loaded, plugins.load(problem, base=folder))))


def ours(data: Path, solver: str) -> Callable[[], tuple[float, float]]:
    """Our hypergradient: solved to the default accuracy, differentiated by one adjoint solve, and certified."""
    objective = objective_of("svm", spec(data, solver), data.parent)

    def call() -> tuple[float, float]:
        found = objective(np.log([PENALTY]), None, None).evaluation
        assert found.good, found.message
        return found.objective, float(found.gradient[0])

    return call


def peer(data: Path, solver: str, way: str) -> Callable[[], tuple[float, float]]:
    """JAXopt's hypergradient after the paper's steps: implicit, or unrolled in reverse or forward mode.

    `tight` is implicit with tolerances, of the solver and of the adjoint equation, that give it about our digits.
    """
    import jax

    jax.config.update("jax_enable_x64", True)
    import jax.numpy as jnp
    import jaxopt

    with h5py.File(data) as file:
        X, X_v = jnp.asarray(file["X"][()]), jnp.asarray(file["X_validation"][()])
        Y, Y_v = (jax.nn.one_hot(file[name][()], CLASSES, dtype=X.dtype) for name in ("y", "y_validation"))

    def dual(x: Any, penalty: Any, data: Any) -> Any:
        X, Y = data
        return jnp.sum((X.T @ (Y - x)) ** 2) / (2 * penalty) + jnp.vdot(x, Y)

    def simplex(x: Any, *_: Any) -> Any:
        return jax.vmap(jaxopt.projection.projection_simplex)(x)

    def relative_entropy(x: Any, g: Any, eta: Any, _: Any) -> Any:
        return jax.nn.softmax(jnp.log(x) - eta * g, axis=1)

    # unrolled runs take all steps, and so do those of the paper
    steps, tol = {"implicit": (STEPS[solver], 1e-9), "tight": (100 * STEPS[solver], 1e-12)}.get(way, (STEPS[solver], 0.0))
    options: dict[str, Any] = {"maxiter": steps, "tol": tol, "implicit_diff": tol > 0, "jit": True, "unroll": way == "reverse"}
    if way == "tight":
        options["implicit_diff_solve"] = partial(jaxopt.linear_solve.solve_normal_cg, tol=1e-12, maxiter=10_000)
    eta = PENALTY / float(np.linalg.norm(np.asarray(X), 2) ** 2)
    start = jnp.full((SAMPLES, CLASSES), 1 / CLASSES)
    match solver:
        case "projected_gradient":
            method = jaxopt.ProjectedGradient(dual, simplex, stepsize=eta, **options)
        case "mirror_descent":
            method = jaxopt.MirrorDescent(dual, relative_entropy, stepsize=eta, **options)
        case _:
            rows = jaxopt.projection.projection_simplex
            method = jaxopt.BlockCoordinateDescent(
                jaxopt.objective.multiclass_linear_svm_dual, lambda row, *_: rows(row), **options
            )

    def loss(log_penalty: Any, data: Any, held_out: Any) -> Any:
        (X, Y), (X_v, Y_v) = data, held_out
        penalty = jnp.exp(log_penalty)
        W = X.T @ (Y - method.run(start, None, penalty, data).params) / penalty
        return jnp.sum((X_v @ W - Y_v) ** 2) / 2

    if way == "forward":
        both = jax.jit(lambda t, *data: jax.jvp(lambda t: loss(t, *data), (t,), (jnp.ones(()),)))
    else:
        both = jax.jit(jax.value_and_grad(loss))
    arguments = (jnp.log(jnp.asarray(PENALTY)), (X, Y), (X_v, Y_v))
    if way == "reverse":
        needed = both.lower(*arguments).compile().memory_analysis().temp_size_in_bytes
        if needed > MOST_MEMORY:
            raise MemoryError(needed)

    def call() -> tuple[float, float]:
        value, slope = both(*arguments)
        return float(value), float(slope)

    return call


def child(data: Path, solver: str, way: str, repeats: int) -> None:
    """Print one measurement as JSON."""
    try:
        call = ours(data, solver) if way == "ours" else peer(data, solver, way)
    except MemoryError as error:
        print(json.dumps({"needs": error.args[0]}))
        return
    print(json.dumps(measured(call, repeats)))


# All of them


def measure(data: Path, solver: str, way: str, repeats: int, limit: float) -> dict[str, Any]:
    command = [sys.executable, __file__, "--child", str(data), solver, way, "--repeats", str(repeats)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        return {"failed": f"not done after {limit:g} s"}
    if done.returncode:
        told = [line for line in done.stderr.splitlines() if re.match(r"[\w.]*(Error|Exception)\b", line)]
        return {"failed": told[-1] if told else "killed"}
    return json.loads(done.stdout.splitlines()[-1])


def differences(data: Path) -> tuple[float, float]:
    """The hypergradient by differences of solutions to one side, extrapolated, and how far two extrapolations are apart.

    Where there are many features the next kink may be a millionth away: to one side of it at least, differences agree.
    """
    value = {h: _loss_at(data, h) for h in (0.0, *STEPS_ASIDE, *(-h for h in STEPS_ASIDE))}
    found = []
    for side in (1.0, -1.0):
        D = [(value[side * h] - value[0.0]) / (side * h) for h in STEPS_ASIDE]
        short, long = 2 * D[0] - D[1], 2 * D[1] - D[2]
        found.append((short, abs(short - long)))
    return min(found, key=lambda pair: pair[1])


def _loss_at(data: Path, h: float) -> float:
    """The loss with the penalty's logarithm moved by h."""
    out = data.parent / "difference.h5"
    out.unlink(missing_ok=True)
    text = spec(data, "projected_gradient").replace(f"penalty: {PENALTY}", f"penalty: {PENALTY * float(np.exp(h))!r}")
    command = [sys.executable, "-m", "implicit_cli", "run", "-", "-o", str(out), "-q", "--set", "sensitivity.products=[]"]
    subprocess.run([*command, "--set", "solver.tol=1e-12"], input=text, text=True, check=True, cwd=data.parent)
    with h5py.File(out) as file:
        return float(file["outputs/validation_loss"][0])


def search(data: Path) -> dict[str, Any]:
    """`implicit optimize` with 150 steps of gradient descent, as the paper takes, and with its default method."""
    found = {}
    for name, more in (("gradient_descent", ", method: gradient_descent, step: 5e-3, max_steps: 150"), ("lbfgs", "")):
        path, out = data.parent / "svm.yaml", data.parent / f"{name}.h5"
        out.unlink(missing_ok=True)
        path.write_text(spec(data, "projected_gradient", more))
        begun = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "implicit_cli", "optimize", str(path), "-o", str(out), "-q"], capture_output=True, text=True
        )
        seconds = time.perf_counter() - begun
        if not out.exists():
            raise RuntimeError(done.stderr)
        with h5py.File(out) as file:
            outer = file["outer"]
            objective = outer["objective"][()]
            found[name] = {
                "seconds": seconds,
                "evaluations": len(objective),
                "first": float(objective[0]),
                "last": float(objective[outer["result"][()]]),
                "penalty": float(file["cases/parameters/penalty"][0]),
                "inner_seconds": float(np.median(outer["seconds"][()])),
                "exit": done.returncode,
            }
    return found


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--features", type=int, nargs="+", default=[100, 1000, 10000])
    options.add_argument("--repeats", type=int, default=3)
    options.add_argument("--search", action="store_true", help="run implicit optimize with 150 outer steps, and nothing else")
    options.add_argument("--limit", type=float, default=900.0, help="seconds after which a measurement is given up")
    options.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.child:
        child(Path(given.child[0]), *given.child[1:], given.repeats)
        return
    stored = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        for features in given.features:
            data = make_data(Path(folder), features)
            table: dict[str, Any] = stored.setdefault(str(features), {})
            if given.search:
                table["search"] = search(data)
                print(f"{features} features, search: {table['search']}", flush=True)
                RESULTS.write_text(json.dumps(stored, indent=1) + "\n")
                continue
            truth, doubt = differences(data)
            table |= {"differences": truth, "doubt": doubt}
            print(f"\n{features} features: {truth:.8f} by differences, good to {doubt:.0e}", flush=True)
            for solver in STEPS:
                for way in ("ours", "implicit", "tight", "forward", "reverse"):
                    found = measure(data, solver, way, given.repeats, given.limit)
                    table[f"{solver} {way}"] = found
                    print(f"  {solver:26} {way:9} {told(found, truth)}", flush=True)
            RESULTS.write_text(json.dumps(stored, indent=1) + "\n")


def told(found: dict[str, Any], truth: float) -> str:
    """A measurement in words."""
    if "needs" in found:
        return f"needs {found['needs'] / 2**30:.1f} GiB: not run"
    if "failed" in found:
        return found["failed"]
    error = abs(found["slope"] - truth) / abs(truth)
    return (
        f"{found['seconds']:9.3f} s   {found['memory'] / 2**20:9.1f} MiB   hypergradient {found['slope']:.8f}, off by {error:.1e}"
    )


if __name__ == "__main__":
    main()
