"""The use cases, one function each: the one place where the rooms meet. The command line calls these, and so can a script.

Heavy imports wait inside the functions, in the order that matters: the spec's form first, then JAX's settings, then the problem.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from implicit_cli.errors import InputError
from implicit_cli.status import Status

if TYPE_CHECKING:
    from implicit_cli.engine import Plan, Vectors
    from implicit_cli.plugins import ProblemDescription, ProblemEntry
    from implicit_cli.result import CaseResult, Header
    from implicit_cli.spec import LoadedSpec
    from implicit_cli.store import CaseSummary as CaseSummary
    from implicit_cli.store import LinearSummary as LinearSummary
    from implicit_cli.store import ProductSummary as ProductSummary
    from implicit_cli.store import QuantitySummary as QuantitySummary
    from implicit_cli.store import Summary as Summary
    from implicit_cli.store import UndeterminedSummary as UndeterminedSummary


class Observer(Protocol):
    """Sees a run from outside: `stage` names what begins, `progress` reports max |F| against the tolerance."""

    def stage(self, text: str) -> None: ...
    def progress(self, step: int, residual: float, tol: float) -> None: ...


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
    result = engine.run_case(vectors, plan, identity="0", seed=loaded.model.seed, observer=observer)
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
        provenance=runtime.provenance(),
    )


def _line(result: CaseResult) -> CaseLine:
    return CaseLine(result.id, result.status, result.message)
