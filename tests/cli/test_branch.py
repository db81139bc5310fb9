"""`implicit run` of a sweep with `continue: arc`: what it prints and writes, how it goes on, and what it refuses."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from implicit_cli import api
from implicit_cli.api import branch
from implicit_cli.errors import Interrupted

CUBIC = '''\
"""x^3 - x = b, and its square."""

from implicit_cli.core import root
from implicit_cli.problem import Output, Parameter, Problem, Unknown


class Cubic(Problem):
    """x^3 - x = b: three roots where |b| is below 2 / (3 sqrt 3)."""

    b = Parameter(doc="height")
    x = Unknown(initial=-1.5)
    square = Output()

    def condition(self):
        return root(lambda x, theta, data: x._replace(x=x.x**3 - x.x - theta.b))

    def outputs(self, x, theta, data):
        return {"square": x.x**2}
'''
SPEC = "problem: ./cubic.py:Cubic\nsweep:\n  over: {b: {linspace: [-1, 1, 9]}}\n  continue: arc\n"
FOLD = 2 / (3 * np.sqrt(3))
POINTS = [*["level"] * 6, "fold", *["level"] * 3, "fold", *["level"] * 5, "end"]
VALUES = [-1, -0.75, -0.5, -0.25, 0, 0.25, FOLD, 0.25, 0, -0.25, -FOLD, -0.25, 0, 0.25, 0.5, 0.75, 1]
RUN = ("run", "s.yaml", "-o", "s.h5", "--allow-plugin")
PLACES = "b = 0.38490018 and b = -0.38490018"
TOLD = f"implicit: the branch passes 2 folds, at {PLACES}, and ends at b = 1: it leaves the range of the levels"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("cubic.py").write_text(CUBIC)
    Path("s.yaml").write_text(SPEC)
    return tmp_path


def table(path="s.h5"):
    """Ids, kinds of points, values of b, solutions, and derivatives."""
    with h5py.File(path) as file:
        texts = [file[f"cases/{name}"].asstr()[()].tolist() for name in ("id", "point")]
        return *texts, file["cases/parameters/b"][()], file["solution/x"][()], file["sensitivity/x/b"][()]


def test_a_branch_is_one_file_in_the_order_of_the_way(implicit):
    done = implicit(*RUN)
    assert done.code == 0, done.err
    lines = done.err.splitlines()
    assert lines[:4] == [
        "implicit: following a branch",
        "implicit: b = 0.38490018: the branch turns back, after 7 cases",
        "implicit: b = -0.38490018: the branch turns back, after 11 cases",
        "implicit: writing s.h5",
    ]
    assert lines[4].startswith("implicit: wrote s.h5: 17 cases, 15 ok, 2 singular, ")
    assert lines[5] == TOLD
    assert lines[6:] == []
    ids, points, b, x, slope = table()
    assert points == POINTS
    assert len(set(ids)) == 17
    np.testing.assert_allclose(b, VALUES, rtol=0, atol=1e-14)
    assert (np.diff(x) > 0).all()
    np.testing.assert_allclose(x**3 - x, b, rtol=0, atol=1e-14)
    fold = np.array(points) == "fold"
    assert np.isnan(slope[fold]).all()
    np.testing.assert_allclose(slope[~fold], 1 / (3 * x[~fold] ** 2 - 1), rtol=1e-12)
    with h5py.File("s.h5") as file:
        np.testing.assert_allclose(file["outputs/square"][()], x**2, rtol=1e-14)
        assert file["cases/message"].asstr()[-1] == "the branch ends here: it leaves the range of the levels"
    assert not Path("s.h5.parts").exists()
    # once more: nothing is left to do, and the same is told
    before = Path("s.h5").read_bytes()
    again = implicit(*RUN)
    assert (again.code, again.err.splitlines()[0]) == (0, "implicit: following a branch, 17 cases done before")
    assert again.err.splitlines()[-1] == TOLD
    assert Path("s.h5").read_bytes() == before
    # a fold is shown as any case, and a further product of another case is computed as ever
    shown = implicit("show", "s.h5", "--case", ids[6])
    assert "singular" in shown.out
    assert "the branch turns back at b = 0.384900179" in " ".join(shown.out.split())
    done = implicit("jvp", "s.h5", "-d", "b=2", "--case", ids[8], "--json", "--allow-plugin")
    assert done.code == 0, done.err
    product = next(one for one in json.loads(done.out)["cases"][0]["products"] if one["of"] == "x")
    np.testing.assert_allclose(product["norm"], 2.0, rtol=1e-12)


def test_the_ids_of_first_passages_are_those_of_any_sweep(implicit):
    assert implicit(*RUN).code == 0
    ids, points, b, _, _ = table()
    first = {value: name for name, point, value in zip(ids[::-1], points[::-1], b[::-1], strict=True) if point != "fold"}
    # from its own guess one of them finds no root, which changes nothing in what it is called
    assert implicit(*RUN[:2], "-o", "cold.h5", "--allow-plugin", "--set", "sweep.continue=null").code == 1
    with h5py.File("cold.h5") as file:
        assert file["cases/id"].asstr()[()].tolist() == [first[value] for value in np.linspace(-1, 1, 9)]
        assert "point" not in file["cases"]


def test_check_says_what_will_be_done(implicit):
    row = implicit("check", "s.yaml", "--allow-plugin").out.splitlines()[-1]
    assert row.split(maxsplit=1) == [
        "sweep",
        "9 levels of b: the branch from the first one is followed by its arclength, through folds; cases one by one",
    ]


class Heard:
    """An observer that counts cases."""

    cases = 0

    def stage(self, text): ...
    def progress(self, step, residual, tol): ...
    def chunk(self, done, total): ...
    def sweep(self, progress):
        self.cases = progress.done


@pytest.mark.parametrize("after", [1, 6, 7, 8, 12])
@pytest.mark.parametrize("forgotten", [False, True])
def test_what_is_done_is_not_computed_again(implicit, monkeypatch, after, forgotten):
    assert implicit(*RUN).code == 0
    whole = table()
    Path("s.h5").unlink()
    heard = Heard()
    monkeypatch.setattr(branch, "SAVED_EVERY", 0.0)
    with pytest.raises(Interrupted, match=rf"stopped after {after} cases, saved in s.h5.parts: the same command goes on"):
        api.run("s.yaml", Path("s.h5"), allow_plugin=True, observer=heard, stopped=lambda: heard.cases >= after)
    if forgotten:  # as after a kill between the cases and the way
        Path("s.h5.parts/branch.npz").unlink(missing_ok=True)
    elif after > 1:
        assert Path("s.h5.parts/branch.npz").exists()
    from implicit_cli.engine import branch as engine_branch

    computed = []
    for name in ("run_case", "without_derivative"):
        inner = getattr(engine_branch, name)
        monkeypatch.setattr(engine_branch, name, lambda *a, inner=inner, **k: (computed.append(k["identity"]), inner(*a, **k))[1])
    done = implicit(*RUN)
    assert done.code == 0, done.err
    assert done.err.splitlines()[0] == f"implicit: following a branch, {after} cases done before"
    assert done.err.splitlines()[-1] == TOLD
    found = table()
    assert found[:2] == whole[:2]
    for one, other in zip(found[2:], whole[2:], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-15)
    # without the way the first one is solved once more, to begin there
    assert computed == [*([whole[0][0]] if forgotten or after == 1 else []), *whole[0][after:]]


COMMAND = (
    "import sys; from implicit_cli.api import branch; branch.SAVED_EVERY = 0.0; "
    "from implicit_cli.cli import main; sys.exit(main(sys.argv[1:]))"
)


def test_a_signal_ends_the_run_after_saving(implicit):
    many = ("--set", "sweep.over.b.linspace=[-1,1,401]")
    environment = {**os.environ, "PYTHONPATH": ""}
    process = subprocess.Popen([sys.executable, "-c", COMMAND, *RUN, *many], stderr=subprocess.PIPE, text=True, env=environment)
    while process.poll() is None and not Path("s.h5.parts/branch.npz").exists():
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 75, err
    assert "saved in s.h5.parts: the same command goes on from there" in err
    done = implicit(*RUN, *many)
    assert "cases done before" in done.err.splitlines()[0]
    ids, points, _, x, _ = table()
    assert len(set(ids)) == len(ids) == 401 + 2 * 153 + 2
    assert points.count("fold") == 2
    assert (np.diff(x) > 0).all()


def test_scripts_are_told_the_way(implicit):
    done = implicit(*RUN, "--json-lines")
    events = [json.loads(line) for line in done.out.splitlines()]
    assert (done.code, done.err) == (0, "")
    assert (events[-1]["event"], events[-1]["folds"], events[-1]["exit_code"]) == ("done", 2, 0)
    assert f"implicit: {events[-1]['branch']}" == TOLD
    progress = [event for event in events if event["event"] == "sweep"]
    assert (progress[0]["total"], progress[0]["done"], progress[0]["at"]) == (None, 1, "b = -1")


def test_another_way_is_another_sweep(implicit):
    assert implicit(*RUN).code == 0
    more = implicit(*RUN, "--set", "sweep.over.b.linspace=[-1,1,17]")
    assert (more.code, more.err.splitlines()[0]) == (0, "implicit: following a branch")
    back = implicit(*RUN, "--set", "sweep.over.b.linspace=[1,-1,9]", "--set", "initial.x=1.5")
    assert back.err.splitlines()[0] == "implicit: following a branch"
    _, points, b, _, _ = table()
    assert points == POINTS
    np.testing.assert_allclose(b, -np.array(VALUES), rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (("--shard", "1/2"), "--shard"),
        (("--jobs", "2"), "--jobs"),
        (("--jobs", "2", "--cluster", "slurm"), "--jobs"),
    ],
)
def test_a_branch_is_not_divided(implicit, words, option):
    done = implicit(*RUN, *words)
    text = "found with s.yaml:4:13: sweep.continue: arc, allowed: one process, for a branch is followed from case to case"
    assert (done.code, done.err) == (2, f"implicit: error: {option}: {text}\n")
    assert not Path("s.h5.parts").exists()


def test_a_branch_is_not_planned_as_an_array(implicit):
    done = implicit("sweep", "plan", "s.yaml", "-o", "s.h5", "--allow-plugin")
    assert done.code == 2
    assert "implicit sweep plan: found with s.yaml:4:13: sweep.continue: arc, allowed: one process" in done.err


def test_faults_of_the_spec_need_no_jax(implicit):
    script = (
        "import sys; from implicit_cli.cli import main; code = main(sys.argv[1:]); assert 'jax' not in sys.modules; sys.exit(code)"
    )
    words = [*RUN, "--set", "sweep.start=neighbour"]
    done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "implicit: error: --set sweep.start: found 'neighbour' with continue: arc, allowed: 'cold'\n"
