import hashlib
import io

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from implicit_cli.store.image import Image, _chunks


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
