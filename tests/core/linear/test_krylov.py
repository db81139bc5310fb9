"""Iterations: blocks of right-hand sides, preconditioners, and failures that show."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import block_diag
from scipy.sparse import csr_array

from implicit_cli.core.linear import choose, prepare
from implicit_cli.core.linear.base import Unsuitable
from implicit_cli.core.linear.krylov import KrylovSolver
from implicit_cli.core.linear.precondition import block_jacobi
from implicit_cli.status import Status

from .operators import D, K, make, operator_of


@pytest.mark.parametrize("method", ["cg", "minres"])
@pytest.mark.parametrize("assembled", [False, True])
def test_columns_of_unlike_difficulty_converge_in_blocks_that_shrink(method, assembled):
    rng = np.random.default_rng(6)
    d, k = 60, 17
    basis = np.linalg.qr(rng.normal(size=(d, d)))[0]
    values = np.linspace(1.0, 1e3, d) * (1 if method == "cg" else np.where(np.arange(d) % 2, 1, -1))
    A = basis @ np.diag(values) @ basis.T
    A = (A + A.T) / 2
    b = rng.normal(size=(d, k))
    for column in range(k - 3):
        b[:, column] = basis[:, : 1 + column % 4] @ np.ones(1 + column % 4)  # done in as many steps
    b[:, 5] = 0.0
    pattern = np.nonzero(np.ones((d, d))) if assembled else None
    operator = operator_of(A, True, pattern, entries=(lambda p: np.asarray(p)[pattern]) if assembled else None)
    plan = choose(d, symmetric=True, name=method, pattern=pattern, escalate=False)
    solved = prepare(plan, operator, None, jnp.zeros((d, 0))).solve(jnp.asarray(b))
    np.testing.assert_allclose(solved.value, np.linalg.solve(A, b), atol=1e-8)
    assert (solved.status == Status.OK).all()
    assert solved.steps[5] == 0
    assert solved.steps[: k - 3].max() < solved.steps[k - 3 :].min()
    assert solved.steps[0] <= 2


@pytest.mark.parametrize("method", ["cg", "minres", "gmres", "bicgstab"])
def test_block_jacobi_saves_steps(method):
    rng = np.random.default_rng(8)
    d, size = 62, 4
    A = np.zeros((d, d))
    for first in range(0, d, size):
        width = min(size, d - first)
        block = rng.normal(size=(width, width))
        A[first : first + width, first : first + width] = 10.0 ** (first % 5) * (block @ block.T + np.eye(width))
    A += 0.01 * np.eye(d, k=size) + 0.01 * np.eye(d, k=-size)
    b = rng.normal(size=(d, 2))
    steps = {}
    for preconditioner in ("none", "block_jacobi"):
        plan = choose(d, symmetric=True, name=method, preconditioner=preconditioner, block=size, escalate=False, tol=1e-8)
        solved = prepare(plan, operator_of(A, True), None, jnp.zeros((d, 0))).solve(jnp.asarray(b))
        steps[preconditioner] = solved.steps.max()
    assert (solved.status == Status.OK).all()
    np.testing.assert_allclose(A @ np.asarray(solved.value), b, atol=1e-7)
    assert steps["block_jacobi"] < steps["none"] / 2 or method == "gmres"  # whose steps are counted by restart
    assert steps["block_jacobi"] <= steps["none"]


def test_a_preconditioner_of_the_problem_is_used_and_takes_the_point():
    A = np.diag(np.geomspace(1.0, 1e6, D))
    operator = operator_of(A, True, precondition=lambda p, U: U / jnp.diag(p)[:, None])
    plan = choose(D, symmetric=True, name="cg", escalate=False)
    b = np.random.default_rng(0).normal(size=(D, 2))
    solved = prepare(plan, operator, None, jnp.zeros((D, 0))).solve(jnp.asarray(b))
    assert solved.steps.max() <= 2
    np.testing.assert_allclose(solved.value, b / np.diag(A)[:, None], rtol=1e-9)


def test_a_krylov_solve_that_stops_short_is_a_failed_column_not_a_number_to_trust():
    A = np.diag(np.geomspace(1.0, 1e8, D))
    solver = make(A, True, "cg", np.zeros((D, 0)), max_steps=2, escalate=False)
    b = np.random.default_rng(5).normal(size=(D, K))
    b[:, 0] = np.eye(D)[0]  # an eigenvector: one step is enough
    solved = solver.solve(jnp.asarray(b))
    assert solved.status[0] == Status.OK
    assert (solved.status[1:] == Status.LINEAR_SOLVE_FAILED).all()
    true_residual = np.linalg.norm(A @ np.asarray(solved.value) - b, axis=0) / np.linalg.norm(b, axis=0)
    np.testing.assert_allclose(solved.relative, true_residual, rtol=1e-6, atol=1e-15)


def solver(A, symmetric, method, gauges=None, **more):
    d = len(A)
    gauges = np.zeros((d, 0)) if gauges is None else gauges
    return KrylovSolver(operator_of(A, symmetric), jnp.asarray(gauges), method=method, tol=1e-10, max_steps=100, **more)


def test_what_an_iteration_cannot_do_is_said():
    A = np.random.default_rng(0).normal(size=(6, 6))
    for method in ("cg", "minres"):
        with pytest.raises(Unsuitable, match=f"{method} needs a symmetric dF/dx"):
            solver(A, False, method)
    with pytest.raises(Unsuitable, match="a gauge of a non-symmetric condition needs a factorisation"):
        solver(A, False, "gmres", np.ones((6, 1)))
    with pytest.raises(ValueError, match="no Krylov method 'sor'"):
        solver(A, False, "sor").solve(jnp.ones((6, 1)))


@pytest.mark.parametrize("method", ["gmres", "bicgstab", "lsmr", "cg"])
def test_where_all_is_a_gauge_there_is_no_singular_value(method):
    assert solver(np.zeros((4, 4)), True, method, np.eye(4)).spectrum.sigma_min == 0.0


@pytest.mark.parametrize("symmetric", [False, True])
def test_diagonal_blocks_of_a_sparse_matrix_are_those_of_its_products(symmetric):
    rng = np.random.default_rng(2)
    A = rng.normal(size=(11, 11)) * (rng.random((11, 11)) < 0.6)
    A = A + A.T if symmetric else A + 3 * np.eye(11)
    operator, U = operator_of(A, symmetric), jnp.asarray(rng.normal(size=(11, 3)))
    one, other = (block_jacobi(operator, 4, sparse) for sparse in (None, csr_array(A)))
    np.testing.assert_allclose(one(None, U), other(None, U), rtol=1e-12)
    blocks = [A[i : i + 4, i : i + 4] for i in (0, 4, 8)]
    if not symmetric:
        np.testing.assert_allclose(one(None, U), block_diag(*map(np.linalg.inv, blocks)) @ U, rtol=1e-8)
    with pytest.raises(Unsuitable, match="not finite"):
        block_jacobi(operator_of(np.full((11, 11), np.inf), symmetric), 4)
