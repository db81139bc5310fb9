"""Every linear solver on every kind of operator it may take: regular, indefinite, non-symmetric, singular; dense and sparse."""

import jax.numpy as jnp
import numpy as np
import pytest

from implicit_cli.core.linear.dense import spectrum_of
from implicit_cli.core.linear.sparse import cholesky_installed
from implicit_cli.status import Status

from .operators import KINDS, D, K, Kind, make, matrix

pytestmark = pytest.mark.slow


def methods_for(kind: Kind) -> list[str]:
    names = ["auto", "lu", "qr", "svd", "sparse_lu"]
    if kind.symmetric or not kind.null:
        names += ["gmres", "lsmr"]  # a left null space is known to a factorisation only
    if kind.definite or (not kind.symmetric and not kind.null):
        names += ["bicgstab"]
    if kind.symmetric:
        names += ["minres"]
    if kind.definite:
        names += ["cholesky", "cg"] + (["sparse_cholesky"] if cholesky_installed() else [])
    return names


@pytest.mark.parametrize(("name", "method"), [(name, method) for name, kind in KINDS.items() for method in methods_for(kind)])
def test_solution_is_the_pseudo_inverse_both_ways(name, method):
    kind = KINDS[name]
    A = matrix(kind)
    inverse = np.linalg.pinv(A, rcond=1e-10)
    Z = np.linalg.svd(A)[2][D - kind.null :].T
    solver = make(A, kind.symmetric, method, Z, escalate=False)
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
    assert solved.method == solver.method == (method if method != "auto" else "cholesky" if kind.definite else "lu")
    assert solver.tried == ()
    assert solver.spectrum.nullity == kind.null
    assert solver.spectrum.sigma_min == pytest.approx(1.0, rel=0.2 if not solver.spectrum.computed else 1e-10)
    assert solver.spectrum.sigma_max == pytest.approx(4.0, rel=0.05 if not solver.spectrum.computed else 1e-10)
    if solver.spectrum.computed:
        assert solver.spectrum.negative == (0 if not kind.symmetric else int((np.linalg.eigvalsh(A) < -0.5).sum()))
    elif kind.symmetric:
        assert solver.spectrum.negative == int(np.linalg.eigvalsh(A)[0] < -0.5)  # that there are, not how many


@pytest.mark.parametrize("name", ["definite, null space", "indefinite, null space", "non-symmetric, null space"])
@pytest.mark.parametrize("method", ["auto", "lu", "qr", "svd", "sparse_lu"])
def test_null_vectors_that_nobody_declared_are_found(name, method):
    kind = KINDS[name]
    A = matrix(kind)
    solver = make(A, kind.symmetric, method, np.zeros((D, 0)), escalate=False)
    Z, Y = (np.asarray(basis) for basis in solver.null_space)
    right = np.linalg.svd(A)[2][D - kind.null :].T
    assert Z.shape == Y.shape == (D, kind.null)
    np.testing.assert_allclose(Z @ Z.T, right @ right.T, atol=1e-10)
    np.testing.assert_allclose(Y.T @ A, 0.0, atol=1e-11)
    b = np.random.default_rng(4).normal(size=(D, K))
    np.testing.assert_allclose(solver.solve(jnp.asarray(b)).value, np.linalg.pinv(A, rcond=1e-10) @ b, atol=1e-9)
    assert solver.spectrum.sigma_min == pytest.approx(1.0, rel=1e-10)


@pytest.mark.parametrize("method", ["auto", "qr", "sparse_lu"])
def test_a_gauge_that_the_matrix_does_not_have_is_not_projected_out(method):
    A = matrix(KINDS["definite"])
    solver = make(A, True, method, np.ones((D, 1)))
    b = np.random.default_rng(4).normal(size=(D, K))
    assert solver.null_space[0].shape == (D, 0)
    np.testing.assert_allclose(solver.solve(jnp.asarray(b)).value, np.linalg.solve(A, b), atol=1e-10)


@pytest.mark.parametrize("method", ["auto", "svd", "sparse_lu", "cg", "minres", "gmres"])
@pytest.mark.parametrize("k", [0, 1])
def test_no_column_and_one_column(method, k):
    A = matrix(KINDS["definite"])
    b = np.random.default_rng(4).normal(size=(D, k))
    solved = make(A, True, method, np.zeros((D, 0)), escalate=False).solve(jnp.asarray(b))
    np.testing.assert_allclose(solved.value, np.linalg.solve(A, b), atol=1e-9)
    assert solved.status.shape == solved.relative.shape == solved.steps.shape == (k,)


def test_spectrum_counts_negative_eigenvalues_outside_the_null_space():
    A = matrix(KINDS["indefinite, null space"])
    assert spectrum_of(jnp.asarray(A), symmetric=True).negative == int((np.linalg.eigvalsh(A) < -0.5).sum())


@pytest.mark.parametrize("method", ["auto", "lu", "qr", "sparse_lu"])
def test_an_ill_conditioned_matrix_is_not_taken_for_a_singular_one(method):
    """sigma_min / sigma_max = 1e-11, just above the rank tolerance; the solution has a small backward error."""
    left, right = (np.linalg.qr(np.random.default_rng(seed).normal(size=(D, D)))[0] for seed in (1, 2))
    A = left @ np.diag(np.geomspace(1.0, 1e-11, D)) @ right.T
    b = A @ np.ones((D, 1))
    solver = make(A, False, method, np.zeros((D, 0)), escalate=False)
    solved = solver.solve(jnp.asarray(b))
    assert solver.spectrum.nullity == 0
    assert solver.spectrum.sigma_min == pytest.approx(1e-11, rel=1e-3)
    assert (solved.status == Status.OK).all()
    assert np.linalg.norm(A @ np.asarray(solved.value) - b) < 1e-14


@pytest.mark.parametrize("method", ["auto", "sparse_lu"])
def test_a_matrix_of_zeros_has_everything_for_a_null_space(method):
    solver = make(np.zeros((3, 3)), True, method, np.zeros((3, 0)))
    solved = solver.solve(jnp.ones((3, 2)))
    assert solver.spectrum.nullity == 3
    assert not np.any(np.asarray(solved.value))
    assert solver.method == ("cholesky" if method == "auto" else "sparse_lu -> cholesky")


def test_a_ridge_is_added_only_on_request_and_its_bias_is_known():
    A, ridge = matrix(KINDS["definite"]), 0.3
    b = np.random.default_rng(5).normal(size=(D, 2))
    for method in ("auto", "cg", "sparse_lu"):
        solver = make(A, True, method, np.zeros((D, 0)), ridge=ridge)
        solved = solver.solve(jnp.asarray(b))
        np.testing.assert_allclose(solved.value, np.linalg.solve(A + ridge * np.eye(D), b), atol=1e-9)
        bias = solver.bias(solved.value)
        np.testing.assert_allclose(solved.value + bias, np.linalg.solve(A, b), rtol=3e-3, atol=1e-3)
        assert solver.ridge == ridge
    assert not np.any(np.asarray(make(A, True, "auto", np.zeros((D, 0))).bias(solved.value)))


def test_the_bias_of_a_ridge_is_infinite_along_a_null_vector():
    A = np.diag([1.0, 0.0, 2.0])
    solver = make(A, True, "auto", np.zeros((3, 0)), ridge=1e-3)
    solved = solver.solve(jnp.asarray([[1.0, 1.0], [0.0, 1.0], [0.0, 0.0]]))
    bias = np.asarray(solver.bias(solved.value))
    assert np.isfinite(bias[:, 0]).all()
    assert np.isinf(bias[:, 1]).any()
