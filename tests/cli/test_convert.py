"""`implicit convert` into tables, netCDF and MATLAB: what other programs read is what the result holds."""

import csv
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray
from pyarrow import parquet
from scipy.io import loadmat

from implicit_cli import api

SPEC = """\
problem: expression
formulas:
  parameters: {a: {}, k: {shape: [axis], bounds: [0, null]}}
  unknowns: {y: {shape: [axis], unit: m}}
  equations: {y: y - a * k}
  outputs: {whole: {formula: sum(y), unit: m}}
labels: {axis: [near, 'far, off']}
parameters: {a: 3.0, k: [0.5, 4.0]}
transforms: {k: log}
sensitivity: {of: [y, whole], products: [jacobian, {jvp: {both: {a: 1.0}}}]}
sweep: {over: {a: [1.0, 2.0, 3.0]}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("convert")
    (folder / "s.yaml").write_text(SPEC)
    api.run(str(folder / "s.yaml"), folder / "r.h5")
    return folder


@pytest.fixture(autouse=True)
def there(folder, monkeypatch):
    monkeypatch.chdir(folder)


def table(implicit, *arguments):
    done = implicit("convert", "r.h5", "-o", *arguments)
    assert (done.code, done.out) == (0, "")
    with open(arguments[0], newline="") as stream:
        return list(csv.DictReader(stream)), done.err


def test_a_table_has_a_row_for_each_case_and_a_column_for_each_number(implicit):
    rows, said = table(implicit, "t.csv")
    assert said == f"implicit: wrote t.csv: 3 cases, {len(rows[0])} columns\n"
    k = np.array([0.5, 4.0])
    for row, a in zip(rows, (1.0, 2.0, 3.0), strict=True):
        assert (row["status"], row["message"], float(row["a"])) == ("ok", "", a)
        assert float(row["y[far, off]"]) == pytest.approx(4 * a, rel=1e-14)
        assert float(row["d y[near] / d a"]) == pytest.approx(0.5, rel=1e-14)
        assert float(row["d whole / d log(k[far, off])"]) == pytest.approx(4 * a, rel=1e-14)
        assert float(row["d whole along both"]) == pytest.approx(k.sum(), rel=1e-14)
        assert 0 <= float(row["bound of d whole / d log(k[far, off])"]) < 1e-12
        assert 0 <= float(row["bound of y"]) < 1e-12
    with h5py.File("r.h5") as file:  # every digit, and every number of the products
        assert [float(row["d y[far, off] / d log(k[far, off])"]) for row in rows] == file["sensitivity/y/k"][:, 1, 1].tolist()
        assert [float(row["d y[near] / d log(k[far, off])"]) for row in rows] == file["sensitivity/y/k"][:, 0, 1].tolist()
        bounds = file["certificate/jacobian/y/k/bound"][:, 1].tolist()
        assert [float(row["bound of d y[near] / d log(k[far, off])"]) for row in rows] == bounds


def test_some_of_it_by_name_and_one_case(implicit):
    every, _ = table(implicit, "t.csv")
    some, _ = table(implicit, "t.csv", "--of", "whole", "--case", every[1]["id"])
    assert len(some) == 1
    assert not any("y[" in name for name in some[0])
    assert some[0] == {name: every[1][name] for name in some[0]}


def test_parquet_is_the_same_table(implicit):
    rows, _ = table(implicit, "t.csv")
    assert implicit("convert", "r.h5", "-o", "t.parquet").code == 0
    found = parquet.read_table("t.parquet").to_pylist()
    assert [list(row) for row in found] == [list(row) for row in rows]
    assert [row["whole"] for row in found] == [float(row["whole"]) for row in rows]


def test_netcdf_is_all_of_it_and_no_result_any_more(implicit):
    assert implicit("convert", "r.h5", "-o", "r.nc").code == 0
    with xarray.open_datatree("r.h5", engine="h5netcdf") as one, xarray.open_datatree("r.nc", engine="h5netcdf") as other:
        assert set(other.groups) == set(one.groups)
        for path in one.groups:
            mine, its = one[path].to_dataset(), other[path].to_dataset()
            assert set(its.variables) == set(mine.variables) - {"checksum"}
            for name in its.variables:
                np.testing.assert_array_equal(its[name].values, mine[name].values)
        assert other["sensitivity/y/k"].sel(axis="near", k_axis="near").values == pytest.approx([0.5, 1.0, 1.5])
    refused = implicit("show", "r.nc")
    assert (refused.code, refused.err.count("\n")) == (2, 1)


def test_matlab_has_structs_and_cells(implicit):
    assert implicit("convert", "r.h5", "-o", "r.mat").code == 0
    found = loadmat("r.mat", simplify_cells=True)
    with h5py.File("r.h5") as file:
        np.testing.assert_array_equal(found["sensitivity"]["y"]["k"], file["sensitivity/y/k"][()])
        np.testing.assert_array_equal(found["outputs"]["whole"], file["outputs/whole"][()])
        assert found["cases"]["id"].tolist() == file["cases/id"].asstr()[()].tolist()
        assert found["spec"]["text"] == SPEC
    assert found["solution"]["y_labels2"].tolist() == ["near", "far, off"]
    assert "checksum" not in found


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["t.csv", "--of", "z"], "--of: found 'z', allowed: 'whole', 'y'"),
        (["t.csv", "--case", "7"], "r.h5: no case '7', allowed: "),
        (["t.csv", "--wrap"], "--wrap: found with .csv, allowed with: '.extxyz', "),
        (["t.nc", "--case", "0"], "--case: found with .nc, allowed with: '.csv', "),
        (["t.mat", "--of", "y"], "--of: found with .mat, allowed with: '.csv', '.parquet'"),
        (["t.xyz", "--of", "y"], "--of: found with .xyz, allowed with: '.csv', '.parquet'"),
    ],
)
def test_what_does_not_go_together_is_told(implicit, arguments, message):
    Path(arguments[0]).unlink(missing_ok=True)
    done = implicit("convert", "r.h5", "-o", *arguments)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"implicit: error: {message}")
    assert done.err.count("\n") == 1
    assert not Path(arguments[0]).exists()


def test_a_table_that_is_too_wide_is_refused(implicit, monkeypatch):
    monkeypatch.setattr("implicit_cli.store.table.MOST_COLUMNS", 10)
    done = implicit("convert", "r.h5", "-o", "wide.csv")
    assert done.code == 2
    assert "columns, allowed: at most 10; fewer by --of, or as .nc or .mat" in done.err
