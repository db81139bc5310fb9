"""The molecular benchmark and the study of packings: their witnesses are true and can fail, and the smallest sizes run."""

from __future__ import annotations

import json
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

import molecular  # noqa: E402
import molecular_peers as peers  # noqa: E402
import packing_seeds as seeds  # noqa: E402

from implicit_cli.result import Bound, NullSpace, Product  # noqa: E402
from implicit_cli.status import Status  # noqa: E402


def energy(R, small, side):
    """By a plain loop over pairs."""
    n, total = len(R), 0.0
    for i in range(n):
        for j in range(i + 1, n):
            D = R[j] - R[i]
            D = D - side * np.round(D / side)
            sigma = ((1.0 if i < n // 2 else small) + (1.0 if j < n // 2 else small)) / 2
            total += max(1.0 - np.linalg.norm(D) / sigma, 0.0) ** 2 / 2
    return float(total)


@pytest.fixture(scope="module")
def discs():
    return peers.Start(np.random.default_rng(3).uniform(size=(9, 2)) * 2.3, 2.3, 0.6)


def test_the_witness_has_the_derivatives_of_the_energy(discs):
    R, side, h = discs.position, discs.side, 1e-5
    found = seeds.sums(R, 0.6, side)
    units = np.eye(18).reshape(18, 9, 2)
    F = [(energy(R + h * e, 0.6, side) - energy(R - h * e, 0.6, side)) / (2 * h) for e in units]
    np.testing.assert_allclose(found.F.astype(float), F, atol=1e-8)
    H = [(seeds.sums(R + h * e, 0.6, side).F - seeds.sums(R - h * e, 0.6, side).F) / (2 * h) for e in units]
    np.testing.assert_allclose(found.H.astype(float), np.array(H, float), atol=1e-7)
    B = (seeds.sums(R, 0.6 + h, side).F - seeds.sums(R, 0.6 - h, side).F) / (2 * h)
    np.testing.assert_allclose(found.B.astype(float), B.astype(float), atol=1e-7)
    slope = (energy(R, 0.6 + h, side) - energy(R, 0.6 - h, side)) / (2 * h)
    assert float(found.energy) == pytest.approx(slope, abs=1e-8)
    assert peers.largest_force(discs, R) == pytest.approx(np.abs(F).max(), abs=1e-8)


@pytest.mark.filterwarnings("ignore:scatter inputs:FutureWarning")
def test_jax_md_ends_at_a_minimum_of_the_same_energy(discs):
    found = peers.jax_md_fire(discs, 1e-8, 20.0)
    assert found.reached(1.1e-8)
    assert energy(found.position, 0.6, discs.side) < energy(discs.position, 0.6, discs.side)


@pytest.mark.skipif(peers.lammps_version() is None, reason="lmp is not installed")
def test_lammps_minimises_the_same_energy(discs):
    found = peers.lammps(discs, 1e-10, 20.0)
    assert found.force <= 1.1e-10


@pytest.fixture(scope="module")
def packed():
    """A packing of 32 discs as jax-md leaves it, and a case that claims what the witness finds there."""
    side = float(np.sqrt(np.pi * 32 * 1.36 / (8 * 0.98)))
    begin = peers.Start(np.random.default_rng(1).uniform(size=(32, 2)) * side, side, 0.6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # jax-md's own
        position = peers.jax_md_fire(begin, 1e-9, 20.0).position
    found = seeds.witness(position, 0.6, side)
    values = {"position": found.J, "energy": np.asarray(found.energy), "pressure": np.asarray(found.pressure)}
    one = np.asarray(1e-10)
    bound = Bound(one, one, one, one)
    products = tuple(Product("jacobian", "", name, "diameter", value, bound) for name, value in values.items())
    loose = np.repeat(~found.held[:, None], 2, axis=1)
    null_space = NullSpace(2, (), {"rattler": {"position": loose}} if loose.any() else {})
    status = Status.PARTIAL if loose.any() else Status.OK
    return SimpleNamespace(status=status, message="", products=products, null_space=null_space), found


def test_a_case_that_is_right(packed):
    row = seeds.judged(*packed)
    assert (row["wrong"], set(row["ratios"])) == ([], {"position", "energy", "pressure"})
    assert packed[1].nullity == 2
    assert packed[1].lowest > -seeds.NULL


def test_what_is_wrong_is_seen(packed):
    case, found = packed

    def wrong(case=case, found=found, **changes):
        return "; ".join(seeds.judged(SimpleNamespace(**vars(case) | changes), found)["wrong"])

    for product in case.products:
        value = product.value + np.linspace(0.0, 1e-6, product.value.size).reshape(product.value.shape) + 1e-7
        others = tuple(other for other in case.products if other is not product)
        assert f"{product.of}: error is" in wrong(products=(replace(product, value=value), *others))
    assert "called a saddle" in wrong(status=Status.NOT_A_MINIMUM)
    assert "neither certified nor named" in wrong(status=Status.NOT_CONVERGED)
    assert wrong(status=Status.NONDIFFERENTIABLE) == ""
    assert "a saddle is called" in wrong(found=found._replace(lowest=-0.1))
    assert "null modes are not listed" in wrong(found=found._replace(nullity=3))
    assert "rattlers are listed" in wrong(found=found._replace(held=np.arange(32) > 0))


@pytest.mark.slow
def test_the_study_runs():
    row = seeds.study("fire", 0.98, 1)
    assert (row["statuses"], row["wrong"], row["compared"]) == ({"ok": 1}, [], 1)


@pytest.mark.slow
@pytest.mark.parametrize("axis", [2, pytest.param(3, marks=pytest.mark.exhaustive)])
def test_the_benchmark_runs(axis, monkeypatch):
    monkeypatch.setattr(molecular, "REPEATS", 1)
    row = molecular.measure(128, axis, "lbfgs", 20.0, with_lammps=False)
    assert molecular.misses([row]) == []
    assert len(molecular.table([row]).splitlines()) == 8


def test_the_pages_show_the_stored_results():
    for study in (molecular, seeds):
        if not study.RESULTS.exists():
            continue
        stored = json.loads(study.RESULTS.read_text())
        rows = stored["rows"] if study is molecular else stored
        assert study.table(rows) in study.PAGE.read_text()
