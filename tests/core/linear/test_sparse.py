"""Sparse factorisations: gauges and rattlers, and the spectrum from a factor."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.sparse import csc_array

from implicit_cli.core.linear import choose, prepare
from implicit_cli.core.linear.base import Unsuitable
from implicit_cli.core.linear.sparse import NULL_MOST, SparseSolver, cholesky_installed

from .operators import operator_of


def chain_of_springs(n: int, *, loose: tuple[int, ...] = (), stiff: float = 1.0) -> np.ndarray:
    """Stiffness matrix of n nodes with two unknowns each on a ring; `loose` nodes are held by nothing."""
    A = np.zeros((2 * n, 2 * n))
    held = [i for i in range(n) if i not in loose]
    for a, i in enumerate(held):
        for reach in (1, 2):
            j = held[(a + reach) % len(held)]
            angle = 0.7 * a + reach
            normal = np.array([np.cos(angle), np.sin(angle)])
            block = (stiff if a % 3 else 1.0) * np.outer(normal, normal) + 0.1 * np.eye(2)
            for left, right, sign in ((i, i, 1), (j, j, 1), (i, j, -1), (j, i, -1)):
                A[2 * left : 2 * left + 2, 2 * right : 2 * right + 2] += sign * block
    return A


@pytest.mark.parametrize("method", ["sparse_lu", "sparse_cholesky"])
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("loose", [(), (4, 11)])
def test_sparse_factors_with_translations_and_rattlers(method, known, loose):
    if method == "sparse_cholesky" and not cholesky_installed():
        pytest.skip("cholespy is not installed")
    n = 17
    A = chain_of_springs(n, loose=loose)
    pattern = np.nonzero(np.abs(chain_of_springs(n)) + np.abs(A))
    gauges = np.tile(np.eye(2), (n, 1))
    operator = operator_of(A, True, pattern)
    plan = choose(2 * n, symmetric=True, name=method, pattern=pattern, escalate=False)
    solver = prepare(plan, operator, None, jnp.asarray(gauges if known else np.zeros((2 * n, 0))))
    values = np.linalg.eigvalsh(A)
    assert solver.spectrum.nullity == int((np.abs(values) < 1e-10).sum()) == 2 + 2 * len(loose)
    b = np.random.default_rng(0).normal(size=(2 * n, 3))
    np.testing.assert_allclose(solver.solve(jnp.asarray(b)).value, np.linalg.pinv(A, rcond=1e-10) @ b, atol=1e-8)
    assert solver.spectrum.sigma_min == pytest.approx(values[np.abs(values) > 1e-10].min(), rel=1e-8)


def test_lanczos_brackets_the_spectrum_of_a_large_sparse_matrix():
    """Path graph Laplacian plus I/100 (d = 700): eigenvalues 0.01 + 2 - 2 cos(pi i / d) in closed form; and with a sign changed."""
    d = 700
    i = np.arange(d)
    pattern = (np.concatenate([i, i[1:], i[:-1]]), np.concatenate([i, i[:-1], i[1:]]))
    diagonal = np.where((i == 0) | (i == d - 1), 1.0, 2.0)
    exact = 2.0 - 2.0 * np.cos(np.pi * i / d)
    for shift in (0.01, -0.5, 0.0):
        entries = np.concatenate([diagonal + shift, -np.ones(2 * d - 2)])
        A = np.zeros((d, d))
        A[pattern] = entries
        operator = operator_of(A, True, pattern, entries=lambda _, entries=entries: entries)
        plan = choose(d, symmetric=True, pattern=pattern)
        solver = prepare(plan, operator, None, jnp.ones((d, 1)) if shift == 0.0 else jnp.zeros((d, 0)))
        assert solver.method == "sparse_lu"
        sizes = np.sort(np.abs(exact + shift))[1 if shift == 0.0 else 0 :]
        found = solver.spectrum
        assert found.computed
        assert 0.99 * sizes[0] <= found.sigma_min <= sizes[0]
        assert sizes[-1] <= found.sigma_max <= 1.01 * sizes[-1]
        assert found.negative == int((exact + shift < -1e-9).sum())
        assert found.nullity == (1 if shift == 0.0 else 0)


@pytest.mark.parametrize("wrong", [0.0, 0.5])
def test_residuals_of_many_columns_are_those_of_F(wrong):
    """They come from the assembled matrix if that is what F says it is: a wrong entry is found, as with few columns."""
    d, k = 300, 50
    i = np.arange(d)
    pattern = (np.concatenate([i, i[1:], i[:-1]]), np.concatenate([i, i[:-1], i[1:]]))
    entries = np.concatenate([np.full(d, 3.0), -np.ones(2 * d - 2)])
    A = np.zeros((d, d))
    A[pattern] = entries
    entries[7] += wrong
    operator = operator_of(A, True, pattern, entries=lambda _: entries)
    solver = prepare(
        choose(d, symmetric=True, name="sparse_lu", escalate=False, pattern=pattern), operator, None, jnp.zeros((d, 0))
    )
    b = np.random.default_rng(0).normal(size=(d, k))
    solved = solver.solve(jnp.asarray(b))
    true = np.linalg.norm(A @ np.asarray(solved.value) - b, axis=0) / np.linalg.norm(b, axis=0)
    np.testing.assert_allclose(solved.relative, true, rtol=1e-6, atol=1e-15)
    assert (solved.status == 0).all() == (wrong == 0.0)


@pytest.mark.parametrize("method", ["sparse_lu", "sparse_cholesky"])
def test_entries_that_are_not_finite_are_told(method):
    if method == "sparse_cholesky" and not cholesky_installed():
        pytest.skip("cholespy is not installed")
    A = chain_of_springs(5)
    A[2, 2] = np.nan
    operator = operator_of(A, True, np.nonzero(A))
    with pytest.raises(Unsuitable, match="dF/dx has entries that are not finite"):
        SparseSolver(csc_array(A), operator, jnp.zeros((10, 0)), method=method, tol=1e-10)


def test_more_null_vectors_than_are_looked_for_are_told():
    d = NULL_MOST + 20
    A = np.diag(np.r_[np.zeros(NULL_MOST + 5), np.ones(15)])
    with pytest.raises(Unsuitable, match=r"A has \d+ or more null vectors"):
        SparseSolver(csc_array(A), operator_of(A, True, np.nonzero(np.eye(d))), jnp.zeros((d, 0)), method="sparse_lu", tol=1e-10)


def test_negative_eigenvalues_are_counted_without_an_inertia():
    """[[0, 1], [1, 0]] has a negative eigenvalue, which pivots off the diagonal do not show; d is above what is decomposed."""
    d, A = 600, np.eye(600)
    for i in (0, 2, 4):
        A[i : i + 2, i : i + 2] = [[0.0, 1.0 + i], [1.0 + i, 0.0]]
    operator = operator_of(A, True, np.nonzero(A))
    solver = SparseSolver(csc_array(A), operator, jnp.zeros((d, 0)), method="sparse_lu", tol=1e-10)
    assert solver.spectrum.negative == 3
