"""The traced loop: the same numbers as the chunked one, under `jit` and `vmap`, where lanes do not disturb each other."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from implicit_cli.core.solvers import METHODS, Goal, residual, run, solve
from implicit_cli.core.solvers.host import HostMethod
from implicit_cli.status import Status

from .goals import CASES, TABLE

QUICK = {"lbfgs", "newton", "levenberg_marquardt", "accelerated_proximal_gradient", "mirror_descent", "anderson"}
FIRST = dict(reversed(TABLE))
NATIVE = [(name, problem) for name, problem in FIRST.items() if not isinstance(METHODS[name](CASES[problem].goal), HostMethod)]


@pytest.mark.parametrize(
    ("name", "problem"), [pytest.param(*row, marks=[] if row[0] in QUICK else [pytest.mark.exhaustive]) for row in NATIVE]
)
def test_lanes_do_not_disturb_each_other(name, problem):
    goal, start, solution = CASES[problem]
    tol, length = 1e-7, 4000

    @jax.jit
    @functools.partial(jax.vmap, in_axes=(0, None, None))
    def lanes(theta, x, data):
        p = start._replace(x=x, theta=theta, data=data)
        ended = run(METHODS[name](goal), goal, p, tol=tol, max_steps=20000, length=length)
        return ended, residual(goal, p._replace(x=ended.x))

    found, again = lanes(jnp.outer(jnp.asarray([1.0, jnp.nan, 1.2]), start.theta), start.x, start.data)
    np.testing.assert_array_equal(found.status, [Status.OK, Status.NOT_FINITE, Status.OK])
    assert np.abs(found.x[0] - solution).max() < 2e-3 * np.abs(solution).max()  # tol is loose where the step eta is small
    np.testing.assert_array_equal(found.x[1], start.x)  # lost before its first step
    np.testing.assert_allclose(found.residual, again, rtol=1e-3, atol=1e-15)
    steps = np.asarray(found.steps)
    assert steps[1] == 0
    assert (steps[[0, 2]] > 1).all()
    for lane, count in enumerate(steps):
        recorded = np.asarray(found.history[lane])
        kept = min(count, length)
        assert np.isnan(recorded[kept:]).all()
        assert (recorded[: max(kept - 1, 0)] > tol).all()
        if 0 < count <= length:
            assert recorded[count - 1] == found.residual[lane]


def test_it_is_the_chunked_loop_in_one_piece():
    goal, start, _ = CASES["contraction"]
    chunked = solve("fixed_point", goal, start, tol=1e-9, max_steps=100, linearise=None)
    traced = jax.jit(lambda p: run(METHODS["fixed_point"](goal), goal, p, tol=1e-9, max_steps=100))(start)
    assert traced.history.shape == (100,)
    assert int(traced.steps) == chunked.steps
    np.testing.assert_allclose(traced.history[: chunked.steps], chunked.history, rtol=1e-9)
    np.testing.assert_allclose(traced.x, chunked.x, rtol=1e-14)


def test_lanes_that_diverge_run_out_of_steps_or_start_solved():
    goal = Goal(lambda x, theta, data: theta * x - x, T=lambda x, theta, data: theta * x)
    start = CASES["root"].start._replace(x=jnp.ones(3))

    def lane(theta, x, max_steps):
        p = start._replace(x=x, theta=theta)
        return run(METHODS["fixed_point"](goal), goal, p, tol=1e-6, max_steps=max_steps, length=5)

    found = jax.jit(jax.vmap(lane))(
        jnp.asarray([[0.5], [1e60], [0.9], [0.5]]), jnp.asarray([[1.0] * 3] * 3 + [[0.0] * 3]), jnp.asarray([100, 100, 7, 100])
    )
    np.testing.assert_array_equal(found.status, [Status.OK, Status.NOT_FINITE, Status.NOT_CONVERGED, Status.OK])
    np.testing.assert_array_equal(found.steps, [19, 5, 7, 0])
    np.testing.assert_allclose(found.x[0], 0.5**19, rtol=1e-12)
    np.testing.assert_allclose(found.x[2], 0.9**7, rtol=1e-12)
    np.testing.assert_allclose(found.residual[2], 0.1 * 0.9**7, rtol=1e-12)
    np.testing.assert_allclose(found.history[2], 0.1 * 0.9 ** np.arange(1, 6), rtol=1e-12)  # the first five of seven
    assert np.isnan(found.history[3]).all()


def test_tolerance_and_steps_may_be_traced():
    goal, start, _ = CASES["contraction"]
    method = METHODS["fixed_point"](goal)
    found = jax.jit(jax.vmap(lambda tol: run(method, goal, start, tol=tol, max_steps=50)))(jnp.asarray([1e-2, 1e-9]))
    assert found.steps[0] < found.steps[1]
    np.testing.assert_array_equal(found.status, [Status.OK, Status.OK])
