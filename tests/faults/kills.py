"""Kill a sweep at random moments, start it again, and see that nothing finished is lost.

    python tests/faults/kills.py --kills 500 --cases 1000

A sweep runs as a process of its own, is killed with SIGKILL, and the same command is started again, until it is complete; then
another one begins, until all kills have been dealt. After each kill:

1. every result file that has its final name can be read, its checksum holds, and none has been set aside as damaged;
2. every case that was finished before is still finished;
3. OUT is not there, or whole.

The next process must say that it goes on from as many cases as there were. A complete sweep has each case once, in the order of
the design, equal to those of a run that nobody disturbed. Ends with exit code 1 at the first thing that is otherwise, and leaves
the folder as it is.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np

from implicit_cli import api, store
from implicit_cli.errors import InputError

FEATURES, SAMPLES = 12, 40
MOMENTS = {"start": 0.1, "work": 0.35, "save": 0.25, "write": 0.15, "merge": 0.15}
"""What a process does when it is killed, and how often: it starts, computes, has saved something, writes a file, makes OUT."""
AFTER = {"work": 3.0, "save": 1.5, "write": 0.003, "merge": 1.0}
"""Seconds from the beginning of that within which the kill comes."""
DEADLINE = 600.0
"""Seconds after which a process that neither ends nor gets to the moment is a fault."""

LAUNCHER = """\
import sys
from implicit_cli.api import sweeping
from implicit_cli.cli import main
sweeping.SAVED_EVERY, sweeping.MOST_FILES = {saved_every}, {most_files}
sys.exit(main(sys.argv[1:]))
"""


class Fault(Exception):
    """Something that must never be."""


def spec(cases: int) -> str:
    """A ridge regression with this many penalties."""
    rng = np.random.default_rng(0)
    weights = rng.normal(size=FEATURES)
    X, X_validation = rng.normal(size=(SAMPLES, FEATURES)).round(3), rng.normal(size=(15, FEATURES)).round(3)
    return f"""\
problem: ridge
data:
  X: {X.tolist()}
  y: {(X @ weights).round(1).tolist()}
  X_validation: {X_validation.tolist()}
  y_validation: {(X_validation @ weights).round(1).tolist()}
transforms: {{penalty: log}}
solver: {{name: lbfgs, tol: 1e-6}}
sensitivity: {{of: [w, validation_loss]}}
sweep: {{over: {{penalty: {{logspace: [-4, 2, {cases}]}}}}}}
"""


@dataclass
class Sweep:
    """One sweep in a folder of its own: what was finished when it was last looked at, and what has been seen of its processes."""

    folder: Path
    command: list[str]
    finished: set[str] = field(default_factory=set)
    kills: Counter[str] = field(default_factory=Counter)
    remains: int = 0
    most: int = 0

    @property
    def out(self) -> Path:
        """The result."""
        return self.folder / "out.h5"

    @property
    def parts(self) -> Path:
        """The folder of what is finished."""
        return self.folder / "out.h5.parts"

    @property
    def log(self) -> Path:
        """What the last process said."""
        return self.folder / "log"

    def start(self) -> subprocess.Popen[bytes]:
        """Begin, or go on."""
        self.remains = len(self.temporary())
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.log.open("wb") as log:
            words = ["run", str(self.folder.parent / "spec.yaml"), "-o", str(self.out)]
            return subprocess.Popen([*self.command, *words], stdout=log, stderr=log)

    def files(self) -> frozenset[str]:
        """Names of the result files in the folder of parts."""
        try:
            return frozenset(name for name in os.listdir(self.parts) if name.endswith(".h5"))
        except FileNotFoundError:
            return frozenset()

    def temporary(self) -> list[Path]:
        """What killed processes have left unfinished, in the folder of parts and beside OUT."""
        return [*self.folder.glob(".implicit-*.part"), *self.parts.glob(".implicit-*.part")]

    def reached(self, moment: str, before: frozenset[str]) -> bool:
        """Whether the running process has got there; `before` are the files that there were when it started."""
        said = self.log.read_text()
        match moment:
            case "work":
                return " cases" in said
            case "save":
                return bool(self.files() - before) or self.reached("merge", before)
            case "write":
                return len(self.temporary()) > self.remains
            case "merge":
                return f"writing {self.out}" in said
            case _:
                raise ValueError(moment)

    def check(self) -> None:
        """Raise Fault where one of the three is broken, or where the last process said that something is."""
        if "Traceback" in (said := self.log.read_text()) or "warning" in said:
            raise Fault(f"a process complained: {said}")
        match = re.search(r"(\d+) cases(?:, (\d+) of them done before)?\n", said)
        if match and int(match[2] or 0) != len(self.finished):
            raise Fault(f"{len(self.finished)} cases were finished, and the next process said: {match[0].strip()}")
        if damaged := sorted(self.parts.glob("*.damaged")):
            raise Fault(f"set aside as damaged: {damaged}")
        now = {name for file in self.files() for name in read(self.parts / file)}
        if self.out.exists():
            now |= set(self.whole())
        if lost := self.finished - now:
            raise Fault(f"{len(lost)} finished cases lost, one of them {min(lost)}")
        self.finished = now
        self.most = max(self.most, len(self.temporary()))

    def whole(self) -> list[str]:
        """The ids in OUT, which must be those of the undisturbed run in their order."""
        found, expected = read(self.out), read(self.folder.parent / "whole" / "out.h5")
        if found != expected:
            raise Fault(
                f"{self.out}: {len(found)} cases, {len(set(found))} different, not the {len(expected)} of the design in order"
            )
        return found


def read(path: Path) -> list[str]:
    """The ids in a result file, which is verified whole."""
    try:
        return list(store.read_outcomes(path).ids)
    except InputError as error:
        raise Fault(f"unreadable file: {error}") from error


def awaited(process: subprocess.Popen[bytes], reached: Callable[[], bool], seconds: float = DEADLINE) -> bool:
    """Wait until the process has got somewhere; False where it ended before."""
    deadline = time.monotonic() + seconds
    while process.poll() is None:
        if reached():
            return True
        if time.monotonic() > deadline:
            raise Fault(f"nothing happened for {seconds:.0f} s")
        time.sleep(0.0005)
    return False


def one_process(sweep: Sweep, rng: random.Random, startup: float) -> bool:
    """Start a process and kill it at a random moment; False where it was complete before."""
    moment = rng.choices(list(MOMENTS), list(MOMENTS.values()))[0]
    before, process = sweep.files(), sweep.start()
    try:
        if moment == "start" or awaited(process, lambda: sweep.reached(moment, before)):
            process.wait(rng.uniform(0.0, AFTER.get(moment, startup)))
    except subprocess.TimeoutExpired:
        pass
    finally:
        process.kill()
        code = process.wait()
    if code >= 0:
        if code:
            raise Fault(f"exit code {code}: {sweep.log.read_text()}")
        return False
    sweep.kills[moment] += 1
    sweep.check()
    return True


def undisturbed(sweep: Sweep) -> float:
    """Run the sweep to its end; returns the seconds until it began to compute."""
    begun, process = time.monotonic(), sweep.start()
    awaited(process, lambda: sweep.reached("work", frozenset()))
    startup = time.monotonic() - begun
    if process.wait(DEADLINE):
        raise Fault(sweep.log.read_text())
    return startup


def arrays(path: Path) -> dict[str, np.ndarray]:
    """What a sweep computes, by the names in its file."""
    found: dict[str, np.ndarray] = {}
    with h5py.File(path) as file:
        for group in ("solution", "outputs", "sensitivity"):
            file[group].visititems(
                lambda name, node: found.update({node.name: node[()]}) if isinstance(node, h5py.Dataset) else None
            )
    return found


def complete(sweep: Sweep, whole: Path) -> str:
    """Check a sweep that came to its end; what there is to say of it."""
    sweep.check()
    sweep.whole()
    verdict = api.compare(whole, sweep.out).verdict
    if verdict != "agree":
        raise Fault(f"{sweep.out} and {whole}: {verdict}")
    expected, found = arrays(whole), arrays(sweep.out)
    same = expected.keys() == found.keys() and all(expected[name].tobytes() == found[name].tobytes() for name in expected)
    remains = sorted(path.name for path in sweep.folder.iterdir() if path not in (sweep.out, sweep.log))
    dealt = ", ".join(f"{sweep.kills[moment]} {moment}" for moment in MOMENTS)
    return (
        f"{sweep.kills.total()} kills ({dealt}), values agree{', to the last bit' if same else ''}; "
        f"at most {sweep.most} temporary files, in the end {len(remains)}"
    )


def say(text: str) -> None:
    """A line that is there at once, also in a file."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main(words: list[str] | None = None) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=None, help="of the moments; another one each time without it")
    parser.add_argument("--saved-every", type=float, default=0.3, help="seconds between two files of a process")
    parser.add_argument("--most-files", type=int, default=5, help="files of a process before they become one")
    given = parser.parse_args(words)
    seed = random.randrange(1 << 32) if given.seed is None else given.seed
    rng, folder = random.Random(seed), Path(tempfile.mkdtemp(prefix="implicit-kills-"))
    os.environ.setdefault("IMPLICIT_CACHE_DIR", str(folder / "cache"))
    (folder / "spec.yaml").write_text(spec(given.cases))
    command = [sys.executable, "-c", LAUNCHER.format(saved_every=given.saved_every, most_files=given.most_files)]
    reference = Sweep(folder / "whole", command)
    dealt, sweeps = 0, 0
    try:
        startup = undisturbed(reference)
        say(f"seed {seed}: {given.cases} cases, computing begins after {startup:.1f} s")
        while dealt < given.kills:
            sweeps += 1
            sweep = Sweep(folder / f"sweep{sweeps}", command)
            ended = False
            while dealt < given.kills and not ended:
                ended = not one_process(sweep, rng, startup)
                dealt += not ended
            if not ended and sweep.start().wait(DEADLINE):
                raise Fault(sweep.log.read_text())
            say(f"sweep {sweeps}: {complete(sweep, reference.out)}")
            shutil.rmtree(sweep.folder)
    except Fault as fault:
        say(f"FAULT after {dealt} kills, in {folder}: {fault}")
        return 1
    shutil.rmtree(folder)
    say(f"{dealt} kills, {sweeps} sweeps: 0 finished cases lost, 0 unreadable files, all results complete")
    return 0


if __name__ == "__main__":
    sys.exit(main())
