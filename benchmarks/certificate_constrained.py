"""Problems of the calibration study with constraints, proximal operators and cones; see `certificate_problems.py`."""

from __future__ import annotations

from collections import namedtuple
from itertools import product
from typing import Any

import jax.numpy as jnp
import numpy as np
from certificate_truth import SAMPLES, Case, Draw, bordered, case, exact, mp, regression, solve

from implicit_cli.core import (
    block_proximal_gradient,
    frank_wolfe,
    kkt,
    mirror_descent,
    projected_gradient,
    projections,
    prox,
    proximal_gradient,
)
from implicit_cli.core.conic import conic, kink
from implicit_cli.problem import Constants

Kkt = namedtuple("Kkt", ("x", "nu", "lam"))
Equality = namedtuple("Equality", ("x", "nu"))
Cone = namedtuple("Cone", ("u", "v", "w"))


def constrained() -> list[Case]:
    return [
        equality_qp(),
        inequality_qp(),
        elastic_net(),
        box(),
        simplex("simplex_projected"),
        simplex("simplex_mirror"),
        blocks(),
        polytope(),
        cone(),
        cone_of_any_scale(),
    ]


def last(theta: Any, *data: Any) -> Any:
    """Step sizes travel with the data, as its last entry."""
    return data[-1]


# Quadratic programs by their Karush-Kuhn-Tucker conditions.


def hessian(rng: Any, d: int) -> np.ndarray:
    X = rng.normal(size=(2 * d, d))
    return X.T @ X / (2 * d)


def equality_qp() -> Case:
    """x'(Q + diag(q)) x / 2 - c'x with E x = b: theta = (q, b)."""

    def f(z, theta, Q, c, E):
        return z.x @ (Q @ z.x) / 2.0 + theta[:4] @ z.x**2 / 2.0 - c @ z.x

    def draw(rng):
        theta = np.concatenate([rng.uniform(0.1, 1.0, 4), rng.normal(size=2)])
        return Draw(theta, (hessian(rng, 4), rng.normal(size=4), rng.normal(size=(2, 4))), rng.normal(size=6))

    def solution(draw, near):
        Q, c, E = map(exact, draw.data)
        return lambda theta: solve(bordered(Q + np.diag(theta[:4]), E), np.concatenate([c, theta[4:]]))

    condition = kkt(f, lambda z, theta, Q, c, E: E @ z.x - theta[4:])
    constants = lambda draw: Constants(gamma=0.0, beta=1.0)  # noqa: E731
    like = Equality(jnp.zeros(4), jnp.zeros(2))
    return case("equality_qp", condition, like, 6, draw=draw, solution=solution, constants=constants)


def on_simplex(Q: Any, c: Any, size: Any, support: np.ndarray, solve: Any) -> tuple[Any, Any, Any]:
    """min x'Q x / 2 - c'x with sum x = size and x = 0 off its support: x, the multiplier of the sum, and those of x >= 0."""
    one, S = np.ones((1, len(support)), dtype=np.asarray(Q).dtype), np.asarray(support)
    K = np.concatenate([np.concatenate([Q[np.ix_(S, S)], one.T], axis=1), np.concatenate([one, 0 * one[:, :1]], axis=1)])
    z = solve(K, np.concatenate([c[S], np.asarray([size])]))
    x = 0 * c
    x[S] = z[:-1]
    lam = Q @ x - c + z[-1]
    lam[S] = 0 * lam[S]
    return x, z[-1], lam


def support_of(Q: np.ndarray, c: np.ndarray, size: float) -> tuple[np.ndarray, np.ndarray]:
    """The support of the minimiser, by trying all, and the solution."""
    for mask in product((True, False), repeat=len(c)):
        support = np.flatnonzero(mask)
        if support.size:
            x, nu, lam = on_simplex(Q, c, size, support, np.linalg.solve)
            if x.min() >= 0 and lam.min() >= 0:
                return support, np.concatenate([x, [nu], lam])
    raise ArithmeticError("no active set is optimal")


def inequality_qp() -> Case:
    """x'Q x / 2 - c'x with sum x = r and x >= 0: theta = (c, r)."""

    def f(z, theta, Q):
        return z.x @ (Q @ z.x) / 2.0 - theta[:4] @ z.x

    def draw(rng):
        Q, theta = hessian(rng, 4), np.concatenate([rng.normal(size=4), rng.uniform(0.5, 2.0, 1)])
        _, z = support_of(Q, theta[:4], theta[4])
        return Draw(theta, (Q,), z * rng.uniform(0.7, 1.3, 9) + 0.02 * rng.normal(size=9))

    def solution(draw, near):
        Q = exact(draw.data[0])
        support, _ = support_of(*draw.data, draw.theta[:4], draw.theta[4])

        def at(theta):
            x, nu, lam = on_simplex(Q, theta[:4], theta[4], support, solve)
            return np.concatenate([x, [nu], lam])

        return at

    def constants(draw):
        # A changes in its rows lam g only, by diag(lam') and diag(x'); B is constant
        return Constants(gamma=1.0, beta=0.0)

    condition = kkt(f, lambda z, theta, Q: jnp.sum(z.x)[None] - theta[4:], lambda z, theta, Q: -z.x)
    like = Kkt(jnp.zeros(4), jnp.zeros(1), jnp.zeros(4))
    return case("inequality_qp", condition, like, 5, draw=draw, solution=solution, constants=constants)


# A gradient step and an operator.


def squares(x, theta, X, y, eta):
    return jnp.mean((X @ x - y) ** 2) / 2.0


def with_step(X: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, ...]:
    return X, y, np.asarray(SAMPLES / np.linalg.norm(X, 2) ** 2)


def elastic_net() -> Case:
    """|X x - y|^2 / 40 + l1 |x|_1 + l2 |x|^2 / 2: theta = (l1, l2)."""

    def draw(rng):
        theta = np.array([rng.uniform(0.1, 0.5), rng.uniform(0.05, 0.5)])
        return Draw(theta, with_step(*regression(rng, 6)), np.zeros(6))

    def solution(draw, near):
        X, y, _ = map(exact, draw.data)
        S, sign = np.flatnonzero(near), np.sign(near).astype(int)
        H, b = X.T @ X / SAMPLES, X.T @ y / SAMPLES

        def at(theta):
            x = 0 * b
            x[S] = solve(H[np.ix_(S, S)] + np.diag(np.full(S.size, theta[1])), (b - theta[0] * sign)[S])
            return x

        return at

    condition = proximal_gradient(
        squares,
        lambda v, eta, theta, *data: prox.elastic_net(v, eta * theta[0], eta * theta[1]),
        eta=last,
        margin=lambda v, eta, theta, *data: prox.elastic_net.margin(v, eta * theta[0], eta * theta[1]),
    )
    return case("elastic_net", condition, jnp.zeros(6), 2, draw=draw, solution=solution)


def box() -> Case:
    """Weighted least squares between bounds: theta = (lower, upper, weights of two groups of samples)."""
    group = np.arange(SAMPLES) % 2

    def f(x, theta, X, y, eta):
        return jnp.mean(jnp.tile(theta[2:], SAMPLES // 2) * (X @ x - y) ** 2) / 2.0

    def draw(rng):
        theta = np.concatenate([[-rng.uniform(0.2, 0.8), rng.uniform(0.2, 0.8)], rng.uniform(0.3, 1.0, 2)])
        return Draw(theta, with_step(*regression(rng, 6)), np.zeros(6))

    def solution(draw, near):
        X, y, _ = map(exact, draw.data)
        low, high = near <= draw.theta[0], near >= draw.theta[1]
        free = np.flatnonzero(~(low | high))

        def at(theta):
            W = theta[2:][group][:, None] * X / SAMPLES
            x = low.astype(int) * theta[0] + high.astype(int) * theta[1]
            x[free] = solve((X.T @ W)[np.ix_(free, free)], (W.T @ (y - X @ x))[free])
            return x

        return at

    def bounds(x, theta, *data):
        return jnp.broadcast_to(theta[0], x.shape), jnp.broadcast_to(theta[1], x.shape)

    condition = projected_gradient(f, bounds=bounds, eta=last)
    return case("box", condition, jnp.zeros(6), 4, draw=draw, solution=solution)


def simplex(name: str) -> Case:
    """x'(Q + diag(theta)) x / 2 - c'x on the probability simplex, in two geometries."""

    def f(x, theta, Q, c, eta):
        return x @ (Q @ x) / 2.0 + theta @ x**2 / 2.0 - c @ x

    def draw(rng):
        Q, theta = hessian(rng, 5), rng.uniform(0.1, 1.0, 5)
        eta = 1 / np.linalg.norm(Q + np.diag(theta), 2)
        return Draw(theta, (Q, 0.7 * rng.normal(size=5), np.asarray(eta)), np.full(5, 0.2))

    def solution(draw, near):
        Q, c, _ = draw.data
        support, _ = support_of(Q + np.diag(draw.theta), c, 1.0)
        Q, c = exact(Q), exact(c)
        return lambda theta: on_simplex(Q + np.diag(theta), c, mp.mpf(1), support, solve)[0]

    if name == "simplex_mirror":
        condition = mirror_descent(f, eta=last)
    else:
        condition = projected_gradient(
            f, lambda v, theta, *data: projections.simplex(v), eta=last, margin=lambda v, *_: projections.simplex.margin(v)
        )
    return case(name, condition, jnp.zeros(5), 5, draw=draw, solution=solution)


def blocks() -> Case:
    """|X a + Z b - y|^2 / 40 + theta_0 |a|_1 + theta_1 |b|^2 / 2, in two blocks with steps of their own."""

    def f(x, theta, X, y, eta):
        return jnp.mean((X[:, :2] @ x[0] + X[:, 2:] @ x[1] - y) ** 2) / 2.0

    def draw(rng):
        theta = np.array([rng.uniform(0.05, 0.3), rng.uniform(0.1, 1.0)])
        return Draw(theta, with_step(*regression(rng, 5)), np.zeros(5))

    def solution(draw, near):
        X, y, _ = map(exact, draw.data)
        S = np.flatnonzero(near)
        sign, second = np.where(np.arange(5) < 2, np.sign(near), 0).astype(int), (np.arange(5) >= 2).astype(int)
        H, b = X.T @ X / SAMPLES, X.T @ y / SAMPLES

        def at(theta):
            x = 0 * b
            x[S] = solve((H + np.diag(theta[1] * second))[np.ix_(S, S)], (b - theta[0] * sign)[S])
            return x

        return at

    condition = block_proximal_gradient(
        f,
        (lambda v, eta, theta, *_: prox.lasso(v, eta * theta[0]), lambda v, eta, theta, *_: prox.ridge(v, eta * theta[1])),
        eta=(last, lambda theta, *data: 0.75 * data[-1]),
        margin=lambda v, theta, *data: prox.lasso.margin(v[0], data[-1] * theta[0]),
    )
    return case("blocks", condition, (jnp.zeros(2), jnp.zeros(3)), 2, draw=draw, solution=solution)


def polytope() -> Case:
    """The point p of the hull of five vertices with the least sum theta_i (p_i - t_i)^2 / 2, by its weights."""

    def f(p, theta, V, t, eta):
        return theta @ (p - t) ** 2 / 2.0

    def draw(rng):
        V, theta = np.eye(5) + 0.2 * rng.normal(size=(5, 5)), rng.uniform(0.5, 2.0, 5)
        t = V.T @ rng.dirichlet(np.ones(5)) + 0.3 * rng.normal(size=5)
        return Draw(theta, (V, t, np.asarray(1 / np.linalg.norm(V * theta @ V.T, 2))), np.full(5, 0.2))

    def solution(draw, near):
        V, t, _ = draw.data
        support, _ = support_of(V * draw.theta @ V.T, V * draw.theta @ t, 1.0)
        V, t = exact(V), exact(t)
        return lambda theta: on_simplex(V * theta @ V.T, V * theta @ t, mp.mpf(1), support, solve)[0]

    condition = frank_wolfe(f, lambda theta, V, t, eta: V, eta=last)
    return case("polytope", condition, jnp.zeros(5), 5, draw=draw, solution=solution)


# Conic programs: min c'x in the ball of radius r, as a second-order cone program; theta = (c, r).

BALL = (("second_order", 4),)


def _ball(theta: Any) -> tuple[Any, Any, Any]:
    eye = jnp.eye(3, dtype=theta.dtype)
    return theta[:3], jnp.concatenate([jnp.zeros((1, 3), theta.dtype), -eye]), jnp.zeros(4, theta.dtype).at[0].set(theta[3])


def _ball_solution(theta: np.ndarray) -> np.ndarray:
    """x = -r c / |c|, y = (|c|, c), s = (r, x): u = x and v = y - s."""
    c, r = theta[:3], theta[3]
    size = mp.sqrt(c @ c)
    x = -r * c / size
    return np.concatenate([x, [size - r], c - x])


def _ball_draw(rng: Any, w: float | None) -> Draw:
    theta = np.concatenate([rng.normal(size=3), rng.uniform(0.5, 2.0, 1)])
    z = np.concatenate([np.asarray(_ball_solution(exact(theta)), dtype=float), [] if w is None else [w]])
    return Draw(theta, (), z * rng.uniform(0.7, 1.3, z.size))


def cone() -> Case:
    """With the scale w = 1 held, and the row of w, which the others imply, left out."""
    F = conic(_ball, BALL).F

    def at_scale_one(x, theta, data):
        z = F(Cone(x[:3], x[3:], jnp.ones((), x.dtype)), theta)
        return jnp.concatenate([z.u, z.v])

    return Case(
        "cone",
        "conic",
        7,
        4,
        at_scale_one,
        lambda rng: _ball_draw(rng, None),
        lambda draw, near: _ball_solution,
        margin=lambda x, theta, data: kink(x[3:], BALL),
    )


def cone_of_any_scale() -> Case:
    """The homogeneous residual itself: x* is unique but for its scale, and the outputs are functions of the primal solution."""
    condition = conic(_ball, BALL)

    def outputs(x, theta, data):
        u = x[:3] / x[7]
        return jnp.stack([u[0] + theta[3] * u[1], jnp.sin(u[0]) * u[2]])

    def outputs_exact(x, theta):
        u = x[:3]
        return np.array([u[0] + theta[3] * u[1], mp.sin(u[0]) * u[2]])

    return case(
        "cone_of_any_scale",
        condition,
        Cone(jnp.zeros(3), jnp.zeros(4), jnp.zeros(())),
        4,
        draw=lambda rng: _ball_draw(rng, 1.0),
        solution=lambda draw, near: lambda theta: np.concatenate([_ball_solution(theta), [mp.mpf(1)]]),
        unique=False,
        outputs=outputs,
        outputs_exact=outputs_exact,
    )
