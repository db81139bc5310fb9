import errno
import os
import stat

import pytest

from implicit_cli.errors import EnvironmentProblem, InputError
from implicit_cli.store import atomic
from implicit_cli.store.atomic import check_output, replace_file


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


def test_a_new_file_and_its_folders(tmp_path):
    replace_file(tmp_path / "a" / "b" / "out.h5", b"content")
    assert (tmp_path / "a" / "b" / "out.h5").read_bytes() == b"content"
    assert names(tmp_path / "a" / "b") == ["out.h5"]


def test_permissions_are_those_of_any_new_file(tmp_path):
    replace_file(tmp_path / "out.h5", b"")
    (tmp_path / "other").write_bytes(b"")
    assert stat.S_IMODE((tmp_path / "out.h5").stat().st_mode) == stat.S_IMODE((tmp_path / "other").stat().st_mode)


def test_an_earlier_file_is_replaced_and_its_readers_keep_it(tmp_path):
    path = tmp_path / "out.h5"
    path.write_bytes(b"earlier")
    with path.open("rb") as reader:
        replace_file(path, memoryview(b"later"))
        assert reader.read() == b"earlier"
    assert path.read_bytes() == b"later"


def test_a_link_is_replaced_and_not_followed(tmp_path):
    target = tmp_path / "target"
    target.write_bytes(b"precious")
    (tmp_path / "out.h5").symlink_to(target)
    replace_file(tmp_path / "out.h5", b"new")
    assert target.read_bytes() == b"precious"
    assert (tmp_path / "out.h5").read_bytes() == b"new"


def test_writes_that_take_only_a_part_are_continued(tmp_path, monkeypatch):
    write = os.write
    monkeypatch.setattr(atomic.os, "write", lambda descriptor, data: write(descriptor, data[:3]))
    replace_file(tmp_path / "out.h5", b"0123456789")
    assert (tmp_path / "out.h5").read_bytes() == b"0123456789"


class InPieces:
    """Content of which two bytes are known at the end."""

    def __iter__(self):
        yield from (memoryview(b"0123"), memoryview(b""), memoryview(b"456789"))

    def seal(self):
        return 3, b"ab"


def test_pieces_are_written_in_order_and_sealed(tmp_path, monkeypatch):
    write = os.write
    monkeypatch.setattr(atomic.os, "write", lambda descriptor, data: write(descriptor, data[:3]))
    replace_file(tmp_path / "out.h5", InPieces())
    assert (tmp_path / "out.h5").read_bytes() == b"012ab56789"


@pytest.mark.parametrize("allowed", [0, 1, 2])
def test_a_disk_that_fills_up_between_pieces(tmp_path, monkeypatch, allowed):
    write, calls = os.write, []

    def fill(descriptor, data):
        calls.append(data)
        if len(calls) > allowed:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, data)

    monkeypatch.setattr(atomic.os, "write", fill)
    with pytest.raises(EnvironmentProblem, match="No space left on device; free some space"):
        replace_file(tmp_path / "out.h5", InPieces())
    assert names(tmp_path) == []


@pytest.mark.parametrize("earlier", [True, False])
@pytest.mark.parametrize("call", ["open", "write", "fsync", "replace"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EIO])
def test_whatever_fails_leaves_the_earlier_file_and_nothing_else(tmp_path, monkeypatch, call, number, earlier):
    path = tmp_path / "out.h5"
    if earlier:
        path.write_bytes(b"earlier")

    def fail(*arguments, **options):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(atomic.os, call, fail)
    with pytest.raises(EnvironmentProblem) as caught:
        replace_file(path, b"new content")
    monkeypatch.undo()
    assert names(tmp_path) == (["out.h5"] if earlier else [])
    assert not earlier or path.read_bytes() == b"earlier"
    message = str(caught.value)
    assert message.startswith(f"{path}: cannot write the result: {os.strerror(number)}")
    assert "\n" not in message


def test_a_full_disk_after_some_bytes(tmp_path, monkeypatch):
    write, written = os.write, []

    def fill(descriptor, data):
        if written:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written.append(write(descriptor, data[:4]))
        return written[0]

    monkeypatch.setattr(atomic.os, "write", fill)
    with pytest.raises(EnvironmentProblem, match="No space left on device; free some space"):
        replace_file(tmp_path / "out.h5", b"0123456789")
    assert names(tmp_path) == []


def test_an_interrupt_leaves_nothing(tmp_path, monkeypatch):
    def interrupt(descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(atomic.os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        replace_file(tmp_path / "out.h5", b"new")
    assert names(tmp_path) == []


@pytest.mark.parametrize(("number", "known"), [(errno.EINVAL, True), (errno.ENOTSUP, True), (errno.EIO, False)])
def test_a_folder_that_cannot_be_synced(tmp_path, monkeypatch, number, known):
    fsync, count = os.fsync, []

    def second_fails(descriptor):
        count.append(descriptor)
        if len(count) == 2:
            raise OSError(number, os.strerror(number))
        fsync(descriptor)

    monkeypatch.setattr(atomic.os, "fsync", second_fails)
    if known:
        replace_file(tmp_path / "out.h5", b"new")
    else:
        with pytest.raises(EnvironmentProblem, match="the result is written, but its folder cannot be made durable"):
            replace_file(tmp_path / "out.h5", b"new")
    assert (tmp_path / "out.h5").read_bytes() == b"new"
    assert len(count) == 2


def test_a_folder_that_is_a_file(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(EnvironmentProblem, match="cannot write the result"):
        replace_file(tmp_path / "file" / "out.h5", b"new")
    with pytest.raises(InputError, match=r"found a file at .*, allowed: a folder"):
        check_output(tmp_path / "file" / "out.h5")


def test_folders_and_devices_are_not_results(tmp_path):
    for act in (check_output, lambda path: replace_file(path, b"")):
        with pytest.raises(InputError, match="found a folder, allowed: a file name"):
            act(tmp_path)
        with pytest.raises(InputError, match="found a device or a pipe"):
            act("/dev/null")


def test_an_input_is_not_overwritten(tmp_path):
    data = tmp_path / "data.h5"
    data.write_bytes(b"")
    check_output(tmp_path / "out.h5", [data, tmp_path / "missing.h5"])
    with pytest.raises(InputError, match="found an input of this run, allowed: another name"):
        check_output(tmp_path / "." / "data.h5", [data])


def test_a_check_makes_nothing(tmp_path):
    check_output(tmp_path / "new" / "folder" / "out.h5")
    assert names(tmp_path) == []


def test_a_folder_without_permission(tmp_path, monkeypatch):
    def refuse(dir):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(atomic.tempfile, "TemporaryFile", refuse)  # tests may run as root, whom no permission bits hold
    with pytest.raises(EnvironmentProblem, match="cannot write the result: Read-only file system; choose a folder that you may"):
        atomic.check_output(tmp_path / "out.h5")
