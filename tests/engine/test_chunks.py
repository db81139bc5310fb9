"""Chunks change the memory that a run takes and nothing else; many directions at once are those one by one."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from implicit_cli import engine
from implicit_cli.core import root
from implicit_cli.engine.chunks import Chunks, column_sizes, divide, fill, mark, overlap
from implicit_cli.errors import InputError
from implicit_cli.problem import Option, Output, Parameter, Problem, Unknown
from implicit_cli.spec import load_spec
from implicit_cli.status import Status
from implicit_cli.store import Scratch

pytestmark = pytest.mark.slow


class Waves(Problem):
    """x + sin(x) / 3 = M theta + b, with M_ij = cos(i + 2 j): A is diagonal, J = A^-1 M; `idle` appears nowhere."""

    d = Option(3)
    n = Option(4)
    theta = Parameter(shape=("n",), default=0.5)
    b = Parameter(default=0.25)
    idle = Parameter(shape=(2,), default=1.0)
    x = Unknown(shape=("d",))
    sum = Output()
    pair = Output(shape=(2,))

    def M(self):
        return jnp.cos(jnp.arange(self.d)[:, None] + 2.0 * jnp.arange(self.n)[None, :])

    def condition(self):
        return root(lambda x, theta, data: x._replace(x=x.x + jnp.sin(x.x) / 3 - self.M() @ theta.theta - theta.b))

    def outputs(self, x, theta, data):
        return {"sum": jnp.sum(x.x) * theta.b, "pair": x.x[:2] ** 2}


def prepare(tmp_path, text="", *overrides):
    path = tmp_path / "spec.yaml"
    path.write_text(f"problem: here\n{text}")
    loaded = load_spec(path, overrides)
    vectors = engine.Vectors(engine.bind(loaded, Waves))
    return vectors, engine.make_plan(loaded, vectors)


def make_plan(tmp_path, vectors, text, *overrides):
    """Another plan for a problem that is bound and compiled already."""
    (tmp_path / "plan.yaml").write_text(f"problem: here\n{text}")
    return engine.make_plan(load_spec(tmp_path / "plan.yaml", overrides), vectors)


def solve(tmp_path, text="", *overrides, **options):
    vectors, plan = prepare(tmp_path, text, *overrides)
    return engine.run_case(vectors, plan, identity="0", seed=0, **options)


def by_name(result):
    return {(p.kind, p.name, p.of, p.wrt): p for p in result.products}


class Watcher:
    """An observer that remembers, and may interrupt after some chunk."""

    def __init__(self, stop=None):
        self.stop, self.chunks, self.stages = stop, [], []

    def stage(self, text):
        self.stages.append(text)

    def progress(self, step, residual, tol):
        pass

    def chunk(self, done, total):
        self.chunks.append((done, total))
        if done == self.stop:
            raise KeyboardInterrupt


# The arithmetic of chunks


@given(st.integers(0, 60), st.integers(1, 10_000), st.integers(1, 100_000))
def test_chunks_cover_everything_once_within_the_budget(total, each, budget):
    chunks = divide(total, each, budget)
    assert [i for part in chunks for i in range(part.start, part.stop)] == list(range(total))
    assert len(list(chunks)) == chunks.count
    assert chunks.width <= max(total, 1)
    assert chunks.width * each <= budget or chunks.width <= 1
    # no chunk is needless, and the padding is less than one right-hand side for each chunk
    assert chunks.count == (-(-total // max(budget // each, 1)))
    assert chunks.width * chunks.count - total < max(chunks.count, 1)


@given(st.integers(0, 20), st.integers(0, 20), st.integers(0, 20), st.integers(0, 20))
def test_an_overlap_is_what_both_have(a, length, b, width):
    part, chunk = slice(a, a + length), slice(b, b + width)
    common = sorted(set(range(a, a + length)) & set(range(b, b + width)))
    meet = overlap(part, chunk)
    if meet is None:
        assert not common
    else:
        assert [a + i for i in range(meet[0].start, meet[0].stop)] == common
        assert [b + i for i in range(meet[1].start, meet[1].stop)] == common


def test_blocks_are_filled_and_measured_window_by_window(tmp_path, monkeypatch):
    monkeypatch.setattr(engine.chunks, "WINDOW", 3 * engine.chunks.PAGE)
    room = Scratch(tmp_path / "out.h5")
    block, values = room.allocate((10, 7)), np.random.default_rng(0).normal(size=(8, 4))
    block[:] = np.nan
    fill(block, slice(1, 9), slice(2, 6), values, room)
    expected = np.full((10, 7), np.nan)
    expected[1:9, 2:6] = values
    np.testing.assert_array_equal(block, expected)
    sizes, found = column_sizes(block, room)
    np.testing.assert_allclose(sizes, np.linalg.norm(np.nan_to_num(expected), axis=0))
    assert found
    assert not column_sizes(block[:1], room)[1]

    def marked(rows):
        return mark(block[rows, 2:6], rows, slice(2, 6), 7, room)

    filled = mark(values, slice(1, 9), slice(2, 6), 7, room)
    assert marked(slice(1, 9)) == filled
    assert marked(slice(1, 4)) + marked(slice(4, 9)) == filled
    block[[4, 5], 3] = block[[5, 4], 3]  # two numbers that have changed places
    assert marked(slice(1, 9)) != filled


# Chunked and whole

DIRECTIONS = """
sensitivity:
  mode: {mode}
  products:
    - jacobian
    - jvp: {{one: {{theta: 1.0}}, many: {{theta: {many}, b: 0.5}}}}
    - vjp: {{first: {{sum: 1.0}}, both: {{x: {both}, sum: 2.0}}}}
"""


@pytest.mark.parametrize(
    ("mode", "d", "n"),
    [
        ("adjoint", 2, 29),
        pytest.param("forward", 31, 3, marks=pytest.mark.exhaustive),
        *(pytest.param(mode, 11, 13, marks=pytest.mark.exhaustive) for mode in ("forward", "adjoint")),
    ],
)
def test_chunks_change_nothing(tmp_path, mode, d, n):
    rng = np.random.default_rng(1)
    text = DIRECTIONS.format(mode=mode, many=rng.normal(size=(3, n)).tolist(), both=rng.normal(size=(2, d)).tolist())
    sizes = f"options={{d: {d}, n: {n}}}"
    vectors, plan = prepare(tmp_path, text, sizes)
    budget = 2 * 8 * 2 * (14 * d + 6 * (n + 3) + 8 * 3)  # two right-hand sides
    chunked = make_plan(tmp_path, vectors, text, sizes, f"sensitivity.memory={budget}")
    whole = engine.run_case(vectors, plan, identity="0", seed=0)
    watcher, room = Watcher(), Scratch(tmp_path / "out.h5")
    parts = engine.differentiate_at(vectors, chunked, whole.solution, identity="0", observer=watcher, room=room)
    assert whole.status is parts.status is Status.OK
    assert watcher.chunks[-1][0] == watcher.chunks[-1][1] == len(watcher.chunks) > 4
    assert vectors.system.F_tangent._cache_size() <= 4  # one program for each width, not one for each chunk
    assert by_name(whole).keys() == by_name(parts).keys()
    assert len(whole.products) == 3 * 3 + 2 * 3 + 2 * 3
    for key, product in by_name(whole).items():
        other = by_name(parts)[key]
        scale = max(np.abs(product.value).max(), 1.0)
        np.testing.assert_allclose(other.value, product.value, rtol=1e-12, atol=1e-14 * scale)
        # at rounding a bound is measured with random numbers, which differ between chunks: it may be another one of that size
        assert (other.bound.total <= 3 * product.bound.total + 1e-15 * scale).all()
        assert (other.bound.total >= product.bound.total / 3 - 1e-15 * scale).all()
        assert (other.status, other.bound.kind) == (product.status, product.bound.kind)
    for one, other in zip(whole.linear, parts.linear, strict=True):
        assert (one.direction, one.method, len(one.status)) == (other.direction, other.method, len(other.status))
        assert (other.residual < 1e-13).all()


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A problem bound, compiled and solved once."""
    vectors, plan = prepare(tmp_path_factory.mktemp("small"), "", "options={d: 7, n: 5}")
    return vectors, plan, engine.run_case(vectors, plan, identity="0", seed=0)


@pytest.mark.parametrize("mode", ["forward", "adjoint"])
def test_a_chunked_jacobian_is_the_closed_form(tmp_path, small, mode):
    vectors, _, run = small
    plan = make_plan(tmp_path, vectors, f"sensitivity: {{mode: {mode}, memory: 7 kB}}\n")
    result = engine.differentiate_at(vectors, plan, run.solution, identity="0")
    A = 1 + np.cos(result.solution["x"]) / 3
    M = np.cos(np.arange(7)[:, None] + 2.0 * np.arange(5)[None, :])
    found = by_name(result)
    np.testing.assert_allclose(found["jacobian", "", "x", "theta"].value, M / A[:, None], rtol=1e-12)
    np.testing.assert_allclose(found["jacobian", "", "x", "b"].value, 1 / A, rtol=1e-12)
    # columns of zeros have right-hand sides of zeros
    assert not found["jacobian", "", "x", "idle"].value.any()
    assert found["jacobian", "", "x", "idle"].bound.total.max() <= 1e-13


def test_large_blocks_go_to_the_room_and_small_ones_do_not(tmp_path, small, monkeypatch):
    monkeypatch.setattr(engine.passes, "SMALL", 8 * 30)
    vectors, plan, run = small
    room, shapes = Scratch(tmp_path / "out.h5"), []
    allocate = room.allocate
    room.allocate = lambda shape: shapes.append(shape) or allocate(shape)
    in_file = dataclasses.replace(plan, in_file=True)
    result = engine.differentiate_at(vectors, in_file, run.solution, identity="0", room=room)
    assert shapes == [(7, 5)]
    mapped = {key for key, product in by_name(result).items() if isinstance(product.value, np.memmap)}
    assert mapped == {("jacobian", "", "x", "theta")}
    engine.differentiate_at(vectors, plan, run.solution, identity="0", room=room)
    assert shapes == [(7, 5)]


def test_an_interrupt_is_heard_between_chunks(small):
    vectors, plan, run = small
    watcher = Watcher(stop=2)
    chunked = dataclasses.replace(plan, forward_chunks=Chunks(plan.forward_solves, 2))
    with pytest.raises(KeyboardInterrupt):
        engine.differentiate_at(vectors, chunked, run.solution, identity="0", observer=watcher)
    assert [done for done, _ in watcher.chunks] == [1, 2]


def test_one_chunk_is_no_news(small):
    vectors, plan, run = small
    watcher = Watcher()
    engine.differentiate_at(vectors, plan, run.solution, identity="0", observer=watcher)
    assert watcher.chunks == []
    assert watcher.stages == ["differentiating: 8 forward and 0 adjoint solves", "certifying"]


def test_the_plan_says_how_many_chunks_and_where_the_jacobian_goes(tmp_path):
    _, plan = prepare(tmp_path, "sensitivity: {mode: forward, memory: 64 KiB}\n", "options={d: 150, n: 90}")
    memory = dict(plan.rows)["memory"]
    assert plan.forward_chunks == Chunks(93, 1)
    assert "in 93 forward chunks of 1; the Jacobian, 111 KiB, goes to the file as it comes" in memory
    assert plan.warnings == ()
    _, plan = prepare(tmp_path, "sensitivity: {memory: 16 KiB}\n", "options={d: 150, n: 90}")
    assert plan.warnings == ("one right-hand side alone takes 21 KiB, more than half of sensitivity.memory, 16 KiB",)
    _, plan = prepare(tmp_path)
    assert "chunks" not in dict(plan.rows)["memory"]
    assert not plan.in_file


# Many directions


def test_many_directions_are_those_one_by_one(tmp_path):
    ones = "one: {theta: [1, 2, 3, 4], b: 3}, other: {theta: [0, 1, 0, -1], b: -3}"
    many = "many: {theta: [[1, 2, 3, 4], [0, 1, 0, -1]], b: [3, -3]}"
    cotangents = "w: {sum: [1, 2, 4], x: 1.0}"
    result = solve(tmp_path, f"sensitivity: {{products: [jacobian, {{jvp: {{{ones}, {many}}}}}, {{vjp: {{{cotangents}}}}}]}}\n")
    found = by_name(result)
    for of in ("x", "sum", "pair"):
        product = found["jvp", "many", of, ""]
        assert product.bound.total.shape == (2,)
        for index, name in enumerate(("one", "other")):
            one = found["jvp", name, of, ""]
            assert one.bound.total.shape == ()
            np.testing.assert_allclose(product.value[index], one.value, rtol=1e-12, atol=1e-15)
            assert one.bound.total / 3 <= product.bound.total[index] <= 3 * one.bound.total
            for part in ("theta", "b"):
                np.testing.assert_array_equal(product.direction[part][index], one.direction[part])
    # cotangents of a scalar, and a part that is the same for all
    for wrt in ("theta", "b", "idle"):
        of_sum, of_x = found["jacobian", "", "sum", wrt].value, found["jacobian", "", "x", wrt].value.sum(axis=0)
        for weight, value in zip((1, 2, 4), found["vjp", "w", "", wrt].value, strict=True):
            np.testing.assert_allclose(value, weight * of_sum + of_x, rtol=1e-12, atol=1e-14)
    np.testing.assert_array_equal(found["vjp", "w", "", "b"].direction["x"], np.ones((3, 3)))


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ("{theta: [[1, 2, 3, 4]], b: [1, 2]}", "found 2 directions, allowed: 1, as the parts before it have"),
        ("{theta: [[1, 2, 3]]}", r"found shape \(1, 3\), allowed: \(4\) or a single number, or \(k, 4\) for k directions at once"),
        ("{theta: [[[1, 2, 3, 4]]]}", r"found shape \(1, 1, 4\), allowed: \(4\)"),
    ],
)
def test_directions_that_do_not_agree(tmp_path, parts, message):
    with pytest.raises(InputError, match=message):
        prepare(tmp_path, f"sensitivity: {{products: [{{jvp: {{a: {parts}}}}}]}}\n")


# At a solution that is known


def test_at_a_stored_solution_everything_is_as_in_the_run(small):
    vectors, plan, run = small
    again = engine.differentiate_at(vectors, plan, run.solution, identity="7")
    assert (again.id, again.status, again.solver.name, again.solver.steps) == ("7", Status.OK, "stored", 0)
    assert again.solver.residual == run.solver.residual
    assert set(again.seconds) == {"differentiate", "certify"}
    for one, other in zip(run.products, again.products, strict=True):
        np.testing.assert_array_equal(one.value, other.value)
        np.testing.assert_array_equal(one.bound.total, other.bound.total)
    assert again.certificate == run.certificate


def test_a_stored_point_that_is_no_solution_is_told_so(small):
    vectors, plan, _ = small
    away = engine.differentiate_at(vectors, plan, {"x": np.full(7, 0.9)}, identity="0")
    assert away.status is Status.NOT_CONVERGED
    assert "at the stored solution" in away.message
    nowhere = engine.differentiate_at(vectors, plan, {"x": np.full(7, np.nan)}, identity="0")
    assert (nowhere.status, nowhere.products) == (Status.NOT_FINITE, ())


def test_an_accuracy_is_missed_by_the_worst_column(small):
    vectors, plan, run = small
    strict = dataclasses.replace(plan, accuracy=1e-17)
    result = engine.differentiate_at(vectors, strict, run.solution, identity="0")
    assert result.status is Status.ACCURACY_NOT_MET
    worst = 0.0
    for product in result.products:
        sizes = np.linalg.norm(product.value.reshape(-1, product.bound.total.size), axis=0)
        if sizes.any():
            worst = max(worst, product.bound.total.max() / sizes.max())
    assert f"known to {worst:.1e} relative" in result.message
