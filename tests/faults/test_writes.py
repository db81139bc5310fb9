"""Every write of two commands fails, one by one; `writes.py` does that to all of them, with more kinds of errors."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("writes.py")


def performed(*words):
    done = subprocess.run([sys.executable, str(SCRIPT), *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux" or not shutil.which("cc"), reason="needs LD_PRELOAD, and a C compiler")
def test_writes_that_fail_lose_nothing():
    said = performed("--only", "problem", "convert", "--errors", "ENOSPC")
    found = re.findall(r"^(problem|convert): (\d+) faults \((.*)\)$", said, re.MULTILINE)
    assert [name for name, _, _ in found] == ["problem", "convert"]
    for _, count, kinds in found:
        assert {kind.split()[1] for kind in kinds.split(", ")} >= {"open", "write", "fsync", "close", "rename"}
        assert sum(int(kind.split()[0]) for kind in kinds.split(", ")) == int(count) >= 12
    assert said.endswith("2 commands: nothing lost, nothing half-made, each cause told\n")


@pytest.mark.slow
def test_disks_that_are_too_small_lose_nothing(mounts):
    """The table is larger than a page, so some of it gets on the disk."""
    assert re.search(r"^convert: [1-9] disks that were too small$", performed("--only", "convert", "--disks"), re.MULTILINE)


# What the script would say if something were wrong

EARLIER, NEW = b"earlier", b"new"
TOLD = "implicit: error: o.csv: cannot write the result: No space left on device; free some space\n"


@pytest.fixture
def writes(script):
    """The script, as a module."""
    return script("writes")


@pytest.fixture
def trial(writes, tmp_path):
    """A command that has failed as it should."""
    trial = writes.Trial(writes.Act("convert r.h5 -o o.csv", "o.csv"), *(tmp_path / name for name in ("here", "before", "after")))
    for folder, content in ((trial.folder, EARLIER), (trial.template, EARLIER), (trial.whole, NEW)):
        folder.mkdir()
        (folder / "o.csv").write_bytes(content)
        (folder / "r.h5").write_bytes(b"input")
    trial.check(writes.Done(3, TOLD), "ENOSPC")
    return trial


def test_the_new_result_may_be_there_whole(writes, trial):
    (trial.folder / "o.csv").write_bytes(NEW)
    trial.check(writes.Done(3, TOLD), "ENOSPC")
    trial.check(writes.Done(0, ""), "ENOSPC")
    trial.check_again(writes.Done(0, ""))


@pytest.mark.parametrize(
    ("code", "said", "message"),
    [
        (0, "", "exit code 0, and o.csv is not what it would have been"),
        (1, TOLD, "exit code 1"),
        (3, f"Traceback (most recent call last):\n{TOLD}", "exit code 3: Traceback"),
        (3, "", "not told in one line"),
        (3, TOLD + TOLD, "not told in one line"),
        (3, TOLD.replace("o.csv", "x"), "not told in one line"),
        (3, TOLD.replace("No space", "Some space"), "not told in one line"),
    ],
)
def test_what_must_not_be_said(writes, trial, code, said, message):
    with pytest.raises(writes.Fault, match=message):
        trial.check(writes.Done(code, said), "ENOSPC")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("o.csv", b"ne", "o.csv is neither what it was nor what it would have been"),
        ("o.csv", None, "o.csv is neither what it was"),
        ("r.h5", b"inp", "r.h5 is not what it was"),
        ("r.h5", None, "r.h5 is not what it was"),
        (".implicit-0123456789abcdef.part", b"", r"left behind: [.]implicit-0123456789abcdef[.]part"),
        ("o.h5.parts/0-0123456789abcdef.h5", b"x", "unreadable file: .*not an HDF5 file"),
    ],
)
def test_what_must_not_be_left(writes, trial, name, content, message):
    path = trial.folder / name
    if content is None:
        path.unlink()
    else:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    with pytest.raises(writes.Fault, match=message):
        trial.check(writes.Done(3, TOLD), "ENOSPC")


def test_a_new_file_must_not_be_half_made(writes, trial):
    (trial.template / "o.csv").unlink()
    (trial.folder / "o.csv").write_bytes(b"ne")
    with pytest.raises(writes.Fault, match=r"o[.]csv is half-made"):
        trial.check(writes.Done(3, TOLD), "ENOSPC")


def test_the_same_command_must_do_the_same(writes, trial):
    for code, said, message in ((3, TOLD, "run again: exit code 3"), (0, "", "run again: o.csv is not what it would have been")):
        with pytest.raises(writes.Fault, match=message):
            trial.check_again(writes.Done(code, said))
    (trial.folder / "o.csv").write_bytes(NEW)
    (trial.folder / "more").touch()
    with pytest.raises(writes.Fault, match=r"run again: found .*more"):
        trial.check_again(writes.Done(0, ""))
