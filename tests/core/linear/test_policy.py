"""What is picked, what is refused, and what is tried next: always said."""

import jax.numpy as jnp
import numpy as np
import pytest

from implicit_cli.core.linear import METHODS, choose, dense, prepare
from implicit_cli.core.linear.base import Unsuitable
from implicit_cli.core.linear.refined import Refined
from implicit_cli.status import Status

from .operators import operator_of

D = 12


def solver_of(A, *, symmetric, gauges=None, **choice):
    d = A.shape[0]
    gauges = jnp.zeros((d, 0)) if gauges is None else jnp.asarray(gauges)
    return prepare(choose(d, symmetric=symmetric, **choice), operator_of(A, symmetric), None, gauges)


def lattice(side, axis):
    """Pattern of a grid graph with `axis` unknowns per node."""
    shape = (side,) * axis
    node = np.arange(side**axis).reshape(shape)
    rows, cols = [node.ravel()], [node.ravel()]
    for a in range(axis):
        left, right = np.delete(node, -1, axis=a).ravel(), np.delete(node, 0, axis=a).ravel()
        rows += [left, right]
        cols += [right, left]
    i, j = np.concatenate(rows), np.concatenate(cols)
    a, b = (part.ravel() for part in np.meshgrid(np.arange(axis), np.arange(axis)))
    return (axis * i[:, None] + a).ravel(), (axis * j[:, None] + b).ravel(), axis * side**axis


@pytest.mark.parametrize("name", ["cholesky", "cg", "minres", "sparse_cholesky"])
def test_a_method_for_symmetric_systems_is_refused_for_others(name):
    with pytest.raises(ValueError, match="not symmetric"):
        choose(D, symmetric=False, name=name)


def test_other_methods_that_do_not_go_with_the_system_are_refused_with_those_that_do():
    with pytest.raises(ValueError, match=r"found 'sparse_lu', allowed for this condition: 'auto', 'lu', .*no sparsity pattern"):
        choose(D, symmetric=True, name="sparse_lu")
    with pytest.raises(ValueError, match=r"found 'gmres', allowed .*gauges"):
        choose(D, symmetric=False, name="gmres", gauges=True)


def test_auto_assembles_small_systems_and_not_large_ones():
    assert choose(2048, symmetric=True).dense
    assert choose(2049, symmetric=True)[:2] == ("cg", False)
    assert choose(2049, symmetric=False)[:2] == ("gmres", False)


def test_many_right_hand_sides_and_a_gpu_are_reasons_to_assemble():
    assert choose(4096, symmetric=True, right_hand_sides=200).dense
    assert choose(4096, symmetric=True, device="gpu").dense
    assert not choose(100_000, symmetric=True, right_hand_sides=10_000, device="gpu").dense


def test_a_pattern_in_two_dimensions_is_factorised_once():
    rows, cols, d = lattice(40, 2)
    for k in (1, 1000):
        plan = choose(d, symmetric=True, pattern=(rows, cols), right_hand_sides=k)
        assert plan.method == "sparse_lu"
        assert "separator" in plan.reason


@pytest.mark.parametrize("name", METHODS)
def test_every_plan_says_its_reason_and_what_follows(name):
    plan = choose(D, symmetric=True, name=name, pattern=(np.arange(D), np.arange(D)))
    assert plan.method == name
    assert name == "auto" or plan.reason.startswith("asked for")
    assert all(other in METHODS for other in plan.then)
    assert ("if that fails" in plan.reason) == bool(plan.then)
    assert choose(D, symmetric=True, name=name, pattern=(np.arange(D), np.arange(D)), escalate=False).then == ()


def indefinite(d=D):
    basis = np.linalg.qr(np.random.default_rng(0).normal(size=(d, d)))[0]
    return basis @ np.diag(np.where(np.arange(d) % 2, 1.0, -2.0) * np.linspace(1, 3, d)) @ basis.T


def test_cg_on_an_indefinite_matrix_goes_on_to_minres_and_says_so():
    A = indefinite()
    b = np.random.default_rng(1).normal(size=(D, 5))
    solver = solver_of(A, symmetric=True, name="cg")
    solved = solver.solve(jnp.asarray(b))
    np.testing.assert_allclose(solved.value, np.linalg.solve(A, b), atol=1e-8)
    assert (solved.status == Status.OK).all()
    assert solved.method == solver.method == "cg -> minres"
    assert len(solver.tried) == 1
    assert solver.tried[0].startswith("cg: relative residual")
    # the method that did it stays in charge
    assert solver.solve(jnp.asarray(b)).method == "cg -> minres"
    assert len(solver.tried) == 1


def test_an_iteration_out_of_steps_ends_at_a_factorisation():
    A = np.diag(np.geomspace(1.0, 1e6, D))
    b = np.eye(D)[:, :3] + np.eye(D)[:, 4:7]
    b[:, 0] = np.eye(D)[0]
    solver = solver_of(A, symmetric=True, name="cg", max_steps=1)
    solved = solver.solve(jnp.asarray(b))
    np.testing.assert_allclose(solved.value, b / np.diag(A)[:, None], rtol=1e-12)
    assert solved.method == "cg -> minres -> cholesky"
    assert [line.split(":")[0] for line in solver.tried] == ["cg", "minres"]
    assert "on 2 of 3 right-hand sides" in solver.tried[0]
    assert solved.steps[0] == 1


def test_cholesky_of_an_indefinite_matrix_goes_on_to_lu_before_the_first_solve():
    A = indefinite()
    solver = solver_of(A, symmetric=True, name="cholesky")
    assert solver.method == "cholesky -> lu"
    assert "not positive definite" in solver.tried[0]
    b = np.random.default_rng(1).normal(size=(D, 2))
    np.testing.assert_allclose(solver.solve(jnp.asarray(b)).value, np.linalg.solve(A, b), atol=1e-9)


def test_gauges_of_a_non_symmetric_system_go_to_a_factorisation():
    rng = np.random.default_rng(2)
    A = rng.normal(size=(D, D)) @ (np.eye(D) - np.ones((D, D)) / D)
    solver = solver_of(A, symmetric=False, gauges=np.ones((D, 1)))
    b = rng.normal(size=(D, 2))
    np.testing.assert_allclose(solver.solve(jnp.asarray(b)).value, np.linalg.pinv(A) @ b, atol=1e-8)
    np.testing.assert_allclose(solver.solve(jnp.asarray(b), transpose=True).value, np.linalg.pinv(A).T @ b, atol=1e-8)


def test_a_named_method_that_works_is_kept_without_a_word():
    A = np.diag(np.linspace(1.0, 2.0, D))
    for name in ("lu", "qr", "svd", "cg", "minres", "gmres", "bicgstab", "lsmr"):
        solver = solver_of(A, symmetric=True, name=name)
        assert solver.solve(jnp.ones((D, 2))).method == name
        assert solver.tried == ()


def test_at_the_end_of_the_chain_the_status_stays():
    """An unknown null vector, and a right-hand side outside the range: no Krylov method can answer, and nobody else is asked."""
    A = np.diag([1.0, 2.0, 0.0])
    solver = solver_of(A, symmetric=True, name="minres", escalate=False)
    solved = solver.solve(jnp.asarray([[1.0, 1.0], [1.0, 1.0], [0.0, 1.0]]))
    assert solved.status.tolist() == [Status.OK, Status.LINEAR_SOLVE_FAILED]
    # with the chain, the factorisation finds the null vector and projects it out
    solved = solver_of(A, symmetric=True, name="minres").solve(jnp.asarray([[1.0], [1.0], [1.0]]))
    np.testing.assert_allclose(solved.value[:, 0], [1.0, 0.5, 0.0], atol=1e-12)
    assert solved.method == "minres -> cholesky"


def test_a_matrix_that_is_not_finite_fails_as_data():
    solver = solver_of(np.full((3, 3), np.nan), symmetric=False)
    solved = solver.solve(jnp.ones((3, 2)))
    assert (solved.status == Status.LINEAR_SOLVE_FAILED).all()
    assert np.isnan(solved.value).all()
    assert "not finite" in solver.tried[0]
    assert solver.spectrum.sigma_min == 0.0


def test_a_large_operator_that_may_hold_unknowns_is_looked_at_first():
    plan = choose(5000, symmetric=False, holds=True)
    assert (plan.method, plan.dense, plan.computes_spectrum) == ("lu_of_free", False, False)
    assert "others may be held where they are" in plan.reason
    assert choose(5000, symmetric=False, holds=True, gauges=True).method != "lu_of_free"


def test_a_pattern_that_is_full_is_no_reason_for_a_sparse_factor():
    full = np.nonzero(np.ones((200, 200)))
    assert choose(200, symmetric=False, pattern=full).dense
    assert choose(200, symmetric=True, definite=True, pattern=full).reason.startswith("dense Cholesky if definite")


@pytest.mark.parametrize("given", [False, True])
def test_a_ridge_is_on_the_diagonal_of_a_sparse_matrix_too(given):
    A = np.diag(np.arange(1.0, 6.0)) + np.diag(np.ones(4), 1)
    pattern = np.nonzero(A)
    operator = operator_of(A, False, pattern, entries=(lambda p: np.asarray(p)[pattern]) if given else None)
    solver = prepare(choose(5, symmetric=False, name="sparse_lu", pattern=pattern, ridge=0.5), operator, None, jnp.zeros((5, 0)))
    b = np.random.default_rng(0).normal(size=(5, 2))
    np.testing.assert_allclose(solver.solve(jnp.asarray(b)).value, np.linalg.solve(A + 0.5 * np.eye(5), b), rtol=1e-12)


# Large dense matrices: the spectrum from the factor


@pytest.mark.parametrize("symmetric", [False, True])
def test_both_ends_of_a_large_dense_spectrum_are_found_with_the_factor(symmetric, monkeypatch):
    monkeypatch.setattr(dense, "EXACT", 20)
    rng = np.random.default_rng(5)
    left, right = (np.linalg.qr(rng.normal(size=(60, 60)))[0] for _ in range(2))
    A = left @ np.diag(np.geomspace(1e-3, 7.0, 60)) @ (left if symmetric else right).T
    found = solver_of(A, symmetric=symmetric, name="cholesky" if symmetric else "lu").spectrum
    assert found.computed
    assert 0.997e-3 < found.sigma_min <= 1.0001e-3
    assert 7.0 <= found.sigma_max < 7.01


def test_a_float32_that_cannot_do_is_told():
    d = 6
    plain = operator_of(np.diag(np.r_[1e-9, np.ones(d - 1)]), True)
    inner = solver_of(np.diag(np.r_[1e-9, np.ones(d - 1)]), symmetric=True, name="lu")
    with pytest.raises(Unsuitable, match="leaves float32 no digit"):
        Refined(inner, plain, jnp.zeros((d, 0)), tol=1e-10)
    with pytest.raises(Unsuitable, match="float32 finds 0 null vectors, 1 are known"):
        Refined(inner, plain, jnp.ones((d, 1)), tol=1e-10)
