"""Colouring and assembly from a pattern, against the dense matrix."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from implicit_cli.core.linear import assembly
from implicit_cli.core.linear.base import Operator


def operator_of(A, pattern):
    return Operator(lambda p, U: p @ np.asarray(U), lambda p, U: p.T @ np.asarray(U), A, A.shape[0], False, pattern=pattern)


@given(st.integers(1, 12), st.integers(0, 40), st.integers(0, 1000))
def test_entries_are_read_back_whatever_the_pattern(d, count, seed):
    rng = np.random.default_rng(seed)
    rows, cols = rng.integers(d, size=(2, count))  # with duplicates
    A = np.zeros((d, d))
    A[rows, cols] = rng.normal(size=count)
    operator = operator_of(A, (rows, cols))
    np.testing.assert_allclose(assembly.sparse(operator).toarray(), A, atol=1e-14)
    np.testing.assert_allclose(assembly.dense(operator), A, atol=1e-14)
    np.testing.assert_allclose(assembly.dense(operator._replace(pattern=None)), A, atol=1e-14)


def test_a_banded_matrix_needs_as_many_colours_as_its_band_is_wide():
    d = 101
    i = np.arange(d)
    pattern = assembly.make_pattern(np.concatenate([i, i[1:], i[:-1]]), np.concatenate([i, i[:-1], i[1:]]), d)
    colours = assembly.colouring(pattern.rows.tobytes(), pattern.cols.tobytes(), d)
    assert colours.max() + 1 <= 5
    for shift in (1, 2):
        assert (colours[shift:] != colours[:-shift]).all()


def test_duplicate_entries_given_by_the_problem_are_summed():
    pattern = (np.array([0, 0, 1]), np.array([0, 0, 1]))
    operator = operator_of(np.eye(2), pattern)._replace(entries=lambda p: np.array([1.0, 2.0, 5.0]))
    np.testing.assert_array_equal(assembly.sparse(operator).toarray(), np.diag([3.0, 5.0]))


@pytest.mark.parametrize("pattern", [([0, 3], [0, 0]), ([0], [-1]), ([0, 1], [0])])
def test_a_pattern_that_makes_no_sense_is_refused(pattern):
    with pytest.raises(ValueError, match="pattern: found"):
        assembly.make_pattern(*map(np.array, pattern), 3)
