"""The theorem on a nonlinear system with d != n != m, against derivatives that are written down by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from implicit_cli.core.implicit import Point, System, adjoint, forward
from implicit_cli.core.linear import choose, prepare
from implicit_cli.core.linear.base import Operator

D, N, M = 5, 3, 2


def F(x, theta, data):
    """K x + x^3 = C theta^2, with K neither symmetric nor normal."""
    return data["K"] @ x + x**3 - data["C"] @ theta**2


def g(x, theta, data):
    return jnp.stack([jnp.sum(x**2), x[0] * theta[1]])


@pytest.fixture
def case():
    rng = np.random.default_rng(7)
    data = {"K": jnp.asarray(3 * np.eye(D) + rng.normal(size=(D, D)) / 3), "C": jnp.asarray(rng.normal(size=(D, N)))}
    theta = jnp.asarray(rng.uniform(0.5, 1.0, size=N))
    x = jnp.zeros(D)
    for _ in range(30):
        x = x - jnp.linalg.solve(data["K"] + jnp.diag(3 * x**2), F(x, theta, data))
    p = Point(x, theta, data)
    K = np.asarray(data["K"]) + np.diag(3 * np.asarray(x) ** 2)
    J = np.linalg.solve(K, np.asarray(data["C"]) * 2 * np.asarray(theta))
    g_x = np.stack([2 * np.asarray(x), np.eye(D)[0] * float(theta[1])])
    g_theta = np.stack([np.zeros(N), np.eye(N)[1] * float(x[0])])
    system = System(F, g)
    operator = Operator(system.A_times, system.At_times, p, D, symmetric=False)
    return system, p, operator, J, g_x @ J + g_theta


@pytest.mark.parametrize("method", ["lu", "gmres", "bicgstab"])
def test_forward_and_adjoint_give_the_closed_form(case, method):
    system, p, operator, J, J_y = case
    plan = choose(D, symmetric=False, name=method)
    A = prepare(plan, operator, system.A_matrix(p) if plan.dense else None, jnp.zeros((D, 0)))
    f = forward(system, p, A, jnp.eye(N))
    np.testing.assert_allclose(f.U, J, rtol=1e-10)
    np.testing.assert_allclose(f.Y, J_y, rtol=1e-10, atol=1e-14)
    rows_of_x = adjoint(system, p, A, jnp.eye(D), jnp.zeros((M, D)))
    np.testing.assert_allclose(rows_of_x.L.T, J, rtol=1e-10)
    rows_of_y = adjoint(system, p, A, jnp.zeros((D, M)), jnp.eye(M))
    np.testing.assert_allclose(rows_of_y.L.T, J_y, rtol=1e-10, atol=1e-14)
    assert (f.solved.status == 0).all()
    assert f.solved.relative.max() < 1e-10


def test_products_agree_with_their_definitions(case):
    system, p, _, _, _ = case
    A = np.asarray(system.A_matrix(p))
    np.testing.assert_allclose(A, jax.jacfwd(lambda x: F(x, p.theta, p.data))(p.x), rtol=1e-14)
    U = jnp.asarray(np.random.default_rng(1).normal(size=(D, 4)))
    np.testing.assert_allclose(system.A_times(p, U), A @ U, rtol=1e-13)
    np.testing.assert_allclose(system.At_times(p, U), A.T @ U, rtol=1e-13)
    B = jax.jacfwd(lambda t: F(p.x, t, p.data))(p.theta)
    np.testing.assert_allclose(system.B_times(p, jnp.eye(N)), B, rtol=1e-14)
    np.testing.assert_allclose(system.Bt_times(p, U), B.T @ U, rtol=1e-13)


def test_second_derivatives_along_columns_are_those_written_by_hand(case):
    system, p, *_ = case
    rng = np.random.default_rng(11)
    U, V = rng.normal(size=(D, 4)), rng.normal(size=(N, 4))
    x = np.asarray(p.x)[:, None]
    expected = 6 * x * U**2 - 2 * np.asarray(p.data["C"]) @ V**2
    np.testing.assert_allclose(system.F_second(p, jnp.asarray(U), jnp.asarray(V)), expected, rtol=1e-12)
    expected = np.stack([2 * np.sum(U**2, axis=0), 2 * U[0] * V[1]])
    np.testing.assert_allclose(system.g_second(p, jnp.asarray(U), jnp.asarray(V)), expected, rtol=1e-12)
    # of w' g + u' F along each pair of columns
    w, u = rng.normal(size=M), rng.normal(size=D)
    H_xx, H_tt = 2 * w[0] * np.eye(D) + np.diag(6 * u * x[:, 0]), -2 * np.diag(u @ np.asarray(p.data["C"]))
    H_xt = np.zeros((D, N))
    H_xt[0, 1] = w[1]
    expected = U.T @ H_xx @ U + V.T @ H_tt @ V + U.T @ H_xt @ V + V.T @ H_xt.T @ U
    found = system.L_second(p, *map(jnp.asarray, (w, u, U, V)))
    assert found.shape == (4, 4)
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)


def test_without_outputs_the_rest_is_the_same(case):
    system, p, operator, J, _ = case
    V = jnp.asarray(np.random.default_rng(12).normal(size=(N, 2)))
    bare, A = system.bare, prepare(choose(D, symmetric=False), operator, None, jnp.zeros((D, 0)))
    found = forward(bare, p, A, V)
    assert (found.Y.shape, bare.g(p.x, p.theta, p.data).shape) == ((0, 2), (0,))
    np.testing.assert_allclose(found.U, J @ np.asarray(V), rtol=1e-10)
    assert system.g(p.x, p.theta, p.data).shape == (M,)


def test_a_compiled_program_is_kept(case):
    system, p, *_ = case

    def norm(system, p):
        return jnp.linalg.norm(system.F(p.x, p.theta, p.data))

    assert system.compiled(norm) is system.compiled(norm)
    assert float(system.compiled(norm)(p)) < 1e-12
