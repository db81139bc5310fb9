"""The cases that JAXopt publishes for roots and fixed points, written anew: our solvers in our decorators, against closed forms.

Its cases for projections are in projections/, those for KKT conditions in test_kkt.py.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from implicit_cli import Status, custom_fixed_point, custom_root
from implicit_cli.core.implicit import Point
from implicit_cli.core.solvers import METHODS, Goal, run

A = jnp.asarray(np.random.default_rng(1).uniform(-0.3, 0.3, (3, 3)))
b = jnp.asarray([1.0, -2.0, 0.5])


def same(found, true, tol=1e-8):
    jax.tree.map(lambda a, c: np.testing.assert_allclose(a, c, rtol=tol, atol=tol), found, true)


def iterated(T, method="anderson", **options):
    """A fixed-point solver of ours under the decorator, its status as auxiliary output."""
    goal = Goal(lambda x, t, data: T(x, t) - x, T=lambda x, t, data: T(x, t), **options)
    solver = METHODS[method](goal)

    @custom_fixed_point(T, has_aux=True)
    def solve(init, t):
        found = run(solver, goal, Point(init, t, None), tol=1e-13, max_steps=200)
        return found.x, found.status

    return solve


@pytest.mark.parametrize("method", ["fixed_point", "anderson"])
def test_an_affine_contraction(method):
    """x = A x + b, its derivative with respect to b is (I - A)^-1."""
    solve = iterated(lambda x, b: A @ x + b, method)
    (x, status), J = jax.jit(lambda b: (solve(jnp.zeros(3), b), jax.jacfwd(lambda b: solve(jnp.zeros(3), b)[0])(b)))(b)
    assert int(status) == Status.OK
    same(x, np.linalg.solve(np.eye(3) - A, b))
    same(J, np.linalg.inv(np.eye(3) - A))


def test_the_fixed_point_of_the_cosine():
    """x = cos(t x): dx/dt = -x sin(t x) / (1 + t sin(t x))."""
    solve = iterated(lambda x, t: jnp.cos(t * x))
    t = jnp.asarray([1.0])
    x, _ = solve(jnp.asarray([0.5]), t)
    same(x, 0.7390851332151607)
    same(jax.jacrev(lambda t: solve(jnp.asarray([0.5]), t)[0])(t)[0, 0], (-x * jnp.sin(x) / (1 + jnp.sin(x)))[0])


def test_statuses_come_out_of_a_compiled_batch():
    """x -> t x + 1 contracts for |t| < 1 only; the lane that does not says so and leaves the others alone."""
    solve = iterated(lambda x, t: t * x**2 / (1 + jnp.abs(x)) + 1, "fixed_point")
    t = jnp.asarray([[0.5], [3.0], [-0.5]])
    _, status = jax.jit(jax.vmap(lambda t: solve(jnp.ones(1), t)))(t)
    assert status.tolist()[0] == Status.OK
    assert status.tolist()[1] in (Status.NOT_CONVERGED, Status.NOT_FINITE)
    assert status.tolist()[2] == Status.OK


def test_the_root_of_a_polynomial_by_bisection():
    """x^3 + p x = q on [0, 5]: dx/dp = -x / (3 x^2 + p), dx/dq = 1 / (3 x^2 + p)."""

    def F(x, t):
        return x**3 + t[0] * x - t[1]

    goal = Goal(lambda x, t, data: F(x, t), bounds=lambda t, data: (jnp.zeros(1), jnp.full(1, 5.0)))
    method = METHODS["bisection"](goal)

    @custom_root(F, has_aux=True)
    def solve(init, t):
        found = run(method, goal, Point(init, t, None), tol=1e-12, max_steps=80)
        return found.x, found.status

    t = jnp.asarray([2.0, 12.0])
    x, status = solve(jnp.ones(1), t)
    assert int(status) == Status.OK
    same(x, jnp.asarray([2.0]))
    same(jax.jacrev(lambda t: solve(jnp.ones(1), t)[0])(t), jnp.asarray([[-2.0 / 14.0, 1.0 / 14.0]]))


def test_a_system_by_broyden():
    """x + A tanh(x) = t, with dx/dt = (I + A diag(1 - tanh(x)^2))^-1."""

    def F(x, t):
        return x + A @ jnp.tanh(x) - t

    goal = Goal(lambda x, t, data: F(x, t))
    method = METHODS["broyden"](goal)
    solve = custom_root(F)(lambda init, t: run(method, goal, Point(init, t, None), tol=1e-12, max_steps=100).x)
    x = solve(jnp.zeros(3), b)
    same(x + A @ jnp.tanh(x), b)
    same(jax.jit(jax.jacrev(solve, argnums=1))(jnp.zeros(3), b), np.linalg.inv(np.eye(3) + np.asarray(A) * (1 - np.tanh(x) ** 2)))


def test_a_fixed_point_in_a_pytree():
    solve = custom_fixed_point(lambda x, t: {"a": t["p"] / 2 + x["a"] / 2, "b": (x["a"] * x["b"] + t["q"]) / 4})(
        lambda init, t: {"a": t["p"], "b": t["q"] / (4 - t["p"])}
    )
    t = {"p": jnp.asarray(1.0), "q": jnp.asarray(6.0)}
    J = jax.jacobian(solve, argnums=1)(None, t)
    same(J["b"], {"p": jnp.asarray(6.0 / 9.0), "q": jnp.asarray(1.0 / 3.0)})
    same(J["a"], {"p": jnp.asarray(1.0), "q": jnp.asarray(0.0)})
