"""What runs in a worker of `api.workers`: its own room on the machine, and the chunks of cases that it is given."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from implicit_cli.api.cases import Request, prepare
from implicit_cli.api.sweeping import Finished, Sweep, finished

if TYPE_CHECKING:
    from implicit_cli.store import Scratch

GPUS = Path("/proc/driver/nvidia/gpus")


def dask_setup(worker: Any) -> None:
    """Called by dask in each worker of this machine: Ctrl-C is for the process that started it, cores or a GPU are its own."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    number = int(worker.name)
    if hasattr(os, "sched_setaffinity"):
        cores, count = sorted(os.sched_getaffinity(0)), int(os.environ[COUNT])
        os.sched_setaffinity(0, cores[number % len(cores) :: count] if count < len(cores) else [cores[number % len(cores)]])
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    found = visible.split(",") if visible else [str(index) for index in range(len(list(GPUS.glob("*"))))]
    if found:
        os.environ["CUDA_VISIBLE_DEVICES"] = found[number % len(found)]


COUNT = "IMPLICIT_WORKERS"
"""Environment variable of a worker: how many there are on this machine."""


def compute(request: Request, output: Path, indices: Sequence[int]) -> tuple[Path, list[Finished], float]:
    """Compute and save some cases: the file, how they ended, and the seconds that it took once all was prepared."""
    work, room = _prepared(request, output)
    begun = time.perf_counter()
    results = list(work.results(indices, room))
    path = work.keep(results)
    room.forget()
    return path, [finished(result) for result in results], time.perf_counter() - begun


@lru_cache(maxsize=1)
def _prepared(request: Request, output: Path) -> tuple[Sweep, Scratch]:
    from implicit_cli import store

    return Sweep(prepare(request, canary=True), output), store.Scratch(output)
