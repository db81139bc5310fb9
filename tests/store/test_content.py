"""Each group carries the SHA-256 of what it holds, as the description of the format says; a change is told by group."""

import hashlib
import shutil

import h5py
import numpy as np
import pytest

from implicit_cli.errors import InputError
from implicit_cli.store import content as signing
from implicit_cli.store import integrity, layout, write_verification
from implicit_cli.store.content import CONTENT
from implicit_cli.store.guard import opened
from implicit_cli.store.image import Image
from implicit_cli.store.scratch import Scratch

from .conftest import make_verification


def as_described(group: h5py.Group) -> str:
    """The hash of a group, put together as docs/file-format.md says."""
    whole = b""
    for name in sorted(name for name in group if isinstance(group[name], h5py.Dataset) and f"{group.name}{name}" != "/checksum"):
        node = group[name]
        shape = ",".join(str(size) for size in node.shape)
        if h5py.check_string_dtype(node.dtype):
            letters = np.asarray(node.asstr()[()], object).ravel().tolist()
            whole += f"{name}\0text\0{shape}\0".encode() + b"".join(text.encode() + b"\0" for text in letters)
        else:
            values = np.asarray(node[()]).astype(node.dtype.newbyteorder("<"))
            whole += f"{name}\0{values.dtype.str}\0{shape}\0".encode() + values.tobytes(order="C")
    return hashlib.sha256(whole).hexdigest()


def groups(file: h5py.File) -> dict[str, h5py.Group]:
    found = {"/": file}
    file.visititems(lambda name, node: found.update({f"/{name}": node}) if isinstance(node, h5py.Group) else None)
    return found


def seal(path) -> None:
    """Sign the file again, as a program would that edits it and knows of the checksum of the whole alone."""
    content = bytearray(path.read_bytes())
    begin = content.rfind(layout.CHECKSUM_MARK) + len(layout.CHECKSUM_MARK)
    content[begin : begin + 64] = b"0" * 64
    content[begin : begin + 64] = hashlib.sha256(content).hexdigest().encode()
    path.write_bytes(content)


@pytest.fixture
def copy(finished, tmp_path):
    return shutil.copy(finished, tmp_path / "out.h5")


def test_every_group_has_the_hash_of_its_own_datasets(finished):
    with h5py.File(finished) as file:
        found = groups(file)
        assert len(found) > 20
        assert {name: group.attrs[CONTENT] for name, group in found.items()} == {
            name: as_described(group) for name, group in found.items()
        }


def test_arrays_that_never_were_in_memory_count_too(tmp_path):
    room, image = Scratch(tmp_path / "out.h5"), Image()
    array = room.allocate((70_000, 40))  # more than is read at a time
    array[:] = np.arange(2_800_000.0).reshape(70_000, 40)
    image.put("solution/x", array, [image.dimension("row", 70_000), image.dimension("column", 40)], "a large one")
    (tmp_path / "out.h5").write_bytes(bytes(image.finish({})))
    with h5py.File(tmp_path / "out.h5") as file:
        assert not file["solution/x"].chunks
        assert file["solution"].attrs[CONTENT] == as_described(file["solution"])


def test_an_added_group_is_signed_and_the_others_stay(copy, case):
    with h5py.File(copy) as file:
        before = {name: group.attrs[CONTENT] for name, group in groups(file).items()}
    write_verification(copy, copy, make_verification(case))
    with h5py.File(copy) as file:
        found = groups(file)
        after = {name: group.attrs[CONTENT] for name, group in found.items()}
        assert after == {name: as_described(group) for name, group in found.items()}
    old = {name for name in before if not name.startswith("/verify")}
    assert old | {"/verify"} < after.keys()
    assert {name for name in old if before[name] != after[name]} <= {"/"}
    assert integrity(copy).groups == len(after)


def test_what_is_whole_is_counted(finished):
    found = integrity(finished)
    with h5py.File(finished) as file:
        assert found.groups == len(groups(file))
        assert found.sha256 == bytes(file["checksum"][()])[-64:].decode()
        datasets = []
        file.visititems(lambda name, node: datasets.append(name) if isinstance(node, h5py.Dataset) else None)
    assert (found.datasets, found.size) == (len(datasets), finished.stat().st_size)


def test_a_file_of_an_earlier_version_has_no_hashes_and_is_whole(copy):
    with h5py.File(copy, "r+") as file:
        for group in groups(file).values():
            del group.attrs[CONTENT]
    seal(copy)
    assert integrity(copy).groups == 0


def test_text_that_no_checksum_of_hdf5_guards_is_named_by_its_group(copy):
    with h5py.File(copy) as file:
        text = file["spec/text"][()]
    content = copy.read_bytes()
    assert content.count(text) == 1
    copy.write_bytes(content.replace(text, text[:-1] + bytes([text[-1] ^ 1])))
    with pytest.raises(InputError, match=r"out\.h5: damaged or edited, checksum error in /spec; run again"):
        integrity(copy)


def test_a_change_that_was_signed_again_is_named(copy):
    with h5py.File(copy, "r+") as file:
        file["solution/w"][0, 0] += 1e-9
    seal(copy)
    with opened(copy):
        pass
    with pytest.raises(InputError, match=r"out\.h5: /solution changed after being written, and was signed again; run again"):
        integrity(copy)


@pytest.mark.parametrize("size", [0, 1, 8, 24, 100])
def test_the_hash_does_not_depend_on_the_size_of_its_pieces(finished, monkeypatch, size):
    monkeypatch.setattr(signing, "_PIECE_BYTES", size)
    with h5py.File(finished) as file:
        for group in groups(file).values():
            assert signing.content_sha256(group) == as_described(group)


@pytest.mark.parametrize(
    ("shape", "size", "rows"),
    [((5, 3), 48, [2, 2, 1]), ((5, 3), 47, [1] * 5), ((5, 3), 1, [1] * 5), ((4, 0), 8, [4]), ((0,), 8, [])],
)
def test_rows_are_read_a_few_at_a_time(monkeypatch, shape, size, rows):
    monkeypatch.setattr(signing, "_PIECE_BYTES", size)
    value = np.arange(np.prod(shape, dtype=int), dtype=float).reshape(shape)
    pieces = list(signing._pieces(value, 8))
    assert [len(piece) for piece in pieces] == rows
    assert not pieces or np.array_equal(np.concatenate(pieces), value)


def test_a_group_that_cannot_be_read_is_one_that_has_changed(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["sound/a"] = np.arange(3.0)
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk((3,))
        plist.set_filter(30_000, h5py.h5z.FLAG_OPTIONAL, (1,))
        space = h5py.h5s.create_simple((3,))
        made = h5py.h5d.create(file.create_group("other").id, b"a", h5py.h5t.NATIVE_DOUBLE, space, plist)
        made.write_direct_chunk((0,), b"\0" * 24)
        file["sound"].attrs[CONTENT] = signing.content_sha256(file["sound"])
        assert list(signing.changed(file)) == ["/other"]
