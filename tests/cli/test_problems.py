"""`implicit problems`: the list, one description, and both as JSON."""

from __future__ import annotations

import json

SPRING = '''
from implicit_cli.problem import Option, Output, Parameter, Problem, Unknown


class Spring(Problem):
    """Spring at rest: x*(k) = argmin_x k x^2 / 2 - x."""

    example = """
        problem: ./spring.py
        parameters:
          k: 1.0
    """
    ends = Option("fixed", doc="ends", choices=("fixed", "free"))
    k = Parameter(bounds=(0, None), unit="N/m", doc="stiffness", default=2.0)
    phase = Parameter(bounds=(None, 3.5))
    x = Unknown(shape=("node", 2), bounds=(-1, 1), unit="m", doc="places")
    energy = Output(unit="J")
'''


def test_the_list(implicit):
    done = implicit("problems")
    header, *rows = done.out.splitlines()
    assert (done.code, done.err) == (0, "")
    assert header.split() == ["name", "from", "summary"]
    assert [row.split()[:2] for row in rows if "implicit-cli" in row][:1] == [["boundary_value", "implicit-cli"]]
    assert any(row.startswith("ridge ") and "Ridge regression: " in row for row in rows)


def test_the_list_as_json(implicit):
    entries = json.loads(implicit("problems", "--json").out)
    (ridge,) = [entry for entry in entries if entry["name"] == "ridge"]
    assert set(ridge) == {"name", "target", "distribution", "summary"}
    assert ridge["target"] == "implicit_problems.ridge:Ridge"


def test_one_problem(implicit, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "spring.py").write_text(SPRING)
    done = implicit("problems", "show", "./spring.py", "--plugin", "spring.py")
    assert (done.code, done.err) == (0, "")
    assert (
        done.out
        == """\
./spring.py

Spring at rest: x*(k) = argmin_x k x^2 / 2 - x.

kind       name    shape     unit  allowed       default  meaning
parameter  k       scalar    N/m   >= 0          2.0      stiffness
parameter  phase   scalar    1     <= 3.5
unknown    x       node x 2  m     -1 to 1       0.0      places
output     energy  scalar    J
option     ends              1     fixed | free  fixed    ends

example spec:

    problem: ./spring.py
    parameters:
      k: 1.0
"""
    )


def test_one_problem_as_json(implicit, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "spring.py").write_text(SPRING)
    found = json.loads(implicit("problems", "show", "./spring.py:Spring", "--allow-plugin", "--json").out)
    assert set(found) == {"name", "doc", "quantities", "example"}
    assert found["quantities"][0] == {
        "kind": "parameter", "name": "k", "shape": [], "unit": "N/m", "bounds": [0, None], "default": 2.0, "doc": "stiffness",
        "choices": None,
    }  # fmt: skip


def test_an_unknown_problem(implicit):
    done = implicit("problems", "show", "rigde")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("implicit: error: no problem 'rigde' is installed, allowed: 'boundary_value', 'buckingham', ")
    assert done.err.endswith("; did you mean 'ridge'?\n")


def test_a_file_needs_leave(implicit, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "spring.py").write_text("raise SystemExit('ran')")
    done = implicit("problems", "show", "./spring.py")
    assert done.code == 2
    assert "allow it with --plugin spring.py (this file only)" in done.err
