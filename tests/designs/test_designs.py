"""The designs of sweeps, against witnesses of their own: itertools, SciPy's distributions, high precision, counting."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
import tracemalloc

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from implicit_cli import designs
from implicit_cli.designs import (
    Distribution,
    Levels,
    check_count,
    count_of,
    filled,
    grid,
    length_of,
    one_at_a_time,
    sampled,
    spaced,
    zipped,
)
from implicit_cli.designs.quantiles import BLOCK, quantile
from implicit_cli.errors import EnvironmentProblem, InputError

SEQUENCES = ("random", "latin_hypercube", "sobol", "halton")
CORNERS = ("saltelli", "morris", "fast")


def uniform(name: str, *shape: int, low: float = 0.0, high: float = 1.0) -> Distribution:
    return Distribution(name, "uniform", (np.full(shape, low), np.full(shape, high)))


def laws() -> list[Distribution]:
    """One distribution of each kind, one of them of a matrix."""
    return [
        Distribution(
            "u", "uniform", (np.array([[-1.0, 0.0, 2.0], [5.0, -3.0, 1.0]]), np.array([[1.0, 4.0, 3.0], [6.0, 7.0, 1.5]]))
        ),
        Distribution("l", "loguniform", (np.array(1e-4), np.array(1e2))),
        Distribution("n", "normal", (np.array([1.0, -2.0]), np.array([0.5, 3.0]))),
        Distribution("t", "truncated_normal", (np.array([0.0]), np.array([2.0]), np.array([1.0]), np.array([9.0]))),
    ]


def witness(axis: Distribution, index: tuple[int, ...]):
    """SciPy's distribution of one entry."""
    numbers = [float(part[index]) for part in axis.arguments]
    match axis.kind:
        case "uniform":
            return stats.uniform(numbers[0], numbers[1] - numbers[0])
        case "loguniform":
            return stats.loguniform(*numbers)
        case "normal":
            return stats.norm(*numbers)
        case _:
            mean, deviation, low, high = numbers
            return stats.truncnorm((low - mean) / deviation, (high - mean) / deviation, mean, deviation)


def same(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> bool:
    return list(first) == list(second) and all(
        (a.shape, a.dtype, a.tobytes()) == (second[name].shape, second[name].dtype, second[name].tobytes())
        for name, a in first.items()
    )


# Levels

AXES = st.lists(st.integers(1, 5), min_size=1, max_size=4).map(
    lambda lengths: [
        Levels(f"x{i}", np.arange(10.0 * i, 10.0 * i + length * (i + 1)).reshape(length, *((i + 1,) if i else ())))
        for i, length in enumerate(lengths)
    ]
)


@given(AXES)
def test_a_grid_is_the_product_in_the_order_of_itertools(axes):
    design = grid(axes)
    found = design.rows(0, design.count)
    expected = list(itertools.product(*(axis.values for axis in axes)))
    assert (design.count, design.names) == (len(expected), tuple(axis.name for axis in axes))
    for name, column in zip(design.names, zip(*expected, strict=True), strict=True):
        np.testing.assert_array_equal(found[name], np.stack(column))


def designs_of(axes: list[Levels]) -> list[designs.Design]:
    shortest = min(len(axis.values) for axis in axes)
    base = {axis.name: axis.values[0] for axis in axes}
    return [grid(axes), zipped([Levels(axis.name, axis.values[:shortest]) for axis in axes]), one_at_a_time(axes, base)]


@given(AXES, st.data())
def test_a_run_of_cases_is_that_part_of_the_whole(axes, data):
    for design in [*designs_of(axes), sampled("halton", [uniform("a", 2), uniform("b")], 7, 1)]:
        start = data.draw(st.integers(0, design.count))
        stop = data.draw(st.integers(start, design.count))
        whole = design.rows(0, design.count)
        assert same(design.rows(start, stop), {name: values[start:stop] for name, values in whole.items()})


@pytest.mark.parametrize(("start", "stop"), [(-1, 1), (2, 1), (0, 7), (7, 7)])
def test_cases_that_are_not_there(start, stop):
    axes = [Levels("a", np.arange(2)), Levels("b", np.arange(3))]
    for design in (grid(axes), one_at_a_time(axes, {"a": np.array(7), "b": np.array(7)}), zipped([Levels("a", np.arange(6))])):
        assert design.count == 6
        with pytest.raises(ValueError, match="allowed: within 0 to 6"):
            design.rows(start, stop)
    with pytest.raises(ValueError, match="allowed: within 0 to 6"):
        sampled("random", [uniform("a")], 6, 0).rows(start, stop)


def test_a_grid_of_absurd_size_takes_no_memory_and_knows_its_cases():
    axes = [Levels(f"x{i}", np.arange(1000)) for i in range(9)]
    design = grid(axes)
    assert design.count == 10**27
    tracemalloc.start()
    found = design.rows(123_456_789_012_345_678_901_234_998, 123_456_789_012_345_678_901_235_001)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100_000
    digits = [[int(str(found[f"x{i}"][row])) for i in range(9)] for row in range(3)]
    assert digits == [
        [123, 456, 789, 12, 345, 678, 901, 234, 998],
        [123, 456, 789, 12, 345, 678, 901, 234, 999],
        [123, 456, 789, 12, 345, 678, 901, 235, 0],
    ]


def test_side_by_side():
    design = zipped([Levels("a", np.array([1, 2, 3])), Levels("b", np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]))])
    found = design.rows(1, 3)
    assert (design.count, design.names) == (3, ("a", "b"))
    assert (found["a"].tolist(), found["b"].tolist()) == ([2, 3], [[3.0, 4.0], [5.0, 6.0]])
    with pytest.raises(
        InputError, match=r"^found 2 of 'a', 1,000 of 'b', allowed with design 'zip': as many values of each target$"
    ):
        zipped([Levels("a", np.arange(2)), Levels("b", np.arange(1000))])


def test_one_at_a_time_leaves_out_what_is_the_base():
    axes = [Levels("a", np.array([1, 2, 3])), Levels("b", np.array([[1.0, 2.0], [1.0, 3.0]])), Levels("c", np.array([5]))]
    design = one_at_a_time(axes, {"a": np.array(2.0), "b": np.array([1.0, 2.0]), "c": np.array(5)})
    found = design.rows(0, design.count)
    assert (design.count, design.names) == (4, ("a", "b", "c"))
    assert found["a"].tolist() == [2, 1, 3, 2]
    assert found["b"].tolist() == [[1, 2], [1, 2], [1, 2], [1, 3]]
    assert found["c"].tolist() == [5, 5, 5, 5]
    # Integer levels do not round the base value.
    assert one_at_a_time([Levels("a", np.array([1]))], {"a": np.array(2.5)}).rows(0, 2)["a"].tolist() == [2.5, 1.0]
    with pytest.raises(ValueError, match="base of shape"):
        one_at_a_time([Levels("a", np.array([1]))], {"a": np.array([2.5])})


def test_axes_need_names_of_their_own_and_levels():
    for wrong in ([], [Levels("a", np.arange(2)), Levels("a", np.arange(2))]):
        for make in (grid, zipped, lambda axes: one_at_a_time(axes, {"a": np.array(0)})):
            with pytest.raises(ValueError, match="allowed: at least one, each with a name of its own"):
                make(wrong)
    for values in (np.array(1.0), np.empty((0, 2))):
        with pytest.raises(ValueError, match="allowed: "):
            Levels("a", values)
    with pytest.raises(ValueError, match="read-only"):
        Levels("a", np.arange(3)).values[0] = 1


# Counts


def test_counts_agree_with_the_designs():
    axes = [Levels("a", np.arange(4)), Levels("b", np.arange(4))]
    lengths = [4, 4]
    assert count_of("grid", lengths=lengths) == grid(axes).count == 16
    assert count_of("zip", lengths=lengths) == zipped(axes).count == 4
    assert count_of("one_at_a_time", lengths=lengths) == one_at_a_time(axes, {"a": np.array(9), "b": np.array(9)}).count == 9
    for method in designs.SAMPLED:
        for second_order in (False, True):
            design = sampled(method, laws(), 128, 1, second_order=second_order)
            assert count_of(method, samples=128, entries=10, second_order=second_order) == design.count
            assert design.values.shape == (design.count, 10)
    assert [count_of(m, samples=10, entries=3) for m in ("sobol", "saltelli", "morris", "fast")] == [10, 50, 40, 30]
    assert count_of("saltelli", samples=10, entries=3, second_order=True) == 80


def test_an_absurd_count_is_told_exactly():
    count = count_of("grid", lengths=[10**5] * 4)
    with pytest.raises(InputError, match=r"^found 100,000,000,000,000,000,000 cases, allowed: at most 1,000,000$"):
        check_count(count, 10**6)
    check_count(10**6, 10**6)
    with pytest.raises(InputError, match=r"found the design 'gird', allowed: .*; did you mean 'grid'"):
        count_of("gird", lengths=[1])


# Levels by a rule


@pytest.mark.parametrize(
    ("rule", "arguments", "expected"),
    [
        ("linspace", (0, 1, 5), [0.0, 0.25, 0.5, 0.75, 1.0]),
        ("linspace", (3, 0, 2), [3.0, 0.0]),
        ("linspace", (3, 0, 1), [3.0]),
        ("geomspace", (1, 1000, 4), [1.0, 10.0, 100.0, 1000.0]),
        ("geomspace", (-1, -4, 3), [-1.0, -2.0, -4.0]),
        ("logspace", (-1, 1, 3), [0.1, 1.0, 10.0]),
        ("integers", (-1, 2), [-1, 0, 1, 2]),
        ("integers", (2**63 - 2, 2**63 - 1), [2**63 - 2, 2**63 - 1]),
    ],
)
def test_rules(rule, arguments, expected):
    found = spaced(rule, arguments)
    assert (len(found), found.dtype.kind) == (length_of(rule, arguments), "i" if rule == "integers" else "f")
    if rule == "integers":
        assert found.tolist() == expected
    else:
        np.testing.assert_allclose(found, expected, rtol=1e-15)


def test_rules_of_targets_with_a_shape():
    found = spaced("linspace", ([0.0, 1.0], 2.0, 3), shape=(2,))
    assert found.tolist() == [[0, 1], [1, 1.5], [2, 2]]
    assert spaced("integers", (1, 2), shape=(1, 2)).tolist() == [[[1, 1]], [[2, 2]]]
    base = np.array([0.1, 0.7])
    found = spaced("centred", ([0.5, 1.0], 1), shape=(2,), base=base)
    np.testing.assert_allclose(found, [[-0.4, -0.3], [0.1, 0.7], [0.6, 1.7]], rtol=1e-15)
    assert found[1].tobytes() == base.tobytes()
    assert spaced("centred", (3, 1), base=np.array(5)).dtype == np.int64
    with pytest.raises(InputError, match=r"found the shape \(3,\), allowed: one number, or the shape \(2,\)"):
        spaced("linspace", ([1, 2, 3], 0, 5), shape=(2,))


def test_rules_without_an_answer():
    with pytest.raises(InputError, match="found 1,000,000,000,000 levels of shape"):
        spaced("linspace", (0, 1, 10**12))
    with pytest.raises(InputError, match="found levels that are not finite"):
        spaced("linspace", (-1e308, 1e308, 5))
    with pytest.raises(InputError, match="found 0 levels"):
        spaced("integers", (2, 1))
    with pytest.raises(InputError, match=r"found the rule 'linspac', allowed: .*; did you mean 'linspace'"):
        spaced("linspac", (0, 1, 2))
    assert filled(2, (3,)).tolist() == [2, 2, 2]


# Distributions


@pytest.mark.parametrize("method", SEQUENCES)
def test_every_entry_has_its_distribution(method):
    """Kolmogorov-Smirnov: the seed is fixed, and of 40 true distributions none is to look wrong at 1 in 10,000."""
    design = sampled(method, laws(), 2048, 3)
    rows = design.rows(0, design.count)
    for axis in laws():
        assert rows[axis.name].shape == (2048, *axis.shape)
        for index in np.ndindex(axis.shape):
            shares = witness(axis, index).cdf(rows[axis.name][(slice(None), *index)])
            assert stats.kstest(shares, "uniform").pvalue > 1e-4, (axis.name, index)
            # ... and another one would be seen.
            assert stats.kstest(shares**1.3, "uniform").pvalue < 1e-4, (axis.name, index)


def test_entries_are_independent():
    values = sampled("random", laws(), 20_000, 5).values
    values = np.column_stack([values[:, :6], np.log(values[:, 6]), values[:, 7:]])
    correlations = np.corrcoef(values.T) - np.eye(10)
    assert abs(correlations).max() < 5 / math.sqrt(20_000)


POINTS = np.array([0.0, 1e-300, 1e-12, 0.1, 0.25, 0.5, 0.9, 1 - 1e-12, 1.0])


@pytest.mark.parametrize("axis", laws(), ids=lambda axis: axis.kind)
def test_quantiles_are_those_of_scipy(axis):
    for index in np.ndindex(axis.shape):
        arguments = [part[index] for part in axis.arguments]
        kept = np.clip(POINTS, 2.0**-53, 1 - 2.0**-53) if axis.kind == "normal" else POINTS
        np.testing.assert_allclose(quantile(axis.kind, arguments, POINTS), witness(axis, index).ppf(kept), rtol=1e-12, atol=1e-15)


def exact(mean: float, deviation: float, low: float, high: float, point: float) -> mpmath.mpf:
    """Distance of a truncated normal's quantile from `low`, by bisection with 80 digits."""
    with mpmath.workdps(80):
        a, b = ((mpmath.mpf(edge) - mean) / deviation for edge in (low, high))
        sign = 1 if a > 0 else -1
        # The tail on the side of the mean that is farther: differences of small numbers, not of numbers near 1.
        tail = lambda x: mpmath.erfc(sign * x / mpmath.sqrt(2))  # noqa: E731
        wanted = tail(a) + mpmath.mpf(point) * (tail(b) - tail(a))
        left, right = a, b
        for _ in range(400):
            middle = (left + right) / 2
            if (tail(middle) - wanted) * (tail(b) - tail(a)) < 0:
                left = middle
            else:
                right = middle
        return (left - a) * deviation


@pytest.mark.parametrize(
    ("arguments", "tolerance"),
    [
        ((0.0, 1.0, -1.0, 2.0), 1e-14),
        ((0.0, 1.0, 4.5, 9.0), 1e-13),
        ((0.0, 1.0, 5.5, 9.0), 1e-13),
        ((0.0, 2.0, -80.0, -78.0), 1e-13),
        ((0.0, 2.0, -80.0, -79.999), 1e-12),
        ((1.0, 1.0, 31.0, 1e6), 1e-13),
        ((0.0, 1.0, 300.0, 301.0), 1e-13),
        ((-1.0, 1e-6, 0.0, 1.0), 1e-13),
        ((-1.0, 1e-6, 0.0, 1e-15), 1e-12),
        ((0.0, 1e-6, -2.0, -1.0), 1e-13),
        ((0.0, 1.0, 1e-3, 1e-3 + 1e-12), 1e-8),
        ((0.0, 1.0, -1e-10, 1e-10), 1e-8),
    ],
    ids=str,
)
def test_a_truncated_normal_is_right_far_in_its_tail(arguments, tolerance):
    """Errors in units of the distribution's own width, or of what the numbers themselves resolve."""
    mean, deviation, low, high = arguments
    points = np.array([1e-10, 0.1, 0.5, 0.9, 1 - 1e-10])
    found = quantile("truncated_normal", [np.array(part) for part in arguments], points)
    offsets = [exact(mean, deviation, low, high, float(point)) for point in points]
    for point, value, offset in zip(points, found, offsets, strict=True):
        error = float(abs(mpmath.mpf(value) - low - offset))
        assert error <= tolerance * float(offsets[3] - offsets[1]) + 2 * np.spacing(abs(value)), point
    ends = quantile("truncated_normal", [np.array(part) for part in arguments], np.array([0.0, 1.0]))
    assert ends.tolist() == [low, high]


@given(st.floats(-1e300, 1e300), st.floats(1e-300, 1e300), st.floats(-1e300, 1e300), st.floats(-1e300, 1e300), st.floats(0, 1))
def test_a_truncated_normal_lies_between_its_bounds_whatever_they_are(mean, deviation, one, other, point):
    low, high = sorted((one, other))
    if low < high:
        found = quantile("truncated_normal", [np.array(x) for x in (mean, deviation, low, high)], np.array([point]))
        assert low <= found[0] <= high


@given(st.floats(-1e308, 1e308), st.floats(-1e308, 1e308), st.floats(0, 1))
def test_a_uniform_distribution_lies_between_its_bounds_whatever_they_are(one, other, point):
    low, high = sorted((one, other))
    if low < high:
        assert low <= quantile("uniform", [np.array(low), np.array(high)], np.array([point]))[0] <= high


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        ("uniform", ([0.0, 2.0], [1.0, 1.0]), r"a: found LOW 2.0, HIGH 1.0 at \[1\], allowed: LOW below HIGH, all finite"),
        ("loguniform", (0.0, 1.0), "a: found LOW 0.0, HIGH 1.0, allowed: LOW above 0 and below HIGH, all finite"),
        ("normal", (0.0, 0.0), "a: found MEAN 0.0, DEVIATION 0.0, allowed: DEVIATION above 0, all finite"),
        ("normal", (math.nan,), "a: found MEAN nan, allowed: DEVIATION above 0, all finite"),
        ("truncated_normal", (0.0, 1.0, 1.0, math.inf), "allowed: DEVIATION above 0 and LOW below HIGH, all finite"),
        ("uniform", (0.0,), r"a: found 1 arguments, allowed: \[LOW, HIGH\]"),
        ("unifrom", (0.0, 1.0), "a: found 'unifrom', allowed: .*; did you mean 'uniform'"),
    ],
)
def test_what_is_no_distribution(kind, arguments, message):
    with pytest.raises(InputError, match=message):
        Distribution("a", kind, tuple(np.array(part) for part in arguments))


def test_arguments_have_one_shape():
    with pytest.raises(ValueError, match="allowed: the target's shape"):
        Distribution("a", "uniform", (np.zeros(2), np.ones(3)))


# Points


@pytest.mark.parametrize("method", designs.SAMPLED)
def test_the_same_seed_gives_the_same_points_and_another_one_others(method):
    first, second, other = (sampled(method, laws(), 128, seed) for seed in (0, 0, 2**70))
    assert first.values.tobytes() == second.values.tobytes()
    assert not np.array_equal(first.values, other.values)
    assert np.isfinite(first.values).all()
    with pytest.raises(ValueError, match="read-only"):
        first.values[0] = 0


@pytest.mark.parametrize("method", ["random", "sobol", "halton"])
@pytest.mark.parametrize("covariance", [None, np.diag(np.arange(1.0, 41.0)) + 0.5])
def test_more_samples_keep_the_earlier_points_bit_for_bit(method, covariance):
    """Whatever the size: in 40 dimensions products of matrices are rounded otherwise for 1 row than for 64."""
    arguments = (np.zeros(40),) if covariance is not None else (np.zeros(40), np.ones(40))
    axes = [Distribution("a", "normal", arguments)]
    if covariance is None:
        axes.append(Distribution("l", "loguniform", (np.array(0.1), np.array(3.0))))
    whole = sampled(method, axes, 2 * BLOCK, 7, covariance=covariance).values
    for samples in (1, 2, 8, 64, BLOCK):
        assert sampled(method, axes, samples, 7, covariance=covariance).values.tobytes() == whole[:samples].tobytes()
    # What this says is not that all rows are the same.
    assert len(np.unique(whole, axis=0)) == len(whole)


@pytest.mark.parametrize("samples", [1, 5, 100])
def test_a_latin_hypercube_has_one_point_in_each_stratum(samples):
    values = sampled("latin_hypercube", [uniform("a", 3)], samples, 2).values
    np.testing.assert_array_equal(np.sort(np.floor(values * samples), axis=0), np.repeat(np.arange(samples)[:, None], 3, axis=1))


@pytest.mark.parametrize("method", ["sobol", "saltelli"])
def test_sobols_points_are_balanced(method):
    """Every aligned run of 2^k points has one in each interval of length 2^-k, in every dimension."""
    values = sampled(method, [uniform("a", 3)], 64, 2).values
    points = values if method == "sobol" else values[::5]
    for size in (2, 16, 64):
        for part in points.reshape(-1, size, 3):
            np.testing.assert_array_equal(np.sort(np.floor(part * size), axis=0), np.repeat(np.arange(size)[:, None], 3, axis=1))


@pytest.mark.parametrize("method", ["sobol", "halton"])
def test_low_discrepancy(method):
    spread = {name: stats.qmc.discrepancy(sampled(name, [uniform("a", 3)], 256, 4).values) for name in (method, "random")}
    assert spread[method] < spread["random"] / 5


@pytest.mark.parametrize("second_order", [False, True])
def test_saltellis_blocks(second_order):
    """Rows A, then AB_i, A with column i of B, then, with second order, BA_i, and B; for each base sample."""
    d, n = 4, 8
    values = sampled("saltelli", [uniform("a", 2), uniform("b", 2, low=3.0, high=5.0)], n, 1, second_order=second_order).values
    blocks = values.reshape(n, 2 * d + 2 if second_order else d + 2, d)
    a, b = blocks[:, 0], blocks[:, -1]
    assert (a != b).all()
    for i in range(d):
        expected = a.copy()
        expected[:, i] = b[:, i]
        np.testing.assert_array_equal(blocks[:, 1 + i], expected)
        if second_order:
            expected = b.copy()
            expected[:, i] = a[:, i]
            np.testing.assert_array_equal(blocks[:, 1 + d + i], expected)


@pytest.mark.parametrize("levels", [2, 4, 6])
@pytest.mark.parametrize("normal", [False, True])
def test_morris_neighbours_differ_in_one_entry_each_once(levels, normal):
    axes = [uniform("a", 3)] + ([Distribution("n", "normal", (np.zeros(2), np.ones(2)))] if normal else [])
    d, n = 5 if normal else 3, 30
    design = sampled("morris", axes, n, 6, levels=levels)
    steps = np.diff(design.values.reshape(n, d + 1, d), axis=1)
    moved = steps != 0
    assert (moved.sum(axis=2) == 1).all()
    assert (moved.sum(axis=1) == 1).all()
    shares = (np.arange(levels) + 0.5) / levels if normal else np.arange(levels) / (levels - 1)
    np.testing.assert_allclose(np.unique(design.rows(0, design.count)["a"]), shares, rtol=1e-15)
    if normal:
        np.testing.assert_allclose(np.unique(design.rows(0, design.count)["n"]), stats.norm.ppf(shares), rtol=1e-12, atol=1e-15)


def test_fast_searches_each_entry_with_the_highest_frequency():
    """In its own rows an entry turns floor((N - 1) / 8) times, the others at most an eighth of that: so the analysis expects."""
    n, d = 257, 3
    values = sampled("fast", [uniform("a", d)], n, 1).values.reshape(d, n, d)
    for block in range(d):
        for entry in range(d):
            turns = np.argmax(abs(np.fft.rfft(values[block, :, entry] - 0.5)))
            assert turns == 32 if entry == block else turns <= 4
    assert values.min() >= 0
    assert values.max() <= 1


# Correlations

COVARIANCE = np.array([[4.0, 1.0, -0.5], [1.0, 1.5, 0.0], [-0.5, 0.0, 9.0]])


@pytest.mark.parametrize("method", SEQUENCES)
def test_the_covariance_comes_back(method):
    axes = [Distribution("a", "normal", (np.array([1.0, -2.0]),)), Distribution("b", "normal", (np.array(5.0),))]
    values = sampled(method, axes, 16_384, 8, covariance=COVARIANCE).values
    deviations = np.sqrt(COVARIANCE.diagonal())
    assert (abs(values.mean(axis=0) - [1.0, -2.0, 5.0]) < 5 * deviations / math.sqrt(16_384)).all()
    assert (abs(np.cov(values.T) - COVARIANCE) < 5 * np.outer(deviations, deviations) * math.sqrt(2 / 16_384)).all()
    for entry in range(3):
        assert stats.kstest(values[:, entry], stats.norm([1.0, -2.0, 5.0][entry], deviations[entry]).cdf).pvalue > 1e-4


def test_a_diagonal_covariance_is_none():
    pair = (
        [Distribution("a", "normal", (np.array([1.0, -2.0]),))],
        [Distribution("a", "normal", (np.array([1.0, -2.0]), np.array([2.0, 3.0])))],
    )
    first = sampled("sobol", pair[0], 64, 1, covariance=np.diag([4.0, 9.0])).values
    np.testing.assert_allclose(first, sampled("sobol", pair[1], 64, 1).values, rtol=1e-14)


@pytest.mark.parametrize(
    ("covariance", "message"),
    [
        (np.eye(3), r"found a covariance of shape \(3, 3\), allowed: \(2, 2\), for all entries that vary"),
        (np.ones(4), r"found a covariance of shape \(4,\), allowed: \(2, 2\)"),
        ([[1.0, math.nan], [0.0, 1.0]], "found a covariance that is not finite"),
        ([[1.0, 0.5], [0.4, 1.0]], r"found 0.5 at \[0, 1\] of the covariance and 0.4 at \[1, 0\], allowed: a symmetric matrix"),
        ([[1.0, 0.0], [0.0, -1.0]], r"found the variance -1 at \[1, 1\] of the covariance, allowed: above 0"),
        (
            [[1.0, 2.0], [2.0, 1.0]],
            "found a covariance whose correlations have the eigenvalue -1, allowed: a positive definite matrix",
        ),
        ([[1.0, 1e-3], [1e-3, 1e-6]], "allowed: a positive definite matrix"),
    ],
)
def test_what_is_no_covariance(covariance, message):
    with pytest.raises(InputError, match=message):
        sampled("random", [Distribution("a", "normal", (np.zeros(2),))], 4, 0, covariance=np.array(covariance))


# Settings


@pytest.mark.parametrize(
    ("method", "axes", "samples", "settings", "message"),
    [
        ("sobl", [uniform("a")], 4, {}, "found the design 'sobl', allowed: .*; did you mean 'sobol'"),
        ("random", [uniform("a")], 0, {}, "found 0 samples, allowed with design 'random': at least 1"),
        ("fast", [uniform("a")], 64, {}, "found 64 samples, allowed with design 'fast': at least 65"),
        ("sobol", [uniform("a")], 6, {}, "found 6 samples, allowed with design 'sobol': a power of two"),
        (
            "saltelli",
            [uniform("a", 10_601)],
            2,
            {},
            "found 10,601 entries that vary, allowed with design 'saltelli': at most 10,600",
        ),
        ("sobol", [uniform("a", 21_202)], 2, {}, "found 21,202 entries that vary, allowed with design 'sobol': at most 21,201"),
        ("morris", [uniform("a")], 2, {"levels": 3}, "found 3 levels, allowed: an even number"),
        ("random", [uniform("a", 1000)], 10**6, {}, "found 1,000,000 cases of 1,000 entries, 7.45 GiB, allowed: 4 GiB"),
        ("random", [Distribution("a", "normal", (np.zeros(2),))], 4, {}, "a: found a normal distribution without DEVIATION"),
        (
            "morris",
            [Distribution("a", "normal", (np.zeros(2),))],
            4,
            {"covariance": np.eye(2)},
            "found a covariance with design 'morris'",
        ),
        ("random", [uniform("a", 2)], 4, {"covariance": np.eye(2)}, "a: found another distribution beside a covariance"),
        ("random", [Distribution("a", "normal", (np.array(1e308), np.array(1e308)))], 64, {}, "found values that are not finite"),
    ],
)
def test_settings_that_do_not_fit(method, axes, samples, settings, message):
    with pytest.raises(InputError, match=message):
        sampled(method, axes, samples, 0, **settings)


@pytest.mark.parametrize("method", CORNERS)
def test_without_salib_it_is_said_how_to_get_it(method, monkeypatch):
    for name in ("sobol", "morris", "fast_sampler"):
        monkeypatch.setitem(sys.modules, f"SALib.sample.{name}", None)
    with pytest.raises(EnvironmentProblem, match=rf"^design '{method}' needs SALib: pip install 'implicit-cli\[analysis\]'$"):
        sampled(method, [uniform("a")], 128, 0)
    assert sampled("sobol", [uniform("a")], 128, 0).count == 128


def test_what_is_slow_to_import_is_imported_when_it_is_asked_for():
    code = """
import sys
import numpy as np
from implicit_cli.designs import *
heavy = {"jax", "scipy", "SALib", "pandas", "matplotlib", "h5py", "pydantic"}
first = heavy & set(sys.modules)
grid([Levels("a", np.arange(3))]).rows(0, 3)
second = heavy & set(sys.modules)
sampled("sobol", [Distribution("a", "normal", (np.zeros(2), np.ones(2)))], 4, 0)
print(first, second, sorted(heavy & set(sys.modules)))
"""
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set() set() ['scipy']\n"
    )
