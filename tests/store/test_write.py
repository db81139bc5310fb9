"""What other programs see in a result: h5py, xarray and h5dump read it without help from us."""

import dataclasses
import errno
import os
import re
import shutil
import subprocess

import h5py
import numpy as np
import pytest
import xarray

from implicit_cli.errors import EnvironmentProblem
from implicit_cli.result import Axis, Header, NullSpace, Product, Variable
from implicit_cli.status import Status
from implicit_cli.store import atomic, write_result

from .conftest import FEATURES, bound, filled


@pytest.fixture
def path(tmp_path, header, case, floppy):
    write_result(tmp_path / "out.h5", header, [case, floppy])
    return tmp_path / "out.h5"


@pytest.fixture
def tree(path):
    with xarray.open_datatree(path, engine="h5netcdf") as tree:
        yield tree.load()


# h5py


def test_the_root_says_what_the_file_is(path):
    with h5py.File(path) as file:
        attributes = dict(file.attrs)
    assert attributes["format"] == "implicit-result"
    assert attributes["format_version"] == 1
    assert attributes["complete"] == 1
    assert attributes["creator"] == "implicit-cli"
    assert attributes["problem"] == "ridge"
    assert attributes["summary"] == "Ridge regression with a penalty per feature and task."
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", attributes["created"])


def test_every_group_says_its_encoding_and_every_array_its_axes(path):
    groups, arrays = [], []
    with h5py.File(path) as file:

        def look(name, node):
            if isinstance(node, h5py.Group):
                assert node.attrs["encoding-version"] == "1", name
                groups.append((name, node.attrs["encoding-type"]))
            else:
                assert "long_name" in node.attrs, name
                arrays.append(name)
                if not node.is_scale:
                    assert [len(dim) for dim in node.dims] == [1] * node.ndim, name
                    assert tuple(dim[0].shape[0] for dim in node.dims) == node.shape, name

        file.visititems(look)
    assert dict(groups)["solution"] == "quantities"
    assert dict(groups)["certificate/jvp/all_up/w"] == "bound"
    assert len(arrays) > 100


def test_numbers_come_back_exactly(path, case, floppy):
    with h5py.File(path) as file:
        for row, one in enumerate((case, floppy)):
            for name in ("w", "offset"):
                np.testing.assert_array_equal(file["solution"][name][row], one.solution[name])
            for name in ("loss", "score"):
                np.testing.assert_array_equal(file["outputs"][name][row], one.outputs[name])
            for name in ("penalty", "scale"):
                np.testing.assert_array_equal(file["cases/parameters"][name][row], one.theta[name])
            for product in one.products:
                match product.kind:
                    case "jacobian":
                        value, near = f"sensitivity/{product.of}/{product.wrt}", f"jacobian/{product.of}/{product.wrt}"
                    case "jvp" | "jvp_left" | "jvp_right":
                        value = near = f"{product.kind}/all_up/{product.of}"
                    case "vjp":
                        value, near = f"vjp/first/{product.wrt}", f"vjp/first/{product.wrt}"
                    case "hessian":
                        value = near = f"hessian/{product.of}/{product.wrt}/{product.wrt2}"
                    case "hessian_along":
                        value = near = f"hessian_along/bend/{product.of}"
                np.testing.assert_array_equal(file[value][row], product.value)
                assert file[f"diagnostics/products/{value}"][row] == product.status
                for part in ("truncation", "linear", "rounding"):
                    np.testing.assert_array_equal(file[f"certificate/{near}/{part}"][row], getattr(product.bound, part))
                np.testing.assert_array_equal(file[f"certificate/{near}/bound"][row], product.bound.total)
            for constant in ("sigma_min", "sigma_max", "kappa", "step", "h", "radius", "margin"):
                assert file[f"certificate/{constant}"][row] == getattr(one.certificate, constant)


def test_a_hessian_has_the_dimensions_of_both_parameters_and_divided_units(path):
    with h5py.File(path) as file:
        H = file["hessian/offset/penalty/penalty"]
        names = [dimension[0].name for dimension in H.dims]
        assert names == ["/case", "/penalty_feature", "/penalty_task", "/penalty_feature_2", "/penalty_task_2"]
        bound = file["certificate/hessian/offset/penalty/penalty/bound"]
        assert [dimension[0].name for dimension in bound.dims] == ["/case", "/penalty_feature_2", "/penalty_task_2"]
        assert (H.attrs["units"], H.attrs["wrt"], H.attrs["method"]) == ("mol", "log(penalty) and log(penalty)", "implicit")
        assert file["hessian/offset/penalty/scale"].attrs["units"] == "mol/K"
        assert file["hessian/offset/scale/scale"].attrs["units"] == "mol/(K2)"
        assert file["hessian_along/bend/w"].attrs["long_name"] == "second derivative of w along direction bend"
        assert file["hessian_along/bend/direction/scale"].attrs["units"] == "K"
        assert file["diagnostics/method"].asstr()[()].tolist() == ["implicit", "implicit"]


def test_inputs_spec_and_provenance(path, header):
    with h5py.File(path) as file:
        np.testing.assert_array_equal(file["inputs/X"], header.inputs["X"])
        assert file["inputs/count"].dtype.kind == "i"
        assert file["spec/text"].asstr()[()] == header.spec_text
        assert file["spec/resolved"].asstr()[()] == header.spec_resolved
        assert {name: node.asstr()[()] for name, node in file["provenance"].items()} == header.provenance


def test_cases_and_their_words(path):
    with h5py.File(path) as file:
        cases = file["cases"]
        assert cases["id"].asstr()[()].tolist() == ["0", "floppy"]
        assert cases["status"][()].tolist() == [Status.OK, Status.PARTIAL]
        assert cases["message"].asstr()[()].tolist() == ["", "1 rattler: w[1]"]
        np.testing.assert_array_equal(cases["seconds/certify"], [0.5, np.nan])
        assert cases["seconds/solve"].attrs["units"] == "s"


def test_directions_are_stored_once_with_the_products_they_belong_to(path):
    with h5py.File(path) as file:
        np.testing.assert_array_equal(file["jvp/all_up/direction/penalty"], np.ones((3, 2)))
        assert file["jvp/all_up/direction/scale"][()] == 0.5
        np.testing.assert_array_equal(file["vjp/first/direction/loss"], np.ones(7))
        np.testing.assert_array_equal(file["vjp/first/direction/w"], [1, 0, 0])


def test_ragged_rows_are_padded(path):
    with h5py.File(path) as file:
        history = file["convergence/residual"][()]
        assert history.shape == (2, 8)
        np.testing.assert_array_equal(history[0], [1.0, 0.1, 1e-3, 1e-7, 3e-15, np.nan, np.nan, np.nan])
        forward = file["diagnostics/linear/forward"]
        assert forward["status"][()].tolist() == [[0] * 7, [0, 5, -1, -1, -1, -1, -1]]
        assert forward["steps"][1].tolist() == [12, 99, -1, -1, -1, -1, -1]
        np.testing.assert_array_equal(forward["residual"][1, :3], [1e-11, 1e-3, np.nan])
        assert forward["method"].asstr()[()].tolist() == ["cholesky", "cg"]
        assert file["diagnostics/linear/adjoint/method"].asstr()[()].tolist() == ["cholesky", ""]


def test_null_space(path):
    with h5py.File(path) as file:
        group = file["diagnostics/null_space"]
        assert group["dimension"][()].tolist() == [0, 3]
        assert group["gauges"][()].tolist() == [[0, 0], [1, 1]]
        assert file["gauge"].asstr()[()].tolist() == ["translation_x", "translation_y"]
        masks = group["undetermined/rattler/w"]
        assert masks.dtype == np.uint8
        assert masks[()].tolist() == [[0, 0, 0], [0, 1, 0]]
        assert group["undetermined/rattler/offset"][()].tolist() == [0, 1]


def test_the_weakest_provenance_is_on_the_constant_and_each_cases_own_beside_it(path):
    with h5py.File(path) as file:
        certificate = file["certificate"]
        assert certificate["sigma_min"].attrs["provenance"] == "estimated"
        assert certificate["provenance/sigma_min"].asstr()[()].tolist() == ["computed", "estimated"]
        assert certificate["margin"].attrs["provenance"] == "not stated"
        assert certificate["provenance/margin"].asstr()[()].tolist() == ["proved", "not stated"]


def test_one_estimate_makes_the_attribute_an_estimate(tmp_path, header, case):
    first, *rest = case.products
    rough = dataclasses.replace(case, id="1", products=(dataclasses.replace(first, bound=bound(3, 2, kind="estimate")), *rest))
    write_result(tmp_path / "out.h5", header, [case, rough])
    with h5py.File(tmp_path / "out.h5") as file:
        group = file["certificate/jacobian/w/penalty"]
        assert group["bound"].attrs["kind"] == "estimate"
        assert group["kind"].asstr()[()].tolist() == ["bound", "estimate"]
        assert file["certificate/jacobian/w/scale/bound"].attrs["kind"] == "bound"


# xarray


def test_xarray_names_the_axes(tree):
    assert tree["solution/w"].dims == ("case", "feature")
    assert tree["outputs/loss"].dims == ("case", "fold")
    assert tree["inputs/X"].dims == ("sample", "feature")
    assert tree["cases/parameters/penalty"].dims == ("case", "feature", "task")
    assert tree["sensitivity/w/penalty"].dims == ("case", "feature", "penalty_feature", "penalty_task")
    assert tree["sensitivity/loss/penalty"].sizes == {"case": 2, "fold": 7, "penalty_feature": 3, "penalty_task": 2}
    assert tree["sensitivity/score/scale"].dims == ("case",)
    assert tree["vjp/first/penalty"].dims == ("case", "feature", "task")
    assert tree["jvp/all_up/loss"].dims == ("case", "fold")
    assert tree["jvp/all_up/direction/penalty"].dims == ("feature", "task")
    assert tree["certificate/jacobian/w/penalty/bound"].dims == ("case", "penalty_feature", "penalty_task")
    assert tree["certificate/vjp/first/penalty/bound"].dims == ("case",)
    assert tree["diagnostics/linear/forward/status"].dims == ("case", "forward_right_hand_side")
    assert tree["convergence/residual"].dims == ("case", "iteration")


def test_xarray_inherits_the_coordinates(tree, case):
    sensitivity = tree["sensitivity/w/penalty"]
    assert sensitivity.coords["feature"].values.tolist() == list(FEATURES)
    assert sensitivity.coords["penalty_feature"].values.tolist() == list(FEATURES)
    assert sensitivity.coords["penalty_task"].values.tolist() == [0, 1]
    assert tree["outputs/loss"].coords["fold"].values.tolist() == [10, 20, 30, 40, 50, 60, 70]
    one = sensitivity.sel(case="0", feature="bmi", penalty_feature="s5", penalty_task=1)
    assert float(one) == case.products[0].value[1, 2, 1]


def test_xarray_sees_units_and_meanings(tree):
    units = {
        "solution/w": "mol",
        "inputs/X": "m",
        "sensitivity/w/penalty": "mol",
        "sensitivity/w/scale": "mol/K",
        "sensitivity/loss/scale": "J/K",
        "sensitivity/score/scale": "1/K",
        "jvp/all_up/loss": "J",
        "vjp/first/scale": "1/K",
        "vjp/first/direction/loss": "1/J",
        "jvp/all_up/direction/scale": "K",
        "jvp/all_up/direction/penalty": "1",
        "certificate/jacobian/loss/scale/linear": "J/K",
        "certificate/radius": "mol",
        "certificate/kappa": "1",
    }
    assert {name: tree[name].attrs["units"] for name in units} == units
    assert tree["solution/w"].attrs["long_name"] == "weights"
    assert tree["sensitivity/w/penalty"].attrs["long_name"] == "derivative of w with respect to log(penalty)"
    assert tree["sensitivity/w/penalty"].attrs["wrt"] == "log(penalty)"
    assert tree["sensitivity/w/scale"].attrs["wrt"] == "scale"
    assert tree["cases/parameters/penalty"].attrs["transform"] == "log"


def test_a_value_points_to_its_status_and_bound(tree):
    for kind in ("sensitivity/w/penalty", "jvp/all_up/w", "vjp/first/scale"):
        attributes = tree[kind].attrs
        assert tree[attributes["status"]].dims == ("case",)
        assert tree[attributes["bound"]].attrs["units"] == attributes["units"]


def test_status_codes_explain_themselves(tree):
    for name in (
        "cases/status",
        "diagnostics/solver/status",
        "diagnostics/products/sensitivity/w/penalty",
        "diagnostics/linear/forward/status",
    ):
        status = tree[name]
        meanings = dict(zip(status.attrs["flag_values"].tolist(), status.attrs["flag_meanings"].split(), strict=True))
        assert status.dtype == np.int8
        assert {meanings[int(code)] for code in status.values.ravel()} <= {"ok", "partial", "absent", "linear_solve_failed"}


# h5dump


@pytest.mark.skipif(shutil.which("h5dump") is None, reason="h5dump is not installed")
def test_h5dump_prints_it(path):
    def h5dump(*arguments: str) -> str:
        return subprocess.run(["h5dump", *arguments, str(path)], check=True, capture_output=True, text=True).stdout

    assert 'GROUP "sensitivity"' in h5dump("-H")
    assert "(0,0): 0.5, -2, 1," in h5dump("-d", "/solution/w")
    assert '"implicit-result"' in h5dump("-a", "/format")


# Shapes and names off the beaten track


def test_no_products_no_outputs_no_data(tmp_path, header, case):
    bare = Header("p", "", (), (Variable("x", ()),), (), (), (), {}, "", "{}", {})
    only = dataclasses.replace(case, theta={}, solution={"x": np.array(1.0)}, outputs={}, products=(), linear=())
    write_result(tmp_path / "out.h5", bare, [only])
    with xarray.open_datatree(tmp_path / "out.h5", engine="h5netcdf") as tree:
        assert tree["solution/x"].values.tolist() == [1.0]
        assert "sensitivity" not in tree.children
        assert "outputs" not in tree.children


def test_a_quantity_may_have_an_axis_twice_and_an_axis_the_name_of_a_quantity(tmp_path, case):
    header = Header(
        problem="p",
        summary="",
        axes=(Axis("atom", 3, np.array(["C", "H", "O"])), Axis("k", 2), Axis("case", 4)),
        unknowns=(Variable("x", ("atom", "atom")),),
        parameters=(Variable("k", ("k", "k")), Variable("sensitivity", ("case",))),
        outputs=(),
        data=(Variable("atom", ("atom", "k")),),
        inputs={"atom": filled(3, 2)},
        spec_text="",
        spec_resolved="{}",
        provenance={},
    )
    products = (
        Product("jacobian", "", "x", "k", filled(3, 3, 2, 2), bound(2, 2)),
        Product("jvp", "atom", "x", "", filled(3, 3), bound(), direction={"k": np.ones((2, 2))}),
        Product("vjp", "direction", "", "sensitivity", filled(4), bound(), direction={"x": np.ones((3, 3))}),
    )
    theta = {"k": filled(2, 2), "sensitivity": filled(4)}
    odd = dataclasses.replace(case, theta=theta, solution={"x": filled(3, 3)}, outputs={}, products=products)
    write_result(tmp_path / "out.h5", header, [odd])
    with xarray.open_datatree(tmp_path / "out.h5", engine="h5netcdf") as tree:
        assert tree["solution/x"].dims == ("case", "atom_2", "atom_3")
        assert tree["solution/x"].coords["atom_3"].values.tolist() == ["C", "H", "O"]
        assert tree["inputs/atom"].dims == ("atom_2", "k_2")
        assert tree["cases/parameters/sensitivity"].dims == ("case", "case_2")
        assert len(set(tree["sensitivity/x/k"].dims)) == 5
        np.testing.assert_array_equal(tree["sensitivity/x/k"].values[0], products[0].value)
        np.testing.assert_array_equal(tree["jvp/atom/x"].values[0], products[1].value)
        np.testing.assert_array_equal(tree["vjp/direction/sensitivity"].values[0], products[2].value)


def test_direction_names_from_a_spec_may_hold_anything(tmp_path, header, case):
    odd = tuple(dataclasses.replace(p, name="a/b %..") if p.kind == "jvp" else p for p in case.products)
    write_result(tmp_path / "out.h5", header, [dataclasses.replace(case, products=odd)])
    with h5py.File(tmp_path / "out.h5") as file:
        assert list(file["jvp"]) == ["a%2Fb %25.."]


def test_empty_arrays(tmp_path, case):
    header = Header(
        "p", "", (Axis("a", 0), Axis("b", 3)), (Variable("x", ("b",)),), (Variable("t", ("a",)),), (), (), {}, "", "", {}
    )
    products = (Product("jacobian", "", "x", "t", np.zeros((3, 0)), bound(0)),)
    empty = dataclasses.replace(case, theta={"t": np.zeros(0)}, solution={"x": filled(3)}, outputs={}, products=products)
    write_result(tmp_path / "out.h5", header, [empty])
    with xarray.open_datatree(tmp_path / "out.h5", engine="h5netcdf") as tree:
        assert tree["sensitivity/x/t"].sizes == {"case": 1, "b": 3, "t_a": 0}


def test_a_case_that_went_wrong_has_nan_and_its_status_in_the_place_of_numbers(tmp_path, header, case):
    void = dataclasses.replace(case.certificate, provenance={})
    failed = dataclasses.replace(
        case, id="bad", status=Status.NOT_FINITE, message="boom", outputs={}, products=(), linear=(), certificate=void
    )
    write_result(tmp_path / "out.h5", header, [failed, case])
    with h5py.File(tmp_path / "out.h5") as file:
        assert np.isnan(file["sensitivity/w/penalty"][0]).all()
        assert np.isnan(file["certificate/jacobian/w/penalty/bound"][0]).all()
        assert file["diagnostics/products/sensitivity/w/penalty"][()].tolist() == [Status.NOT_FINITE, Status.OK]
        assert np.isnan(file["outputs/loss"][0]).all()
        np.testing.assert_array_equal(file["outputs/loss"][1], case.outputs["loss"])


def test_a_large_array_is_cut_into_chunks(tmp_path, case):
    header = Header("p", "", (Axis("a", 700),), (Variable("x", ("a",)),), (Variable("t", ("a",)),), (), (), {}, "", "", {})
    value = np.random.default_rng(0).normal(size=(700, 700))
    products = (Product("jacobian", "", "x", "t", value, bound(700)),)
    large = dataclasses.replace(case, theta={"t": np.ones(700)}, solution={"x": np.ones(700)}, outputs={}, products=products)
    write_result(tmp_path / "out.h5", header, [large])
    with h5py.File(tmp_path / "out.h5") as file:
        assert file["sensitivity/x/t"].chunks == (1, 175, 700)
        np.testing.assert_array_equal(file["sensitivity/x/t"][0], value)


# Faults


def test_a_full_disk_leaves_the_earlier_result(path, monkeypatch, header, case):
    before = path.read_bytes()

    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for call in ("write", "fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(atomic.os, call, full)
            with pytest.raises(EnvironmentProblem, match="No space left on device"):
                write_result(path, header, [case])
        assert path.read_bytes() == before
        assert [entry.name for entry in path.parent.iterdir()] == ["out.h5"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"solution": {"w": np.zeros(4), "offset": np.array(0.0)}}, r"/solution/w: case '0' has shape \(4,\), expected \(3,\)"),
        ({"outputs": {"score": np.array(0.0)}}, "/outputs/loss: case '0' is ok and has no value"),
        ({"null_space": NullSpace(1, (), {"r": {"w": np.zeros(2)}})}, r"undetermined/r/w: case '0' has shape \(2,\)"),
    ],
)
def test_records_that_contradict_the_header(tmp_path, header, case, change, message):
    with pytest.raises(ValueError, match=message):
        write_result(tmp_path / "out.h5", header, [dataclasses.replace(case, **change)])
    assert not (tmp_path / "out.h5").exists()


def test_records_that_contradict_each_other(tmp_path, header, case):
    out = tmp_path / "out.h5"
    with pytest.raises(ValueError, match="cases with different ids"):
        write_result(out, header, [case, case])
    with pytest.raises(ValueError, match="cases with different ids"):
        write_result(out, header, [])
    twice = dataclasses.replace(case, products=(*case.products, case.products[0]))
    with pytest.raises(ValueError, match="two products of one name"):
        write_result(out, header, [twice])
    with pytest.raises(ValueError, match="one linear report per direction"):
        write_result(out, header, [dataclasses.replace(case, linear=case.linear * 2)])
    strange = dataclasses.replace(case.products[0], kind="bend")
    with pytest.raises(ValueError, match="found 'bend', allowed: jacobian, jvp, jvp_left, jvp_right, vjp, hessian, hessian_along"):
        write_result(out, header, [dataclasses.replace(case, products=(strange,))])
    up = {"penalty": np.zeros((3, 2))}
    other = [dataclasses.replace(p, direction=up) if (p.kind, p.of) == ("jvp", "loss") else p for p in case.products]
    with pytest.raises(ValueError, match="the direction differs"):
        write_result(out, header, [dataclasses.replace(case, products=tuple(other))])
    assert not out.exists()
