"""Let every write of every command fail in turn, and see that nothing is lost, nothing half-made, and the cause is told.

    python tests/faults/writes.py
    python tests/faults/writes.py --only merge convert --errors ENOSPC

A command runs again and again in one process, under a library that counts its calls to open, write, allocate, fsync, close, rename
and the like below a folder (`failing.c`), and lets one of them fail, or all from one on, as on a disk that is full. Each time:

1. the exit code is 3, or 0 where the result is what it would have been, and one line says which file and why; no traceback;
2. the output is what it was, byte for byte, or whole and new; all else that was there is untouched;
3. parts that have their final name can be read, and no temporary file is left;
4. the same command, without the fault, does what it would have done.

With `--disks` the folder is moreover a file system of its own that is too small, by a page less each time; that takes root. Ends
with exit code 1 at the first thing that is otherwise, and leaves the folder as it is.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import errno
import gc
import io
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from implicit_cli import api, store
from implicit_cli.api import sweeping
from implicit_cli.cli import main as implicit
from implicit_cli.errors import InputError
from implicit_cli.store import blocks, checkpoint

SPECS = {
    "one": "problem: ridge\nDATAsensitivity: {of: [w, validation_loss]}\nparameters: {penalty: 0.5}\n",
    "sweep": "problem: ridge\nDATAsensitivity: {of: [validation_loss]}\nsweep: {over: {penalty: {linspace: [0.5, 2, 4]}}}\n",
    "search": "problem: ridge\nDATAsensitivity: {of: [validation_loss]}\nparameters: {penalty: 0.5}\n"
    "outer: {objective: validation_loss, bounds: {penalty: [0.1, 1]}, tol: 0.01}\n",
    "branch": "problem: expression\nformulas:\n  parameters: {b: {}}\n  unknowns: {x: {}}\n  equations: {x: x ** 3 - x - b}\n"
    "initial: {x: -1.5}\nsweep: {over: {b: {linspace: [-1, 1, 3]}}, continue: arc}\n",
}
DATA = """\
data:
  X: [[1.0, 0.5, 0.0], [0.2, 1.0, 0.3], [0.3, 0.1, 2.0], [0.9, 0.4, 0.4]]
  y: [1.0, 2.0, 3.0, 0.5]
  X_validation: [[1.0, 1.0, 0.5], [0.1, 0.7, 0.2]]
  y_validation: [1.0, 1.5]
"""
EARLIER = b"what somebody has made before\n"
PAGE, MAPS = 4096, 18_000
ROUNDS = (("ENOSPC", False), ("ENOSPC", True), ("EIO", False), ("EROFS", True))
"""What fails with what: one call, or all from one on. A full disk lets things be removed, the others do not."""


class Fault(Exception):
    """Something that must never be."""


@dataclass(frozen=True)
class Act:
    """A command that writes `out`; commands that have run before it, and whether something is at `out` that is not its own."""

    words: str
    out: str = "o.h5"
    before: tuple[str, ...] = ()
    earlier: bool = True


ONE, SHARDS = "run one.yaml -q -o r.h5", ("run sweep.yaml -q -o o.h5 --shard 1/2", "run sweep.yaml -q -o o.h5 --shard 2/2")
SWEPT = "run sweep.yaml -q -o r.h5"
ACTS = {
    "run": Act("run one.yaml -q -o o.h5"),
    "blocks": Act("run one.yaml -q -o o.h5 --set sensitivity.memory=1"),
    "sweep": Act("run sweep.yaml -q -o o.h5"),
    "resumed": Act("run sweep.yaml -q -o o.h5", before=SHARDS[:1]),
    "grown": Act(
        "run sweep.yaml -q -o o.h5 --set sweep.over.penalty={linspace:[0.5,2,3]}",
        before=("run sweep.yaml -q -o o.h5 --set sweep.over.penalty=[0.5,3.0]",),
        earlier=False,
    ),
    "branch": Act("run branch.yaml -q -o o.h5"),
    "shard": Act(SHARDS[0], "o.h5.parts", earlier=False),
    "plan": Act("sweep plan sweep.yaml -q -o o.h5 --shards 2", "o.h5.sbatch", earlier=False),
    "merge": Act("sweep merge o.h5 -q", before=("sweep plan sweep.yaml -q -o o.h5 --shards 2", *SHARDS)),
    "optimize": Act("optimize search.yaml -q -o o.h5"),
    "jvp": Act("jvp r.h5 -d penalty=1 -q -o o.h5", before=(ONE,)),
    "vjp": Act("vjp r.h5 -c validation_loss=1 -q -o o.h5", before=(ONE,)),
    "verify": Act("verify r.h5 -q --in-place", "r.h5", (ONE,), earlier=False),
    "analyze": Act("analyze r.h5 elasticity -q --in-place", "r.h5", (ONE,), earlier=False),
    "replay": Act("replay r.h5 -q -o o.h5", before=(ONE,)),
    "convert": Act("convert r.h5 -q -o o.csv", "o.csv", (SWEPT,)),
    "netcdf": Act("convert r.h5 -q -o o.nc", "o.nc", (SWEPT,)),
    "matlab": Act("convert r.h5 -q -o o.mat", "o.mat", (SWEPT,)),
    "parquet": Act("convert r.h5 -q -o o.parquet", "o.parquet", (SWEPT,)),
    "plot": Act("plot r.h5 tornado -q -o o.svg", "o.svg", (ONE,)),
    "report": Act("report r.h5 -q -o o.html", "o.html", (ONE,)),
    "problem": Act("problems new mine --folder new -q", "new/mine.py", earlier=False),
}


@dataclass(frozen=True)
class Done:
    """How a command ended: its exit code, and what it said."""

    code: int
    said: str


@dataclass
class Trial:
    """A folder in which a command runs once more and once more, each time from what was there before it: `template`."""

    act: Act
    folder: Path
    template: Path
    whole: Path
    """Where everything went well: what the command leaves."""

    def begin(self) -> None:
        """All as it was before."""
        for path in self.folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        shutil.copytree(self.template, self.folder, dirs_exist_ok=True)

    def check(self, done: Done, error: str, *, removing: bool = False) -> None:
        """Raise Fault where one of the first three is broken; `removing` is where a removal failed, which leaves things."""
        said = [line for line in done.said.splitlines() if line.startswith("implicit: error: ")]
        if "Traceback" in done.said or done.code not in (0, 3):
            raise Fault(f"exit code {done.code}: {done.said}")
        if done.code == 0 and (said or not self.same(self.act.out)):
            raise Fault(f"exit code 0, and {self.act.out} is not what it would have been: {done.said}")
        if done.code == 3 and not (len(said) == 1 and os.strerror(number_of(error)) in said[0] and self.named(said[0])):
            raise Fault(f"the file and {error} are not told in one line: {done.said}")
        for path in files(self.template):
            if path not in files(self.folder) or (self.folder / path).read_bytes() != (self.template / path).read_bytes():
                if str(path) != self.act.out and not str(path).startswith("o.h5."):
                    raise Fault(f"{path} is not what it was")
                if str(path) == self.act.out and not self.same(path):
                    raise Fault(f"{path} is neither what it was nor what it would have been")
        if not (self.template / self.act.out).exists() and (self.folder / self.act.out).is_file() and not self.same(self.act.out):
            raise Fault(f"{self.act.out} is half-made")
        for part in self.folder.glob("*.parts/*.h5"):
            readable(part)
        if not removing and (left := self.temporary()):
            raise Fault(f"left behind: {', '.join(left)}")

    def check_again(self, done: Done, *, removing: bool = False) -> None:
        """Raise Fault where the command, run again without the fault, has not done what it would have done."""
        if done.code != 0 or done.said:
            raise Fault(f"run again: exit code {done.code}: {done.said}")
        if not self.same(self.act.out):
            raise Fault(f"run again: {self.act.out} is not what it would have been")
        there, expected = (
            {str(path) for path in files(folder) if ".parts" not in str(path)} for folder in (self.folder, self.whole)
        )
        if there != expected and not removing:
            raise Fault(f"run again: found {there - expected}, missing {expected - there}")

    def named(self, line: str) -> bool:
        """Whether a line names something that the command writes."""
        written = {self.act.out, "o.h5", *map(str, files(self.whole) - files(self.template))}
        return any(name in line for name in written)

    def temporary(self) -> list[str]:
        """What unfinished files are called."""
        return [str(path) for path in files(self.folder) if path.name.startswith((".implicit-", "tmp"))]

    def same(self, name: str | Path) -> bool:
        """Whether a file, or the parts in a folder, say what they say where everything went well."""
        path, other = self.folder / name, self.whole / name
        if path.is_dir():
            return set(parts(path)) == set(parts(other))  # some in two files, after a fault
        if path.suffix != ".h5":
            header = 128 if path.suffix == ".mat" else 0  # MATLAB's says when it was written
            return path.is_file() and path.read_bytes()[header:] == other.read_bytes()[header:]
        try:
            return api.compare(path, other).verdict == "agree" and groups(path) == groups(other)
        except InputError:
            return False


def number_of(name: str) -> int:
    """`ENOSPC` as a number."""
    return int(getattr(errno, name))


def files(folder: Path) -> set[Path]:
    """All files below a folder, by their paths from there."""
    return {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}


def parts(folder: Path) -> Iterator[str]:
    """The cases in a folder of parts."""
    for part in folder.glob("*.h5"):
        yield from readable(part)


def readable(path: Path) -> list[str]:
    """The ids of a result file, verified whole."""
    try:
        return list(store.read_outcomes(path).ids)
    except InputError as error:
        raise Fault(f"unreadable file: {error}") from error


def groups(path: Path) -> list[str]:
    """What a result file holds, by name."""
    import h5py

    found: list[str] = []
    with h5py.File(path) as file:
        file.visit(found.append)
    return found


def perform(words: str) -> Done:
    """A command in this process."""
    said = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
        code = implicit(words.split())
    # beyond 65,530 memory maps, of which each compiled program takes some, the compiler crashes
    if len(Path("/proc/self/maps").read_bytes().splitlines()) > MAPS:
        import jax

        jax.clear_caches()
        gc.collect()
    return Done(code, said.getvalue())


def prepared(act: Act, root: Path) -> Trial:
    """The folders of a trial: before the command, after it, and the one in which it is tried, which is the working folder."""
    trial = Trial(act, *(root / name for name in ("here", "before", "after")))
    trial.folder.mkdir(parents=True)
    os.chdir(trial.folder)
    for name, text in SPECS.items():
        Path(f"{name}.yaml").write_text(text.replace("DATA", DATA))
    for words in act.before:
        if (done := perform(words)).code:
            raise Fault(f"{words}: {done}")
    if act.earlier:
        Path(act.out).write_bytes(EARLIER)
    shutil.copytree(trial.folder, trial.template)
    if (done := perform(act.words)).code:
        raise Fault(f"{act.words}: {done}")
    shutil.copytree(trial.folder, trial.whole)
    return trial


def each_call(trial: Trial, errors: list[str]) -> str:
    """Let each call fail; what there is to say of it."""
    library = ctypes.CDLL(None)
    library.failing_call.restype = ctypes.c_char_p
    folder, count, kinds = os.fsencode(trial.folder), 0, Counter[str]()
    for error, later in ROUNDS:
        if error not in errors:
            continue
        number, calls = 0, 1
        while number < calls:
            number += 1
            trial.begin()
            library.failing_begin(folder, ctypes.c_long(number), number_of(error), later, error != "ENOSPC")
            done = perform(trial.act.words)
            made = library.failing_end()
            call = library.failing_call().decode()
            # where nothing failed, the command has made fewer calls than this
            calls = max(calls, number + 1) if call else 0
            if not call:
                break
            count, kind = count + 1, call.partition(" ")[0]
            kinds[kind] += 1
            removing = error != "ENOSPC" and (later or kind == "remove")
            try:
                trial.check(done, error, removing=removing)
                if done.code and not (removing and trial.same(trial.act.out)):
                    trial.check_again(perform(trial.act.words), removing=removing)
            except Fault as fault:
                raise Fault(f"call {number} of {made} ({call}){' and all later ones' if later else ''}: {error}: {fault}") from None
    return f"{count} faults ({', '.join(f'{number} {kind}' for kind, number in kinds.most_common())})"


def each_size(trial: Trial) -> str:
    """Let the folder be a disk that is too small, by a page less each time; what there is to say of it."""
    kept, count, pages = trial.folder, 0, 0
    held = sum(-(-(trial.template / path).stat().st_size // PAGE) for path in files(trial.template))
    os.chdir(trial.folder.parent)
    while True:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={(held + pages) * PAGE}", "tmpfs", str(kept)], check=True)
        try:
            os.chdir(kept)
            trial.begin()
            done = perform(trial.act.words)
            trial.check(done, "ENOSPC")
            if done.code:
                subprocess.run(["mount", "-o", "remount,size=64M", str(kept)], check=True)
                trial.check_again(perform(trial.act.words))
        except Fault as fault:
            raise Fault(f"a disk with {pages} pages to spare: {fault}") from None
        finally:
            os.chdir(kept.parent)
            subprocess.run(["umount", str(kept)], check=True)
        if done.code == 0:
            return f"{count} disks that were too small"
        count, pages = count + 1, pages + 1


def say(text: str) -> None:
    """A line that is there at once, also in a file."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def one(name: str, root: Path, errors: list[str], disks: bool) -> int:
    """All faults of one command, in this process; returns the exit code."""
    # many files of few cases, written at once: more calls that can fail
    sweeping.SAVED_EVERY, sweeping.MOST_AT_ONCE, sweeping.MOST_FILES = 0.0, 3, 2
    checkpoint.PAUSE = blocks.PAUSE = 0.0
    try:
        trial = prepared(ACTS[name], root / name)
        say(f"{name}: {each_size(trial) if disks else each_call(trial, errors)}")
    except Fault as fault:
        say(f"FAULT in {root / name}: {fault}")
        return 1
    return 0


def main(words: list[str] | None = None) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="+", choices=ACTS, default=list(ACTS), help="these commands")
    parser.add_argument("--errors", nargs="+", choices=sorted({error for error, _ in ROUNDS}), default=["ENOSPC", "EIO", "EROFS"])
    parser.add_argument("--disks", action="store_true", help="real disks that are too small, which takes root")
    parser.add_argument("--within", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args(words)
    if given.within is not None:
        return one(given.only[0], given.within, given.errors, given.disks)
    root = Path(tempfile.mkdtemp(prefix="implicit-writes-")).resolve()
    os.environ.setdefault("IMPLICIT_CACHE_DIR", str(root / "cache"))
    source, library = Path(__file__).with_name("failing.c"), root / "failing.so"
    subprocess.run(
        ["cc", "-std=gnu11", "-O1", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl", "-lpthread"], check=True
    )
    common = [sys.executable, __file__, "--within", str(root), "--errors", *given.errors, *(["--disks"] if given.disks else [])]
    for name in given.only:
        code = subprocess.run([*common, "--only", name], env={**os.environ, "LD_PRELOAD": str(library)}).returncode
        if code:
            say(f"FAULT: {name} ended with {code}")
            return 1
    shutil.rmtree(root)
    say(f"{len(given.only)} commands: nothing lost, nothing half-made, each cause told")
    return 0


if __name__ == "__main__":
    sys.exit(main())
