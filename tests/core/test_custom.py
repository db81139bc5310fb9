"""The Python door: any solver gets the derivatives of its root, in both modes, of any order, compiled, batched, with statuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

import implicit_cli
from implicit_cli import Linear, custom_fixed_point, custom_root
from implicit_cli.core import stationary
from implicit_cli.status import Status

M, D = 13, 5
rng = np.random.default_rng(0)
X, Y = jnp.asarray(rng.normal(size=(M, D))), jnp.asarray(rng.normal(size=M))
THETA = jnp.asarray(0.3)


def loss(w, theta, X, y):
    return jnp.mean((X @ w - y) ** 2) / 2 + theta / 2 * (w @ w)


def closed(theta, X=X, y=Y):
    return jnp.linalg.solve(X.T @ X / X.shape[0] + theta * jnp.eye(D), X.T @ y / X.shape[0])


@custom_root(stationary(loss))
def ridge(init, theta, X, y):
    return closed(theta, X, y)


def same(found, true, tol=1e-12):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=tol, atol=tol), found, true)


@pytest.mark.parametrize("transform", [jax.jacfwd, jax.jacrev, jax.hessian, lambda f, i: jax.jacrev(jax.jacrev(f, i), i)])
def test_every_transformation_of_jax(transform):
    """Forward, reverse, forward over reverse, reverse over reverse; with respect to a scalar and to a matrix at once."""

    def ours(theta, scale):
        return jnp.sum(ridge(None, theta, scale * X, Y) ** 3)

    def true(theta, scale):
        return jnp.sum(closed(theta, scale * X, Y) ** 3)

    scale = jnp.asarray(rng.uniform(0.5, 2.0, (1, D)))
    same(jax.jit(transform(ours, (0, 1)))(THETA, scale), jax.jit(transform(true, (0, 1)))(THETA, scale))


def test_eager_jvp_and_grad():
    same(jax.jvp(lambda t: ridge(None, t, X, Y), (THETA,), (jnp.ones(()),))[1], jax.jacobian(closed)(THETA))
    same(jax.grad(lambda y: ridge(None, THETA, X, y)[2])(Y), jax.grad(lambda y: closed(THETA, X, y)[2])(Y))


def test_a_batch_of_solutions_and_of_derivatives():
    thetas = jnp.asarray([0.1, 0.2, 0.5])
    ours = jax.jit(jax.vmap(jax.value_and_grad(lambda t: jnp.sum(ridge(None, t, X, Y)))))(thetas)
    same(ours, jax.vmap(jax.value_and_grad(lambda t: jnp.sum(closed(t))))(thetas))


def test_pytrees_keyword_arguments_and_auxiliary_output():
    def F(x, args, *, shift):
        return {"a": x["a"] ** 3 - args["p"], "b": x["b"] * shift["s"] - x["a"]}

    @custom_root(F, has_aux=True)
    def solver(init, args, *, shift):
        a = jnp.cbrt(args["p"])
        return {"a": a, "b": a / shift["s"]}, {"steps": jnp.asarray(7), "size": jnp.sum(a)}

    def ours(p, s):
        return solver(None, {"p": p, "name": 3}, shift={"s": s})

    p, s = jnp.asarray([1.0, 8.0]), jnp.asarray(2.0)
    (x, aux), tangent = jax.jvp(lambda p, s: ours(p, s), (p, s), (jnp.ones(2), jnp.ones(())))
    same(x["b"], jnp.asarray([0.5, 1.0]))
    assert int(aux["steps"]) == 7
    da = p ** (-2 / 3) / 3
    same(tangent[0], {"a": da, "b": da / s - jnp.cbrt(p) / s**2})
    assert float(tangent[1]["size"]) == 0.0
    same(jax.grad(lambda s: jnp.sum(ours(p, s)[0]["b"]))(s), -jnp.sum(jnp.cbrt(p)) / s**2)


def test_a_fixed_point():
    @custom_fixed_point(lambda x, t: jnp.sqrt(t + x))
    def solver(init, t):
        return jax.lax.fori_loop(0, 80, lambda _, x: jnp.sqrt(t + x), init)

    t = jnp.asarray([1.0, 2.0])
    same(
        jax.hessian(lambda t: jnp.sum(solver(jnp.ones(2), t)))(t), jax.hessian(lambda t: jnp.sum((1 + jnp.sqrt(1 + 4 * t)) / 2))(t)
    )


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_parameters_that_are_closed_over(wrap):
    """The reference implementation raises an UnexpectedTracerError here, or in older releases returns zero."""

    def outer(theta):
        scaled = 2.0 * theta

        @custom_root(lambda w: jax.grad(loss)(w, scaled / 2.0, X, Y))
        def solver(init):
            return closed(theta)

        return jnp.sum(solver(jnp.zeros(D)))

    same(wrap(jax.grad(outer))(THETA), jax.grad(lambda t: jnp.sum(closed(t)))(THETA))
    same(wrap(jax.jacfwd(outer))(THETA), jax.grad(lambda t: jnp.sum(closed(t)))(THETA))


def test_a_host_solver_under_jit_and_vmap_with_its_status():
    @custom_root(stationary(loss), callback=True, has_aux=True, aux_like=jnp.zeros((), int))
    def solver(init, theta, X, y):
        assert isinstance(X, np.ndarray)
        found = scipy.optimize.minimize(
            lambda w: (np.mean((X @ w - y) ** 2) / 2 + theta / 2 * w @ w, X.T @ (X @ w - y) / len(y) + theta * w),
            init,
            jac=True,
            tol=1e-13,
        )
        return found.x, found.status

    thetas = jnp.asarray([0.1, 0.3])

    def ours(t):
        x, status = solver(jnp.zeros(D), t, X, Y)
        return jnp.sum(x), status

    (value, status), slope = jax.jit(jax.vmap(jax.value_and_grad(ours, has_aux=True)))(thetas)
    same((value, slope), jax.vmap(jax.value_and_grad(lambda t: jnp.sum(closed(t))))(thetas), 1e-6)
    assert status.shape == (2,)


def test_a_python_solver_that_cannot_be_traced():
    @custom_root(stationary(loss))
    def solver(init, theta, X, y):
        return jnp.asarray(np.linalg.solve(np.asarray(X.T @ X) / M + float(theta) * np.eye(D), np.asarray(X.T @ y) / M))

    same(jax.jacrev(lambda t: solver(None, t, X, Y))(THETA), jax.jacobian(closed)(THETA))


@pytest.mark.parametrize("method", ["lu", "cholesky", "svd", "cg", "gmres", "bicgstab"])
def test_every_linear_method_in_both_modes_and_twice(method):
    solver = custom_root(stationary(lambda w, t: loss(w, t, X, Y)), linear=Linear(method))(lambda init, t: closed(t))
    ours = jax.jit(lambda t: (jax.jacrev(solver, argnums=1)(None, t), jax.hessian(solver, argnums=1)(None, t)))(THETA)
    same(ours, (jax.jacobian(closed)(THETA), jax.hessian(closed)(THETA)), 1e-8)


def test_a_linear_solve_that_fails_is_nan():
    solver = custom_root(stationary(loss), linear=Linear("cg", max_steps=1))(lambda init, *a: closed(*a))
    assert np.isnan(jax.grad(lambda t: jnp.sum(solver(None, t, X, Y)))(THETA))


def test_a_fold_has_no_derivative_in_either_mode():
    """F_2 does not see theta and fixes what F_1 moves: A is singular and B is not in its range."""
    solver = custom_root(lambda x, t: jnp.stack([x[0] + x[1] - t, 2 * x[0] + 2 * x[1]]))(lambda init, t: jnp.asarray([0.5, -0.5]))
    zero = jnp.asarray(0.0)
    assert np.isnan(jax.jacfwd(solver, argnums=1)(None, zero)).all()
    assert np.isnan(jax.jacrev(solver, argnums=1)(None, zero)).all()


def ring(x, theta):
    """Energy of five beads on a ring of springs with rest lengths theta: nothing fixes the ring as a whole."""
    return jnp.sum((jnp.roll(x, -1) - x - theta) ** 2) / 2


@pytest.mark.parametrize("method", ["auto", "svd", "cg"])
def test_zero_modes_are_projected_out_of_cotangents(method):
    """The reference implementation returns 1e45 to 1e138 (BiCGStab), NaN (CG), or 240% off (LU)."""
    condition = stationary(ring).tagged(null_space=lambda x, theta: {"translation": jnp.ones_like(x)})
    solver = custom_root(condition, linear=Linear(method))(lambda init, theta: init)
    theta = jnp.asarray(rng.normal(size=5))
    A, B = jax.hessian(ring)(theta, theta), jax.jacfwd(jax.grad(ring), argnums=1)(theta, theta)
    true = -np.linalg.pinv(A) @ B
    x = jnp.zeros(5)
    w = jnp.asarray([1.0, 0.0, 0.0, 0.0, 0.5])
    same(jax.vjp(lambda t: solver(x, t), theta)[1](w)[0], w @ true, 1e-9)
    same(jax.jacfwd(solver, argnums=1)(x, theta), true, 1e-9)


def test_nearly_singular_is_not_silently_wrong():
    """optimistix's default is 210% off here without a word."""
    small = 1e-9
    A = jnp.asarray([[1.0, 1.0], [1.0, 1.0 + small]])
    solver = custom_root(lambda x, t: A @ x - t)(lambda init, t: jnp.linalg.solve(A, t))
    true = np.asarray([[1.0 + small, -1.0], [-1.0, 1.0]]) / float(A[1, 1] - 1.0)
    for mode in (jax.jacfwd, jax.jacrev):
        same(mode(solver, argnums=1)(None, jnp.ones(2)), true, 1e-6)


def test_the_initial_guess_has_no_derivative():
    solver = custom_root(lambda x, t: x - t)(lambda init, t: t + 0.0 * init)
    same(jax.grad(lambda init: jnp.sum(solver(init, jnp.ones(2))))(jnp.ones(2)), jnp.zeros(2))


def test_single_precision_keeps_its_precision():
    t = jnp.asarray(0.3, jnp.float32)
    solver = custom_root(lambda x, t: x**3 - t)(lambda init, t: jnp.cbrt(t))
    slope = jax.grad(lambda t: solver(None, t))(t)
    assert slope.dtype == jnp.float32
    same(slope, t ** np.float32(-2 / 3) / 3, 1e-5)


def test_the_decorated_function_keeps_its_name():
    assert ridge.__name__ == "ridge"


def test_the_door_lists_what_it_has():
    assert {"custom_root", "custom_fixed_point", "root_jvp", "root_vjp", "implicit_jacobian", "Status"} <= set(dir(implicit_cli))
    assert implicit_cli.Status is Status
    with pytest.raises(AttributeError, match="no attribute 'custom_rot'"):
        _ = implicit_cli.custom_rot
