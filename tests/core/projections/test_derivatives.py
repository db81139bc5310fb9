"""Every projection against finite differences: the table of the documentation, its polytopes in test_polytope_derivatives.py."""

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
POLYTOPES = ("polyhedron", "box_section", "transport", "birkhoff", "kl_transport", "kl_birkhoff")
# made of another operator of the table
TWINS = ("psd_cone_svec", "exponential_dual_cone", "linf_ball")
CASES = [
    pytest.param(case, id=case.name, marks=[pytest.mark.exhaustive] * (case.name in TWINS))
    for case in catalogue.projection_cases()
    if case.name not in POLYTOPES
]


@pytest.mark.parametrize("case", CASES)
def test_derivatives_are_those_of_finite_differences(case):
    measured = catalogue.measure(case)
    # the witness is none at a kink
    assert (measured.margin > 5e-3).all()
    for column, error in measured.errors.items():
        if column == "parameters" and len(case.points[0]) == 1:
            assert np.isnan(error)
        else:
            assert error < 1e-7, column
