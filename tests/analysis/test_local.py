"""Elasticities and the delta method against closed forms."""

from dataclasses import replace

import numpy as np
import pytest

from implicit_cli.analysis import Wanted, analyse
from implicit_cli.errors import InputError

A = np.array([[2.0, 0.5, 0.0], [0.5, 1.0, -0.3], [0.0, -0.3, 0.7]])


def at(sample, case, y, J, H=None, bound=0.0):
    """The sample with what is known at one case."""
    ys, Js = sample.y.copy(), sample.J.copy()
    ys[case], Js[case] = y, J
    curvature = None
    if H is not None:
        curvature = np.full((len(ys), 1, *H.shape), np.nan)
        curvature[case] = H
    return replace(sample, y=ys, J=Js, curvature=curvature, J_bound=np.full(Js.shape, bound))


def tables(sample, name, **wanted):
    return {(one.of, one.axis): one for one in analyse(sample, [name], Wanted(**wanted))[0]}


def test_elasticities_of_a_power_law_are_its_exponents(functions):
    powers = np.array([2.0, -1.0, 0.5])
    laws = (("uniform", (1.0, 3.0)),) * 3
    law = replace(
        functions["mixed"],
        f=lambda t: np.prod(t**powers, axis=1),
        slope=lambda t: np.prod(t**powers, axis=1)[:, None] * powers / t,
        laws=laws,
    )
    sample = law.sample(20)
    columns = tables(sample, "elasticity")["y", "input"].columns
    for name in ("median", "least", "most"):
        np.testing.assert_allclose(columns[name].values, powers, rtol=1e-12)
    one = tables(replace(sample, J_bound=np.full(sample.J.shape, 0.1)), "elasticity", case=3)["y", "input"]
    assert one.facts["case"] == "3"
    half = np.abs(sample.theta[3] / sample.y[3]) * 0.1
    np.testing.assert_allclose(one.columns["elasticity"].high, powers + half, rtol=1e-12)
    np.testing.assert_allclose(one.columns["derivative"].low, sample.J[3, 0] - 0.1, rtol=1e-12)


def test_the_delta_method_is_exact_for_a_linear_output_and_to_second_order_for_a_quadratic_one(functions):
    sample, sigma = functions["mixed"].sample(32), np.array([0.5, 2.0, 0.1])
    t = sample.theta[4]
    J, y = 2 * A @ t, t @ A @ t
    found = tables(at(sample, 4, y, J, 2 * A), "delta", case=4, deviations=dict(zip(sample.names, sigma, strict=True)))
    whole = found["", "output"].columns
    S = np.diag(sigma**2)
    variance = J @ S @ J
    assert whole["deviation"].values[0] == pytest.approx(variance**0.5, rel=1e-12)
    # moments of a quadratic form of normal numbers
    assert whole["shift"].values[0] == pytest.approx(np.trace(A @ S), rel=1e-12)
    assert whole["second"].values[0] == pytest.approx((variance + 2 * np.trace(A @ S @ A @ S)) ** 0.5, rel=1e-12)
    np.testing.assert_allclose(found["y", "input"].columns["share"].values, (J * sigma) ** 2 / variance, rtol=1e-12)


def test_the_second_order_moments_are_those_of_random_draws(functions):
    sample, sigma = functions["mixed"].sample(32), np.array([0.5, 2.0, 0.1])
    t = sample.theta[4]
    drawn = t + np.random.default_rng(0).normal(size=(400_000, 3)) * sigma
    values = np.einsum("ki,ij,kj->k", drawn, A, drawn)
    given = dict(zip(sample.names, sigma, strict=True))
    columns = tables(at(sample, 4, t @ A @ t, 2 * A @ t, 2 * A), "delta", case=4, deviations=given)["", "output"].columns
    assert columns["shift"].values[0] == pytest.approx(values.mean() - t @ A @ t, rel=0.03)
    assert columns["second"].values[0] == pytest.approx(values.std(), rel=0.01)


def test_a_bound_widens_the_deviation_by_no_less_than_what_derivatives_within_it_do(functions):
    sample, sigma = functions["mixed"].sample(32), np.array([0.5, 2.0, 0.1])
    J, bound = np.array([1.0, -2.0, 0.5]), 0.2
    given = dict(zip(sample.names, sigma, strict=True))
    column = tables(at(sample, 0, 1.0, J, bound=bound), "delta", case=0, deviations=given)["", "output"].columns["deviation"]
    moved = J + bound * np.random.default_rng(0).choice([-1, 1], (50, 3))
    deviations = np.sqrt((moved**2) @ sigma**2)
    assert column.low[0] <= deviations.min()
    assert deviations.max() <= column.high[0]


def test_covariances_come_from_the_sweep_a_matrix_or_deviations(functions):
    sample = functions["mixed"].sample(64)
    J = np.array([1.0, -2.0, 0.5])
    own = tables(at(sample, 0, 1.0, J), "delta", case=0)["y", "input"].columns["sigma"].values
    low, high = 0.5, 4.0
    points = np.exp(np.linspace(np.log(low), np.log(high), 200_001))
    np.testing.assert_allclose(own, [0.5, 2.0, points.std()], rtol=1e-4)
    S = np.array([[1.0, 0.5, 0.0], [0.5, 2.0, 0.0], [0.0, 0.0, 3.0]])
    found = tables(at(sample, 0, 1.0, J), "delta", case=0, covariance=S)
    assert found["", "output"].columns["deviation"].values[0] == pytest.approx((J @ S @ J) ** 0.5)
    assert ("y", "input") not in found  # shares of correlated inputs are none
    for given, message in (
        ({"covariance": np.eye(2)}, r"--covariance: found the shape \(2, 2\), allowed: \(3, 3\), for u0, u1, u2"),
        (
            {"covariance": np.diag([1.0, -1.0, 1.0])},
            "found no covariance, allowed: a symmetric matrix without negative eigenvalues",
        ),
        ({"deviations": {"u4": 1.0}}, r"--deviation: found 'u4', allowed: 'u0', 'u1', 'u2'"),
    ):
        with pytest.raises(InputError, match=message):
            analyse(sample, ["delta"], Wanted(case=0, **given))
