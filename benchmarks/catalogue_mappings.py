"""Every mapping of the catalogue on a problem whose solution is known in closed form, and how far our derivatives are from it.

A case is a condition, its closed-form solution as a function of theta, and a point. `measure` differentiates it through
`custom_root`, which sees F and not the formula, and compares with derivatives of the formula; the last figure compares with
finite differences of roots that SciPy finds.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
from jax.flatten_util import ravel_pytree

from implicit_cli import custom_root, implicit_jacobian
from implicit_cli.core import (
    Condition,
    block_proximal_gradient,
    fixed_point,
    frank_wolfe,
    kkt,
    least_squares,
    mirror_descent,
    newton,
    projected_gradient,
    prox,
    proximal_gradient,
    root,
    stationary,
)
from implicit_cli.core.conic import conic, primal

COLUMNS = ("jvp", "vjp", "jacobian", "hessian", "jit", "vmap", "finite differences")
STEPS = (1e-3, 3e-4, 1e-4, 3e-5)

_rng = np.random.default_rng(11)
_X = jnp.asarray(_rng.normal(size=(11, 5)))
_y = jnp.asarray(_rng.normal(size=11))
_M = jnp.asarray(np.eye(4) + 0.2 * _rng.normal(size=(4, 4)))

Kkt = namedtuple("Kkt", ("x", "nu", "lam"))
Cone = namedtuple("Cone", ("u", "v", "w"))


@dataclass(frozen=True)
class Case:
    """A condition and its solution in closed form near `theta`; `read` is the part of the solution that is unique."""

    name: str
    condition: Condition
    solution: Callable[[Any], Any]
    theta: Any
    read: Callable[[Any], Any] = lambda x: x


def _ridge(x, theta):
    return jnp.mean((_X @ x - _y) ** 2) / 2 + theta / 2 * (x @ x)


def _lasso_support(theta):
    """Solution of the lasso by coordinate descent in NumPy, for its support and signs."""
    X, y, x = np.asarray(_X), np.asarray(_y), np.zeros(5)
    for _ in range(2000):
        for j in range(5):
            r = X[:, j] @ (y - X @ x) + X[:, j] @ X[:, j] * x[j]
            x[j] = np.sign(r) * max(abs(r) - float(theta), 0.0) / (X[:, j] @ X[:, j])
    return x


def _active(x, theta):
    """x on its support S solves (X_S' X_S) x = X_S' y - theta sign: the closed form while signs stay."""
    S = np.flatnonzero(x)
    X = _X[:, S]
    return jnp.zeros(5).at[S].set(jnp.linalg.solve(X.T @ X, X.T @ _y - theta * np.sign(x[S])))


_nonnegative = scipy.optimize.nnls(np.asarray(_X), np.asarray(_y))[0]
_lasso = _lasso_support(1.5)
_Q = _M[:, :4].T @ _M[:, :4] + jnp.eye(4)


_START_SIMPLEX = jnp.asarray([0.9, -0.4, 0.5, 0.3, -1.0])
_ABOVE = np.asarray([0, 2, 3])


def _simplex(theta):
    """Projection of theta on the simplex while the entries `_ABOVE` are the positive ones."""
    return jnp.zeros(5).at[_ABOVE].set(theta[_ABOVE] - (jnp.sum(theta[_ABOVE]) - 1) / 3)


def _qp(theta):
    """min x'Qx/2 - theta'x, sum x = 1, x >= 0, on the active set {3}: the bordered system of the free components."""
    free = np.asarray([0, 1, 2])
    K = jnp.block([[_Q[np.ix_(free, free)], jnp.ones((3, 1))], [jnp.ones((1, 3)), jnp.zeros((1, 1))]])
    z = jnp.linalg.solve(K, jnp.concatenate([theta[free], jnp.ones(1)]))
    x = jnp.zeros(4).at[free].set(z[:3])
    lam = _Q[3] @ x - theta[3] + z[3]
    return Kkt(x, z[3:], jnp.zeros(4).at[3].set(lam))


def _blocks(theta):
    """min |X1 a + X2 b - y|^2 / 2 + theta_0 |a|_1 + theta_1 |b|^2 / 2, while the signs of a stay."""
    S = np.asarray([0, 1, 2, 3, 4])
    D = jnp.diag(jnp.where(S > 1, theta[1], 0.0))
    s = jnp.asarray([_SIGNS[0], _SIGNS[1], 0.0, 0.0, 0.0])
    x = jnp.linalg.solve(_X.T @ _X + D, _X.T @ _y - theta[0] * s)
    return x[:2], x[2:]


_SIGNS = np.sign(np.linalg.solve(np.asarray(_X.T @ _X) + 0.3 * np.diag([0, 0, 1, 1, 1]), np.asarray(_X.T @ _y)))[:2]
_VERTICES = jnp.asarray(np.eye(5) + 0.1 * _rng.normal(size=(5, 5)))


def _weights(theta):
    """min |V'w - theta|^2 / 2 over the simplex, on its support."""
    S = _WEIGHTS_SUPPORT
    V = _VERTICES[S]
    K = jnp.block([[V @ V.T, jnp.ones((len(S), 1))], [jnp.ones((1, len(S))), jnp.zeros((1, 1))]])
    return jnp.zeros(5).at[S].set(jnp.linalg.solve(K, jnp.concatenate([V @ theta, jnp.ones(1)]))[: len(S)])


def _support_of_weights(theta):
    V = np.asarray(_VERTICES)
    found = scipy.optimize.minimize(
        lambda w: 0.5 * np.sum((V.T @ w - theta) ** 2),
        np.full(5, 0.2),
        jac=lambda w: V @ (V.T @ w - theta),
        bounds=[(0, None)] * 5,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
        method="SLSQP",
        options={"ftol": 1e-14},
    )
    return np.flatnonzero(found.x > 1e-5)


_WEIGHTS_SUPPORT = _support_of_weights(np.asarray(_START_SIMPLEX))


def _ball_program(theta):
    """min theta'x in the unit ball, as a second-order cone program: A x + s = b with s = (1, x)."""
    n = theta.size
    return theta, jnp.concatenate([jnp.zeros((1, n)), -jnp.eye(n)]), jnp.zeros(n + 1).at[0].set(1.0)


def _ball(theta):
    """x = -theta / |theta|, y = (|theta|, theta), s = (1, x)."""
    size = jnp.sqrt(theta @ theta)
    x = -theta / size
    return Cone(x, jnp.concatenate([size[None] - 1, theta - x]), jnp.ones(()))


def cases() -> list[Case]:
    """One row of the table each."""
    quadratic = lambda x, theta: jnp.sum((x - theta) ** 2) / 2  # noqa: E731
    gram = lambda x, theta: jnp.sum((_X @ x - _y) ** 2) / 2  # noqa: E731
    eta = 0.02
    return [
        Case(
            "stationary",
            stationary(_ridge),
            lambda t: jnp.linalg.solve(_X.T @ _X / 11 + t * jnp.eye(5), _X.T @ _y / 11),
            jnp.asarray(0.3),
        ),
        Case(
            "least_squares",
            least_squares(lambda x, t: jnp.sqrt(t) * (_X @ x - _y)),
            lambda t: jnp.linalg.solve(_X.T @ (t[:, None] * _X), _X.T @ (t * _y)),
            jnp.asarray(_rng.uniform(0.5, 2.0, 11)),
        ),
        Case(
            "root",
            root(lambda x, t: jnp.sinh(_M @ x) - t),
            lambda t: jnp.linalg.solve(_M, jnp.arcsinh(t)),
            jnp.asarray([0.5, -1.0, 2.0, 0.1]),
        ),
        Case(
            "fixed_point",
            fixed_point(lambda x, t: jnp.sqrt(t + x), symmetric=True),
            lambda t: (1 + jnp.sqrt(1 + 4 * t)) / 2,
            jnp.asarray([[1.0, 2.0, 0.5], [0.7, 3.0, 1.5]]),
        ),
        Case(
            "kkt",
            kkt(lambda z, t: z.x @ _Q @ z.x / 2 - t @ z.x, lambda z, t: jnp.sum(z.x)[None] - 1, lambda z, t: -z.x),
            _qp,
            jnp.asarray([1.0, 0.8, 1.2, -1.5]),
        ),
        Case(
            "proximal_gradient",
            proximal_gradient(gram, lambda v, e, t: prox.lasso(v, e * t), eta=eta),
            lambda t: _active(_lasso, t),
            jnp.asarray(1.5),
        ),
        Case(
            "projected_gradient",
            projected_gradient(
                lambda x, t: jnp.sum((_X @ x - t) ** 2) / 2, bounds=lambda x, t: (jnp.zeros(5), jnp.full(5, jnp.inf)), eta=eta
            ),
            lambda t: (
                jnp.zeros(5).at[np.flatnonzero(_nonnegative)].set(jnp.linalg.lstsq(_X[:, np.flatnonzero(_nonnegative)], t)[0])
            ),
            _y,
        ),
        Case("mirror_descent", mirror_descent(quadratic, eta=0.7), _simplex, _START_SIMPLEX),
        Case(
            "newton",
            newton(lambda x, t: jnp.sinh(_M @ x) - t),
            lambda t: jnp.linalg.solve(_M, jnp.arcsinh(t)),
            jnp.asarray([0.5, -1.0, 2.0, 0.1]),
        ),
        Case(
            "block_proximal_gradient",
            block_proximal_gradient(
                lambda x, t: jnp.sum((_X[:, :2] @ x[0] + _X[:, 2:] @ x[1] - _y) ** 2) / 2,
                (lambda v, e, t: prox.lasso(v, e * t[0]), lambda v, e, t: prox.ridge(v, e * t[1])),
                eta=(eta, 1.5 * eta),
            ),
            _blocks,
            jnp.asarray([0.05, 0.3]),
        ),
        Case("frank_wolfe", frank_wolfe(quadratic, lambda t: _VERTICES, eta=0.5), _weights, _START_SIMPLEX),
        Case("conic", conic(_ball_program, (("second_order", 4),)), _ball, jnp.asarray([0.8, -1.5, 0.3]), read=primal),
    ]


def measure(case: Case) -> dict[str, float]:
    """Largest error of each product, relative to the largest entry of the true one."""
    F, theta = case.condition, case.theta
    x_true = case.solution(theta)
    flat, unravel = ravel_pytree(x_true)
    y_true, unravel_y = ravel_pytree(case.read(x_true))
    residual = float(jnp.max(jnp.abs(ravel_pytree(F.F(x_true, theta))[0])))
    if residual > 1e-12:
        raise ValueError(f"{case.name}: the closed form leaves a residual of {residual:.1e}")

    solver = custom_root(F)(lambda init, theta: case.solution(theta))
    solve = lambda t: case.read(solver(x_true, t))  # noqa: E731
    truth = lambda t: case.read(case.solution(t))  # noqa: E731
    wave = lambda k: lambda a: jnp.sin(k + jnp.arange(a.size, dtype=a.dtype)).reshape(a.shape)  # noqa: E731
    tangent, cotangent = jax.tree.map(wave(0.5), theta), jax.tree.map(wave(1.0), case.read(x_true))
    scalar = lambda s: lambda t: jnp.vdot(ravel_pytree(s(t))[0] ** 2, ravel_pytree(cotangent)[0])  # noqa: E731
    batch = jax.tree.map(lambda a: jnp.stack([a, a * 1.01, a * 0.99]), theta)

    def products(f):
        """What both are asked for; one program each."""
        _, pull = jax.vjp(f, theta)
        rows = jax.vmap(pull)(jax.vmap(unravel_y)(jnp.eye(y_true.size)))[0]
        return {
            "jvp": jax.jvp(f, (theta,), (tangent,))[1],
            "vjp": pull(cotangent),
            "hessian": jax.hessian(scalar(f))(theta),
            "jit": jax.vmap(lambda t: ravel_pytree(t)[0])(rows),
            "vmap": jax.vmap(jax.jacfwd(f))(batch),
        }

    found, true = jax.jit(lambda: products(solve))(), jax.jit(lambda: products(truth))()
    J = _matrix(implicit_jacobian(F, x_true, (theta,)).value, ravel_pytree(theta)[0].size)
    found["jacobian"] = jax.jacobian(lambda v: ravel_pytree(case.read(unravel(v)))[0])(flat) @ J
    true["jacobian"] = true["jit"]
    errors = {name: _error(found[name], true[name]) for name in COLUMNS[:-1]}
    errors[COLUMNS[-1]] = _finite_differences(case, flat, unravel, found["jacobian"])
    return errors


def _matrix(J: Any, n: int) -> Any:
    """A Jacobian nested as by JAX, as one matrix (.., n)."""
    return jnp.concatenate([leaf.reshape(-1, n) for leaf in jax.tree.leaves(J)])


def _finite_differences(case: Case, flat: Any, unravel: Callable[[Any], Any], J: Any) -> float:
    """Largest difference to central differences of roots that SciPy finds, at the best step of each direction."""
    theta, back = ravel_pytree(case.theta)
    moves = np.flatnonzero(np.asarray(flat))  # an entry that is zero on its active set is held there
    residual = jax.jit(lambda v, t: ravel_pytree(case.condition.F(unravel(v), back(t)))[0])

    def root_at(t):
        found = np.asarray(flat).copy()

        def reduced(part):
            found[moves] = part
            return np.asarray(residual(found, t))

        found[moves] = scipy.optimize.root(reduced, found[moves], method="lm", options={"xtol": 1e-15, "ftol": 1e-15}).x
        return np.asarray(ravel_pytree(case.read(unravel(jnp.asarray(found))))[0])

    worst = 0.0
    for j, e in enumerate(np.eye(theta.size)):
        tries = [np.max(np.abs((root_at(theta + h * e) - root_at(theta - h * e)) / (2 * h) - J[:, j])) for h in STEPS]
        worst = max(worst, min(tries))
    return float(worst / max(np.max(np.abs(J)), 1e-300))


def _error(found: Any, true: Any) -> float:
    a, b = ravel_pytree(found)[0], ravel_pytree(true)[0]
    return float(jnp.max(jnp.abs(a - b)) / jnp.maximum(jnp.max(jnp.abs(b)), 1e-300))


def rows() -> list[tuple[str, dict[str, float]]]:
    """The table: each mapping with its errors."""
    return [(case.name, measure(case)) for case in cases()]
