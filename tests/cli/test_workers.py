"""`implicit run --jobs N`: several processes compute a sweep, and whatever becomes of them no case is lost."""

import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import psutil
import pytest

from implicit_cli import api, store
from implicit_cli.api import workers
from implicit_cli.status import Status

PROBLEM = '''\
"""A shift whose code ends its process, takes all memory, or never ends, at some values."""

import os
import signal
import time

import numpy as np

from implicit_cli.core import root
from implicit_cli.problem import Data, Parameter, Problem, Unknown


class Deadly(Problem):
    """x = b."""

    b = Parameter(doc="where x goes")
    pause = Data(doc="seconds that a case takes")
    x = Unknown()

    def residual(self, x, theta, data):
        return x._replace(x=x.x - theta.b)

    def condition(self):
        return root(self.residual)

    def settle(self, x, theta, data):
        time.sleep(float(data.pause))
        if float(theta.b) == 3.0:
            os.kill(os.getpid(), signal.SIGSEGV)
        hoard = []
        while float(theta.b) == 5.0:
            hoard.append(np.ones(10_000_000))
            time.sleep(0.05)
        while float(theta.b) == 100.0:
            time.sleep(0.05)
        return {}
'''
SPEC = """\
problem: ./deadly.py:Deadly
data: {pause: 0.05}
sweep:
  over:
    b: {linspace: [0, 23, 24]}
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("deadly.py").write_text(PROBLEM)
    Path("s.yaml").write_text(SPEC)
    return tmp_path


class Killer:
    """An observer that kills a worker once some cases are done, and keeps what it hears."""

    def __init__(self):
        self.heard, self.killed = [], 0

    def stage(self, text):
        self.heard.append(text)

    def progress(self, step, residual, tol): ...
    def chunk(self, done, total): ...
    def sweep(self, progress):
        if progress.done < 12 or self.killed:
            return
        family = psutil.Process().children(recursive=True)
        found = [one for one in family if one.status() != "zombie" and "spawn_main" in " ".join(one.cmdline())]
        if found:
            self.killed = found[0].pid
            found[0].kill()


@pytest.mark.slow
def test_whatever_ends_a_worker_costs_no_other_case(monkeypatch):
    # a worker may have a gigabyte and a half
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=3 << 30))
    observer = Killer()
    report = api.run("s.yaml", Path("s.h5"), allow_plugin=True, jobs=2, observer=observer)
    assert observer.killed
    assert report.counts == {Status.OK: 22, Status.CRASHED: 2}
    assert report.exit_code == 1
    found = store.read_outcomes(Path("s.h5"))
    assert len(set(found.ids)) == 24
    with h5py.File("s.h5") as file:
        b, x, status = file["cases/parameters/b"][()], file["solution/x"][()], file["cases/status"][()]
        np.testing.assert_array_equal(file["sensitivity/x/b"][status == Status.OK], 1.0)
    assert b[status == Status.CRASHED].tolist() == [3.0, 5.0]
    assert b.tolist() == list(range(24))
    np.testing.assert_array_equal(x[status == Status.OK], b[status == Status.OK])
    assert np.isnan(x[status != Status.OK]).all()
    assert all("ProcessEnded: 2 times, with this case alone in it" in case.message for case in report.cases)


@pytest.mark.slow
def test_a_case_that_never_ends_is_given_up(monkeypatch):
    monkeypatch.setattr(workers, "ALLOWANCE", 8.0)
    report = api.run("s.yaml", Path("s.h5"), overrides=["sweep.over.b=[100, 101]", "sweep.timeout=3"], allow_plugin=True, jobs=2)
    assert report.counts == {Status.OK: 1, Status.TIMED_OUT: 1}
    assert report.cases[0].message.startswith("more than 3 s, and no step of the solver ended: the case took longer")


@pytest.mark.slow
def test_a_signal_ends_the_workers_after_saving(implicit):
    command = [sys.executable, "-m", "implicit_cli", "run", "s.yaml", "-o", "s.h5", "--jobs", "2", "--allow-plugin"]
    slow = ["--set", "sweep.over.b.linspace=[10,49,40]", "--set", "data.pause=0.2"]
    process = subprocess.Popen([*command, *slow], stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not list(Path("s.h5.parts").glob("*.h5")):
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 75, err
    lines = err.splitlines()
    assert lines[:2] == ["implicit: 40 cases", "implicit: stopping when what is in hand is done; once more: at once"]
    assert lines[-1].endswith(" of 40 cases, saved in s.h5.parts: the same command goes on from there")
    kept = sum(len(store.read_outcomes(part).ids) for part in Path("s.h5.parts").glob("*.h5"))
    assert f"stopped after {kept} of" in lines[-1]
    # alone it goes on from there: who computes a case is no part of the question
    done = implicit("run", "s.yaml", "-o", "s.h5", "--allow-plugin", *slow)
    assert (done.code, done.err.splitlines()[0]) == (0, f"implicit: 40 cases, {kept} of them done before")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["s.yaml", "--cluster", "slurm"], "--cluster: found without --jobs, allowed: with --jobs N, the number of jobs"),
        (
            ["s.yaml", "--jobs", "2", "--cluster", "slumr"],
            "--cluster: found 'slumr', allowed: 'htcondor', 'lsf', 'oar', 'pbs', 'sge', 'slurm'; did you mean 'slurm'?",
        ),
        (["-", "--jobs", "2"], "SPEC: found '-', allowed with --jobs: a file, which other processes can read"),
        (
            ["s.yaml", "--jobs", "2", "--set", "sweep=null", "--set", "parameters.b=1", "--allow-plugin"],
            "--jobs: found with one case, allowed: with a section 'sweep' in s.yaml",
        ),
    ],
)
def test_what_is_wrong_is_said_in_a_line(implicit, words, message):
    done = implicit("run", *words, "-o", "s.h5")
    assert (done.code, done.err.split(":1:1")[0].rstrip("\n")) == (2, f"implicit: error: {message}")


def test_what_is_not_installed_is_named(implicit, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    done = implicit("run", "s.yaml", "-o", "s.h5", "--jobs", "2", "--allow-plugin")
    assert (done.code, done.err.splitlines()[-1]) == (
        3,
        "implicit: error: --jobs needs distributed: pip install 'implicit-cli[cluster]'",
    )
