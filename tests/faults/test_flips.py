"""A few flipped bits in each run of the tests; `flips.py` flips as many as it is told to."""

import random

import h5py
import numpy as np
import pytest

from implicit_cli import api, store


@pytest.fixture
def flips(script):
    """The script, as a module."""
    return script("flips")


@pytest.fixture
def result(samples, tmp_path):
    """A result file."""
    api.run(str(samples / "ridge.yaml"), tmp_path / "out.h5")
    return tmp_path / "out.h5"


def test_every_flipped_bit_is_noticed(flips, result):
    before = result.read_bytes()
    seen = flips.flip(result, 150, random.Random(11))
    assert seen.total() == 150
    assert min(seen.values()) > 20
    assert result.read_bytes() == before


def test_a_bit_that_nobody_notices_is_a_fault(flips, result, monkeypatch):
    monkeypatch.setattr(store, "integrity", lambda path: None)
    with pytest.raises(flips.Fault, match="a bit has changed, and it is taken for whole"):
        flips.flip(result, 1, random.Random(0))


def test_another_value_is_a_fault(flips, tmp_path):
    with h5py.File(tmp_path / "plain.h5", "w") as file:
        file.create_dataset("x", data=np.arange(4.0), chunks=(4,))
    before = np.arange(4.0)
    assert not flips.read(tmp_path / "plain.h5", "/x", before)
    assert flips.read(tmp_path / "plain.h5", "/x", before[::-1])
    (chunk,) = flips.chunks(tmp_path / "plain.h5")
    assert (chunk.dataset, chunk.end - chunk.begin) == ("/x", 32)
