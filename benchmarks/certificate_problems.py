"""The problems of the calibration study (`certificate.py`): every mapping of the catalogue, small, random, x*(theta) in mpmath."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from certificate_constrained import constrained
from certificate_truth import ASINH, CBRT, EXP, SAMPLES, SIN, SQRT, TANH, Case, Draw, by_chord, case, exact, mp, regression, solve

from implicit_cli.core import fixed_point, least_squares, newton, root, stationary
from implicit_cli.problem import Constants


def problems() -> list[Case]:
    return [
        ridge(),
        logistic(),
        weighted_logistic(),
        quartic(),
        rosenbrock(),
        exponential_fit(),
        kepler(),
        cubic(),
        circle(),
        fold(),
        ill_conditioned(),
        contraction(),
        newton_mapping(),
        *constrained(),
    ]


def orthogonal(rng: Any, d: int) -> np.ndarray:
    return np.linalg.qr(rng.normal(size=(d, d)))[0]


# Stationary points.


def ridge() -> Case:
    def loss(x, theta, X, y):
        return jnp.mean((X @ x - y) ** 2) / 2.0 + jnp.sum(theta * x**2) / 2.0

    def draw(rng):
        return Draw(rng.uniform(0.1, 1.0, 5), regression(rng, 5), np.zeros(5))

    def solution(draw, near):
        X, y = map(exact, draw.data)
        return lambda theta: solve(X.T @ X / SAMPLES + np.diag(theta), X.T @ y / SAMPLES)

    def constants(draw):
        return Constants(alpha=float(draw.theta.min()), gamma=0.0, beta=1.0)

    return case("ridge", stationary(loss), jnp.zeros(5), 5, draw=draw, solution=solution, constants=constants)


def classification(rng: Any, d: int) -> tuple[np.ndarray, np.ndarray]:
    X, y = regression(rng, d)
    return X, np.sign(y)


def logistic() -> Case:
    """A penalty exp(theta) for each weight."""

    def loss(x, theta, X, y):
        margins = y * (X @ x)
        return jnp.mean(jnp.logaddexp(jnp.zeros_like(margins), -margins)) + jnp.exp(theta) @ x**2 / 2.0

    def gradient(x, theta, X, y):
        return -(X.T @ (y / (1 + EXP(y * (X @ x))))) / SAMPLES + EXP(theta) * x

    def draw(rng):
        return Draw(rng.uniform(-3.0, -1.0, 6), classification(rng, 6), np.zeros(6))

    return case("logistic", stationary(loss), jnp.zeros(6), 6, draw=draw, solution=by_chord(gradient))


def weighted_logistic() -> Case:
    """A weight for each of four groups of samples, and every constant of Theorem 1 proved."""
    group = np.arange(SAMPLES) % 4

    def loss(x, theta, X, y):
        margins = y * (X @ x)
        return jnp.mean(jnp.tile(theta, SAMPLES // 4) * jnp.logaddexp(jnp.zeros_like(margins), -margins)) + 0.0625 * (x @ x) / 2.0

    def gradient(x, theta, X, y):
        return -(X.T @ (theta[group] * y / (1 + EXP(y * (X @ x))))) / SAMPLES + x / 16

    def draw(rng):
        return Draw(rng.uniform(0.5, 2.0, 4), classification(rng, 5), np.zeros(5))

    def constants(draw):
        # the logistic function's derivative is at most 1/4, its second derivative at most 1 / (6 sqrt 3)
        theta, (X, _), _ = draw
        size = np.linalg.norm(X, axis=1)
        gamma = np.sum(theta[group] * size**3) / (6 * np.sqrt(3)) / SAMPLES
        beta = np.linalg.norm([np.sum(size[group == k] ** 2) / 4 / SAMPLES for k in range(4)])
        return Constants(alpha=0.0625, gamma=float(gamma), beta=float(beta))

    return case("weighted_logistic", stationary(loss), jnp.zeros(5), 4, draw=draw, solution=by_chord(gradient), constants=constants)


def quartic() -> Case:
    """sum theta_i z_i^4 / 4 - c'z with z = M x: z = cbrt(c / theta)."""

    def loss(x, theta, M, c):
        z = M @ x
        return theta @ z**4 / 4.0 - c @ z

    def draw(rng):
        M, c, theta = orthogonal(rng, 4), rng.choice([-1, 1], 4) * rng.uniform(0.5, 2.0, 4), rng.uniform(0.5, 2.0, 4)
        return Draw(theta, (M, c), M.T @ (np.cbrt(c / theta) * rng.uniform(0.7, 1.4, 4)))

    def solution(draw, near):
        M, c = map(exact, draw.data)
        return lambda theta: solve(M, np.sign(draw.data[1]).astype(int) * CBRT(abs(c) / theta))

    return case("quartic", stationary(loss), jnp.zeros(4), 4, draw=draw, solution=solution)


def rosenbrock() -> Case:
    """(theta_0 - x_0)^2 / 2 + theta_1 (x_1 - x_0^2)^2 / 2: x* = (theta_0, theta_0^2), and dx*/dtheta_1 = 0."""

    def loss(x, theta):
        return (theta[0] - x[0]) ** 2 / 2.0 + theta[1] * (x[1] - x[0] ** 2) ** 2 / 2.0

    def draw(rng):
        theta = np.array([rng.uniform(0.5, 1.5), rng.uniform(1.0, 10.0)])
        return Draw(theta, (), np.array([theta[0], theta[0] ** 2]) + rng.uniform(-0.3, 0.3, 2))

    def solution(draw, near):
        return lambda theta: np.array([theta[0], theta[0] ** 2])

    return case("rosenbrock", stationary(loss), jnp.zeros(2), 2, draw=draw, solution=solution)


def exponential_fit() -> Case:
    """a exp(-b t) fitted to six observations, which are the parameters."""
    times = np.arange(6) / 4.0

    def residuals(x, theta):
        return x[0] * jnp.exp(-x[1] * jnp.asarray(times, x.dtype)) - theta

    def gradient(x, theta):
        decay = EXP(-x[1] * exact(times))
        r = x[0] * decay - theta
        return np.array([decay @ r, -x[0] * ((exact(times) * decay) @ r)])

    def draw(rng):
        a, b = rng.uniform(1.0, 3.0), rng.uniform(0.5, 1.5)
        return Draw(a * np.exp(-b * times) + 0.05 * rng.normal(size=6), (), np.array([1.3 * a, 0.7 * b]))

    return case("exponential_fit", least_squares(residuals), jnp.zeros(2), 6, draw=draw, solution=by_chord(gradient))


# Roots and fixed points.


def kepler() -> Case:
    """E - e sin E = M for three mean anomalies M and one eccentricity e: theta = (e, M)."""

    def draw(rng):
        M = rng.uniform(0.3, 2.5, 3)
        return Draw(np.concatenate([[rng.uniform(0.1, 0.7)], M]), (), M)

    F = lambda x, theta: x - theta[0] * SIN(x) - theta[1:]  # noqa: E731
    condition = root(lambda x, theta: x - theta[0] * jnp.sin(x) - theta[1:])
    return case("kepler", condition, jnp.zeros(3), 4, draw=draw, solution=by_chord(F))


def cubic() -> Case:
    """x^3 + s x = t with a small s: theta = (s, t), and x by the hyperbolic form of Cardano's formula."""

    def draw(rng):
        s, t = rng.uniform(0.01, 0.1), rng.uniform(0.01, 1.0)
        return Draw(np.array([s, t]), (), np.array([1.5 * np.cbrt(t)]))

    def solution(draw, near):
        def at(theta):
            s, t = theta
            return np.array([2 * mp.sqrt(s / 3) * mp.sinh(mp.asinh(3 * t / (2 * s) * mp.sqrt(3 / s)) / 3)])

        return at

    condition = root(lambda x, theta: x**3 + theta[0] * x - theta[1], symmetric=True)
    return case("cubic", condition, jnp.zeros(1), 2, draw=draw, solution=solution)


def circle() -> Case:
    """x^2 + y^2 = theta_0 and x y = theta_1: half the sum and difference of the roots of theta_0 +- 2 theta_1."""

    def solution(draw, near):
        def at(theta):
            total, difference = SQRT(np.array([theta[0] + 2 * theta[1], theta[0] - 2 * theta[1]]))
            return np.array([total + difference, total - difference]) / 2

        return at

    def draw(rng):
        x = np.array([rng.uniform(1.0, 2.0), rng.uniform(0.2, 0.8)])
        return Draw(np.array([x @ x, x[0] * x[1]]), (), x * rng.uniform(0.8, 1.3, 2))

    condition = root(lambda x, theta: jnp.stack([x @ x - theta[0], x[0] * x[1] - theta[1]]))
    return case("circle", condition, jnp.zeros(2), 2, draw=draw, solution=solution)


def fold() -> Case:
    """(z - 1)^2 = theta with z = M x: two roots near each other, and so h near 1/2 at 1e-1."""

    def draw(rng):
        M, theta = orthogonal(rng, 2), rng.uniform(0.02, 0.2, 2)
        return Draw(theta, (M,), M.T @ (1 + rng.uniform(1.3, 1.8, 2) * np.sqrt(theta)))

    def solution(draw, near):
        return lambda theta: solve(exact(draw.data[0]), 1 + SQRT(theta))

    condition = root(lambda x, theta, M: (M @ x - 1.0) ** 2 - theta)
    return case("fold", condition, jnp.zeros(2), 2, draw=draw, solution=solution)


def ill_conditioned() -> Case:
    """(A + theta_0 B + theta_1 C) x = b with kappa near 1e6."""
    d = 8

    def draw(rng):
        A = orthogonal(rng, d) @ np.diag(np.logspace(0, -6, d)) @ orthogonal(rng, d)
        B, C = 1e-7 * rng.normal(size=(2, d, d))
        x, theta = rng.normal(size=d), rng.uniform(-1.0, 1.0, 2)
        return Draw(theta, (A, B, C, A @ x), x * rng.uniform(0.5, 1.5, d))

    def solution(draw, near):
        A, B, C, b = map(exact, draw.data)
        return lambda theta: solve(A + theta[0] * B + theta[1] * C, b)

    def constants(draw):
        return Constants(gamma=0.0, beta=float(np.linalg.norm(np.concatenate(draw.data[1:3]), 2)))

    condition = root(lambda x, theta, A, B, C, b: A @ x + theta[0] * (B @ x) + theta[1] * (C @ x) - b)
    return case("ill_conditioned", condition, jnp.zeros(d), 2, draw=draw, solution=solution, constants=constants)


def contraction() -> Case:
    """x = tanh(W x + theta) with |W| = 0.8."""

    def draw(rng):
        W = rng.normal(size=(5, 5))
        return Draw(rng.normal(size=5), (0.8 * W / np.linalg.norm(W, 2),), np.zeros(5))

    condition = fixed_point(lambda x, theta, W: jnp.tanh(W @ x + theta))
    F = lambda x, theta, W: TANH(W @ x + theta) - x  # noqa: E731
    return case("contraction", condition, jnp.zeros(5), 5, draw=draw, solution=by_chord(F))


def newton_mapping() -> Case:
    """sinh(M x) = theta, as the fixed point of Newton's method."""

    def draw(rng):
        M, theta = np.eye(4) + 0.2 * rng.normal(size=(4, 4)), rng.uniform(-2.0, 2.0, 4)
        return Draw(theta, (M,), np.linalg.solve(M, np.arcsinh(theta)) + rng.uniform(-0.3, 0.3, 4))

    def solution(draw, near):
        return lambda theta: solve(exact(draw.data[0]), ASINH(theta))

    condition = newton(lambda x, theta, M: jnp.sinh(M @ x) - theta)
    return case("newton", condition, jnp.zeros(4), 4, draw=draw, solution=solution)
