"""Every linear solver on every kind of operator it may take: regular, indefinite, non-symmetric, singular."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from implicit_cli.core.linear import choose, prepare
from implicit_cli.core.linear.base import Operator
from implicit_cli.core.linear.dense import spectrum_of
from implicit_cli.status import Status

D, K = 12, 5


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


def make(A: np.ndarray, symmetric: bool, method: str, gauges: np.ndarray):
    operator = Operator(times, times if symmetric else times_t, jnp.asarray(A), D, symmetric)
    plan = choose(D, symmetric=symmetric, name=method)
    return prepare(plan, operator, jnp.asarray(A) if plan.dense else None, jnp.asarray(gauges))


def methods_for(kind: Kind) -> list[str]:
    names = ["auto", "lu", "gmres"]
    if kind.symmetric and kind.definite:
        names += ["cholesky", "cg"]
    if kind.definite or not kind.symmetric:
        names += ["bicgstab"]
    if not kind.symmetric and kind.null:
        names = ["auto", "lu"]  # a left null space is known to a factorisation only
    return names


@pytest.mark.parametrize(("name", "method"), [(name, method) for name, kind in KINDS.items() for method in methods_for(kind)])
def test_solution_is_the_pseudo_inverse_both_ways(name, method):
    kind = KINDS[name]
    A = matrix(kind)
    inverse = np.linalg.pinv(A, rcond=1e-10)
    Z = np.linalg.svd(A)[2][D - kind.null :].T
    solver = make(A, kind.symmetric, method, Z)
    b = np.random.default_rng(4).normal(size=(D, K))
    b[:, 1] = 0.0
    # right-hand sides with a part outside the range on purpose: it must be projected out, not amplified
    solved = solver.solve(jnp.asarray(b))
    np.testing.assert_allclose(solved.value, inverse @ b, atol=1e-9)
    adjoint = solver.solve(jnp.asarray(b), transpose=True)
    np.testing.assert_allclose(adjoint.value, inverse.T @ b, atol=1e-9)
    assert (solved.status == Status.OK).all()
    assert solved.relative[1] == 0.0
    assert not np.any(np.asarray(solved.value)[:, 1])
    assert solver.spectrum.nullity == kind.null
    assert solver.spectrum.sigma_min == pytest.approx(1.0, rel=0.2 if not solver.spectrum.computed else 1e-10)
    assert solver.spectrum.sigma_max == pytest.approx(4.0, rel=0.05 if not solver.spectrum.computed else 1e-10)


def test_spectrum_counts_negative_eigenvalues_outside_the_null_space():
    A = matrix(KINDS["indefinite, null space"])
    assert spectrum_of(jnp.asarray(A), symmetric=True).negative == int((np.linalg.eigvalsh(A) < -0.5).sum())


def test_a_krylov_solve_that_stops_short_is_a_failed_column_not_a_number_to_trust():
    A = np.diag(np.geomspace(1.0, 1e8, D))
    operator = Operator(times, times, jnp.asarray(A), D, symmetric=True)
    solver = prepare(choose(D, symmetric=True, name="cg", max_steps=2), operator, None, jnp.zeros((D, 0)))
    b = np.random.default_rng(5).normal(size=(D, K))
    b[:, 0] = np.eye(D)[0]  # an eigenvector: one step is enough
    solved = solver.solve(jnp.asarray(b))
    assert solved.status[0] == Status.OK
    assert (solved.status[1:] == Status.LINEAR_SOLVE_FAILED).all()
    true_residual = np.linalg.norm(A @ np.asarray(solved.value) - b, axis=0) / np.linalg.norm(b, axis=0)
    np.testing.assert_allclose(solved.relative, true_residual, rtol=1e-6, atol=1e-15)


@pytest.mark.parametrize("name", ["cholesky", "cg"])
def test_a_method_for_symmetric_systems_is_refused_for_others(name):
    with pytest.raises(ValueError, match="not symmetric"):
        choose(D, symmetric=False, name=name)


def test_auto_assembles_small_systems_and_not_large_ones():
    assert choose(2048, symmetric=True).dense
    assert choose(2049, symmetric=True)[:2] == ("cg", False)
    assert choose(2049, symmetric=False)[:2] == ("gmres", False)
