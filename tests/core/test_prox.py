"""Proximal operators: finite differences, the definition itself, kinks and margins."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import isotonic_regression

from implicit_cli.core import projections, prox

PATH = Path(__file__).resolve().parents[2] / "benchmarks" / "catalogue_operators.py"
SPEC = importlib.util.spec_from_file_location("catalogue_operators", PATH)
catalogue = sys.modules.setdefault("catalogue_operators", importlib.util.module_from_spec(SPEC))
SPEC.loader.exec_module(catalogue)


@pytest.mark.parametrize("case", catalogue.prox_cases(), ids=lambda case: case.name)
def test_derivatives_are_those_of_finite_differences(case):
    measured = catalogue.measure(case)
    assert (measured.margin > 5e-3).all()
    for column, error in measured.errors.items():
        if column == "parameters" and len(case.points[0]) == 1:
            assert np.isnan(error)
        else:
            assert error < 1e-7, column


def positive(x):
    return np.where((x >= 0).all(), 0.0, np.inf)


# name: operator at its parameters, weight * r
WEIGHT = 0.6
PENALTIES = {
    "none": (prox.none, lambda x: 0.0),
    "lasso": (lambda v: prox.lasso(v, WEIGHT), lambda x: WEIGHT * np.abs(x).sum()),
    "nonnegative_lasso": (lambda v: prox.nonnegative_lasso(v, WEIGHT), lambda x: WEIGHT * x.sum() + positive(x)),
    "elastic_net": (lambda v: prox.elastic_net(v, WEIGHT, 0.3), lambda x: WEIGHT * np.abs(x).sum() + 0.15 * x @ x),
    "group_lasso": (lambda v: prox.group_lasso(v, WEIGHT), lambda x: WEIGHT * np.linalg.norm(x)),
    "ridge": (lambda v: prox.ridge(v, WEIGHT), lambda x: WEIGHT * (x @ x) / 2),
    "nonnegative_ridge": (lambda v: prox.nonnegative_ridge(v, WEIGHT), lambda x: WEIGHT * (x @ x) / 2 + positive(x)),
    "log": (lambda v: prox.log(v, WEIGHT), lambda x: -WEIGHT * np.log(np.maximum(x, 1e-300)).sum() + positive(x)),
    "isotonic": (prox.isotonic, lambda x: positive(np.diff(x))),
    "antitonic": (prox.antitonic, lambda x: positive(-np.diff(x))),
}
JITTED = {name: jax.jit(jax.vmap(operator)) for name, (operator, _) in PENALTIES.items()}
# not st.floats: compiled code may set its thread to flush to zero, and what st.floats draws depends on that
numbers = st.integers(-100_000_000, 100_000_000).map(lambda k: k / 1e6)
vectors = arrays(float, 6, elements=numbers)


@pytest.mark.parametrize("name", PENALTIES)
@given(pair=st.tuples(vectors, vectors))
def test_it_minimises_what_its_docstring_says_and_is_nonexpansive(name, pair):
    v, r = pair[0], PENALTIES[name][1]
    x, y = np.asarray(JITTED[name](np.stack(pair)))
    assert np.linalg.norm(x - y) <= np.linalg.norm(pair[0] - pair[1]) + 1e-11

    def objective(x):
        return (x - v) @ (x - v) / 2 + r(x)

    # strongly convex: at the minimiser, and there only, every other point is worse by half its distance squared
    for size in (1e-5, 1e-3, 1e-1, 1.0, 30.0):
        for change in np.concatenate([np.eye(6), -np.eye(6), np.tril(np.ones((6, 6))), -np.tril(np.ones((6, 6))), [y - x]]):
            other = x + size * change
            rounding = 1e-11 * max(1.0, v @ v, abs(objective(other)))
            assert objective(other) - objective(x) >= (size * change) @ (size * change) / 2 - rounding


def test_ridge_has_the_half():
    # with r = |x|^2 instead of |x|^2 / 2 this would be v / 3
    np.testing.assert_allclose(prox.ridge(np.asarray([3.0, -6.0]), 1.0), [1.5, -3.0])
    np.testing.assert_allclose(prox.nonnegative_ridge(np.asarray([3.0, -6.0]), 1.0), [1.5, 0.0])
    np.testing.assert_allclose(prox.elastic_net(np.asarray([3.0, -6.0]), 0.0, 1.0), [1.5, -3.0])


@pytest.mark.parametrize("seed", range(4))
def test_isotonic_is_that_of_scipy(seed):
    v = np.random.default_rng(seed).normal(size=300).cumsum() * 10.0**seed
    np.testing.assert_allclose(prox.isotonic(v), isotonic_regression(v).x, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(prox.antitonic(v), isotonic_regression(v, increasing=False).x, rtol=1e-12, atol=1e-12)


def test_log_keeps_its_digits_far_below_zero():
    for v, weight in ((-1e8, 1.0), (1e8, 1.0), (0.0, 4.0)):
        x = float(prox.log(v, weight))
        assert x > 0
        np.testing.assert_allclose(x - weight / x, v, rtol=1e-14, atol=1e-14)
        np.testing.assert_allclose(jax.grad(prox.log.__call__)(v, weight), 1 / (1 + weight / x**2), rtol=1e-13)
    assert jax.grad(prox.log.__call__)(0.0, 0.0) == 0


# Kinks: operator with margin, v, a change into the piece whose derivative is documented, derivative
KINKS = {
    "lasso": (prox.lasso, (1.0,), [1.0, -1.0], [-1.0, 1.0], np.zeros((2, 2))),
    "nonnegative_lasso": (prox.nonnegative_lasso, (1.0,), [1.0, 1.0], [-1.0, -1.0], np.zeros((2, 2))),
    "elastic_net": (prox.elastic_net, (1.0, 0.5), [1.0, -1.0], [-1.0, 1.0], np.zeros((2, 2))),
    "group_lasso": (prox.group_lasso, (5.0,), [3.0, 4.0], [-3.0, -4.0], np.zeros((2, 2))),
    "nonnegative_ridge": (prox.nonnegative_ridge, (1.0,), [0.0, 0.0], [-1.0, -1.0], np.zeros((2, 2))),
    "isotonic": (prox.isotonic, (), [1.0, 1.0], [-1.0, 1.0], np.eye(2)),
    "antitonic": (prox.antitonic, (), [1.0, 1.0], [1.0, -1.0], np.eye(2)),
}


@pytest.mark.parametrize("name", KINKS)
def test_the_derivative_at_a_kink_is_the_documented_one(name):
    operator, parameters, v, into, expected = KINKS[name]
    v, into = np.asarray(v), np.asarray(into)

    def f(v):
        return operator(v, *parameters)

    assert operator.margin(v, *parameters) == 0
    assert operator.margin(v + 1e-3 * into, *parameters) > 5e-4
    for mode in (jax.jacfwd, jax.jacrev):
        np.testing.assert_array_equal(jax.vmap(mode(f))(v[None])[0], expected)
    np.testing.assert_allclose((f(v + 1e-6 * into) - f(v)) / 1e-6, expected @ into, atol=1e-9)


def test_group_lasso_at_zero_where_the_reference_has_nan():
    for mode in (jax.jacfwd, jax.jacrev):
        J, by_weight = jax.vmap(mode(prox.group_lasso.__call__, (0, 1)), (0, None))(jnp.zeros((3, 4)), 1.0)
        np.testing.assert_array_equal(J, 0)
        np.testing.assert_array_equal(by_weight, 0)


@pytest.mark.parametrize("operator", [prox.isotonic, prox.antitonic, prox.lasso])
def test_the_derivative_holds_up_to_the_margin_and_changes_beyond(operator):
    rng = np.random.default_rng(2)
    v = rng.normal(size=6)
    parameters = (WEIGHT,) if operator is prox.lasso else ()

    @jax.jit
    @jax.vmap
    def probe(v):
        return jax.jacfwd(lambda v: operator(v, *parameters))(v), operator.margin(v, *parameters)

    near, margins = (np.asarray(part) for part in probe(np.concatenate([v[None], v + 1e-7 * np.eye(6)])))
    slope = (margins[1:] - margins[0]) / 1e-7
    np.testing.assert_allclose(np.linalg.norm(slope), 1.0, rtol=1e-5)
    directions = rng.normal(size=(6, 6))
    directions /= np.linalg.norm(directions, axis=1)[:, None]
    inside, _ = probe(v + margins[0] * np.concatenate([0.999 * directions, [-1.001 * slope]]))
    np.testing.assert_allclose(inside[:-1], np.broadcast_to(near[0], (6, 6, 6)), atol=1e-12)
    assert np.abs(inside[-1] - near[0]).max() > 0.05


def test_a_projection_is_a_proximal_operator():
    v = np.asarray([0.3, -0.2, 0.9])
    np.testing.assert_allclose(projections.nonnegative(v), prox.nonnegative_lasso(v, 0.0))
