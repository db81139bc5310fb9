"""Both ends of a spectrum from products alone, against the spectrum itself."""

from functools import partial

import numpy as np
import pytest
from scipy.sparse.linalg import eigsh

from implicit_cli.core.linear import extremes
from implicit_cli.core.linear.extremes import without_inverse


def ends(values, *, null=0, dtype=np.float64, most=10_000):
    """What is found of a symmetric matrix with these eigenvalues, of which the first `null` are deflated."""
    rng = np.random.default_rng(0)
    V = np.linalg.qr(rng.normal(size=(len(values), len(values))))[0]
    A, Z = ((V * values) @ V.T).astype(dtype), V[:, :null].astype(dtype)
    return without_inverse(lambda u: A @ u, lambda u: u - Z @ (Z.T @ u), rng.normal(size=len(values)).astype(dtype), most)


@pytest.mark.parametrize("kappa", [1.0, 10.0, 1e3, 1e6])
def test_ends_of_a_definite_matrix(kappa):
    values = np.geomspace(1.0, kappa, 300)
    low, high = ends(values)
    assert 0.998 < low < 1.0
    assert high == pytest.approx(kappa, rel=2e-3)


def test_null_vectors_stay_out():
    values = np.r_[np.zeros(3), np.geomspace(1e-3, 10.0, 200)]
    assert ends(values, null=3)[0] == pytest.approx(1e-3, rel=2e-3)


def test_a_null_vector_that_nobody_declared_is_zero():
    low, high = ends(np.r_[0.0, np.geomspace(0.1, 10.0, 200)])
    assert abs(low) < 1e-12
    assert high == pytest.approx(10.0, rel=2e-3)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_negative_eigenvalue_is_seen(dtype):
    assert ends(np.r_[-0.3, np.linspace(1.0, 5.0, 100)], dtype=dtype)[0] < -0.1
    assert ends(np.linspace(1.0, 5.0, 100), dtype=dtype)[0] == pytest.approx(1.0, rel=2e-3)


def test_nothing_left_and_nothing_finite():
    assert ends(np.zeros(2), null=2) == (0.0, 0.0)
    assert without_inverse(lambda u: u * np.nan, lambda u: u, np.ones(3), 9) == (0.0, 0.0)


def test_a_spectrum_that_is_not_reached_is_not_called_so(monkeypatch):
    monkeypatch.setattr(extremes, "eigsh", partial(eigsh, maxiter=1))
    found, sure = extremes.largest(lambda u: np.linspace(1.0, 2.0, 4000) * u, 4000)
    assert not sure
    assert found == 0.0


def test_where_nothing_is_left_there_is_no_spectrum():
    assert ends(np.ones(3), null=3) == (0.0, 0.0)
