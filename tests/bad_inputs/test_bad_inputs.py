"""Every class of bad input is refused with its own message and exit code, quickly, without a traceback and without an output."""

import json
import re
import subprocess
import sys
from pathlib import Path

import every
import pytest

CLASSES = dict(every.classes())
REFUSALS = every.refusals()


def test_the_table_is_whole():
    assert set(REFUSALS) == set(CLASSES)
    assert len(CLASSES) >= 160
    assert set(CLASSES) >= every.PROBLEM >= every.RESULTS


@pytest.mark.parametrize("name", CLASSES)
def test_it_is_refused_in_its_own_words(name):
    found, (code, text) = every.said(CLASSES[name]), REFUSALS[name]
    if name in every.RESULTS:  # how far a solver came differs between machines
        found, text = found._replace(error=re.sub(r"\d[\d.e+-]*", "#", found.error)), re.sub(r"\d[\d.e+-]*", "#", text)
    assert (found.code, found.error.rstrip()) == (code, text.rstrip())
    assert found.output is (name in every.RESULTS)
    assert found.code in (1, 2, 3)
    assert all(line.startswith("implicit: ") for line in found.error.splitlines())


def test_nothing_heavy_is_loaded_for_it():
    script = Path(every.__file__)
    done = subprocess.run([sys.executable, str(script), "LIMITS"], capture_output=True, text=True, timeout=300, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert {name for name, row in found["rows"].items() if row[3]} == set()
    assert {
        name: row[:2]
        for name, row in found["rows"].items()
        if tuple(row[:2]) != (REFUSALS[name][0], f"{REFUSALS[name][1].rstrip()}\n")
    } == {}
    assert found["kilobytes"] < 300_000  # those that make some of the files, too
