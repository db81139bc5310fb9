"""`implicit sweep` on a real Slurm: an array to its end, a cancelled task, a time limit, a job that takes the nodes."""

import json
import subprocess
import sys

import h5py
import numpy as np
import pytest

pytestmark = pytest.mark.slurm

LONG = 0.04
"""Seconds of a pause with which a case takes about one: long enough for a task to be hit while it computes."""


def status(sweep, code):
    """What `implicit sweep status --json` prints."""
    return json.loads(sweep.implicit("sweep", "status", "s.h5", "--json", code=code).stdout)


def requeued(cluster, job, number):
    """Whether the task has been given back to Slurm, or has started again since."""
    return int(cluster.tasks(job)[number]["Restarts"]) > 0


def test_an_array_to_its_end(sweep, cluster):
    sweep.plan(4)
    refused = sweep.implicit("sweep", "merge", "s.h5", code=2)
    assert "cases are missing" in refused.stderr
    assert "to submit what is missing: sbatch --array=1-4 s.h5.sbatch" in sweep.implicit("sweep", "status", "s.h5", code=1).stdout
    job = sweep.submit()
    assert cluster.ended(job) == dict.fromkeys((1, 2, 3, 4), "COMPLETED")
    found = status(sweep, 0)
    assert (found["cases"], found["done"], found["failed"], found["missing"]) == (24, 24, 0, 0)
    sweep.merged()
    with h5py.File(sweep.folder / "s.h5") as one, h5py.File(sweep.folder / "whole.h5") as other:
        for name in ("cases/id", "cases/parameters/b", "solution/x", "sensitivity/x/b", "sensitivity/size/b"):
            np.testing.assert_array_equal(one[name][()], other[name][()])


def test_a_cancelled_task_is_missing_and_submitted_again(sweep, cluster):
    sweep.plan(4)
    sweep.pause(LONG)
    job = sweep.submit()
    sweep.computing(2)
    cluster.call("scancel", f"{job}_2")
    sweep.pause(0)
    states = cluster.ended(job)
    assert states == {1: "COMPLETED", 2: "CANCELLED", 3: "COMPLETED", 4: "COMPLETED"}
    found = status(sweep, 1)
    assert [line["missing"] > 0 for line in found["shards"]] == [False, True, False, False]
    assert found["resubmit"] == "sbatch --array=2 s.h5.sbatch"
    again = sweep.submit()
    assert cluster.ended(again) == {2: "COMPLETED"}
    assert status(sweep, 0)["missing"] == 0
    sweep.merged()


def test_a_task_at_its_time_limit_saves_and_goes_on(sweep, cluster, awaited, monkeypatch):
    sweep.plan(1)
    sweep.pause(4 * LONG)  # 20 cases in more than a minute
    # what the environment says goes before what the script says: the signal comes within half a minute
    monkeypatch.setenv("SBATCH_TIMELIMIT", "1")
    monkeypatch.setenv("SBATCH_SIGNAL", "B:USR1@59")
    job = sweep.submit()
    awaited(lambda: requeued(cluster, job, 1), "the task is requeued", 90)
    cluster.call("scontrol", "update", f"jobid={job}_1", "TimeLimit=10")
    sweep.pause(0)
    assert cluster.ended(job) == {1: "COMPLETED"}
    saved = sweep.saved(1)
    assert saved[0] > 4  # more than were timed by the plan
    assert sweep.kept(1)[-1] == saved[-1]
    assert status(sweep, 0)["missing"] == 0
    sweep.merged()


def test_a_task_that_gets_the_signal_while_it_starts_is_not_lost(sweep, cluster, awaited):
    sweep.plan(1)
    sweep.pause(LONG)
    job = sweep.submit()
    awaited(lambda: cluster.states(job)[1] == "RUNNING", "the task runs")
    cluster.call("scancel", "--batch", "--signal=USR1", f"{job}_1")
    sweep.pause(0)
    assert cluster.ended(job) == {1: "COMPLETED"}
    assert status(sweep, 0)["missing"] == 0


def test_a_task_that_is_requeued_leaves_its_neighbours_alone(sweep, cluster, awaited):
    sweep.plan(2)
    sweep.pause(LONG)
    job = sweep.submit()
    for shard in (1, 2):
        sweep.computing(shard)
    # one task has the number of the whole array as its own
    first = next(number for number, fields in cluster.tasks(job).items() if fields["JobId"] == job)
    cluster.call("scancel", "--batch", "--signal=USR1", f"{job}_{first}")
    awaited(lambda: requeued(cluster, job, first), "the task is requeued")
    sweep.pause(0)
    assert cluster.ended(job) == {1: "COMPLETED", 2: "COMPLETED"}
    assert {number: int(fields["Restarts"]) for number, fields in cluster.tasks(job).items()} == {first: 1, 3 - first: 0}
    assert status(sweep, 0)["missing"] == 0


def test_a_worker_that_nobody_requeues_ends_with_75(sweep, cluster):
    sweep.plan(1)
    sweep.pause(LONG)
    command = f"--wrap=exec {sys.executable} -m implicit_cli sweep worker s.h5 --shard 1"
    job = cluster.call("sbatch", "--parsable", "--array=1", f"--chdir={sweep.folder}", "--output=s.h5.parts/shard-1.log", command)
    sweep.computing(1)
    cluster.call("scancel", "--batch", "--signal=USR1", f"{job}_1")
    assert cluster.ended(job) == {1: "FAILED"}
    assert cluster.tasks(job)[1]["ExitCode"] == "75:0"
    found = status(sweep, 1)
    assert found["done"] == sweep.saved(1)[-1]
    assert found["resubmit"] == "sbatch --array=1 s.h5.sbatch"


def test_a_job_that_takes_the_nodes_costs_nothing(sweep, cluster, awaited):
    sweep.plan(2)
    sweep.pause(LONG)
    job = sweep.submit()
    for shard in (1, 2):
        sweep.computing(shard)
    other = cluster.call("sbatch", "--parsable", "--partition=high", "--nodes=2", "--output=/dev/null", "--wrap=true")
    awaited(lambda: all(requeued(cluster, job, number) for number in (1, 2)), "both tasks are requeued", 90)
    sweep.pause(0)
    assert cluster.ended(job) == {1: "COMPLETED", 2: "COMPLETED"}
    assert set(cluster.states(other).values()) == {"COMPLETED"}
    for shard in (1, 2):
        assert sweep.kept(shard)[-1] == sweep.saved(shard)[-1]
    assert status(sweep, 0)["missing"] == 0
    sweep.merged()


def test_jobs_compute_what_one_process_hands_out_and_one_that_is_cancelled_costs_nothing(sweep, cluster, awaited, monkeypatch):
    # what only a site knows is in the settings of dask-jobqueue, which may be in the environment
    for name, value in {"MEMORY": "2GB", "QUEUE": "low", "WALLTIME": "00:10:00", "LOG_DIRECTORY": str(sweep.folder)}.items():
        monkeypatch.setenv(f"DASK_JOBQUEUE__SLURM__{name}", value)
    sweep.pause(LONG)
    command = [sys.executable, "-m", "implicit_cli", "run", "s.yaml", "-o", "s.h5", "--allow-plugin"]
    words = ["--jobs", "2", "--cluster", "slurm"]
    process = subprocess.Popen([*command, *words], cwd=sweep.folder, stderr=subprocess.PIPE, text=True)
    awaited(lambda: list((sweep.folder / "s.h5.parts").glob("*.h5")) or process.poll() is not None, "a part is saved", 120)
    first = cluster.call("squeue", "--noheader", "--states=RUNNING", "--format=%i").split()[0]
    cluster.call("scancel", first)
    sweep.pause(0)
    _, err = process.communicate(timeout=180)
    assert process.returncode == 0, err
    assert err.splitlines()[:2] == ["implicit: 24 cases", "implicit: asking slurm for 2 jobs"]
    assert "24 cases, 24 ok" in err.splitlines()[-1]
    awaited(lambda: not cluster.call("squeue", "--noheader"), "the jobs have ended")
    sweep.implicit("run", "s.yaml", "-o", "whole.h5", "--allow-plugin", "-q")
    sweep.implicit("compare", "whole.h5", "s.h5")
