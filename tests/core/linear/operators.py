"""Operators of every kind with known spectra, and solvers of them."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from implicit_cli.core.linear import choose, prepare
from implicit_cli.core.linear.base import Operator

D, K = 13, 5


class Kind(NamedTuple):
    symmetric: bool
    null: int
    definite: bool


KINDS = {
    "definite": Kind(True, 0, True),
    "indefinite": Kind(True, 0, False),
    "non-symmetric": Kind(False, 0, False),
    "definite, null space": Kind(True, 2, True),
    "indefinite, null space": Kind(True, 2, False),
    "non-symmetric, null space": Kind(False, 3, False),
}


def matrix(kind: Kind) -> np.ndarray:
    rng = np.random.default_rng(3)
    sigma = np.concatenate([np.linspace(1.0, 4.0, D - kind.null), np.zeros(kind.null)])
    left = np.linalg.qr(rng.normal(size=(D, D)))[0]
    if kind.symmetric:
        signs = np.ones(D) if kind.definite else np.where(np.arange(D) % 3 == 0, -1.0, 1.0)
        return left @ np.diag(sigma * signs) @ left.T
    right = np.linalg.qr(rng.normal(size=(D, D)))[0]
    return left @ np.diag(sigma) @ right.T


@jax.jit
def times(p, U):
    return p @ U


@jax.jit
def times_t(p, U):
    return p.T @ U


def operator_of(A: np.ndarray, symmetric: bool, pattern=None, **more) -> Operator:
    return Operator(times, times if symmetric else times_t, jnp.asarray(A), A.shape[0], symmetric, pattern=pattern, **more)


def make(A: np.ndarray, symmetric: bool, method: str, gauges: np.ndarray, **more):
    """The solver of a method, with the full pattern where it is a sparse one."""
    d = A.shape[0]
    pattern = np.nonzero(np.ones((d, d))) if method.startswith("sparse") else None
    plan = choose(d, symmetric=symmetric, name=method, pattern=pattern, gauges=gauges.shape[1] > 0, **more)
    return prepare(plan, operator_of(A, symmetric, pattern), None, jnp.asarray(gauges))
