"""Projections on polytopes: values by linear programming, second derivatives, margins, degenerate and empty sets."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linprog

from implicit_cli.core import projections as P

PATH = Path(__file__).resolve().parents[3] / "benchmarks" / "catalogue_operators.py"
SPEC = importlib.util.spec_from_file_location("catalogue_operators", PATH)
catalogue = sys.modules.setdefault("catalogue_operators", importlib.util.module_from_spec(SPEC))
SPEC.loader.exec_module(catalogue)
CASES = {case.name: case for case in catalogue.projection_cases()}

polyhedron, box_section = jax.jit(P.polyhedron), jax.jit(P.box_section)
transport, birkhoff = jax.jit(P.transport), jax.jit(P.birkhoff)
kl_transport, kl_birkhoff = jax.jit(P.kl_transport), jax.jit(P.kl_birkhoff)


def assert_nearest(x, v, **polytope):
    """v - x is normal to the polytope at x: no point of it lies further along v - x. Linear programming says so."""
    c = np.asarray(v - x).ravel()
    best = linprog(-c, bounds=polytope.pop("bounds", (None, None)), **polytope)
    assert best.status == 0
    assert -best.fun <= c @ np.asarray(x).ravel() + 1e-9 * max(1.0, np.abs(c).max())


def sums_of(m, n):
    return np.concatenate([np.kron(np.eye(m), np.ones(n)), np.kron(np.ones(m), np.eye(n))])


# Values


@pytest.mark.parametrize("seed", range(8))
def test_polyhedron_is_the_nearest_point(seed):
    rng = np.random.default_rng(seed)
    n, p, m = 7, 2, 30
    A, G, inside = rng.normal(size=(p, n)), rng.normal(size=(m, n)), rng.normal(size=n)
    h = G @ inside + rng.uniform(0, 0.3, m) * (rng.uniform(size=m) > 0.3)  # `inside` is often a degenerate corner
    v = inside + rng.normal(size=n) * 10.0 ** rng.integers(-2, 3)
    x = np.asarray(polyhedron(v, A, A @ inside, G, h))
    assert np.abs(A @ (x - inside)).max() < 1e-11
    assert (G @ x - h).max() < 1e-11 * max(1.0, np.abs(v).max())
    assert_nearest(x, v, A_eq=A, b_eq=A @ inside, A_ub=G, b_ub=h)


@pytest.mark.parametrize("seed", range(8))
def test_box_section_is_the_nearest_point(seed):
    rng = np.random.default_rng(seed)
    n = 9
    w = rng.normal(size=n) * (rng.uniform(size=n) > 0.2)
    lower, upper = -rng.uniform(size=n), rng.uniform(size=n)
    c = w @ rng.uniform(lower, upper)
    v = rng.normal(size=n) * 10.0 ** rng.integers(-1, 4)
    x = np.asarray(box_section(v, lower, upper, w, c))
    assert (x >= lower).all()
    assert (x <= upper).all()
    assert abs(w @ x - c) < 1e-12
    assert_nearest(x, v, A_eq=w[None], b_eq=[c], bounds=np.stack([lower, upper], 1))


def test_box_section_holds_without_bounds_and_is_the_simplex_with_ones():
    v, w = np.asarray([0.3, -1.2, 2.0, 0.4, 0.1, 1.1, 3.0, 0.0, -2.0]), np.arange(1.0, 10.0)
    free = box_section(v, -np.inf * np.ones(9), np.inf * np.ones(9), w, 2.0)
    np.testing.assert_allclose(free, P.hyperplane(v, w, 2.0), atol=1e-13)
    for scale in (0.1, 1.0, 100.0):
        zeros, ones = np.zeros(9), np.ones(9)
        np.testing.assert_allclose(box_section(scale * v, zeros, ones, ones, 1.0), P.simplex(scale * v), atol=1e-12)


@pytest.mark.parametrize(("scale", "zero"), [(0.1, False), (1.0, True), (30.0, False), (1000.0, True)])
def test_transport_is_the_nearest_point(scale, zero):
    rng = np.random.default_rng(int(scale))
    a, b = rng.uniform(0.1, 1, 5), rng.uniform(0.1, 1, 7)
    if zero:
        a[2] = 0.0
    a, b = a / a.sum(), b / b.sum()
    v = rng.normal(size=(5, 7), scale=scale)
    x = np.asarray(transport(v, a, b))
    assert (x >= -1e-15).all()
    np.testing.assert_allclose(np.concatenate([x.sum(1), x.sum(0)]), np.concatenate([a, b]), atol=1e-13)
    assert_nearest(x, v, A_eq=sums_of(5, 7), b_eq=np.concatenate([a, b]), bounds=(0, None))


@pytest.mark.parametrize(("seed", "scale"), [(0, 0.1), (1, 1.0), (2, 10.0), (3, 300.0)])
def test_birkhoff_is_the_nearest_point(seed, scale):
    v = scale * np.random.default_rng(seed).normal(size=(20, 20))
    x = np.asarray(birkhoff(v))
    assert (x >= -1e-14).all()
    np.testing.assert_allclose(np.concatenate([x.sum(1), x.sum(0)]), 1.0, atol=1e-12)
    assert_nearest(x, v, A_eq=sums_of(20, 20), b_eq=np.ones(40), bounds=(0, None))
    np.testing.assert_allclose(birkhoff(x), x, atol=1e-12)


@pytest.mark.parametrize(("seed", "scale"), [(0, 0.1), (1, 1.0), (2, 10.0), (3, 40.0)])
def test_kl_projections_solve_their_optimality_conditions(seed, scale):
    rng = np.random.default_rng(seed)
    a, b = rng.uniform(0.01, 1, 5), rng.uniform(0.01, 1, 7)
    a, b = a / a.sum(), b / b.sum()
    wide, square = scale * rng.normal(size=(5, 7)), scale * rng.normal(size=(20, 20))
    for v, x, s in (
        (wide, np.asarray(kl_transport(wide, a, b)), np.concatenate([a, b])),
        (square, np.asarray(kl_birkhoff(square)), np.ones(40)),
    ):
        np.testing.assert_allclose(np.concatenate([x.sum(1), x.sum(0)]), s, rtol=1e-11)
        # log P - v = f + g: what is left after taking out rows and columns is 0
        rest = np.log(x) - v
        rest = rest - rest.mean(0) - rest.mean(1)[:, None] + rest.mean()
        assert np.abs(rest).max() < 1e-11 * max(1.0, scale)


# Where the reference implementation is wrong or cannot differentiate


def test_jacobians_of_transport_and_birkhoff_inside_are_the_projection_on_zero_sums():
    # nothing at zero: P = v - row part - column part, a linear map of known rank, far from 0
    n = 5
    centre = np.eye(n) - 1 / n
    expected = np.kron(centre, centre)
    v = np.full((n, n), 1 / n) + 0.01 * np.random.default_rng(0).normal(size=(n, n))
    for mode in (jax.jacfwd, jax.jacrev):
        J = jax.jit(mode(P.birkhoff))(v).reshape(n * n, n * n)
        np.testing.assert_allclose(J, expected, atol=1e-12)


def test_a_corner_of_birkhoff_has_jacobian_zero():
    v = 10.0 * np.eye(4)[[2, 0, 3, 1]]
    J = jax.jit(jax.jacfwd(P.birkhoff))(v)
    np.testing.assert_allclose(J, np.zeros((4, 4, 4, 4)), atol=1e-13)


SMALL = {
    "polyhedron": (lambda t: P.polyhedron(jnp.sin(t), t[None] + 1.0, t[:1], jnp.diag(t) + 0.3, t**2 + 0.2), 4),
    "box_section": (lambda t: P.box_section(3 * jnp.sin(3 * t), -t, t + 0.2, t + 1.0, t[0]), 4),
    "kl_transport": (lambda t: P.kl_transport(jnp.outer(t[:2], t), jnp.array([0.4, 0.6]) * t.sum(), t), 3),
    "transport": (lambda t: P.transport(jnp.outer(t[:2], t**2), jnp.array([0.4, 0.6]) * t.sum(), t), 3),
}


@pytest.mark.parametrize("name", SMALL)
def test_second_derivatives_through_every_argument_at_once(name):
    f, n = SMALL[name]

    def scalar(t):
        return jnp.sum(jnp.cos(jnp.arange(1.0, f(t).size + 1) * f(t).ravel()))

    t = jnp.asarray(np.random.default_rng(7).uniform(0.2, 0.8, n))
    gradient = jax.jit(jax.grad(scalar))
    hessian = jax.jit(jax.jacrev(jax.grad(scalar)) if name == "box_section" else jax.hessian(scalar))(t)
    h = 1e-5
    witness = np.stack([(gradient(t + h * e) - gradient(t - h * e)) / (2 * h) for e in np.eye(n)], axis=1)
    assert np.abs(witness).max() > 1e-2
    np.testing.assert_allclose(hessian, witness, atol=1e-7 * np.abs(witness).max())


# Kinks, margins, degenerate and empty sets


def test_kl_transport_at_a_zero_sum_has_the_one_sided_derivative():
    v, b = jnp.asarray([[0.3, -0.2, 0.5], [1.0, 0.1, -0.4]]), jnp.asarray([0.2, 0.3, 0.5])

    def f(s):
        return kl_transport(v, jnp.stack([s, 1.0 - s]), b)

    value, tangent = jax.jvp(f, (0.0,), (1.0,))
    np.testing.assert_allclose(value, np.stack([np.zeros(3), b]), atol=1e-15)
    one_sided = (-1.5 * f(0.0) + 2 * f(1e-5) - 0.5 * f(2e-5)) / 1e-5
    np.testing.assert_allclose(tangent, one_sided, atol=1e-8)


def test_polyhedron_at_a_weakly_active_row_has_the_derivative_of_one_side_and_no_margin():
    A, b, G, h = np.zeros((0, 3)), np.zeros(0), np.eye(3)[:1], np.zeros(1)
    J = jax.jacfwd(P.polyhedron)(jnp.asarray([0.0, 1.0, 2.0]), A, b, G, h)
    np.testing.assert_allclose(J, np.eye(3), atol=1e-14)
    assert P.polyhedron.margin(jnp.asarray([0.0, 1.0, 2.0]), A, b, G, h) == 0
    np.testing.assert_allclose(P.polyhedron.margin(jnp.asarray([0.3, 1.0, 2.0]), A, b, G, h), 0.3, rtol=1e-12)
    np.testing.assert_allclose(P.polyhedron.margin(jnp.asarray([-0.2, 1.0, 2.0]), A, b, G, h), 0.2, rtol=1e-12)


SLOW = [pytest.param(name, marks=pytest.mark.exhaustive) for name in ("transport", "birkhoff")]


@pytest.mark.parametrize("name", ["polyhedron", "box_section", *SLOW])
def test_the_derivative_holds_up_to_the_margin_and_changes_beyond(name):
    case = CASES[name]
    v, parameters = case.points[0][0], case.points[0][1:]
    rng = np.random.default_rng(0)

    @jax.jit
    @jax.vmap
    def probe(v):
        return jax.jacfwd(lambda v: case.operator(v, *parameters))(v), case.operator.margin(v, *parameters)

    step = 1e-7
    near = v + step * np.eye(v.size).reshape(v.size, *v.shape)
    margin = float(probe(v[None])[1][0])
    slope = (np.asarray(probe(near)[1]) - margin) / step
    np.testing.assert_allclose(np.linalg.norm(slope), 1.0, rtol=1e-5)  # a distance falls with slope 1
    directions = rng.normal(size=(40, v.size))
    directions = np.concatenate([directions / np.linalg.norm(directions, axis=1)[:, None], -slope[None]])
    J = np.asarray(probe(v[None])[0][0])
    inside, _ = probe(v + 0.999 * margin * directions.reshape(-1, *v.shape))
    np.testing.assert_allclose(inside, np.broadcast_to(J, inside.shape), atol=1e-10)
    foot, _ = probe(v - 1.001 * margin * slope.reshape(1, *v.shape))
    assert np.abs(np.asarray(foot[0]) - J).max() > 1e-3


def test_what_is_empty_is_nan_with_its_derivative():
    v, one = jnp.asarray([0.5, 0.5, 0.1]), jnp.ones(3)
    A, b = jnp.asarray([[1.0, 0, 0], [1.0, 0, 0]]), jnp.asarray([1.0, 2.0])
    G, h = jnp.asarray([[1.0, 0, 0], [-1.0, 0, 0]]), jnp.asarray([0.0, -1.0])
    none, nothing = jnp.zeros((0, 3)), jnp.zeros(0)
    for f in (
        lambda v: P.polyhedron(v, A, b, none, nothing),
        lambda v: P.polyhedron(v, none, nothing, G, h),
        lambda v: P.box_section(v, 0 * one, one, one, 4.0),
        lambda v: P.box_section(v, 0 * one, one, one, -1.0),
        lambda v: P.box_section(v, one, 0 * one, one, 1.0),
        lambda v: P.transport(v[None], jnp.ones(1), one),
        lambda v: P.kl_transport(v[None], jnp.ones(1), one),
    ):
        x, dx = jax.jvp(f, (v,), (one,))
        assert np.isnan(x).all()
        assert np.isnan(dx).all()


def test_dependent_rows_are_no_trouble():
    # the same equality twice, the same inequality three times, and a corner of a pyramid, where four planes meet in one point
    rng = np.random.default_rng(0)
    A = np.ones((2, 3)) / 2
    G = np.asarray([[1.0, 0, 0], [1.0, 0, 0], [2.0, 0, 0]])
    x = polyhedron(np.asarray([3.0, 1.0, 0.0]), A, np.ones(2), G, np.asarray([0.5, 0.5, 1.0]))
    np.testing.assert_allclose(x, [0.5, 1.25, 0.25], atol=1e-13)
    pyramid = np.asarray([[1.0, 0, 1], [-1, 0, 1], [0, 1, 1], [0, -1, 1]])
    for v in rng.normal(size=(5, 3)) * 0.3 + np.asarray([0, 0, 4.0]):
        np.testing.assert_allclose(polyhedron(v, np.zeros((0, 3)), np.zeros(0), pyramid, np.ones(4)), [0, 0, 1], atol=1e-13)
