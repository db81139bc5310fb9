"""A sweep by several processes: chunks of cases go to workers of dask.distributed, each of which saves what it has computed.

Nothing depends on a worker's life. A chunk whose worker dies is split in two, and each half goes to another; a case that has taken
its worker with it again and again, alone, is marked as crashed, and all others are computed.
"""

from __future__ import annotations

import contextlib
import queue
import shutil
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from implicit_cli.api.cases import Request
from implicit_cli.api.sweeping import MOST_AT_ONCE, SAVED_EVERY, Sweep, Watched, finished
from implicit_cli.api.worker import COUNT, compute
from implicit_cli.errors import EnvironmentProblem, InputError, listing, nearest

CLUSTERS = {"slurm": "SLURM", "pbs": "PBS", "sge": "SGE", "lsf": "LSF", "oar": "OAR", "htcondor": "HTCondor"}
"""Batch systems, and what dask-jobqueue calls them."""
FIRST = 32
"""Cases of a worker's first chunk, for which programs are compiled."""
DEATHS = 2
"""Workers that a case may take with it, alone, before it counts as crashed."""
WATCHED_EVERY, PATIENCE = 0.5, 300.0
"""Seconds between two looks at whether to leave; and those in which a process of this machine must have started."""
ALLOWANCE = 240.0
"""Seconds that a chunk may take beyond `sweep.timeout` for each of its cases: to prepare the problem, to compile, to save."""

SETTINGS = {
    "logging": {"distributed": "critical"},
    "distributed.nanny.pre-spawn-environ.DASK_LOGGING__DISTRIBUTED": "critical",
    "distributed.scheduler.allowed-failures": 0,  # whose fault it was is found by halves
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": 0.95,
}
"""Settings of dask: a worker computes until its memory is at an end; it says nothing, and shows nothing to others."""
QUIET = {"dashboard": False, "dashboard_address": "127.0.0.1:0"}
"""Of the scheduler: no page of its own, and no fixed port, which another sweep on this machine may have."""


class ProcessEnded(Exception):
    """The process that computed a case ended before it."""


@dataclass(frozen=True)
class Workers:
    """Computes cases in `jobs` processes of this machine, or in jobs of the batch system `cluster`.

    Raises InputError for another name of a batch system, and for a spec that other processes cannot read; when called
    EnvironmentProblem where the packages that it needs are missing, or the batch system's commands.
    """

    request: Request
    jobs: int
    cluster: str | None

    def __post_init__(self) -> None:
        if self.cluster is not None and self.cluster not in CLUSTERS:
            raise InputError(f"--cluster: found '{self.cluster}', allowed: {listing(CLUSTERS)}{nearest(self.cluster, CLUSTERS)}")
        object.__setattr__(self, "request", self.request.elsewhere("with --jobs"))

    def __call__(self, work: Sweep, indices: Sequence[int], watched: Watched) -> None:
        """Compute and save the cases at these points of the design."""
        with self._client() as client:
            _Crowd(client, self, work, watched).run(indices)

    @contextlib.contextmanager
    def _client(self) -> Iterator[Any]:
        """A connection to workers that are about to start."""
        try:
            import dask

            dask.config.set(SETTINGS)  # some are read when distributed is imported
            import distributed
            from distributed.security import Security

            security = Security.temporary()  # what workers are told to do is code: nobody else may
        except ImportError as error:
            raise EnvironmentProblem(f"--jobs needs {error.name or error}: pip install 'implicit-cli[cluster]'") from None
        with self._cluster(security) as cluster, distributed.Client(cluster, set_as_default=False) as client:
            yield client

    def _cluster(self, security: Any) -> Any:
        if self.cluster is None:
            import psutil
            from distributed import Nanny, Scheduler
            from distributed.deploy.spec import SpecCluster

            options: dict[str, Any] = {
                "nthreads": 1,
                "memory_limit": psutil.virtual_memory().total // self.jobs,
                "env": {COUNT: str(self.jobs)},
                "security": security,
                "dashboard": False,
                "preload": ["implicit_cli.api.worker"],
            }
            scheduler = {"host": "127.0.0.1", "port": 0, **QUIET, "security": security}
            workers = {number: {"cls": Nanny, "options": options} for number in range(self.jobs)}
            return SpecCluster(workers=workers, scheduler={"cls": Scheduler, "options": scheduler}, security=security)
        import dask_jobqueue

        made = getattr(dask_jobqueue, f"{CLUSTERS[self.cluster]}Cluster")
        command = str(made.job_cls.submit_command).partition(" ")[0]
        if shutil.which(command) is None:
            raise EnvironmentProblem(f"--cluster: found '{self.cluster}', whose command '{command}' is not on this machine")
        try:
            cluster = made(cores=1, processes=1, security=security, shared_temp_directory=str(Path.cwd()), scheduler_options=QUIET)
        except ValueError as error:  # what only the site knows is missing
            place = f"jobqueue.{self.cluster} in ~/.config/dask/jobqueue.yaml"
            raise InputError(
                f"--cluster: {self.cluster} needs more: {' '.join(str(error).split())}; it belongs under {place}"
            ) from None
        cluster.adapt(minimum_jobs=self.jobs, maximum_jobs=self.jobs)  # a job that ends is replaced
        return cluster


class _Crowd:
    """The chunks of cases: those that wait, those that a worker has, and what came of them."""

    def __init__(self, client: Any, workers: Workers, work: Sweep, watched: Watched) -> None:
        self.client, self.workers, self.work, self.watched = client, workers, work, watched
        self.again: deque[Sequence[int]] = deque()
        self.flying: dict[Any, Sequence[int]] = {}
        self.due: dict[Any, float] = {}
        self.landed: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.deaths: Counter[int] = Counter()
        self.size, self.seen = FIRST, time.monotonic()

    def run(self, indices: Sequence[int]) -> None:
        """Compute these cases, and tell of each."""
        rest = deque(indices)
        if self.workers.cluster is not None:
            self.watched.stage(f"asking {self.workers.cluster} for {self.workers.jobs} jobs")
        while True:
            # one chunk for each worker that is alive: one that waited behind another would be blamed for its end
            for _ in range(self._free()):
                if chunk := self.again.popleft() if self.again else self._chunk(rest):
                    self._launch(chunk)
            if not self.flying and (self.watched.leaving() or not (rest or self.again)):
                return
            with contextlib.suppress(queue.Empty):
                self._land(self.landed.get(timeout=WATCHED_EVERY))
            for future in [future for future, due in self.due.items() if time.monotonic() > due]:
                self._give_up(future)

    def _free(self) -> int:
        """How many workers have nothing to do."""
        if self.watched.leaving():
            return 0
        alive = len(self.client.nthreads())
        if alive:
            self.seen = time.monotonic()
        elif self.workers.cluster is None and time.monotonic() - self.seen > PATIENCE:
            raise EnvironmentProblem(f"--jobs: no process could be started in {PATIENCE:.0f} s; what is done is saved")
        return alive - len(self.flying)

    def _chunk(self, rest: deque[int]) -> Sequence[int]:
        """The next cases; in the end chunks become smaller, so that all workers end at the same time, but not so small as to be
        all overhead.
        """
        least = min(self.size, max(self.work.cases.at_once(self.work.plan), self.size // 5))
        size = max(least, min(self.size, len(rest) // (2 * self.workers.jobs)))
        return [rest.popleft() for _ in range(min(size, len(rest)))]

    def _launch(self, chunk: Sequence[int]) -> None:
        future = self.client.submit(compute, self.workers.request, self.work.output.absolute(), chunk, pure=False)
        self.flying[future] = chunk
        if (seconds := self.work.cases.spec.timeout) is not None:
            self.due[future] = time.monotonic() + ALLOWANCE + seconds * len(chunk)
        future.add_done_callback(self.landed.put)

    def _land(self, future: Any) -> None:
        from distributed.scheduler import KilledWorker

        chunk = self.flying.pop(future, None)
        self.due.pop(future, None)
        if chunk is None:
            return  # it was given up
        try:
            path, cases, seconds = future.result()
        except KilledWorker:
            self._blame(chunk)
            return
        self.work.kept(path)
        for case in cases:
            self.watched.add(case)
        self.size = max(1, min(int(len(chunk) / max(seconds, 1e-3) * SAVED_EVERY), MOST_AT_ONCE))
        if self.size > FIRST:
            self.size -= self.size % FIRST

    def _give_up(self, future: Any) -> None:
        """End the worker of a chunk that does not come back: a case in it does not come to the end of a step."""
        chunk = self.flying.pop(future)
        del self.due[future]
        workers = [address for address, keys in self.client.processing().items() if future.key in keys]
        future.cancel()
        self.client.restart_workers(workers, raise_for_error=False)
        if len(chunk) > 1:
            self._split(chunk)
            return
        from implicit_cli import engine

        self._mark(chunk[0], engine.TimedOut(f"more than {self.work.cases.spec.timeout:g} s, and no step of the solver ended"))

    def _blame(self, chunk: Sequence[int]) -> None:
        """One of these cases may have ended its worker: which one is found by halves."""
        if len(chunk) > 1:
            self._split(chunk)
            return
        (index,) = chunk
        self.deaths[index] += 1
        if self.deaths[index] < DEATHS:
            self.again.append(chunk)
        else:
            self._mark(index, ProcessEnded(f"{DEATHS} times, with this case alone in it: native code crashed, or memory ran out"))

    def _split(self, chunk: Sequence[int]) -> None:
        half = len(chunk) // 2
        self.again.extend((chunk[:half], chunk[half:]))

    def _mark(self, index: int, error: Exception) -> None:
        """This case is done, and failed."""
        from implicit_cli import engine

        result = engine.marked(self.work.cases, self.work.plan, index, error)
        self.work.kept(self.work.keep([result]))
        self.watched.add(finished(result))
