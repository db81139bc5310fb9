"""Small goals for the solvers' tests, each with its solution from another source: SciPy, or enumeration of active sets in NumPy."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize

from implicit_cli.core.implicit import Point
from implicit_cli.core.solvers import Goal

RNG = np.random.default_rng(0)
D = 7
K = np.eye(D) + 0.2 * RNG.normal(size=(D, D))
OFFSET = RNG.normal(size=D)
SAMPLES = RNG.normal(size=(40, 5)) * [1.0, 30.0, 0.1, 5.0, 1.0]
"""Columns of very different size: a step size that is right for one is wrong for the others."""
TARGET = SAMPLES @ [1.0, 0.05, -2.0, 0.0, 0.3] + 0.1 * RNG.normal(size=40)
COUNTS = RNG.normal(size=(6, 5))


class Case(NamedTuple):
    """A goal, where to start, and the solution."""

    goal: Goal
    start: Point
    solution: np.ndarray


def _case(goal, x, theta, data, solution):
    return Case(goal, Point(jnp.asarray(x), jnp.asarray(theta), jax.tree.map(jnp.asarray, data)), np.asarray(solution))


# Smooth


def cosh(x, theta, data):
    return jnp.sum(jnp.cosh(data[0] @ x - data[1])) + theta[0] * jnp.vdot(x, x)


def _cosh_slope(x):
    return K.T @ np.sinh(K @ x - OFFSET) + 0.6 * x


def smooth():
    solution = scipy.optimize.root(_cosh_slope, np.zeros(D), tol=1e-14).x
    return _case(Goal(jax.grad(cosh), f=cosh), np.zeros(D), [0.3], (K, OFFSET), solution)


# Least squares: y = a exp(b t) + c


TIMES = np.linspace(0.0, 1.0, 9)
SEEN = 1.5 * np.exp(-2.0 * TIMES) + 0.3 + 0.05 * np.sin(9 * TIMES)


def misfit(x, theta, data):
    return theta[0] * (x[0] * jnp.exp(x[1] * data[0]) + x[2] - data[1])


def half_square(x, theta, data):
    return jnp.sum(misfit(x, theta, data) ** 2) / 2


def curve():
    found = scipy.optimize.least_squares(
        lambda x: x[0] * np.exp(x[1] * TIMES) + x[2] - SEEN, [1.0, -1.0, 0.0], xtol=1e-15, ftol=1e-15, gtol=1e-15
    )
    return _case(Goal(jax.grad(half_square), f=half_square, r=misfit), [1.0, -1.0, 0.0], [1.0], (TIMES, SEEN), found.x)


# Roots and fixed points


def coupled(x, theta, data):
    return data[0] @ x + theta[0] * jnp.sin(x) - data[1]


def root():
    solution = scipy.optimize.root(lambda x: K @ x + 0.3 * np.sin(x) - OFFSET, np.zeros(D), tol=1e-14).x
    return _case(Goal(coupled), np.zeros(D), [0.3], (K, OFFSET), solution)


def cubic(x, theta, data):
    return x**3 + theta[0] * x - data


def bracket():
    solution = [np.roots([1.0, 0.0, 0.3, -c]) for c in OFFSET]
    real = [float(r[np.argmin(abs(r.imag))].real) for r in solution]
    goal = Goal(cubic, bounds=lambda theta, data: (jnp.full(data.shape, -3.0), jnp.full(data.shape, 4.0)))
    return _case(goal, np.full(D, 9.0), [0.3], OFFSET, real)


def step(x, theta, data):
    return data[1] - theta[0] * jnp.tanh(data[0] @ x)


def contraction():
    solution = scipy.optimize.root(lambda x: OFFSET - 0.3 * np.tanh(K @ x) - x, np.zeros(D), tol=1e-14).x
    return _case(Goal(lambda *a: step(*a) - a[0], T=step), np.zeros(D), [0.3], (K, OFFSET), solution)


# f + r and f on a set


def mean_loss(x, theta, data):
    return jnp.mean((data[0] @ x - data[1]) ** 2) / 2


def soft(v, eta, theta, data):
    return jnp.sign(v) * jnp.maximum(jnp.abs(v) - eta * theta[0], 0.0)


def composite(f, prox, **more):
    """The goal of `F = prox(x - eta grad f) - x`."""

    def T(x, theta, data):
        eta = jnp.asarray(1e-3)
        return prox(x - eta * jax.grad(f)(x, theta, data), eta, theta, data)

    return Goal(lambda *a: T(*a) - a[0], f=f, T=T, prox=prox, **more)


def _lasso_solution(weight):
    """All sign patterns tried: the one whose optimality conditions hold."""
    n, d = SAMPLES.shape
    for signs in itertools.product((-1, 0, 1), repeat=d):
        s = np.array(signs)
        on = s != 0
        x = np.zeros(d)
        if on.any():
            X = SAMPLES[:, on]
            x[on] = np.linalg.solve(X.T @ X / n, X.T @ TARGET / n - weight * s[on])
        g = SAMPLES.T @ (SAMPLES @ x - TARGET) / n
        if (x[on] * s[on] > 0).all() and (abs(g[~on]) <= weight).all():
            return x
    raise AssertionError


def lasso():
    return _case(composite(mean_loss, soft), np.zeros(5), [0.05], (SAMPLES, TARGET), _lasso_solution(0.05))


def lasso_in_blocks():
    goal = composite(mean_loss, soft, blocks=((0, 1), (1, 3), (3, 5)))
    return _case(goal, np.zeros(5), [0.05], (SAMPLES, TARGET), _lasso_solution(0.05))


def box():
    def clip(v, eta, theta, data):
        return jnp.clip(v, *limits(theta, data))

    def limits(theta, data):
        return jnp.zeros(5), jnp.full(5, theta[0])

    solution = scipy.optimize.lsq_linear(SAMPLES, TARGET, (0.0, 0.7), method="bvls", tol=1e-15).x
    return _case(composite(mean_loss, clip, bounds=limits), np.full(5, 0.1), [0.7], (SAMPLES, TARGET), solution)


# The simplex: a dual as of a support vector machine, whose solution has zeros


def dual(x, theta, data):
    return theta[0] * jnp.sum((data @ x) ** 2) / 2 - jnp.vdot(jnp.arange(5.0) / 5, x)


def onto_simplex(v, eta, theta, data):
    u = jnp.sort(v)[::-1]
    tau = (jnp.cumsum(u) - 1) / jnp.arange(1.0, v.size + 1)
    return jnp.maximum(v - tau[jnp.sum(u > tau) - 1], 0.0)


def entropic(x, g, theta, data):
    weights = x * jnp.exp(-(g - jnp.min(g)))
    return weights / jnp.sum(weights)


def _simplex_solution():
    """All supports tried: the one whose multipliers are right."""
    Q, c = COUNTS.T @ COUNTS, -np.arange(5.0) / 5
    for size in range(1, 6):
        for support in itertools.combinations(range(5), size):
            on = list(support)
            system = np.block([[Q[np.ix_(on, on)], -np.ones((size, 1))], [np.ones((1, size)), np.zeros((1, 1))]])
            *inner, level = np.linalg.solve(system, [*(-c[on]), 1.0])
            x = np.zeros(5)
            x[on] = inner
            if (x >= 0).all() and (Q @ x + c >= level - 1e-12).all():
                return x
    raise AssertionError


def simplex():
    return _case(composite(dual, onto_simplex), np.full(5, 0.2), [1.0], COUNTS, _simplex_solution())


def simplex_by_mirror():
    def T(x, theta, data):
        return entropic(x, jax.grad(dual)(x, theta, data), theta, data)

    goal = Goal(lambda *a: T(*a) - a[0], f=dual, T=T, mirror=entropic)
    return _case(goal, np.full(5, 0.2), [1.0], COUNTS, _simplex_solution())


CASES = {
    "smooth": smooth(),
    "curve": curve(),
    "root": root(),
    "bracket": bracket(),
    "contraction": contraction(),
    "lasso": lasso(),
    "lasso_in_blocks": lasso_in_blocks(),
    "box": box(),
    "simplex": simplex(),
    "simplex_by_mirror": simplex_by_mirror(),
}

SLOW = {
    ("bfgs", "smooth"),
    ("nonlinear_cg", "smooth"),
    ("gauss_newton", "curve"),
    ("lbfgs", "curve"),
    ("levenberg_marquardt", "root"),
    ("dogleg", "root"),
    ("broyden", "contraction"),
    ("anderson", "lasso"),
    ("newton", "lasso"),
    ("accelerated_proximal_gradient", "lasso_in_blocks"),
    ("accelerated_proximal_gradient", "simplex"),
}
"""Rows of the table for the long pass: another row tests the same class."""

TABLE = [
    *((name, "smooth") for name in ("lbfgs", "bfgs", "nonlinear_cg", "newton_cg", "newton", "gradient_descent", "fire")),
    *((name, "curve") for name in ("levenberg_marquardt", "gauss_newton", "dogleg", "lbfgs")),
    *((name, "root") for name in ("newton", "broyden", "levenberg_marquardt", "dogleg")),
    ("bisection", "bracket"),
    *((name, "contraction") for name in ("anderson", "fixed_point", "broyden")),
    *((name, "lasso") for name in ("accelerated_proximal_gradient", "proximal_gradient", "anderson", "newton")),
    *((name, "lasso_in_blocks") for name in ("block_coordinate_descent", "accelerated_proximal_gradient")),
    *((name, "box") for name in ("lbfgsb", "projected_gradient")),
    *((name, "simplex") for name in ("projected_gradient", "accelerated_proximal_gradient")),
    ("mirror_descent", "simplex_by_mirror"),
]
