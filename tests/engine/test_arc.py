"""Branches followed through folds, against closed forms, NumPy's roots and SciPy's solver on the equations of a fold."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import fsolve

from implicit_cli import engine
from implicit_cli.core import kkt, root, stationary
from implicit_cli.engine import arc
from implicit_cli.errors import InputError
from implicit_cli.problem import Data, Option, Output, Parameter, Problem, Unknown
from implicit_cli.spec import load_spec
from implicit_cli.status import Status

FOLD = 2 / (3 * np.sqrt(3))
"""Where x^3 - x = b has a double root, x = -+ 1 / sqrt 3, b = +- FOLD."""


def neighbours(n):
    """Rows and columns of a tridiagonal matrix."""
    i = np.arange(n)
    return np.concatenate([i, i[1:], i[:-1]]), np.concatenate([i, i[1:] - 1, i[:-1] + 1])


class Wells(Problem):
    """Stationary points of x^4/4 - x^2/2 - b x."""

    b = Parameter(doc="tilt")
    x = Unknown(initial=-1.5)
    square = Output()

    def condition(self):
        return stationary(lambda x, theta, data: x.x**4 / 4 - x.x**2 / 2 - theta.b * x.x)

    def outputs(self, x, theta, data):
        return {"square": x.x**2}


class Shear(Problem):
    """x^2 + y = t, y = k x: not symmetric; x = (-k +- sqrt(k^2 + 4 t)) / 2, a fold at t = -k^2/4, x = -k/2."""

    t = Parameter()
    k = Parameter(default=1.0)
    x = Unknown(initial=1.0)
    y = Unknown(initial=1.0)

    def condition(self):
        return root(lambda x, theta, data: x._replace(x=x.x**2 + x.y - theta.t, y=x.y - theta.k * x.x))


class Bratu(Problem):
    """u'' + exp(s) e^u = 0 on (0, 1), u = 0 at both ends, by central differences at n points."""

    n = Option(50)
    banded = Option(False)
    weight = Parameter(doc="of the source")
    u = Unknown(shape=("n",))

    def condition(self):
        def F(x, theta, data):
            around = jnp.pad(x.u, 1)
            return x._replace(u=(around[2:] - 2 * x.u + around[:-2]) * (self.n + 1) ** 2 + theta.weight * jnp.exp(x.u))

        condition = root(F, symmetric=True)
        return condition.tagged(pattern=lambda x, theta, data: neighbours(self.n)) if self.banded else condition


class Circle(Problem):
    """x^2 + b^2 = 1."""

    b = Parameter()
    x = Unknown(initial=1.0)

    def condition(self):
        return root(lambda x, theta, data: x._replace(x=x.x**2 + theta.b**2 - 1.0))


class Chain(Problem):
    """Points on a line, only their distances e, f, .. matter: the first spring bends, e^3 - e = t, for all others f = 1."""

    n = Option(3)
    t = Parameter()
    u = Unknown(shape=("n",))

    def condition(self):
        def energy(x, theta, data):
            e, f = x.u[1] - x.u[0], jnp.diff(x.u[1:])
            return e**4 / 4 - e**2 / 2 - theta.t * e + ((f - 1.0) ** 2).sum() / 2

        return stationary(energy).tagged(pattern=lambda x, theta, data: neighbours(self.n))

    def initial(self, theta, data, key):
        return {"u": jnp.concatenate([jnp.array([1.5]), jnp.arange(self.n - 1.0)])}

    def null_space(self, x, theta, data):
        return {"translation": {"u": jnp.ones(self.n)}}


class Growth(Problem):
    """x e^-x = r, three alike with rates of their own: a fold at x = 1, r = 1/e, where all rates are one."""

    r = Parameter(shape=("kind",), transform="log", bounds=(0, None))
    other = Parameter(default=0.0)
    x = Unknown(shape=("kind",), initial=0.1)

    def condition(self):
        return root(lambda x, theta, data: x._replace(x=x.x * jnp.exp(-x.x) - theta.r + theta.other))


class Ending(Problem):
    """sqrt(1 - b) = x: F is not defined beyond b = 1."""

    b = Parameter()
    x = Unknown(initial=1.0)

    def condition(self):
        return root(lambda x, theta, data: x._replace(x=x.x - jnp.sqrt(1.0 - theta.b)))


class Zigzag(Problem):
    """b = x_0 up to 1, then 1 - 5 (x_0 - 1) down to x_0 = 1.25, and up: tangents turn by more than 90 degrees; all x are equal."""

    n = Option(1)
    b = Parameter()
    x = Unknown(shape=("n",), initial=0.0)

    def condition(self):
        def F(x, theta, data):
            first, back = x.x[0], 1 - 5 * (x.x[0] - 1)
            bent = jnp.where(first < 1, first, jnp.where(first < 1.25, back, first - 1.5)) - theta.b
            return x._replace(x=jnp.concatenate([bent[None], jnp.diff(x.x)]))

        return root(F).tagged(pattern=lambda x, theta, data: neighbours(self.n))


@pytest.fixture
def made(tmp_path):
    """Cases and plan of a spec."""

    def made(cls, text, *overrides):
        path = tmp_path / "s.yaml"
        path.write_text(f"problem: p\n{text}\n")
        cases = engine.Cases(load_spec(path, overrides), cls)
        engine.check_branch(cases)
        return cases, engine.make_plan(cases._loaded, cases.vectors)

    return made


@pytest.fixture
def followed(made):
    """The cases along a branch."""

    def followed(cls, text, *overrides):
        return cases_of(engine.follow(*made(cls, text, *overrides)))

    return followed


def sweep(target, axis, more=""):
    return f"sweep: {{over: {{'{target}': {axis}}}, continue: arc{more}}}"


def cases_of(branch):
    return [one for one in branch if isinstance(one, engine.Followed)]


def folds(cases):
    return [one for one in cases if one.point == "fold"]


def the(product, result):
    of, wrt = product
    return next(one.value for one in result.products if (one.of, one.wrt) == (of, wrt))


def test_both_folds_and_all_three_solutions_of_a_cubic(followed):
    found = followed(Wells, sweep("b", "{linspace: [-2, 2, 41]}"))
    for one, b in zip(folds(found), (FOLD, -FOLD), strict=True):
        x = float(one.result.solution["x"])
        assert one.result.status == Status.SINGULAR
        assert abs(one.value - b) < 1e-14
        assert abs(x + np.sign(b) / np.sqrt(3)) < 1e-12
        assert abs(float(one.result.outputs["square"]) - 1 / 3) < 1e-12
        assert one.result.products == ()
    # at each level every real root, in the order of the branch
    for b in np.linspace(-2, 2, 41):
        here = [one for one in found if one.point != "fold" and abs(one.value - b) < 1e-12]
        roots = np.roots([1, 0, -1, -b])
        real = np.sort(roots[np.abs(roots.imag) < 1e-9].real)
        np.testing.assert_allclose([float(one.result.solution["x"]) for one in here], real, rtol=0, atol=1e-12)
    for one in found:
        if one.point != "fold":
            x = float(one.result.solution["x"])
            slope = 1 / (3 * x**2 - 1)
            product = next(p for p in one.result.products if p.of == "x")
            assert abs(product.value - slope) <= product.bound.total + 4e-16 * abs(slope)
            assert product.bound.total < 1e-9 * abs(slope)
            # between the folds it is a maximum of the energy
            assert one.result.status == (Status.NOT_A_MINIMUM if abs(x) < 1 / np.sqrt(3) else Status.OK)
    assert [one.point for one in found].count("end") == 1
    assert found[-1].point == "end"
    assert found[-1].value == 2.0
    assert found[-1].result.message.endswith("the branch ends here: it leaves the range of the levels")


def test_a_level_is_passed_first_by_the_case_of_any_sweep(followed, made):
    found = followed(Wells, sweep("b", "{linspace: [-2, 2, 21]}"))
    cases, _ = made(Wells, sweep("b", "{linspace: [-2, 2, 21]}"))
    assert len({one.id for one in found}) == len(found)
    first = {}
    for one in found:
        if one.point != "fold":
            first.setdefault(round(one.value, 12), one.id)
    assert [first[b] for b in sorted(first)] == cases.ids()
    # the same again, to the last bit
    again = followed(Wells, sweep("b", "{linspace: [-2, 2, 21]}"))
    assert [one.id for one in again] == [one.id for one in found]
    assert [one.result.solution["x"].item() for one in again] == [one.result.solution["x"].item() for one in found]


def test_levels_may_lie_as_close_to_a_fold_as_one_likes(followed):
    close = [float(FOLD - 10.0**-k) for k in (6, 9, 12)]
    found = followed(Wells, sweep("b", f"[-1.0, {', '.join(map(repr, close))}, 1.0]"))
    assert [one.value for one in found if one.point != "fold"] == [-1.0, *close, *close[::-1], *close, 1.0]
    for one, sign in zip([one for one in found if one.value in close], [1] * 3 + [-1] * 3, strict=False):
        # next to the fold x + 1/sqrt 3 is -+ sqrt((FOLD - b) / sqrt 3)
        x = -1 / np.sqrt(3) - sign * np.sqrt((FOLD - one.value) / np.sqrt(3))
        np.testing.assert_allclose(one.result.solution["x"], x, rtol=0, atol=(FOLD - one.value) ** 0.5 * 1e-2)


@pytest.mark.parametrize("asked", ["[t]", "[k]"])
def test_a_root_of_two_equations_that_is_not_symmetric(followed, asked):
    # also where nobody asks for the derivative with respect to what varies
    more = f"parameters: {{t: 2.0, k: 1.5}}\nsensitivity: {{wrt: {asked}}}"
    found = followed(Shear, f"{more}\n{sweep('t', '{linspace: [2, -1, 16]}')}")
    (fold,) = folds(found)
    assert abs(fold.value + 1.5**2 / 4) < 1e-14
    np.testing.assert_allclose([fold.result.solution["x"], fold.result.solution["y"]], [-0.75, -1.125], atol=1e-10)
    assert found[-1].value == 2.0
    turned = found.index(fold)
    for number, one in enumerate(found):
        if one is not fold:
            sign = 1 if number < turned else -1
            x = (-1.5 + sign * np.sqrt(1.5**2 + 4 * one.value)) / 2
            assert one.result.status == Status.OK
            np.testing.assert_allclose(one.result.solution["x"], x, atol=1e-12)
            # x^2 + k x = t
            slope = 1 / (2 * x + 1.5) if asked == "[t]" else -x / (2 * x + 1.5)
            np.testing.assert_allclose(the(("x", asked[1]), one.result), slope, rtol=1e-9)


@pytest.mark.parametrize(("n", "banded"), [(60, False), (150, True)])
def test_the_fold_of_bratu(followed, n, banded):
    text = f"options: {{n: {n}, banded: {str(banded).lower()}}}\nsensitivity: {{products: []}}\n"
    found = followed(Bratu, text + sweep("weight", "{linspace: [0.5, 4, 8]}"))
    (fold,) = folds(found)
    # F = 0, A v = 0, v_middle = 1, by SciPy and with a Jacobian by differences
    h = 1 / (n + 1)
    laplace = (np.eye(n, k=1) - 2 * np.eye(n) + np.eye(n, k=-1)) / h**2

    def equations(z):
        u, v, s = z[:n], z[n : 2 * n], z[-1]
        return np.concatenate([laplace @ u + s * np.exp(u), laplace @ v + s * np.exp(u) * v, [v[n // 2] - 1]]) * h**2

    start = np.concatenate([1.2 * np.sin(np.pi * h * np.arange(1, n + 1)), np.sin(np.pi * h * np.arange(1, n + 1)), [3.5]])
    exact, _, done, _ = fsolve(equations, start, xtol=1e-13, full_output=True)
    assert done == 1
    assert abs(fold.value - exact[-1]) < 1e-9
    np.testing.assert_allclose(fold.result.solution["u"], exact[:n], atol=1e-6)
    # and, by the error of the differences, the fold of the differential equation
    assert abs(fold.value - 3.513830719) < 3 * h**2
    # the branch comes back to where it began, on its upper side
    assert [one.value for one in found if one.point == "level"] == [0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 3.5, 3.0, 2.5, 2.0, 1.5, 1.0]
    assert (found[-1].point, found[-1].value) == ("end", 0.5)
    assert found[-1].result.solution["u"].max() > 4 > 1 > found[0].result.solution["u"].max()
    assert {one.result.status for one in found if one is not fold} == {Status.OK}


def test_a_branch_that_closes_on_itself(followed):
    found = followed(Circle, sweep("b", "[0.0, 0.5, 2.0, -0.5, -2.0]"))
    kinds = [(one.point, round(one.value, 12)) for one in found]
    levels = [("level", b) for b in (0.0, 0.5)]
    half = [("fold", 1.0), ("level", 0.5), ("level", 0.0), ("level", -0.5), ("fold", -1.0), ("level", -0.5)]
    assert kinds == [*levels, *half, ("end", 0.0)]
    assert found[-1].result.message == "the branch ends here: it is at its beginning again"
    np.testing.assert_allclose(found[-1].result.solution["x"], 1.0, atol=1e-12)
    for one in found:
        if one.point != "fold":
            x = float(one.result.solution["x"])
            np.testing.assert_allclose(x**2 + one.value**2, 1.0, atol=1e-12)
            np.testing.assert_allclose(the(("x", "b"), one.result), -one.value / x, atol=1e-9)
    assert max(abs(one.value) - 1 for one in folds(found)) < 1e-13


@pytest.mark.parametrize("n", [3, 150])
def test_what_a_symmetry_leaves_open_stays_as_it_is(followed, n):
    found = followed(Chain, f"options: {{n: {n}}}\n" + sweep("t", "{linspace: [-1, 1, 9]}"))
    assert [round(one.value, 12) for one in folds(found)] == [round(FOLD, 12), round(-FOLD, 12)]
    for one in found:
        u = one.result.solution["u"]
        e = u[1] - u[0]
        np.testing.assert_allclose([e**3 - e, *np.diff(u[1:])], [one.value, *[1.0] * (n - 2)], atol=1e-7)
        np.testing.assert_allclose(u.mean(), (1.5 + (n - 1) * (n - 2) / 2) / n, rtol=1e-7)
        if one.point != "fold":
            derivative = the(("u", "t"), one.result)
            np.testing.assert_allclose(derivative[1] - derivative[0], 1 / (3 * e**2 - 1), rtol=1e-8)
    assert found[-1].value == 1.0


@pytest.mark.parametrize("target", ["r", "r[1]"])
def test_one_number_for_all_entries_or_one_entry_with_a_transform(followed, target):
    more = "parameters: {r: [0.3, 0.3, 0.3]}"
    found = followed(Growth, f"{more}\n{sweep(target, '{geomspace: [0.01, 1, 9]}')}", "solver.tol=1e-10")
    where = [1] if target == "r[1]" else [0, 1, 2]
    if target == "r[1]":
        (fold,) = folds(found)
        np.testing.assert_allclose(fold.value, np.exp(-1), rtol=1e-13)
        np.testing.assert_allclose(fold.result.solution["x"][1], 1.0, atol=1e-6)
        assert (found[-1].point, round(found[-1].value, 12)) == ("end", 0.01)
    for one in found:
        x = one.result.solution["x"]
        np.testing.assert_allclose((x * np.exp(-x))[where], one.value, rtol=1e-7)
        np.testing.assert_allclose(one.result.theta["r"][where], one.value, rtol=1e-12)


def test_where_F_ends_the_branch_does(followed):
    found = followed(Ending, sweep("b", "{linspace: [0, 2, 9]}"))
    assert [one.value for one in found[:-1]] == [0.0, 0.25, 0.5, 0.75]
    end = found[-1]
    assert end.point == "end"
    assert 1 - 1e-3 < end.value <= 1.0
    assert "the branch ends here: steps became shorter than 1e-09 of the range" in end.result.message


@pytest.mark.parametrize("n", [1, 2, 149, 150])
def test_round_corners_where_F_has_kinks(followed, n):
    found = followed(Zigzag, f"options: {{n: {n}}}\n" + sweep("b", "{linspace: [-0.625, 1.5, 18]}"))
    corners = folds(found)
    assert [one.result.status for one in corners] == [Status.NONDIFFERENTIABLE] * 2
    np.testing.assert_allclose([one.value for one in corners], [1.0, -0.25], atol=1e-11)
    for one, place in zip(corners, [1.0, 1.25], strict=True):
        np.testing.assert_allclose(one.result.solution["x"], place, atol=1e-11)
    for one in found:
        if one.point != "fold" and one.value not in (1.0, -0.25):
            x = one.result.solution["x"][0]
            assert one.result.status == Status.OK
            np.testing.assert_allclose(the(("x", "b"), one.result), 1.0 if x < 1 or x > 1.25 else -0.2, rtol=1e-9)
    between = [one.value for one in found[found.index(corners[0]) + 1 : found.index(corners[1])]]
    assert between == sorted(between, reverse=True)
    assert len(between) >= 8
    assert found[-1].value == 1.5


def test_nothing_is_followed_from_no_solution(followed):
    (one,) = followed(Circle, sweep("b", "{linspace: [2, 0, 5]}"))
    assert one.point == "end"
    assert one.result.status == Status.NOT_CONVERGED
    assert one.result.message.endswith("the branch ends here: there is no solution to follow")


def test_no_more_cases_than_are_allowed(followed):
    found = followed(Wells, sweep("b", "{linspace: [-2, 2, 21]}", ", max_cases: 25"))
    assert len(found) == 25
    assert (found[-1].point, found[-1].result.message) == ("end", "the branch ends here: sweep.max_cases is 25")


def test_it_goes_on_from_any_state_as_if_nothing_had_been(followed, made):
    whole = followed(Wells, sweep("b", "{linspace: [-2, 2, 21]}"))
    for number in (3, 13, 20):
        state = whole[number].state
        cases, plan = made(Wells, sweep("b", "{linspace: [-2, 2, 21]}"))
        kept = arc.State(*(np.asarray(value) for value in state))
        before = int(kept.cases)
        rest = cases_of(engine.follow(cases, plan, known={one.id for one in whole[:number]}, state=kept))
        assert [one.id for one in rest] == [one.id for one in whole[before:]]
        assert [one.result is None for one in rest] == [index < number for index in range(before, len(whole))]
        for one, other in zip(rest, whole[before:], strict=True):
            if one.result is not None:
                np.testing.assert_allclose(one.result.solution["x"], other.result.solution["x"], rtol=0, atol=1e-13)


def test_a_way_that_leads_back_is_told(made, followed):
    whole = followed(Wells, sweep("b", "{linspace: [-2, 2, 21]}"))
    fold = whole.index(folds(whole)[0])
    state = whole[fold + 3].state
    cases, plan = made(Wells, sweep("b", "{linspace: [-2, 2, 21]}"))
    # turned round between the two folds, as by a corner that it cannot make out
    found = cases_of(engine.follow(cases, plan, state=state._replace(t=-state.t)))
    assert [one.point for one in found] == ["level", "level", "end"]
    assert found[-1].result.message.endswith("the branch ends here: it leads back on its own way, to a fold that it has passed")
    assert 0 < FOLD - found[-1].value < 0.1


class Boxed(Problem):
    """One inequality."""

    t = Parameter(default=0.5)
    x = Unknown()
    push = Unknown(shape=(1,))

    def condition(self):
        return kkt(
            lambda x, theta, data: (x.x - theta.t) ** 2 / 2, None, lambda x, theta, data: jnp.reshape(x.x - 1.0, (1,)), lam="push"
        )


class Given(Problem):
    """x = c."""

    c = Data()
    k = Parameter(shape=(2,), default=1.0)
    x = Unknown()

    def condition(self):
        return root(lambda x, theta, data: x._replace(x=x.x - data.c * theta.k.sum()))


@pytest.mark.parametrize(
    ("cls", "over", "text"),
    [
        (Boxed, "t: [0.0, 2.0]", "sweep.continue: found 'arc' with a kkt condition where not every root"),
        (Given, "c: [0.0, 2.0]", "sweep.over.c: found a quantity of 'data' with continue: arc, allowed: a parameter"),
        (Given, "k: [[0.0, 1.0], [1.0, 2.0]]", "sweep.over.k: found levels whose entries differ with continue: arc, allowed: "),
        (Given, "k: [1.0, 2.0, 1.0]", "sweep.over.k: found a level twice, or one alone, with continue: arc, allowed: 2 or more"),
    ],
)
def test_what_is_no_branch_is_refused(made, cls, over, text):
    given = "data: {c: 1.0}\n" if cls is Given else ""
    with pytest.raises(InputError) as caught:
        made(cls, f"{given}sweep: {{over: {{{over}}}, continue: arc}}")
    assert text in str(caught.value)
