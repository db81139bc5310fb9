"""The outer loop on functions with closed forms: optima and multipliers, failed trials, and going on from any record."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from implicit_cli.outer import Evaluation, Settings, Stored, Trial, minimise, projected
from implicit_cli.outer.loop import Diverged
from implicit_cli.outer.methods import HALVINGS
from implicit_cli.status import Status

METHODS = ("lbfgs", "adam", "gradient_descent")
A = np.array([[3.0, 0.5, -0.2], [0.5, 2.0, 0.3], [-0.2, 0.3, 1.0]])
B = np.array([1.0, -2.0, 0.5])
FREE = np.inf


def settings(method="lbfgs", start=(2.0, 2.0, -3.0), low=-FREE, high=FREE, **rest):
    rest = {"max_steps": 500, "tol": 1e-8} | rest
    return Settings(method, np.array(start), np.broadcast_to(low, len(start)), np.broadcast_to(high, len(start)), **rest)


class Function:
    """f, its gradient, and where it fails; counts its calls."""

    def __init__(self, f, slope, fails=lambda x: False, bound=1e-14, validation=lambda x: np.nan):
        self.f, self.slope, self.fails, self.bound, self.validation = f, slope, fails, bound, validation
        self.calls = []

    def __call__(self, point, x, before):
        self.calls.append((point, x, before))
        failed = self.fails(point)
        nothing = np.full(point.shape, np.nan)
        found = Evaluation(
            point,
            np.nan if failed else float(self.f(point)),
            nothing if failed else np.asarray(self.slope(point)),
            np.nan if failed else self.bound,
            Status.NOT_CONVERGED if failed else Status.OK,
            "far away" if failed else "",
            0.0,
            0.1,
            float(self.validation(point)),
            0.0,
        )
        return Trial(found, 2 * point)


def quadratic(**rest):
    return Function(lambda x: x @ A @ x / 2 - B @ x, lambda x: A @ x - B, **rest)


def rosenbrock(**rest):
    def slope(x):
        return np.array([-2 * (1 - x[0]) - 400 * x[0] * (x[1] - x[0] ** 2), 200 * (x[1] - x[0] ** 2)])

    return Function(lambda x: (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2, slope, **rest)


STEPS = {"lbfgs": {}, "adam": {"step": 0.3, "decay": 0.01}, "gradient_descent": {"step": 0.3}}


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("method", METHODS)
def test_a_quadratic_ends_at_its_closed_form(method, sign):
    f = quadratic()
    if sign < 0:
        f = Function(lambda x: -(x @ A @ x / 2 - B @ x), lambda x: -(A @ x - B))
    found = minimise(f, settings(method, sign=sign, tol=1e-7, max_steps=3000, **STEPS[method]))
    assert found.converged, found.reason
    np.testing.assert_allclose(found.best.point, np.linalg.solve(A, B), atol=2e-7)
    assert found.best is found.evaluations[found.steps[-1]]
    np.testing.assert_array_equal(found.solution, 2 * found.best.point)


@pytest.mark.parametrize("method", METHODS)
def test_bounds_hold_and_their_multipliers_have_the_right_sign(method):
    low, high = np.array([-1.0, -0.5, -5.0]), np.array([0.1, 2.0, 0.3])
    found = minimise(quadratic(), settings(method, (0.0, 0.0, 0.0), low, high, tol=1e-7, max_steps=3000, **STEPS[method]))
    assert found.converged
    x, g = found.best.point, A @ found.best.point - B
    for evaluation in found.evaluations:
        assert (low <= evaluation.point).all()
        assert (evaluation.point <= high).all()
    assert (x == low).sum() + (x == high).sum() == 3
    assert (g[x == low] > 0).all()
    assert (g[x == high] < 0).all()


def test_rosenbrock_needs_few_steps_of_lbfgs():
    found = minimise(rosenbrock(), settings(start=(-1.2, 1.0)))
    assert found.converged
    np.testing.assert_allclose(found.best.point, [1, 1], atol=1e-7)
    assert len(found.evaluations) < 60


def test_a_kink_of_the_objective_ends_the_run_and_is_told():
    """|x_0 - 0.3| + x_1^2: at the minimum the slope by x_0 jumps from -1 to 1, and is never small."""
    f = Function(lambda x: abs(x[0] - 0.3) + x[1] ** 2 + 5, lambda x: np.array([np.sign(x[0] - 0.3), 2 * x[1]]))
    found = minimise(f, settings(start=(1.0, 1.0)))
    assert not found.converged
    assert "it has a kink" in found.reason or "the line search found no lower value" in found.reason
    np.testing.assert_allclose(found.best.point, [0.3, 0.0], atol=1e-4)
    assert len(found.evaluations) < 150


def test_gradient_descent_is_its_formula():
    found = minimise(quadratic(), settings("gradient_descent", max_steps=7, step=0.2, decay=0.5, momentum=0.6))
    x, v = np.array([2.0, 2.0, -3.0]), 0.0
    for k in range(7):
        v = 0.6 * v + (A @ x - B)
        x = x - 0.2 / (1 + 0.5 * k) * v
    np.testing.assert_allclose(found.best.point, x, rtol=1e-13)
    assert not found.converged
    assert found.reason.startswith("outer.max_steps, 7, are done")


def test_adam_is_that_of_the_paper():
    found = minimise(quadratic(), settings("adam", max_steps=6, step=0.1, momentum=0.8))
    x, m, v = np.array([2.0, 2.0, -3.0]), 0.0, 0.0
    for k in range(1, 7):
        g = A @ x - B
        m, v = 0.8 * m + 0.2 * g, 0.999 * v + 0.001 * g**2
        x = x - 0.1 * (m / (1 - 0.8**k)) / (np.sqrt(v / (1 - 0.999**k)) + 1e-8)
    np.testing.assert_allclose(found.best.point, x, rtol=1e-9)


# The projected gradient


numbers = st.floats(-5, 5)


@given(st.tuples(numbers, numbers, numbers), st.tuples(numbers, numbers, numbers), st.tuples(numbers, numbers, numbers))
def test_the_projected_gradient_moves_no_more_than_the_gradient(point, g, h):
    box = settings(start=np.clip(point, -1, 2), low=-1.0, high=2.0)
    one, other = (
        projected(Evaluation(box.start, 0.0, np.array(slope), 0.0, Status.OK, "", 0.0, 0.1, 0.0, 0.0), box) for slope in (g, h)
    )
    assert abs(one - other) <= np.linalg.norm(np.subtract(g, h)) + 1e-12
    assert one <= np.linalg.norm(g) + 1e-12
    feasible = [(p > -1 or s < 0) and (p < 2 or s > 0) and s != 0 for p, s in zip(box.start, g, strict=True)]
    assert (one > 0) == any(feasible) or one < 1e-12


def test_a_gradient_within_its_bound_is_an_end_and_is_said():
    found = minimise(quadratic(bound=1e-3), settings(tol=1e-8))
    assert found.converged
    assert "is zero within its bound, 1.0e-03" in found.reason
    assert 1e-8 < found.gradient_norms()[found.result] <= 1e-3


# Failed solves


@pytest.mark.parametrize("method", METHODS)
def test_failed_trials_are_backed_away_from_and_recorded(method):
    rest = {"lbfgs": {}, "adam": {"step": 2.5, "decay": 1.0, "momentum": 0.5}, "gradient_descent": {"step": 0.5}}[method]
    f = quadratic(fails=lambda x: x[0] < 0.1)
    found = minimise(f, settings(method, tol=1e-6, max_steps=3000, **rest))
    assert found.converged, found.reason
    np.testing.assert_allclose(found.best.point, np.linalg.solve(A, B), atol=2e-6)
    failed = [one for one in found.evaluations if not one.good]
    assert failed
    assert {one.status for one in failed} == {Status.NOT_CONVERGED}
    assert all(np.isnan(one.objective) and one.message for one in failed)
    assert not {found.evaluations.index(one) for one in failed} & set(found.steps)


def test_the_line_search_turns_back_to_a_seventh_of_the_way():
    f = Function(lambda x: (x[0] - 10) ** 2, lambda x: 2 * (x - 10), fails=lambda x: x[0] > 0.5)
    minimise(f, settings(start=(0.0,), max_steps=1))
    tried = [point[0] for point, _, _ in f.calls]
    assert tried[1] > 0.5 > tried[2]
    assert tried[2] / tried[1] == pytest.approx(0.14, abs=0.01)


@pytest.mark.parametrize("method", METHODS)
def test_where_all_around_fails_the_run_ends(method):
    start = np.array([2.0, 2.0, -3.0])
    f = quadratic(fails=lambda x: not np.array_equal(x, start))
    found = minimise(f, settings(method))
    assert not found.converged
    assert found.steps == (0,)
    assert found.result == 0
    if method == "lbfgs":
        assert found.reason.startswith("the line search found no lower value")
    else:
        assert found.reason == f"the inner solve failed along a step, and again after {HALVINGS} halvings"
        moves = [np.linalg.norm(point - start) for point, _, _ in f.calls[1:]]
        np.testing.assert_allclose(moves, moves[0] * 0.5 ** np.arange(HALVINGS + 1))


def test_a_start_that_fails_ends_the_run():
    found = minimise(quadratic(fails=lambda x: True), settings())
    assert (found.converged, found.reason, found.steps) == (False, "the inner solve failed at the start", ())
    assert found.solution is None
    assert found.best.status is Status.NOT_CONVERGED


@pytest.mark.parametrize("status", [status for status in Status if status not in (Status.OK, Status.PARTIAL)])
def test_only_what_the_bound_tells_is_no_failure(status):
    good = Evaluation(np.zeros(2), 1.0, np.ones(2), 0.1, status, "", 0.0, 0.1, 0.0, 0.0)
    assert good.good is (status in (Status.ACCURACY_NOT_MET, Status.PRECISION_LOST))
    for change in ({"objective": np.nan}, {"gradient": np.array([1.0, np.inf])}, {"bound": np.nan}):
        assert not dataclasses.replace(good, status=Status.OK, **change).good


# Warm starts, validation


@pytest.mark.parametrize("method", METHODS)
def test_every_solve_starts_from_the_solution_of_the_last_step(method):
    f = rosenbrock()
    found = minimise(f, settings(method, (-1.2, 1.0), max_steps=12, **({} if method == "lbfgs" else {"step": 1e-3})))
    assert f.calls[0][1:] == (None, None)
    steps = list(found.steps)
    for index, (_, x, before) in enumerate(f.calls[1:], start=1):
        last = max(i for i in steps if i < index)
        assert before is found.evaluations[last]
        np.testing.assert_array_equal(x, 2 * before.point)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_patience_ends_at_the_best_validation(sign):
    f = quadratic(validation=lambda x: sign * (x[0] - 1.3) ** 2)
    if sign < 0:
        f = Function(lambda x: -(x @ A @ x / 2 - B @ x), lambda x: B - A @ x, validation=lambda x: -((x[0] - 1.3) ** 2))
    found = minimise(f, settings("gradient_descent", step=0.01, patience=3, sign=sign))
    assert found.converged
    assert found.reason == "the validation has not become better for 3 steps"
    assert found.result == found.steps[-4]
    best = max(found.evaluations, key=lambda one: -sign * one.validation)
    assert found.best is best
    np.testing.assert_array_equal(found.solution, 2 * best.point)


# Going on


def same_outcome(a, b):
    assert (a.reason, a.converged, a.steps, a.result) == (b.reason, b.converged, b.steps, b.result)
    assert len(a.evaluations) == len(b.evaluations)
    for one, other in zip(a.evaluations, b.evaluations, strict=True):
        np.testing.assert_array_equal(one.point, other.point)
        np.testing.assert_array_equal(one.objective, other.objective)
    np.testing.assert_array_equal(a.solution, b.solution)


@pytest.mark.parametrize("method", METHODS)
def test_a_run_that_goes_on_from_any_of_its_records_ends_alike_to_the_last_bit(method):
    rest = {"lbfgs": {}, "adam": {"step": 0.2}, "gradient_descent": {"step": 2e-3, "momentum": 0.5}}[method]
    chosen = settings(method, (-1.2, 1.0), low=np.array([-1.5, -2.0]), high=np.array([0.8, 2.0]), max_steps=15, patience=9, **rest)
    make = lambda: rosenbrock(fails=lambda x: x[1] > 1.4 or abs(x[0]) < 0.02, validation=lambda x: abs(x[0] + 0.5))  # noqa: E731
    saved = []
    whole = minimise(make(), chosen, save=saved.append)
    assert len(saved) == len(whole.evaluations) > 8
    for done, stored in enumerate(saved, start=1):
        f = make()
        same_outcome(whole, minimise(f, chosen, stored=stored))
        assert len(f.calls) == len(saved) - done


def test_a_larger_max_steps_goes_on_where_it_ended():
    saved = []
    short = minimise(rosenbrock(), settings(start=(-1.2, 1.0), max_steps=5), save=saved.append)
    assert not short.converged
    f = rosenbrock()
    long = minimise(f, settings(start=(-1.2, 1.0)), stored=saved[-1])
    same_outcome(long, minimise(rosenbrock(), settings(start=(-1.2, 1.0))))
    assert len(f.calls) == len(long.evaluations) - len(short.evaluations)


def test_a_record_of_another_run_is_refused():
    saved = []
    minimise(rosenbrock(), settings(start=(-1.2, 1.0), max_steps=3), save=saved.append)
    with pytest.raises(Diverged, match="evaluation 2 was at another point"):
        minimise(rosenbrock(), settings("gradient_descent", (-1.2, 1.0)), stored=saved[-1])


def test_what_save_raises_ends_the_run():
    class Stopped(Exception):
        pass

    def save(stored):
        if len(stored.evaluations) == 4:
            raise Stopped

    for method in METHODS:
        f = quadratic()
        with pytest.raises(Stopped):
            minimise(f, settings(method), save=save)
        assert len(f.calls) == 4


def test_few_solutions_are_kept():
    saved: list[Stored] = []
    minimise(rosenbrock(validation=lambda x: -x[0]), settings(start=(-1.2, 1.0), max_steps=30, patience=30), save=saved.append)
    assert max(len(stored.solutions) for stored in saved) <= 8
