import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from implicit_cli.store.products import largest


@given(st.lists(st.sampled_from([0.0, 1.0, -1.0, 2.5, -3.0, math.nan, math.inf]), max_size=30), st.integers(0, 12))
def test_the_largest_entries(values, count):
    finite = [place for place, value in enumerate(values) if math.isfinite(value)]
    expected = sorted(finite, key=lambda place: (-abs(values[place]), place))[:count]
    assert largest(np.array(values, float), count) == expected
