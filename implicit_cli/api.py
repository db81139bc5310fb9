"""The use cases, one function each: the one place where the rooms meet. The command line calls these, and so can a script.

Heavy imports wait inside the functions, in the order that matters: the spec's form first, then JAX's settings, then the problem.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from implicit_cli.errors import InputError, Interrupted, listing, nearest
from implicit_cli.status import Status

SOURCE = "problem_sha256"
"""Key of the provenance that names the code of the problem."""
HDF5 = b"\x89HDF\r\n\x1a\n"
"""How an HDF5 file begins."""

if TYPE_CHECKING:
    from implicit_cli.analysis import Comparison as Comparison
    from implicit_cli.analysis import QuantityComparison as QuantityComparison
    from implicit_cli.analysis import Told as Told
    from implicit_cli.engine import Plan, Vectors
    from implicit_cli.engine.outer import Objective
    from implicit_cli.outer import Outcome, Progress, Stored
    from implicit_cli.plugins import ProblemDescription, ProblemEntry
    from implicit_cli.result import CaseResult, Header
    from implicit_cli.spec import LoadedSpec
    from implicit_cli.spec.directions import Directions
    from implicit_cli.store import CaseSummary as CaseSummary
    from implicit_cli.store import LinearSummary as LinearSummary
    from implicit_cli.store import ProductSummary as ProductSummary
    from implicit_cli.store import QuantitySummary as QuantitySummary
    from implicit_cli.store import StoredCase
    from implicit_cli.store import Summary as Summary
    from implicit_cli.store import UndeterminedSummary as UndeterminedSummary
    from implicit_cli.verdict import CaseVerdict as CaseVerdict
    from implicit_cli.verdict import Claim, Verification
    from implicit_cli.verdict import Finding as Finding


class Observer(Protocol):
    """Sees a run from outside: `stage` names what begins, `progress` reports max |F| against the tolerance.

    `chunk` reports how many chunks of right-hand sides are done, of how many.
    """

    def stage(self, text: str) -> None: ...
    def progress(self, step: int, residual: float, tol: float) -> None: ...
    def chunk(self, done: int, total: int) -> None: ...


@dataclass(frozen=True)
class CaseLine:
    """A case in one line."""

    id: str
    status: Status
    message: str


@dataclass(frozen=True)
class RunReport:
    """What `run` did: where the result is and how each case ended. `exit_code` is 0 when every case is good, else 1."""

    path: Path
    cases: tuple[CaseLine, ...]
    seconds: float

    @property
    def exit_code(self) -> int:
        return 0 if all(case.status.good for case in self.cases) else 1


@dataclass(frozen=True)
class OptimizeReport:
    """What `optimize` did: where the result is, how its case and the outer loop ended, the objective before and after.

    `exit_code` is 0 where the loop ended at an optimum, or by its validation, and the case there is good, else 1.
    """

    path: Path
    case: CaseLine
    name: str
    reason: str
    converged: bool
    steps: int
    evaluations: int
    first: float
    last: float
    checkpoint: Path | None
    seconds: float

    @property
    def exit_code(self) -> int:
        return 0 if self.converged and self.case.status.good else 1


@dataclass(frozen=True)
class ProductsReport:
    """What `products` found, as `show` reads it; `path` is the file where one was written, `warnings` what may be wrong with it."""

    summary: Summary
    path: Path | None
    warnings: tuple[str, ...]
    seconds: float

    @property
    def exit_code(self) -> int:
        return 0 if all(case.good for case in self.summary.cases) else 1


@dataclass(frozen=True)
class VerifyReport:
    """What `verify` found; `path` is the file that holds it, where one was written, `warnings` what may be wrong with the check."""

    problem: str
    verification: Verification
    path: Path | None
    warnings: tuple[str, ...]
    seconds: float

    @property
    def exit_code(self) -> int:
        return 1 if self.verification.violated else 0

    def asdict(self) -> dict[str, Any]:
        """For `implicit verify --json`: NaN is null."""
        from implicit_cli.store.summary import _plain

        found: dict[str, Any] = _plain(self.verification)
        return {"problem": self.problem, "violated": self.verification.violated, **found}


@dataclass(frozen=True)
class ExportReport:
    """What `export` wrote: where, how many particles with how many vectors each; `warnings` tells what is not in the file."""

    path: Path
    particles: int
    vectors: int
    warnings: tuple[str, ...]


def run(
    spec: str,
    output: Path,
    *,
    overrides: Sequence[str] = (),
    device: str | None = None,
    allow_plugin: bool = False,
    plugins: Sequence[Path] = (),
    observer: Observer | None = None,
) -> RunReport:
    """Solve, differentiate, certify, and write the result file.

    Raises InputError for a wrong spec, EnvironmentProblem for a missing device or an output that cannot be written.
    """
    from implicit_cli import store

    begun = time.perf_counter()
    store.check_output(output, [Path(spec)])
    loaded, vectors, plan = _prepare(spec, overrides, device, allow_plugin, plugins, canary=True)
    from implicit_cli import engine

    store.check_output(output, _inputs(loaded, vectors))
    room = store.Scratch(output)
    result = engine.run_case(vectors, plan, identity="0", seed=loaded.model.seed, observer=observer, room=room)
    store.write_result(output, _header(loaded, vectors), [result])
    return RunReport(output, (_line(result),), time.perf_counter() - begun)


def optimize(
    spec: str,
    output: Path,
    *,
    overrides: Sequence[str] = (),
    device: str | None = None,
    allow_plugin: bool = False,
    plugins: Sequence[Path] = (),
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
    loaded, vectors, _ = _prepare(spec, overrides, device, allow_plugin, plugins, canary=True, outer=True)
    from implicit_cli import engine
    from implicit_cli.engine.outer import Objective
    from implicit_cli.outer.loop import Diverged, minimise

    objective = Objective(loaded, vectors, inner)
    store.check_output(output, _inputs(loaded, objective.vectors))
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
    plan, room = engine.make_plan(loaded, vectors), store.Scratch(output)
    case = engine.run_case(vectors, plan, identity="0", seed=loaded.model.seed, observer=inner, room=room)
    unit = objective.vectors.bound.variables[objective.name].unit
    store.write_optimised(output, _header(loaded, vectors), case, outcome, _points(objective, outcome), unit)
    if outcome.converged:
        place.remove()
    return OptimizeReport(
        path=output,
        case=_line(case),
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


def check(
    spec: str,
    *,
    overrides: Sequence[str] = (),
    device: str | None = None,
    allow_plugin: bool = False,
    plugins: Sequence[Path] = (),
) -> Plan:
    """Validate a spec against its problem and say what a run would do; solves nothing."""
    loaded, vectors, plan = _prepare(spec, overrides, device, allow_plugin, plugins)
    if loaded.model.outer is None:
        return plan
    from implicit_cli.engine.outer import Objective

    return replace(plan, rows=(*plan.rows, Objective(loaded, vectors).row()))


def products(
    kind: str,
    result: Path,
    directions: Sequence[str],
    *,
    of: Sequence[str] = (),
    wrt: Sequence[str] = (),
    case: str | None = None,
    output: Path | None = None,
    device: str | None = None,
    allow_plugin: bool = False,
    plugins: Sequence[Path] = (),
    observer: Observer | None = None,
) -> ProductsReport:
    """Products ("jvp" or "vjp") along `directions` (`spec.read_directions`) at the solution in a result file, without a solve.

    Problem, data, parameters and solution are those of `case`, settings those of its run; F and the certificate are computed anew.
    A jvp is of `of` and along any parameter, a vjp with respect to `wrt`; left out, they are those of the run. Raises InputError
    for what does not fit, EnvironmentProblem as `run` does.
    """
    from implicit_cli import spec, store

    begun = time.perf_counter()
    if output is not None:
        store.check_output(output, [result])
    stored = store.read_stored(result, case)
    parts = spec.read_directions(kind, directions)
    # nothing is solved, so that no other method than the theorem is left
    chosen: dict[str, Any] = {"method": "implicit", **{key: tuple(names) for key, names in (("of", of), ("wrt", wrt)) if names}}
    if kind == "jvp":
        chosen["wrt"] = None
    loaded, vectors, plan = _rebuilt(result, stored, chosen, kind, parts, device, allow_plugin, plugins)
    from implicit_cli import engine

    if output is not None:
        store.check_output(output, [result, *_inputs(loaded, vectors)])
    room = store.Scratch(output) if output is not None else None
    found = engine.differentiate_at(vectors, plan, stored.solution, identity=stored.id, observer=observer, room=room)
    # the spec of the run, with these products: its data and references are as they were
    settings = json.loads(stored.spec_resolved)
    sensitivity = loaded.model.sensitivity.model_dump(mode="json")
    header = _header(loaded, vectors)
    header = replace(
        header,
        spec_resolved=json.dumps({**settings, "sensitivity": sensitivity}),
        provenance={**header.provenance, "solution": f"case {stored.id} of the result with SHA-256 {stored.sha256}"},
    )
    if output is not None:
        store.write_result(output, header, [found])
    summary = store.read_summary(output) if output is not None else store.summarise(header, [found])
    return ProductsReport(summary, output, _doubts(result, stored, header.provenance), time.perf_counter() - begun)


def verify(
    source: str,
    *,
    directions: int = 3,
    full: bool = False,
    of: Sequence[str] = (),
    wrt: Sequence[str] = (),
    case: str | None = None,
    output: Path | None = None,
    in_place: bool = False,
    overrides: Sequence[str] = (),
    device: str | None = None,
    allow_plugin: bool = False,
    plugins: Sequence[Path] = (),
    observer: Observer | None = None,
) -> VerifyReport:
    """Check the derivatives in a result file, or those of a spec, which is run first, by solving again nearby.

    Each parameter is tried along `directions` random combinations of its components, or column by column (`full`); `of` and `wrt`
    leave some products only. A copy of the file with the findings goes to `output`, or takes the file's own place (`in_place`); the
    result of a spec is kept in `output` only. Raises InputError for what does not fit, EnvironmentProblem as `run` does.
    """
    from implicit_cli import store

    begun = time.perf_counter()
    given = _is_result(source)
    if in_place and (output is not None or not given):
        found = "with --output" if output is not None else "with a spec"
        raise InputError(f"--in-place: found {found}, allowed: alone, with a result file")
    target = Path(source) if in_place else output
    if target is not None:
        store.check_output(target, [] if in_place else [Path(source)])
    settings = {"directions": directions, "full": full, "of": tuple(of), "wrt": tuple(wrt)}
    if given:
        if overrides:
            raise InputError("--set: found with a result file, allowed: with a spec")
        stated, sha256 = store.read_claims(Path(source), case)
        checks = []
        warnings: list[str] = []
        for claim in stated:
            stored = store.read_stored(Path(source), claim.id)
            loaded, vectors, plan = _rebuilt(
                Path(source), stored, {"method": "implicit"}, "jacobian", {}, device, allow_plugin, plugins
            )
            checks.append(_verified(loaded, vectors, plan, claim, settings, observer))
            warnings += _doubts(Path(source), stored, {SOURCE: _source_sha256(type(vectors.bound.problem))})
    else:
        loaded, vectors, plan = _prepare(source, overrides, device, allow_plugin, plugins, canary=True)
        from implicit_cli import engine
        from implicit_cli.verdict import claim_of

        if target is not None:
            store.check_output(target, _inputs(loaded, vectors))
        room = store.Scratch(target) if target is not None else None
        result = engine.run_case(vectors, plan, identity="0", seed=loaded.model.seed, observer=observer, room=room)
        if case not in (None, result.id):
            raise InputError(f"--case: found '{case}', allowed: '{result.id}'")
        if target is not None:
            store.write_result(target, _header(loaded, vectors), [result])
        checks, warnings, sha256 = [_verified(loaded, vectors, plan, claim_of(result), settings, observer)], [], None
    from implicit_cli import runtime
    from implicit_cli.verdict import Verification

    verification = Verification(tuple(checks), directions, full, loaded.model.seed, runtime.provenance())
    if target is not None:
        store.write_verification(Path(source) if given else target, target, verification, sha256)
    return VerifyReport(loaded.model.problem, verification, target, tuple(warnings), time.perf_counter() - begun)


def export(result: Path, output: Path, *, case: str | None = None, wrap: bool = False) -> ExportReport:
    """Write the particles of one case as H5MD or extxyz, as the name of `output` says; `wrap` moves them into the cell.

    Raises InputError for another name, for what is no result, and for one without positions; EnvironmentProblem for an output that
    cannot be written.
    """
    from implicit_cli import store
    from implicit_cli.structures import export as formats

    kind = formats.check_format(output)
    store.check_output(output, [result])
    stored = store.read_stored(result, case)
    with store.opened_arrays(result) as arrays:
        seen = formats.snapshot(stored, arrays, wrap=wrap)
    store.replace_file(output, formats.h5md(seen) if kind == "H5MD" else formats.extxyz(seen))
    return ExportReport(output, len(seen.structure.position), len(seen.vectors), seen.warnings)


def show(result: Path) -> Summary:
    """What is in a result file."""
    from implicit_cli import store

    return store.read_summary(result)


def compare(a: Path, b: Path, *, case: str | None = None, rtol: float | None = None, top: int = 5) -> Comparison:
    """Two result files, judged by the bounds of both; what has none by `rtol` where one is given. `top` entries of what differs.

    `case` picks one of several. Raises InputError for what is no result, and for files that have no case or no quantity in common.
    """
    from implicit_cli import analysis, store

    with store.opened_arrays(a) as first, store.opened_arrays(b) as second:
        return analysis.compare(first, second, case=case, rtol=rtol, top=top)


def problems() -> tuple[ProblemEntry, ...]:
    """The installed problems, none of them imported."""
    from implicit_cli import plugins

    return plugins.installed()


def describe_problem(name: str, *, allow_plugin: bool = False, plugins: Sequence[Path] = ()) -> ProblemDescription:
    """Quantities and example spec of one problem."""
    from implicit_cli import plugins as rooms
    from implicit_cli import runtime

    runtime.configure(None)
    return rooms.describe(name, rooms.load(name, base=Path.cwd(), allow_plugin=allow_plugin, plugins=plugins))


def schema() -> dict[str, Any]:
    """JSON Schema of the spec."""
    from implicit_cli import spec

    return spec.json_schema()


def info(device: str | None = None) -> tuple[tuple[str, str], ...]:
    """Versions, devices, caches, and the outcome of the numerical canary, as label and value."""
    from implicit_cli import runtime

    runtime.configure(device)
    return runtime.facts()


def _prepare(
    spec: str,
    overrides: Sequence[str],
    device: str | None,
    allow_plugin: bool,
    plugins: Sequence[Path],
    *,
    canary: bool = False,
    outer: bool = False,
) -> tuple[LoadedSpec, Vectors, Plan]:
    """Everything that comes before work: form of the spec, JAX's settings, the problem, names and shapes, the plan.

    With `outer` the section of that name must be there.
    """
    from implicit_cli.spec import load_spec

    loaded = load_spec(spec, overrides)
    if outer and loaded.model.outer is None:
        raise InputError(f"{loaded.at()}: 'outer' is missing, allowed: a mapping such as {{objective: OUTPUT, parameters: [NAME]}}")
    from implicit_cli import plugins as rooms
    from implicit_cli import runtime

    runtime.configure(device)
    try:
        cls = rooms.load(loaded.model.problem, base=loaded.folder, allow_plugin=allow_plugin, plugins=plugins)
    except InputError as error:
        raise type(error)([f"{loaded.at('problem')}: {message}" for message in error.messages]) from error
    from implicit_cli import engine

    if canary:
        runtime.canary()
    vectors = engine.Vectors(engine.bind(loaded, cls))
    return loaded, vectors, engine.make_plan(loaded, vectors)


def _rebuilt(
    result: Path,
    stored: StoredCase,
    chosen: dict[str, Any],
    kind: str,
    parts: Directions,
    device: str | None,
    allow_plugin: bool,
    plugins: Sequence[Path],
) -> tuple[LoadedSpec, Vectors, Plan]:
    """As `_prepare`, of a case in a result file: everything is at hand. `chosen` replaces settings of the run's `sensitivity`.

    The products are `parts`, of one kind. A jvp along some parameters is taken with respect to these alone.
    """
    from implicit_cli import spec

    # what is given by name only: the values are at hand
    given = {"data": stored.inputs, "parameters": stored.parameters, "initial": stored.solution, "labels": stored.labels}
    place = f"{result}:/spec/resolved"
    loaded = spec.stored_spec(stored.spec_text, stored.spec_resolved, place, given, chosen, kind, parts)
    from implicit_cli import plugins as rooms
    from implicit_cli import runtime

    runtime.configure(device)
    name, base = _plugin_of(loaded.model.problem, result, plugins)
    cls = rooms.load(name, base=base, allow_plugin=allow_plugin, plugins=plugins)
    from implicit_cli import engine
    from implicit_cli.problem import Parameter, Unknown

    runtime.canary()
    quantities = {quantity for named in parts.values() for quantity in named}
    known = cls.declared(Parameter)
    if kind == "jvp" and quantities <= set(known):
        chosen["wrt"] = tuple(name for name in known if name in quantities)
        loaded = spec.stored_spec(stored.spec_text, stored.spec_resolved, place, given, chosen, kind, parts)
    missing = [name for name in cls.declared(Unknown) if name not in stored.solution]
    if missing:
        raise InputError(
            f"{result}: /solution has no '{missing[0]}', which {loaded.model.problem} declares: it was another problem"
        )
    arrays: dict[tuple[str | int, ...], Any] = {
        (section, name): array for section, named in given.items() for name, array in named.items()
    }
    vectors = engine.Vectors(engine.bind(loaded, cls, arrays))
    return loaded, vectors, engine.make_plan(loaded, vectors)


def _is_result(source: str) -> bool:
    """Whether this is, or was meant as, a result file and not a spec."""
    path = Path(source)
    if path.suffix in (".h5", ".hdf5"):
        return True
    try:
        with path.open("rb") as stream:
            return stream.read(len(HDF5)) == HDF5
    except OSError:
        return False


def _verified(
    loaded: LoadedSpec, vectors: Vectors, plan: Plan, claim: Claim, settings: Mapping[str, Any], observer: Observer | None
) -> CaseVerdict:
    """The check of one case, parameters called as in tables; raises InputError for an `of` or `wrt` that it has nothing of."""
    from implicit_cli import engine, store
    from implicit_cli.problem import Parameter

    for option in ("of", "wrt"):
        known = {getattr(product, option) for product in claim.products} - {""}
        for name in settings[option]:
            if name not in known:
                raise InputError(f"--{option}: found '{name}', allowed: {listing(known)}{nearest(name, known)}")
    found = engine.verify_case(vectors, plan, claim, seed=loaded.model.seed, observer=observer, **settings)
    parameters = [vectors.bound.variables[name] for name in vectors.bound.names(Parameter)]
    return replace(found, findings=store.labelled(found.findings, parameters))


def _inputs(loaded: LoadedSpec, vectors: Vectors) -> list[Path]:
    """Files that a run reads, and so must not overwrite."""
    files = {loaded.folder / origin.rsplit(":", 1)[0] for origin in vectors.bound.inputs}
    return [*files, *([loaded.path] if loaded.path is not None else [])]


def _header(loaded: LoadedSpec, vectors: Vectors) -> Header:
    from implicit_cli import runtime
    from implicit_cli.problem import Data, Output, Parameter, Unknown
    from implicit_cli.result import Header

    bound = vectors.bound

    def variables(kind: Any) -> tuple[Any, ...]:
        return tuple(bound.variables[name] for name in bound.names(kind))

    return Header(
        problem=loaded.model.problem,
        summary=(type(bound.problem).__doc__ or "").strip().splitlines()[0] if type(bound.problem).__doc__ else "",
        axes=bound.axes,
        unknowns=variables(Unknown),
        parameters=variables(Parameter),
        outputs=variables(Output),
        data=variables(Data),
        inputs=bound.data,
        spec_text=loaded.text,
        spec_resolved=loaded.model.model_dump_json(),
        provenance={**runtime.provenance(), SOURCE: _source_sha256(type(bound.problem))},
    )


def _identity(loaded: LoadedSpec, objective: Objective) -> dict[str, Any]:
    """What makes two runs of an outer loop one: the spec, save for when to stop; the values behind it; the problem's code."""
    spec = loaded.model.model_dump(mode="json")
    for key in ("max_steps", "tol", "patience"):
        del spec["outer"][key]
    bound = objective.vectors.bound
    values = {"data": bound.data, "parameters": bound.parameters, "initial": bound.initial}

    def digest(array: Any) -> str:
        return hashlib.sha256(f"{array.dtype} {array.shape} ".encode() + array.tobytes()).hexdigest()

    arrays = {section: {name: digest(array) for name, array in named.items()} for section, named in values.items()}
    return {"spec": spec, "values": arrays, SOURCE: _source_sha256(type(objective.problem))}


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


def _source_sha256(cls: type) -> str:
    """SHA-256 of the file that a problem's class is written in; "unknown" where there is none."""
    try:
        return hashlib.sha256(Path(inspect.getsourcefile(cls) or "").read_bytes()).hexdigest()
    except (OSError, TypeError):
        return "unknown"


def _plugin_of(problem: str, result: Path, plugins: Sequence[Path]) -> tuple[str, Path]:
    """Name and folder with which to look for a stored problem: a file may lie where it is allowed, here, or beside the result."""
    name, suffix, rest = problem.partition(".py")
    if not suffix:
        return problem, Path.cwd()
    for plugin in plugins:
        if plugin.name == Path(f"{name}{suffix}").name:
            return f"{plugin.resolve()}{rest}", Path.cwd()
    folders = (Path.cwd(), result.absolute().parent)
    return problem, next((folder for folder in folders if (folder / f"{name}{suffix}").is_file()), folders[0])


def _doubts(result: Path, stored: StoredCase, provenance: Mapping[str, str]) -> tuple[str, ...]:
    """What may make products differ from those of the run."""
    doubts = []
    before = stored.provenance.get(SOURCE, "unknown")
    if before != provenance[SOURCE]:
        why = "the file does not say which code it was" if before == "unknown" else "its code has changed since"
        doubts.append(f"{result}: the problem may be another one than that which was solved: {why}")
    if not stored.good:
        doubts.append(f"{result}: case {stored.id} is {stored.status} there")
    return tuple(doubts)


def _line(result: CaseResult) -> CaseLine:
    return CaseLine(result.id, result.status, result.message)
