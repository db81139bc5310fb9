"""Figure 3 of the paper: error of the implicit Jacobian, of the unrolled one, and the bounds, against the error of the iterate.

    python benchmarks/figure3.py

Ridge regression on the diabetes data with a penalty for each feature, as in sample_inputs/ridge.yaml, by gradient descent from 0.
At x_t: J by the theorem with a direct solve, J by forward-mode differentiation through the t steps, Theorem 1's bound
|x_t - x*| / alpha (gamma = 0, beta = 1), which needs x*, and the certificate's, which does not. All errors are Frobenius norms.
Writes docs/explanation/figure3.svg and the measured parts of docs/explanation/figure3.md.

Source: Blondel et al., "Efficient and Modular Implicit Differentiation", NeurIPS 2022, arXiv 2105.15183, figure 3.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from implicit_cli import runtime

if __name__ == "__main__":
    runtime.configure("cpu")

import jax
import jax.numpy as jnp
from certificate_report import DOCS, fill, markdown

from implicit_cli.core.certificate import Certifier
from implicit_cli.core.implicit import Point, System, forward
from implicit_cli.core.linear import choose, prepare
from implicit_cli.core.linear.base import Operator
from implicit_cli.problem import Constants

DATA = Path(__file__).resolve().parents[1] / "sample_inputs" / "diabetes.h5"
PAGE, FIGURE = DOCS / "figure3.md", DOCS / "figure3.svg"
PENALTY, STEPS = 0.1, 400
SHOWN = (1, 2, 5, 10, 20, 50, 100, 150, 200, 300, 400)


class Curves(NamedTuple):
    """By t: |x_t - x*|, |J_t - J*| for the implicit and the unrolled J_t, and the two bounds; and |J*|."""

    t: np.ndarray
    x: np.ndarray
    implicit: np.ndarray
    unrolled: np.ndarray
    theorem: np.ndarray
    certificate: np.ndarray
    size: float


def gradient(w, penalty, data):
    X, y = data
    return X.T @ (X @ w - y) / y.size + penalty * w


SYSTEM = System(gradient, lambda w, penalty, data: jnp.zeros(0), symmetric=True)


@jax.jit
def descent(penalty, data, eta):
    """x_t (STEPS, d) and dx_t/dpenalty (STEPS, d, n), each step's derivative in forward mode."""
    d = penalty.size

    def step(state, _):
        x, U = state

        def move(u, v):
            return jax.jvp(lambda x, p: x - eta * gradient(x, p, data), (x, penalty), (u, v))

        x, U = jax.vmap(move, in_axes=1, out_axes=(None, 1))(U, jnp.eye(d))
        return (x, U), (x, U)

    return jax.lax.scan(step, (jnp.zeros(d), jnp.zeros((d, d))), None, length=STEPS)[1]


def curves(chosen: Iterable[int] = range(1, STEPS + 1)) -> Curves:
    """At the chosen t."""
    with h5py.File(DATA) as file:
        X, y = file["X"][:], file["y"][:]
    d = X.shape[1]
    penalty = np.full(d, PENALTY)
    H = X.T @ X / len(y) + np.diag(penalty)
    x_true = np.linalg.solve(H, X.T @ y / len(y))
    J_true = -np.linalg.solve(H, np.diag(x_true))
    eigenvalues = np.linalg.eigvalsh(H)
    alpha, eta = eigenvalues[0], 1 / eigenvalues[-1]
    data = jnp.asarray(X), jnp.asarray(y)
    found: list[list[float]] = []
    path = descent(jnp.asarray(penalty), data, eta)
    for t in chosen:
        x, unrolled = (part[t - 1] for part in path)
        p = Point(x, jnp.asarray(penalty), data)
        A = prepare(
            choose(d, symmetric=True),
            Operator(SYSTEM.A_times, SYSTEM.At_times, p, d, symmetric=True),
            SYSTEM.A_matrix(p),
            jnp.zeros((d, 0)),
        )
        f = forward(SYSTEM, p, A, jnp.eye(d))
        in_x, _ = Certifier(SYSTEM, p, A, Constants(alpha=PENALTY, gamma=0.0, beta=1.0), np.inf).forward(f)
        off = float(np.linalg.norm(x - x_true))
        errors = (float(np.linalg.norm(np.asarray(J) - J_true)) for J in (f.U, unrolled))
        found.append([t, off, *errors, off / alpha, float(np.linalg.norm(sum(in_x.norms())))])
    return Curves(*np.array(found).T, float(np.linalg.norm(J_true)))


def table(c: Curves) -> str:
    head = ("t", "abs(x_t - x*)", "implicit J", "unrolled J", "Theorem 1", "certificate", "certificate / error")
    rows = [
        [int(t), *(f"{value:.1e}" for value in values), f"{values[4] / values[1]:.2f}"]
        for t, *values in zip(*c[:6], strict=True)
        if t in SHOWN
    ]
    return markdown(head, rows)


def seen(c: Curves) -> str:
    """The figure in a few sentences; what is at rounding is left out."""
    real = c.implicit > 1e-12 * c.size
    steps = int(real.sum())
    ratio, loose = (c.certificate / c.implicit)[real], (c.theorem / c.implicit)[real]
    lines = [
        f"- The implicit Jacobian is below Theorem 1's bound at {int(np.sum((c.implicit <= c.theorem)[real]))} of {steps} steps, "
        f"and below the certificate's at {int(np.sum((c.implicit <= c.certificate)[real]))} of {steps}.",
        f"- The unrolled Jacobian is above Theorem 1's bound at {int(np.sum((c.unrolled > c.theorem)[real]))} of {steps}, and its "
        f"error is up to {np.max((c.unrolled / c.implicit)[real]):.0f} times that of the implicit one.",
        f"- Theorem 1's bound, which knows x*, is {loose.min():.1f} to {loose.max():.1f} times the error; the certificate's, "
        f"which does not, is {ratio.min():.2f} to {ratio.max():.2f} times the error.",
    ]
    return "\n".join(lines) + "\n"


def draw(c: Curves) -> None:
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams.update({"svg.hashsalt": "implicit", "font.size": 9, "svg.fonttype": "none"})
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(6.4, 4.4), layout="constrained")
    axis.loglog(c.x, c.theorem, "-", color="0.6", linewidth=2.5, label="Theorem 1's bound")
    axis.loglog(c.x, c.certificate, ":", color="black", linewidth=1.6, label="the certificate's bound")
    axis.loglog(c.x, c.unrolled, "--", color="0.35", marker="^", markevery=25, markersize=5, label="unrolled Jacobian")
    axis.loglog(c.x, c.implicit, "-", color="black", marker="o", markevery=25, markersize=4, label="implicit Jacobian")
    axis.set(xlabel="error of the iterate, |x_t - x*|", ylabel="error of the Jacobian, |J_t - J*|")
    axis.invert_xaxis()
    axis.legend(frameon=False)
    figure.savefig(FIGURE, metadata={"Date": None, "Creator": None})
    plt.close(figure)


def main() -> int:
    c = curves()
    fill(PAGE, {"steps": table(c), "seen": seen(c)})
    draw(c)
    print(table(c) + "\n" + seen(c))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
