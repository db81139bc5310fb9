"""Predictions against functions whose values are known, and errors against the estimates that come with them."""

from dataclasses import replace

import numpy as np
import pytest

from implicit_cli.analysis import predict
from implicit_cli.errors import InputError
from implicit_cli.sample import Input

A = np.array([[2.0, 0.5, 0.0], [0.5, 1.0, -0.3], [0.0, -0.3, 0.7]])


def line(functions, f, slope, at):
    """Cases along one input, without a distribution."""
    theta = np.asarray(at, float)[:, None]
    base = functions["mixed"].sample(len(at) + 20)
    rows = slice(0, len(at))
    return replace(
        base,
        ids=base.ids[rows],
        good=base.good[rows],
        inputs=(Input("t"),),
        theta=theta,
        y=f(theta),
        y_bound=np.zeros_like(theta),
        J=slope(theta)[:, None],
        J_bound=np.zeros((len(at), 1, 1)),
    )


def test_between_cases_along_a_line_it_is_hermites_cubic(functions):
    sample = line(functions, lambda t: t**3 - t, lambda t: 3 * t**2 - 1, [0.0, 0.7, 1.0, 2.0, 3.5])
    for t in (0.1, 0.9, 1.7, 3.4, 4.0):
        found = predict(sample, {"t": t})
        assert found.columns["value"].values[0] == pytest.approx(t**3 - t, rel=1e-12)
        assert (found.notes == ()) is (t <= 3.5)
    rough = line(functions, np.sin, np.cos, np.linspace(0, 6, 13))
    for t in np.linspace(0.6, 5.4, 9):
        column = predict(rough, {"t": float(t)}).columns["value"]
        assert column.low[0] <= np.sin(t) <= column.high[0]
        assert column.high[0] - column.low[0] < 0.2


def test_in_many_inputs_it_has_values_and_slopes_of_every_case(functions):
    ishigami = functions["ishigami"]
    sample = ishigami.sample(128)
    names = sample.names
    for case in (3, 17, 90):
        t = sample.theta[case]
        at = predict(sample, dict(zip(names, t, strict=True)))
        assert at.columns["value"].values[0] == pytest.approx(sample.y[case, 0], rel=1e-9)
        assert at.facts["case"] == str(case)
        h = 1e-4
        moved = [
            predict(sample, dict(zip(names, t + s * h * np.eye(3)[0], strict=True))).columns["value"].values[0] for s in (1, -1)
        ]
        assert (moved[0] - moved[1]) / (2 * h) == pytest.approx(sample.J[case, 0, 0], rel=1e-4, abs=1e-4)


def test_an_input_that_is_not_set_is_that_of_the_nearest_case(functions):
    sample = functions["mixed"].sample(64)
    found = predict(sample, {"u0": float(sample.theta[9, 0])})
    assert found.facts["case"] == "9"
    assert found.columns["value"].values[0] == pytest.approx(sample.y[9, 0], rel=1e-9)


def test_taylor_is_exact_for_what_it_can_say(functions):
    base = functions["mixed"].sample(32)
    t = base.theta[4]
    sample = replace(
        base,
        y=np.einsum("ci,ij,cj->c", base.theta, A, base.theta)[:, None],
        J=(2 * base.theta @ A)[:, None],
        J_bound=np.full(base.J.shape, 0.1),
        y_bound=np.full(base.y.shape, 0.01),
        curvature=np.broadcast_to(2 * A, (32, 1, 3, 3)),
    )
    to = t + np.array([0.1, -0.2, 0.3])
    values = dict(zip(sample.names, to, strict=True))
    second = predict(sample, values, case=4)
    assert second.facts["order"] == "second"
    assert second.columns["value"].values[0] == pytest.approx(to @ A @ to, rel=1e-12)
    assert second.columns["certified"].values[0] == pytest.approx(0.01 + 0.1 * 0.6)
    assert second.columns["curvature"].values[0] == pytest.approx((to - t) @ A @ (to - t))
    first = predict(sample, values, case=4, order="first")
    assert first.columns["value"].values[0] == pytest.approx(t @ A @ t + 2 * t @ A @ (to - t))
    assert first.columns["value"].low is None  # nothing is known of what curvature does
    assert first.notes == ("what curvature leaves out is not known: products: [jacobian, hessian] in the spec tells",)


def test_what_does_not_fit_is_told(functions):
    sample = functions["mixed"].sample(32)
    for values, more, message in (
        ({"v": 1.0}, {}, "--set: found 'v', allowed: 'u0', 'u1', 'u2'"),
        ({"u": [1.0, 2.0]}, {}, "--set: found 'u', allowed: 'u0'"),
        ({"u0": [1.0, 2.0]}, {}, "--set: found 2 numbers for 'u0', allowed: one, or 1"),
        ({"u0": 1.0}, {"order": "second"}, "no second derivatives; allowed: 'first'"),
        ({"u0": 1.0}, {"case": 3, "order": "hermite"}, "'hermite' goes between several cases, found one"),
    ):
        with pytest.raises(InputError, match=message.replace("[", r"\[")):
            predict(sample, values, **more)
    with pytest.raises(InputError, match="no case with derivatives to predict from"):
        predict(replace(sample, good=np.zeros(32, bool)), {"u0": 1.0})


def test_an_estimate_between_cases_is_not_that_of_leaving_an_end_out(functions):
    def f(t):
        return 1000 / (1 + t)

    # widely spaced, as over decades: beyond the last but one, the cubic is far off
    sample = line(functions, f, lambda t: -1000 / (1 + t) ** 2, np.geomspace(0.01, 100, 6))
    for t in (20.0, 60.0, 95.0):
        column = predict(sample, {"t": t}).columns["value"]
        assert column.low[0] <= f(t) <= column.high[0]
        assert column.high[0] - column.low[0] < 4000


def test_a_branch_that_folds_has_no_value_between_its_cases(functions):
    sample = replace(line(functions, lambda t: t, lambda t: np.ones_like(t), [0.0, 1.0, 1.5, 1.2, 0.4]), branch=True)
    assert sample.folds
    with pytest.raises(InputError, match=r"the branch folds, and t has several solutions; allowed: --case ID$"):
        predict(sample, {"t": 0.5})
    assert predict(sample, {"t": 0.5}, case=0).columns["value"].values == pytest.approx([0.5])
    forward = replace(sample, theta=np.array([[0.0], [1.0], [1.2], [1.5], [2.0]]))
    assert not forward.folds
    predict(forward, {"t": 0.5})
