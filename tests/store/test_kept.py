"""What a run keeps to go on from is read as it was written, or not at all."""

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from implicit_cli.errors import EnvironmentProblem
from implicit_cli.store.kept import Damaged, read_kept, write_kept

HEADERS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
ARRAYS = st.sampled_from(["f8", "i8", "u8", "U16", "?"]).flatmap(
    lambda dtype: arrays.arrays(dtype, arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
)


@given(st.dictionaries(st.text(), HEADERS), st.dictionaries(st.from_regex(r"[a-gi-z ]{1,9}/[0-9]", fullmatch=True), ARRAYS))
def test_what_is_written_is_read(tmp_path_factory, header, given_arrays):
    path = tmp_path_factory.mktemp("kept") / "state.npz"
    write_kept(path, "state", header, given_arrays)
    again, found = read_kept(path, "state")
    assert again == header
    assert found.keys() == given_arrays.keys()
    for name, array in given_arrays.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(found[name], array)


@pytest.fixture
def kept(tmp_path):
    path = tmp_path / "state.npz"
    write_kept(path, "state", {"version": 1}, {"x": np.arange(3.0)})
    return path


def test_it_is_an_archive_of_numpy(kept):
    with np.load(kept) as file:
        assert file["x"].tolist() == [0.0, 1.0, 2.0]
        assert str(file["header"]) == '["state", {"version": 1}]'


def test_each_bit_counts(kept):
    content = kept.read_bytes()
    for place in range(8 * len(content)):
        damaged = bytearray(content)
        damaged[place // 8] ^= 1 << place % 8
        kept.write_bytes(damaged)
        with pytest.raises(Damaged, match="the checksum does not hold"):
            read_kept(kept, "state")


@pytest.mark.parametrize("size", [0, 1, 31, 32, 33, 200, -1])
def test_a_part_is_not_taken_for_the_whole(kept, size):
    kept.write_bytes(kept.read_bytes()[:size])
    with pytest.raises(Damaged):
        read_kept(kept, "state")


def test_a_pickle_is_not_read(tmp_path):
    path = tmp_path / "state.npz"
    write_kept(path, "state", {}, {"x": np.array([print], dtype=object)})
    with pytest.raises(Damaged, match="allow_pickle=False"):
        read_kept(path, "state")


@pytest.mark.parametrize("body", [b"", b"no archive", b"PK\3\4"])
def test_another_file_with_a_checksum_of_ours_is_refused(tmp_path, body):
    path = tmp_path / "state.npz"
    body += b"\x20\0"
    path.write_bytes(body + hashlib.sha256(body).digest())
    with pytest.raises(Damaged):
        read_kept(path, "state")


def test_a_file_that_was_kept_for_something_else_is_refused(kept):
    with pytest.raises(Damaged, match="kept for state, not for plan"):
        read_kept(kept, "plan")


def test_where_nothing_was_kept_there_is_nothing(tmp_path):
    assert read_kept(tmp_path / "state.npz", "state") is None
    with pytest.raises(EnvironmentProblem, match="cannot read the file: Is a directory"):
        read_kept(tmp_path, "state")
