"""`implicit check`: the plan as rows or JSON, warnings on standard error."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from implicit_cli import api


@pytest.fixture
def calls(monkeypatch):
    found = []
    plan = SimpleNamespace(
        rows=(("problem", "ridge"), ("linear solver", "cholesky, 128 unknowns")),
        warnings=("solver.tol is looser than the accuracy asks",),
        asdict=lambda: {"plan": {"problem": "ridge"}, "size": 128},
    )
    monkeypatch.setattr(api, "check", lambda spec, **options: found.append((spec, options)) or plan)
    return found


def test_the_plan_as_rows(implicit, calls):
    done = implicit("check", "spec.yaml", "--set", "seed=1", "--device", "cpu", "--plugin", "a.py")
    options = {"overrides": ("seed=1",), "device": "cpu", "allow_plugin": False, "plugins": (Path("a.py"),), "allow_paths": ()}
    assert calls == [("spec.yaml", options)]
    assert done.code == 0
    assert done.out == "problem        ridge\nlinear solver  cholesky, 128 unknowns\n"
    assert done.err == "implicit: warning: solver.tol is looser than the accuracy asks\n"


def test_the_plan_as_json(implicit, calls):
    done = implicit("check", "spec.yaml", "--json")
    assert json.loads(done.out) == {"plan": {"problem": "ridge"}, "size": 128}
    assert done.err.startswith("implicit: warning: ")
