"""Projections on polytopes against finite differences: their rows of the documentation's table."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

PATH = Path(__file__).resolve().parents[3] / "benchmarks" / "catalogue_operators.py"
SPEC = importlib.util.spec_from_file_location("catalogue_operators", PATH)
catalogue = sys.modules.setdefault("catalogue_operators", importlib.util.module_from_spec(SPEC))
SPEC.loader.exec_module(catalogue)
CASES = {case.name: case for case in catalogue.projection_cases()}
NAMES = ["polyhedron", "box_section"]
# each takes ten seconds, and docs/catalogue.py measures them too
TWINS = ["transport", "kl_transport", "birkhoff", "kl_birkhoff"]


@pytest.mark.parametrize("name", [*NAMES, *(pytest.param(name, marks=pytest.mark.exhaustive) for name in TWINS)])
def test_derivatives_are_those_of_finite_differences(name):
    measured = catalogue.measure(CASES[name])
    # the witness is none at a kink
    assert (measured.margin > 5e-3).all()
    for column, error in measured.errors.items():
        if column == "parameters" and name in TWINS:
            assert np.isnan(error)
        else:
            assert error < 1e-7, column
