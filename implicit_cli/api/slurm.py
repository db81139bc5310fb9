"""What Slurm is told: the script of a job array, the command that submits it, and the wish to start a task again."""

from __future__ import annotations

import math
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from implicit_cli.api.sweeping import parts_of
from implicit_cli.errors import EnvironmentProblem

MARGIN, SLACK = 2.0, 300.0
"""What a task asks for: so many times the seconds that it is expected to take, and so many more."""
WARNING = 60
"""Seconds before its time limit at which a task is told to save and end."""


def script(output: Path, count: int, seconds: float, directives: Sequence[str]) -> str:
    """The script of a job array of `count` tasks, each of which is expected to take so many seconds."""
    path = output.absolute()
    command = [sys.executable, "-m", "implicit_cli", "sweep", "worker", str(path)]
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", output.name)
    options = [
        f"--job-name={name}",
        f"--array=1-{count}",
        f"--time={_clock(MARGIN * seconds + SLACK)}",
        "--cpus-per-task=1",
        f"--signal=B:USR1@{WARNING}",
        "--requeue",
        "--open-mode=append",
        f"--output={_quoted(parts_of(path) / 'shard-%a.log')}",
        *directives,
    ]
    return "\n".join(
        [
            "#!/bin/bash",
            "# A job array of `implicit sweep plan`: each task computes one shard. Submit it with `implicit sweep submit`.",
            *(f"#SBATCH {option}" for option in options),
            "",
            "trap '' USR1  # a signal that comes before the program listens",
            "# exec: signals of the batch system reach the program, which saves what is done and asks to be started again.",
            f'exec {shlex.join(command)} --shard "$SLURM_ARRAY_TASK_ID" --requeue',
            "",
        ]
    )


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))


def _clock(seconds: float) -> str:
    """H:MM:SS, in whole minutes."""
    hours, minutes = divmod(math.ceil(seconds / 60), 60)
    return f"{hours}:{minutes:02}:00"


def submission(output: Path, shards: Sequence[int], *options: str) -> list[str]:
    """The command that submits these shards."""
    return ["sbatch", *options, f"--array={ranges(shards)}", f"{output}.sbatch"]


def ranges(numbers: Sequence[int]) -> str:
    """`1-3,7` for 1, 2, 3, 7."""

    def runs() -> Iterator[str]:
        ends = [place for place, (a, b) in enumerate(pairwise(numbers)) if b != a + 1]
        for begin, end in zip([0, *(place + 1 for place in ends)], [*ends, len(numbers) - 1], strict=True):
            yield str(numbers[begin]) if begin == end else f"{numbers[begin]}-{numbers[end]}"

    return ",".join(runs())


def submit(output: Path, shards: Sequence[int]) -> str:
    """Submit these shards: the number of the job. Raises EnvironmentProblem where sbatch is not there or refuses."""
    try:
        done = subprocess.run(submission(output, shards, "--parsable"), capture_output=True, text=True, check=False)
    except OSError as error:
        others = f"any other batch system can run {output}.sbatch"
        raise EnvironmentProblem(f"sbatch cannot be run: {error.strerror}; {others}") from None
    if done.returncode:
        raise EnvironmentProblem(f"sbatch: {(done.stderr or done.stdout).strip()}")
    return done.stdout.strip().partition(";")[0]


def requeue() -> bool:
    """Ask Slurm to start this task again; False where this is no task, or one that is being cancelled or requeued already.

    The number of one of an array's tasks is that of the whole array: a task is named by both.
    """
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    job = f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID")
    if not job:
        return False
    try:
        asked = ["squeue", "--noheader", f"--jobs={job}", "--format=%T"]
        found = subprocess.run(asked, capture_output=True, text=True, check=False)
        if found.stdout.split() != ["RUNNING"]:
            return False
        return subprocess.run(["scontrol", "requeue", job], check=False).returncode == 0
    except OSError:  # the commands are not there
        return False
