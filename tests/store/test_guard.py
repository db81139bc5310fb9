"""What is not a whole and sound result of ours is refused in one line; a flipped bit anywhere is seen."""

import hashlib
import os
import re
import shutil

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from implicit_cli.errors import EnvironmentProblem, InputError
from implicit_cli.store import guard, layout
from implicit_cli.store.guard import opened


def refusal(path) -> str:
    with pytest.raises(InputError) as caught, opened(path):
        pass
    assert len(caught.value.messages) == 1
    assert "\n" not in caught.value.messages[0]
    assert str(caught.value).startswith(f"{path}: ")
    return str(caught.value).removeprefix(f"{path}: ")


@pytest.fixture
def copy(finished, tmp_path):
    path = tmp_path / "out.h5"
    path.write_bytes(finished.read_bytes())
    return path


def edit(path, change) -> None:
    """Change a result and sign it again, as a program that does not keep to the format would."""
    with h5py.File(path, "r+", libver=("v110", "v110")) as file:
        change(file)
        offset = file[layout.CHECKSUM].id.get_offset() + len(layout.CHECKSUM_MARK)
    content = bytearray(path.read_bytes())
    content[offset : offset + 64] = b"0" * 64
    content[offset : offset + 64] = hashlib.sha256(content).hexdigest().encode()
    path.write_bytes(content)


def test_a_sound_file_is_opened(finished):
    with opened(finished) as file:
        assert file["solution/w"].shape == (2, 3)


def test_an_edit_that_is_signed_again_is_accepted(copy):
    edit(copy, lambda file: file.attrs.__setitem__("note", "mine"))
    with opened(copy) as file:
        assert file.attrs["note"] == "mine"


# Not a result


def test_missing(copy):
    assert refusal(copy.parent / "ouk.h5") == "no such file; did you mean 'out.h5'?"
    assert refusal(copy.parent / "nowhere" / "out.h5") == "no such file"


def test_a_folder(tmp_path):
    assert refusal(tmp_path) == "found a folder, expected a result file"


def test_a_device():
    assert refusal("/dev/null") == "found a device or a pipe, expected a result file"


def test_not_hdf5(tmp_path):
    (tmp_path / "a.yaml").write_text("problem: ridge\n")
    assert refusal(tmp_path / "a.yaml") == "not an HDF5 file, expected a result of `implicit run`"
    (tmp_path / "empty").write_bytes(b"")
    assert refusal(tmp_path / "empty") == "an empty file, expected a result of `implicit run`"


def test_someone_elses_hdf5(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = 1.0
    message = "an HDF5 file without the attribute 'format', expected 'implicit-result', a result of `implicit run`"
    assert refusal(tmp_path / "a.h5") == message
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file.attrs["format"] = "h5md"
    assert refusal(tmp_path / "b.h5").startswith("found format 'h5md', expected 'implicit-result'")


def test_a_file_that_may_not_be_read(copy, monkeypatch):
    def deny(self, *arguments, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(guard.Path, "open", deny)
    with pytest.raises(EnvironmentProblem, match="cannot read the file: Permission denied"), opened(copy):
        pass


# Newer, unfinished


def test_a_newer_version(copy):
    edit(copy, lambda file: file.attrs.__setitem__("format_version", 2))
    assert refusal(copy) == "format version 2, this implicit-cli reads up to 1: install a newer implicit-cli"


@pytest.mark.parametrize(("name", "value"), [("encoding-version", "2"), ("encoding-type", "tensor-train")])
def test_a_newer_encoding(copy, name, value):
    edit(copy, lambda file: file["solution"].attrs.__setitem__(name, value))
    assert re.fullmatch(r"/solution has encoding '.*' \d, unknown here: install a newer implicit-cli", refusal(copy))


def test_incomplete(copy):
    edit(copy, lambda file: file.attrs.__setitem__("complete", 0))
    assert refusal(copy) == "incomplete, its writer did not finish; run again"


@pytest.mark.parametrize("name", ["format_version", "encoding-type"])
def test_an_attribute_is_missing(copy, name):
    edit(copy, lambda file: file["solution" if name == "encoding-type" else "/"].attrs.__delitem__(name))
    assert refusal(copy).startswith("damaged, its structure cannot be read")


def test_a_dataset_that_the_format_demands_is_missing(copy):
    edit(copy, lambda file: file["cases"].__delitem__("status"))
    with pytest.raises(InputError, match=r"not as format version 1 says: .*status"), opened(copy) as file:
        file["cases"]["status"]


# Damaged


def chunk(path, name) -> tuple[int, int]:
    with h5py.File(path) as file:
        info = file[name].id.get_chunk_info(0)
        return info.byte_offset, info.size


@pytest.mark.parametrize("name", ["solution/w", "sensitivity/loss/penalty", "certificate/jacobian/w/scale/linear", "cases/status"])
def test_a_flipped_byte_in_a_chunk_names_the_dataset(copy, name):
    offset, size = chunk(copy, name)
    content = bytearray(copy.read_bytes())
    content[offset + size // 2] ^= 0x10
    copy.write_bytes(content)
    assert refusal(copy) == f"damaged or edited, checksum error in /{name}; run again, or restore the file from a copy"


def test_two_damaged_datasets_are_both_named(copy):
    content = bytearray(copy.read_bytes())
    for name in ("solution/w", "outputs/loss"):
        content[sum(chunk(copy, name)) - 1] ^= 1
    copy.write_bytes(content)
    message = refusal(copy)
    assert message.startswith("damaged or edited, checksum error in /")
    assert "/solution/w" in message
    assert "/outputs/loss" in message


def test_of_many_damaged_datasets_a_few_are_named(copy):
    content = bytearray(copy.read_bytes())
    for part in ("bound", "truncation", "linear", "rounding"):
        for name in ("w", "loss"):
            content[sum(chunk(copy, f"certificate/jacobian/{name}/penalty/{part}")) - 1] ^= 1
    copy.write_bytes(content)
    assert re.match(r"damaged or edited, checksum error in (/[\w/]+, ){4}/[\w/]+ and 3 more; run again", refusal(copy))


def test_text_and_scalars_are_guarded_too(copy):
    content = copy.read_bytes()
    assert content.count(b"problem: ridge\n") == 1
    copy.write_bytes(content.replace(b"problem: ridge\n", b"problem: fudge\n"))
    assert refusal(copy).startswith("damaged or edited, checksum error in /spec;")


def test_an_edit_by_another_program_is_seen(copy):
    with h5py.File(copy, "r+") as file:
        file["solution/w"][0, 0] = 1.0
    assert refusal(copy).startswith("damaged or edited, checksum error in /solution;")


def test_an_hdf5_library_that_crashes_on_damage_does_not_take_us_along(copy, monkeypatch):
    monkeypatch.setattr(guard.sys, "executable", shutil.which("false"))
    content = bytearray(copy.read_bytes())
    content[-1] ^= 1
    copy.write_bytes(content)
    assert refusal(copy).startswith("damaged, its structure cannot be read")


@pytest.fixture
def unnamed(monkeypatch):
    """Spare the process that looks for the damaged datasets."""
    monkeypatch.setattr(guard, "_damage", lambda path: "damaged")


@pytest.mark.usefixtures("unnamed")
@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_flipped_bit_is_refused(finished, tmp_path, data):
    content = bytearray(finished.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path = tmp_path / "flipped.h5"
    path.write_bytes(content)
    refusal(path)


@pytest.mark.usefixtures("unnamed")
@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_truncation_is_refused(finished, tmp_path, data):
    content = finished.read_bytes()
    path = tmp_path / "short.h5"
    path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    refusal(path)


# Hostile


def test_links_to_elsewhere(copy):
    def external(file):
        del file["solution"]
        file["solution"] = h5py.ExternalLink("/etc/passwd", "/")

    edit(copy, external)
    assert refusal(copy) == "/solution is a link to elsewhere, which a result never has"


def test_soft_links(copy):
    edit(copy, lambda file: file.__setitem__("alias", h5py.SoftLink("/solution")))
    assert refusal(copy) == "/alias is a link to elsewhere, which a result never has"


def test_links_in_a_circle(copy):
    edit(copy, lambda file: file["solution"].__setitem__("again", file["/"]))
    with opened(copy) as file:
        assert "again" in file["solution"]


def test_data_in_another_file(copy):
    def raw(file):
        file.create_dataset("solution/raw", shape=(4,), dtype="u1", external=[("/etc/hostname", 0, 4)])

    edit(copy, raw)
    assert refusal(copy) == "/solution/raw has its data elsewhere, which a result never has"


def test_a_virtual_dataset(copy):
    def virtual(file):
        layout = h5py.VirtualLayout(shape=(4,), dtype="f8")
        layout[:] = h5py.VirtualSource("gone.h5", "x", shape=(4,))
        file.create_virtual_dataset("solution/v", layout)

    edit(copy, virtual)
    assert refusal(copy) == "/solution/v has its data elsewhere, which a result never has"


def test_a_shape_that_the_file_cannot_hold(copy):
    edit(copy, lambda file: file["solution"].create_dataset("huge", shape=(2**31, 2**31), dtype="f8", chunks=(1024, 1024)))
    assert refusal(copy) == f"/solution/huge declares {2**65} bytes and holds 0, which a result never does"


def test_what_we_compress_best_is_not_taken_for_a_bomb(tmp_path):
    from implicit_cli.store.image import Image

    image = Image()
    image.put("solution/zero", np.zeros(3_000_000), [image.dimension("a", 3_000_000)], "")
    image.text("problem", "p", "")
    path = tmp_path / "zero.h5"
    path.write_bytes(bytes(image.finish({"format": layout.FORMAT, "format_version": 1, "complete": 1})))
    with opened(path) as file:
        assert not file["solution/zero"][()].any()


def test_a_result_that_is_replaced_while_it_is_read(copy, finished, monkeypatch):
    """The bytes that are verified are those that are read, and not those of a file renamed to the path meanwhile."""
    check = guard._checksum

    def replace_first(stream):
        other = copy.with_name("other")
        other.write_bytes(finished.read_bytes() + b"x")
        os.replace(other, copy)
        return check(stream)

    monkeypatch.setattr(guard, "_checksum", replace_first)
    with opened(copy) as file:
        assert file["solution/w"].shape == (2, 3)
