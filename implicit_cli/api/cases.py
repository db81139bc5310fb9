"""From a spec, or from a result file, to a problem with its arrays and a plan: what comes before all work."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from implicit_cli.errors import InputError

if TYPE_CHECKING:
    from implicit_cli.engine import BoundProblem, Cases, Plan, Vectors
    from implicit_cli.problem import Problem
    from implicit_cli.result import Header
    from implicit_cli.spec import LoadedSpec
    from implicit_cli.spec.directions import Directions
    from implicit_cli.store import StoredCase

SOURCE = "problem_sha256"
"""Key of the provenance that names the code of the problem."""


class Prepared(NamedTuple):
    """A spec with its problem and plan; `cases` where it has a section `sweep`, and `vectors` are then at its own values."""

    loaded: LoadedSpec
    vectors: Vectors
    plan: Plan
    cases: Cases | None = None


@dataclass(frozen=True)
class Request:
    """What a command is asked for before it knows what is in it: the spec, and how it is to be read and run."""

    spec: str
    overrides: Sequence[str] = ()
    device: str | None = None
    allow_plugin: bool = False
    plugins: Sequence[Path] = ()
    allow_paths: Sequence[Path] = ()

    def elsewhere(self, for_whom: str) -> Request:
        """The same for a process with another working folder; raises InputError where only this one can read the spec."""
        if self.spec == "-":
            raise InputError(f"SPEC: found '-', allowed {for_whom}: a file, which other processes can read")
        plugins, allow_paths = (tuple(path.absolute() for path in paths) for paths in (self.plugins, self.allow_paths))
        spec = str(Path(self.spec).absolute())
        return replace(self, spec=spec, overrides=tuple(self.overrides), plugins=plugins, allow_paths=allow_paths)


def prepare(request: Request, *, canary: bool = False, outer: bool = False) -> Prepared:
    """Everything that comes before work: form of the spec, JAX's settings, the problem, names and shapes, the plan.

    With `outer` the section of that name must be there.
    """
    from implicit_cli.spec import load_spec, read_early
    from implicit_cli.structures import build

    loaded = load_spec(request.spec, request.overrides, request.allow_paths)
    if outer and loaded.model.outer is None:
        raise InputError(f"{loaded.at()}: 'outer' is missing, allowed: a mapping such as {{objective: OUTPUT, parameters: [NAME]}}")
    # what is wrong with data is told before JAX is imported
    read_early(loaded)
    if loaded.model.structure is not None:
        loaded.keep(("structure",), build(loaded))
    from implicit_cli import plugins as rooms
    from implicit_cli import runtime

    runtime.configure(request.device)
    try:
        cls = rooms.load(loaded.model.problem, base=loaded.folder, allow_plugin=request.allow_plugin, plugins=request.plugins)
    except InputError as error:
        raise type(error)([f"{loaded.at('problem')}: {message}" for message in error.messages]) from error
    cls = with_formulas(cls, loaded)
    from implicit_cli import engine

    if canary:
        runtime.canary()
    cases = engine.Cases(loaded, cls) if loaded.model.sweep is not None else None
    if cases is not None and cases.spec.continuation is not None:
        engine.check_branch(cases)
    vectors = cases.vectors if cases is not None else engine.Vectors(engine.bind(loaded, cls))
    return Prepared(loaded, vectors, engine.make_plan(loaded, vectors), cases)


def with_formulas(cls: type[Problem], loaded: LoadedSpec) -> type[Problem]:
    """The problem's class for this spec: one that is written in formulas is made of those in the spec."""
    formulas = loaded.model.formulas
    try:
        return cls.from_formulas(formulas.formulas(loaded.at) if formulas is not None else None)
    except InputError as error:
        raise type(error)([f"{loaded.at('formulas')}: {message}" for message in error.messages]) from error


def rebuilt(
    result: Path,
    stored: StoredCase,
    chosen: dict[str, Any],
    kind: str,
    parts: Directions,
    device: str | None,
    allow_plugin: bool,
    plugins: Sequence[Path],
) -> Prepared:
    """As `prepare`, of a case in a result file: everything is at hand. `chosen` replaces settings of the run's `sensitivity`.

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
    cls = with_formulas(rooms.load(name, base=base, allow_plugin=allow_plugin, plugins=plugins), loaded)
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
    return Prepared(loaded, vectors, engine.make_plan(loaded, vectors))


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


def inputs_of(loaded: LoadedSpec, vectors: Vectors) -> list[Path]:
    """Files that a run reads, and so must not overwrite."""
    files = {loaded.folder / origin.rsplit(":", 1)[0] for origin in vectors.bound.inputs}
    return [*files, *([loaded.path] if loaded.path is not None else [])]


def header_of(loaded: LoadedSpec, vectors: Vectors) -> Header:
    """What a result file says of the problem, its quantities and inputs, the spec, and where it all comes from."""
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
        provenance={**runtime.provenance(), SOURCE: source_sha256(type(bound.problem))},
    )


def identity_of(loaded: LoadedSpec, bound: BoundProblem, spec: Mapping[str, Any], varied: Collection[str] = ()) -> dict[str, Any]:
    """What makes two runs one, of which the second goes on where the first was: settings, values, the problem's code.

    `spec` are the settings that count; quantities that are `varied` do not.
    """
    from implicit_cli.engine.sweep import digest

    values = {"data": bound.data, "parameters": bound.parameters, "initial": bound.initial}
    arrays = {
        section: {name: digest(array) for name, array in named.items() if name not in varied} for section, named in values.items()
    }
    return {"spec": spec, "values": arrays, SOURCE: source_sha256(type(bound.problem))}


def source_sha256(cls: type) -> str:
    """SHA-256 of the file that a problem's class is written in; "unknown" where there is none."""
    try:
        return hashlib.sha256(Path(inspect.getsourcefile(cls) or "").read_bytes()).hexdigest()
    except (OSError, TypeError):
        return "unknown"


def doubts(result: Path, stored: StoredCase, provenance: Mapping[str, str]) -> tuple[str, ...]:
    """What may make products differ from those of the run."""
    doubts = []
    before = stored.provenance.get(SOURCE, "unknown")
    if before != provenance[SOURCE]:
        why = "the file does not say which code it was" if before == "unknown" else "its code has changed since"
        doubts.append(f"{result}: the problem may be another one than that which was solved: {why}")
    if not stored.good:
        doubts.append(f"{result}: case {stored.id} is {stored.status} there")
    return tuple(doubts)
