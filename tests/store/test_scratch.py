"""Arrays larger than the memory: they reach the file whole, or there is one line and no file."""

import errno
import os
import subprocess
import sys
import weakref

import numpy as np
import pytest

from implicit_cli.errors import EnvironmentProblem
from implicit_cli.store import scratch
from implicit_cli.store.scratch import Scratch

MIB = 2**20


def test_what_is_written_stays_when_it_leaves_the_memory(tmp_path):
    room = Scratch(tmp_path / "new" / "out.h5")
    a, b = room.allocate((3, 1000)), room.allocate((5,))
    values = np.random.default_rng(0).normal(size=(3, 1000))
    a[:, ::2], b[:] = values[:, ::2], 7.0
    room.release()
    a[:, 1::2] = values[:, 1::2]
    room.release()
    np.testing.assert_array_equal(a, values)
    np.testing.assert_array_equal(b, np.full(5, 7.0))
    # nothing has a name, and the folder of the result is not made before the result
    assert list(tmp_path.iterdir()) == []


def test_what_is_forgotten_gives_its_space_back(tmp_path):
    room = Scratch(tmp_path / "out.h5")
    array = room.allocate((10,))
    seen = weakref.ref(array)
    del array
    assert seen() is not None
    room.forget()
    assert seen() is None


@pytest.mark.parametrize("dtype", ["int8", "int64", "float32"])
def test_other_numbers_take_their_own_space(tmp_path, monkeypatch, dtype):
    sizes, reserve = [], scratch.reserve
    monkeypatch.setattr(scratch, "reserve", lambda descriptor, size: sizes.append(size) or reserve(descriptor, size))
    array = Scratch(tmp_path / "out.h5").allocate((3, 700), dtype)
    assert array.dtype == dtype
    assert sizes == [array.nbytes]


@pytest.mark.parametrize("supported", [True, False])
def test_space_is_taken_at_once_and_its_lack_is_one_line(tmp_path, monkeypatch, supported):
    def refuse(number):
        def fail(*arguments):
            raise OSError(number, os.strerror(number))

        return fail

    monkeypatch.setattr(scratch.os, "posix_fallocate", refuse(errno.ENOSPC if supported else errno.EOPNOTSUPP))
    if not supported:  # then zeros are written, which take the space just as well
        room = Scratch(tmp_path / "out.h5")
        assert not room.allocate((MIB // 8 + 3,)).any()
        monkeypatch.setattr(scratch.os, "write", refuse(errno.ENOSPC))
    with pytest.raises(EnvironmentProblem) as caught:
        Scratch(tmp_path / "out.h5").allocate((10, 10))
    assert str(caught.value) == (
        f"{tmp_path / 'out.h5'}: cannot write the result: {os.strerror(errno.ENOSPC)}; "
        "free some space or choose another folder with --output"
    )
    assert list(tmp_path.iterdir()) == []


WRITE = """
import resource, sys
from pathlib import Path
import numpy as np
from implicit_cli.store.atomic import replace_file
from implicit_cli.store.image import Image
from implicit_cli.store.scratch import Scratch

path, rows, columns, limit = Path(sys.argv[1]), *map(int, sys.argv[2:])
room = Scratch(path)
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
before = peak()
array = room.allocate((rows, columns))
for row in range(rows):
    array[row] = np.arange(columns) * (row + 1.0)
    room.release()
image = Image()
axes = [image.dimension("row", rows), image.dimension("column", columns)]
image.put("group/values", array, axes, "values", "m")
image.put("group/after", np.ones(columns), axes[1:], "after")
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
replace_file(path, image.finish({"title": "x"}))
print(peak() - before)
"""


def write(path, rows, columns, limit=0):
    command = [sys.executable, "-c", WRITE, str(path), *map(str, (rows, columns, limit))]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_limit_on_the_size_of_files_leaves_no_file(tmp_path):
    done = write(tmp_path / "out.h5", 8, MIB // 8, limit=3 * MIB)
    assert done.returncode == 1
    assert "EnvironmentProblem" in done.stderr
    assert f"cannot write the result: {os.strerror(errno.EFBIG)}; raise the limit on the size of files" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_large_array_passes_through_a_small_memory(tmp_path):
    import h5py

    done = write(tmp_path / "out.h5", 200, MIB // 8)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 80 * MIB
    with h5py.File(tmp_path / "out.h5") as file:
        assert file["group/values"].nbytes == 200 * MIB
        for row in (0, 77, 199):
            np.testing.assert_array_equal(file["group/values"][row], np.arange(MIB // 8) * (row + 1.0))
        assert file["group/after"][()].all()
