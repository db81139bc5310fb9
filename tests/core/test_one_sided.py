"""One-sided derivatives at kinks, against one-sided differences of problems that NumPy solves anew by trying every active set."""

from collections import namedtuple
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.flatten_util import ravel_pytree

from implicit_cli.core import kkt, mirror_descent, projected_gradient, projections, prox, proximal_gradient
from implicit_cli.core.implicit import Point, System
from implicit_cli.core.linear import choose, prepare
from implicit_cli.core.linear.base import Operator
from implicit_cli.core.one_sided import kinks, one_sided
from implicit_cli.status import Status

H = np.array([[2.0, 0.5, -0.3], [0.5, 1.5, 0.4], [-0.3, 0.4, 1.2]])
V = np.array([[1.0, 0.0], [0.3, -1.0], [-0.7, 0.5], [0.5, 0.3]])
"""Directions of theta in R^4, one a column."""
STEP = 1e-5


def linearised(system):
    def linearise(p):
        d = p.x.size
        operator = Operator(system.A_times, system.At_times, p, d, symmetric=False, matrix=system.A_matrix)
        return prepare(choose(d, symmetric=False), operator, None, jnp.zeros((d, 0)))

    return linearise


def outputs(x, theta, data):
    return jnp.stack([x[0] * theta[0], jnp.sum(x**2)])


def sides(system, x, theta, directions=V, *, radius=1e-14, **more):
    p = Point(jnp.asarray(x), jnp.asarray(theta), None)
    return one_sided(system, p, linearised(system), jnp.asarray(directions), radius=radius, **more)


def make(F, unravel=lambda x: x, g=outputs):
    return System(lambda x, theta, data: ravel_pytree(F(unravel(x), theta))[0], g)


# Solvers of the witness.


def lasso_by_signs(theta):
    """argmin x'Hx / 2 - c'x + w |x|_1, theta = (c, w), by all patterns of signs."""
    c, w = theta[:3], theta[3]
    for signs in product((-1, 0, 1), repeat=3):
        s = np.array(signs)
        on, x = s != 0, np.zeros(3)
        x[on] = np.linalg.solve(H[np.ix_(on, on)], c[on] - w * s[on])
        if (x[on] * s[on] >= 0).all() and (np.abs(H @ x - c)[~on] <= w + 1e-13).all():
            return x
    raise AssertionError(theta)


def box_by_faces(theta):
    """argmin x'Hx / 2 - c'x on [0, top], theta = (c, top), by all faces."""
    c, top = theta[:3], theta[3]
    for face in product((-1, 0, 1), repeat=3):
        s = np.array(face)
        on, x = s == 0, np.where(s > 0, top, 0.0)
        x[on] = np.linalg.solve(H[np.ix_(on, on)], c[on] - H[np.ix_(on, ~on)] @ x[~on])
        slope = H @ x - c
        inside = (x[on] >= -1e-13).all() and (x[on] <= top + 1e-13).all()
        if inside and (slope[s < 0] >= -1e-13).all() and (slope[s > 0] <= 1e-13).all():
            return x
    raise AssertionError(theta)


G = np.array([[1.0, 1.0, 0.0], [0.0, 1.0, -1.0]])


def program_by_sets(theta):
    """argmin x'Hx / 2 - c'x with G x <= (h, 0.2), theta = (c, h), by all active sets: x and its multipliers."""
    c, h = theta[:3], np.array([theta[3], 0.2])
    for active in product((False, True), repeat=2):
        on = np.array(active)
        k = int(on.sum())
        M = np.block([[H, G[on].T], [G[on], np.zeros((k, k))]])
        found = np.linalg.solve(M, np.concatenate([c, h[on]]))
        x, lam = found[:3], np.zeros(2)
        lam[on] = found[3:]
        if (G @ x <= h + 1e-13).all() and (lam >= -1e-13).all():
            return np.concatenate([x, lam])
    raise AssertionError(theta)


def simplex_by_sorting(c, radius=1.0):
    down = np.sort(c)[::-1]
    shift = (np.cumsum(down) - radius) / np.arange(1, c.size + 1)
    return np.maximum(c - shift[np.sum(down > shift) - 1], 0.0)


def l1_ball(theta):
    c, radius = theta[:3], theta[3]
    return c if np.abs(c).sum() <= radius else np.sign(c) * simplex_by_sorting(np.abs(c), radius)


def group(theta):
    c, w = theta[:3], theta[3]
    size = np.linalg.norm(c)
    return c * max(1 - w / size, 0.0) if size > 0 else np.zeros(3)


# Problems on theta = (c, one more number), with a theta where one entry is exactly on a kink.


def quadratic(x, theta):
    return x @ jnp.asarray(H) @ x / 2 - theta[:3] @ x


def distance(x, theta):
    return jnp.sum((x - theta[:3]) ** 2) / 2


X = namedtuple("X", "x lam")
LASSO = make(proximal_gradient(quadratic, lambda v, eta, theta: prox.lasso(v, eta * theta[3]), eta=0.3).F)
BOX = make(projected_gradient(quadratic, bounds=lambda v, theta: (jnp.zeros(3), jnp.full(3, theta[3])), eta=0.3).F)
KKT = kkt(
    lambda x, theta: quadratic(x.x, theta), None, lambda x, theta: jnp.asarray(G) @ x.x - jnp.stack([theta[3], jnp.asarray(0.2)])
)
ASIDE = np.array([0.2, -0.4, 0.3])
ENTROPIC = mirror_descent(lambda x, theta: jnp.sum((x - theta[:3] - theta[3] * ASIDE) ** 2) / 2)


def split(x):
    return X(x[:3], x[3:])


def tuned(x, slope, more):
    """theta whose solution is x: c = H x + slope."""
    return np.append(H @ x + slope, more)


ON_A_KINK = {
    "lasso, an entry at its threshold": (LASSO, tuned(np.array([1.2, 0.0, -0.7]), np.array([0.4, 0.4, -0.4]), 0.4), lasso_by_signs),
    "lasso, two entries": (LASSO, tuned(np.array([0.0, 0.0, 0.7]), np.array([0.4, -0.4, 0.4]), 0.4), lasso_by_signs),
    "box, at its lower end": (BOX, tuned(np.array([0.4, 0.0, 0.7]), np.zeros(3), 1.3), box_by_faces),
    "box, at both ends": (BOX, tuned(np.array([1.3, 0.2, 0.0]), np.zeros(3), 1.3), box_by_faces),
    "a weakly active constraint": (
        make(KKT.natural, split),
        tuned(np.array([0.5, 0.4, 0.2]), np.array([0.0, 0.3, -0.3]), 0.9),
        program_by_sets,
    ),
    "two weakly active constraints": (
        make(KKT.natural, split),
        tuned(np.array([0.5, 0.4, 0.2]), np.zeros(3), 0.9),
        program_by_sets,
    ),
    "group lasso at its threshold": (
        make(lambda x, theta: prox.group_lasso(theta[:3], theta[3]) - x),
        np.array([2.0, -1.0, 2.0, 3.0]),
        group,
    ),
    "group lasso, nothing left": (make(lambda x, theta: prox.group_lasso(theta[:3], theta[3]) - x), np.zeros(4), group),
    "l1 ball, from face to face": (
        make(projected_gradient(distance, lambda v, theta: projections.l1_ball(v, theta[3]), eta=0.5).F),
        np.array([1.5, -0.5, 0.25, 1.0]),
        l1_ball,
    ),
    "l1 ball, at its surface": (
        make(lambda x, theta: projections.l1_ball(theta[:3], theta[3]) - x),
        np.array([0.5, -0.25, 0.25, 1.0]),
        l1_ball,
    ),
    "a weight and its multiplier both zero": (
        make(ENTROPIC.natural),
        np.array([0.75, 0.25, 0.0, 0.0]),
        lambda theta: simplex_by_sorting(theta[:3] + theta[3] * ASIDE),
    ),
}


@pytest.mark.parametrize("name", ON_A_KINK)
def test_both_sides_are_those_of_the_problem_solved_anew(name):
    system, theta, solve = ON_A_KINK[name]
    x = solve(theta)
    assert np.abs(np.asarray(system.F(jnp.asarray(x), jnp.asarray(theta), None))).max() < 1e-14
    found = sides(system, x, theta)
    differs = 0.0
    for j, v in enumerate(V.T):
        right, left = ((solve(theta + s * STEP * v) - x) / (s * STEP) for s in (1.0, -1.0))
        for side, expected in ((found.right, right), (found.left, left)):
            # one-sided differences of curved branches are wrong by the step
            np.testing.assert_allclose(np.asarray(side.U[:, j]), expected, atol=1e-9 if "group" not in name else 5 * STEP)
            y = np.stack([expected[0] * theta[0] + x[0] * v[0], 2 * x[: len(x)] @ expected])
            np.testing.assert_allclose(np.asarray(side.Y[:, j]), y, atol=1e-8 if "group" not in name else 2e-4)
            assert side.status[j] == Status.OK
        differs = max(differs, np.abs(right - left).max())
    assert differs > 0.1, "the example has no kink"
    assert float(jnp.max(found.right.U_error)) < 1e-6


@settings(max_examples=8)
@given(
    signs=st.tuples(*[st.sampled_from([-1, 0, 1])] * 3),
    on_kink=st.tuples(*[st.booleans()] * 3),
    sizes=st.tuples(*[st.floats(0.1, 2.0)] * 3),
    w=st.floats(0.1, 1.0),
    v=st.tuples(*[st.floats(-1.0, 1.0).filter(lambda a: abs(a) > 1e-3)] * 4),
)
def test_any_lasso(signs, on_kink, sizes, w, v):
    s, kink = np.array(signs), np.array(on_kink)
    x = s * np.array(sizes)
    slope = np.where(s != 0, s, np.where(kink, 1.0, 0.25)) * w  # a zero entry is on the kink, or clear of it
    theta, v = tuned(x, slope, w), np.array(v)
    found = sides(LASSO, x, theta, v[:, None], radius=1e-13)
    for side, sign in ((found.right, 1.0), (found.left, -1.0)):
        assert side.status[0] == Status.OK
        expected = (lasso_by_signs(theta + sign * STEP * v) - x) / (sign * STEP)
        np.testing.assert_allclose(np.asarray(side.U[:, 0]), expected, atol=1e-8)


# One unknown, one parameter.


def scalar(F):
    return make(lambda x, theta: F(x, theta), g=lambda x, theta, data: jnp.exp(x))


ONE = np.ones((1, 1))


@pytest.mark.parametrize(
    ("F", "x", "theta", "left", "right"),
    [
        (lambda x, t: x - jnp.abs(t), 0.0, 0.0, -1.0, 1.0),
        (lambda x, t: jnp.maximum(x, 2 * x) + x**2 - jnp.sin(t), 0.0, 0.0, 1.0, 0.5),
        (lambda x, t: x + x**3 - t * jnp.exp(t), 1.0, 0.8526055020137254, *[2 * 1.8526055020137254 / 0.8526055020137254 / 4] * 2),
        (lambda x, t: x - 3.0 - jnp.maximum(t - 2.0, 0.0), 3.0, 2.0, 0.0, 1.0),
    ],
)
@pytest.mark.parametrize("margin", [0.0, np.inf])
def test_scalars(F, x, theta, left, right, margin):
    found = sides(scalar(F), [x], [theta], ONE, margin=margin)
    assert found.left.status[0] == found.right.status[0] == Status.OK
    assert float(found.left.U[0, 0]) == pytest.approx(left, rel=1e-11)
    assert float(found.right.U[0, 0]) == pytest.approx(right, rel=1e-11)
    assert float(found.right.Y[0, 0]) == pytest.approx(np.exp(x) * right, rel=1e-11)


def test_two_branches_to_the_right_and_none_to_the_left_are_no_derivative():
    found = sides(scalar(lambda x, t: jnp.abs(x) - t), [0.0], [0.0], ONE)
    for side in (found.left, found.right):
        assert np.isnan(side.U).all()
        assert np.isnan(side.Y).all()
        assert side.status.tolist() == [Status.NONDIFFERENTIABLE]


def test_a_product_of_multiplier_and_slack_has_no_branches_to_tell_apart():
    _, theta, solve = ON_A_KINK["a weakly active constraint"]
    found = sides(make(KKT.F, split), solve(theta), theta, V[:, :1])
    for side in (found.left, found.right):
        assert (side.status != Status.OK).all()
        assert np.isnan(side.U).all()


def test_a_piece_without_an_inverse_is_singular():
    # to the left x is free
    found = sides(scalar(lambda x, t: jnp.maximum(x, 0.0) - jnp.maximum(t, 0.0)), [0.0], [0.0], ONE)
    assert np.isnan(found.left.U).all()
    assert found.left.status.tolist() == [Status.SINGULAR]


@pytest.mark.parametrize("F", [lambda x, t: x**3 - t * x, lambda x, t: x**2 - t, lambda x, t: x * (x - jnp.abs(t))])
def test_a_bifurcation_is_no_kink(F):
    # at t = 0 branches meet; x = 0 is one of them, and A is singular at the point, though not next to it
    found = sides(scalar(F), [0.0], [0.0], ONE)
    for side in (found.left, found.right):
        assert np.isnan(side.U).all()
        assert side.status[0] in (Status.SINGULAR, Status.NONDIFFERENTIABLE)


def test_a_solution_that_is_rough_is_displaced_further_and_at_last_refused():
    system, theta, solve = ON_A_KINK["lasso, an entry at its threshold"]
    x = solve(theta)
    exact, rough = sides(system, x, theta), sides(system, x + 1e-9, theta, radius=2e-9)
    np.testing.assert_allclose(rough.right.U, exact.right.U, atol=1e-8)
    np.testing.assert_allclose(rough.left.U, exact.left.U, atol=1e-8)
    refused = sides(system, x, theta, radius=1e-2)
    assert (refused.right.status == Status.NO_CERTIFICATE).all()
    assert np.isnan(refused.right.U).all()
    assert (sides(system, x, theta, radius=np.nan).left.status == Status.NO_CERTIFICATE).all()


def test_near_a_kink_the_step_stays_on_this_side_of_it():
    near = 1e-7
    system = scalar(lambda x, t: jnp.maximum(x, 2 * x) - t)
    found = sides(system, [near / 2], [near], ONE, margin=near / 2)
    assert float(found.left.U[0, 0]) == float(found.right.U[0, 0]) == pytest.approx(0.5, rel=1e-12)


# Is there a kink at all?


@pytest.mark.parametrize("name", ON_A_KINK)
def test_a_kink_is_seen_without_being_declared_and_gone_next_to_it(name):
    system, theta, solve = ON_A_KINK[name]
    x = solve(theta)
    assert kinks(system, Point(jnp.asarray(x), jnp.asarray(theta), None), radius=1e-14).in_F
    aside = theta + 1e-3 * np.array([1.0, 0.5, 0.3, 0.2])
    p = Point(jnp.asarray(solve(aside)), jnp.asarray(aside), None)
    assert not kinks(system, p, radius=1e-14).in_F


def test_kinks_of_the_outputs_are_told_apart_from_those_of_F_and_from_curvature():
    def g(x, theta, data):
        return jnp.stack([jnp.sum(x), jnp.max(x), jnp.abs(theta[0] - 1.0), jnp.exp(1e3 * (x[0] - x[1]))])

    system = System(lambda x, theta, data: x**3 - theta[0] * jnp.ones(2), g)
    found = kinks(system, Point(jnp.ones(2), jnp.ones(1), None), radius=1e-13)
    assert not found.in_F
    assert found.in_g.tolist() == [False, True, True, False]
    jitted = jax.jit(lambda t: t)  # parameters far from one are no trouble
    p = Point(jnp.full(2, 1e5), jitted(jnp.full(1, 1e15)), None)
    assert kinks(system, p, radius=1e-9).in_g.tolist() == [False, True, False, False]
