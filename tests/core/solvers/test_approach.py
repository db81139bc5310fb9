"""Newton steps from afar: where the Hessian jumps, they lower the objective and end at a minimum, or say that they do not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from implicit_cli.core.implicit import Point, System
from implicit_cli.core.linear import choose, prepare
from implicit_cli.core.linear.base import Operator
from implicit_cli.core.solvers import Goal, Solution
from implicit_cli.core.solvers.choice import approach, solve
from implicit_cli.status import Status

D = 12
STIFF = jnp.asarray(np.random.default_rng(0).uniform(10.0, 100.0, D))


def contacts(x, theta, data):
    """Springs that hold on one side only, a soft background, and a force theta: the Hessian jumps at x = 0."""
    return jnp.sum(STIFF * jnp.maximum(x, 0.0) ** 2) / 2 + jnp.sum(x**2) / 20 - theta @ x + (x[0] - x[-1]) ** 2


def saddle(x, theta, data):
    return x[0] ** 2 - x[1] ** 2 + jnp.sum(x[2:] ** 2) - theta @ x


def setting(f):
    system = System(jax.grad(f), lambda x, theta, data: jnp.zeros(0), symmetric=True)

    def linearise(p):
        operator = Operator(system.A_times, system.At_times, p, D, True)
        return prepare(choose(D, symmetric=True), operator, system.A_matrix(p), jnp.zeros((D, 0)))

    return Goal(system.F, f=f), linearise


def start(x):
    return Point(jnp.asarray(x), jnp.linspace(-1.0, 1.0, D), None)


@pytest.mark.parametrize("seed", range(5))
def test_contacts_that_open_and_close_do_not_stop_it(seed):
    goal, linearise = setting(contacts)
    p = start(np.random.default_rng(seed).normal(size=D))
    found = approach(Solution(p.x, Status.OK, np.zeros(0), "here"), goal, p, 1e-12, linearise)
    assert found is not None
    assert found.status is Status.OK
    # the minimum is unique: f is strictly convex; its conditions, written again
    x = np.asarray(found.x)
    slope = np.asarray(STIFF) * np.maximum(x, 0.0) + x / 10 - np.linspace(-1.0, 1.0, D)
    slope[0] += 2 * (x[0] - x[-1])
    slope[-1] -= 2 * (x[0] - x[-1])
    assert np.abs(slope).max() < 1e-12


def test_a_saddle_is_no_answer():
    goal, linearise = setting(saddle)
    p = start(np.full(D, 0.3))
    assert approach(Solution(p.x, Status.OK, np.zeros(0), "here"), goal, p, 1e-12, linearise) is None


def test_it_saves_steps_and_changes_no_result():
    goal, linearise = setting(contacts)
    p = start(np.ones(D))
    settings = {"tol": 1e-9, "max_steps": 5000, "linearise": linearise}
    plain, early = (solve("fire", goal, p, **settings, early=early) for early in (None, linearise))
    assert plain.status is early.status is Status.OK
    assert early.steps < plain.steps
    np.testing.assert_allclose(early.x, plain.x, atol=1e-12)
