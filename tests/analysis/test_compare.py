"""Two results against each other, on records made by hand: closed forms, and values drawn within or beyond their bounds."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from implicit_cli.analysis import Verdict, compare, judge
from implicit_cli.analysis.judge import norm, norms
from implicit_cli.errors import InputError

JACOBIAN = ("jacobian", "", "w", "penalty", "")
SOLUTION = ("solution", "w", "", "", "")
OUTPUT = ("output", "loss", "", "", "")
PARAMETER = ("parameter", "penalty", "", "", "")
DATA = ("data", "X", "", "", "")
NAN, INF = math.nan, math.inf


@dataclass(frozen=True)
class Record:
    """A quantity of one file."""

    value: np.ndarray
    bound: np.ndarray
    estimate: bool = False
    status: str = "ok"
    unit: str = "1"
    wrt: str = "penalty"
    left_out: np.ndarray | None = None
    gauges: tuple[str, ...] = ()
    direction: dict = field(default_factory=dict)
    shape: tuple[int, ...] | None = None

    def __post_init__(self):
        object.__setattr__(self, "shape", self.value.shape if self.shape is None else self.shape)
        if self.left_out is None:
            object.__setattr__(self, "left_out", np.zeros(len(self.value), bool))

    def label(self, row: int, column: int) -> tuple[str, str]:
        return f"w[{row}]", f"penalty[{column}]"


def record(value, bound, **others) -> Record:
    return Record(np.array(value, float), np.array(bound, float), **others)


def places(found) -> list[tuple[str, str]]:
    return [(entry.of, entry.wrt) for entry in found.entries]


# One quantity


def test_columns_are_judged_by_the_sum_of_both_bounds():
    a = record([[3.0, 1.0], [4.0, 0.0], [0.0, 0.0]], [4.0, 0.5])
    # |a - b| is 5 in the first column and 1 in the second
    b = record([[0.0, 1.0], [0.0, 1.0], [0.0, 0.0]], [1.0, 0.5])
    found = judge(JACOBIAN, a, b)
    assert (found.verdict, found.entries, found.note) == (Verdict.AGREE, (), "")
    assert (found.difference, found.allowed, found.bound_kind) == (5.0, 5.0, "bound")
    assert found.relative == pytest.approx(math.sqrt(26 / 26))
    tighter = judge(JACOBIAN, a, replace(b, bound=np.array([0.9, 0.4])))
    assert (tighter.verdict, tighter.difference, tighter.note) == (Verdict.DIFFER, 1.0, "2 of 2 columns differ")
    assert tighter.allowed == pytest.approx(0.9)
    assert places(tighter) == [("w[1]", "penalty[0]"), ("w[0]", "penalty[0]"), ("w[1]", "penalty[1]")]
    assert [entry.difference for entry in tighter.entries] == [4.0, 3.0, 1.0]
    assert (tighter.entries[0].a, tighter.entries[0].b, tighter.entries[0].allowed) == (4.0, 0.0, 4.9)
    assert places(judge(JACOBIAN, a, replace(b, bound=np.array([1.0, 0.4])))) == [("w[1]", "penalty[1]")]
    assert places(judge(JACOBIAN, a, replace(b, bound=np.zeros(2)), top=1)) == [("w[1]", "penalty[0]")]
    assert places(judge(JACOBIAN, a, replace(b, bound=np.zeros(2)), top=0)) == []


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("second", [False, True])
def test_the_kind_is_the_weaker_one(first, second):
    a, b = record([[1.0]], [0.5], estimate=first), record([[1.25]], [0.5], estimate=second)
    assert judge(JACOBIAN, a, b).bound_kind == ("estimate" if first or second else "bound")


def test_a_number_in_one_file_only():
    a, b = record([[1.0, 2.0], [NAN, 3.0]], [0.1, 0.1]), record([[1.0, 2.0], [5.0, NAN]], [0.1, 0.1])
    found = judge(JACOBIAN, a, b)
    assert (found.verdict, found.note) == (Verdict.NAN, "2 of 4 entries are a number in one file only")
    assert places(found) == [("w[1]", "penalty[0]"), ("w[1]", "penalty[1]")]
    assert [math.isnan(entry.a) for entry in found.entries] == [True, False]
    assert (found.entries[0].b, math.isnan(found.entries[0].difference)) == (5.0, True)
    beyond = judge(JACOBIAN, replace(a, value=np.array([[1.5, 2.0], [NAN, 3.0]])), b)
    assert beyond.note == "2 of 4 entries are a number in one file only; 1 of 2 columns differ"
    assert places(beyond)[2:] == [("w[0]", "penalty[0]")]


@pytest.mark.parametrize(
    ("first", "second", "verdict"),
    [(NAN, NAN, "agree"), (INF, INF, "agree"), (INF, -INF, "NaN pattern differs"), (NAN, INF, "NaN pattern differs")],
)
def test_what_is_no_number(first, second, verdict):
    found = judge(JACOBIAN, record([[1.0], [first]], [0.1]), record([[1.0], [second]], [0.1]))
    assert found.verdict == verdict
    assert found.difference == 0.0


def test_all_nan_agrees_and_has_nothing_to_judge():
    nothing = record(np.full((2, 3), NAN), np.full(3, NAN))
    found = judge(JACOBIAN, nothing, nothing)
    assert (found.verdict, found.bound_kind, found.relative) == (Verdict.AGREE, "none", 0.0)


@pytest.mark.parametrize("missing", [NAN, INF])
def test_without_a_bound_nothing_is_judged_until_asked(missing):
    a, b = record([[1.0, 3.0], [2.0, 4.0]], [missing, 0.1]), record([[1.0, 3.0], [2.002, 4.0]], [0.1, 0.1])
    found = judge(JACOBIAN, a, b)
    assert (found.verdict, found.note) == (Verdict.NO_BOUND, "1 of 2 columns without a bound")
    # over the whole, and |a|^2 = 30
    assert found.relative == pytest.approx(0.002 / math.sqrt(30.0), rel=1e-3)
    assert not math.isfinite(found.allowed)
    # of the column alone, |a|^2 = 5: 0.002 / 2.2378 = 8.94e-4
    assert judge(JACOBIAN, a, b, rtol=8.9e-4).verdict is Verdict.DIFFER
    assert places(judge(JACOBIAN, a, b, rtol=8.9e-4)) == [("w[1]", "penalty[0]")]
    agreed = judge(JACOBIAN, a, b, rtol=9e-4)
    assert (agreed.verdict, agreed.note) == (Verdict.AGREE, "judged by rtol 0.0009")
    # where there is a bound, it is the judge
    far = replace(b, value=np.array([[1.0, 3.0], [2.0, 4.3]]))
    assert judge(JACOBIAN, a, far, rtol=1.0).verdict is Verdict.DIFFER
    assert judge(JACOBIAN, a, far).verdict is Verdict.DIFFER


def test_the_same_numbers_agree_without_a_bound():
    a = record([[1.0], [2.0]], [NAN])
    found = judge(JACOBIAN, a, a)
    assert (found.verdict, found.bound_kind, found.note) == (Verdict.AGREE, "none", "")


def test_what_is_given_must_be_the_same():
    a, b = record([[0.1], [0.2]], [NAN]), record([[0.1], [0.2 + 1e-9]], [NAN])
    assert judge(PARAMETER, a, a).verdict is Verdict.AGREE
    found = judge(PARAMETER, a, b)
    assert (found.verdict, found.bound_kind, places(found)) == (Verdict.DIFFER, "exact", [("w[1]", "penalty[0]")])
    assert judge(PARAMETER, a, b, rtol=1e-8).verdict is Verdict.AGREE
    assert judge(PARAMETER, a, b, rtol=1e-10).verdict is Verdict.DIFFER


def test_float32_inputs_are_compared_as_float32():
    exact = np.array([[0.1], [1 / 3]])
    a, b = record(exact, [NAN]), record(exact.astype(np.float32), [NAN])
    assert judge(PARAMETER, a, b).verdict is Verdict.DIFFER
    found = judge(PARAMETER, a, b, single=True)
    assert (found.verdict, found.note) == (Verdict.AGREE, "the same in float32")
    assert judge(PARAMETER, a, record(exact * (1 + 1e-6), [NAN]), single=True).verdict is Verdict.DIFFER
    # results have bounds, and are not rounded for the comparison
    assert judge(JACOBIAN, record(exact, [1e-12]), record(exact.astype(np.float32), [1e-12]), single=True).verdict is Verdict.DIFFER


def test_integers_are_data_too():
    a = Record(np.array([[1], [2**40]]), np.array([NAN]))
    assert judge(DATA, a, a).verdict is Verdict.AGREE
    assert judge(DATA, a, replace(a, value=np.array([[1], [2**40 + 1]]))).verdict is Verdict.DIFFER


@pytest.mark.parametrize(
    ("change", "note"),
    [
        ({"unit": "mol"}, "unit 1 | mol"),
        ({"wrt": "log(penalty)"}, "with respect to penalty | log(penalty)"),
        ({"direction": {"penalty": np.array([1.0, 2.0])}}, "its direction in penalty differs"),
        ({"direction": {}}, "its direction in penalty differs"),
        ({"direction": {"penalty": np.ones(2), "scale": np.ones(1)}}, "its direction in scale differs"),
    ],
)
def test_numbers_of_something_else(change, note):
    a = record([[1.0]], [0.1], direction={"penalty": np.ones(2)})
    found = judge(("jvp", "up", "w", "", ""), a, replace(a, **change))
    assert (found.verdict, found.note) == (Verdict.MEANING, note)
    assert found.verdict.disagrees


def test_shapes():
    a, b = record(np.ones((6, 2)), [1, 1], shape=(3, 2, 2)), record(np.ones((6, 2)), [1, 1], shape=(2, 3, 2))
    found = judge(JACOBIAN, a, b)
    assert (found.verdict, found.note) == (Verdict.SHAPE, "shape 3 x 2 x 2 | 2 x 3 x 2")
    assert judge(JACOBIAN, record([[1.0]], [1], shape=()), a).note == "shape scalar | 3 x 2 x 2"
    nothing = record(np.zeros((0, 1)), [0.1])
    assert judge(JACOBIAN, nothing, nothing).verdict is Verdict.AGREE
    assert judge(JACOBIAN, record(np.zeros((0, 0)), []), record(np.zeros((0, 0)), [])).verdict is Verdict.AGREE


def test_undetermined_components_are_left_out():
    a = record([[1.0], [5.0], [2.0]], [1e-9], left_out=np.array([False, True, False]))
    b = record([[1.0], [-7.0], [9.0]], [1e-9], left_out=np.array([False, False, True]))
    found = judge(SOLUTION, a, b)
    assert (found.verdict, found.difference, found.relative) == (Verdict.AGREE, 0.0, 0.0)
    assert judge(SOLUTION, a, replace(b, left_out=np.zeros(3, bool))).verdict is Verdict.DIFFER
    unsettled = replace(a, value=np.array([[1.0], [NAN], [2.0]]))
    assert judge(SOLUTION, unsettled, b).verdict is Verdict.AGREE


def test_a_gauge_leaves_the_solution_open():
    a = record([[0.0], [1.0]], [1e-9], gauges=("translation_x",))
    assert judge(SOLUTION, a, a).verdict is Verdict.AGREE
    found = judge(SOLUTION, a, record([[0.5], [1.5]], [1e-9]))
    assert (found.verdict, found.entries) == (Verdict.GAUGE, ())
    assert found.note == "translation_x: solutions may differ along it, not judged"
    assert not found.verdict.disagrees


# Values within their bounds, and beyond


@st.composite
def drawn(draw):
    """An exact matrix, bounds of two files in each column, and directions of length 1 in which the files may be wrong."""
    rows, columns = draw(st.integers(1, 7)), draw(st.integers(1, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    exponents = st.lists(st.floats(-9, 9), min_size=columns, max_size=columns)
    alpha, beta = (10.0 ** np.array(draw(exponents)) for _ in "ab")
    # so that rounding in exact + error is far below the bounds
    exact = rng.normal(size=(rows, columns)) * np.minimum(alpha, beta) * 10.0 ** draw(st.floats(-3, 9))
    unit = [error / np.linalg.norm(error, axis=0) for error in rng.normal(size=(2, rows, columns))]
    return exact, alpha, beta, unit, rng


@given(drawn(), st.floats(0, 0.999), st.floats(0, 0.999))
def test_values_within_their_bounds_always_agree(found, first, second):
    exact, alpha, beta, unit, _ = found
    a, b = Record(exact + first * alpha * unit[0], alpha), Record(exact - second * beta * unit[1], beta)
    assert judge(JACOBIAN, a, b).verdict is Verdict.AGREE
    # the worst case: both wrong in opposite directions
    assert judge(JACOBIAN, a, Record(exact - second * beta * unit[0], beta)).verdict is Verdict.AGREE


@given(drawn(), st.floats(1.001, 1e6), st.data())
def test_values_moved_by_more_than_both_bounds_always_differ(found, factor, data):
    exact, alpha, beta, unit, _ = found
    column = data.draw(st.integers(0, exact.shape[1] - 1))
    moved = exact.copy()
    moved[:, column] += factor * (alpha + beta)[column] * unit[0][:, column]
    judged = judge(JACOBIAN, Record(exact, alpha), Record(moved, beta), top=3)
    assert judged.verdict is Verdict.DIFFER
    assert judged.difference > judged.allowed
    assert {entry.wrt for entry in judged.entries} == {f"penalty[{column}]"}
    largest = int(np.argmax(np.abs(moved - exact)[:, column]))
    assert judged.entries[0].of == f"w[{largest}]"
    sizes = [entry.difference for entry in judged.entries]
    assert sizes == sorted(sizes, reverse=True)


@given(drawn())
def test_the_order_of_the_files_does_not_matter(found):
    exact, alpha, beta, _, rng = found
    a, b = Record(exact, alpha), Record(exact + rng.normal(size=exact.shape) * (alpha + beta), beta)
    one, other = judge(JACOBIAN, a, b), judge(JACOBIAN, b, a)
    assert (one.verdict, one.difference, one.allowed, one.relative) == (
        other.verdict,
        other.difference,
        other.allowed,
        other.relative,
    )
    assert places(one) == places(other)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=8))
def test_norms_neither_overflow_nor_vanish(values):
    assert norm(np.array(values)) == pytest.approx(math.hypot(*values), rel=1e-12, abs=0)


def test_a_difference_that_overflows_is_one():
    assert norms(np.array([[INF, 0.0], [1.0, 0.0]])).tolist() == [INF, 0.0]
    found = judge(JACOBIAN, record([[1.7e308]], [1e300]), record([[-1.7e308]], [1e300]))
    assert (found.verdict, found.difference) == (Verdict.DIFFER, INF)


# Two files


@dataclass
class Fake:
    """A result file by hand: quantities by key and case."""

    path: str
    content: dict
    problem: str = "ridge"
    cases: tuple[str, ...] = ("0",)
    about: dict = field(default_factory=lambda: {"jax": "0.10.1"})
    settings: dict = field(default_factory=dict)
    single: bool = False
    status: str = "ok"
    read_keys: list = field(default_factory=list)

    @property
    def keys(self):
        return list(self.content)

    def facts(self, case):
        return {"status": self.status, "method": "implicit"}

    def wrt(self, key):
        return key[3]

    def read(self, key, case):
        self.read_keys.append((key, case))
        found = self.content[key]
        return found[case] if isinstance(found, dict) else found


GOOD = {
    DATA: record([[1.0], [2.0]], [NAN]),
    PARAMETER: record([[0.1]], [NAN]),
    SOLUTION: record([[0.5], [0.25]], [1e-9], wrt=""),
    OUTPUT: record([[3.0]], [NAN], status="", wrt=""),
    JACOBIAN: record([[1.0], [2.0]], [1e-6]),
}


def near(**changes) -> dict:
    """The good file again, computed a little otherwise; `changes` are values by kind."""
    moved = {
        key: replace(found, value=found.value * (1 + 1e-10)) for key, found in GOOD.items() if key[0] not in ("data", "parameter")
    }
    moved = {**GOOD, **moved}
    kinds = {key[0]: key for key in moved}
    return moved | {kinds[kind]: replace(moved[kinds[kind]], **change) for kind, change in changes.items()}


@pytest.mark.parametrize(
    ("content", "verdict", "code", "kinds"),
    [
        (GOOD, "agree", 0, []),
        # an output has no bound: that is told, and does not keep the answer open
        (near(), "agree", 0, []),
        (near(jacobian={"value": np.array([[1.0], [2.1]])}), "differ", 1, ["jacobian"]),
        (near(parameter={"value": np.array([[0.2]])}), "differ", 1, ["parameter"]),
        (near(data={"value": np.array([[1.0], [3.0]])}), "differ", 1, ["data"]),
        (near(solution={"value": np.array([[0.5], [0.5]])}), "differ", 1, ["solution"]),
        (near(output={"value": np.array([[3.3]])}), "agree", 0, []),
        (near(jacobian={"bound": np.array([NAN])}), "undecided", 2, ["jacobian"]),
        (near(solution={"bound": np.array([NAN])}), "undecided", 2, ["solution"]),
        (near(solution={"value": np.array([[9.0], [9.0]]), "gauges": ("shift",)}), "agree", 0, []),
    ],
)
def test_the_answer(content, verdict, code, kinds):
    found = compare(Fake("a.h5", GOOD), Fake("b.h5", content))
    assert (found.verdict, found.exit_code) == (verdict, code)
    assert [quantity.kind for quantity in (*found.disagreeing, *found.undecided)] == kinds
    json.dumps(found.asdict(), allow_nan=False)
    assert next(iter(found.asdict().items())) == ("verdict", verdict)


def test_rtol_decides_what_has_no_bound():
    other = near(jacobian={"bound": np.array([NAN])})
    assert compare(Fake("a.h5", GOOD), Fake("b.h5", other), rtol=1e-9).exit_code == 0
    assert compare(Fake("a.h5", GOOD), Fake("b.h5", other), rtol=1e-11).exit_code == 1


@pytest.mark.parametrize("rtol", [-1.0, NAN])
def test_an_rtol_that_would_judge_nothing(rtol):
    with pytest.raises(InputError, match=r"--rtol: found .*, allowed: a number from 0"):
        compare(Fake("a.h5", GOOD), Fake("b.h5", GOOD), rtol=rtol)


def test_inputs_alone_are_no_agreement():
    outputs = {key: found for key, found in near().items() if key[0] in ("data", "parameter", "output")}
    a = {key: GOOD[key] for key in outputs}
    assert compare(Fake("a.h5", a), Fake("b.h5", outputs)).exit_code == 2


def test_what_is_in_one_file_only_is_told_and_not_read():
    more = {**GOOD, ("vjp", "first", "", "penalty", ""): record([[1.0]], [1e-9])}
    a, b = Fake("a.h5", GOOD), Fake("b.h5", more)
    found = compare(a, b)
    assert (found.exit_code, [q.verdict for q in found.cases[0].quantities][-1]) == (0, Verdict.ONLY_B)
    assert compare(b, a).cases[0].quantities[-1].verdict is Verdict.ONLY_A
    assert ("vjp", "first", "", "penalty", "") not in [key for key, _ in b.read_keys]


def test_nothing_in_common():
    with pytest.raises(InputError, match=r"a.h5 \(ridge\) and b.h5 \(kepler\): no solution, output or product in common"):
        compare(
            Fake("a.h5", GOOD), Fake("b.h5", {("solution", "E", "", "", ""): GOOD[SOLUTION], DATA: GOOD[DATA]}, problem="kepler")
        )


def test_what_differs_is_told_and_not_judged():
    b = Fake("b.h5", GOOD, about={"jax": "0.12.0", "device": "gpu"}, settings={"solver.tol": "1e-06"}, status="partial")
    found = compare(Fake("a.h5", GOOD, problem="./ridge.py:Ridge"), b)
    assert [(row.what, row.a, row.b) for row in found.told] == [
        ("jax", "0.10.1", "0.12.0"),
        ("device", "", "gpu"),
        ("solver.tol", "", "1e-06"),
    ]
    assert [(row.what, row.a, row.b) for row in found.cases[0].told] == [("status", "ok", "partial")]
    assert (found.problem_a, found.problem_b, found.exit_code) == ("./ridge.py:Ridge", "ridge", 0)


def cases(*names: str) -> Fake:
    return Fake(f"{'-'.join(names)}.h5", GOOD, cases=names)


def test_cases_are_paired_by_id():
    found = compare(cases("a", "b", "c"), cases("c", "d", "a"))
    assert [(case.a, case.b) for case in found.cases] == [("a", "a"), ("c", "c")]
    assert (found.only_a, found.only_b) == (("b",), ("d",))
    assert [(case.a, case.b) for case in compare(cases("0"), cases("first")).cases] == [("0", "first")]


def test_one_case_is_picked():
    found = compare(cases("a", "b", "c"), cases("c", "b"), case="b")
    assert [(case.a, case.b) for case in found.cases] == [("b", "b")]
    assert (found.only_a, found.only_b) == ((), ())
    assert [(case.a, case.b) for case in compare(cases("a", "b"), cases("0"), case="b").cases] == [("b", "0")]
    with pytest.raises(InputError, match=r"c-bb.h5: no case 'b', allowed: 'bb', 'c'"):
        compare(cases("a", "b"), cases("c", "bb"), case="b")
    with pytest.raises(InputError, match=r"a-b.h5: no case 'z'"):
        compare(cases("a", "b"), cases("c", "d"), case="z")


def test_no_case_in_common():
    with pytest.raises(InputError, match=r"a-b.h5 and c-d.h5: no case in common: 'a', 'b' | 'c', 'd'"):
        compare(cases("a", "b"), cases("c", "d"))
    # a sweep against a single run: nobody knows which is meant
    for first, second in ((("a", "b"), ("0",)), (("0",), ("a", "b"))):
        with pytest.raises(InputError, match="no case in common"):
            compare(cases(*first), cases(*second))


def test_float32_in_either_file():
    rounded = {**near(), PARAMETER: record(np.float32([[0.1]]), [NAN])}
    assert compare(Fake("a.h5", GOOD), Fake("b.h5", rounded)).exit_code == 1
    assert compare(Fake("a.h5", GOOD), Fake("b.h5", rounded, single=True)).exit_code == 0
