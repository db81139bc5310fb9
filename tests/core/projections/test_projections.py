"""Projections with a formula, and cones: values by their defining inequalities, kinks, margins, and where the reference fails."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from implicit_cli.core import projections as P

LINE = np.asarray([0.5, -1.0, 2.0, 0.3, -0.7])
# name: the operator at fixed parameters, and the support function of its set, max <c, y> over the set
SETS = {
    "nonnegative": (P.nonnegative, lambda c: np.where((c <= 1e-12).all(), 0.0, np.inf)),
    "box": (lambda v: P.box(v, -0.5, 0.8), lambda c: np.maximum(-0.5 * c, 0.8 * c).sum()),
    "simplex": (lambda v: P.simplex(v, 1.3), lambda c: 1.3 * c.max()),
    "l1_ball": (lambda v: P.l1_ball(v, 1.3), lambda c: 1.3 * np.abs(c).max()),
    "l2_ball": (lambda v: P.l2_ball(v, 1.3), lambda c: 1.3 * np.linalg.norm(c)),
    "linf_ball": (lambda v: P.linf_ball(v, 1.3), lambda c: 1.3 * np.abs(c).sum()),
    "half_space": (lambda v: P.half_space(v, LINE, 0.4), lambda c: 0.4 * (c @ LINE) / (LINE @ LINE)),
    "second_order_cone": (P.second_order_cone, lambda c: np.where(np.linalg.norm(c[1:]) <= -c[0] + 1e-9, 0.0, np.inf)),
}
JITTED = {name: jax.jit(jax.vmap(operator)) for name, (operator, _) in SETS.items()}
# not st.floats: compiled code may set its thread to flush to zero, and what st.floats draws depends on that
numbers = st.integers(-1000_000_000, 1000_000_000).map(lambda k: k / 1e6)
vectors = arrays(float, 5, elements=numbers)


@pytest.mark.parametrize("name", SETS)
@given(pair=st.tuples(vectors, vectors))
def test_it_is_the_nearest_point_idempotent_and_nonexpansive(name, pair):
    x, y = np.asarray(JITTED[name](np.stack(pair)))
    again = np.asarray(JITTED[name](np.stack([x, y])))
    size = max(1.0, np.abs(pair).max())
    np.testing.assert_allclose(again, np.stack([x, y]), atol=1e-13 * size)
    assert np.linalg.norm(x - y) <= np.linalg.norm(pair[0] - pair[1]) + 1e-12 * size
    c = (pair[0] - x) / size
    # <v - x, y> is largest at x over the set
    assert c @ x >= SETS[name][1](c) - 1e-11 * size


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (P.nonnegative, optax.projections.projection_non_negative),
        (lambda v: P.box(v, -0.5, 0.8), lambda v: optax.projections.projection_box(v, -0.5, 0.8)),
        (P.simplex, optax.projections.projection_simplex),
        (lambda v: P.l1_ball(v, 1.3), lambda v: optax.projections.projection_l1_ball(v, 1.3)),
        (lambda v: P.l1_sphere(v, 1.3), lambda v: optax.projections.projection_l1_sphere(v, 1.3)),
        (lambda v: P.l2_ball(v, 1.3), lambda v: optax.projections.projection_l2_ball(v, 1.3)),
        (lambda v: P.l2_sphere(v, 1.3), lambda v: optax.projections.projection_l2_sphere(v, 1.3)),
        (lambda v: P.hyperplane(v, LINE, 0.4), lambda v: optax.projections.projection_hyperplane(v, LINE, 0.4)),
    ],
)
def test_values_are_those_of_another_library(ours, theirs):
    v = jnp.asarray([0.3, -1.2, 2.0, 0.4, 0.1])
    with jax.numpy_dtype_promotion("standard"):
        np.testing.assert_allclose(ours(v), theirs(v), atol=1e-14)


def test_affine_set_is_the_nearest_point_with_a_rank_deficient_matrix():
    rng = np.random.default_rng(0)
    A = rng.normal(size=(3, 2)) @ rng.normal(size=(2, 6))
    v, y = rng.normal(size=(2, 6))
    x = np.asarray(P.affine_set(v, A, A @ y))
    np.testing.assert_allclose(A @ x, A @ y, atol=1e-12)
    _, _, Vt = np.linalg.svd(A)
    np.testing.assert_allclose(Vt[2:] @ (x - v), 0, atol=1e-12)  # v - x has no part along the set
    np.testing.assert_allclose(P.affine_set(v, np.zeros((0, 6)), np.zeros(0)), v)


# The cases that the reference implementation publishes, beyond those above


def test_simplex_of_large_and_infinite_entries():
    rng = np.random.default_rng(1)
    for scale in (1.0, 1e9, 1e15):
        for radius in (0.8, 1.0):
            x = np.asarray(P.simplex(scale * rng.normal(size=50), radius))
            np.testing.assert_allclose(x.sum(), radius, rtol=1e-14)
            assert (x >= 0).all()
    v = jnp.asarray([0.0, 0.0, -jnp.inf])
    np.testing.assert_allclose(P.simplex(v), [0.5, 0.5, 0.0])
    np.testing.assert_allclose(jax.jacrev(P.simplex)(v), [[0.5, -0.5, 0], [-0.5, 0.5, 0], [0, 0, 0]])
    np.testing.assert_allclose(P.kl_simplex(v), [0.5, 0.5, 0.0])
    np.testing.assert_allclose(jax.jacrev(P.kl_simplex)(v), [[0.25, -0.25, 0], [-0.25, 0.25, 0], [0, 0, 0]])


def test_jacobian_of_simplex_is_that_of_its_support():
    v = np.random.default_rng(2).uniform(size=5) * 2
    s = (np.asarray(P.simplex(v)) > 0).astype(float)
    assert 0 < s.sum() < 5
    for mode in (jax.jacfwd, jax.jacrev):
        np.testing.assert_allclose(mode(P.simplex)(v), np.diag(s) - np.outer(s, s) / s.sum(), atol=1e-15)


@pytest.mark.parametrize(("ball", "sphere", "order"), [(P.l1_ball, P.l1_sphere, 1), (P.l2_ball, P.l2_sphere, 2)])
def test_ball_inside_on_the_sphere_and_outside(ball, sphere, order):
    v = np.random.default_rng(3).normal(size=9)
    size = float(np.abs(v).sum() if order == 1 else P.l2_ball.margin(v, 0.0))
    jacobians = jax.jit(jax.jacrev(ball.__call__, (0, 1)))
    for radius in (2 * size, size):
        np.testing.assert_allclose(ball(v, radius), v)
        J, by_radius = jacobians(v, radius)
        np.testing.assert_array_equal(J, np.eye(9))
        np.testing.assert_array_equal(by_radius, 0)
    J, by_radius = jacobians(v, size / 2)
    expected, expected_by_radius = jax.jacfwd(sphere.__call__, (0, 1))(v, size / 2)
    np.testing.assert_allclose(J, expected, atol=1e-14)
    np.testing.assert_allclose(by_radius, expected_by_radius, atol=1e-14)


def test_parameters_may_be_integers_and_names():
    v = np.asarray([-1.0, 2.0, 3.0])
    np.testing.assert_array_equal(P.box(v, 0, 2), [0, 2, 2])
    np.testing.assert_array_equal(P.box([-1, 2, 3], lower=0, upper=2), [0, 2, 2])
    np.testing.assert_allclose(P.simplex(v, radius=2), [0, 0.5, 1.5])
    assert P.box.__name__ == "box"
    assert P.box.__doc__.startswith("Projection on")


# Kinks: operator, v, a change of v into the piece whose derivative is documented, derivative
eye = np.eye
KINKS = {
    "nonnegative": (P.nonnegative, np.zeros(2), -np.ones(2), np.zeros((2, 2))),
    "box": (lambda v: P.box(v, -1.0, 1.0), np.asarray([1.0, -1.0]), np.asarray([-1.0, 1.0]), eye(2)),
    "simplex": (P.simplex, np.asarray([0.5, 0.5, 0.0]), np.asarray([0.0, 0, -1]), [[0.5, -0.5, 0], [-0.5, 0.5, 0], [0, 0, 0]]),
    "l1_ball": (lambda v: P.l1_ball(v, 1.0), np.asarray([0.5, -0.5]), np.asarray([-1.0, 1.0]), eye(2)),
    "l2_ball": (lambda v: P.l2_ball(v, 5.0), np.asarray([3.0, 4.0]), np.asarray([-3.0, -4.0]), eye(2)),
    "linf_ball": (lambda v: P.linf_ball(v, 1.0), np.asarray([1.0, -1.0]), np.asarray([-1.0, 1.0]), eye(2)),
    "l1_sphere": (lambda v: P.l1_sphere(v, 1.0), np.asarray([0.0, 0.2]), np.asarray([1.0, 0.0]), [[0.5, -0.5], [-0.5, 0.5]]),
    "half_space": (lambda v: P.half_space(v, np.asarray([1.0, 2.0]), 3.0), np.ones(2), -np.ones(2), eye(2)),
    "second_order_cone, surface": (P.second_order_cone, np.asarray([5.0, 3.0, 4.0]), np.asarray([1.0, 0, 0]), eye(3)),
    "second_order_cone, polar": (P.second_order_cone, np.asarray([-5.0, 3.0, 4.0]), np.asarray([-1.0, 0, 0]), np.zeros((3, 3))),
    "second_order_cone, 0": (P.second_order_cone, np.zeros(3), np.asarray([1.0, 0, 0]), eye(3)),
    "exponential_cone, face": (P.exponential_cone, np.asarray([-1.0, -1.0, 0.0]), np.asarray([0, 0, -1.0]), np.diag([1.0, 0, 0])),
    "exponential_cone, 0": (P.exponential_cone, np.zeros(3), np.asarray([-1.0, 0.1, 1.0]), eye(3)),
}
MARGINS = {
    "box": lambda v: P.box.margin(v, -1.0, 1.0),
    "l1_ball": lambda v: P.l1_ball.margin(v, 1.0),
    "l2_ball": lambda v: P.l2_ball.margin(v, 5.0),
    "linf_ball": lambda v: P.linf_ball.margin(v, 1.0),
    "l1_sphere": lambda v: P.l1_sphere.margin(v, 1.0),
    "half_space": lambda v: P.half_space.margin(v, np.asarray([1.0, 2.0]), 3.0),
}


@pytest.mark.parametrize("name", KINKS)
def test_the_derivative_at_a_kink_is_the_documented_one(name):
    operator, v, into, expected = KINKS[name]
    margin = MARGINS.get(name) or operator.margin
    assert margin(v) < 1e-15
    assert margin(v + 1e-3 * into) > 1e-5
    value, J = jax.jit(jax.vmap(lambda v: (operator(v), jax.jacrev(operator)(v))))(np.stack([v, v + 1e-6 * into]))
    np.testing.assert_allclose(J[0], expected, atol=1e-14)
    np.testing.assert_allclose(jax.vmap(jax.jacfwd(operator))(v[None])[0], expected, atol=1e-14)
    np.testing.assert_allclose((value[1] - value[0]) / 1e-6, J[0] @ into, atol=1e-9)


def test_at_zero_the_reference_has_nan():
    zeros = jnp.zeros((3, 4))  # one vector each, under vmap
    for mode in (jax.jacfwd, jax.jacrev):
        J, by_radius = jax.vmap(mode(P.l2_ball.__call__, (0, 1)), (0, None))(zeros, 1.0)
        np.testing.assert_array_equal(J, np.broadcast_to(np.eye(4), (3, 4, 4)))
        np.testing.assert_array_equal(by_radius, 0)
        J, by_radius = jax.vmap(mode(P.l2_sphere.__call__, (0, 1)), (0, None))(zeros, 2.0)
        np.testing.assert_array_equal(J, 0)
        np.testing.assert_array_equal(by_radius, np.eye(4)[[0, 0, 0]])
    np.testing.assert_array_equal(P.l2_sphere(zeros[0], 2.0), [2, 0, 0, 0])
    assert P.l2_sphere.margin(zeros[0], 2.0) == 0


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.exhaustive), pytest.param(2, marks=pytest.mark.exhaustive)])
def test_the_derivative_holds_up_to_the_margin_and_changes_beyond(seed):
    rng = np.random.default_rng(seed)
    v = rng.normal(size=5)
    directions = rng.normal(size=(30, 5))
    directions /= np.linalg.norm(directions, axis=1)[:, None]
    for operator, parameters in (
        (P.nonnegative, ()),
        (P.box, (-0.5, 0.6)),
        (P.simplex, (1.2,)),
        (P.l1_ball, (1.2,)),
        (P.l1_ball, (20.0,)),
        (P.l1_sphere, (1.2,)),
        (P.l1_sphere, (20.0,)),
        (P.linf_ball, (0.7,)),
        (P.half_space, (LINE, 0.4)),
    ):
        probe = jax.jit(jax.vmap(lambda v, op=operator, p=parameters: (jax.jacfwd(lambda v: op(v, *p))(v), op.margin(v, *p))))
        margin = float(operator.margin(v, *parameters))
        # pad to one batch size, so that there is one program
        near = np.concatenate([v + 1e-7 * np.eye(5), np.broadcast_to(v, (26, 5))])
        J, margins = (np.asarray(part) for part in probe(near))
        slope = (margins[:5] - margin) / 1e-7
        np.testing.assert_allclose(np.linalg.norm(slope), 1.0, rtol=1e-5)
        points = np.concatenate([v + 0.999 * margin * directions, (v - 1.001 * margin * slope)[None]])
        inside = np.asarray(probe(points)[0])
        np.testing.assert_allclose(inside[:-1], np.broadcast_to(J[-1], (30, 5, 5)), atol=1e-12)
        assert np.abs(inside[-1] - J[-1]).max() > 0.05


def test_an_empty_set_is_nan():
    v = jnp.ones(3)
    for operator, parameters in (
        (P.box, (1.0, 0.0)),
        (P.simplex, (-1.0,)),
        (P.kl_simplex, (-1.0,)),
        (P.l1_ball, (-9.0,)),
        (P.l2_ball, (-1.0,)),
        (P.linf_ball, (-1.0,)),
        (P.l1_sphere, (-1.0,)),
        (P.l2_sphere, (-1.0,)),
    ):
        x, dx = jax.jvp(lambda v, op=operator, p=parameters: op(v, *p), (v,), (v,))
        assert np.isnan(x).all()
        assert np.isnan(dx).all()
