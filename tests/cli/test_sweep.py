"""`implicit run` of a spec with a section `sweep`: what it prints and writes, and that nothing finished is lost."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest

from implicit_cli import api, store
from implicit_cli.api import sweeping
from implicit_cli.cli import console
from implicit_cli.status import Status

Q = np.array([[2.0, 0.5], [0.5, 1.0]])
SPEC = f"""\
problem: quadratic
data: {{Q: {Q.tolist()}}}
parameters: {{b: [1.0, -1.0]}}
sweep:
  over:
    b[0]: {{linspace: [1, 4, 4]}}
    b[1]: [0.5, 2.5]
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("s.yaml").write_text(SPEC)
    return tmp_path


def values(path):
    """Ids, parameters and solutions of a result file."""
    with h5py.File(path) as file:
        ids = [name.decode() for name in file["cases/id"][()]]
        return ids, file["cases/parameters/b"][()], file["solution/x"][()]


def test_all_cases_are_in_one_file_in_the_order_of_the_design(implicit):
    done = implicit("run", "s.yaml", "-o", "s.h5")
    assert done.code == 0
    lines = done.err.splitlines()
    assert lines[:2] == ["implicit: 8 cases", "implicit: writing s.h5"]
    assert lines[2].startswith("implicit: wrote s.h5: 8 cases, 8 ok, ")
    ids, b, x = values("s.h5")
    assert len(set(ids)) == 8
    assert b.tolist() == [[first, second] for first in (1.0, 2.0, 3.0, 4.0) for second in (0.5, 2.5)]
    np.testing.assert_allclose(x, np.linalg.solve(Q, b.T).T, rtol=0, atol=1e-14)
    with h5py.File("s.h5") as file:
        np.testing.assert_allclose(file["sensitivity/x/b"][()], np.broadcast_to(np.linalg.inv(Q), (8, 2, 2)), rtol=1e-14)
        assert (file["cases/accuracy"][()] < 1e-12).all()
    assert not Path("s.h5.parts").exists()


def test_the_same_command_again_computes_nothing_and_more_points_only_what_is_new(implicit):
    assert implicit("run", "s.yaml", "-o", "s.h5").code == 0
    before = Path("s.h5").read_bytes()
    again = implicit("run", "s.yaml", "-o", "s.h5")
    assert again.err.splitlines()[0] == "implicit: 8 cases, 8 of them done before"
    assert Path("s.h5").read_bytes() == before
    more = implicit("run", "s.yaml", "-o", "s.h5", "--set", "sweep.over.b[0].linspace=[1,4,7]")
    assert more.err.splitlines()[0] == "implicit: 14 cases, 8 of them done before"
    ids, b, _ = values("s.h5")
    assert b[:, 0].tolist() == np.repeat(np.linspace(1, 4, 7), 2).tolist()
    assert len(set(ids)) == 14
    # another question, or another way to answer it, is another sweep
    other = implicit("run", "s.yaml", "-o", "s.h5", "--set", "solver.tol=1e-5")
    assert other.err.splitlines()[0] == "implicit: 8 cases"


def test_check_says_how_many_cases_and_how(implicit):
    assert implicit("check", "s.yaml").out.splitlines()[-1] == "sweep          8 cases: grid of b[0], b[1]; one by one"
    many = implicit("check", "s.yaml", "--set", "sweep.over.b[0].linspace=[1,4,4000]")
    assert many.out.splitlines()[-1] == "sweep          8,000 cases: grid of b[0], b[1]; 32 at once"
    slow = implicit("check", "s.yaml", "--set", "sweep.over.b[0].linspace=[1,4,4000]", "--set", "precision=float32")
    assert slow.out.splitlines()[-1].endswith("; one by one: sensitivity asks for more than first derivatives in float64")


def test_a_failed_case_is_told_and_the_exit_code_says_so(implicit):
    done = implicit("run", "s.yaml", "-o", "s.h5", "--set", "solver={max_steps: 1, polish: false}")
    assert done.code == 1
    assert "8 cases, 8 not_converged" in done.err
    assert done.err.count("not_converged: ") == 8


def test_a_failed_case_ends_the_sweep_where_that_is_asked_for(implicit):
    failing = ("--set", "solver={max_steps: 1, polish: false}", "--set", "sweep.on_failure=abort")
    done = implicit("run", "s.yaml", "-o", "s.h5", *failing)
    assert done.code == 1
    assert ": not_converged: " in done.err
    assert "; stopped after 1 of 8 cases, saved in s.h5.parts, as sweep.on_failure asks" in done.err
    assert not Path("s.h5").exists()
    # what is done is done: without the wish it goes on
    assert implicit("run", "s.yaml", "-o", "s.h5", *failing[:2]).err.splitlines()[0] == "implicit: 8 cases, 1 of them done before"


def test_absurd_designs_are_refused_with_their_size(implicit):
    done = implicit("run", "s.yaml", "-o", "s.h5", "--set", "sweep.over.b[0].linspace=[1,4,1000000000000]")
    assert done.code == 2
    assert "found 2,000,000,000,000 cases, allowed: at most 1,000,000, which is sweep.max_cases" in done.err
    assert not Path("s.h5.parts").exists()


# Shards


def test_shards_make_the_file_of_one_run(implicit):
    assert implicit("run", "s.yaml", "-o", "whole.h5").code == 0
    for number in (2, 1, 3):
        done = implicit("run", "s.yaml", "-o", "s.h5", "--shard", f"{number}/3")
        assert (done.code, Path("s.h5").exists()) == (0, False)
        assert "wrote s.h5.parts: " in done.err
    assert implicit("run", "s.yaml", "-o", "s.h5").err.splitlines()[0] == "implicit: 8 cases, 8 of them done before"
    for one, other in zip(values("whole.h5"), values("s.h5"), strict=True):
        np.testing.assert_array_equal(one, other)
    assert implicit("compare", "whole.h5", "s.h5").code == 0


@pytest.mark.parametrize("shard", ["0/3", "4/3", "3", "a/b", "1/0", "-1/3"])
def test_a_shard_that_is_none_is_refused(implicit, shard):
    done = implicit("run", "s.yaml", "-o", "s.h5", f"--shard={shard}")
    assert (done.code, done.err) == (
        2,
        f"implicit: error: --shard: found '{shard}', allowed: NUMBER/COUNT, such as 3/16, with NUMBER from 1 to COUNT\n",
    )


def test_one_case_has_no_shards(implicit):
    done = implicit("run", "s.yaml", "-o", "s.h5", "--shard", "1/2", "--set", "sweep=null")
    assert done.code == 2
    assert "--shard: found with one case" in done.err


def test_a_folder_of_another_sweep_is_refused_with_what_differs(implicit):
    assert implicit("run", "s.yaml", "-o", "s.h5", "--shard", "1/2").code == 0
    done = implicit("run", "s.yaml", "-o", "s.h5", "--set", "solver.tol=1e-5")
    assert done.code == 2
    assert "s.h5.parts: belongs to another sweep: spec.solver.tol: found 1e-05, it was nothing" in done.err


# Interruptions

LONG = ("--set", "sweep.over.b[0].linspace=[1,4,300]")
COMMAND = [sys.executable, "-c", "import sys; from implicit_cli.cli import main; sys.exit(main(sys.argv[1:]))"]


def started(*words):
    return subprocess.Popen([*COMMAND, *words], stderr=subprocess.PIPE, text=True)


def wait_for_cases(process, folder="s.h5.parts"):
    """Until something is saved, or the process has ended."""
    while process.poll() is None and not list(Path(folder).glob("*.h5")):
        time.sleep(0.02)


@pytest.fixture
def saved_often(monkeypatch):
    """Processes that save after each batch."""
    monkeypatch.setitem(os.environ, "PYTHONPATH", "")
    script = (
        "import signal; signal.signal(signal.SIGHUP, signal.SIG_DFL); "  # under nohup it is ignored
        "import sys; from implicit_cli.api import sweeping; sweeping.SAVED_EVERY = 0.0; from implicit_cli.cli import main; "
    )
    monkeypatch.setattr(sys.modules[__name__], "COMMAND", [sys.executable, "-c", f"{script}sys.exit(main(sys.argv[1:]))"])


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130), (signal.SIGUSR1, 75), (signal.SIGHUP, 75)]
)
def test_a_signal_ends_the_run_after_saving(implicit, saved_often, number, code):
    process = started("run", "s.yaml", "-o", "s.h5", *LONG)
    wait_for_cases(process)
    process.send_signal(number)
    _, err = process.communicate(timeout=120)
    assert process.returncode == (130 if number == signal.SIGINT else 75), err
    assert "stopping when what is in hand is done; once more: at once" in err
    assert "of 600 cases, saved in s.h5.parts: the same command goes on from there" in err
    kept = sum(len(store.read_outcomes(part).ids) for part in Path("s.h5.parts").glob("*.h5"))
    done = implicit("run", "s.yaml", "-o", "s.h5", *LONG)
    assert done.err.splitlines()[0] == f"implicit: 600 cases, {kept} of them done before"
    assert len(set(values("s.h5")[0])) == 600


def test_a_damaged_part_is_named_and_computed_again(implicit):
    assert implicit("run", "s.yaml", "-o", "s.h5", "--shard", "1/1").code == 0
    part = next(Path("s.h5.parts").glob("*.h5"))
    content = bytearray(part.read_bytes())
    content[len(content) // 2] ^= 1
    part.write_bytes(content)
    done = implicit("run", "s.yaml", "-o", "s.h5")
    assert done.code == 0
    assert f"{part}" in done.err
    assert "set aside" in done.err
    assert len(values("s.h5")[0]) == 8


# Progress


class Heard:
    """An observer that keeps what it hears of a sweep."""

    def __init__(self):
        self.sweeps = []

    def stage(self, text): ...
    def progress(self, step, residual, tol): ...
    def chunk(self, done, total): ...
    def sweep(self, progress):
        self.sweeps.append(progress)


def test_progress_tells_how_far_how_well_and_what_is_left():
    heard = Heard()
    api.run("s.yaml", Path("s.h5"), observer=heard)
    assert [p.done for p in heard.sweeps] == list(range(1, 9))
    last = heard.sweeps[-1]
    assert (last.total, last.failed, last.kept, last.remaining) == (8, 0, 0, 0.0)
    assert 0 < last.worst < 1e-12
    assert all(p.rate >= 0 and p.seconds > 0 for p in heard.sweeps)


def test_the_rate_is_that_of_late_and_not_of_what_was_compiled(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(sweeping.time, "monotonic", lambda: now[0])
    heard = Heard()
    watched = sweeping.Watched({}, 1000, heard)
    for second in (40.0, *np.arange(41.0, 91.0)):  # 40 s until the first, then two a second
        now[0] = second
        result = SimpleNamespace(status=Status.OK, accuracy=1e-9)
        watched.add(result)
        watched.add(result)
    assert heard.sweeps[0].remaining == math.inf
    assert heard.sweeps[-1].rate == pytest.approx(2.0, abs=0.05)
    assert heard.sweeps[-1].remaining == pytest.approx(898 / 2, rel=0.05)
    assert console.sweep_text(heard.sweeps[-1]).startswith("102 of 1000 cases, 2.02 a second, 7 min left, worst bound 1.0e-09")


def test_scripts_get_an_object_a_line(implicit):
    done = implicit("run", "s.yaml", "-o", "s.h5", "--json-lines")
    events = [json.loads(line) for line in done.out.splitlines()]
    assert (done.code, done.err) == (0, "")
    assert [event["event"] for event in events if event["event"] != "sweep"] == ["stage", "stage", "done"]
    last = next(event for event in reversed(events) if event["event"] == "sweep")
    assert (last["done"], last["total"], last["kept"], last["failed"], last["remaining"]) == (8, 8, 0, 0, 0.0)
    assert events[-1]["statuses"] == {"ok": 8}
    assert (events[-1]["path"], events[-1]["exit_code"]) == ("s.h5", 0)


def test_show_is_an_overview_of_many_cases_and_one_case_whole(implicit):
    wrong = ("--set", "solver={max_steps: 1, polish: false}", "--set", "sweep.over.b[0].linspace=[0,4,5]")
    assert implicit("run", "s.yaml", "-o", "s.h5", *wrong).code == 1
    done = implicit("show", "s.h5")
    lines = done.out.splitlines()
    assert "10 cases: 10 not_converged" in done.out
    assert "First 10" in lines
    assert "Failed, 10 of 10" in lines
    ids = values("s.h5")[0]
    assert next(line.split()[:3] for line in lines if ids[3] in line) == [ids[3], "1", "2.5"]
    assert lines[-1] == "--case ID shows one of them, --json has them all"
    one = implicit("show", "s.h5", "--case", ids[3])
    assert f"case {ids[3]}: not_converged" in one.out
    assert ids[2] not in one.out
    wrong = implicit("show", "s.h5", "--case", "none")
    assert wrong.code == 2
    assert wrong.err.startswith("implicit: error: s.h5: no case 'none', allowed: ")


def test_data_that_vary_are_kept_with_their_cases(implicit):
    first = "sweep={design: zip, over: {b: [[1.0, 2.0], [3.0, 4.0]], Q: [[[2, 0], [0, 1]], [[3, 1], [1, 3]]]}}"
    grown = "sweep={design: zip, over: {b: [[5.0, 6.0], [1.0, 2.0]], Q: [[[4, 0], [0, 4]], [[2, 0], [0, 1]]]}}"
    assert implicit("run", "s.yaml", "-o", "s.h5", "--set", first).code == 0
    again = implicit("run", "s.yaml", "-o", "s.h5", "--set", grown, "--set", "parameters.b=[9.0, 9.0]")
    assert (again.code, again.err.splitlines()[0]) == (0, "implicit: 2 cases, 1 of them done before")
    ids, b, x = values("s.h5")
    with h5py.File("s.h5") as file:
        matrices = file["cases/swept/Q"][()]
    assert matrices.tolist() == [[[4, 0], [0, 4]], [[2, 0], [0, 1]]]
    np.testing.assert_allclose(x, np.linalg.solve(matrices, b[:, :, None])[:, :, 0], rtol=1e-14)
    # a case of it can be differentiated further, with its own data
    done = implicit("jvp", "s.h5", "-d", "b=[1, 0]", "--case", ids[0], "--json")
    assert done.code == 0, done.err
    products = {product["of"]: product for product in json.loads(done.out)["cases"][0]["products"]}
    np.testing.assert_allclose(products["x"]["norm"], 0.25, rtol=1e-14)


def test_the_files_of_a_long_run_become_one_now_and_then(implicit, monkeypatch):
    monkeypatch.setattr(sweeping, "SAVED_EVERY", 0.0)
    monkeypatch.setattr(sweeping, "MOST_FILES", 3)
    assert implicit("run", "s.yaml", "-o", "s.h5", "--shard", "1/1").code == 0
    assert len(list(Path("s.h5.parts").glob("*.h5"))) == 2  # 3, made one with 2 more, and again with 2; the last
    assert implicit("run", "s.yaml", "-o", "s.h5").code == 0
    assert len(set(values("s.h5")[0])) == 8
