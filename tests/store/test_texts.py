"""Many texts take little room, and everyone reads them as texts all the same."""

import dataclasses
import io
import shutil
import subprocess

import h5py
import numpy as np
import pytest
import xarray
from hypothesis import given
from hypothesis import strategies as st

from implicit_cli.result import Axis
from implicit_cli.store import opened_arrays, read_claims, read_stored, read_summary, write_result, write_verification
from implicit_cli.store.image import Image
from implicit_cli.store.nodes import labels, texts
from implicit_cli.store.texts import MANY, WIDEST, clean, create_texts

from .conftest import make_header, make_verification


def stored(values):
    with h5py.File(io.BytesIO(), "w", libver=("v110", "v110")) as file:
        node = create_texts(file, "texts", np.array(values, object))
        return texts(node), node.dtype, node.chunks, dict(node.attrs), node.id.get_storage_size()


@given(st.lists(st.text(st.characters(), max_size=8), min_size=MANY - 2, max_size=MANY + 2), st.integers(0, 3))
def test_texts_come_back(values, more):
    found, dtype, *_ = stored(values + ["x" * (WIDEST - 2 + more)] * (more > 0))
    assert found[: len(values)] == [clean(value) for value in values]
    many = len(values) + (more > 0) >= MANY and more < 3
    assert (h5py.check_string_dtype(dtype).length is not None) == many


def test_many_texts_are_of_one_length_and_compressed():
    words = ["", "bound", "λ²", "estimate"] * 500
    found, dtype, chunks, attributes, size = stored(words)
    assert found == words
    assert h5py.check_string_dtype(dtype) == h5py.check_string_dtype(h5py.string_dtype("utf-8", 8))
    assert chunks == (2000,)
    assert attributes == {"_Encoding": "utf-8"}
    assert size < 200


def test_a_single_letter_is_no_word_in_pieces():
    """xarray would join an array of single bytes along its last axis."""
    image = Image()
    axis = image.dimension("axis", MANY, np.array([chr(48 + n) for n in range(MANY)], object))
    image.put("g/x", np.array(["a", "b"] * (MANY // 2), object), [axis], "")
    with xarray.open_datatree(io.BytesIO(bytes(image.finish({"title": ""}))), engine="h5netcdf") as tree:
        assert tree["g/x"].values.tolist() == ["a", "b"] * (MANY // 2)
        assert tree["g/x"].sel(axis="1").item() == "b"


def test_long_texts_are_cut_into_blocks():
    words = [f"{number:>1000}" for number in range(5000)]
    found, _, chunks, *_ = stored(words)
    assert found == words
    assert chunks == (1000,)


@pytest.mark.parametrize(
    "values", [["a", "b"], [], ["x" * (WIDEST + 1)] * MANY, [["a", "b"]] * MANY], ids=["few", "none", "long", "table"]
)
def test_other_texts_are_of_any_length(values):
    with h5py.File(io.BytesIO(), "w") as file:
        node = create_texts(file, "texts", np.array(values, object))
        assert h5py.check_string_dtype(node.dtype).length is None
        assert node.asstr()[()].tolist() == values
        assert "_Encoding" not in node.attrs


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A result of so many cases that their texts are of one length."""
    from .conftest import make_case, make_floppy

    case = make_case()
    cases = [dataclasses.replace(make_floppy(case) if n % 7 == 3 else case, id=f"ä{n}") for n in range(MANY + 6)]
    path = tmp_path_factory.mktemp("many") / "out.h5"
    write_result(path, make_header(), cases)
    write_verification(path, path, make_verification(cases[4]))
    return path


def test_our_own_readers_take_them(path):
    with h5py.File(path) as file:
        assert h5py.check_string_dtype(file["cases/message"].dtype).length == len("1 rattler: w[1]")
        assert h5py.check_string_dtype(file["verify/note"].dtype).length == len("of the case")
        assert labels(file["solution/w"], 0)[:2] == ["ä0", "ä1"]
    summary = read_summary(path)
    assert [case.id for case in summary.cases] == [f"ä{n}" for n in range(MANY + 6)]
    assert summary.cases[3].message == "1 rattler: w[1]"
    assert summary.cases[3].certificate[0].provenance == "estimated"
    assert read_stored(path, "ä5").status == "ok"
    claims, _ = read_claims(path, "ä10")
    assert claims[0].status == "partial"
    with opened_arrays(path) as arrays:
        assert arrays.facts("ä10")["solver"] == "fire"
        assert arrays.read(("jvp", "all_up", "w", "", ""), "ä10").estimate


def test_xarray_and_h5py_take_them(path):
    with xarray.open_datatree(path, engine="h5netcdf") as tree:
        assert tree["cases/message"].sel(case="ä3").item() == "1 rattler: w[1]"
        assert tree["cases/message"].sel(case="ä4").item() == ""
        assert "_Encoding" not in tree["cases/message"].attrs
        assert tree["sensitivity/w/penalty"].sel(case="ä10", feature="bmi").isnull().all()
    with h5py.File(path) as file:
        assert file["cases/id"].asstr()[4] == "ä4"


@pytest.mark.skipif(shutil.which("h5dump") is None, reason="h5dump is not installed")
def test_h5dump_prints_them(path):
    done = subprocess.run(["h5dump", "-d", "/diagnostics/solver/name", str(path)], check=True, capture_output=True, text=True)
    assert '"newton", "newton", "newton", "fire' in done.stdout


def test_labels_of_a_long_axis_are_kept_for_the_next_run(tmp_path, header, case):
    names = np.array([f"node {n}" for n in range(MANY)])
    header = dataclasses.replace(header, axes=(*header.axes, Axis("node", MANY, names)), spec_resolved='{"labels": {"node": null}}')
    write_result(tmp_path / "out.h5", header, [case])
    assert read_stored(tmp_path / "out.h5").labels["node"].tolist() == names.tolist()


def test_many_small_cases_take_less_than_their_arrays(tmp_path, header, case):
    """Numbers of ours compress; what must not happen is that texts weigh more than numbers."""
    rng = np.random.default_rng(0)

    def small(number):
        cut = dataclasses.replace(case, id=f"{rng.bytes(16).hex()}", products=case.products[:1], outputs=case.outputs)
        return dataclasses.replace(cut, solution={"w": rng.normal(size=3), "offset": rng.normal(size=())})

    write_result(tmp_path / "out.h5", header, [small(number) for number in range(1000)])
    numbers = words = 0
    with h5py.File(tmp_path / "out.h5") as file:
        for node in (file[name] for name in _names(file)):
            if isinstance(node, h5py.Dataset):
                text = h5py.check_string_dtype(node.dtype) is not None
                words, numbers = words + 8 * node.size * text, numbers + node.nbytes * (not text)
    assert (tmp_path / "out.h5").stat().st_size < 1.2 * (numbers + words)


def _names(file):
    names = []
    file.visit(names.append)
    return names
