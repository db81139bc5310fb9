"""Every forward solver on problems of its kind: right against another source, records its residuals, and says so when it fails."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from implicit_cli.core.implicit import System
from implicit_cli.core.linear import choose, prepare
from implicit_cli.core.linear.base import Operator
from implicit_cli.core.solvers import METHODS, Goal, residual, solve
from implicit_cli.core.solvers.base import compiled_residual
from implicit_cli.status import Status

from .goals import CASES, SLOW, TABLE, Case

TOL = {"smooth": 1e-7, "curve": 1e-8}
"""Line searches on f run out of digits of f near 1e-8; the others go further."""
ELSEWHERE = {"qp", "clarabel", "slsqp", "trust_constr"}
"""Solvers of constrained goals have their own tests."""


def linearise(goal):
    system = System(goal.F, lambda x, theta, data: jnp.zeros(0))

    def at(p):
        return prepare(
            choose(p.x.size, symmetric=False),
            Operator(system.A_times, system.At_times, p, p.x.size, False),
            system.A_matrix(p),
            jnp.zeros((p.x.size, 0)),
        )

    return at


def solved(name, case, **rest):
    options = {"tol": 1e-11, "max_steps": 20000, "linearise": None} | rest
    return solve(name, case.goal, case.start, **options)


def test_the_table_holds_every_solver():
    assert {name for name, _ in TABLE} == set(METHODS) - ELSEWHERE


@pytest.mark.parametrize(
    ("name", "problem"), [pytest.param(*row, marks=[pytest.mark.exhaustive] if row in SLOW else []) for row in TABLE]
)
def test_it_reaches_the_solution_and_records_its_residuals(name, problem):
    case, tol = CASES[problem], TOL.get(problem, 1e-11)
    solution = solved(name, case, tol=tol)
    assert solution.status is Status.OK
    np.testing.assert_allclose(solution.x, case.solution, rtol=1e-6, atol=3e-7)
    now = float(jnp.max(jnp.abs(case.goal.F(solution.x, case.start.theta, case.start.data))))
    assert now <= tol
    assert solution.history[-1] == pytest.approx(float(residual(case.goal, case.start._replace(x=solution.x))), rel=1e-3, abs=1e-15)
    assert (solution.history[:-1] > tol).all()
    assert (solution.steps, solution.name) == (len(solution.history), name)

    # the same programs, without steps enough
    short = solved(name, case, tol=tol, max_steps=2, linearise=linearise(case.goal))
    assert short.status is Status.NOT_CONVERGED
    assert (short.steps, short.polish_steps) == (2, 0)

    # and with data that are not numbers
    lost = case.start._replace(theta=case.start.theta * jnp.nan)
    nothing = solve(name, case.goal, lost, tol=tol, max_steps=50, linearise=linearise(case.goal))
    assert (nothing.status, nothing.steps) == (Status.NOT_FINITE, 0)


@pytest.mark.parametrize(
    ("name", "problem", "tol"),
    [
        ("lbfgs", "smooth", 1e-4),
        pytest.param("fixed_point", "contraction", 1e-4, marks=pytest.mark.exhaustive),
        pytest.param("proximal_gradient", "lasso", 1e-6, marks=pytest.mark.exhaustive),
        ("lbfgsb", "box", 1e-5),
        ("mirror_descent", "simplex_by_mirror", 1e-6),
    ],
)
def test_the_polish_goes_down_to_rounding_and_stays_inside(name, problem, tol):
    case = CASES[problem]
    solution = solved(name, case, tol=tol, linearise=linearise(case.goal))
    np.testing.assert_allclose(solution.x, case.solution, rtol=1e-11, atol=1e-13)
    assert 1 <= solution.polish_steps <= 5
    assert solution.steps + solution.polish_steps == len(solution.history)
    if problem in ("box", "simplex_by_mirror"):
        assert (solution.x >= 0).all()


def test_proximal_gradient_stopped_early_says_so():
    case = CASES["lasso"]
    solution = solved("proximal_gradient", case, max_steps=100)
    assert np.abs(solution.x - case.solution).max() > 1e-2
    assert solution.status is Status.NOT_CONVERGED


def test_mirror_descent_and_projected_gradient_agree_on_the_simplex():
    one, other = (
        solved(name, CASES[problem]).x
        for name, problem in (("mirror_descent", "simplex_by_mirror"), ("projected_gradient", "simplex"))
    )
    np.testing.assert_allclose(one, other, atol=1e-7)
    assert (CASES["simplex"].solution == 0).sum() == 1  # a solution on a face


def test_an_entry_that_ought_to_grow_is_seen_however_small_it_is():
    case = CASES["simplex_by_mirror"]
    grows = int(np.argmax(case.solution))
    vertex = np.eye(5)[(grows + 1) % 5] * (1 - 1e-10) + np.eye(5)[grows] * 1e-10
    assert float(jnp.max(jnp.abs(case.goal.F(jnp.asarray(vertex), case.start.theta, case.start.data)))) < 1e-8
    assert float(residual(case.goal, case.start._replace(x=jnp.asarray(vertex)))) > 1e-2


def test_more_steps_than_one_compiled_chunk_are_counted_one_by_one():
    slow = Goal(lambda x, theta, data: -0.01 * x, T=lambda x, theta, data: 0.99 * x)
    start = CASES["contraction"].start._replace(x=jnp.ones(7))
    solution = solve("fixed_point", slow, start, tol=1e-6, max_steps=5000, linearise=None)
    assert solution.steps == int(np.ceil(np.log(1e-6 / 0.01) / np.log(0.99)))
    np.testing.assert_allclose(solution.history[1:] / solution.history[:-1], 0.99, rtol=1e-9)


def test_a_start_that_is_the_solution_takes_no_step():
    start = CASES["root"].start
    solution = solve("newton", Goal(lambda x, theta, data: x), start, tol=1e-10, max_steps=50, linearise=None)
    assert (solution.status, solution.steps) == (Status.OK, 0)


def test_nan_on_the_way_ends_the_solve():
    start = CASES["root"].start._replace(x=jnp.asarray([5.0]))  # 5, 2, 1, 0, NaN
    goal = Goal(lambda x, theta, data: jnp.sqrt(x - 1) - x, T=lambda x, theta, data: jnp.sqrt(x - 1))
    solution = solve("fixed_point", goal, start, tol=1e-10, max_steps=50, linearise=None)
    assert (solution.status, solution.steps) == (Status.NOT_FINITE, 3)


@pytest.mark.parametrize("name", ["gradient_descent", "newton_cg"])
def test_line_searches_come_back_from_where_f_is_nan(name):
    def f(x, theta, data):
        return jnp.sum(10 * x - jnp.log(x))

    start = CASES["root"].start._replace(x=jnp.asarray([3.0, 0.2]))
    solution = solve(name, Goal(jax.grad(f), f=f), start, tol=1e-9, max_steps=200, linearise=None)
    assert solution.status is Status.OK
    np.testing.assert_allclose(solution.x, 0.1, rtol=1e-9)


# Newton where A is singular, roots that do not exist, brackets that hold nothing


def vector_case(F, x, **rest):
    return Case(Goal(F, **rest), CASES["root"].start._replace(x=jnp.asarray(x)), np.zeros(0))


def test_newton_takes_the_shortest_step_where_A_is_singular():
    case = vector_case(lambda x, theta, data: jnp.stack([x[0] + x[1] - 1, 2 * x[0] + 2 * x[1] - 2]), [0.0, 0.0])
    solution = solved("newton", case)
    assert solution.status is Status.OK
    np.testing.assert_allclose(solution.x, [0.5, 0.5], atol=1e-12)


@pytest.mark.parametrize("name", ["newton", "broyden", "levenberg_marquardt", "dogleg"])
def test_a_root_that_does_not_exist_is_not_converged(name):
    solution = solved(name, vector_case(lambda x, theta, data: x**2 + 1, [0.7]), max_steps=300)
    assert solution.status is Status.NOT_CONVERGED
    assert np.isfinite(solution.x).all()


def test_newton_is_damped_where_full_steps_diverge():
    solution = solved("newton", vector_case(lambda x, theta, data: jnp.arctan(x), [20.0]))
    assert solution.status is Status.OK
    assert (np.diff(solution.history) < 0).all()


def test_bisection_says_where_a_bracket_holds_no_root():
    limits = (jnp.asarray([1.0, 1.0]), jnp.asarray([2.0, 2.0]))
    F = lambda x, theta, data: jnp.stack([x[0] - 1.5, x[1]])  # noqa: E731
    solution = solved("bisection", vector_case(F, [9.0, 9.0], bounds=lambda theta, data: limits))
    assert (solution.status, solution.steps) == (Status.NOT_CONVERGED, 1)


def test_bisection_does_not_take_a_coupled_system_for_solved():
    limits = (jnp.asarray([-1.0, -1.0]), jnp.asarray([2.0, 2.0]))
    F = lambda x, theta, data: jnp.stack([x[0] + x[1] - 0.3, x[1] - 2 * x[0] - 0.1])  # noqa: E731
    solution = solved("bisection", vector_case(F, [9.0, 9.0], bounds=lambda theta, data: limits))
    assert solution.status is Status.NOT_CONVERGED


def test_bisection_takes_a_limit_that_is_the_root():
    limits = (jnp.asarray([0.0, -1.0]), jnp.asarray([2.0, 0.5]))
    F = lambda x, theta, data: x - jnp.asarray([0.0, 0.5])  # noqa: E731
    solution = solved("bisection", vector_case(F, [9.0, 9.0], bounds=lambda theta, data: limits))
    assert solution.status is Status.OK
    np.testing.assert_array_equal(solution.x, [0.0, 0.5])


def test_anderson_converges_wherever_plain_iteration_does():
    def T(x, theta, data):
        return data[0] @ jnp.abs(x) + data[1]

    goal = Goal(lambda *a: T(*a) - a[0], T=T)
    gained = []
    for seed in range(15):  # contractions in a weighted norm only: |F| may grow on the way
        rng = np.random.default_rng(seed)
        scale = 10.0 ** rng.uniform(-2, 2, 5)
        M = rng.normal(size=(5, 5))
        M *= 0.95 / np.linalg.norm(M, 2)
        start = CASES["root"].start._replace(
            x=jnp.asarray(rng.normal(size=5)), data=(jnp.asarray(M * scale[:, None] / scale), jnp.asarray(rng.normal(size=5)))
        )
        plain, fast = (solve(name, goal, start, tol=1e-9, max_steps=2000, linearise=None) for name in ("fixed_point", "anderson"))
        assert plain.status is Status.OK
        assert fast.status is Status.OK
        np.testing.assert_allclose(fast.x, plain.x, atol=1e-6)
        gained.append(plain.steps / fast.steps)
    assert np.median(gained) > 1.5


# Constraints: F = 0 alone does not make a solution


def kkt_goal():
    from implicit_cli.core.solvers import Limits

    def lagrangian(x, theta, data):
        return jnp.stack([x[0] - theta[0] + x[1], x[1] * (x[0] - 1)])  # f = (x - theta)^2 / 2, x <= 1

    limits = Limits(None, lambda x, theta, data: x[:1] - 1, ((0, 1),), (0, 0), (1, 2))
    return Goal(lagrangian, f=lambda x, theta, data: (x[0] - theta[0]) ** 2 / 2, limits=limits)


@pytest.mark.parametrize(("theta", "x"), [(2.0, (2.0, 0.0)), (0.0, (1.0, -1.0))], ids=["outside", "negative multiplier"])
def test_spurious_roots_of_kkt_conditions_are_not_solutions(theta, x):
    case = vector_case(kkt_goal().F, x)._replace(goal=kkt_goal())
    case = case._replace(start=case.start._replace(theta=jnp.asarray([theta])))
    assert float(jnp.max(jnp.abs(case.goal.F(case.start.x, case.start.theta, None)))) == 0.0
    assert float(compiled_residual(case.goal)(case.start)) == 1.0
    solution = solved("newton", case, linearise=linearise(case.goal))
    assert solution.status is Status.NOT_CONVERGED


def test_the_residual_of_a_conic_program_is_that_of_the_point_over_w():
    goal = Goal(lambda x, theta, data: x - jnp.asarray([1.0, 2.0, 2.0]), program=lambda theta, data: None)
    start = CASES["root"].start
    found = [float(residual(goal, start._replace(x=jnp.asarray([1.0, 2.0, w])))) for w in (4.0, -1.0, 0.0)]
    assert found == [0.5, np.inf, np.inf]
