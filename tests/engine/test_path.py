"""Warm starts: where a solve begins changes how long it takes, and what it ends with only where there are several solutions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from implicit_cli import engine
from implicit_cli.core import stationary
from implicit_cli.engine.path import SHORTEST, chains
from implicit_cli.problem import Data, Parameter, Problem, Unknown
from implicit_cli.spec import load_spec
from implicit_cli.status import Status

FOLD = 2 / (3 * np.sqrt(3))
"""Where one of the two wells of x^4/4 - x^2/2 - b x ends."""


class Wells(Problem):
    """The bottom of a well of x^4/4 - x^2/2 - b x, which are two where |b| is below FOLD."""

    b = Parameter(doc="tilt")
    x = Unknown(initial=-1.0)

    def condition(self):
        return stationary(lambda x, theta, data: x.x**4 / 4 - x.x**2 / 2 - theta.b * x.x)


class Valley(Problem):
    """One minimum, far from the initial guess: sum cosh(x_i - b) + (x_1 - a)^2 / 2, `a` being data."""

    b = Parameter(transform="log", doc="centre")
    a = Data(doc="pull on the first")
    x = Unknown(shape=(3,))

    def condition(self):
        def loss(x, theta, data):
            import jax.numpy as jnp

            return jnp.cosh(x.x - theta.b).sum() + (x.x[0] - data.a) ** 2 / 2

        return stationary(loss)


@pytest.fixture
def results(tmp_path):
    """Results of a sweep by id, from their own guesses or from neighbours."""

    def results(text, cls, *overrides):
        path = tmp_path / "s.yaml"
        path.write_text(text)
        cases = engine.Cases(load_spec(path, overrides), cls)
        plan = engine.make_plan(cases._loaded, cases.vectors)
        found = {result.id: result for result in engine.run_cases(cases, plan, range(cases.count))}
        return [found[name] for name in cases.ids()]

    return results


@given(arrays(float, st.tuples(st.integers(1, 40), st.integers(1, 3)), elements=st.floats(-1e3, 1e3)), st.integers(1, 32))
def test_every_point_is_in_one_chain(points, most):
    found = chains(points, most)
    assert sorted(index for chain in found for index in chain) == list(range(len(points)))
    assert 1 <= len(found) <= most
    lengths = [len(chain) for chain in found]
    assert max(lengths) - min(lengths) <= 1
    assert len(found) == 1 or min(lengths) >= SHORTEST


def test_a_path_goes_from_neighbour_to_neighbour_in_units_of_the_spread():
    # a grid whose second entry is a thousand times as wide: a path of steps of one cell has no step across
    grid = np.array([(i, 1000.0 * j) for i in range(6) for j in range(7)])
    (path,) = chains(grid, 1)
    steps = np.abs(np.diff(grid[path] / [1.0, 1000.0], axis=0)).sum(axis=1)
    assert np.median(steps) == 1.0
    assert steps.max() <= 6.0
    # what does not vary does not count
    assert chains(np.column_stack([np.arange(5.0), np.ones(5)]), 1) == [[0, 1, 2, 3, 4]]


@pytest.mark.parametrize("count", [20, 64])
def test_results_do_not_depend_on_where_a_solve_begins(results, count):
    text = f"problem: valley\ndata: {{a: 0.5}}\nsolver: lbfgs\nsweep: {{over: {{b: {{geomspace: [1, 8, {count}]}}}}}}\n"
    cold = results(text, Valley)
    warm = results(text, Valley, "sweep.start=neighbour")
    assert {result.start for result in cold} == {""}
    assert [result.start for result in warm].count("tangent") >= 0.8 * count
    assert {result.basin for result in warm} <= {result.id for result in warm}
    for one, other in zip(cold, warm, strict=True):
        assert one.status == other.status == Status.OK
        apart = np.linalg.norm(one.solution["x"] - other.solution["x"])
        assert apart <= float(one.bounds["x"].total) + float(other.bounds["x"].total)
        a, b = one.products[0], other.products[0]
        assert np.linalg.norm(a.value - b.value) <= float(a.bound.total) + float(b.bound.total)
    # a tangent in log b predicts most of the way
    assert sum(result.solver.steps for result in warm) < 0.7 * sum(result.solver.steps for result in cold)


def test_where_only_data_vary_the_neighbour_is_the_start(results):
    over = "a: {linspace: [0, 1, 12]}"
    warm = results(f"problem: valley\nparameters: {{b: 3.0}}\nsweep: {{start: neighbour, over: {{{over}}}}}\n", Valley)
    assert [result.start for result in warm] == ["cold"] + ["neighbour"] * 11


def test_a_far_neighbour_is_no_start(results):
    over = "b: [1.0, 80.0], a: [1.0, 80.0], x: [1.0, 80.0]"
    warm = results(f"problem: valley\nsweep: {{design: zip, start: neighbour, over: {{{over}}}}}\n", Valley)
    assert [(result.status, result.start) for result in warm] == [(Status.OK, "cold")] * 2


def test_a_case_that_leads_nowhere_from_a_neighbour_begins_at_its_own_guess(results, monkeypatch):
    from implicit_cli.engine import sweeping

    def refused(vectors, plan, *, at=None, **rest):
        found = solved(vectors, plan, at=at, **rest)
        return found if at is None else found._replace(solution=found.solution._replace(status=Status.NOT_CONVERGED))

    solved = sweeping.solved
    monkeypatch.setattr(sweeping, "solved", refused)
    text = "problem: valley\ndata: {a: 0.5}\nsweep: {start: neighbour, over: {b: {geomspace: [1, 8, 9]}}}\n"
    assert [(result.status, result.start) for result in results(text, Valley)] == [(Status.OK, "cold")] * 9


@pytest.mark.parametrize(("first", "last"), [(-1.0, 1.0), (1.0, -1.0)])
def test_a_jump_at_a_fold_begins_another_basin(results, first, last):
    axis = f"{{linspace: [{first}, {last}, 41]}}"
    found = results(f"problem: wells\nsweep: {{start: neighbour, over: {{b: {axis}}}}}\n", Wells, f"initial.x={np.sign(first)}")
    assert {result.status for result in found} == {Status.OK}
    b = np.linspace(first, last, 41) * np.sign(first)
    x = np.array([float(result.solution["x"]) for result in found]) * np.sign(first)
    # one well to its end, then the other: hysteresis
    assert (x[b > -FOLD] > 1 / np.sqrt(3)).all()
    assert (x[b < -FOLD] < -1 / np.sqrt(3)).all()
    basins = [result.basin for result in found]
    jump = int(np.argmax(b < -FOLD))
    assert basins == [found[0].id] * jump + [found[jump].id] * (41 - jump)


def test_a_steep_way_is_no_jump(results):
    # steps so large that the tangent misses by more than it predicts, in one valley
    text = "problem: valley\ndata: {a: 0.0}\nsweep: {start: neighbour, over: {b: {geomspace: [0.01, 20, 5]}}}\n"
    found = results(text, Valley)
    assert {result.basin for result in found} == {found[0].id}
