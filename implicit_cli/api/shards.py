"""A sweep as a job array: planned into shards, each computed by one task, looked at while it runs, merged when it is done.

`plan.npz` in the folder of the parts says what there is to do, the parts say what is done: nothing else has to be kept, and no
process has to stay alive.
"""

from __future__ import annotations

import math
import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from implicit_cli.api.branch import refuse_parts
from implicit_cli.api.cases import Request, inputs_of, prepare
from implicit_cli.api.reports import MergeReport, Observer, PlanReport, RunReport, ShardLine, SweepStatus
from implicit_cli.api.slurm import script, submission, submit
from implicit_cli.api.solving import run
from implicit_cli.api.sweeping import Sweep, earlier, parts_of
from implicit_cli.errors import InputError

if TYPE_CHECKING:
    from implicit_cli.store import Parts, Progress, Shards

MOST_SHARDS = 1000
"""Tasks that batch systems commonly allow in an array."""
_PATHS = "plugins", "allow_paths"
"""Fields of a request that are paths."""
SAMPLE, SAMPLE_SECONDS = 4, 60.0
"""Calls of the program by which cases are timed, at most; and seconds after which no more are made."""


def plan_sweep(
    spec: str,
    output: Path,
    *,
    overrides: Sequence[str] = (),
    device: str | None = None,
    allow_plugin: bool = False,
    plugins: Sequence[Path] = (),
    allow_paths: Sequence[Path] = (),
    shards: int | None = None,
    hours: float = 1.0,
    directives: Sequence[str] = (),
    observer: Observer | None = None,
) -> PlanReport:
    """Divide a sweep into shards, time a few of its cases (which are kept), and write the script of a job array, `OUTPUT.sbatch`.

    Without `shards` there are as many as make a task take about `hours`. `directives` are further options of sbatch. Raises what
    `run` does, and InputError for more than MOST_SHARDS shards, or for a spec that other processes cannot read.
    """
    from implicit_cli import store

    begun = time.perf_counter()
    request = Request(spec, overrides, device, allow_plugin, plugins, allow_paths)
    elsewhere = request.elsewhere("with `implicit sweep plan`")
    if shards is not None and not 1 <= shards <= MOST_SHARDS:
        raise InputError(f"--shards: found {shards}, allowed: 1 to {MOST_SHARDS}")
    if wrong := [text for text in directives if "\n" in text or not text.startswith("-")]:
        raise InputError(f"--sbatch: found '{wrong[0]}', allowed: an option of sbatch, such as --partition=long")
    store.check_output(output, [Path(spec)])
    prepared = prepare(request, canary=True)
    store.check_output(output, inputs_of(prepared.loaded, prepared.vectors))
    if prepared.cases is None:
        raise InputError(f"{prepared.loaded.at()}: 'sweep' is missing, allowed: a mapping such as {{over: {{NAME: [1, 2, 3]}}}}")
    refuse_parts(prepared, {"implicit sweep plan": output})
    work = Sweep(prepared, output)
    names = list(dict.fromkeys(work.ids))
    once, each = _timed(work, names, observer, begun)
    count = shards or min(max(math.ceil(each * len(names) / (3600 * hours)), 1), MOST_SHARDS, len(names))
    found = store.Shards(np.array([int(name, 16) for name in names], np.uint64), count, _plain(elsewhere))
    store.write_shards(work.parts.folder, found)
    seconds = once + each * math.ceil(len(names) / count)
    place = Path(f"{output}.sbatch")
    store.replace_file(place, script(output, count, seconds, directives).encode())
    return PlanReport(place, len(names), len(work.parts.done()), count, each, seconds)


def work_on(
    output: Path, shard: int, *, observer: Observer | None = None, stopped: Callable[[], bool] = lambda: False
) -> RunReport:
    """Compute one shard of a planned sweep. Raises what `run` does, and InputError where nothing is planned."""
    shards = _planned(output)
    if not 1 <= shard <= shards.count:
        raise InputError(f"--shard: found {shard}, allowed: 1 to {shards.count}, as planned")
    asked = dict(shards.request)
    plugins, allow_paths = (tuple(Path(path) for path in asked.pop(name, ())) for name in _PATHS)
    part = f"{shard}/{shards.count}"
    more: dict[str, Any] = {"plugins": plugins, "allow_paths": allow_paths, "observer": observer, "stopped": stopped}
    return run(asked.pop("spec"), output, **asked, **more, shard=part)


def sweep_status(output: Path) -> SweepStatus:
    """How far a planned sweep is, shard by shard; reads files alone. Raises InputError where nothing is planned."""
    shards, _, progress, _ = _read(output)
    done, failed = progress.done, progress.failed
    lines = tuple(
        ShardLine(number, int(end - begin), int(done[begin:end].sum()), int(failed[begin:end].sum()))
        for number, (begin, end) in enumerate(pairwise(shards.bounds()), start=1)
    )
    missing = [line.shard for line in lines if line.missing]
    return SweepStatus(output, lines, shlex.join(submission(output, missing)) if missing else "")


def submit_sweep(output: Path) -> tuple[str, tuple[int, ...]]:
    """Submit the shards that have missing cases to Slurm: the number of the job, and which they are.

    Raises InputError where nothing is missing, EnvironmentProblem where sbatch is not there or refuses.
    """
    status = sweep_status(output)
    missing = tuple(line.shard for line in status.shards if line.missing)
    if not missing:
        raise InputError(f"{output}: no case is missing: `implicit sweep merge {output}` writes the result")
    return submit(output, missing), missing


def merge_sweep(output: Path, *, partial: bool = False) -> MergeReport:
    """Merge all finished cases of a planned sweep into OUTPUT, and remove the parts once all are in; every hash is verified.

    Raises InputError where cases are missing, unless it may be `partial`, and where files are not of one sweep.
    """
    shards, parts, progress, also = _read(output)
    missing = int((~progress.done).sum())
    if missing and (not partial or not progress.done.any()):
        raise InputError(
            f"{output}: {missing} of {len(shards.ids)} cases are missing, allowed: all of them, or --partial; "
            f"`implicit sweep status {output}` says which"
        )
    merged = parts.merge(output, order=shards.names(), also=also)
    if not missing:
        parts.remove()
    return MergeReport(output, merged.cases, missing, merged.statuses)


def _planned(output: Path) -> Shards:
    from implicit_cli import store

    return store.read_shards(parts_of(output))


def _read(output: Path) -> tuple[Shards, Parts, Progress, list[Path]]:
    """What is planned, the parts, which cases are done, and the earlier result where it has some of them."""
    from implicit_cli import store

    shards = _planned(output)
    parts = store.Parts.of(parts_of(output))
    progress = store.Progress(shards)
    before = earlier(output, parts)
    progress.enter(before)
    for _, found in parts.each():
        progress.enter(found)
    return shards, parts, progress, [output] if before else []


def _timed(work: Sweep, names: Sequence[str], observer: Observer | None, begun: float) -> tuple[float, float]:
    """Seconds until the first cases are there, and those of each that follows; what is computed is kept."""
    from implicit_cli import store

    known = {**work.parts.done(), **work.earlier()}
    places = dict(zip(reversed(work.ids), range(len(work.ids) - 1, -1, -1), strict=True))
    missing = [places[name] for name in names if name not in known]
    width = work.cases.at_once(work.plan)
    if observer is not None:
        observer.stage(f"{len(names)} cases, {len(names) - len(missing)} of them done before; timing some")
    chosen = [missing[place] for place in np.linspace(0, len(missing) - 1, min(len(missing), SAMPLE * width)).astype(int)]
    results: list[Any] = []
    times = [time.perf_counter()]
    for result in work.results(chosen, store.Scratch(work.output)):
        results.append(result)
        times.append(time.perf_counter())
        if len(results) % width == 0 and times[-1] - times[0] > SAMPLE_SECONDS:
            break
    if not results:
        return 0.0, 0.0
    work.keep(results)
    first = min(width, len(results))
    later = len(results) - first
    each = (times[-1] - times[first]) / later if later else (times[-1] - times[0]) / len(results)
    return times[first] - begun, each


def _plain(request: Request) -> dict[str, Any]:
    return {**asdict(request), **{name: [str(path) for path in getattr(request, name)] for name in _PATHS}}
