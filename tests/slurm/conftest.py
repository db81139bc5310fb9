"""One Slurm for all tests of this folder, and a sweep to give to it."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

HERE = Path(__file__).parent
SPEC = """\
problem: ./slow.py:Slow
parameters: {b: [1.0, 1.0]}
sweep:
  over:
    b[0]: {linspace: [1, 4, 24]}
"""


def _module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


slurm = _module("cluster")


@pytest.fixture(scope="session")
def cluster(tmp_path_factory) -> Iterator[slurm.Cluster]:
    """A Slurm with the nodes n1 and n2 of one CPU each, and the partitions low and high."""
    if reason := slurm.missing():
        pytest.skip(reason)
    found = slurm.Cluster(tmp_path_factory.mktemp("slurm"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(found.config))
        # jobs inherit it: the commands of this Python
        patch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
        try:
            try:
                found.start()
            except AssertionError as error:  # a machine on which its daemons cannot run
                pytest.skip(f"needs a Slurm that starts here: {error}")
            yield found
        finally:
            found.stop()


@dataclass
class Sweep:
    """A sweep of 24 cases in a folder of its own, and the commands that a user would give there."""

    folder: Path
    cluster: slurm.Cluster

    def pause(self, seconds: float) -> None:
        """How long each evaluation of the outputs takes from now on; a case has some twenty."""
        # beside it first: a case may be reading
        other = self.folder / "pause.new"
        other.write_text(str(seconds))
        other.replace(self.folder / "pause")

    def implicit(self, *words: object, code: int = 0) -> subprocess.CompletedProcess[str]:
        """The command, as a process of its own, which must end with this exit code."""
        command = [sys.executable, "-m", "implicit_cli", *map(str, words)]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False)
        assert done.returncode == code, f"{words}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    def plan(self, shards: int) -> None:
        """Make the script of an array."""
        self.implicit("sweep", "plan", "s.yaml", "-o", "s.h5", "--shards", shards, "--allow-plugin", "--sbatch=--partition=low")

    def submit(self) -> str:
        """The number of the job."""
        return self.implicit("sweep", "submit", "s.h5").stdout.strip()

    def log(self, shard: int) -> str:
        """What the tasks of a shard have printed."""
        path = self.folder / "s.h5.parts" / f"shard-{shard}.log"
        return path.read_text() if path.exists() else ""

    def computing(self, shard: int, times: int = 1) -> None:
        """Wait until a task of this shard has begun to compute for the first, second time."""
        begun = re.compile(r"^implicit: \d+ cases", re.MULTILINE)
        slurm.awaited(lambda: len(begun.findall(self.log(shard))) >= times, f"shard {shard} computes", 90)

    def kept(self, shard: int) -> list[int]:
        """How many cases were done before, at each start of a task of this shard that found some."""
        return [int(count) for count in re.findall(r"(\d+) of them done before", self.log(shard))]

    def saved(self, shard: int) -> list[int]:
        """How many cases were done, at each end of a task of this shard that was told to stop."""
        return [int(count) for count in re.findall(r"stopped after (\d+) of \d+ cases, saved", self.log(shard))]

    def merged(self) -> None:
        """Merge, and compare with the run of one process."""
        self.implicit("sweep", "merge", "s.h5")
        assert not (self.folder / "s.h5.parts").exists()
        self.pause(0)
        self.implicit("run", "s.yaml", "-o", "whole.h5", "--allow-plugin", "-q")
        self.implicit("compare", "whole.h5", "s.h5")


@pytest.fixture
def sweep(cluster, tmp_path) -> Sweep:
    """A sweep that waits for nothing, of which nothing is planned."""
    shutil.copy(HERE / "slow.py", tmp_path)
    (tmp_path / "s.yaml").write_text(SPEC)
    found = Sweep(tmp_path, cluster)
    found.pause(0)
    return found


@pytest.fixture
def awaited():
    """`awaited(look, what, seconds)`: what `look` returns, as soon as that is true."""
    return slurm.awaited
