"""Standard streams that are closed, full, or without a reader: what can be done is done, and the exit code says what was not."""

import os
from pathlib import Path

import pytest

from implicit_cli import api

ONE = "problem: quadratic\ndata: {Q: [[2.0, 0.5], [0.5, 1.0]]}\nparameters: {b: [1.0, -1.0]}\n"
FULL = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
NOWHERE = pytest.mark.parametrize(
    ("where", "why"), [(">&-", "it is closed"), pytest.param(">/dev/full", os.strerror(28), marks=FULL)], ids=["closed", "full"]
)

UNHEARD = ["2>&-", pytest.param("2>/dev/full", marks=FULL), "2> >(exec <&-; sleep 1)"]


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    """A result file."""
    spec = tmp_path_factory.mktemp("results") / "one.yaml"
    spec.write_text(ONE)
    return api.run(str(spec), spec.with_suffix(".h5")).path


@NOWHERE
@pytest.mark.parametrize("words", ["--version", "show R", "show R --json", "show R --csv", "compare R R"])
def test_an_answer_that_cannot_be_printed_is_told(shell, result, words, where, why):
    done = shell(f"implicit {words.replace('R', str(result))} {where}")
    assert (done.returncode, done.stderr) == (3, f"implicit: error: standard output: {why}\n")


@NOWHERE
def test_a_help_text_that_cannot_be_printed_is_one_line(shell, where, why):
    done = shell(f"implicit --help {where}")
    assert (done.returncode, done.stderr.count("\n"), why in done.stderr) == (3, 1, True)


@pytest.mark.slow
@pytest.mark.parametrize("where", [*UNHEARD, "<&- >&- 2>&-"])
def test_a_run_that_cannot_say_how_far_it_is_writes_its_result(shell, result, where):
    """And nothing that is printed gets into the file: no file has the number of a standard stream."""
    done = shell(f"implicit run {result.with_suffix('.yaml')} -o r.h5 -v {where}")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert api.compare(Path("r.h5"), result).verdict == "agree"


@pytest.mark.parametrize(
    "where", ["2>&-", pytest.param("2>/dev/full", marks=FULL), "2> >(exec <&-; sleep 1)"], ids=lambda text: text
)
def test_an_exit_code_does_not_depend_on_who_listens(shell, where):
    done = shell(f"implicit show nothing.h5 {where}")
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "")


def test_a_spec_from_a_closed_standard_input(shell):
    done = shell("implicit check - <&-")
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == f"implicit: error: <stdin>: cannot read the file: {os.strerror(9)}\n"


def test_a_reader_that_has_left(shell, result):
    done = shell(f"implicit show {result} > >(exec <&-; sleep 1)")
    assert (done.returncode, done.stdout, done.stderr) == (141, "", "")
