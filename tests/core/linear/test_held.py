"""A with held unknowns: a factor of the free part serves A and its transpose, and what is not so is told."""

import jax.numpy as jnp
import numpy as np
import pytest

from implicit_cli.core.linear.base import Operator, Unsuitable
from implicit_cli.core.linear.held import FREE, HeldSolver
from implicit_cli.status import Status


@pytest.fixture
def rng():
    """For each test its own: what is drawn does not depend on which tests ran before."""
    return np.random.default_rng(8)


def operator(A):
    matrix = jnp.asarray(A)
    return Operator(lambda _, U: matrix @ U, lambda _, U: matrix.T @ U, None, len(A), symmetric=False)


def with_held(rng, d, free, diagonal):
    """A whose other rows are those of a diagonal matrix."""
    A = np.diag(diagonal)
    A[free] = rng.normal(size=(len(free), d)) + 5 * np.eye(d)[free]
    return A


@pytest.mark.parametrize("diagonal", ["-I", "any"])
@pytest.mark.parametrize("transpose", [False, True])
def test_solves_are_those_of_the_whole(rng, diagonal, transpose):
    d, free = 90, rng.choice(90, size=70, replace=False)
    A = with_held(rng, d, free, -np.ones(d) if diagonal == "-I" else rng.uniform(0.5, 2.0, d))
    solver = HeldSolver(operator(A), tol=1e-10)
    assert set(solver.free) == set(free)
    b = rng.normal(size=(d, 3))
    solved = solver.solve(jnp.asarray(b), transpose=transpose)
    assert (solved.status == Status.OK).all()
    assert solved.method == "lu of 70 free unknowns"
    np.testing.assert_allclose(solved.value, np.linalg.solve(A.T if transpose else A, b), rtol=1e-9, atol=1e-12)
    sigma = np.linalg.svd(A, compute_uv=False)
    assert solver.spectrum.computed
    assert sigma[-1] * (1 - 3e-3) <= solver.spectrum.sigma_min <= sigma[-1] * (1 + 1e-9)
    assert sigma[0] * (1 - 1e-9) <= solver.spectrum.sigma_max <= sigma[0] * (1 + 3e-3)


def test_all_are_held_and_none_is(rng):
    A = np.diag(rng.uniform(0.5, 2.0, 20))
    solver = HeldSolver(operator(A), tol=1e-10)
    assert solver.free.size == 0
    np.testing.assert_allclose(solver.solve(jnp.ones((20, 1))).value[:, 0], 1 / np.diag(A), rtol=1e-14)
    assert HeldSolver(operator(rng.normal(size=(20, 20)) + 9 * np.eye(20)), tol=1e-10).free.size == 20


def test_a_factor_serves_where_a_is_the_same_again(rng):
    last = []
    A = with_held(rng, 40, np.arange(12), -np.ones(40))
    first = HeldSolver(operator(A), tol=1e-10, last=last)
    (kept,) = last
    moved = A + 1e-12 * A  # by more than rounding
    for matrix, same in ((A, True), (moved, False), (with_held(rng, 40, np.arange(20), -np.ones(40)), False), (A[:30, :30], False)):
        b = rng.normal(size=(len(matrix), 2))
        solved = HeldSolver(operator(matrix), tol=1e-10, last=last).solve(jnp.asarray(b))
        assert (last[0] is kept) is same
        assert len(last) == 1
        assert (solved.status == Status.OK).all()
        np.testing.assert_allclose(solved.value, np.linalg.solve(matrix, b), rtol=1e-9, atol=1e-12)
    assert first.solve(jnp.ones((40, 1))).status[0] == Status.OK  # a factor that is given up is still its own


def test_what_it_cannot_do_goes_to_another_method(rng):
    singular = with_held(rng, 30, np.arange(10), -np.ones(30))
    singular[3] = singular[4]
    with pytest.raises(Unsuitable, match="close to singular along the 10 free unknowns"):
        HeldSolver(operator(singular), tol=1e-10)
    zero = np.diag([*np.ones(9), 0.0])  # a row of zeros is no diagonal to divide by
    with pytest.raises(Unsuitable, match="close to singular along the 1 free unknowns"):
        HeldSolver(operator(zero), tol=1e-10)
    d = FREE + 1
    shift = Operator(lambda _, U: 2 * U + jnp.roll(U, 1, 0), lambda _, U: 2 * U + jnp.roll(U, -1, 0), None, d, symmetric=False)
    with pytest.raises(Unsuitable, match=f"{d} of {d} unknowns are free, at most {FREE} are factorised"):
        HeldSolver(shift, tol=1e-10)


def test_a_lasso_with_more_features_than_a_dense_matrix_takes(rng, solve, tmp_path):
    """The closed form on the support; A is found by products for the few weights that are not zero."""
    import h5py

    m, d = 200, 3000  # so many samples that the weights found are those put in, and none of them is next to zero
    X, X_v = rng.normal(size=(m, d)), rng.normal(size=(5, d))
    w = np.zeros(d)
    w[:6] = [3, -2, 2, 4, -3, 1.5]
    y = X @ w
    with h5py.File(tmp_path / "wide.h5", "w") as file:
        for name, value in {"X": X, "y": y, "X_validation": X_v, "y_validation": X_v @ w}.items():
            file[name] = value
    names = ", ".join(f"{name}: 'wide.h5:/{name}'" for name in ("X", "y", "X_validation", "y_validation"))
    result, found = solve(f"problem: lasso\ndata: {{{names}}}\nparameters: {{penalty: 0.5}}\nsensitivity: {{of: [w]}}\n")
    assert result.status is Status.OK
    x = result.solution["w"]
    S = np.flatnonzero(x)
    assert 4 < S.size < m
    assert result.linear[0].method == f"lu of {S.size} free unknowns"
    H, s = X[:, S].T @ X[:, S] / m, np.sign(x[S])
    np.testing.assert_allclose(x[S], np.linalg.solve(H, X[:, S].T @ y / m - 0.5 * s), rtol=1e-10)
    J = np.zeros(d)
    J[S] = -np.linalg.solve(H, s)
    product = found["jacobian", "", "w", "penalty"]
    np.testing.assert_allclose(product.value, J, rtol=1e-9, atol=1e-12)
    assert np.isfinite(product.bound.total).all()


def test_a_free_part_that_is_not_finite_is_told(rng):
    A = with_held(rng, 90, np.arange(70), -np.ones(90))
    A[3, 5] = np.nan
    with pytest.raises(Unsuitable, match="A is not finite"):
        HeldSolver(operator(A), tol=1e-10)
