"""Two runs on one output at once: the result is whole, and whoever is late loses nothing of what the other one has finished."""

import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from implicit_cli import api, store
from implicit_cli.api import solving
from implicit_cli.errors import EnvironmentProblem

OUT, PARTS = Path("o.h5"), Path("o.h5.parts")


@pytest.fixture
def meanwhile(here, monkeypatch):
    """Has something happen when a sweep knows what is done, and begins with the rest."""

    def during(happens):
        computing = solving.here

        def here_and_now(*arguments):
            monkeypatch.setattr(solving, "here", computing)
            happens()
            computing(*arguments)

        monkeypatch.setattr(solving, "here", here_and_now)

    return during


def penalties():
    with h5py.File(OUT) as file:
        return file["cases/parameters/penalty"][:, 0]


@pytest.mark.parametrize("done", [[], ["1/2"]])
def test_a_sweep_that_ends_after_another_one_has_all_cases(meanwhile, done):
    """The other one has made OUT of all parts, and has removed them."""
    for shard in done:
        api.run("sweep.yaml", OUT, shard=shard)
    meanwhile(lambda: api.run("sweep.yaml", OUT))
    report = api.run("sweep.yaml", OUT)
    assert report.counts.total() == 8
    np.testing.assert_array_equal(penalties(), np.linspace(0.5, 2.0, 8))
    assert not PARTS.exists()


def test_a_sweep_whose_last_parts_are_taken_has_all_cases(here, monkeypatch):
    """The other one ends between the last case of this one and its look at what is there."""
    computing = solving.here

    def ended(*arguments):
        computing(*arguments)
        monkeypatch.setattr(solving, "here", computing)
        api.run("sweep.yaml", OUT)

    monkeypatch.setattr(solving, "here", ended)
    assert api.run("sweep.yaml", OUT).counts.total() == 8
    assert not PARTS.exists()


def test_parts_that_vanish_are_told_and_an_earlier_result_stays(meanwhile):
    OUT.write_bytes(b"earlier")
    api.run("sweep.yaml", OUT, shard="1/2")
    meanwhile(lambda: shutil.rmtree(PARTS))
    with pytest.raises(EnvironmentProblem) as caught:
        api.run("sweep.yaml", OUT)
    assert str(caught.value) == (
        "o.h5.parts: 4 of 8 finished cases are no longer there, as where another process writes o.h5: "
        "the same command goes on from the others"
    )
    assert OUT.read_bytes() == b"earlier"
    assert sum(len(store.read_outcomes(part).ids) for part in PARTS.glob("*.h5")) == 4
    assert api.run("sweep.yaml", OUT).counts.total() == 8


def test_parts_that_are_damaged_meanwhile_are_named(meanwhile):
    api.run("sweep.yaml", OUT, shard="1/2")
    (part,) = PARTS.glob("*.h5")

    def damage():
        content = bytearray(part.read_bytes())
        content[len(content) // 2] ^= 1
        part.write_bytes(content)

    meanwhile(damage)
    with pytest.raises(
        EnvironmentProblem, match=rf"{part}: damaged.*; set aside as .*\n.*: 4 of 8 finished cases are no longer there"
    ):
        api.run("sweep.yaml", OUT)
    assert not OUT.exists()
    assert api.run("sweep.yaml", OUT).counts.total() == 8


@pytest.mark.slow
@pytest.mark.parametrize("words", [["sweep.yaml"], ["one.yaml"], ["one.yaml", "--set", "sensitivity.memory=1"]], ids=" ".join)
def test_two_processes_end_well_and_the_result_is_whole(here, words):
    command = [sys.executable, "-m", "implicit_cli", "run", *words, "-q", "-o", "o.h5"]
    both = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=300)[1] for process in both]
    assert ([process.returncode for process in both], said) == ([0, 0], ["", ""])
    api.run(words[0], Path("alone.h5"))
    assert api.compare(OUT, Path("alone.h5")).verdict == "agree"
    assert store.read_outcomes(OUT).ids == store.read_outcomes(Path("alone.h5")).ids
    assert {path.name for path in here.iterdir()} == {"one.yaml", "sweep.yaml", "o.h5", "alone.h5"}
