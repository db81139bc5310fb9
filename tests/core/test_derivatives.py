"""Derivatives of a root that is known: values against closed forms, shapes as JAX nests them, and a status for every solve."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from implicit_cli import Linear, Status, implicit_jacobian, root_jvp, root_vjp

rng = np.random.default_rng(2)
P = jnp.asarray(np.eye(6) * 3 + rng.normal(size=(6, 6)))


def F(x, a, k, *, power=1.0):
    """Linear in the pytree x = {u: (2, 2), v: (2,)}: P x = (a_1 k, ...), a a matrix (3, 2), k a scalar."""
    flat = P @ jnp.concatenate([x["u"].ravel(), x["v"]]) - a.ravel() * k**power
    return {"u": flat[:4].reshape(2, 2), "v": flat[4:]}


def solution(a, k, power=1.0):
    flat = jnp.linalg.solve(P, a.ravel() * k**power)
    return {"u": flat[:4].reshape(2, 2), "v": flat[4:]}


ARGS = (jnp.asarray(rng.normal(size=(3, 2))), jnp.asarray(1.7))


def same(found, true, tol=1e-12):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=tol, atol=tol), found, true)


@pytest.mark.parametrize("mode", ["auto", "forward", "adjoint"])
@pytest.mark.parametrize("argnums", [0, 1, (0, 1)])
def test_a_jacobian_nested_as_by_jax(mode, argnums):
    J = implicit_jacobian(F, solution(*ARGS), ARGS, argnums=argnums, mode=mode)
    same(J.value, jax.jacobian(solution, argnums)(*ARGS))
    assert (np.asarray(J.status) == Status.OK).all()
    assert float(jnp.max(J.residual)) < 1e-14


def test_products_agree_with_the_jacobian_under_jit_and_vmap():
    x, tangents = solution(*ARGS, power=2.0), (jnp.ones((3, 2)), jnp.asarray(0.5))
    cotangent = {"u": jnp.arange(4.0).reshape(2, 2), "v": jnp.asarray([1.0, -1.0])}
    jvp = jax.jit(lambda v: root_jvp(F, x, ARGS, v, kwargs={"power": 2.0}))(tangents)
    vjp = jax.jit(lambda w: root_vjp(F, x, ARGS, w, kwargs={"power": 2.0}))(cotangent)
    true = lambda *t: solution(*t, power=2.0)  # noqa: E731
    same(jvp.value, jax.jvp(true, ARGS, tangents)[1])
    same(vjp.value, list(jax.vjp(true, *ARGS)[1](cotangent)))
    batch = jax.vmap(lambda w: root_vjp(F, x, ARGS, w, kwargs={"power": 2.0}))(
        jax.tree.map(lambda w: jnp.stack([w, 2 * w]), cotangent)
    )
    same(batch.value[0][1], 2 * vjp.value[0])
    assert batch.status.shape == (2,)


def test_some_arguments_only():
    x = solution(*ARGS)
    same(root_jvp(F, x, ARGS, (jnp.asarray(1.0),), argnums=(1,)).value, jax.jacobian(solution, 1)(*ARGS))


@pytest.mark.parametrize("lane", [0, 1, 2])
def test_a_failed_lane_leaves_its_neighbours_alone(lane):
    """x^2 = t has no derivative at t = 0; under vmap each case has a status of its own."""
    t = jnp.asarray([1.0, 4.0, 9.0]).at[lane].set(0.0)
    out = jax.jit(jax.vmap(lambda t: implicit_jacobian(lambda x, t: x**2 - t, jnp.sqrt(t), (t,))))(t)
    expected = np.full(3, int(Status.OK))
    expected[lane] = int(Status.SINGULAR)
    np.testing.assert_array_equal(out.status[:, 0], expected)
    good = expected == int(Status.OK)
    same(out.value[good], 0.5 / jnp.sqrt(t)[good])
    assert np.isnan(out.value[lane])


def test_a_gauge_gives_the_smallest_derivative_and_its_vjp():
    G = lambda x, t: jnp.stack([x[0] + x[1] - t, 2 * (x[0] + x[1] - t)])  # noqa: E731
    x, t = jnp.asarray([0.5, 0.5]), jnp.asarray(1.0)
    same(implicit_jacobian(G, x, (t,)).value, jnp.asarray([0.5, 0.5]))
    vjp = root_vjp(G, x, (t,), jnp.asarray([1.0, 0.0]))
    same(vjp.value[0], jnp.asarray(0.5))
    assert float(vjp.residual) < 1e-14


def test_an_iteration_that_gives_up_says_so():
    H = jnp.asarray(np.diag(np.logspace(0, 6, 40)))
    out = root_jvp(lambda x, t: H @ x - t, jnp.zeros(40), (jnp.ones(40),), (jnp.ones(40),), linear=Linear("bicgstab", max_steps=3))
    assert int(out.status) == Status.LINEAR_SOLVE_FAILED
    assert np.isnan(out.value).all()
    assert float(out.residual) > 1e-6


def test_many_columns_have_their_residuals_estimated():
    """More columns than are checked one by one: the sketch sees a matrix that its factor does not solve well."""
    d = 60
    A = np.linalg.qr(rng.normal(size=(d, d)))[0] @ np.diag(np.logspace(0, -9, d)) @ np.linalg.qr(rng.normal(size=(d, d)))[0]
    J = implicit_jacobian(lambda x, t: jnp.asarray(A) @ x - t, jnp.zeros(d), (jnp.zeros(d),))
    true = np.linalg.norm(np.eye(d) - A @ np.asarray(J.value), axis=0)
    ratio = np.asarray(J.residual) / true
    assert ratio.min() > 0.2
    assert ratio.max() < 4.0
    assert (np.asarray(J.status) == Status.OK).all()


def test_an_unknown_method_is_refused():
    with pytest.raises(ValueError, match="no linear method 'qmr'"):
        root_jvp(lambda x, t: x - t, jnp.ones(2), (jnp.ones(2),), (jnp.ones(2),), linear=Linear("qmr"))


@pytest.mark.parametrize("method", ["gmres", "bicgstab", "lu"])
def test_a_vjp_of_a_system_that_is_not_symmetric(method):
    """A' by transposing products, where no factor is at hand."""
    rng = np.random.default_rng(4)
    A, w = rng.normal(size=(6, 6)) + 6 * np.eye(6), rng.normal(size=6)
    found = root_vjp(lambda x, t: jnp.asarray(A) @ x - t, jnp.zeros(6), (jnp.zeros(6),), jnp.asarray(w), linear=Linear(method))
    np.testing.assert_allclose(found.value[0], np.linalg.solve(A.T, w), rtol=1e-8)
    assert (np.asarray(found.status) == Status.OK).all()
