"""Files merged are the file that a writer of all their cases would have written."""

import dataclasses
import json
import os
import sys

import h5py
import numpy as np
import pytest
import xarray
from hypothesis import given, settings
from hypothesis import strategies as st

from implicit_cli.errors import EnvironmentProblem, InputError
from implicit_cli.result import Axis, Header, NullSpace, Product, SolverReport, Variable
from implicit_cli.status import Status
from implicit_cli.store import MergeReport, merge, read_summary, write_result, write_verification
from implicit_cli.store.guard import opened

from .conftest import bound, filled, make_case, make_floppy, make_header, make_verification


def contents(path):
    """All that a file holds but its checksum, when it was made, and the order of members: groups, arrays, axes, attributes."""
    found, axes, places = {}, {}, {}

    def address(node):
        return h5py.h5o.get_info(node.id).addr  # HDF5 takes milliseconds to find the name of a scale

    def attributes(node):
        kept = {name: value for name, value in node.attrs.items() if name not in ("created", "DIMENSION_LIST", "REFERENCE_LIST")}
        return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in kept.items()}

    def look(name, node):
        if isinstance(node, h5py.Group):
            found[name] = (sorted(node), attributes(node))
        elif name != "checksum":
            text = h5py.check_string_dtype(node.dtype)
            values = node.asstr()[()] if text else node[()]
            found[name] = (node.dtype, node.shape, np.asarray(values).tolist(), attributes(node))
            places[address(node)] = name
            axes[f"{name}, axes"] = [address(dimension[0]) for dimension in node.dims] if not node.is_scale else []

    with opened(path) as file:
        found[""] = (sorted(file), attributes(file))
        file.visititems(look)
    return found | {name: [places[axis] for axis in along] for name, along in axes.items()}


def same(first, second):
    """Whether two contents are equal, NaN with NaN."""
    return repr(first) == repr(second)


def assert_same(merged, expected):
    merged, expected = contents(merged), contents(expected)
    assert sorted(merged) == sorted(expected)
    assert [name for name in merged if not same(merged[name], expected[name])] == []


def failed(case, name="failed", status=Status.NOT_CONVERGED):
    """A case that went wrong before it had derivatives."""
    return dataclasses.replace(
        case,
        id=name,
        status=status,
        message="stopped at 1e-3",
        solution={},
        outputs={},
        products=(),
        linear=(),
        bounds={},
        seconds={"give up": 0.125},
        certificate=dataclasses.replace(case.certificate, provenance={}, radius=np.nan),
        solver=SolverReport("fire", status, 3, 0, 1e-10, 1e-3, np.array([1.0, 0.1, 1e-3])),
    )


def various():
    """Cases that differ in all that can differ between the cases of a sweep."""
    case = make_case()
    floppy = make_floppy(case)
    tilted = dataclasses.replace(
        floppy,
        id="tilted",
        null_space=NullSpace(2, ("translation_y", "rotation"), {"contact": {"w": np.array([True, False, False])}}),
        method="finite_difference",
    )
    long = dataclasses.replace(
        case, id="long λ", solver=SolverReport("adam", Status.OK, 11, 2, 1e-10, 1e-12, np.geomspace(1, 1e-12, 13)), seconds={}
    )
    poor = dataclasses.replace(case, status=Status.LINEAR_SOLVE_FAILED, message="why")
    few = dataclasses.replace(poor, id="few", products=tuple(p for p in case.products if p.kind in ("vjp", "hessian_along")))
    fewer = dataclasses.replace(poor, id="fewer", products=tuple(p for p in case.products if p.kind == "jvp"), bounds={})
    whole = dataclasses.replace(case, id="whole", solution={"w": np.array([1, 2, 3]), "offset": np.array(4)})
    cases = [failed(case), case, floppy, tilted, long, few, fewer, whole, failed(case, "worse", Status.NOT_FINITE)]
    return [
        dataclasses.replace(one, accuracy=float(n), swept={"X": filled(5, 3, begin=n), "seed": np.array(n)})
        for n, one in enumerate(cases)
    ]


def write_in(folder, groups, header=None):
    """A file for each group of cases."""
    paths = [folder / f"{number}.h5" for number in range(len(groups))]
    for path, cases in zip(paths, groups, strict=True):
        write_result(path, header or make_header(), cases)
    return paths


@pytest.mark.slow
@settings(max_examples=5, deadline=None)
@given(st.data())
def test_any_cases_in_any_files_in_any_order(tmp_path_factory, data):
    folder, cases = tmp_path_factory.mktemp("merge"), various()
    files = data.draw(st.lists(st.integers(0, 3), min_size=len(cases), max_size=len(cases)), "file of each case")
    groups = [[case for case, number in zip(cases, files, strict=True) if number == which] for which in sorted(set(files))]
    order = data.draw(st.permutations(cases), "order")
    report = merge(write_in(folder, groups), folder / "merged.h5", order=["nowhere", *(case.id for case in order)])
    write_result(folder / "all.h5", make_header(), order)
    assert_same(folder / "merged.h5", folder / "all.h5")
    assert (report.cases, report.duplicates, report.dropped) == (len(cases), 0, 0)


def test_every_case_in_a_file_of_its_own(tmp_path):
    """Without an order: that of the files."""
    report = merge(write_in(tmp_path, [[case] for case in various()]), tmp_path / "merged.h5")
    write_result(tmp_path / "all.h5", make_header(), various())
    assert_same(tmp_path / "merged.h5", tmp_path / "all.h5")
    assert report == MergeReport(9, {"ok": 3, "partial": 2, "not_converged": 1, "linear_solve_failed": 2, "not_finite": 1}, 0, 0)
    assert sorted(path.name for path in tmp_path.iterdir()) == [*(f"{n}.h5" for n in range(9)), "all.h5", "merged.h5"]


def test_the_comparison_sees_a_difference(tmp_path, header, case, floppy):
    write_result(tmp_path / "a.h5", header, [case, floppy])
    one = dataclasses.replace(case, certificate=dataclasses.replace(case.certificate, radius=3e-12))
    write_result(tmp_path / "b.h5", header, [one, floppy])
    first, second = contents(tmp_path / "a.h5"), contents(tmp_path / "b.h5")
    assert [name for name in first if not same(first[name], second[name])] == ["certificate", "certificate/radius"]


def test_what_is_merged_can_be_merged_again(tmp_path):
    files = write_in(tmp_path, [[case] for case in various()])
    merge(files[:4], tmp_path / "left.h5")
    merge(files[4:], tmp_path / "right.h5")
    # the result may take the place of one of the files
    merge([tmp_path / "left.h5", tmp_path / "right.h5"], tmp_path / "left.h5")
    write_result(tmp_path / "all.h5", make_header(), various())
    assert_same(tmp_path / "left.h5", tmp_path / "all.h5")


def test_many_directions_under_one_name_and_names_that_get_in_each_others_way(tmp_path, case):
    """Dimensions have other names in a file that lacks the arrays which took them."""
    header = Header(
        problem="p",
        summary="",
        axes=(Axis("atom", 3, np.array(["C", "H", "O"])), Axis("k", 2), Axis("case", 4), Axis("d", 2), Axis("unused", 9)),
        unknowns=(Variable("x", ("atom", "atom")),),
        parameters=(Variable("k", ("k", "k")), Variable("sensitivity", ("case",))),
        outputs=(Variable("atom_2", ("d",)),),
        data=(),
        inputs={},
        spec_text="",
        spec_resolved="{}",
        provenance={},
    )
    four = {"k": np.ones((4, 2, 2))}
    many = bound(4)
    products = (
        Product("jacobian", "", "x", "k", filled(3, 3, 2, 2), bound(2, 2)),
        Product("jvp", "d", "x", "", filled(4, 3, 3), many, direction=four),
        Product("hessian_along", "d", "x", "", filled(4, 3, 3), many, direction=four),
        Product("vjp", "case", "", "sensitivity", filled(4), bound(), direction={"x": np.ones((3, 3))}),
        Product("hessian", "", "atom_2", "k", filled(2, 2, 2, 2), bound(2, 2), wrt2="k"),
    )
    theta = {"k": filled(2, 2), "sensitivity": filled(4)}
    odd = dataclasses.replace(case, theta=theta, solution={"x": filled(3, 3)}, outputs={"atom_2": filled(2)}, bounds={})
    poor = dataclasses.replace(odd, status=Status.LINEAR_SOLVE_FAILED)
    cases = [failed(odd)] + [dataclasses.replace(poor, id=f"{n}", products=(product,)) for n, product in enumerate(products)]
    cases += [dataclasses.replace(odd, id="all", products=products)]
    merge(write_in(tmp_path, [[one] for one in cases], header), tmp_path / "merged.h5")
    write_result(tmp_path / "all.h5", header, cases)
    assert_same(tmp_path / "merged.h5", tmp_path / "all.h5")
    with xarray.open_datatree(tmp_path / "merged.h5", engine="h5netcdf") as tree:
        assert tree["jvp/d/x"].sizes == {"case_2": 7, "d_direction": 4, "atom": 3, "atom_3": 3}


def test_a_product_of_integers_has_nan_where_a_case_has_none(tmp_path, header, case):
    first = dataclasses.replace(case.products[0], value=case.products[0].value.astype(int))
    cases = [dataclasses.replace(case, products=(first,)), failed(case)]
    merge(write_in(tmp_path, [[one] for one in cases]), tmp_path / "merged.h5")
    write_result(tmp_path / "all.h5", header, cases)
    assert_same(tmp_path / "merged.h5", tmp_path / "all.h5")


@pytest.mark.parametrize("block", [1, 64, 5000])
def test_large_arrays_are_mapped_and_copied_in_blocks(tmp_path, monkeypatch, block):
    """The same numbers; in the file they are contiguous."""
    monkeypatch.setattr(sys.modules["implicit_cli.store.merge"], "_SMALL", 100)
    monkeypatch.setattr(sys.modules["implicit_cli.store.merge"], "_BLOCK", block)
    cases = various()
    merge(write_in(tmp_path, [cases[5:], cases[:5]]), tmp_path / "merged.h5", order=[case.id for case in cases])
    write_result(tmp_path / "all.h5", make_header(), cases)
    assert_same(tmp_path / "merged.h5", tmp_path / "all.h5")
    with h5py.File(tmp_path / "merged.h5") as file:
        assert file["sensitivity/w/penalty"].chunks is None
        assert file["cases/status"].chunks is not None
    assert len(list(tmp_path.iterdir())) == 4


# Cases that are there twice, or not wanted


def test_of_a_case_that_is_there_twice_the_first_good_one_counts(tmp_path, header, case):
    def at(name, value):
        return dataclasses.replace(case, id=name, outputs={**case.outputs, "score": np.array(value)})

    groups = [
        [failed(case, "a"), at("b", 1.0)],
        [at("a", 2.0), at("b", 3.0)],
        [at("a", 4.0), failed(case, "c")],
        [failed(case, "c")],
    ]
    report = merge(write_in(tmp_path, groups), tmp_path / "merged.h5")
    assert report == MergeReport(3, {"ok": 2, "not_converged": 1}, 4, 0)
    with opened(tmp_path / "merged.h5") as file:
        assert file["cases/id"].asstr()[()].tolist() == ["a", "b", "c"]
        np.testing.assert_array_equal(file["outputs/score"], [2.0, 1.0, np.nan])


def test_an_order_leaves_out_what_it_does_not_name(tmp_path, header):
    cases = various()
    files = write_in(tmp_path, [cases[:2], cases[2:4], cases[4:]])
    report = merge(files, tmp_path / "merged.h5", order=["few", "absent", "0", "few", "failed"])
    assert report == MergeReport(3, {"ok": 1, "not_converged": 1, "linear_solve_failed": 1}, 0, 6)
    write_result(tmp_path / "all.h5", header, [cases[5], cases[1], cases[0]])
    merged, expected = contents(tmp_path / "merged.h5"), contents(tmp_path / "all.h5")
    # of a file whose cases are all left out nothing is taken over: the gauges that only they have are not there
    assert "gauge" not in merged
    # ... but a longer history beside them makes room that stays empty
    different = [name for name in expected if not same(merged[name], expected[name])]
    assert different == ["", "convergence", "convergence/residual", "iteration"]  # groups by their hashes


def test_gauges_that_only_others_have_are_left_out(tmp_path, header):
    cases = various()
    merge(write_in(tmp_path, [cases[:4]]), tmp_path / "merged.h5", order=["0", "failed"])
    assert not {"gauge", "diagnostics/null_space/gauges"} & set(contents(tmp_path / "merged.h5"))
    merge(write_in(tmp_path, [cases[:4]]), tmp_path / "merged.h5", order=["0", "tilted"])
    with opened(tmp_path / "merged.h5") as file:
        assert dict(zip(file["gauge"].asstr()[()], file["diagnostics/null_space/gauges"][1], strict=True)) == {
            "rotation": 1,
            "translation_y": 1,
        }


@pytest.mark.parametrize(("files", "order"), [(0, None), (1, []), (1, ["absent"])])
def test_nothing_to_merge_is_an_error_of_the_caller(tmp_path, case, files, order):
    paths = write_in(tmp_path, [[case]])
    with pytest.raises(ValueError, match="has a case to merge"):
        merge(paths[:files], tmp_path / "merged.h5", order=order)
    assert not (tmp_path / "merged.h5").exists()


# What must agree


def resolved(**sections):
    return json.dumps({"problem": "ridge", "solver": {"tol": 1e-10}, **sections})


def test_the_newest_spec_is_kept_where_the_sweep_alone_differs(tmp_path, monkeypatch, case, floppy):
    words = sys.modules["implicit_cli.store.words"]
    for name, hour, one in (("a", 3, case), ("b", 1, floppy)):
        monkeypatch.setattr(words, "datetime", type("Clock", (), {"now": staticmethod(lambda _, h=hour: _Time(h))}))
        header = dataclasses.replace(make_header(), spec_text=f"# {name}", spec_resolved=resolved(sweep={"seed": hour}))
        write_result(tmp_path / f"{name}.h5", header, [one])
    monkeypatch.undo()
    for files in ("ab", "ba"):
        merge([tmp_path / f"{name}.h5" for name in files], tmp_path / "merged.h5")
        with opened(tmp_path / "merged.h5") as file:
            assert file["spec/text"].asstr()[()] == "# a"
            assert file["spec/resolved"].asstr()[()] == resolved(sweep={"seed": 3})


class _Time:
    def __init__(self, hour):
        self.hour = hour

    def isoformat(self, timespec):
        return f"2026-01-01T0{self.hour}:00:00+00:00"


def test_provenance_that_differs_is_joined(tmp_path, case):
    header = make_header()
    paths = []
    for number in range(8):
        about = {"jax": "0.10.1", "host": f"node{number % 7}", "problem_sha256": "ab"} | ({"gpu": "none"} if number == 3 else {})
        paths.append(tmp_path / f"{number}.h5")
        write_result(
            paths[-1], dataclasses.replace(header, provenance=about), [dataclasses.replace(case, id=str(number), products=())]
        )
    merge(paths, tmp_path / "merged.h5")
    assert read_summary(tmp_path / "merged.h5").provenance == {
        "jax": "0.10.1",
        "host": "node0; node1; node2; node3; node4; and 2 more",
        "problem_sha256": "ab",
        "gpu": "none",
    }


PENALTY = Variable("penalty", ("feature", "task"), "1", "penalty", "log")


@pytest.mark.parametrize(
    ("change", "lines"),
    [
        ({"problem": "lasso"}, ["{b}: found a result of problem 'lasso', allowed: 'ridge', as {a}"]),
        ({"inputs": {"X": filled(5, 3, begin=2), "count": np.arange(5)}}, ["{b}: /inputs/X: it is another in {a}: {only}"]),
        (
            {"provenance": {"problem_sha256": "cd"}},
            ["{b}: /provenance/problem_sha256: found 'cd', it is 'ab' in {a}: {only}"],
        ),
        (
            {"spec_resolved": resolved(solver={"tol": 1e-9, "polish": True}, sweep={"a": 1})},
            [
                "{b}: not of the sweep of {a}: solver.tol: found 1e-09, it was 1e-10",
                "{b}: not of the sweep of {a}: solver.polish: found true, it was nothing",
            ],
        ),
        (
            {"parameters": (PENALTY, Variable("scale", (), "mK", "scale"))},
            ["{b}: /cases/parameters/scale: found units 'mK', it is 'K' in {a}: {only}"],
        ),
        (
            {"axes": (Axis("sample", 5), Axis("feature", 3), Axis("task", 2), Axis("fold", 7))},
            ["{b}: the entries along 'feature' are not those in {a}: {only}"],
        ),
    ],
)
def test_what_must_agree(tmp_path, case, floppy, change, lines):
    header = dataclasses.replace(make_header(), spec_resolved=resolved(), provenance={"problem_sha256": "ab"})
    a, b, out = (tmp_path / name for name in ("a.h5", "b.h5", "out.h5"))
    write_result(a, header, [case])
    write_result(b, dataclasses.replace(header, **change), [failed(floppy)])
    with pytest.raises(InputError) as caught:
        merge([a, b], out)
    only = "only results of one sweep can be merged"
    assert list(caught.value.messages) == [line.format(a=a, b=b, only=only) for line in lines]
    assert not out.exists()


def test_directions_must_agree(tmp_path, case, floppy):
    other = {"penalty": np.ones((3, 2)), "scale": np.array(0.75)}
    turned = tuple(dataclasses.replace(p, direction=other) if p.kind == "jvp" else p for p in floppy.products)
    paths = write_in(tmp_path, [[case], [dataclasses.replace(floppy, products=turned)]])
    with pytest.raises(InputError, match=r"1\.h5: /jvp/all_up/direction/scale: it is another in .*0\.h5: only"):
        merge(paths, tmp_path / "merged.h5")


# Other groups, faults


def test_a_verification_is_merged_too(tmp_path, case, floppy):
    paths = write_in(tmp_path, [[case], [floppy]])
    write_verification(paths[0], paths[0], make_verification(case))
    merge(paths, tmp_path / "merged.h5")
    write_result(tmp_path / "all.h5", make_header(), [case, floppy])
    write_verification(tmp_path / "all.h5", tmp_path / "all.h5", make_verification(case))
    assert_same(tmp_path / "merged.h5", tmp_path / "all.h5")


def test_a_damaged_file_and_a_file_that_changes_are_refused(tmp_path, case, floppy, monkeypatch):
    paths = write_in(tmp_path, [[case], [floppy]])
    out = tmp_path / "merged.h5"
    module = sys.modules["implicit_cli.store.merge"]
    chosen = module._chosen

    def changed(*arguments):
        write_result(paths[1], make_header(), [failed(floppy, "floppy")])
        return chosen(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(module, "_chosen", changed)
        with pytest.raises(InputError, match=r"1\.h5: the file has changed since it was first read; merge again"):
            merge(paths, out)
    content = bytearray(paths[1].read_bytes())
    content[len(content) // 2] ^= 1
    paths[1].write_bytes(content)
    with pytest.raises(InputError, match=r"1\.h5: damaged"):
        merge(paths, out)
    assert not out.exists()


def test_a_full_disk_leaves_the_earlier_result(tmp_path, case, floppy, monkeypatch):
    paths = write_in(tmp_path, [[case], [floppy]])
    out = tmp_path / "merged.h5"
    merge(paths, out)
    before = out.read_bytes()
    atomic = sys.modules["implicit_cli.store.atomic"]

    def full(*arguments):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(atomic.os, "write", full)
    with pytest.raises(EnvironmentProblem, match="No space left on device"):
        merge(paths, out)
    assert out.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 3
