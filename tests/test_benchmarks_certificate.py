"""The calibration study and figure 3: the truths are true, the comparison can fail, the pages show what was measured."""

from __future__ import annotations

import importlib
import json
import re
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))
study = importlib.import_module("certificate")
report = importlib.import_module("certificate_report")
figure3 = importlib.import_module("figure3")
CASES = {case.name: case for case in importlib.import_module("certificate_problems").problems()}
CATALOGUE = {
    *("stationary", "root", "fixed_point", "kkt", "proximal_gradient", "projected_gradient", "mirror_descent", "newton"),
    *("block_proximal_gradient", "frank_wolfe", "conic"),
}


def test_every_mapping_of_the_catalogue_is_there():
    assert {case.mapping for case in CASES.values()} == CATALOGUE
    assert len(CASES) >= 14


OFTEN = ("ridge", "kepler", "inequality_qp", "elastic_net", "simplex_mirror", "cone")


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, marks=[] if name in OFTEN else [pytest.mark.exhaustive]) for name, case in CASES.items()],
    ids=CASES,
)
def test_the_truth_solves_the_problem_and_its_derivative_obeys_the_theorem(case):
    """x* and J come from mpmath alone; F, A and B from JAX: where both are right, F = 0, A J + B = 0 and g_x J + g_theta = dy."""
    draw, truth = study.Study(case).instance(1)
    theta, data, V = jnp.asarray(draw.theta), tuple(map(jnp.asarray, draw.data)), jnp.eye(case.n)

    @jax.jit
    def remainders(x, J, theta, data):
        F, AJ_B = jax.vmap(
            lambda u, v: jax.jvp(lambda x, t: case.F(x, t, data), (x, theta), (u, v)), in_axes=1, out_axes=(None, 1)
        )(J, V)
        dy = jax.vmap(lambda u, v: jax.jvp(lambda x, t: case.outputs(x, t, data), (x, theta), (u, v))[1], in_axes=1, out_axes=1)(
            J, V
        )
        return F, AJ_B, dy

    F, AJ_B, dy = remainders(jnp.asarray(truth.x.high), jnp.asarray(truth.J.high), theta, data)
    assert np.abs(F).max() < 1e-14 * max(np.abs(truth.x.high).max(), 1.0)
    assert np.abs(AJ_B).max() < 1e-13 * max(np.abs(truth.J.high).max(), 1.0)
    np.testing.assert_allclose(dy, truth.Y.high, rtol=1e-12, atol=1e-13)
    assert all(np.all(np.abs(part.low) <= np.spacing(np.abs(part.high))) for part in truth)


def test_the_truth_is_that_of_the_closed_form():
    """By hand: ridge -H^-1 diag(x), and x_j = theta_j^(1/2) + 1 in the fold's own coordinates."""
    draw, truth = study.Study(CASES["ridge"]).instance(0)
    X, y = draw.data
    H = X.T @ X / len(y) + np.diag(draw.theta)
    x = np.linalg.solve(H, X.T @ y / len(y))
    np.testing.assert_allclose(truth.J.high, -np.linalg.solve(H, np.diag(x)), rtol=1e-12)
    draw, truth = study.Study(CASES["fold"]).instance(0)
    np.testing.assert_allclose(draw.data[0] @ truth.J.high, np.diag(0.5 / np.sqrt(draw.theta)), rtol=1e-6, atol=1e-7)


def check(case, seeds, levels, precisions):
    work, compared = study.Study(case), 0
    for seed in range(seeds):
        draw, truth = work.instance(seed)
        for precision in precisions:
            found = work.stopped(draw, truth, precision)
            for level in levels:
                x, size = found[level], np.linalg.norm(truth.x.high)
                if np.linalg.norm(x - truth.x.high) > size * study.LEVELS[level]:
                    assert precision == "float32" or case.name == "inequality_qp", "the iteration did not get there"
                    continue
                site = work.certify(draw, truth, x, precision)
                assert site.refused in ("", *report.WHY)
                assert bool(site.products) != bool(site.refused)
                if "column" in site.products:
                    error, parts, scale, _ = site.products["column"]
                    real = error > study.AT_ROUNDING * scale
                    assert (parts.sum(axis=0) >= error)[real].all(), (precision, seed, level)
                    compared += int(real.sum())
    return compared


@pytest.mark.slow
def test_the_bound_holds():
    assert check(CASES["circle"], 2, (1, 4), study.PRECISIONS) >= 12


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", CASES)
def test_the_bound_holds_everywhere(name):
    compared = check(CASES[name], 2, range(6), study.PRECISIONS)
    assert compared >= 20 or not CASES[name].unique


def test_a_bound_that_is_too_small_is_counted():
    """Of four numbers one bound is at half its error, one is loose by its rounding part, and one error is at rounding."""
    error = np.array([1.0, 2.0, 1.0, 1e-17])
    parts = np.array([[1.1, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 9.0, 1e-16]])
    found = study.Found(error, parts, np.ones(4), "estimate")
    site = study.Site(0.1, "", 0.01, {"column": found})
    row = study._effectivity([(2, 7, site)], "column", "estimate")
    assert (row["compared"], row["at_rounding"], row["below"], row["below_at_rounding"]) == (3, 1, 1, 0)
    assert row["above"] == {"truncation": 0, "linear": 0, "rounding": 1}
    assert row["short"] == {"1e-06": 1, "1e-04": 1, "1e-02": 1, "1e-01": 1}
    (violation,) = row["violations"]
    assert (violation["seed"], violation["index"], violation["effectivity"]) == (7, 1, 0.5)
    assert row["quantiles"][0] == 0.5
    assert row["quantiles"][-1] == 10.0


# The pages


def test_the_page_shows_the_stored_results():
    results, page = json.loads(study.RESULTS.read_text()), report.PAGE.read_text()
    names = {found["name"] for found in report.MARKED.finditer(page)}
    assert names == {"aims", "problems", "levels", "products"}
    for name in names:
        assert f"<!-- measured: {name} -->\n\n{getattr(report, name)(results)}\n<!--" in page, name
    assert {row["problem"] for row in results["rows"]} == set(CASES)


def test_figure_3_is_as_measured():
    """A few steps again: the numbers of the page within 2 of their last digit."""
    shown = {int(cells[0]): cells[1:] for cells in rows(report.DOCS / "figure3.md")}
    assert tuple(shown) == figure3.SHOWN
    again = figure3.curves((1, 10, 100, 400))
    for t, *values in zip(*again[:6], strict=True):
        np.testing.assert_allclose([float(cell) for cell in shown[int(t)][:5]], values, rtol=0.06)
    assert (again.implicit <= again.theorem).all()
    assert (again.implicit <= again.certificate).all()
    assert (again.unrolled > again.implicit).all()
    assert f"at 400 of {figure3.STEPS} steps" in (report.DOCS / "figure3.md").read_text()


def rows(page):
    return [line[2:-2].split(" | ") for line in re.findall(r"^\| \d.*\|$", page.read_text(), re.MULTILINE)]
