"""Solvers of the host: their story in the same record, whatever they do."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from implicit_cli.core.solvers import Goal, solve
from implicit_cli.core.solvers.host import drive
from implicit_cli.status import Status

from .goals import CASES


class Watcher:
    def __init__(self, interrupt=False):
        self.seen, self.interrupt = [], interrupt

    def stage(self, text): ...

    def progress(self, step, size, tol):
        self.seen.append((step, size, tol))
        if self.interrupt:
            raise KeyboardInterrupt


@dataclass(frozen=True)
class Scripted:
    """A host solver that watches what it is told to, and ends as it is told to."""

    path: tuple[float, ...] = ()
    end: Any = 1.0
    name: str = "scripted"

    def host_solve(self, p, *, tol, max_steps, watch):
        for x in self.path:
            watch(np.array([x]))
        if isinstance(self.end, Exception):
            raise self.end
        return np.array([self.end])


GOAL = Goal(lambda x, theta, data: x - 2.0)
START = CASES["root"].start._replace(x=jnp.asarray([1.0]))


def drove(method, **rest):
    return drive(method, GOAL, START, **({"tol": 1e-6, "max_steps": 4} | rest))


@pytest.mark.parametrize(
    ("method", "status", "history", "x"),
    [
        (Scripted((1.5, 1.75), 2.0), Status.OK, [0.5, 0.25, 0.0], 2.0),
        (Scripted((1.5, 2.0, 7.0), 9.0), Status.OK, [0.5, 0.0], 2.0),  # stopped where it has arrived
        (Scripted((1.5,), 1.5), Status.NOT_CONVERGED, [0.5], 1.5),  # its last x is not counted twice
        (Scripted((), 1.0), Status.NOT_CONVERGED, [1.0], 1.0),  # one that does nothing
        (Scripted((3.0, 4.0, 5.0, 6.0, 7.0)), Status.NOT_CONVERGED, [1.0, 2.0, 3.0, 4.0], 6.0),  # steps used up
        (Scripted((1.5, np.nan, 2.0), 2.0), Status.NOT_FINITE, [0.5, np.nan], np.nan),
        (Scripted((1.5,), np.linalg.LinAlgError("singular")), Status.NOT_CONVERGED, [0.5], 1.5),
        (Scripted((), ZeroDivisionError()), Status.NOT_CONVERGED, [], 1.0),
    ],
)
def test_every_end_has_a_status(method, status, history, x):
    solution = drove(method)
    assert solution.status is status
    np.testing.assert_array_equal(solution.history, history)
    np.testing.assert_array_equal(solution.x, [x])


def test_mistakes_of_ours_are_not_hidden():
    with pytest.raises(TypeError, match="wrong"):
        drove(Scripted((), TypeError("wrong")))


def test_progress_is_reported_and_ctrl_c_is_heard():
    case, watcher = CASES["box"], Watcher()
    solution = solve("lbfgsb", case.goal, case.start, tol=1e-6, max_steps=200, linearise=None, observer=watcher)
    assert [step for step, _, _ in watcher.seen] == list(range(1, solution.steps + 1))
    np.testing.assert_array_equal([size for _, size, _ in watcher.seen], solution.history)
    with pytest.raises(KeyboardInterrupt):
        solve("lbfgsb", case.goal, case.start, tol=1e-6, max_steps=200, linearise=None, observer=Watcher(interrupt=True))


def test_an_empty_box_has_no_solution():
    def bounds(theta, data):
        return jnp.full(5, 1.0), jnp.full(5, 0.5)

    case = CASES["box"]
    goal = case.goal._replace(bounds=bounds)
    solution = solve("lbfgsb", goal, case.start, tol=1e-9, max_steps=50, linearise=None)
    assert solution.status is Status.NOT_CONVERGED
    np.testing.assert_array_equal(solution.x, case.start.x)


def test_an_objective_that_becomes_nan_is_stepped_back_from():
    def f(x, theta, data):
        return jnp.sum(x - 2.0 * jnp.sqrt(x - 0.2))  # a minimum at 1.2, nothing below 0.2

    def T(x, theta, data):
        return jnp.clip(x - 0.1 * jax.grad(f)(x, theta, data), -5.0, 5.0)

    goal = Goal(
        lambda *a: T(*a) - a[0],
        f=f,
        prox=lambda v, eta, theta, data: jnp.clip(v, -5.0, 5.0),
        bounds=lambda theta, data: (jnp.full(2, -5.0), jnp.full(2, 5.0)),
    )
    solution = solve("lbfgsb", goal, START._replace(x=jnp.asarray([4.0, 0.3])), tol=1e-7, max_steps=80, linearise=None)
    assert solution.status is Status.OK
    np.testing.assert_allclose(solution.x, 1.2, atol=1e-5)
