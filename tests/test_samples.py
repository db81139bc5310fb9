"""Every sample input runs as it is, and its result opens in xarray with dimensions, units and coordinates."""

import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest
import xarray
from scipy.optimize import brentq

from implicit_cli import api
from implicit_cli.plugins import installed
from implicit_cli.status import Status

FOLDER = Path(__file__).resolve().parent.parent / "sample_inputs"
PLUGINS = ("arch", "my_potential", "my_problem", "situations")
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml"))
LONG = ("buckingham", "distillation", "eam", "inverse_design", "lj_elastic", "morse", "silicon_vacancy", "soft_sphere", "tersoff")
"""Samples that take long to compile; each is replayed by `make test PYTEST_ARGS='-m exhaustive'`."""
OPTIMISED = ("dictionary", "distillation", "inverse_design")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Path of a sample's result, made once, as its page makes it."""
    folder, made = tmp_path_factory.mktemp("results"), {}

    def make(name):
        if name not in made:
            spec, path = str(FOLDER / f"{name}.yaml"), folder / f"{name}.h5"
            if name in OPTIMISED:
                report = api.optimize(spec, path)
                cases = (report.case,)
                assert report.converged
            else:
                report = api.run(spec, path, allow_plugin=name in PLUGINS)
                cases = report.cases
                folds = {Status.SINGULAR: report.folds} if report.folds else {}
                assert {status: count for status, count in report.counts.items() if status != Status.OK} == folds
            assert [case.message for case in cases if case.message] == []
            assert report.exit_code == 0
            made[name] = report.path
        return made[name]

    return make


def test_every_problem_of_the_library_has_a_sample():
    used = {re.search(r"^problem: (\S+)", path.read_text(), re.MULTILINE)[1] for path in FOLDER.glob("*.yaml")}
    assert {entry.name for entry in installed() if entry.distribution == "implicit-cli"} <= used


@pytest.mark.parametrize("name", NAMES)
def test_a_sample_runs_and_every_derivative_has_a_finite_bound(results, name):
    cases = api.show(results(name)).cases
    assert cases
    for case in cases:
        if case.status == "singular":  # a fold
            continue
        assert case.products
        for product in case.products:
            assert np.isfinite(product.bound)
            nothing = product.norm <= product.bound  # a vertex does not move with the costs: there is nothing to compare with
            assert product.bound < 1e-8 if nothing else product.relative < 1e-8


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.exhaustive if name in LONG else ()) for name in NAMES])
def test_what_a_sample_leaves_is_replayed_to_the_same_answer(results, name):
    report = api.replay(results(name), folder=FOLDER, allow_plugin=name in PLUGINS)
    assert report.changed == ()
    assert report.comparison.verdict == "agree"
    assert (report.comparison.only_a, report.comparison.only_b) == ((), ())


def test_every_figure_is_drawn_and_shown(results, tmp_path):
    docs = FOLDER.parent / "docs"
    figures = module(docs / "figures" / "__main__.py")
    for family in figures.FAMILIES:
        for draw in family.FIGURES:
            (tmp_path / f"{draw.__name__}.h5").symlink_to(results(draw.__name__))
    figures.main(tmp_path, [], tmp_path / "drawn")
    drawn = {str(path.relative_to(tmp_path / "drawn")): path.read_text() for path in (tmp_path / "drawn").rglob("*.svg")}
    for family in figures.FAMILIES:
        of_family = {name for name in drawn if name.startswith(f"{family.FOLDER}/")}
        assert of_family <= {str(path.relative_to(docs)) for path in docs.rglob("*.svg")}
    shown = {
        str((page.parent / name).relative_to(docs))
        for page in docs.rglob("*.md")
        for name in re.findall(r"!\[[^\]]*\]\(([\w/]+\.svg)\)", page.read_text())
    }
    assert set(drawn) <= shown
    assert drawn["samples/lj_elastic.svg"].count(">92.90<") == 3
    assert "> 1.000 ± " in drawn["samples/silicon_vacancy.svg"]  # A, to which all of the energy is proportional


def module(path):
    """A script of the documentation, imported."""
    spec = importlib.util.spec_from_file_location(f"docs_{path.parent.name}", path)
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def test_the_arch_snaps_through_where_a_formula_says(results):
    # load = y (r^2 - y^2) / (1 + r^2)^(3/2) is extreme at y = r / sqrt 3
    with xarray.open_datatree(results("arch"), engine="h5netcdf") as tree:
        fold = tree["cases/point"].values == "fold"
        most = 2 * 0.5**3 / (3 * 3**0.5) / 1.25**1.5
        np.testing.assert_allclose(tree["cases/parameters/load"].values[fold], [most, -most], rtol=1e-12)
        np.testing.assert_allclose(tree["solution/y"].values[fold], [0.5 / 3**0.5, -0.5 / 3**0.5], rtol=1e-9)


def test_the_slab_ignites_where_a_formula_says(results):
    # Bratu: lam = t^2 / (2 cosh(t/4)^2) is largest where t/4 tanh(t/4) = 1
    with xarray.open_datatree(results("boundary_value"), engine="h5netcdf") as tree:
        fold = tree["cases/point"].values == "fold"
        quarter = brentq(lambda t: t * np.tanh(t) - 1, 1.0, 2.0, xtol=1e-15)
        np.testing.assert_allclose(tree["cases/parameters/lam"].values[fold], [8 * (quarter / np.cosh(quarter)) ** 2], rtol=1e-10)
        np.testing.assert_allclose(tree["outputs/middle"].values[fold].ravel(), [2 * np.log(np.cosh(quarter))], rtol=1e-7)


def test_the_grid_has_the_published_voltages(results):
    # the file of the IEEE 14-bus test case has three digits of voltages, two of angles in degrees, and the slack bus at 232.4 MW
    voltage = [1.06, 1.045, 1.01, 1.019, 1.02, 1.07, 1.062, 1.09, 1.056, 1.051, 1.057, 1.055, 1.05, 1.036]
    angle = [0, -4.98, -12.72, -10.33, -8.78, -14.22, -13.37, -13.36, -14.94, -15.1, -14.79, -15.07, -15.16, -16.04]
    with xarray.open_datatree(results("power_flow"), engine="h5netcdf") as tree:
        off = np.abs(tree["solution/voltage"].values[0] - voltage)
        assert off[3] < 1.5e-3  # the file is less exact here
        assert np.delete(off, 3).max() < 5e-4
        np.testing.assert_allclose(np.degrees(tree["solution/angle"].values[0]), angle, atol=0.02)
        np.testing.assert_allclose(tree["outputs/slack"].values.ravel(), 2.324, atol=1e-4)


def test_packing_opens_in_xarray(results):
    with xarray.open_datatree(results("packing"), engine="h5netcdf") as tree:
        derivative = tree["sensitivity/position/diameter"]
        assert derivative.dims == ("case", "particle", "axis")
        assert derivative.shape == (1, 128, 2)
        assert tree["solution/position"].attrs["units"] == "D"
        assert tree["solution/position"].attrs["long_name"] == "centres of the discs"
        assert tree["particle"].values.tolist() == list(range(128))
        assert float(tree["certificate/jacobian/position/diameter/bound"][0]) < 1e-7
        assert tree["cases/parameters/phi"].values.tolist() == [0.98]


def test_ridge_opens_in_xarray_with_the_names_of_the_features(results):
    with xarray.open_datatree(results("ridge"), engine="h5netcdf") as tree:
        derivative = tree["sensitivity/w/penalty"]
        assert derivative.dims == ("case", "feature", "penalty_feature")
        names = ["age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6"]
        assert derivative["feature"].values.tolist() == names
        assert derivative["penalty_feature"].values.tolist() == names
        assert float(derivative.sel(feature="bmi", penalty_feature="bmi")[0]) == pytest.approx(-26.616, abs=1e-3)
