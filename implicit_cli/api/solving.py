"""The use cases that begin with a spec: plan it, solve and differentiate it, optimise over its parameters."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from implicit_cli.api.branch import follow, refuse_parts
from implicit_cli.api.cases import Prepared, Request, header_of, identity_of, inputs_of, prepare
from implicit_cli.api.reports import Observer, OptimizeReport, RunReport, line_of
from implicit_cli.api.sweeping import here, read_shard, sweep
from implicit_cli.api.workers import Workers
from implicit_cli.errors import InputError, Interrupted

if TYPE_CHECKING:
    from implicit_cli.engine import Plan
    from implicit_cli.engine.outer import Objective
    from implicit_cli.outer import Outcome, Progress, Stored
    from implicit_cli.spec import LoadedSpec


def run(
    spec: str,
    output: Path,
    *,
    overrides: Sequence[str] = (),
    device: str | None = None,
    allow_plugin: bool = False,
    plugins: Sequence[Path] = (),
    allow_paths: Sequence[Path] = (),
    observer: Observer | None = None,
    stopped: Callable[[], bool] = lambda: False,
    shard: str | None = None,
    jobs: int | None = None,
    cluster: str | None = None,
) -> RunReport:
    """Solve, differentiate, certify, and write the result file; with a section `sweep`, for all of its cases, or those of a shard.

    The cases of a sweep are saved in the folder `OUTPUT.parts` as they come, and the right-hand sides of a case that has many in
    `OUTPUT.blocks`; the same call goes on from there. Where `stopped` says so after some of them, `Interrupted` is raised. With
    `jobs` that many processes compute a sweep: of this machine, or jobs of a batch system (`workers.CLUSTERS`). Raises InputError
    for a wrong spec, EnvironmentProblem for a missing device, for an output that cannot be written, and where processes cannot be
    started.
    """
    from implicit_cli import store

    begun = time.perf_counter()
    part = None if shard is None else read_shard(shard)
    request = Request(spec, overrides, device, allow_plugin, plugins, allow_paths)
    if cluster is not None and jobs is None:
        raise InputError("--cluster: found without --jobs, allowed: with --jobs N, the number of jobs")
    workers = None if jobs is None else Workers(request, jobs, cluster)
    store.check_output(output, [Path(spec)])
    # where others compute, this process leaves the device to them
    prepared = prepare(request if workers is None else replace(request, device="cpu"), canary=True)
    loaded, vectors, plan, cases = prepared
    from implicit_cli import engine

    store.check_output(output, inputs_of(loaded, vectors))
    if cases is not None:
        refuse_parts(prepared, {"--shard": part, "--jobs": jobs, "--cluster": cluster})
        if cases.spec.continuation is not None:
            return follow(prepared, output, observer=observer, stopped=stopped, begun=begun)
        compute = here if workers is None else workers
        return sweep(prepared, output, shard=part, compute=compute, observer=observer, stopped=stopped, begun=begun)
    for option, given in (("--shard", part), ("--jobs", jobs), ("--cluster", cluster)):
        if given is not None:
            raise InputError(f"{option}: found with one case, allowed: with a section 'sweep' in {loaded.at()}")
    if plan.forward_chunks.count + plan.adjoint_chunks.count > 1 and plan.method == "implicit":
        return _by_blocks(prepared, output, observer, stopped, begun)
    room = store.Scratch(output)
    result = engine.run_case(vectors, plan, identity="0", seed=loaded.model.seed, observer=observer, room=room)
    store.write_result(output, header_of(loaded, vectors), [result])
    return RunReport(output, {result.status: 1}, (line_of(result),), time.perf_counter() - begun)


def _by_blocks(prepared: Prepared, output: Path, observer: Observer | None, stopped: Callable[[], bool], begun: float) -> RunReport:
    """One case whose right-hand sides come in chunks: the solution and what is done of the chunks are kept in `OUTPUT.blocks`."""
    import numpy as np

    from implicit_cli import engine, store

    loaded, vectors, plan, _ = prepared
    spec = loaded.model.model_dump(mode="json", exclude={"outer"})
    room = store.Blocks(output, identity_of(loaded, vectors.bound, spec), stopped)
    if room.solution is not None:
        if observer is not None:
            observer.stage(f"going on from {room.folder}: {room.done} chunks of right-hand sides")
        found = engine.solved_before(vectors, *room.solution)
    else:
        found = engine.solved(vectors, plan, seed=loaded.model.seed, observer=observer)
        room.solved(np.asarray(found.p.x), engine.story_of(found))
    result = engine.run_case(vectors, plan, identity="0", seed=loaded.model.seed, observer=observer, room=room, found=found)
    store.write_result(output, header_of(loaded, vectors), [result])
    room.remove()
    return RunReport(output, {result.status: 1}, (line_of(result),), time.perf_counter() - begun)


def check(
    spec: str,
    *,
    overrides: Sequence[str] = (),
    device: str | None = None,
    allow_plugin: bool = False,
    plugins: Sequence[Path] = (),
    allow_paths: Sequence[Path] = (),
) -> Plan:
    """Validate a spec against its problem and say what a run would do; solves nothing."""
    loaded, vectors, plan, cases = prepare(Request(spec, overrides, device, allow_plugin, plugins, allow_paths))
    if cases is not None:
        plan = replace(plan, rows=(*plan.rows, cases.row(plan)))
    if loaded.model.outer is None:
        return plan
    from implicit_cli.engine.outer import Objective

    return replace(plan, rows=(*plan.rows, Objective(loaded, vectors).row()))


def optimize(
    spec: str,
    output: Path,
    *,
    overrides: Sequence[str] = (),
    device: str | None = None,
    allow_plugin: bool = False,
    plugins: Sequence[Path] = (),
    allow_paths: Sequence[Path] = (),
    observer: Observer | None = None,
    inner: Observer | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> OptimizeReport:
    """Minimise or maximise as the section `outer` says, and write the result file of the case at the optimum with the way there.

    `observer` hears of the outer steps, `inner` of each inner solve. After evaluations all that is known goes to `OUTPUT.outer`,
    from which the same call goes on; where `stopped` says so after one, `Interrupted` is raised. Raises InputError and
    EnvironmentProblem as `run` does, and InputError where `OUTPUT.outer` belongs to another run.
    """
    from implicit_cli import store

    begun = time.perf_counter()
    store.check_output(output, [Path(spec)])
    loaded, vectors, _, _ = prepare(Request(spec, overrides, device, allow_plugin, plugins, allow_paths), canary=True, outer=True)
    from implicit_cli import engine
    from implicit_cli.engine.outer import Objective
    from implicit_cli.outer.loop import Diverged, minimise

    objective = Objective(loaded, vectors, inner)
    store.check_output(output, inputs_of(loaded, objective.vectors))
    place = store.Checkpoint(Path(f"{output}.outer"), _identity(loaded, objective))
    stored = place.read()
    if observer is not None:
        found = f", going on from {place.path}: {len(stored.evaluations)} evaluations" if stored.evaluations else ""
        observer.stage(f"{objective.label}{found}")

    def save(now: Stored) -> None:
        place.save(now)
        if stopped():
            place.flush()
            done = len(now.evaluations)
            raise Interrupted(f"stopped after {done} evaluations, saved in {place.path}: the same command goes on from there")

    def told(step: Progress) -> None:
        if observer is not None and step.evaluations > len(stored.evaluations):
            observer.stage(_step_text(objective, step))

    try:
        outcome = minimise(objective, objective.settings, stored=stored, save=save, told=told)
    except Diverged as error:
        raise InputError(f"{place.path}: {error}: remove it to start anew") from None
    finally:
        place.flush()
    best = outcome.best
    if observer is not None:
        observer.stage(f"{outcome.reason}; solving and differentiating there")
    vectors = objective.case_at(best.point, outcome.solution)
    # at an optimum the derivative of the objective is zero: no accuracy relative to itself can be met
    plan = replace(engine.make_plan(loaded, vectors), zero={objective.name: objective.settings.tol})
    case = engine.run_case(vectors, plan, identity="0", seed=loaded.model.seed, observer=inner, room=store.Scratch(output))
    unit = objective.vectors.bound.variables[objective.name].unit
    store.write_optimised(output, header_of(loaded, vectors), case, outcome, _points(objective, outcome), unit)
    if outcome.converged:
        place.remove()
    return OptimizeReport(
        path=output,
        case=line_of(case),
        name=objective.title,
        reason=outcome.reason,
        converged=outcome.converged,
        steps=max(len(outcome.steps) - 1, 0),
        evaluations=len(outcome.evaluations),
        first=outcome.evaluations[0].objective,
        last=best.objective,
        checkpoint=None if outcome.converged else place.path,
        seconds=time.perf_counter() - begun,
    )


def _identity(loaded: LoadedSpec, objective: Objective) -> dict[str, Any]:
    """What makes two runs of an outer loop one: the spec, save for when to stop; the values behind it; the problem's code."""
    spec = loaded.model.model_dump(mode="json")
    for key in ("max_steps", "tol", "patience"):
        del spec["outer"][key]
    return identity_of(loaded, objective.vectors.bound, spec)


def _step_text(objective: Objective, step: Progress) -> str:
    """One outer step in one line."""
    one = step.evaluation
    text = (
        f"step {step.step}: {objective.title} {one.objective:.8g}, |projected gradient| {step.gradient_norm:.1e} +- {one.bound:.0e}"
    )
    if objective.spec.validation is not None:
        text += f", {objective.spec.validation} {one.validation:.8g}"
    return f"{text}, {step.evaluations} evaluation{'s' if step.evaluations > 1 else ''}"


def _points(objective: Objective, outcome: Outcome) -> dict[str, Any]:
    """lambda by parameter, one row for each evaluation."""
    rows = [objective.vectors.theta.split(one.point) for one in outcome.evaluations]
    return {name: [row[name] for row in rows] for name in objective.parameters}
