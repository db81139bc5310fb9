"""The check itself is checked: right derivatives pass, every way of being wrong is found and named, and no more than that."""

import dataclasses
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from implicit_cli import engine
from implicit_cli.core import root, stationary
from implicit_cli.core.implicit import Point
from implicit_cli.engine.linearise import degeneracy, linearise
from implicit_cli.engine.site import Site
from implicit_cli.engine.verification.check import _Judge
from implicit_cli.engine.verification.theorem import Theorem
from implicit_cli.engine.verification.trials import Trials, _combined
from implicit_cli.engine.verification.witness import _exponent
from implicit_cli.problem import Option, Output, Parameter, Problem, Unknown
from implicit_cli.spec import load_spec
from implicit_cli.status import Status
from implicit_cli.verdict import Verdict, claim_of, worst

from .test_conditions import Ball
from .test_hessian import RING, Ring

HOLDS, VIOLATED, NOT_DECIDED = Verdict.HOLDS, Verdict.VIOLATED, Verdict.NOT_DECIDED


class Solved:
    """A problem solved once: `verify` checks what it claims, or what is claimed in its place."""

    def __init__(self, cls, text, path):
        path.write_text(f"problem: here\n{text}")
        loaded = load_spec(path)
        self.vectors = engine.Vectors(engine.bind(loaded, cls))
        self.plan = engine.make_plan(loaded, self.vectors)
        self.result = engine.run_case(self.vectors, self.plan, identity="0", seed=0)

    def verify(self, **settings):
        settings = {"directions": 2, "full": False, "seed": 0} | settings
        case = engine.verify_case(self.vectors, self.plan, settings.pop("claim", None) or claim_of(self.result), **settings)
        return case, by_key(case.findings)

    @cached_property
    def site(self):
        vectors, plan = self.vectors, self.plan
        p = Point(vectors.x.join(self.result.solution), vectors.start, vectors.data)
        A = linearise(vectors, plan, p)
        return Site(vectors, plan, p, A, degeneracy(vectors, p, A))

    @cached_property
    def judge(self):
        return _Judge(self.site, claim_of(self.result), float("inf"), 0)

    def changed(self, key, value=None, bound=None, full=False):
        """Findings where one product has another value or bound; nothing is solved that has been solved before."""
        trials = Trials(self.site, 2, full=full, seed=0)
        products = {(p.kind, p.of or p.name, p.wrt, p.wrt2): p for p in self.result.products}
        if value is not None:
            products[key] = dataclasses.replace(products[key], value=value(products[key].value))
        if bound is not None:
            total = dataclasses.replace(products[key].bound, total=products[key].bound.total * bound)
            products[key] = dataclasses.replace(products[key], bound=total)
        return by_key(self.judge.finding(product, trials.of(product)) for product in products.values())


def by_key(findings):
    return {(f.kind, f.of or f.name, f.wrt, f.wrt2): f for f in findings}


def violated(found):
    return [key for key, finding in found.items() if finding.verdict is VIOLATED]


@pytest.fixture(scope="module")
def solved(tmp_path_factory):
    folder, done = tmp_path_factory.mktemp("solved"), {}

    def solved(cls, text=""):
        if (cls, text) not in done:
            done[cls, text] = Solved(cls, text, folder / f"{len(done)}.yaml")
        return done[cls, text]

    return solved


class Cubic(Problem):
    """x + x^3 / 5 + coupling = push: three unknowns, four parameters; `hidden` stops the gradient of one of them."""

    push = Parameter(shape=("n",), default=0.7)
    scale = Parameter(default=1.3)
    n = Option(3)
    hidden = Option("nothing")
    x = Unknown(shape=("n",), initial=0.5)
    total = Output()

    def condition(self):
        def F(x, theta, data):
            scale = jax.lax.stop_gradient(theta.scale) if self.hidden == "scale" else theta.scale
            push = jax.lax.stop_gradient(theta.push) if self.hidden == "push" else theta.push
            cube = wrong_cube(x.x) if self.hidden == "rule" else x.x**3
            return x._replace(x=x.x * scale + cube / 5 + 0.3 * jnp.roll(x.x, 1) ** 2 - push * jnp.arange(1.0, self.n + 1))

        return root(F)

    def outputs(self, x, theta, data):
        return {"total": jnp.sum(x.x**2) * theta.scale}


@jax.custom_jvp
def wrong_cube(x):
    return x**3


wrong_cube.defjvp(lambda primals, tangents: (primals[0] ** 3, 2 * primals[0] ** 2 * tangents[0]))

ROUGH = """solver: {name: newton, tol: 0.05, polish: false}
sensitivity:
  accuracy: 1
  products:
    - jacobian
    - jvp: {up: {push: 1.0, scale: -0.5}, many: {push: [[1, 0, 2], [0, 1, 0], [1, 1, 1], [0, 0, 3]]}}
    - vjp: {first: {x: [1, 0, 0], total: 0.5}}
    - hessian
    - hessian: {bend: {push: [1, 0, 2], scale: 0.1}}
"""
EXACT = "solver: newton\n"
CLEAN = EXACT + "sensitivity: {products: [jacobian, {hessian: {v: {push: 1}}}]}\n"


@pytest.fixture(scope="module")
def rough(solved):
    """Stopped early, so that bounds are large enough for a witness to see."""
    return solved(Cubic, ROUGH)


def test_right_derivatives_hold_and_the_witness_sees_how_tight_their_bounds_are(rough):
    # the radius is an estimate, tight to the last digits: its own tests are elsewhere
    claim = claim_of(rough.result)
    case, found = rough.verify(claim=dataclasses.replace(claim, radius=1.001 * claim.radius))
    assert {finding.kind for finding in case.findings} == {"jacobian", "jvp", "vjp", "hessian", "hessian_along"}
    assert [finding for finding in case.findings if finding.verdict is not HOLDS] == []
    assert (case.verdict, case.note, case.status) == (HOLDS, "", "ok")
    assert case.residual == pytest.approx(rough.result.solver.residual, rel=1e-9)
    assert 0 < case.moved < case.radius
    for finding in case.findings:
        assert 1 <= finding.effectivity < 100
        assert finding.witness < 1e-6
        if finding.kind in ("jacobian", "jvp", "vjp"):
            assert finding.residual < 1e-9
            assert finding.dot < 1e-13
    assert found["jacobian", "x", "push", ""].trials == 2
    assert found["jvp", "x", "", ""].trials in (1, 2)


def test_taylor_remainders_fall_as_they_should(solved):
    _, found = solved(
        Cubic, EXACT.replace("newton", "newton\nsensitivity: {products: [jacobian, {hessian: {v: {push: 1}}}]}")
    ).verify()
    for key, finding in found.items():
        expected = 3 if key[0] == "hessian_along" else 2
        assert finding.order == expected
        assert finding.slope == pytest.approx(expected, abs=0.1), key
        assert finding.verdict in (HOLDS, NOT_DECIDED)
        assert finding.observed < 1e-6


CHANGED = [
    ("jacobian", "x", "push", ""),
    ("jacobian", "total", "scale", ""),
    ("jvp", "total", "", ""),
    ("vjp", "first", "push", ""),
    ("hessian", "total", "push", "scale"),
    ("hessian", "total", "push", "push"),
    ("hessian_along", "x", "", ""),
]


@pytest.mark.parametrize("key", CHANGED, ids=" ".join)
def test_an_altered_entry_is_found_and_only_there(rough, key):
    def change(value):
        value = value.copy()
        value[np.unravel_index(value.size - 1, value.shape)] += 3.0
        return value

    found = rough.changed(key, change)
    assert violated(found) == [key]
    assert found[key].note.startswith("off by ")
    assert found[key].observed > 0.5
    if key[0] == "jacobian":
        assert found[key].slope < 1.5


def test_the_altered_column_is_named_and_by_how_much(rough):
    def change(value):
        return value + 0.25 * (np.indices(value.shape) == np.array([1, 2])[:, None, None]).all(axis=0)

    key = CHANGED[0]
    before, after = rough.changed(key, full=True)[key], rough.changed(key, change, full=True)[key]
    assert (before.verdict, after.verdict, after.along, after.trials) == (HOLDS, VIOLATED, "column 2", 3)
    assert after.observed == pytest.approx(0.25, abs=after.bound)


@pytest.mark.parametrize("key", CHANGED, ids=" ".join)
def test_a_bound_that_does_not_hold_is_found(rough, key):
    assert violated(rough.changed(key, bound=1e-3)) == [key]


def test_a_product_without_entries_claims_nothing(rough):
    claim = claim_of(rough.result)
    first = claim.products[0]
    case, found = rough.verify(claim=dataclasses.replace(claim, products=(dataclasses.replace(first, value=first.value[..., :0]),)))
    assert case.verdict is HOLDS
    assert not found


def test_without_a_bound_nothing_is_decided(rough):
    found = rough.changed(CHANGED[0], bound=np.nan)
    assert (found[CHANGED[0]].verdict, found[CHANGED[0]].note) == (NOT_DECIDED, "there is no bound")
    assert found[CHANGED[0]].observed > 0


def test_a_solution_that_is_none_is_found(rough):
    claim, narrow = claim_of(rough.result), {"of": ["x"], "wrt": ["none"], "directions": 1}
    x = rough.result.solution["x"]
    case, _ = rough.verify(claim=dataclasses.replace(claim, solution={"x": x + 0.5}), **narrow)
    assert (case.verdict, "max |F| is" in case.note) == (VIOLATED, True)
    assert {finding.kind for finding in case.findings} == {"jvp", "hessian_along"}  # these are with respect to no one parameter
    case, _ = rough.verify(claim=dataclasses.replace(claim, radius=claim.radius * 1e-2), **narrow)
    assert (case.verdict, case.note.startswith("the solution moves by ")) == (VIOLATED, True)
    case, found = rough.verify(claim=dataclasses.replace(claim, solution={"x": x * np.nan}))
    assert (case.verdict, found) == (VIOLATED, {})


# Derivatives that JAX is told wrongly


@pytest.mark.parametrize("hidden", ["scale", pytest.param("push", marks=pytest.mark.slow)])
def test_a_hidden_parameter_is_found(solved, hidden):
    case, found = solved(Cubic, f"options: {{hidden: {hidden}}}\n{EXACT}").verify()
    assert case.status == "ok"  # the theorem itself sees nothing
    wrong = {key[2] for key, finding in found.items() if finding.verdict is VIOLATED}
    assert wrong == {hidden}
    finding = found["jacobian", "x", hidden, ""]
    assert finding.observed == pytest.approx(finding.size, rel=1e-9)  # all of it is missing
    assert finding.slope == pytest.approx(1.0, abs=0.1)
    assert finding.residual == pytest.approx(1.0, rel=1e-6)


@pytest.mark.slow
def test_a_wrong_rule_is_found(solved):
    case, found = solved(Cubic, f"options: {{hidden: rule}}\n{EXACT}").verify()
    assert case.status == "ok"
    assert {finding.verdict for finding in found.values()} == {VIOLATED}
    assert all(finding.residual > 1e-3 for finding in found.values())


def test_differences_of_F_alone_find_it_too(solved):
    v = np.array([0.0, 0.0, 0.0, 1.0])
    for text, wrong in ((CLEAN, False), (f"options: {{hidden: scale}}\n{EXACT}", True)):
        check = Theorem(solved(Cubic, text).site, float("inf")).tangent(v)
        assert check.wrong is wrong
        assert check.allowed < 1e-6


def test_an_adjoint_that_is_none_fails_the_dot_test(solved, monkeypatch):
    site = solved(Cubic, CLEAN).site
    v, w = np.array([0.3, -1.0, 2.0, 0.5]), np.array([1.0, 0.2, -0.7, 0.4])
    assert not Theorem(site, float("inf")).dot(v, w).wrong
    right = site.vectors.system.Bt_times
    monkeypatch.setattr(site.vectors.system, "Bt_times", lambda p, U: right(p, U) * (1 + 1e-9))
    check = Theorem(site, float("inf")).dot(v, w)
    assert check.wrong
    assert check.relative == pytest.approx(1e-9, rel=1)


# Where there is no derivative


@pytest.mark.slow
def test_a_gauge_is_not_held_against_the_minimum_norm_derivative(solved):
    case, found = solved(Ring, RING.format(1.0, 0.5, "[jacobian, {vjp: {w: {u: [1, 0, 2, 0, 7]}}}]")).verify()
    assert VIOLATED not in {finding.verdict for finding in found.values()}
    assert case.verdict is not VIOLATED
    for finding in found.values():
        assert finding.observed <= 1e-9 * max(finding.size, 1.0)


@pytest.mark.exhaustive
def test_second_derivatives_along_a_gauge_that_bends_are_not_judged(solved):
    """A conic program's u, v and w are known up to a factor: the primal x alone has a second derivative of its own."""
    text = "parameters: {t: [0.9, 0.5, 0.3, -0.4]}\ninitial: {v: [1.0, 1.0, 1.0, 1.0, 1.0]}\nsolver: {tol: 1e-9}\n"
    one = solved(Ball, f"{text}sensitivity: {{products: [{{hessian: {{v: {{t: [1, 0, 2, 1]}}}}}}]}}\n")
    _, found = one.verify()
    notes = {key[1]: finding.note for key, finding in found.items()}
    assert all("moved along a gauge" in notes[name] for name in "uvw")
    assert found["hessian_along", "x", "", ""].agrees
    assert not found["hessian_along", "u", "", ""].agrees
    assert {finding.verdict for finding in found.values()} <= {HOLDS, NOT_DECIDED}


@pytest.mark.slow
def test_components_without_a_derivative_are_left_out_and_counted(solved):
    text = f"options: {{loose: true}}\n{RING.format(1.0, 0.5, '[jacobian, {vjp: {w: {u: [1, 0, 2, 0, 7]}}}]')}"
    one = solved(Ring, text)
    case, found = one.verify()
    assert one.result.status is Status.PARTIAL
    assert case.verdict is not VIOLATED
    assert {key: finding.left_out for key, finding in found.items() if finding.left_out} == {
        ("jacobian", "u", "t", ""): 1,
        ("jacobian", "u", "s", ""): 2,
        ("jacobian", "last", "t", ""): 1,
        ("jacobian", "last", "s", ""): 2,
    }
    lost = found["jacobian", "last", "t", ""]
    assert (lost.verdict, lost.trials, lost.note) == (NOT_DECIDED, 0, "every entry is without a derivative")
    assert found["jacobian", "u", "t", ""].observed < 1e-9

    key = ("jacobian", "u", "t", "")
    assert violated(one.changed(key, lambda value: value + 1e-3)) == [key]


class Bend(Problem):
    """x = t + |t - at|: a kink at t = at, which `margin` tells of where `known`."""

    t = Parameter(default=1.0)
    x = Unknown(initial=0.3)
    at = Option(1.0)
    known = Option(True)
    solver = "newton"

    def condition(self):
        return root(lambda x, theta, data: x._replace(x=x.x - theta.t - jnp.abs(theta.t - self.at)))

    def margin(self, x, theta, data):
        return jnp.abs(x.x - theta.t) if self.known else float("inf")


def test_a_kink_is_reported_as_such(solved):
    case, found = solved(Bend, "options: {at: 1.0}\n").verify()
    assert case.status == "nondifferentiable"
    (finding,) = found.values()
    assert (case.verdict, finding.verdict) == (NOT_DECIDED, NOT_DECIDED)
    assert finding.note == "every entry is without a derivative"


def test_a_kink_that_the_status_does_not_tell_of_is_a_violation(solved):
    one = solved(Bend, "options: {at: 1.0, known: false}\n")
    claim = claim_of(one.result)
    products = tuple(
        dataclasses.replace(p, value=np.ones_like(p.value), bound=dataclasses.replace(p.bound, total=np.array(1e-12)))
        for p in claim.products
    )
    case, found = one.verify(claim=dataclasses.replace(claim, status="ok", good=True, products=products))
    (finding,) = found.values()
    assert (case.verdict, finding.verdict) == (VIOLATED, VIOLATED)
    assert finding.note == "kink: one-sided derivatives differ by 2, and the status does not say so"


@pytest.mark.slow
def test_a_kink_nearer_than_the_smallest_step_decides_nothing(solved):
    one = solved(Bend, "options: {at: 0.9999999}\n")
    assert one.result.status is Status.OK
    case, found = one.verify()
    (finding,) = found.values()
    assert (case.verdict, finding.verdict) == (NOT_DECIDED, NOT_DECIDED)
    assert finding.note.startswith("a kink is 1e-07 away, the smallest step ")


class Saddle(Problem):
    """x^4/4 - x^2/2 - t x: at t = 0, x = 0 is a maximum between two minima."""

    t = Parameter(default=0.0)
    x = Unknown(initial=0.0)

    def condition(self):
        return stationary(lambda x, theta, data: x.x**4 / 4 - x.x**2 / 2 - theta.t * x.x)


@pytest.mark.slow
def test_another_branch_decides_nothing(solved):
    one = solved(Saddle)
    assert one.result.status is Status.NOT_A_MINIMUM
    case, found = one.verify()
    (finding,) = found.values()
    assert (case.verdict, finding.verdict) == (NOT_DECIDED, NOT_DECIDED)
    assert finding.note == "solutions nearby do not approach this one: they are on another branch"


# Parts


@given(st.integers(1, 5), st.integers(1, 7), st.integers(0, 2**32 - 1))
def test_no_error_within_the_bounds_of_the_columns_exceeds_the_bound_along_a_direction(rows, columns, seed):
    rng = np.random.default_rng(seed)
    M, E, c = rng.normal(size=(rows, columns)), rng.normal(size=(rows, columns)), rng.normal(size=columns)
    c[rng.random(columns) < 0.3] = 0.0
    value, bound, rounding = _combined(M, np.linalg.norm(E, axis=0), c)
    np.testing.assert_allclose(value, M @ c, atol=1e-13)
    assert np.linalg.norm((M + E) @ c - value) <= bound + rounding + 1e-13


@given(st.floats(0.5, 4.0), st.floats(1e-3, 1e3))
def test_exponents_are_found_and_too_few_rungs_are_said(power, factor):
    h = 0.02 / 3.0 ** np.arange(5)
    assert _exponent(h, factor * h**power) == pytest.approx(power, rel=1e-9)
    assert np.isnan(_exponent(h[:2], h[:2]))


def test_the_worst_verdict_is_that_of_all():
    assert worst([HOLDS, NOT_DECIDED, VIOLATED]) is VIOLATED
    assert worst([HOLDS, NOT_DECIDED]) is NOT_DECIDED
    assert worst([HOLDS]) is HOLDS
    assert worst([]) is NOT_DECIDED
