"""Many small cases in one program: the same numbers as one by one, and what is not regular is left to be looked at."""

import jax.numpy as jnp
import numpy as np
import pytest

from implicit_cli import engine, plugins
from implicit_cli.core import fixed_point, projected_gradient, root, stationary
from implicit_cli.core.projections import box
from implicit_cli.engine.batch import Batch
from implicit_cli.engine.records import Lane
from implicit_cli.engine.solving import solved
from implicit_cli.problem import Data, Output, Parameter, Problem, Unknown
from implicit_cli.spec import load_spec
from implicit_cli.status import Status

EPS = np.finfo(float).eps


@pytest.fixture
def made(tmp_path):
    """The cases of a spec with a sweep, their plan, and a batch for them."""

    def made(text, *overrides, cls=None):
        path = tmp_path / "spec.yaml"
        path.write_text(text)
        loaded = load_spec(path, overrides)
        cls = cls or plugins.load(loaded.model.problem, base=tmp_path, allow_plugin=False, plugins=())
        cases = engine.Cases(loaded, cls)
        plan = engine.make_plan(loaded, cases.vectors)
        return cases, plan, Batch(cases.vectors, plan)

    return made


def lanes(cases):
    every = [cases.at(index) for index in range(cases.count)]
    return [Lane(cases.vectors.moved(case.bound), case.seed, case.id) for case in every]


def regular(batch, many):
    """The results of the regular ones, None for the others."""
    if batch.hosted:
        many = [lane._replace(found=solved(lane.vectors, batch.plan, seed=lane.seed)) for lane in many]
    return [None if found is None else found[0] for found in batch(many)]


def same(one, other):
    """Two results of a case: all that is not a measurement is equal, and numbers are as near as their bounds say."""
    assert (one.id, one.status, one.message, one.method) == (other.id, other.status, other.message, other.method)
    assert (one.solver.name, one.solver.steps, one.solver.status) == (other.solver.name, other.solver.steps, other.solver.status)
    np.testing.assert_allclose(one.solver.history[: one.solver.steps], other.solver.history[: one.solver.steps], rtol=1e-6)
    for name, value in one.solution.items():
        apart = np.linalg.norm(value - other.solution[name])
        assert apart <= float(one.bounds[name].total) + float(other.bounds[name].total), name
    for name, value in one.outputs.items():
        np.testing.assert_allclose(value, other.outputs[name], rtol=1e-9, atol=1e-12)
    assert [(p.kind, p.name, p.of, p.wrt) for p in one.products] == [(p.kind, p.name, p.of, p.wrt) for p in other.products]
    for a, b in zip(one.products, other.products, strict=True):
        assert (a.value.shape, a.status, a.bound.kind) == (b.value.shape, b.status, b.bound.kind)
        assert a.bound.total.shape == b.bound.total.shape
        assert set(a.direction) == set(b.direction)
        columns = a.bound.total.size
        if a.kind == "jacobian":
            apart = np.linalg.norm((a.value - b.value).reshape(-1, columns), axis=0)
        else:
            apart = np.linalg.norm((a.value - b.value).reshape(columns, -1), axis=1)
        assert (apart <= (a.bound.total + b.bound.total).ravel()).all(), (a.kind, a.of, a.wrt)
        # bounds themselves are measured: of the same size
        assert (a.bound.total <= 5 * b.bound.total + 1e-300).all()
        assert (b.bound.total <= 5 * a.bound.total + 1e-300).all()
    linear = [[(r.direction, r.method, list(r.status)) for r in result.linear] for result in (one, other)]
    assert linear[0] == linear[1]
    assert one.certificate.provenance == other.certificate.provenance
    assert one.certificate.sigma_min == pytest.approx(other.certificate.sigma_min, rel=1e-9)
    assert (one.null_space.dimension, one.null_space.gauges) == (other.null_space.dimension, other.null_space.gauges)


class Bent(Problem):
    """A minimum with a quartic term, parameters of two shapes, and outputs: F is not affine, A not constant."""

    a = Parameter(shape=("row",), bounds=(0, None))
    c = Parameter(default=1.0)
    K = Data(shape=("row", "row"))
    x = Unknown(shape=("row",), initial=0.1)
    whole = Output()
    part = Output(shape=("row",))

    def condition(self):
        def f(x, theta, data):
            return (x.x**4).sum() / 4 + x.x @ data.K @ x.x / 2 + theta.c * (theta.a * x.x**2).sum() - x.x.sum()

        return stationary(f)

    def outputs(self, x, theta, data):
        return {"whole": (x.x**2).sum() * theta.c, "part": x.x**3 + theta.a}


BENT = """\
problem: bent
data: {K: [[2.0, 0.3, 0.0], [0.3, 1.5, -0.2], [0.0, -0.2, 1.0]]}
sweep:
  design: random
  samples: 9
  over: {a: {uniform: [0.1, 2.0]}, c: {uniform: [0.5, 1.5]}}
"""


@pytest.mark.parametrize(
    "sensitivity",
    [
        "{mode: forward}",
        "{mode: adjoint, of: [whole, part]}",
        "{of: [x], wrt: [a], products: [jacobian, {jvp: {up: {a: [1, 0, 2]}, many: {a: [[1, 0, 0], [0, 1, 1]]}}}]}",
        "{products: [{vjp: {w: {x: [1, 2, 3], whole: 2.0}, two: {part: [[1, 0, 0], [0, 1, 0]]}}}]}",
        "{mode: adjoint, of: [x], products: [jacobian, {vjp: {w: {x: [1, 2, 3]}}}, {jvp: {v: {c: 1.0}}}]}",
        "{products: []}",
        # more columns than those whose rounding is measured one by one
        f"{{products: [{{jvp: {{many: {{a: {[[1 + i, 1, -i] for i in range(20)]}}}}}}}]}}",
    ],
)
def test_the_numbers_are_those_of_cases_one_by_one(made, sensitivity):
    cases, plan, batch = made(BENT + f"sensitivity: {sensitivity}\n", cls=Bent)
    assert batch.unsuited == ""
    many = lanes(cases)
    for lane, found in zip(many, regular(batch, many), strict=True):
        alone = engine.run_case(lane.vectors, plan, identity=lane.id, seed=lane.seed)
        assert alone.status is Status.OK
        same(found, alone)


class Circle(Problem):
    """A root that is not symmetric, with a transform and data that vary."""

    t = Parameter(transform="log")
    r = Data()
    x = Unknown(initial=1.0)
    y = Unknown(initial=1.0)

    def condition(self):
        return root(lambda x, theta, data: x._replace(x=x.x**2 + x.y**2 - data.r, y=x.y - theta.t * x.x))


class Feedback(Problem):
    """A fixed point."""

    k = Parameter(shape=("n",), bounds=(0, 0.9))
    x = Unknown(shape=("n",))

    def condition(self):
        return fixed_point(lambda x, theta, data: x._replace(x=theta.k * (x.x[::-1] ** 2 + 1.0) / 3))


class Boxed(Problem):
    """A quadratic in a box, of whose entries some are at a side."""

    c = Parameter(shape=("n",))
    x = Unknown(shape=("n",), initial=0.5)

    def condition(self):
        return projected_gradient(
            lambda x, theta, data: ((x.x - theta.c) ** 2).sum() / 2 + x.x[0] * x.x[1] / 4,
            lambda v, theta, data: v._replace(x=box(v.x, 0.0, 1.0)),
        ).tagged(bounds=lambda x, theta, data: (x._replace(x=jnp.zeros_like(x.x)), x._replace(x=jnp.ones_like(x.x))))


class Given(Problem):
    """A minimum without parameters, for data that vary."""

    c = Data(shape=("n",))
    x = Unknown(shape=("n",), initial=0.5)

    def condition(self):
        return stationary(lambda x, theta, data: ((x.x - data.c) ** 4 + (x.x - data.c) ** 2).sum())


class Ring(Problem):
    """Three beads on a ring, held by springs: the whole may turn."""

    k = Parameter(shape=("bead",))
    x = Unknown(shape=("bead",))

    def condition(self):
        def f(x, theta, data):
            apart = np.roll(np.eye(3), 1, axis=1) @ x.x - x.x - theta.k
            return (apart**2).sum() / 2 + (apart**4).sum() / 8

        return stationary(f)

    def null_space(self, x, theta, data):
        return {"rotation": {"x": np.ones(3)}}


@pytest.mark.parametrize(
    ("cls", "text"),
    [
        (Circle, "sweep: {design: zip, over: {t: [0.5, 1.0, 2.0], r: [1.0, 2.0, 3.0]}}\n"),
        (Feedback, "sweep: {over: {'k[1]': {linspace: [0.1, 0.8, 4]}}}\nparameters: {k: [0.2, 0.3]}\n"),
        (Given, "sensitivity: {of: [x]}\nsweep: {over: {c: [[1.0, 2.0], [3.0, 4.0]]}}\n"),
        (Ring, "parameters: {k: [0.1, 0.2, 0.4]}\nsweep: {over: {'k[0]': [0.1, 0.3]}}\n"),
        (Boxed, "solver: accelerated_proximal_gradient\nsweep: {over: {'c[0]': [-1.0, 0.4, 2.0]}}\nparameters: {c: [0.3, 0.6]}\n"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_other_conditions(made, cls, text):
    cases, plan, batch = made(f"problem: here\n{text}", cls=cls)
    assert batch.unsuited == ""
    many = lanes(cases)
    found = regular(batch, many)
    assert any(result is not None for result in found)
    for lane, result in zip(many, found, strict=True):
        alone = engine.run_case(lane.vectors, plan, identity=lane.id, seed=lane.seed)
        if result is not None:
            same(result, alone)
        else:
            assert alone.status is not Status.OK


class Trouble(Problem):
    """x^2 = t: no root below 0, a fold at 0; and NaN beyond 10."""

    t = Parameter()
    x = Unknown(initial=1.0)

    def condition(self):
        return root(lambda x, theta, data: x._replace(x=x.x**2 - theta.t + 0.0 * jnp.sqrt(10.0 - theta.t)))


def test_solves_on_the_host_are_certified_at_once(made):
    text = "problem: here\nsolver: lbfgsb\nsweep: {over: {'c[0]': [-1.0, 0.4, 2.0, 0.15]}}\nparameters: {c: [0.3, 0.6]}\n"
    cases, plan, batch = made(text, cls=Boxed)
    assert batch.hosted
    assert batch.unsuited == ""
    many = lanes(cases)
    found = regular(batch, many)
    assert [result is not None for result in found] == [True, True, True, False]  # the last one is on a kink
    for lane, result in zip(many[:3], found, strict=False):
        alone = engine.run_case(lane.vectors, plan, identity=lane.id, seed=lane.seed)
        same(result, alone)
        assert set(result.seconds) == {"solve", "batch"}


PACKING = """\
problem: packing
options: {particle: 12}
parameters: {phi: 0.95}
solver: {name: fire, tol: 1e-8}
sensitivity: {of: [position, energy], wrt: [diameter]}
sweep: {over: {seed: [0, 1, 2, 3, 4, 5, 6, 7]}}
"""


def test_packings_with_lists_of_neighbours_of_different_lengths(made):
    """A rattler has to be looked at; packings without any are those of cases one by one."""
    cases, plan, batch = made(PACKING)
    assert batch.hosted
    assert batch.unsuited == ""
    many = lanes(cases)
    alone = [engine.run_case(lane.vectors, plan, identity=lane.id, seed=lane.seed) for lane in many]
    found = regular(batch, many)
    assert {result.status for result in alone} == {Status.OK, Status.PARTIAL}
    for result, one in zip(found, alone, strict=True):
        assert (result is not None) == (one.status is Status.OK)
        if result is not None:
            same(result, one)
    # lists of different lengths; none depends on what the others need, to the last bit
    ends = [lane.vectors.refreshed(solved(lane.vectors, plan, seed=lane.seed).p) for lane in many]
    assert len({p.data[0].neighbours.i.shape for p in ends}) > 1
    for lane, result in zip(many, found, strict=True):
        if result is not None:
            (itself,) = regular(batch, [lane])
            for one, other in zip(itself.products, result.products, strict=True):
                np.testing.assert_array_equal(one.value, other.value)
                np.testing.assert_array_equal(one.bound.total, other.bound.total)


def test_what_is_not_regular_is_left_and_its_neighbours_are_not_touched(made):
    text = "problem: here\nsolver: {max_steps: 60}\nsweep: {over: {t: [4.0, -1.0, 9.0, 0.0, 20.0, 1.0]}}\n"
    cases, plan, batch = made(text, cls=Trouble)
    many = lanes(cases)
    found = regular(batch, many)
    assert [result is not None for result in found] == [True, False, True, False, False, True]
    for lane, result in zip(many, found, strict=True):
        if result is None:
            assert not engine.run_case(lane.vectors, plan, identity=lane.id, seed=lane.seed).status.good
    # neighbours do not matter, to the last bit
    alone = regular(batch, [many[2]] * len(many))[0]
    assert alone.products[0].value == found[2].products[0].value
    assert alone.products[0].bound.total == found[2].products[0].bound.total
    np.testing.assert_allclose(found[2].products[0].value, 1 / 6, rtol=4 * EPS)


def test_every_call_takes_the_same_program(made):
    cases, _, batch = made(BENT, "initial.x=0.2", cls=Bent)
    many = lanes(cases)
    for some in (many, many[:1] * len(many), many[::-1]):
        assert all(result is not None for result in regular(batch, some))
    assert [program._cache_size() for program in batch._programs.values()] == [1]


@pytest.mark.parametrize(
    ("overrides", "why"),
    [
        (("precision=float32",), "more than first derivatives in float64"),
        (("sensitivity.method=finite_difference",), "more than first derivatives"),
        (("sensitivity.corrected=true",), "more than first derivatives"),
        (("sensitivity={products: [{hessian: {v: {c: 1}}}]}",), "second derivatives"),
        (("sensitivity.linear_solver=cg",), "small dense matrix"),
        (("solver.polish=false",), "not polished"),
    ],
)
def test_what_no_batch_can_do_is_said(made, overrides, why):
    _, _, batch = made(BENT, *overrides, cls=Bent)
    assert why in batch.unsuited
