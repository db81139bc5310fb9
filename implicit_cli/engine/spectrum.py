"""The eigenvalues of A at a solution: how stiff each mode is, and which cost nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from implicit_cli.core.implicit import Point
from implicit_cli.core.linear.assembly import dense
from implicit_cli.engine.linearise import gauges, linearise, operator_at
from implicit_cli.engine.plan import Plan
from implicit_cli.engine.threads import one_thread
from implicit_cli.engine.vectors import Vectors
from implicit_cli.result import Array


@dataclass(frozen=True)
class Spectrum:
    """Eigenvalues (d,) of a symmetric A, singular values of another, smallest size first; the first `nullity` count as zero.

    `gauges` are the symmetries among these.
    """

    values: NDArray[np.float64]
    symmetric: bool
    nullity: int
    gauges: tuple[str, ...]


def spectrum(vectors: Vectors, plan: Plan, x: Mapping[str, Array]) -> Spectrum:
    """The spectrum of A at a solution that is known, by unknown. A is made dense: d^2 numbers, and time as d^3."""
    p = vectors.refreshed(
        Point(vectors.x.join({name: jnp.asarray(value) for name, value in x.items()}), vectors.start, vectors.data)
    )
    symmetric = vectors.condition.symmetric
    with one_thread(vectors.x.size):
        A = np.asarray(dense(operator_at(vectors, p)))
        values = np.linalg.eigvalsh(A) if symmetric else np.linalg.svd(A, compute_uv=False)
        nullity = int(linearise(vectors, plan, p).null_space[0].shape[1])
    return Spectrum(values[np.argsort(np.abs(values), kind="stable")], symmetric, nullity, tuple(gauges(vectors, p)))
