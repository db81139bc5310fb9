import hashlib
import io

import h5py
import numpy as np
import pytest
import xarray
from hypothesis import given
from hypothesis import strategies as st

from implicit_cli.store.atomic import replace_file
from implicit_cli.store.image import Image, _chunks, _Pages
from implicit_cli.store.scratch import Scratch


def opened(image: Image) -> h5py.File:
    return h5py.File(io.BytesIO(bytes(image.finish({"title": "x"}))), "r")


def test_dimensions_are_scales_in_the_root_and_attached():
    image = Image()
    rows = image.dimension("row", 2, np.array(["up", "down"]), "which way")
    columns = image.dimension("column", 3)
    image.put("group/values", np.arange(6.0).reshape(2, 3), [rows, columns], "values", "m", extra="e")
    with opened(image) as file:
        node = file["group/values"]
        assert [dim[0].name for dim in node.dims] == ["/row", "/column"]
        assert file["row"].asstr()[()].tolist() == ["up", "down"]
        assert file["row"].attrs["long_name"] == "which way"
        assert file["column"][()].tolist() == [0, 1, 2]
        assert dict(node.attrs)["units"] == "m"
        assert node.attrs["extra"] == "e"


def test_a_dimension_steps_aside_for_whatever_else_has_its_name():
    image = Image()
    for wanted in ("atom", "atom", "mass", "group", "checksum"):
        image.dimension(wanted, 2)
    image.put("group/mass", 1.0, [], "mass")
    with opened(image) as file:
        names = {name for name, node in file.items() if isinstance(node, h5py.Dataset) and node.is_scale}
    assert names == {"atom", "atom_2", "mass_2", "group_2", "checksum_2"}


def test_arrays_are_compressed_and_guarded_and_scalars_are_not():
    image = Image()
    axis = image.dimension("axis", 100)
    nothing = image.dimension("nothing", 0)
    image.put("g/array", np.zeros(100), [axis], "")
    image.put("g/scalar", 1.0, [], "")
    image.put("g/empty", np.zeros(0), [nothing], "")
    with opened(image) as file:
        array = file["g/array"]
        assert (array.shuffle, array.compression, array.compression_opts, array.fletcher32) == (True, "gzip", 1, True)
        assert file["g/scalar"].chunks is None
        assert file["g/empty"].shape == (0,)


def test_order_is_that_of_writing():
    image = Image()
    for name in ("zeta", "alpha", "mu"):
        image.put(f"group/{name}", 0.0, [], "")
    with opened(image) as file:
        assert list(file["group"]) == ["zeta", "alpha", "mu"]


def test_numbers_are_stored_in_native_order():
    image = Image()
    image.put("x", np.array(1.5, dtype=">f8"), [], "")
    with opened(image) as file:
        assert file["x"].dtype == np.dtype("=f8")
        assert file["x"][()] == 1.5


def test_text_that_hdf5_cannot_hold_is_spelled_out():
    image = Image()
    image.text("t", "a\0b\udcffλ", "")
    with opened(image) as file:
        assert file["t"].asstr()[()] == "a\\x00b\\udcffλ"


def test_the_checksum_is_that_of_the_file_without_it():
    image = Image()
    image.put("x", 1.0, [], "")
    content = bytes(image.finish({}))
    with h5py.File(io.BytesIO(content), "r") as file:
        mark, _, stored = bytes(file["checksum"][()]).rpartition(b" ")
    assert mark == b"implicit-result sha256"
    assert content.count(stored) == 1
    assert hashlib.sha256(content.replace(stored, b"0" * 64)).hexdigest().encode() == stored


def test_the_same_content_gives_the_same_bytes():
    def make() -> bytes:
        image = Image()
        image.put("g/x", np.arange(5.0), [image.dimension("a", 5)], "")
        return bytes(image.finish({"title": "x"}))

    assert make() == make()


def test_contradictions_are_faults():
    image = Image()
    axis = image.dimension("axis", 3)
    with pytest.raises(ValueError, match=r"/x: found shape \(2,\), expected \(3,\)"):
        image.put("x", np.zeros(2), [axis], "")
    with pytest.raises(ValueError, match="2 labels for 3 entries"):
        image.dimension("other", 3, np.array([1, 2]))
    image.put("x", np.zeros(3), [axis], "")
    with pytest.raises(ValueError, match="written twice"):
        image.put("x", np.zeros(3), [axis], "")


@given(st.lists(st.integers(1, 3000), min_size=1, max_size=4))
def test_chunks_hold_at_most_a_mebibyte_and_are_contiguous(shape):
    chunks = _chunks(tuple(shape), 8)
    assert np.prod(chunks, dtype=float) * 8 <= 1 << 20
    assert all(1 <= chunk <= length for chunk, length in zip(chunks, shape, strict=True))
    # Before an axis that is cut, every axis is cut to one entry.
    cut = [axis for axis, (chunk, length) in enumerate(zip(chunks, shape, strict=True)) if chunk < length]
    assert not cut or all(chunks[axis] == 1 for axis in range(cut[-1]))


@pytest.fixture
def mapped(tmp_path):
    """An image with two mapped arrays among others, and their values."""
    room, image = Scratch(tmp_path / "out.h5"), Image()
    rows, columns = image.dimension("row", 3, np.array(["a", "b", "c"])), image.dimension("column", 100_003)
    values = np.random.default_rng(0).normal(size=(2, 3, 100_003))
    image.put("group/first", np.arange(100_003.0), [columns], "before")
    for name, value in zip(("large", "larger"), values, strict=True):
        array = room.allocate(value.shape)
        array[:] = value
        image.put(f"group/{name}", array, [rows, columns], "values", "m", kind="mapped")
        for number in range(40):  # enough to make HDF5 write while it goes on
            image.put(f"{name}/{number}", np.arange(3.0), [rows], "between")
    image.put("group/last", np.arange(3.0), [rows], "after")
    return image, values


def test_mapped_arrays_are_datasets_like_all_others(mapped, tmp_path):
    image, values = mapped
    replace_file(tmp_path / "out.h5", image.finish({"title": "x"}))
    assert (tmp_path / "out.h5").stat().st_size == len(bytes(image.finish({"title": "x"})))  # HDF5 stamps its groups with the time
    with h5py.File(tmp_path / "out.h5") as file:
        assert list(file["group"]) == ["first", "large", "larger", "last"]
        for name, value in zip(("large", "larger"), values, strict=True):
            node = file["group"][name]
            np.testing.assert_array_equal(node[()], value)
            assert (node.chunks, node.id.get_storage_size(), node.dtype) == (None, value.nbytes, np.dtype(float))
            assert [dim[0].name for dim in node.dims] == ["/row", "/column"]
            assert (node.attrs["units"], node.attrs["kind"]) == ("m", "mapped")
            assert all(file[name][str(number)][2] == 2.0 for number in range(40))
        np.testing.assert_array_equal(file["group/first"][()], np.arange(100_003.0))
        np.testing.assert_array_equal(file["group/last"][()], np.arange(3.0))
    with xarray.open_datatree(tmp_path / "out.h5", engine="h5netcdf") as tree:
        assert tree["group/large"].dims == ("row", "column")
        assert float(tree["group/larger"].sel(row="b", column=7)) == values[1, 1, 7]


def test_the_checksum_covers_mapped_arrays(mapped):
    content = bytes(mapped[0].finish({}))
    with h5py.File(io.BytesIO(content), "r") as file:
        stored = bytes(file["checksum"][()])[-64:]
    assert hashlib.sha256(content.replace(stored, b"0" * 64)).hexdigest().encode() == stored


def test_a_file_with_mapped_arrays_takes_no_memory_for_them(mapped):
    content = mapped[0].finish({})
    assert len(content._image._pages) <= 6


@given(st.lists(st.tuples(st.integers(0, 60), st.binary(max_size=40)), max_size=12))
def test_a_file_of_pages_is_a_file(writes):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("implicit_cli.store.image._PAGE_BYTES", 16)
        pages, file = _Pages(), io.BytesIO()
        for position, data in writes:
            for target in (pages, file):
                target.seek(position)
                if data:
                    target.write(data)
        assert b"".join(pages.parts(0)) == file.getvalue()
        for begin, length in ((0, 7), (13, 30), (90, 20)):
            found, expected = bytearray(length), bytearray(length)
            for target, buffer in ((pages, found), (file, expected)):
                target.seek(begin)
                target.readinto(buffer)
            assert found == expected
        assert pages.seek(0, io.SEEK_END) == len(file.getvalue())
