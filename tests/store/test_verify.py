"""The group /verify: in a copy or in place, whole or not at all, and nothing else in the file is touched."""

import dataclasses
import mmap

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from implicit_cli.errors import EnvironmentProblem, InputError
from implicit_cli.result import Variable
from implicit_cli.store import addition, labelled, layout, read_claims, read_stored, read_summary, write_result, write_verification
from implicit_cli.store.guard import opened
from implicit_cli.verdict import Finding, Verdict, claim_of

from .conftest import make_floppy, make_verification


@pytest.fixture
def result(tmp_path, header, case):
    path = tmp_path / "result.h5"
    write_result(path, header, [case, make_floppy(case)])
    return path


def contents(path):
    """Every dataset and attribute outside of /verify and /checksum."""
    found = {}

    def look(name, node):
        if name.split("/")[0] not in (layout.VERIFY, layout.CHECKSUM):
            array = np.asarray(node[()]) if isinstance(node, h5py.Dataset) else np.zeros(0)
            text = str(array.tolist()) if array.dtype.kind == "O" else array.tobytes()
            attributes = {key: str(node.attrs[key]) for key in node.attrs if key not in ("REFERENCE_LIST", "DIMENSION_LIST")}
            found[name] = (text, array.shape, attributes)

    with opened(path) as file:
        found[""] = {key: str(value) for key, value in file.attrs.items()}
        file.visititems(look)
    return found


# What the file claims


def test_the_claims_are_those_that_were_written(result, case):
    claims, sha256 = read_claims(result)
    assert [claim.id for claim in claims] == ["0", "floppy"]
    assert len(sha256) == 64
    for claim, written in zip(claims, (case, make_floppy(case)), strict=True):
        expected = claim_of(written)
        scalars = {f.name for f in dataclasses.fields(claim)} - {"products", "solution"}
        assert {name: getattr(claim, name) for name in scalars} == {name: getattr(expected, name) for name in scalars}
        for name, value in expected.solution.items():
            np.testing.assert_array_equal(claim.solution[name], value)
        products = {(p.kind, p.name, p.of, p.wrt, p.wrt2): p for p in claim.products}
        assert len(products) == len(expected.products)
        for product in expected.products:
            found = products[product.kind, product.name, product.of, product.wrt, product.wrt2]
            np.testing.assert_array_equal(found.value, product.value)
            np.testing.assert_array_equal(found.bound.total, product.bound.total)
            assert (found.status, found.bound.kind) == (product.status, product.bound.kind)
            assert found.direction.keys() == product.direction.keys()
            for name, value in product.direction.items():
                np.testing.assert_array_equal(found.direction[name], value)


def test_one_case_alone(result):
    claims, _ = read_claims(result, "floppy")
    assert [(claim.id, claim.status, claim.good) for claim in claims] == [("floppy", "partial", True)]
    with pytest.raises(InputError, match="no case 'flop', allowed: '0', 'floppy'; did you mean 'floppy'"):
        read_claims(result, "flop")


# What is found


def test_a_copy_gets_the_group_and_is_otherwise_the_same(result, case, tmp_path):
    before, bytes_before = contents(result), result.read_bytes()
    out = tmp_path / "new" / "out.h5"
    write_verification(result, out, make_verification(case))
    assert result.read_bytes() == bytes_before
    assert contents(out) == before
    assert read_summary(out).asdict() | {"path": ""} == read_summary(result).asdict() | {"path": ""}
    assert read_stored(out, "0").parameters.keys() == read_stored(result, "0").parameters.keys()
    with opened(out) as file:
        group = file["verify"]
        assert (group.attrs["encoding-type"], group.attrs["encoding-version"]) == ("verification", "1")
        verdict = file["verify/verdict"]
        assert verdict[()].tolist() == [0, -1]  # the second case was not checked
        assert verdict.attrs["flag_meanings"].split() == ["absent", "holds", "violated", "not_decided"]
        assert verdict.attrs["flag_values"].tolist() == [-1, 0, 1, 2]
        assert verdict.dims[0][0].name == "/case"
        first = file["verify/sensitivity/w/penalty"]
        assert first["observed"][0] == 1e-9
        assert np.isnan(first["observed"][1])
        assert first["observed"].attrs["units"] == file["sensitivity/w/penalty"].attrs["units"]
        assert (first["trials"][()].tolist(), first["left_out"][()].tolist()) == ([3, -1], [1, -1])
        assert first["note"].asstr()[()].tolist() == ["note 1", ""]
        assert file["verify/provenance/jax"].asstr()[()] == "0.12.0"
        assert (file["verify/seed"][()], file["verify/directions"][()], file["verify/full"][()]) == (7, 3, 0)
        assert {name for name in file["verify"] if isinstance(file["verify"][name], h5py.Group)} == {
            *layout.VALUES.values(),
            "provenance",
        }


def test_in_place_and_again(result, case, header):
    before = contents(result)
    write_verification(result, result, make_verification(case))
    _, sha256 = read_claims(result)
    write_verification(result, result, make_verification(case, Verdict.VIOLATED), sha256)
    assert contents(result) == before
    with opened(result) as file:
        assert file["verify/verdict"][0] == 1
        scale = file["case"]
        # no dimension remembers what is no longer there
        assert all(bool(file[reference]) for reference, _ in scale.attrs["REFERENCE_LIST"])
    summary = read_summary(result)
    assert [len(one.products) for one in summary.cases] == [len(case.products)] * 2


def test_a_file_that_has_changed_is_left_alone(result, case):
    before = result.read_bytes()
    with pytest.raises(InputError, match="the file has changed since it was read"):
        write_verification(result, result, make_verification(case), "0" * 64)
    assert result.read_bytes() == before


def test_a_write_that_fails_leaves_the_file(result, case, monkeypatch):
    before = result.read_bytes()

    def full(path, content):
        next(iter(content))
        raise EnvironmentProblem("no space")

    monkeypatch.setattr(addition, "replace_file", full)
    with pytest.raises(EnvironmentProblem):
        write_verification(result, result, make_verification(case))
    assert result.read_bytes() == before
    assert [entry.name for entry in result.parent.iterdir()] == [result.name]


def test_labels_are_those_of_tables():
    one = Finding("hessian", "", "loss", "a", "b", Verdict.HOLDS, "", 1, 0)
    (found,) = labelled([one], [Variable("a", (), transform="log"), Variable("b", ())])
    assert found.wrt_label == "log(a) and b"


@given(st.binary(min_size=1, max_size=40), st.lists(st.tuples(st.integers(0, 60), st.binary(min_size=1, max_size=25)), max_size=6))
def test_a_copy_on_write_is_a_file(tmp_path_factory, content, writes):
    path = tmp_path_factory.mktemp("copy") / "source"
    path.write_bytes(content)
    patch = pytest.MonkeyPatch()
    with patch.context() as small, path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as source:
        for module in ("implicit_cli.store.image", "implicit_cli.store.addition"):
            small.setattr(f"{module}._PAGE_BYTES", 8)
        copy, expected = addition._Copy(source), bytearray(content)
        for position, data in writes:
            copy.seek(position)
            assert copy.write(data) == len(data)
            expected.extend(bytes(max(position + len(data) - len(expected), 0)))
            expected[position : position + len(data)] = data
        assert b"".join(copy.parts(0)) == expected
        copy.seek(0)
        assert copy.read(len(expected) + 10) == expected
    assert path.read_bytes() == content
