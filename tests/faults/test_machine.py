"""What a machine may lack or spoil: a folder that can be written to, locks, memory, the cache of compiled programs."""

import fcntl
import re
import subprocess
import sys
from pathlib import Path

import h5py
import pytest

from implicit_cli import api, store

READ_ONLY = "cannot write the result: Read-only file system; choose a folder that you may write to with --output"


@pytest.fixture
def result(here):
    """A result file."""
    return api.run("one.yaml", Path("r.h5")).path


# A file system that is read-only


@pytest.fixture
def read_only(result, mounts):
    """A folder that nobody may write to, not even root, with the specs and the result in it."""
    folder = mounts("read_only", "size=4m")
    for path in (*Path().glob("*.yaml"), result):
        (folder / path.name).write_bytes(path.read_bytes())
    return mounts("read_only", "ro")


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("run one.yaml -q -o OUT", "o.h5"),
        ("run sweep.yaml -q -o OUT", "o.h5"),
        ("run one.yaml -q -o OUT", "new/o.h5"),
        ("jvp r.h5 -d penalty=1 -q -o OUT", "o.h5"),
        ("verify r.h5 -q -o OUT", "o.h5"),
        ("verify OUT -q --in-place", "r.h5"),
        ("analyze OUT -q --in-place", "r.h5"),
        ("convert r.h5 -q -o OUT", "o.csv"),
        ("report r.h5 -q -o OUT", "o.html"),
        ("plot r.h5 tornado -q -o OUT", "o.svg"),
        ("sweep plan sweep.yaml -q -o OUT", "o.h5"),
    ],
)
def test_a_read_only_folder_is_told_before_any_work(implicit, read_only, words, name):
    done = implicit(*words.replace("OUT", str(read_only / name)).split())
    assert (done.code, done.out, done.err) == (3, "", f"implicit: error: {read_only / name}: {READ_ONLY}\n")


def test_what_is_in_a_read_only_folder_can_be_read(implicit, read_only, result):
    for words in ("show FILE", "compare FILE r.h5", "verify FILE -q", "convert FILE -q -o o.csv", "jvp FILE -d penalty=1 -q"):
        assert implicit(*words.replace("FILE", str(read_only / result.name)).split()).code == 0
    assert implicit("run", read_only / "one.yaml", "-q", "-o", "o.h5").code == 0


def test_parts_that_became_read_only_are_gone_on_with(implicit, mounts, here):
    folder = mounts("disk", "size=4m")
    words = ("run", "sweep.yaml", "-q", "-o", folder / "o.h5")
    assert implicit(*words, "--shard", "1/2").code == 0
    before = {path: path.read_bytes() for path in folder.rglob("*.h5")}
    mounts("disk", "ro")
    done = implicit(*words)
    assert (done.code, done.err) == (3, f"implicit: error: {folder / 'o.h5'}: {READ_ONLY}\n")
    assert {path: path.read_bytes() for path in folder.rglob("*.h5")} == before
    mounts("disk", "rw")
    assert implicit(*words).code == 0
    assert len(store.read_outcomes(folder / "o.h5").ids) == 8


# Locks


@pytest.mark.parametrize("locking", ["TRUE", "FALSE"])
def test_results_are_read_and_written_where_nothing_can_be_locked(shell, result, locking):
    """As on many a shared file system. No lock is asked for, and somebody else's does no harm; HDF5 by itself would be refused."""
    with result.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with pytest.raises(BlockingIOError):
            h5py.File(result, "r", locking=True)
        line = "implicit show r.h5 >o.txt && implicit convert r.h5 -q -o o.csv && implicit verify r.h5 -q --in-place >o.txt"
        done = shell(line, HDF5_USE_FILE_LOCKING=locking)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# Memory

MEMORY = """\
import resource, sys
from pathlib import Path
from implicit_cli.cli import main

assert main(["run", "one.yaml", "-q", "-o", "first.h5"]) == 0  # what every run needs is there
size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + (1 << 30), resource.RLIM_INFINITY))
sys.exit(main(["run", "large.yaml", "-q", "-o", "o.h5"]))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs RLIMIT_AS and /proc")
def test_memory_that_runs_out_is_one_line(here):
    """A Jacobian of 12,000 x 12,000 takes 1.15 GB; the solution is kept."""
    n = 12_000
    Path("large.yaml").write_text(
        "problem: expression\n"
        f"formulas: {{parameters: {{a: {{shape: [{n}]}}}}, unknowns: {{x: {{shape: [{n}]}}}}, equations: {{x: x ** 3 + x - a}}}}\n"
        "parameters: {a: 2.0}\ninitial: {x: 1.0}\n"
    )
    Path("o.h5").write_bytes(b"earlier")
    done = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, timeout=300)
    assert done.returncode == 3, done.stderr
    assert done.stderr.count("\n") == 1
    assert re.match("implicit: error: .*([Oo]ut of memory|Cannot allocate memory)", done.stderr)
    assert Path("o.h5").read_bytes() == b"earlier"
    assert {path.name for path in here.iterdir()} == {"one.yaml", "sweep.yaml", "large.yaml", "first.h5", "o.h5", "o.h5.blocks"}


# The cache of compiled programs


def emptied(content: bytes) -> bytes:
    """As a full disk leaves it."""
    return b""


def blank(content: bytes) -> bytes:
    """As a crash may leave it."""
    return bytes(len(content))


def flipped(content: bytes) -> bytes:
    """One bit is another one."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.slow
@pytest.mark.parametrize("damage", [emptied, flipped, blank])
def test_damaged_programs_are_compiled_anew(shell, here, damage):
    """The numbers are the same to the last bit, and nothing is said."""
    cache = here / "cache"
    assert shell("implicit run one.yaml -q -o first.h5", IMPLICIT_CACHE_DIR=str(cache)).returncode == 0
    entries = list(cache.rglob("*-cache"))
    assert len(entries) > 10
    for entry in entries:
        entry.write_bytes(damage(entry.read_bytes()))
    done = shell("implicit run one.yaml -q -o second.h5", IMPLICIT_CACHE_DIR=str(cache))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert numbers("first.h5") == numbers("second.h5")


def numbers(path):
    """Solution, outputs and derivatives, with their bounds, with all digits."""
    found = []

    def visit(_, node):
        if isinstance(node, h5py.Dataset):
            found.append((node.name, str(node[()].tolist())))

    with h5py.File(path) as file:
        for group in ("solution", "outputs", "sensitivity", "certificate"):
            file[group].visititems(visit)
    return found
