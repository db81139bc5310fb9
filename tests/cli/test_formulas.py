"""A problem in formulas goes through all commands like any other."""

from pathlib import Path

import h5py
import numpy as np
import pytest

SPEC = """\
problem: expression
formulas:
  parameters: {a: {shape: [n], bounds: [0, null], doc: target}}
  unknowns: {x: [n]}
  minimise: sum((x - a)**2) / 2
  subject_to: {price: sum(x) == 1}
  outputs: {largest: max(x)}
parameters: {a: [0.9, 0.6, 0.3]}
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("e.yaml").write_text(SPEC)


def test_it_is_run_checked_and_used_again(implicit):
    done = implicit("check", "e.yaml")
    assert done.code == 0
    assert "kkt: grad_x f + dh' nu + dg' lam; h; lam * g" in done.out
    assert implicit("run", "e.yaml", "-o", "e.h5", "-q").code == 0
    with h5py.File("e.h5") as file:
        np.testing.assert_allclose(file["solution/x"][0], [0.9 - 0.8 / 3, 0.6 - 0.8 / 3, 0.3 - 0.8 / 3], rtol=1e-12)
        np.testing.assert_allclose(file["solution/price"][0], 0.8 / 3, rtol=1e-12)
        np.testing.assert_allclose(file["sensitivity/x/a"][0], np.eye(3) - 1 / 3, atol=1e-12)
    done = implicit("jvp", "e.h5", "-d", "a=[1, 0, 0]", "--quiet")
    assert done.code == 0, done.err
    assert implicit("verify", "e.h5", "-q").code == 0
    assert implicit("compare", "e.h5", "e.h5").code == 0


def test_another_formula_asks_another_question(implicit):
    """Ids of cases are hashes of the question: the formulas are part of it."""
    ids = []
    for text in ("sum((x - a)**2) / 2", "sum((x - a)**2) / 3"):
        Path("e.yaml").write_text(SPEC.replace("sum((x - a)**2) / 2", text) + "sweep: {over: {'a[0]': [0.5, 0.7]}}\n")
        assert implicit("run", "e.yaml", "-o", f"s{len(ids)}.h5", "-q").code == 0
        with h5py.File(f"s{len(ids)}.h5") as file:
            ids.append(set(file["cases/id"].asstr()[()]))
    assert len(ids[0] | ids[1]) == 4


def test_a_problem_in_python_takes_none_and_this_one_needs_them(implicit):
    Path("e.yaml").write_text(SPEC.replace("problem: expression", "problem: ridge"))
    done = implicit("run", "e.yaml", "-o", "e.h5")
    assert done.code == 2
    assert done.err == (
        "implicit: error: e.yaml:2:1: formulas: found with Ridge, which is written in Python, allowed: with problem: expression\n"
    )
    Path("e.yaml").write_text("problem: expression\n")
    done = implicit("run", "e.yaml", "-o", "e.h5")
    assert done.code == 2
    assert "formulas: missing, allowed: a mapping with 'unknowns' and one of 'minimise'" in done.err


def test_a_wrong_formula_is_refused_without_jax(implicit):
    Path("e.yaml").write_text(SPEC.replace("max(x)", "max(y)"))
    done = implicit("run", "e.yaml", "-o", "e.h5")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("implicit: error: e.yaml:7:22: formulas.outputs.largest: unknown name 'y', character 5, allowed: ")
    assert not Path("e.h5").exists()
