"""Task-driven dictionary learning on the breast-cancer set, beside logistic regression and an unsupervised dictionary: test AUC.

    python benchmarks/dictionary.py [--splits 10]

As the paper's table (Blondel et al. 2022, section 4.3), on other data: theirs are 299 patients with 1,000 genes, which may not be
shipped; these are 569 tumours with 30 features. Each split draws 300 for training, 100 to choose settings by, 169 for the test.
Every method chooses one setting of a grid by the AUC on the 100. Writes benchmarks/results/dictionary.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.decomposition import DictionaryLearning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "dictionary.json"
TRAIN, CHOOSE, ATOMS = 300, 100, 10
PENALTIES = np.logspace(-3, 1, 9)
L1, L2, RIDGES = (0.1, 0.5), 0.1, (1e-3, 1e-2)

Scores = Callable[[np.ndarray], np.ndarray]


def best(fits: list[Scores], parts: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """Test AUC of the fit with the best AUC on the part to choose by."""
    (X_choose, y_choose), (X_test, y_test) = parts[1:]
    chosen = max(fits, key=lambda score: roc_auc_score(y_choose, score(X_choose)))
    return float(roc_auc_score(y_test, chosen(X_test)))


def logistic(X: np.ndarray, y: np.ndarray, l1_ratio: float, strength: float) -> Scores:
    model = LogisticRegression(C=strength, l1_ratio=l1_ratio, solver="saga", max_iter=20_000, tol=1e-5).fit(X, y)
    return model.decision_function


def unsupervised(X: np.ndarray, y: np.ndarray, l1: float, seed: int) -> list[Scores]:
    """A dictionary for the samples alone, then logistic regression on the codes."""
    coder = DictionaryLearning(
        ATOMS,
        alpha=l1,
        max_iter=300,
        transform_algorithm="lasso_cd",
        transform_alpha=l1,
        transform_max_iter=5000,
        random_state=seed,
    ).fit(X)
    fits: list[Scores] = []
    for strength in PENALTIES:
        model = LogisticRegression(C=strength, max_iter=10_000).fit(coder.transform(X), y)
        fits.append(lambda Z, model=model: model.decision_function(coder.transform(Z)))
    return fits


def codes(Z: np.ndarray, dictionary: np.ndarray, l1: float) -> np.ndarray:
    """Sparse codes by 2,000 accelerated proximal gradient steps: NumPy's, and none of the tool's."""
    G, B = dictionary @ dictionary.T + L2 * np.eye(ATOMS), Z @ dictionary.T
    step = 1 / np.linalg.norm(G, 2)
    code = previous = np.zeros((len(Z), ATOMS))
    for k in range(2000):
        ahead = code + k / (k + 3) * (code - previous)
        v = ahead - step * (ahead @ G - B)
        previous, code = code, np.sign(v) * np.maximum(np.abs(v) - step * l1, 0.0)
    return code


def task_driven(parts: list[tuple[np.ndarray, np.ndarray]], l1: float, ridge: float, folder: Path) -> Scores:
    """`implicit optimize`: dictionary and classifier together, from the principal axes, until the held-out loss gets no better."""
    (X, y), (X_v, y_v) = parts[:2]
    _, _, axes = np.linalg.svd(X - X.mean(axis=0), full_matrices=False)
    with h5py.File(folder / "task.h5", "w") as file:
        for name, value in {"X": X, "y": y, "X_validation": X_v, "y_validation": y_v, "start": axes[:ATOMS]}.items():
            file[name] = value
    names = ", ".join(f"{name}: 'task.h5:/{name}'" for name in ("X", "y", "X_validation", "y_validation"))
    (folder / "task.yaml").write_text(
        f"problem: dictionary\ndata: {{{names}}}\n"
        f"parameters: {{dictionary: 'task.h5:/start', l1: {l1}, l2: {L2}, ridge: {ridge}}}\n"
        "sensitivity: {of: [objective], wrt: [w], products: []}\n"
        "outer: {objective: objective, parameters: [dictionary, w, b], validation: validation_loss, patience: 10}\n"
    )
    out = folder / "task_out.h5"
    out.unlink(missing_ok=True)
    command = [sys.executable, "-m", "implicit_cli", "optimize", "task.yaml", "-o", out.name, "-q"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if not out.exists():
        raise RuntimeError(done.stderr)
    with h5py.File(out) as file:
        dictionary, w, b = (file[f"cases/parameters/{name}"][0] for name in ("dictionary", "w", "b"))
    return lambda Z: codes(Z, dictionary, l1) @ w + b


def split(seed: int, folder: Path) -> dict[str, float]:
    bunch = load_breast_cancer()
    order = np.random.default_rng(seed).permutation(len(bunch.target))
    train = order[:TRAIN]
    mean, deviation = bunch.data[train].mean(axis=0), bunch.data[train].std(axis=0)
    rows = (train, order[TRAIN : TRAIN + CHOOSE], order[TRAIN + CHOOSE :])
    parts = [((bunch.data[part] - mean) / deviation, bunch.target[part].astype(float)) for part in rows]
    X, y = parts[0]
    return {
        "l1 logistic": best([logistic(X, y, 1.0, c) for c in PENALTIES], parts),
        "l2 logistic": best([logistic(X, y, 0.0, c) for c in PENALTIES], parts),
        "elastic net logistic": best([logistic(X, y, r, c) for r in (0.25, 0.5, 0.75) for c in PENALTIES], parts),
        "dictionary, then l2 logistic": best([fit for l1 in L1 for fit in unsupervised(X, y, l1, seed)], parts),
        "task-driven dictionary": best([task_driven(parts, l1, ridge, folder) for l1 in L1 for ridge in RIDGES], parts),
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--splits", type=int, default=10)
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(options.parse_args().splits):
            scores: dict[str, Any] = split(seed, Path(folder))
            print(seed, {name: round(value, 4) for name, value in scores.items()}, flush=True)
            for name, value in scores.items():
                found.setdefault(name, []).append(value)
            RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    for name, values in found.items():
        print(f"{name:30} {100 * np.mean(values):.1f} +- {100 * np.std(values, ddof=1) / len(values) ** 0.5:.1f}")


if __name__ == "__main__":
    main()
