"""What a problem calls loose is eliminated exactly: any number of rattlers, resting or in contact, change nothing for the rest."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse as sp

from implicit_cli.core.linear import choose, prepare
from implicit_cli.core.linear.base import Operator

D, LOOSE = 700, 150


def network(seed):
    """A stiff chain of D - LOOSE unknowns on a line, and loose ones that lean on one of it each, on each other, or on nothing."""
    rng = np.random.default_rng(seed)
    n = D - LOOSE
    rows = [(i, i + 1, rng.uniform(1.0, 2.0)) for i in range(n - 1)]
    for k in range(n, D):
        match k % 3:
            case 0:
                rows.append((int(rng.integers(n)), k, 1.5))  # leans on the chain
            case 1:
                rows.append((k - 1, k, 0.7))  # hangs on another loose one
    A = sp.lil_array((D, D))
    for i, j, k in rows:
        A[i, i] += k
        A[j, j] += k
        A[i, j] -= k
        A[j, i] -= k
    order = rng.permutation(D)
    A = sp.csc_array(A)[order][:, order]
    loose = (np.arange(D) >= n)[order]
    return sp.csc_array(A), loose


@pytest.fixture(scope="module", params=["sparse_lu", "sparse_cholesky", "cg", "minres"])
def case(request):
    A, loose = network(0)
    dense = jnp.asarray(A.toarray())
    coo = A.tocoo()
    gauge = jnp.ones((D, 1))
    operator = Operator(
        lambda p, U: dense @ U,
        lambda p, U: dense.T @ U,
        None,
        D,
        True,
        definite=True,
        pattern=(coo.row, coo.col),
        entries=lambda p: coo.data,
        loose=loose,
    )
    plan = choose(D, symmetric=True, definite=True, name=request.param, pattern=operator.pattern, gauges=True)
    return A.toarray(), loose, prepare(plan, operator, None, gauge)


def test_the_rest_answers_as_the_pseudo_inverse_says(case):
    A, loose, solver = case
    b = A @ np.random.default_rng(1).normal(size=(D, 3))  # in the range
    solved = solver.solve(jnp.asarray(b))
    assert (solved.status == 0).all()
    expected = np.linalg.pinv(A, rcond=1e-10, hermitian=True) @ b
    difference = (np.asarray(solved.value) - expected)[~loose]
    difference -= difference.mean(axis=0)  # the gauge is that of the rest
    assert np.abs(difference).max() < 1e-9 * np.abs(expected).max()
    np.testing.assert_allclose(A @ np.asarray(solved.value), b, atol=1e-10 * np.abs(b).max())


def test_an_adjoint_solve_follows_what_leans(case):
    A, loose, solver = case
    w = np.where(loose[:, None], 0.0, np.random.default_rng(2).normal(size=(D, 2)))
    w[~loose] -= w[~loose].mean(axis=0)
    solved = solver.solve(jnp.asarray(w), transpose=True)
    assert (solved.status == 0).all()
    np.testing.assert_allclose(A @ np.asarray(solved.value), w, atol=1e-9)


def test_the_spectrum_is_that_of_the_rest(case):
    A, loose, solver = case
    follow = np.linalg.pinv(A[np.ix_(loose, loose)], rcond=1e-10, hermitian=True) @ A[np.ix_(loose, ~loose)]
    S = A[np.ix_(~loose, ~loose)] - A[np.ix_(~loose, loose)] @ follow
    values = np.linalg.eigvalsh((S + S.T) / 2)
    assert solver.spectrum.nullity == 1
    assert solver.spectrum.sigma_min == pytest.approx(values[1], rel=2e-3)
    assert solver.spectrum.sigma_max == pytest.approx(values[-1], rel=2e-3)
    assert solver.spectrum.negative == 0


def test_an_iteration_that_takes_no_part_of_a_matrix_gives_way_to_a_factor():
    A, loose = network(0)
    coo = A.tocoo()
    operator = Operator(
        lambda p, U: jnp.asarray(A.toarray()) @ U,
        lambda p, U: jnp.asarray(A.toarray()) @ U,
        None,
        D,
        True,
        pattern=(coo.row, coo.col),
        entries=lambda p: coo.data,
        loose=loose,
    )
    plan = choose(D, symmetric=True, name="lsmr", pattern=operator.pattern, gauges=True)
    assert prepare(plan, operator, None, jnp.ones((D, 1))).method == "sparse_lu"
