import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from implicit_cli.store.nodes import longest, norm

from .conftest import filled


@given(st.lists(st.floats(-1e300, 1e300), max_size=10))
def test_norms_do_not_overflow(values):
    assert norm(np.array(values, float)) == pytest.approx(math.hypot(*values), rel=1e-12)


@given(st.integers(0, 4), st.integers(0, 3), st.floats(0, 1e300))
def test_the_longest_column(rows, columns, scale):
    matrix = scale * filled(rows, columns)
    expected = max((math.hypot(*column) for column in matrix.T), default=0.0)
    assert longest(matrix) == pytest.approx(expected, rel=1e-12)
