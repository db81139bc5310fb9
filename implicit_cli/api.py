"""The use cases, one function each: the one place where the rooms meet. The command line calls these, and so can a script.

Heavy imports wait inside the functions, in the order that matters: the spec's form first, then JAX's settings, then the problem.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from implicit_cli.errors import InputError
from implicit_cli.status import Status

SOURCE = "problem_sha256"
"""Key of the provenance that names the code of the problem."""

if TYPE_CHECKING:
    from implicit_cli.engine import Plan, Vectors
    from implicit_cli.plugins import ProblemDescription, ProblemEntry
    from implicit_cli.result import CaseResult, Header
    from implicit_cli.spec import LoadedSpec
    from implicit_cli.store import CaseSummary as CaseSummary
    from implicit_cli.store import LinearSummary as LinearSummary
    from implicit_cli.store import ProductSummary as ProductSummary
    from implicit_cli.store import QuantitySummary as QuantitySummary
    from implicit_cli.store import StoredCase
    from implicit_cli.store import Summary as Summary
    from implicit_cli.store import UndeterminedSummary as UndeterminedSummary


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
class ProductsReport:
    """What `products` found, as `show` reads it; `path` is the file where one was written, `warnings` what may be wrong with it."""

    summary: Summary
    path: Path | None
    warnings: tuple[str, ...]
    seconds: float

    @property
    def exit_code(self) -> int:
        return 0 if all(case.good for case in self.summary.cases) else 1


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


def check(
    spec: str,
    *,
    overrides: Sequence[str] = (),
    device: str | None = None,
    allow_plugin: bool = False,
    plugins: Sequence[Path] = (),
) -> Plan:
    """Validate a spec against its problem and say what a run would do; solves nothing."""
    return _prepare(spec, overrides, device, allow_plugin, plugins)[2]


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
    # what is given by name only: the values are at hand
    given = {"data": stored.inputs, "parameters": stored.parameters, "initial": stored.solution, "labels": stored.labels}
    # nothing is solved, so that no other method than the theorem is left
    chosen: dict[str, Any] = {"method": "implicit", **{key: tuple(names) for key, names in (("of", of), ("wrt", wrt)) if names}}
    if kind == "jvp":
        chosen["wrt"] = None
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
    plan = engine.make_plan(loaded, vectors)
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


def show(result: Path) -> Summary:
    """What is in a result file."""
    from implicit_cli import store

    return store.read_summary(result)


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
) -> tuple[LoadedSpec, Vectors, Plan]:
    """Everything that comes before work: form of the spec, JAX's settings, the problem, names and shapes, the plan."""
    from implicit_cli.spec import load_spec

    loaded = load_spec(spec, overrides)
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
