"""The cases of a sweep: their values, their ids, how they end, and what is refused."""

import itertools
import time

import h5py
import jax.numpy as jnp
import numpy as np
import pytest

from implicit_cli import engine
from implicit_cli.core import fixed_point, root, stationary
from implicit_cli.engine import sweep
from implicit_cli.errors import InputError
from implicit_cli.problem import Data, Option, Output, Parameter, Problem, Unknown
from implicit_cli.spec import load_spec
from implicit_cli.status import Status


class Spring(Problem):
    """k (x - a) = f, for three springs with k and a of their own; `n` is an integer that does nothing."""

    k = Parameter(shape=("spring",), bounds=(0, None), unit="N/m")
    f = Parameter(default=1.0, transform="log")
    a = Data(shape=("spring",))
    n = Data(dtype="int", optional=True, shape=("count",))
    x = Unknown(shape=("spring",))
    stiff = Option(1.0)

    def condition(self):
        return stationary(lambda x, theta, data: (self.stiff * theta.k * (x.x - data.a) ** 2).sum() / 2 - theta.f * x.x.sum())


GIVEN = "problem: spring\nparameters: {k: [1.0, 2.0, 4.0]}\ndata: {a: [0.0, 0.5, 1.0]}\n"


@pytest.fixture
def made(tmp_path):
    def made(text, *overrides, cls=Spring):
        path = tmp_path / "s.yaml"
        path.write_text(text)
        return engine.Cases(load_spec(path, overrides), cls)

    return made


def refusals(made, text, *overrides, cls=Spring):
    with pytest.raises(InputError) as caught:
        made(text, *overrides, cls=cls)
    return [message.partition("s.yaml:")[2] for message in caught.value.messages]


# Values


def test_a_grid_has_every_combination_and_the_last_axis_varies_fastest(made):
    cases = made(GIVEN + "sweep: {over: {f: [1.0, 2.0], 'k[1]': {linspace: [3, 5, 3]}, seed: [0, 7]}}\n")
    found = [cases.at(index) for index in range(cases.count)]
    wanted = list(itertools.product([1.0, 2.0], [3.0, 4.0, 5.0], [0, 7]))
    assert [(float(c.bound.parameters["f"]), c.bound.parameters["k"].tolist(), c.seed) for c in found] == [
        (f, [1.0, k, 4.0], seed) for f, k, seed in wanted
    ]
    # what is no parameter is told
    assert [c.swept["seed"] for c in found] == [seed for _, _, seed in wanted]
    assert {tuple(c.swept) for c in found} == {("seed",)}


@pytest.mark.parametrize("given", ["a: [0, 1, 2]", "a: [0.0, 1.0, 2.0]"])
def test_levels_between_whole_numbers_are_kept(made, given):
    cases = made(GIVEN.replace("a: [0.0, 0.5, 1.0]", given) + "sweep: {over: {'a[0]': {linspace: [0, 1, 5]}}}\n")
    assert [cases.at(index).bound.data["a"].tolist() for index in range(5)] == [[0.25 * k, 1.0, 2.0] for k in range(5)]
    # also where only the sweep gives the data
    alone = made(GIVEN.replace("data: {a: [0.0, 0.5, 1.0]}\n", "") + "sweep: {over: {a: {linspace: [[0, 0, 0], [1, 1, 2], 3]}}}\n")
    assert alone.at(1).bound.data["a"].tolist() == [0.5, 0.5, 1.0]


def test_data_initial_guesses_and_whole_arrays_vary(made):
    over = "{a: [[0, 0, 0], [1, 1, 1]], x: [5.0, 6.0], k: [2.0, 3.0], n: [[1, 2], [3, 4]]}"
    cases = made(f"{GIVEN}sweep: {{design: zip, over: {over}}}\n")
    second = cases.at(1)
    assert second.bound.data["a"].tolist() == [1.0, 1.0, 1.0]
    assert second.bound.data["n"].tolist() == [3, 4]
    assert second.bound.data["n"].dtype == np.int64
    assert second.bound.initial["x"].tolist() == [6.0, 6.0, 6.0]
    assert second.bound.parameters["k"].tolist() == [3.0, 3.0, 3.0]
    assert set(second.swept) == {"a", "x", "n"}


def test_one_at_a_time_leaves_the_others_at_the_specs_own_values(made):
    cases = made(GIVEN + "sweep: {design: one_at_a_time, over: {k: {centred: [0.1, 1]}, f: [1.0, 3.0]}}\n")
    found = [(cases.at(i).bound.parameters["k"].tolist(), float(cases.at(i).bound.parameters["f"])) for i in range(cases.count)]
    own = [1.0, 2.0, 4.0]
    assert found[0] == (own, 1.0)
    np.testing.assert_allclose(found[1][0], np.array(own) - 0.1)
    np.testing.assert_allclose(found[2][0], np.array(own) + 0.1)
    assert found[3:] == [(own, 3.0)]


def test_what_only_the_sweep_gives_need_not_be_given_twice(made, tmp_path):
    with h5py.File(tmp_path / "p.h5", "w") as file:
        file["k"] = [[1.0, 1.0, 1.0], [2.0, 2.0, 2.0]]
        file["k"].attrs["units"] = "N/m"
    bare = "problem: spring\ndata: {a: [0.0, 0.5, 1.0]}\n"
    assert made(bare + "sweep: {over: {k: 'p.h5:/k'}}\n").at(1).bound.parameters["k"].tolist() == [2.0, 2.0, 2.0]
    assert made(bare + "sweep: {over: {k: {geomspace: [1, 4, 3]}}}\n").at(1).bound.parameters["k"].tolist() == [2.0] * 3
    sampled = made(bare + "sweep: {design: random, samples: 5, over: {k: {uniform: [[1, 1, 1], [2, 3, 4]]}}}\n")
    values = np.array([sampled.at(i).bound.parameters["k"] for i in range(5)])
    assert ((values >= 1) & (values <= [2, 3, 4])).all()
    assert len(np.unique(values)) == 15


# Ids


def test_a_question_has_one_id_in_every_design(made):
    small = made(GIVEN + "sweep: {over: {f: [1.0, 2.0]}}\n")
    large = made(GIVEN + "sweep: {over: {f: {linspace: [0.5, 2.0, 4]}}}\n")
    assert large.ids()[1::2] == small.ids()
    assert len(set(large.ids())) == 4
    assert [small.at(i).id for i in range(2)] == small.ids()
    # how it is answered does not count, what is asked does
    assert made(GIVEN + "sweep: {over: {f: [1.0, 2.0]}}\n", "solver.tol=1e-3", "precision=float32").ids() == small.ids()
    for other in ("data.a=[0,0,0]", "parameters.k=[1,1,1]", "options.stiff=2.0", "seed=1", "initial.x=1.0"):
        assert not set(made(GIVEN + "sweep: {over: {f: [1.0, 2.0]}}\n", other).ids()) & set(small.ids()), other


def test_the_own_value_of_what_varies_is_no_part_of_the_question(made):
    text = GIVEN + "sweep: {over: {seed: [3, 4], f: [2.0]}}\n"
    assert made(text, "seed=9", "parameters.f=5.0").ids() == made(text).ids()


def test_zero_has_no_sign_and_an_integer_is_a_number(made):
    class Plain(Problem):
        t = Parameter()
        x = Unknown()

        def condition(self):
            return root(lambda x, theta, data: x._replace(x=x.x - theta.t))

    ids = made("problem: plain\nsweep: {over: {t: [0, 0.0, -0.0, 1, 1.0, 2]}}\n", cls=Plain).ids()
    assert [ids.index(name) for name in ids] == [0, 0, 0, 3, 3, 5]


def test_ids_of_many_points_are_those_of_each(made, monkeypatch):
    monkeypatch.setattr(sweep, "AT_ONCE", 3)
    cases = made(GIVEN + "sweep: {design: halton, samples: 10, over: {f: {loguniform: [0.1, 10]}, 'k[0]': {uniform: [1, 2]}}}\n")
    assert cases.ids() == [cases.at(index).id for index in range(10)]


# What is refused


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("over: {g: [1.0]}", "sweep.over.g: found 'g', allowed: 'a', 'f', 'k', 'n', 'seed', 'x'"),
        ("over: {'k[3]': [1.0]}", "sweep.over.k[3]: found the index [3], allowed: an entry of the shape (3)"),
        ("over: {'k[0,0]': [1.0]}", "sweep.over.k[0,0]: found the index [0, 0], allowed: an entry of the shape (3)"),
        ("over: {k: [1.0, -2.0]}", "sweep.over.k: found -2, allowed: at least 0"),
        ("over: {f: [1.0, 0.0]}", "sweep.over.f: found 0, allowed: with transform 'log' above 0"),
        ("over: {n: [[0.5]]}", "sweep.over.n: found 0.5, allowed: integers"),
        ("over: {k: [[1.0, 2.0]]}", "sweep.over.k: found levels of the shape (2), allowed: (3)"),
        ("over: {k: 'none.h5:/k'}", "sweep.over.k: none.h5: no such file"),
        ("{max_cases: 5, over: {f: [1, 2, 3], seed: [1, 2]}}", "found 6 cases, allowed: at most 5"),
        ("design: random\n  samples: 3\n  over: {k: {normal: [1.0, 5.0]}}\n  seed: 1", "sweep.over.k: found -"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_place(made, section, message):
    text = f"sweep: {section}\n" if section.startswith("{") else f"sweep:\n  {section}\n"
    found = refusals(made, GIVEN.replace("data: {a", "data: {n: [1], a") + text)
    assert len(found) == 1, found
    assert message in found[0]


def test_faults_of_several_axes_are_told_together(made):
    assert len(refusals(made, GIVEN + "sweep: {over: {k: [-1.0], f: [-1.0]}}\n")) == 2


def test_a_unit_that_is_not_the_quantitys_is_refused(made, tmp_path):
    with h5py.File(tmp_path / "p.h5", "w") as file:
        file["k"] = [1.0, 2.0]
        file["k"].attrs["units"] = "kN/m"
    assert "found unit 'kN/m', allowed: 'N/m'" in refusals(made, GIVEN + "sweep: {over: {k: 'p.h5:/k'}}\n")[0]


# Running


class Raises(Problem):
    """A problem whose own code gives up on the host."""

    t = Parameter()
    x = Unknown()

    def condition(self):
        return root(lambda x, theta, data: x._replace(x=x.x - theta.t))

    def settle(self, x, theta, data):
        if float(theta.t) == 3.0:
            raise ZeroDivisionError("three\nis not allowed")
        return {}


@pytest.mark.parametrize("count", [5, 70])
def test_a_case_whose_code_raises_is_named_and_the_others_are_computed(made, count):
    cases = made(f"problem: raises\nsweep: {{over: {{t: {{integers: [0, {count - 1}]}}}}}}\n", cls=Raises)
    plan = engine.make_plan(cases._loaded, cases.vectors)
    found = list(engine.run_cases(cases, plan, range(count)))
    assert [result.id for result in found] == cases.ids()
    assert [index for index, result in enumerate(found) if not result.status.good] == [3]
    assert found[3].status is Status.CRASHED
    assert found[3].message.startswith("ZeroDivisionError: three: the problem's own code raised an error")
    assert np.isnan(found[3].solution["x"])
    assert found[3].products == ()
    good = [index for index, result in enumerate(found) if result.status.good]
    assert [float(found[index].solution["x"]) for index in good] == [float(index) for index in good]


def test_only_the_points_that_are_asked_for_are_computed_and_batches_do_not_matter(made):
    cases = made(GIVEN + "sweep: {design: random, samples: 64, over: {k: {uniform: [1, 2]}}}\n")
    plan = engine.make_plan(cases._loaded, cases.vectors)
    every = list(engine.run_cases(cases, plan, range(64)))
    some = list(engine.run_cases(cases, plan, [63, 2, 40]))
    assert [result.id for result in some] == [every[index].id for index in (63, 2, 40)]
    for index, result in zip((63, 2, 40), some, strict=True):
        assert "batch" in result.seconds
        np.testing.assert_array_equal(result.products[0].value, every[index].products[0].value)
        np.testing.assert_array_equal(result.products[0].bound.total, every[index].products[0].bound.total)
        # closed form: dx/dk = -f / k^2
        k = result.theta["k"]
        np.testing.assert_allclose(np.diag(result.products[0].value), -1 / k**2, rtol=1e-13)


class Repelling(Problem):
    """x = 3 t - 2 x: each plain step doubles the distance to the fixed point x = t."""

    t = Parameter()
    x = Unknown(initial=3.0)

    def condition(self):
        return fixed_point(lambda x, theta, data: x._replace(x=3 * theta.t - 2 * x.x))


@pytest.mark.parametrize("policy", ["skip", "retry"])
def test_a_solver_that_fails_gives_way_to_another_where_that_is_asked_for(made, policy):
    solver = "solver: {name: fixed_point, max_steps: 40}"
    cases = made(f"problem: here\n{solver}\nsweep: {{on_failure: {policy}, over: {{t: [0.5, 2.0]}}}}\n", cls=Repelling)
    found = list(engine.run_cases(cases, engine.make_plan(cases._loaded, cases.vectors), range(2)))
    if policy == "skip":
        assert {result.status for result in found} == {Status.NOT_CONVERGED}
    else:
        assert {result.status for result in found} == {Status.OK}
        assert {result.message for result in found} == {"by anderson, for fixed_point ended as not_converged"}
        np.testing.assert_allclose([float(result.solution["x"]) for result in found], [0.5, 2.0], rtol=1e-14)


class Told(Repelling):
    """The same with outputs."""

    y = Output()
    pair = Output(shape=(2,))

    def outputs(self, x, theta, data):
        return {"y": 2 * x.x, "pair": jnp.stack([x.x, theta.t])}


def test_outputs_of_what_fails_have_the_values_that_were_asked_for(made):
    # from its own guess one is at the root already
    text = "problem: here\nsolver: {name: fixed_point, max_steps: 40}\ninitial: {x: 0.5}\n"
    cases = made(text + "sweep: {fallback: {pair: -1.0}, over: {t: [0.5, 2.0]}}\n", cls=Told)
    good, bad = engine.run_cases(cases, engine.make_plan(cases._loaded, cases.vectors), range(2))
    assert (good.status, bad.status) == (Status.OK, Status.NOT_CONVERGED)
    np.testing.assert_array_equal(good.outputs["pair"], [0.5, 0.5])
    np.testing.assert_array_equal(bad.outputs["pair"], [-1.0, -1.0])
    assert float(bad.outputs["y"]) == 2 * float(bad.solution["x"])
    assert bad.message.endswith("; pair: of sweep.fallback")
    crashed = engine.marked(cases, engine.make_plan(cases._loaded, cases.vectors), 1, RuntimeError("gone"))
    np.testing.assert_array_equal(crashed.outputs["pair"], [-1.0, -1.0])


def test_a_fallback_is_for_outputs(made):
    with pytest.raises(InputError, match=r"sweep.fallback.pear: found 'pear', allowed: 'pair', 'y'; did you mean 'pair'\?"):
        made("problem: here\nsweep: {fallback: {pear: 0.0}, over: {t: [0.5, 2.0]}}\n", cls=Told)


class Slow(Problem):
    """k x = 1, which takes a while at k = 2."""

    k = Parameter()
    x = Unknown(initial=1.0)

    def condition(self):
        return root(lambda x, theta, data: x._replace(x=theta.k * x.x - 1.0))

    def settle(self, x, theta, data):
        time.sleep(0.6 if float(theta.k) == 2.0 else 0.0)
        return {}


@pytest.mark.parametrize(("timeout", "statuses"), [("0.5", [0, 12, 0]), ("null", [0, 0, 0])])
def test_a_case_that_takes_too_long_is_given_up_alone(made, timeout, statuses):
    text = f"problem: slow\nsweep: {{over: {{k: [1.0, 2.0, 4.0]}}, timeout: {timeout}}}\n"
    cases = made(text, cls=Slow)
    plan = engine.make_plan(cases._loaded, cases.vectors)
    list(engine.run_cases(cases, plan, [0]))  # compiles
    found = list(engine.run_cases(cases, plan, range(3)))
    assert [int(result.status) for result in found] == statuses
    if timeout != "null":
        assert found[1].message.startswith("more than 0.5 s: the case took longer than sweep.timeout allows")
        assert np.isnan(found[1].solution["x"])
    assert float(found[2].solution["x"]) == 0.25
