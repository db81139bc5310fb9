"""Indices against closed forms, within their own intervals; and what bounds, kinks and failed cases make of them."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm, uniform

from implicit_cli import designs
from implicit_cli.analysis import Wanted, analyse
from implicit_cli.analysis.standard import standard
from implicit_cli.errors import InputError
from implicit_cli.sample import Input

LAWS = {
    "uniform": (-1.0, 3.0),
    "loguniform": (0.2, 5.0),
    "normal": (2.0, 0.7),
    "truncated_normal": (2.0, 0.7, 1.0, 4.0),
}


def table(sample, name, axis="input", **wanted):
    (found,) = (one for one in analyse(sample, [name], Wanted(**wanted))[0] if one.axis == axis)
    return found


def holds(column, truth):
    """Whether every interval has the truth in it."""
    return bool(((column.low <= truth) & (truth <= column.high)).all())


@pytest.mark.parametrize("kind", LAWS)
def test_a_standard_variable_is_that_of_the_quantile_and_its_slope_a_difference(functions, kind):
    axis = designs.Distribution("u", kind, tuple(map(np.asarray, LAWS[kind])))
    theta = designs.sampled("random", [axis], 40, 0).values
    sample = replace(functions["ishigami"].sample(16), inputs=(Input("u", "1", (kind, LAWS[kind])),), theta=theta)
    found = standard(sample)
    family = found.families[0]
    law = norm() if family == "normal" else uniform(-1, 2)
    # what was drawn has the distribution that the variable says: its own shares come back
    order = np.argsort(theta[:, 0])
    assert (np.diff(found.xi[order, 0]) > 0).all()
    shares = law.cdf(found.xi[:, 0])
    assert ((shares > 0) & (shares < 1)).all()
    h = 1e-6
    for sign in (1, -1):
        moved = standard(replace(sample, theta=theta + sign * h))
        difference = (moved.xi[:, 0] - found.xi[:, 0]) / (sign * h)
        np.testing.assert_allclose(difference * found.slope[:, 0, 0], 1.0, rtol=1e-4)


def test_dgsm_is_its_closed_form_and_bounds_the_total_indices(functions):
    ishigami = functions["ishigami"]
    found = table(ishigami.sample(4096, "sobol"), "dgsm")
    pi, b = np.pi, 0.1
    nu = [0.5 * (1 + 2 * b * pi**4 / 5 + b**2 * pi**8 / 9), 7.0**2 / 2, 8 * b**2 * pi**6 / 7]
    np.testing.assert_allclose(found.columns["nu"].values, nu, rtol=2e-2)
    assert holds(found.columns["nu"], nu)
    for function in functions.values():
        bound = table(function.sample(512), "dgsm").columns["bound"]
        assert (bound.high >= function.total).all()
        assert (bound.values > 0.8 * function.total).all()


def test_dgsm_of_what_is_linear_in_normal_inputs_is_the_index_itself(functions):
    mixed = functions["mixed"]
    weights = np.array([1.0, -0.5, 3.0])
    laws = (("normal", (0.0, 1.0)), ("normal", (5.0, 4.0)), ("normal", (1.0, 0.1)))
    linear = replace(mixed, f=lambda t: t @ weights, slope=lambda t: np.broadcast_to(weights, t.shape), laws=laws)
    part = (weights * [1.0, 4.0, 0.1]) ** 2
    found = table(linear.sample(4096, "sobol"), "dgsm").columns["bound"]
    np.testing.assert_allclose(found.values, part / part.sum(), rtol=3e-2)


def test_chaos_finds_the_indices_with_few_cases(function):
    found = table(function.sample(256), "chaos")
    for name, truth in (("S1", function.first), ("ST", function.total)):
        assert np.abs(found.columns[name].values - truth).max() < 1e-2
        assert holds(found.columns[name], truth)


def test_chaos_is_exact_where_the_function_is_a_polynomial(functions):
    mixed = functions["mixed"]
    found = table(mixed.sample(16), "chaos")
    np.testing.assert_allclose(found.columns["S1"].values, mixed.first, atol=1e-9)
    np.testing.assert_allclose(found.columns["ST"].values, mixed.total, atol=1e-9)
    assert found.facts["unexplained"] < 1e-15
    assert found.facts["mean"] == pytest.approx(2 + 1 + 3 * np.log(0.5 * 4) / 2, rel=1e-12)


@pytest.mark.parametrize(("method", "design", "cases"), [("sobol", "saltelli", 512), ("fast", "fast", 1025)])
def test_indices_of_salib_are_within_their_intervals(function, method, design, cases):
    found = table(function.sample(cases, design), method)
    for name, truth in (("S1", function.first), ("ST", function.total)):
        assert np.abs(found.columns[name].values - truth).max() < 0.12
        if method == "sobol":
            assert (np.abs(found.columns[name].values - truth) <= 1.5 * (found.columns[name].high - found.columns[name].low)).all()


def test_second_order_indices_add_up_to_the_total_ones(functions):
    ishigami = functions["ishigami"]
    sample = ishigami.sample(2048, "saltelli", second_order=True)
    pairs = table(sample, "sobol", axis="pair")
    assert pairs.rows == ("u0 x u1", "u0 x u2", "u1 x u2")
    expected = [0.0, ishigami.total[2], 0.0]
    np.testing.assert_allclose(pairs.columns["S2"].values, expected, atol=0.05)


def test_morris_effects_of_what_is_linear_are_its_slopes(functions):
    mixed = functions["mixed"]
    weights = np.array([1.0, -0.5, 3.0])
    linear = replace(
        mixed, f=lambda t: t @ weights, slope=lambda t: np.broadcast_to(weights, t.shape), laws=(("uniform", (0.0, 2.0)),) * 3
    )
    found = table(linear.sample(10, "morris"), "morris")
    np.testing.assert_allclose(found.columns["mu"].values, 2 * weights, rtol=1e-12)  # by the share of the law
    np.testing.assert_allclose(found.columns["sigma"].values, 0.0, atol=1e-12)


def test_borgonovos_delta_finds_the_input_that_matters_and_leaves_nothing_changed(functions):
    import warnings

    state, form, filters = np.random.get_state()[1].copy(), warnings.formatwarning, list(warnings.filters)  # noqa: NPY002
    found = table(functions["sobol_g"].sample(512), "borgonovo").columns["delta"].values
    assert found.argmax() == 0
    assert (np.sort(found)[::-1][:2] > 2 * found[4:].max()).all()
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002
    assert warnings.formatwarning is form
    assert warnings.filters == filters


def test_a_sample_too_small_for_borgonovos_delta_is_told_and_nothing_is_printed(functions, capsys):
    with pytest.raises(InputError, match="borgonovo finds no numbers for y from 25 cases; allowed: more of them"):
        analyse(functions["ishigami"].sample(25), ["borgonovo"], Wanted())
    assert capsys.readouterr().out == ""


def test_an_active_subspace_is_the_direction_that_the_function_has(functions):
    w = np.array([3.0, -1.0, 0.5]) / np.linalg.norm([3.0, -1.0, 0.5])
    laws = (("uniform", (-1.0, 1.0)),) * 3
    ridge = replace(functions["mixed"], f=lambda t: np.exp(t @ w), slope=lambda t: np.exp(t @ w)[:, None] * w, laws=laws)
    sample = ridge.sample(64)
    values = table(sample, "active", axis="direction")
    assert values.facts["dimension"] == 1
    assert values.facts["distance"] < 1e-6
    eigenvalue = values.columns["eigenvalue"]
    # E[exp(2 w't)] factor by factor
    assert eigenvalue.low[0] < np.prod(np.sinh(2 * w) / (2 * w)) < eigenvalue.high[0]
    np.testing.assert_allclose(eigenvalue.values[1:], 0.0, atol=1e-12)
    scores = table(sample, "active")
    np.testing.assert_allclose(scores.columns["direction 1"].values, w, atol=1e-12)
    np.testing.assert_allclose(scores.columns["activity"].values, w**2, atol=1e-12)


def test_an_active_subspace_of_correlated_inputs_is_that_of_independent_ones(functions):
    covariance = np.array([[1.0, 0.6], [0.6, 2.0]])
    w = np.array([1.0, -2.0])
    laws = (("normal", (0.0,)), ("normal", (0.0,)))
    rng = np.random.default_rng(0)
    theta = rng.normal(size=(50, 2)) @ np.linalg.cholesky(covariance).T
    base = functions["mixed"].sample(64)
    sample = replace(
        base,
        ids=base.ids[:50],
        good=base.good[:50],
        inputs=tuple(Input(f"u{i}", "1", law) for i, law in enumerate(laws)),
        theta=theta,
        y=(theta @ w)[:, None],
        y_bound=np.zeros((50, 1)),
        J=np.broadcast_to(w, (50, 1, 2)),
        J_bound=np.zeros((50, 1, 2)),
        covariance=covariance,
    )
    eigen = table(sample, "active", axis="direction").columns["eigenvalue"].values
    assert eigen[0] == pytest.approx(w @ covariance @ w, rel=1e-12)  # Var(y), for a linear y
    with pytest.raises(
        InputError, match=r"total Sobol indices need independent inputs, found sweep.covariance; allowed: active, delta"
    ):
        analyse(sample, ["dgsm"], Wanted())


@pytest.mark.parametrize("method", ["dgsm", "chaos", "active"])
def test_bounds_of_derivatives_widen_intervals(functions, method):
    ishigami = functions["ishigami"]
    axis, name = ("direction", "eigenvalue") if method == "active" else ("input", {"dgsm": "bound", "chaos": "ST"}[method])
    sharp, blunt = (table(ishigami.sample(128, bound=b), method, axis).columns[name] for b in (0.0, 0.1))
    assert (blunt.high > sharp.high).all()
    assert (blunt.low <= sharp.low).all()


def test_bounds_of_outputs_widen_the_indices_of_salib(functions):
    ishigami = functions["ishigami"]
    sharp, blunt = (table(ishigami.sample(64, "saltelli", bound=b), "sobol") for b in (0.0, 0.5))
    assert sharp.facts["numerical"] == 0.0
    assert blunt.facts["numerical"] > 1e-3
    assert ((blunt.columns["S1"].high - blunt.columns["S1"].low) > (sharp.columns["S1"].high - sharp.columns["S1"].low)).all()


def failing(sample, cases):
    """The sample with some cases that have failed, whose numbers are nonsense."""
    good, y, J = sample.good.copy(), sample.y.copy(), sample.J.copy()
    good[cases], y[cases], J[cases] = False, 1e6, np.nan
    return replace(sample, good=good, y=y, J=J)


def test_a_failed_case_takes_its_block_with_it_or_is_predicted_when_asked(functions):
    ishigami = functions["ishigami"]
    whole = ishigami.sample(512, "saltelli")
    holed = failing(whole, [7, 8, 1000])
    dropped = table(holed, "sobol")
    assert dropped.notes == ("10 of 2560 cases are left out, for 3 of them failed",)
    assert dropped.facts["cases"] == 2550
    filled = table(holed, "sobol", fill=True)
    assert filled.facts["cases"] == 2560
    assert filled.notes[0].startswith("3 of 2560 cases are predictions from their neighbours, good to about ")
    assert filled.notes[1].startswith("to leave them out instead moves an index by at most ")
    exact = table(whole, "sobol").columns["ST"].values
    assert np.abs(filled.columns["ST"].values - exact).max() < np.abs(dropped.columns["ST"].values - exact).max()


def test_fast_does_without_no_case(functions):
    holed = failing(functions["ishigami"].sample(257, "fast"), [5])
    with pytest.raises(InputError, match=r"1 of 771 cases without y leave too few for fast; allowed: --fill"):
        analyse(holed, ["fast"], Wanted())
    assert table(holed, "fast", fill=True).facts["cases"] == 771


@pytest.mark.parametrize("method", ["dgsm", "chaos", "active"])
def test_cases_without_derivatives_are_left_out_and_told(functions, method):
    """What is found is what the other cases alone say."""
    axis = "direction" if method == "active" else "input"
    whole = functions["mixed"].sample(128)
    found = table(failing(whole, [1, 2]), method, axis)
    assert found.notes == ("2 of 128 cases without a derivative are left out",)
    rest = np.setdiff1d(np.arange(128), [1, 2])
    parts = {name: getattr(whole, name)[rest] for name in ("good", "theta", "y", "y_bound", "J", "J_bound")}
    alone = table(replace(whole, ids=tuple(whole.ids[i] for i in rest), **parts), method, axis)
    for name, column in alone.columns.items():
        np.testing.assert_allclose(found.columns[name].values, column.values, rtol=1e-9, atol=1e-12)


def test_too_few_cases_with_derivatives_are_refused(functions):
    with pytest.raises(InputError, match=r"found 4 cases with derivatives of y, allowed: at least 10"):
        analyse(failing(functions["ishigami"].sample(16), np.arange(12)), ["dgsm"], Wanted())


def test_what_a_result_does_not_allow_is_refused_by_name(functions):
    sample = functions["ishigami"].sample(64)
    with pytest.raises(InputError, match=r"found the analysis 'sobel', allowed: .*; did you mean 'sobol'\?"):
        analyse(sample, ["sobel"], Wanted())
    with pytest.raises(InputError, match=r"sobol needs design 'saltelli', found 'latin_hypercube'"):
        analyse(sample, ["sobol"], Wanted())
    with pytest.raises(InputError, match=r"the delta method is about one case; allowed: --case ID"):
        analyse(sample, ["delta"], Wanted())
    levels = replace(sample, inputs=tuple(Input(one.name) for one in sample.inputs))
    with pytest.raises(InputError, match=r"u0 has levels, and no distribution; allowed: a sweep with design "):
        analyse(levels, ["dgsm"], Wanted())
    names = {one.method for one in analyse(sample, [], Wanted())[0]}
    assert names == {"elasticity", "dgsm", "active", "chaos"}


def test_an_output_that_does_not_change_has_no_indices(functions):
    still = replace(functions["ishigami"], f=lambda t: np.full(len(t), 3.0), slope=lambda t: np.zeros_like(t))
    found = table(still.sample(64), "chaos")
    np.testing.assert_array_equal(found.columns["ST"].values, 0.0)
    assert found.facts["mean"] == 3.0
