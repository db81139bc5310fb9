"""HDF5 references: what is read, and what is refused before it is read. Every file here is a real one."""

from __future__ import annotations

import os
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from implicit_cli.errors import EnvironmentProblem, InputError
from implicit_cli.spec import reference

SYMBOL = "in the attribute 'units', allowed: the symbol of a unit"
REAL = "allowed: real numbers of up to 64 bits"


def read(inner: str, *, text: bool = False, file: str = "d.h5"):
    return reference.read(Path(file), file, inner, place="PLACE", text=text)


def refused(inner: str, *, text: bool = False, file: str = "d.h5") -> str:
    with pytest.raises(InputError) as refusal:
        read(inner, text=text, file=file)
    (message,) = refusal.value.messages
    assert message.isprintable()
    return message.removeprefix(f"PLACE: {file}:{inner}: ").removeprefix("PLACE: ")


@pytest.fixture
def file(folder):
    with h5py.File(folder / "d.h5", "w") as file:
        yield file


def written(file: h5py.File) -> None:
    file.close()


@pytest.mark.parametrize("dtype", ["<f2", ">f4", "<f4", ">f8", "i1", ">i2", "<i8", ">i8", "u1", ">u4", "<u8", ">u8"])
@pytest.mark.parametrize("shape", [(), (3,), (2, 1, 3)])
def test_numbers_of_every_width_and_order_become_native(file, dtype, shape):
    array = np.arange(1, 1 + np.prod(shape, dtype=int)).reshape(shape).astype(dtype)
    file["X"] = array
    written(file)
    value, units = read("/X")
    np.testing.assert_array_equal(value, array)
    assert value.dtype == (np.float64 if array.dtype.kind == "f" else np.int64)
    assert value.dtype.isnative
    assert (value.shape, units) == (shape, None)


def test_whole_range_of_integers(file):
    file["i"] = np.array([-(2**63), 2**63 - 1])
    file["u"] = np.array([0, 2**63 - 1], dtype="u8")
    file["big"] = np.array([0, 2**63], dtype="u8")
    written(file)
    assert read("/i")[0].tolist() == [-(2**63), 2**63 - 1]
    assert read("/u")[0].tolist() == [0, 2**63 - 1]
    assert refused("/big") == "found 9223372036854775808, allowed: -2^63 to 2^63 - 1"


def test_stored_forms(file):
    array = np.arange(12.0).reshape(3, 4)
    file.create_dataset("packed", data=array, chunks=(2, 3), compression="gzip", shuffle=True, fletcher32=True)
    file.create_dataset("grows", data=array, maxshape=(None, 4))
    file.create_dataset("filled", shape=(4,), dtype="f8", chunks=(2,), fillvalue=7.0)[:2] = 1.0
    compact = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    compact.set_layout(h5py.h5d.COMPACT)
    space = h5py.h5s.create_simple((2,))
    h5py.h5d.create(file.id, b"compact", h5py.h5t.NATIVE_DOUBLE, space, compact).write(
        h5py.h5s.ALL, h5py.h5s.ALL, np.array([1.0, 2.0])
    )
    written(file)
    np.testing.assert_array_equal(read("/packed")[0], array)
    np.testing.assert_array_equal(read("/grows")[0], array)
    np.testing.assert_array_equal(read("/filled")[0], [1.0, 1.0, 7.0, 7.0])
    np.testing.assert_array_equal(read("/compact")[0], [1.0, 2.0])


def test_paths_and_links_within_the_file(file):
    file["g/X"] = 1.5
    file["soft"] = h5py.SoftLink("/g/X")
    file["g/relative"] = h5py.SoftLink("X")
    file["to_group"] = h5py.SoftLink("g")
    file["hard"] = file["g/X"]
    written(file)
    for inner in ("/g/X", "/g//X", "/./g/X", "/soft", "/g/relative", "/to_group/X", "/to_group/relative", "/hard"):
        assert read(inner)[0] == 1.5


def test_types_that_are_no_real_numbers(file):
    file["boolean"] = np.array([True])
    file["complex"] = np.array([1j])
    file["records"] = np.zeros(2, dtype=[("a", "f8")])
    file["opaque"] = np.array([b"ab"], dtype="V2")
    file["enumeration"] = np.array([0, 1], dtype=h5py.enum_dtype({"a": 0, "b": 1}))
    file["texts"] = np.array(["a"], dtype=h5py.string_dtype())
    file["fixed"] = np.array([b"a"])
    file["references"] = np.array([file["boolean"].ref], dtype=h5py.ref_dtype)
    file.create_dataset("ragged", (1,), h5py.vlen_dtype("f8"))[0] = [1.0, 2.0]
    file["type"] = np.dtype("f8")
    space = h5py.h5s.create_simple((3,))
    h5py.h5d.create(file.id, b"arrays", h5py.h5t.array_create(h5py.h5t.NATIVE_DOUBLE, (2,)), space)
    h5py.h5d.create(file.id, b"time", h5py.h5t.UNIX_D32LE, space)
    written(file)
    assert refused("/boolean") == f"found true/false values, {REAL}"
    assert refused("/complex") == f"found complex numbers, {REAL}"
    assert refused("/records") == f"found records or opaque bytes, {REAL}"
    assert refused("/opaque") == f"found records or opaque bytes, {REAL}"
    assert refused("/enumeration") == f"found an enumeration, {REAL}"
    assert refused("/texts") == f"found texts, {REAL}"
    assert refused("/fixed") == f"found texts, {REAL}"
    assert refused("/references") == f"found lists or references, {REAL}"
    assert refused("/ragged") == f"found lists or references, {REAL}"
    assert refused("/arrays") == f"found arrays within the entries, {REAL}"
    assert refused("/time") == f"found a type that NumPy lacks, {REAL}"
    assert refused("/type").startswith("found a named type, allowed: a dataset, the file holds '/arrays', '/boolean'")


@pytest.mark.skipif(np.dtype("g").itemsize == 8, reason="long doubles are doubles here")
def test_long_doubles_are_not_cut_down(file):
    file["X"] = np.array([1.0], dtype="g")
    written(file)
    assert refused("/X") == f"found 128-bit numbers, {REAL}"


def test_shapes(file):
    file["none"] = h5py.Empty("f8")
    file["flat"] = np.zeros((3, 0))
    written(file)
    assert refused("/none") == "found an empty dataset without a shape, allowed: at least one entry"
    assert refused("/flat") == "found the shape (3, 0), allowed: at least one entry along every axis"


def test_sizes_are_refused_before_anything_is_read(file, monkeypatch):
    file.create_dataset("huge", shape=(2**30, 2**30), dtype="f8", chunks=(1024, 1024))
    file.create_dataset("narrow", shape=(2**30,), dtype="i1", chunks=(1024,))
    file.create_dataset("chunk", shape=(3,), dtype="f8", chunks=(2**30 - 1,), maxshape=(None,))
    file.create_dataset("texts", shape=(2**20,), dtype="S3", chunks=(1024,))
    file.create_dataset("wide", shape=(2**10,), dtype="S8000000", chunks=(1,))
    file["X"] = np.zeros(4)
    written(file)
    assert refused("/huge") == "found a dataset of shape (1073741824, 1073741824), 8.59e+09 GiB in memory, allowed: 4 GiB"
    assert refused("/narrow") == "found a dataset of shape (1073741824), 8 GiB in memory, allowed: 4 GiB"
    assert refused("/chunk") == "found chunks of shape (1073741823), 8 GiB in memory, allowed: 4 GiB"
    assert refused("/texts", text=True) == "found 1048576 texts, allowed: 1000000"
    assert refused("/wide", text=True) == "found a dataset of shape (1024), 7.63 GiB in memory, allowed: 4 GiB"
    monkeypatch.setattr(reference, "MAX_BYTES", 32)
    assert read("/X")[0].tolist() == [0.0] * 4
    monkeypatch.setattr(reference, "MAX_BYTES", 31)
    assert refused("/X").startswith("found a dataset of shape (4), ")


def test_data_that_nobody_wrote(file):
    file.create_dataset("never", (3,), "f8")
    file.create_dataset("no_chunk", (3,), "f8", chunks=(2,))
    file.create_dataset("one_chunk", (4, 3), "f8", chunks=(2, 2))[:2, :2] = 1.0
    written(file)
    assert refused("/never") == "found a dataset that was never written, allowed: one with data"
    assert refused("/no_chunk") == "found data in 0 of 2 chunks, allowed: a dataset that is written in full"
    assert refused("/one_chunk") == "found data in 1 of 4 chunks, allowed: a dataset that is written in full"


def test_data_that_lie_elsewhere(file):
    with h5py.File("other.h5", "w") as other:
        other["X"] = [1.0, 2.0, 3.0]
    Path("raw.bin").write_bytes(np.arange(3.0).tobytes())
    file["link"] = h5py.ExternalLink("other.h5", "/X")
    file["to_link"] = h5py.SoftLink("/link")
    file["group"] = h5py.ExternalLink("other.h5", "/")
    file.create_dataset("raw", (3,), "f8", external=[("raw.bin", 0, h5py.h5f.UNLIMITED)])
    layout = h5py.VirtualLayout((3,), "f8")
    layout[:] = h5py.VirtualSource("other.h5", "X", (3,))
    file.create_virtual_dataset("virtual", layout)
    file["loop"] = h5py.SoftLink("/loop")
    written(file)
    assert refused("/link") == "found a link to the file 'other.h5', allowed: a dataset in the file itself"
    assert refused("/to_link") == "found a link to the file 'other.h5', allowed: a dataset in the file itself"
    assert refused("/group/X") == "found a link to the file 'other.h5', allowed: a dataset in the file itself"
    assert refused("/raw") == "found a dataset whose data lie in other files, allowed: data in the file itself"
    assert refused("/virtual") == "found a dataset whose data lie in other files, allowed: data in the file itself"
    assert refused("/loop") == "found more than 16 links on the way, allowed: fewer"


def test_a_filter_that_is_not_installed(file):
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_chunk((3,))
    plan.set_filter(32765, h5py.h5z.FLAG_OPTIONAL, ())
    h5py.h5d.create(file.id, b"X", h5py.h5t.NATIVE_DOUBLE, h5py.h5s.create_simple((3,)), plan)
    written(file)
    assert refused("/X") == "found the filter 32765 '', which is not installed, allowed: gzip"


def test_names_that_are_not_there(file):
    file["X"] = [1.0]
    file["group/deep/weights"] = [1.0]
    file["dangling"] = h5py.SoftLink("/nowhere")
    written(file)
    holds = "it holds '/X', '/group/deep/weights'"
    assert refused("/x") == f"d.h5 has no dataset '/x', {holds}; did you mean '/X'?"
    assert (
        refused("/group/deep/weihgts") == f"d.h5 has no dataset '/group/deep/weihgts', {holds}; did you mean '/group/deep/weights'?"
    )
    assert refused("/X/y").startswith(f"d.h5 has no dataset '/X/y', {holds}")
    assert refused("/dangling").startswith(f"d.h5 has no dataset '/dangling', {holds}")
    assert refused("/group") == "found a group, allowed: a dataset, the file holds '/X', '/group/deep/weights'"
    assert refused("/") == "found a group, allowed: a dataset, the file holds '/X', '/group/deep/weights'"


def test_a_long_list_of_names_is_cut_and_a_strange_one_shown_on_one_line(file):
    file["a\nb"] = 1.0
    for index in range(20):
        file[f"x{index:02d}"] = 1.0
    written(file)
    message = refused("/x99")
    assert "it holds '/a\\nb', '/x00', '/x01'" in message
    assert "'/x10' and 9 more" in message


def test_an_empty_file_holds_nothing(file):
    written(file)
    assert refused("/X") == "d.h5 has no dataset '/X', it holds nothing"


def test_labels(file):
    file["variable"] = np.array(["age", "größe"], dtype=h5py.string_dtype())
    file["fixed"] = np.array([b"age", b"bmi"])
    file["single"] = "age"
    file["square"] = np.array([["a"]], dtype=h5py.string_dtype())
    file["latin"] = np.array([b"gr\xf6\xdfe"], dtype=h5py.string_dtype())
    file["numbers"] = [1, 2]
    written(file)
    assert read("/variable", text=True)[0].tolist() == ["age", "größe"]
    assert read("/fixed", text=True)[0].tolist() == ["age", "bmi"]
    assert read("/fixed", text=True)[0].dtype.kind == "U"
    assert refused("/single", text=True) == "found texts of shape (), allowed: a list, with one axis"
    assert refused("/square", text=True) == "found texts of shape (1, 1), allowed: a list, with one axis"
    assert refused("/latin", text=True) == "found texts that are not UTF-8, allowed: UTF-8"
    assert refused("/numbers", text=True) == "found integers, allowed: texts"


def test_one_long_label_among_many_does_not_fill_the_memory(file, monkeypatch):
    file["X"] = np.array(["x" * 1000, *("y" * 99)], dtype=h5py.string_dtype())
    written(file)
    monkeypatch.setattr(reference, "MAX_BYTES", 100_000)
    assert refused("/X", text=True) == "found texts of up to 1000 characters, allowed: shorter ones"


@pytest.mark.parametrize(
    ("stored", "units"),
    [
        ("N/m", "N/m"),
        ("°C", "°C"),
        (np.bytes_(b"m s-1"), "m s-1"),
        (np.array(["K"], dtype=h5py.string_dtype()), "K"),
        (" K ", "K"),
        ("", None),
        (h5py.Empty("S1"), None),
    ],
)
def test_units(file, stored, units):
    file["X"] = 1.0
    file["X"].attrs["units"] = stored
    written(file)
    assert read("/X")[1] == units


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        (3, f"found no single short text {SYMBOL}"),
        (
            np.array(["K", "m"], dtype=h5py.string_dtype()),
            f"found no single short text {SYMBOL}",
        ),
        (np.bytes_(b"x" * 300), f"found no single short text {SYMBOL}"),
        ("x" * 300, f"found '{'x' * 60}...' {SYMBOL}"),
        ("a\nb", f"found 'a\\nb' {SYMBOL}"),
    ],
    ids=["number", "two", "fixed and long", "long", "two lines"],
)
def test_refused_units(file, stored, message):
    file["X"] = 1.0
    file["X"].attrs["units"] = stored
    written(file)
    assert refused("/X") == message


def test_files_that_are_none(folder):
    Path("text.h5").write_text("hello")
    Path("empty.h5").touch()
    Path("folder.h5").mkdir()
    os.mkfifo("pipe.h5")
    assert refused("/X", file="text.h5") == "text.h5: found another kind of file, allowed: HDF5"
    assert refused("/X", file="empty.h5") == "empty.h5: found another kind of file, allowed: HDF5"
    assert refused("/X", file="folder.h5") == "folder.h5: found a folder, allowed: an HDF5 file"
    assert refused("/X", file="pipe.h5") == "pipe.h5: found a device, a pipe or a socket, allowed: an HDF5 file"
    assert refused("/X", file="txt.h5") == "txt.h5: no such file; did you mean 'text.h5'?"
    assert refused("/X", file="no/d.h5") == "no/d.h5: no such file"


def test_what_the_system_refuses_is_no_fault_of_the_spec(file, monkeypatch):
    file["X"] = [1.0]
    written(file)

    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(EnvironmentProblem, match=r"^PLACE: d\.h5: cannot read the file: Permission denied$"):
        read("/X")


def test_too_little_memory_is_no_fault_of_the_spec(file, monkeypatch):
    file["X"] = [1.0]
    written(file)

    def refuse(*args, **kwargs):
        raise MemoryError

    monkeypatch.setattr(reference.np, "empty", refuse)
    with pytest.raises(EnvironmentProblem, match=r"^PLACE: d\.h5:/X: not enough memory to read the dataset$"):
        read("/X")


DAMAGED = "d.h5: damaged or cut short, the HDF5 library cannot read it; restore the file from a copy"


def test_a_file_cut_short(file):
    file["X"] = np.arange(1000.0)
    written(file)
    raw = Path("d.h5").read_bytes()
    Path("d.h5").write_bytes(raw[: len(raw) // 2])
    assert refused("/X") == DAMAGED


def test_a_chunk_that_fails_its_checksum(file):
    file.create_dataset("X", data=np.arange(1000.0), chunks=(1000,), fletcher32=True)
    offset = file["X"].id.get_chunk_info(0).byte_offset
    written(file)
    raw = bytearray(Path("d.h5").read_bytes())
    raw[offset + 100] ^= 1
    Path("d.h5").write_bytes(raw)
    assert refused("/X") == DAMAGED


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_file_with_flipped_bytes_is_read_or_refused_in_one_line(folder, data):
    path = folder / "d.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("X", data=np.arange(6.0), chunks=(3,), compression="gzip", fletcher32=True)
        file["X"].attrs["units"] = "K"
        file["g/names"] = np.array(["a", "b"], dtype=h5py.string_dtype())
    raw = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(raw)
    for inner, text in (("/X", False), ("/g/names", True), ("/nothing", False)):
        messages: tuple[str, ...] = ()
        try:
            read(inner, text=text)
        except InputError as refusal:
            messages = refusal.messages
        assert all(message.startswith("PLACE: d.h5") and message.isprintable() for message in messages)
