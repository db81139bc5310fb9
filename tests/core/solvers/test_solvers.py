"""Every forward solver on a problem of its kind: it converges, records its residuals, and says so when it does not."""

import jax.numpy as jnp
import numpy as np
import pytest

from implicit_cli.core.implicit import Point, System
from implicit_cli.core.linear import choose, prepare
from implicit_cli.core.linear.base import Operator
from implicit_cli.core.solvers import METHODS, Goal, allowed, pick, solve
from implicit_cli.status import Status

D = 7


def f(x, theta, data):
    """A convex function that is not quadratic."""
    return jnp.sum(jnp.cosh(x - data)) + x @ x * theta[0]


def gradient(x, theta, data):
    return jnp.sinh(x - data) + 2 * theta[0] * x


def step(x, theta, data):
    return data - jnp.tanh(theta[0] * x)


@pytest.fixture
def start():
    data = jnp.asarray(np.random.default_rng(0).normal(size=D))
    return Point(jnp.zeros(D), jnp.asarray([0.3]), data)


GOALS = {
    "lbfgs": Goal(gradient, f=f),
    "fire": Goal(gradient, f=f),
    "newton": Goal(gradient),
    "fixed_point": Goal(lambda x, theta, data: step(x, theta, data) - x, T=step),
}


def linearise(goal):
    system = System(goal.F, lambda x, theta, data: jnp.zeros(0))

    def at(p):
        return prepare(
            choose(D, symmetric=False),
            Operator(system.A_times, system.At_times, p, D, False),
            system.A_matrix(p),
            jnp.zeros((D, 0)),
        )

    return at


@pytest.mark.parametrize("name", METHODS)
def test_it_converges_and_the_history_ends_at_the_residual(name, start):
    goal = GOALS[name]
    solution = solve(name, goal, start, tol=1e-7, max_steps=2000, linearise=None)
    assert solution.status is Status.OK
    residual = float(jnp.max(jnp.abs(goal.F(solution.x, start.theta, start.data))))
    assert residual <= 1e-7
    assert solution.history[-1] == pytest.approx(residual, rel=1e-6, abs=1e-15)
    assert (solution.history[:-1] > 1e-7).all()
    assert solution.steps == len(solution.history)


@pytest.mark.parametrize("name", METHODS)
def test_the_polish_goes_down_to_rounding(name, start):
    goal = GOALS[name]
    solution = solve(name, goal, start, tol=1e-4, max_steps=2000, linearise=linearise(goal))
    assert float(jnp.max(jnp.abs(goal.F(solution.x, start.theta, start.data)))) < 1e-14
    assert 1 <= solution.polish_steps <= 4


@pytest.mark.parametrize("name", ["lbfgs", "fire", "fixed_point"])
def test_out_of_steps_is_a_status_and_is_not_polished(name, start):
    solution = solve(name, GOALS[name], start, tol=1e-12, max_steps=3, linearise=linearise(GOALS[name]))
    assert solution.status is Status.NOT_CONVERGED
    assert (solution.steps, solution.polish_steps) == (3, 0)


def test_a_solver_that_meets_nan_stops_there(start):
    goal = Goal(lambda x, theta, data: jnp.sqrt(x - 1.0))
    solution = solve("newton", goal, start, tol=1e-10, max_steps=50, linearise=None)
    assert solution.status is Status.NOT_FINITE


def test_a_start_that_is_the_solution_takes_no_step(start):
    solution = solve("newton", Goal(lambda x, theta, data: x), start, tol=1e-10, max_steps=50, linearise=None)
    assert (solution.status, solution.steps) == (Status.OK, 0)


def test_more_steps_than_one_compiled_chunk_are_counted_one_by_one(start):
    slow = Goal(lambda x, theta, data: -0.01 * x, T=lambda x, theta, data: 0.99 * x)
    solution = solve("fixed_point", slow, start._replace(x=jnp.ones(D)), tol=1e-6, max_steps=5000, linearise=None)
    assert solution.steps == int(np.ceil(np.log(1e-6 / 0.01) / np.log(0.99)))
    np.testing.assert_allclose(solution.history[1:] / solution.history[:-1], 0.99, rtol=1e-9)


def test_names_are_resolved_by_the_condition():
    assert [pick("auto", kind) for kind in ("stationary", "root", "fixed_point")] == ["lbfgs", "newton", "fixed_point"]
    assert "fire" in allowed("stationary")
    with pytest.raises(ValueError, match="found 'fire', allowed for a root condition: 'auto', 'newton'"):
        pick("fire", "root")
