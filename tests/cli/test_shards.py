"""`implicit sweep`: a job array is planned, its tasks compute shards, files alone tell how far it is, all becomes one result."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from implicit_cli import api, store
from implicit_cli.api.slurm import ranges
from implicit_cli.cli.signals import Signals

SPEC = """\
problem: quadratic
data: {Q: [[2.0, 0.5], [0.5, 1.0]]}
parameters: {b: [1.0, -1.0]}
sweep:
  over:
    b[0]: {linspace: [1, 4, 20]}
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("s.yaml").write_text(SPEC)
    return tmp_path


@pytest.fixture
def commands(tmp_path, monkeypatch):
    """Commands of a batch system that keep what they are told: a line of `told` for each call."""
    folder, told = tmp_path / "bin", tmp_path / "told"
    folder.mkdir()
    for name, answer in (("sbatch", "4711"), ("scontrol", ""), ("squeue", "${STATE:-RUNNING}")):
        path = folder / name
        path.write_text(f'#!/bin/sh\necho "{name} $*" >> {told}\necho {answer}\n')
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return told


def test_a_job_array_from_the_plan_to_the_result(implicit, commands):
    assert implicit("run", "s.yaml", "-o", "whole.h5").code == 0
    done = implicit("sweep", "plan", "s.yaml", "-o", "s.h5", "--shards", "3", "--sbatch", "--partition=long")
    assert done.code == 0
    lines = done.err.splitlines()
    assert lines[0] == "implicit: 20 cases, 0 of them done before; timing some"
    assert lines[1].startswith("implicit: 20 cases, 4 of them done; ")
    assert lines[2].startswith("implicit: wrote s.h5.sbatch: 3 shards, about ")

    # the sample is 4 cases from end to end of the design, and is not lost
    status = implicit("sweep", "status", "s.h5")
    assert (status.code, status.err) == (1, "")
    assert status.out.splitlines() == [
        "shard  cases  done  failed  missing",
        "1      6      1     0       5",
        "2      7      2     0       5",
        "3      7      1     0       6",
        "3 shards, 20 cases: 4 done, 16 missing",
        "to submit what is missing: sbatch --array=1-3 s.h5.sbatch",
    ]
    refused = implicit("sweep", "merge", "s.h5")
    assert (refused.code, Path("s.h5").exists()) == (2, False)
    assert refused.err == (
        "implicit: error: s.h5: 16 of 20 cases are missing, allowed: all of them, or --partial; "
        "`implicit sweep status s.h5` says which\n"
    )

    done = implicit("sweep", "worker", "s.h5", "--shard", "2")
    assert done.code == 0
    assert done.err.splitlines()[-1].startswith("implicit: shard 2: 7 cases, 7 ok, ")
    done = implicit("sweep", "submit", "s.h5")
    assert (done.code, done.out, done.err) == (0, "4711\n", "implicit: submitted 2 shards as job 4711\n")
    assert commands.read_text() == "sbatch --parsable --array=1,3 s.h5.sbatch\n"
    found = json.loads(implicit("sweep", "status", "s.h5", "--json").out)
    assert (found["cases"], found["done"], found["failed"], found["missing"]) == (20, 9, 0, 11)
    assert found["resubmit"] == "sbatch --array=1,3 s.h5.sbatch"
    assert found["shards"][1] == {"shard": 2, "cases": 7, "done": 7, "failed": 0, "missing": 0}

    for shard in ("1", "3"):
        assert implicit("sweep", "worker", "s.h5", "--shard", shard).code == 0
    status = implicit("sweep", "status", "s.h5")
    assert (status.code, status.out.splitlines()) == (
        0,
        ["3 shards, 20 cases: 20 done, none missing", "to write the result: implicit sweep merge s.h5"],
    )
    done = implicit("sweep", "submit", "s.h5")
    assert (done.code, done.err) == (
        2,
        "implicit: error: s.h5: no case is missing: `implicit sweep merge s.h5` writes the result\n",
    )
    done = implicit("sweep", "merge", "s.h5")
    assert (done.code, done.err) == (0, "implicit: wrote s.h5: 20 cases, 20 ok\n")
    assert not Path("s.h5.parts").exists()
    with h5py.File("s.h5") as one, h5py.File("whole.h5") as other:
        for name in ("cases/id", "cases/parameters/b", "solution/x", "sensitivity/x/b"):
            np.testing.assert_array_equal(one[name][()], other[name][()])


def test_the_script_is_one_that_a_shell_runs(implicit):
    assert implicit("sweep", "plan", "s.yaml", "-o", "it's.h5", "--shards", "2", "--sbatch=--account=a b").code == 0
    text = Path("it's.h5.sbatch").read_text()
    options = [line.removeprefix("#SBATCH ") for line in text.splitlines() if line.startswith("#SBATCH")]
    assert options[:2] == ["--job-name=it-s.h5", "--array=1-2"]
    assert {"--signal=B:USR1@60", "--requeue", "--open-mode=append", "--account=a b"} <= set(options)
    done = subprocess.run(
        ["bash", "it's.h5.sbatch"], env={**os.environ, "SLURM_ARRAY_TASK_ID": "2"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "implicit: shard 2: 10 cases, 10 ok, " in done.stderr


class Stopped(Signals):
    """A signal has come before the first case was done."""

    exit_code = 75

    def stopped(self):
        return True


@pytest.mark.parametrize(
    ("variables", "job"),
    [
        # the number of one of the tasks is that of the array, and would start all of them again
        ({"SLURM_JOB_ID": "17", "SLURM_ARRAY_JOB_ID": "17", "SLURM_ARRAY_TASK_ID": "1"}, "17_1"),
        ({"SLURM_JOB_ID": "17"}, "17"),
        ({}, None),
    ],
)
def test_a_task_that_is_stopped_asks_to_be_started_again(implicit, commands, monkeypatch, variables, job):
    for name in ("SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert implicit("sweep", "plan", "s.yaml", "-o", "s.h5", "--shards", "1").code == 0
    monkeypatch.setattr("implicit_cli.cli.sweep.Signals", Stopped)
    done = implicit("sweep", "worker", "s.h5", "--shard", "1", "--requeue")
    assert (done.code, done.err.splitlines()[-1]) == (
        75,
        "implicit: stopped after 5 of 20 cases, saved in s.h5.parts: the same command goes on from there",
    )
    told = commands.read_text().splitlines() if commands.exists() else []
    assert told == ([] if job is None else [f"squeue --noheader --jobs={job} --format=%T", f"scontrol requeue {job}"])
    # not where nobody asked for it
    assert implicit("sweep", "worker", "s.h5", "--shard", "1").code == 75
    assert len(commands.read_text().splitlines() if commands.exists() else []) == len(told)


def test_a_task_that_is_cancelled_is_not_started_again(commands, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    monkeypatch.setenv("STATE", "COMPLETING")
    assert not api.requeue()
    assert "scontrol" not in commands.read_text()


def test_status_and_merge_need_neither_the_spec_nor_jax(implicit, tmp_path):
    assert implicit("sweep", "plan", "s.yaml", "-o", "s.h5", "--shards", "1").code == 0
    Path("s.yaml").unlink()
    script = (
        "import sys; from implicit_cli.cli import main; code = main(sys.argv[1:]); "
        "print('jax' in sys.modules, file=sys.stderr); sys.exit(code)"
    )
    for words, code in ((("status", "s.h5"), 1), (("merge", "s.h5", "--partial", "-q"), 1)):
        done = subprocess.run([sys.executable, "-c", script, "sweep", *words], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (code, "False\n")
    assert len(store.read_outcomes(Path("s.h5")).ids) == 4
    # the parts stay where cases are missing
    assert json.loads(implicit("sweep", "status", "s.h5", "--json").out)["missing"] == 16


def test_failed_cases_are_done_and_told(implicit):
    wrong = ("--set", "solver={max_steps: 1, polish: false}")
    assert implicit("sweep", "plan", "s.yaml", "-o", "s.h5", "--shards", "2", *wrong).code == 0
    for shard in ("1", "2"):
        assert implicit("sweep", "worker", "s.h5", "--shard", shard).code == 1
    status = implicit("sweep", "status", "s.h5")
    assert status.code == 1
    assert status.out.splitlines()[-2:] == [
        "2 shards, 20 cases: 20 done, 20 of them failed, none missing",
        "to write the result: implicit sweep merge s.h5",
    ]
    assert implicit("sweep", "merge", "s.h5").code == 1


def test_shards_are_those_of_the_plan(implicit):
    assert implicit("sweep", "plan", "s.yaml", "-o", "s.h5", "--shards", "2").code == 0
    Path("s.yaml").write_text(SPEC.replace("20]", "30]"))
    done = implicit("sweep", "worker", "s.h5", "--shard", "1")
    assert (done.code, done.err.splitlines()[-1]) == (
        2,
        "implicit: error: s.h5.parts: planned for 20 cases, found another design with 30: `implicit sweep plan` again",
    )
    done = implicit("sweep", "worker", "s.h5", "--shard", "3")
    assert (done.code, done.err) == (2, "implicit: error: --shard: found 3, allowed: 1 to 2, as planned\n")
    # planned again, what was done counts
    done = implicit("sweep", "plan", "s.yaml", "-o", "s.h5", "--shards", "2")
    assert done.err.splitlines()[0] == "implicit: 30 cases, 2 of them done before; timing some"


def test_more_points_than_a_result_has_are_planned_with_what_it_has(implicit):
    assert implicit("run", "s.yaml", "-o", "s.h5").code == 0
    grown = ("--set", "sweep.over.b[0].linspace=[1,4,39]")
    assert implicit("sweep", "plan", "s.yaml", "-o", "s.h5", "--shards", "1", *grown).code == 0
    found = json.loads(implicit("sweep", "status", "s.h5", "--json").out)
    assert (found["cases"], found["done"]) == (39, 24)
    assert implicit("sweep", "worker", "s.h5", "--shard", "1").code == 0
    assert implicit("sweep", "merge", "s.h5").err == "implicit: wrote s.h5: 39 cases, 39 ok\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["plan", "-", "-o", "s.h5"],
            "SPEC: found '-', allowed with `implicit sweep plan`: a file, which other processes can read",
        ),
        (["plan", "s.yaml", "-o", "s.h5", "--shards", "1001"], "--shards: found 1001, allowed: 1 to 1000"),
        (
            ["plan", "s.yaml", "-o", "s.h5", "--sbatch", "partition=long"],
            "--sbatch: found 'partition=long', allowed: an option of sbatch, such as --partition=long",
        ),
        (
            ["plan", "s.yaml", "-o", "s.h5", "--set", "sweep=null"],
            "s.yaml:1:1: 'sweep' is missing, allowed: a mapping such as {over: {NAME: [1, 2, 3]}}",
        ),
        (["status", "s.h5"], "s.h5.parts/plan.npz: no such file: `implicit sweep plan` writes it"),
        (["worker", "s.h5", "--shard", "1"], "s.h5.parts/plan.npz: no such file: `implicit sweep plan` writes it"),
        (["merge", "s.h5"], "s.h5.parts/plan.npz: no such file: `implicit sweep plan` writes it"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(implicit, words, message):
    done = implicit("sweep", *words)
    assert (done.code, done.err) == (2, f"implicit: error: {message}\n")


def test_a_damaged_plan_is_named(implicit):
    assert implicit("sweep", "plan", "s.yaml", "-o", "s.h5", "--shards", "1").code == 0
    place = Path("s.h5.parts/plan.npz")
    content = bytearray(place.read_bytes())
    content[len(content) // 2] ^= 1
    place.write_bytes(content)
    assert implicit("sweep", "status", "s.h5").err == f"implicit: error: {place}: damaged, or no plan of a sweep: plan again\n"


def test_without_a_batch_system_the_script_is_named(implicit, monkeypatch, tmp_path):
    assert implicit("sweep", "plan", "s.yaml", "-o", "s.h5", "--shards", "1").code == 0
    monkeypatch.setenv("PATH", str(tmp_path))
    done = implicit("sweep", "submit", "s.h5")
    assert (done.code, done.err) == (
        3,
        "implicit: error: sbatch cannot be run: No such file or directory; any other batch system can run s.h5.sbatch\n",
    )


@pytest.mark.parametrize(
    ("numbers", "text"),
    [([4], "4"), ([1, 2, 3], "1-3"), ([1, 3, 5], "1,3,5"), ([1, 2, 7, 9, 10, 11], "1-2,7,9-11")],
)
def test_neighbours_are_written_as_ranges(numbers, text):
    assert ranges(numbers) == text
