"""A few flipped bits in each run of the tests; `flips.py` flips as many as it is told to."""

import importlib.util
import random
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from implicit_cli import api, store

SCRIPT = Path(__file__).with_name("flips.py")


@pytest.fixture
def flips(monkeypatch):
    """The script, as a module."""
    spec = importlib.util.spec_from_file_location("flips", SCRIPT)
    found = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "flips", found)
    spec.loader.exec_module(found)
    return found


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
