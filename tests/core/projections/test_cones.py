"""Cones: Moreau's conditions for the values, second derivatives, hard corners."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from implicit_cli.core import projections as P

exponential = jax.jit(jax.vmap(P.exponential_cone))
psd = jax.jit(P.psd_cone)


def outside_exponential(p):
    """How far p (k, 3) is outside of the exponential cone, in z, or in y for its flat face."""
    x, y, z = p.T
    with np.errstate(over="ignore"):
        curved = y * np.exp(x / np.where(y > 0, y, 1.0)) - z
    flat = np.maximum(np.maximum(x, 0), np.maximum(np.abs(y), -z))
    return np.where(y > 0, np.minimum(curved, np.where(y < 1e-12, flat, np.inf)), flat)


def outside_dual(q):
    """How far q (k, 3) is outside of the dual cone `-u exp(v / u) <= e w`, u < 0, or its flat face u = 0, v, w >= 0."""
    u, v, w = q.T
    with np.errstate(over="ignore"):
        curved = -u * np.exp(np.minimum(v / np.where(u < 0, u, -1.0), 700.0)) / np.e - w
    flat = np.maximum(np.abs(u), np.maximum(-v, -w))
    return np.where(u < 0, np.minimum(curved, np.where(u > -1e-12, flat, np.inf)), flat)


def outside_dual_by_more_than(q, tolerance):
    """`outside_dual` of the best of a few points that near.

    q is a difference, and the exponential amplifies its cancellation.
    """
    shifts = np.asarray([[s, 1.0, 1.0] for s in (-1.0, 0.0, 1.0)])
    return np.min([outside_dual(q + tolerance[:, None] * shift) for shift in shifts], axis=0)


# not st.floats: compiled code may set its thread to flush to zero, and what st.floats draws depends on that
numbers = st.integers(-100_000_000, 100_000_000).map(lambda k: k / 1e6)


@given(arrays(float, (8, 3), elements=numbers))
def test_exponential_cone_splits_as_moreau_says(v):
    p = np.asarray(exponential(v))
    size = np.maximum(1.0, np.abs(v).max(axis=1))
    assert np.isfinite(p).all()
    # p in the cone, p - v in its dual, and the two at right angles: that is the projection, and nothing else is
    assert (outside_exponential(p) <= 1e-9 * size).all()
    assert (outside_dual_by_more_than(p - v, 1e-13 * size) <= 1e-9 * size).all()
    assert (np.abs(np.sum(p * (p - v), axis=1)) <= 1e-11 * size**2).all()


def test_exponential_cone_in_hard_corners():
    v = np.asarray(
        [
            [1.0, 0.0, 0.0],
            [1.0, 0.0, 5.0],
            [0.0, 1.0, 0.0],
            [0.0, 1.0, 1.0],
            [-1.0, 1e-9, -1e-9],
            [-1.0, 1e-3, -1.0],
            [1.0, -1e-6, 1.0],
            [100.0, -100.0, 1.0],
            [-100.0, 100.0, -100.0],
            [1e-8, 1e-8, 1e-8],
            [50.0, 1.0, 1e-3],
        ]
    )
    p = np.asarray(exponential(v))
    size = np.maximum(1e-3, np.abs(v).max(axis=1))
    assert (outside_exponential(p) <= 1e-11 * size).all()
    assert (outside_dual_by_more_than(p - v, 1e-13 * size) <= 1e-9 * size).all()
    assert (np.abs(np.sum(p * (p - v), axis=1)) <= 1e-11 * size**2).all()
    assert np.isfinite(jax.jit(jax.vmap(jax.jacfwd(P.exponential_cone)))(v)).all()


def test_margin_of_the_exponential_cone_is_a_lower_bound_and_exact_outside():
    regions = jax.jit(jax.vmap(lambda v: jnp.stack(list(P.exponential_cone(v) == jnp.where(jnp.arange(3) < 3, v, 0.0)))))
    margin = jax.jit(jax.vmap(P.exponential_cone.margin))
    rng = np.random.default_rng(0)
    v = np.asarray([[1.0, 2.0, 5.0], [-1.0, -2.0, 3.0], [0.3, -3.0, -2.0], [2.0, 1.0, 1.0], [1.0, -2.0, 0.5]])
    m = np.asarray(margin(v))
    u = rng.normal(size=(5, 200, 3))
    u /= np.linalg.norm(u, axis=2)[:, :, None]
    moved = v[:, None] + 0.999 * m[:, None, None] * u
    same = np.asarray(regions(moved.reshape(-1, 3))).reshape(5, 200, 3)
    assert (same == np.asarray(regions(v))[:, None]).all()
    step = 1e-6
    slope = (np.asarray(margin((v[:, None] + step * np.eye(3)).reshape(-1, 3))).reshape(5, 3) - m[:, None]) / step
    exact = [1, 3, 4]
    np.testing.assert_allclose(np.linalg.norm(slope[exact], axis=1), 1.0, rtol=1e-4)
    np.testing.assert_allclose(margin(v[exact] - m[exact, None] * slope[exact]), 0.0, atol=1e-4)


@pytest.mark.parametrize(("n", "seed"), [(1, 0), (3, 1), (6, 2)])
def test_psd_cone_splits_as_moreau_says(n, seed):
    V = np.random.default_rng(seed).normal(size=(n, n))
    V = V + V.T
    X = np.asarray(psd(V))
    assert np.linalg.eigvalsh(X).min() > -1e-13
    assert np.linalg.eigvalsh(X - V).min() > -1e-13
    assert abs(np.sum(X * (X - V))) < 1e-12
    np.testing.assert_allclose(P.smat(P.svec(jnp.asarray(V))), V, atol=1e-15)
    np.testing.assert_allclose(np.linalg.norm(P.svec(jnp.asarray(V))), np.linalg.norm(V))
    np.testing.assert_allclose(P.psd_cone_svec(P.svec(jnp.asarray(V))), P.svec(jnp.asarray(X)), atol=1e-14)
    np.testing.assert_allclose(P.psd_cone.margin(V), np.abs(np.linalg.eigvalsh(V)).min(), rtol=1e-9)


def test_smat_refuses_what_is_no_triangle():
    with pytest.raises(ValueError, match="found 5 entries"):
        P.smat(jnp.ones(5))


def test_psd_cone_at_its_kink_is_the_mean_of_both_sides():
    V, E = jnp.diag(jnp.asarray([1.0, 0.0, -2.0])), jnp.diag(jnp.asarray([0.0, 1.0, 0.0]))
    for mode in (jax.jacfwd, jax.jacrev):
        J = mode(P.psd_cone)(V)
        assert np.isfinite(J).all()
        np.testing.assert_allclose(jnp.tensordot(J, E, 2), E / 2, atol=1e-14)
    assert P.psd_cone.margin(V) == 0
    assert np.isfinite(jax.jacfwd(P.psd_cone)(jnp.zeros((3, 3)))).all()


SCALARS = {
    "psd_cone, equal eigenvalues": (
        lambda t: P.psd_cone(jnp.diag(jnp.asarray([1.0, 1.0, -1.0])) + t[0] * PERTURB[0] + t[1] * PERTURB[1]),
        2,
    ),
    "exponential_cone": (
        lambda t: P.exponential_cone(jnp.sin(jnp.asarray([2.0, 1.0, 1.0]) + jnp.stack([t[0], t[1], t[0] * t[1]]))),
        2,
    ),
    "second_order_cone": (lambda t: P.second_order_cone(jnp.asarray([0.2, 1.0, -0.5]) + jnp.stack([t[0], t[1], t[0] * t[1]])), 2),
}
PERTURB = np.random.default_rng(5).normal(size=(2, 3, 3))


@pytest.mark.parametrize("name", SCALARS)
def test_second_derivatives(name):
    f, n = SCALARS[name]

    def scalar(t):
        return jnp.sum(jnp.cos(jnp.arange(1.0, f(t).size + 1) * f(t).ravel()))

    t = jnp.zeros(n)
    gradient = jax.jit(jax.grad(scalar))
    h = 1e-5
    witness = np.stack([(gradient(t + h * e) - gradient(t - h * e)) / (2 * h) for e in np.eye(n)], axis=1)
    assert np.abs(witness).max() > 1e-2
    np.testing.assert_allclose(jax.jit(jax.hessian(scalar))(t), witness, atol=1e-8 * np.abs(witness).max())
