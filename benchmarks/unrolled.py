"""`method: implicit` and `method: unrolled` on the tasks of Blondel et al. (2022): time, memory and error, in one table.

    python benchmarks/unrolled.py

The same spec twice, with the same solver and its tolerance: the multiclass SVM with its three fixed points (wine), dataset
distillation (digits), task-driven dictionary learning (breast cancer), ridge regression (diabetes), and a packing, whose list of
neighbours forbids unrolling. Each run is a process of its own, the second of two, with compiled programs on disk. Seconds are those
of the case as a user has them, with JAX's tracing: solve, differentiate, certify. Memory is the largest of the process, above that
of one which only imports. Error is the relative distance from the derivative at a solution to 1e-12. Writes
benchmarks/results/unrolled.json.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import distillation
import h5py
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
SAMPLES, RESULTS = ROOT / "sample_inputs", ROOT / "benchmarks" / "results" / "unrolled.json"


class Task(NamedTuple):
    """A spec, what is set in it, and which derivative is looked at: d of / d wrt."""

    spec: Path
    settings: tuple[str, ...]
    of: str
    wrt: str


def tasks(folder: Path) -> dict[str, Task]:
    found = {}
    for mapping in ("projected_gradient", "block", "mirror_descent"):
        solver = "mirror_descent" if mapping == "mirror_descent" else "projected_gradient"
        settings = (f"solver.name={solver}", f"options.mapping={mapping}", "solver.tol=1e-8", "solver.max_steps=200000")
        found[f"svm, {mapping}"] = Task(SAMPLES / "svm.yaml", settings, "validation_loss", "penalty")
    data = distillation.make_data(folder, 8)
    path = folder / "distillation.yaml"
    path.write_text(distillation.spec(data))
    descent = ("solver.name=gradient_descent", "solver.tol=1e-8", "solver.max_steps=200000")
    found["distillation"] = Task(path, descent, "loss", "image")
    found["dictionary"] = Task(
        SAMPLES / "dictionary.yaml",
        ("solver.name=proximal_gradient", "solver.tol=1e-8", "parameters.w=0.5"),
        "objective",
        "dictionary",
    )
    found["ridge"] = Task(SAMPLES / "ridge.yaml", descent, "w", "penalty")
    found["packing"] = Task(SAMPLES / "packing.yaml", (), "position", "diameter")
    return found


def run(task: Task, out: Path, *more: str) -> tuple[int, str]:
    """Run a task as a user does: the largest resident size of the process in bytes, and the last line that it told."""
    out.unlink(missing_ok=True)
    products = "sensitivity.products=[jacobian]"
    own = [setting for setting in task.settings if setting.split("=")[0] not in {given.split("=")[0] for given in more}]
    settings = (*own, products, f"sensitivity.of=[{task.of}]", f"sensitivity.wrt=[{task.wrt}]", *more)
    words = [word for setting in settings for word in ("--set", setting)]
    command = [sys.executable, "-m", "implicit_cli", "run", str(task.spec), "-o", str(out), "-q", *words]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    told = process.stderr.read()
    _, _, usage = os.wait4(process.pid, 0)
    return usage.ru_maxrss * 1024, (told.strip().splitlines() or [""])[-1]


def derivative(task: Task, out: Path) -> tuple[np.ndarray, float]:
    """The Jacobian of a result, and its case's seconds."""
    with h5py.File(out) as file:
        stages = file["cases/seconds"]
        seconds = sum(float(stages[stage][0]) for stage in stages if np.isfinite(stages[stage][0]))
        return file[f"sensitivity/{task.of}/{task.wrt}"][0], seconds


def measure(task: Task, folder: Path, idle: int) -> dict[str, Any]:
    out, found = folder / "out.h5", dict[str, Any]()
    _, told = run(task, out, "solver.tol=1e-12")
    if not out.exists():
        raise RuntimeError(told)
    truth, _ = derivative(task, out)
    for method in ("implicit", "unrolled"):
        settings = (f"sensitivity.method={method}",)
        run(task, out, *settings)
        memory, told = run(task, out, *settings)
        if not out.exists():
            found[method] = {"told": told.removeprefix("implicit: error: ")}
            continue
        J, seconds = derivative(task, out)
        error = float(np.linalg.norm(J - truth) / np.linalg.norm(truth))
        with h5py.File(out) as file:
            steps = int(file["diagnostics/solver/steps"][0])
        found[method] = {"seconds": seconds, "memory": memory - idle, "error": error, "steps": steps}
    return found


def main() -> None:
    stored = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        kepler = Task(SAMPLES / "kepler.yaml", (), "E", "eccentricity")
        idle, _ = run(kepler, folder / "idle.h5")
        for title, task in tasks(folder).items():
            stored[title] = measure(task, folder, idle)
            for method, found in stored[title].items():
                print(f"{title:30} {method:9} {found}", flush=True)
    RESULTS.write_text(json.dumps(stored, indent=1) + "\n")


if __name__ == "__main__":
    main()
