"""A few random kills in each run of the tests; `kills.py` deals as many as it is told to."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("kills.py")


@pytest.mark.slow
def test_a_killed_sweep_goes_on_and_nothing_finished_is_lost():
    words = ["--kills", "3", "--cases", "150", "--seed", "5", "--saved-every", "0.1", "--most-files", "3"]
    done = subprocess.run([sys.executable, str(SCRIPT), *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    last = done.stdout.splitlines()[-1]
    assert re.fullmatch(r"3 kills, \d+ sweeps: 0 finished cases lost, 0 unreadable files, all results complete", last)


# What the script would say if something were wrong


@pytest.fixture
def kills(script):
    """The script, as a module."""
    return script("kills")


@pytest.fixture
def sweep(kills, tmp_path):
    """A sweep of which nothing is there."""
    sweep = kills.Sweep(tmp_path / "sweep", [])
    sweep.parts.mkdir(parents=True)
    sweep.log.write_text("implicit: 3 cases\n")
    sweep.check()
    return sweep


def test_a_file_that_cannot_be_read_is_a_fault(kills, sweep):
    (sweep.parts / "case-0123456789abcdef.h5").write_bytes(b"nothing of ours")
    with pytest.raises(kills.Fault, match=r"unreadable file: .*case-0123456789abcdef[.]h5: not an HDF5 file"):
        sweep.check()


def test_a_file_that_was_set_aside_is_a_fault(kills, sweep):
    (sweep.parts / "case-0123456789abcdef.h5.damaged").touch()
    with pytest.raises(kills.Fault, match="set aside as damaged"):
        sweep.check()


def test_a_lost_case_is_a_fault(kills, sweep):
    sweep.finished = {"a", "b"}
    sweep.log.write_text("implicit: 3 cases, 2 of them done before\n")
    with pytest.raises(kills.Fault, match="2 finished cases lost, one of them a"):
        sweep.check()


def test_a_process_that_finds_less_than_there_was_is_a_fault(kills, sweep):
    sweep.finished = {"a", "b"}
    sweep.log.write_text("implicit: 3 cases, 1 of them done before\n")
    with pytest.raises(kills.Fault, match="2 cases were finished, and the next process said: 3 cases, 1 of them done before"):
        sweep.check()


def test_an_unfinished_result_is_a_fault(kills, sweep):
    sweep.out.touch()
    with pytest.raises(kills.Fault, match=r"unreadable file: .*out[.]h5: an empty file"):
        sweep.check()
