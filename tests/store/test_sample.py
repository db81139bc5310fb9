"""A sweep as a sample of inputs and outputs: which entries are meant, and what is refused."""

from pathlib import Path

import numpy as np
import pytest

from implicit_cli import api
from implicit_cli.errors import InputError
from implicit_cli.store import sample as module
from implicit_cli.store.sample import read_sample

SAMPLES = Path(__file__).resolve().parents[2] / "sample_inputs"
SWEEP = "sweep={over: {'price[1]': [1.0, 2.0], income: [50.0, 100.0]}, design: grid}"


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    path = tmp_path_factory.mktemp("sample") / "s.h5"
    api.run(str(SAMPLES / "expression.yaml"), path, overrides=[SWEEP])
    return path


def test_inputs_and_outputs_of_each_case(sweep):
    found = read_sample(sweep, ["share"])
    assert found.theta.shape == (4, 2)
    assert sorted(set(found.theta[:, 0])) == [1.0, 2.0]
    assert found.outputs == tuple(f"share[{good}]" for good in ("bread", "milk", "tea", "cake"))
    np.testing.assert_allclose(found.y[found.good].sum(axis=1), 1.0, atol=1e-9)  # shares of the income
    one = read_sample(sweep, ["share[milk]", "share[3]"])
    np.testing.assert_array_equal(one.y, found.y[:, [1, 3]])


@pytest.mark.parametrize(
    ("of", "message"),
    [
        ("sahre", "--of: found 'sahre', allowed: .*; did you mean 'share'?"),
        ("share[milk, tea]", r"--of: found 'share\[milk, tea\]', allowed: 1 indices, for the shape \(4,\)"),
        ("share[mlik]", r"--of: found 'mlik' in share\[mlik\], allowed: 'bread', 'cake', 'milk', 'tea'; did you mean 'milk'\?"),
        ("share[4]", r"--of: found '4' in share\[4\], allowed: 'bread', 'cake', 'milk', 'tea'"),
    ],
)
def test_an_output_that_is_not_there(sweep, of, message):
    with pytest.raises(InputError, match=message):
        read_sample(sweep, [of])


def test_more_numbers_than_an_analysis_takes(sweep, monkeypatch):
    monkeypatch.setattr(module, "MOST_ENTRIES", 3)
    with pytest.raises(InputError, match=r"found 4 entries of share, allowed: at most 3, or one: --of 'share\[0\]'"):
        read_sample(sweep, ["share"])
    with pytest.raises(InputError, match="found 4 entries of outputs, allowed: at most 3; fewer by --of"):
        read_sample(sweep, [f"share[{i}]" for i in range(4)])
    monkeypatch.setattr(module, "MOST_ENTRIES", 1)
    with pytest.raises(InputError, match="found 2 numbers that vary, allowed: at most 1"):
        read_sample(sweep, ["share[0]"])
