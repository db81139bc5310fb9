"""Dataset distillation (Blondel et al. 2022, section 4.2): a hypergradient by implicit differentiation, and by unrolling.

    python benchmarks/distillation.py [--repeats 3]

Ten images, one for each digit, such that a classifier trained on them alone does well on 1,437 others: the digits of
`sample_inputs/digits.h5`, 8 x 8, and the same scaled up to 28 x 28, as MNIST has. A hypergradient is the derivative of the loss
on the real images by all pixels of the ten. Ours solves, differentiates and certifies; the peer is JAXopt's gradient descent with
backtracking, as in the paper, differentiated through its steps (`unrolled`), or implicitly (`jaxopt`), after few steps and after so
many that they change nothing any more. Each has a process of its own. Then `implicit optimize` runs to its end. Writes
benchmarks/results/distillation.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from bilevel import measured, objective_of
from scipy.ndimage import zoom

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "distillation.json"
SIZES = (8, 28)
PENALTY, STEPS = 1e-3, 500
"""The paper's penalty, and steps of the peers' inner gradient descent."""
WAYS = {
    "ours": (0, 0.0),
    "jaxopt": (STEPS, 1e-5),
    "jaxopt to the end": (40 * STEPS, 1e-10),
    "unrolled": (STEPS, 0.0),
    "unrolled to the end": (10 * STEPS, 0.0),
}
"""Steps and tolerance: few, and as many as bring a peer's answer near to ours."""
CLASSES = 10


def make_data(folder: Path, size: int) -> Path:
    """The digits at size x size pixels, and a start: the mean image of each class."""
    path = folder / f"digits_{size}.h5"
    with h5py.File(ROOT / "sample_inputs" / "digits.h5") as known, h5py.File(path, "w") as file:
        for name in ("X", "X_validation"):
            images = known[name][()].reshape(-1, 8, 8)
            file[name] = zoom(images, (1, size / 8, size / 8), order=1).reshape(len(images), -1)
        for name in ("y", "y_validation"):
            file[name] = known[name][()]
        X, y = file["X"][()], file["y"][()]
        file["start"] = np.array([X[y == c].mean(axis=0) for c in range(CLASSES)])
    return path


def spec(data: Path) -> str:
    names = ", ".join(f"{name}: '{data.name}:/{name}'" for name in ("X", "y", "X_validation", "y_validation"))
    return (
        f"problem: distillation\ndata: {{{names}}}\nparameters: {{image: '{data.name}:/start', penalty: {PENALTY}}}\n"
        "sensitivity: {of: [loss], wrt: [image]}\n"
        "outer: {objective: loss, parameters: [image], validation: validation_loss, patience: 5}\n"
    )


def ours(data: Path) -> Callable[[], tuple[float, float]]:
    objective = objective_of("distillation", spec(data), data.parent)
    with h5py.File(data) as file:
        start = np.ravel(file["start"][()])

    def call() -> tuple[float, float]:
        found = objective(start, None, None).evaluation
        assert found.good, found.message
        np.save(file_of(data, "ours"), found.gradient)
        return found.objective, float(np.linalg.norm(found.gradient))

    return call


def file_of(data: Path, way: str) -> Path:
    """Where a way's hypergradient is kept."""
    return data.with_suffix(f".{way.replace(' ', '_')}.npy")


def peer(data: Path, way: str) -> Callable[[], tuple[float, float]]:
    import jax

    jax.config.update("jax_enable_x64", True)
    import jax.numpy as jnp
    import jaxopt

    with h5py.File(data) as file:
        X, y, start = (jnp.asarray(file[name][()]) for name in ("X", "y", "start"))

    def cross_entropy(W: Any, X: Any, y: Any) -> Any:
        scores = X @ W.T
        return jnp.mean(jax.nn.logsumexp(scores, axis=1) - jnp.take_along_axis(scores, y[:, None], axis=1)[:, 0])

    def inner(W: Any, image: Any) -> Any:
        return cross_entropy(W, image, jnp.arange(CLASSES)) + PENALTY / 2 * jnp.sum(W**2)

    implicit, (steps, tol) = way.startswith("jaxopt"), WAYS[way]
    method = jaxopt.GradientDescent(inner, maxiter=steps, tol=tol, acceleration=False, implicit_diff=implicit, unroll=not implicit)

    def loss(image: Any, X: Any, y: Any) -> Any:
        return cross_entropy(method.run(jnp.zeros_like(image), image).params, X, y)

    both = jax.jit(jax.value_and_grad(loss))

    def call() -> tuple[float, float]:
        value, gradient = both(start, X, y)
        np.save(file_of(data, way), np.ravel(gradient))
        return float(value), float(jnp.linalg.norm(gradient))

    return call


def search(data: Path) -> dict[str, Any]:
    """`implicit optimize` to its end."""
    path, out = data.with_suffix(".yaml"), data.with_suffix(".out.h5")
    path.write_text(spec(data))
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-m", "implicit_cli", "optimize", str(path), "-o", str(out), "-q"], check=True)
    seconds = time.perf_counter() - begun
    with h5py.File(out) as file, h5py.File(data) as given:
        loss, W = file["outer/objective"][()], file["solution/W"][0]
        right = np.mean(np.argmax(given["X_validation"][()] @ W.T, axis=1) == given["y_validation"][()])
        return {"seconds": seconds, "evaluations": len(loss), "first": loss[0], "last": loss.min(), "accuracy": float(right)}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--repeats", type=int, default=3)
    options.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.child:
        data, way = Path(given.child[0]), given.child[1]
        print(json.dumps(measured(ours(data) if way == "ours" else peer(data, way), given.repeats)))
        return
    stored = {}
    with tempfile.TemporaryDirectory() as folder:
        for size in SIZES:
            data = make_data(Path(folder), size)
            table: dict[str, Any] = {}
            for way in WAYS:
                command = [sys.executable, __file__, "--child", str(data), way, "--repeats", str(given.repeats)]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                table[way] = json.loads(done.stdout.splitlines()[-1])
                truth, found = (np.load(file_of(data, who)) for who in ("ours", way))
                table[way]["error"] = float(np.linalg.norm(found - truth) / np.linalg.norm(truth))
                told = {key: table[way][key] for key in ("seconds", "memory", "error", "value")}
                print(f"{size} x {size} {way:19}", told, flush=True)
            table["search"] = search(data)
            print(f"{size} x {size} {'search':19}", table["search"], flush=True)
            stored[str(size)] = table
    RESULTS.write_text(json.dumps(stored, indent=1) + "\n")


if __name__ == "__main__":
    main()
