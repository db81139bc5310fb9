"""The use cases about problems themselves: list, describe, begin a new one, and see whether one keeps the contract."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from implicit_cli.api import skeleton
from implicit_cli.api.cases import with_formulas
from implicit_cli.api.reports import ConformanceReport, Observer
from implicit_cli.errors import EnvironmentProblem, InputError, PluginError

if TYPE_CHECKING:
    from implicit_cli.plugins import ProblemDescription, ProblemEntry
    from implicit_cli.problem import Problem
    from implicit_cli.spec import LoadedSpec
    from implicit_cli.verdict import Trait


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


def new_problem(name: str, folder: Path, *, kind: str = "stationary", package: bool = False) -> tuple[Path, ...]:
    """Write a problem called `name` into `folder`: its class, a spec that runs, a test; with `package` what installs it. The paths.

    All files are there in the end, or none. Raises InputError for a name that cannot be one, an unknown kind, and where one of them
    is there already; EnvironmentProblem where the file system refuses.
    """
    from implicit_cli import store

    texts = skeleton.texts(name, kind, package=package)
    paths = {folder / path: text for path, text in texts.items()}
    there = [path for path in paths if path.exists() or path.is_symlink()]
    if there:
        raise InputError([f"'{path}' is there already: choose another name or folder" for path in there])
    begun: list[Path] = []
    try:
        for path, text in paths.items():
            begun.append(path)
            store.replace_file(path, text.encode())
    except EnvironmentProblem as error:
        for path in begun:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
        why = error.__cause__.strerror if isinstance(error.__cause__, OSError) else error
        raise EnvironmentProblem(f"{begun[-1]}: cannot write the file: {why}") from error
    return tuple(paths)


def check_problem(
    name: str,
    *,
    spec: Path | None = None,
    overrides: Sequence[str] = (),
    device: str | None = None,
    allow_plugin: bool = False,
    plugins: Sequence[Path] = (),
    allow_paths: Sequence[Path] = (),
    observer: Observer | None = None,
) -> ConformanceReport:
    """Whether the problem called `name` keeps the contract (`implicit_cli.problem`), tried on `spec`, or else on its own example.

    Raises InputError for a problem or a spec that cannot be read; what is wrong with the problem is in the report.
    """
    from implicit_cli import plugins as rooms
    from implicit_cli import runtime
    from implicit_cli.verdict import Trait, Verdict

    begun = time.perf_counter()
    loaded = None
    if spec is not None:
        from implicit_cli.spec import load_spec

        loaded = load_spec(spec, overrides, allow_paths)
    runtime.configure(device)
    cls = rooms.load(name, base=Path.cwd(), allow_plugin=allow_plugin, plugins=plugins)
    traits: list[Trait] = []
    try:
        loaded = loaded if loaded is not None else _example(name, cls, overrides)
        cls = with_formulas(cls, loaded)
        traits += _tried(loaded, cls, observer)
    except InputError as error:
        if spec is not None and not isinstance(error, PluginError):
            raise  # the user's spec, not the problem
        where = "form" if isinstance(error, PluginError) else "example"
        traits.append(Trait(where, Verdict.VIOLATED, "; ".join(error.messages)))
    traits.insert(0, _documented(name, cls))
    return ConformanceReport(name, "" if spec is None else str(spec), tuple(traits), time.perf_counter() - begun)


def _example(name: str, cls: type[Problem], overrides: Sequence[str]) -> LoadedSpec:
    from implicit_cli import plugins as rooms
    from implicit_cli.spec import spec_of

    text = rooms.describe(name, cls).example
    if not text:
        raise PluginError(f"{cls.__name__} has no example: write one, or try it on a spec with --spec")
    return spec_of(text + "\n", f"example of {name}", None, overrides)


def _tried(loaded: LoadedSpec, cls: type[Problem], observer: Observer | None) -> tuple[Trait, ...]:
    from implicit_cli import engine

    vectors = engine.Vectors(engine.bind(loaded, cls))
    return engine.conformance(vectors, engine.make_plan(loaded, vectors), seed=loaded.model.seed, observer=observer)


def _documented(name: str, cls: type[Problem]) -> Trait:
    """Whether it says what it is, and what each of its quantities and options means, in which unit."""
    from implicit_cli import plugins as rooms
    from implicit_cli.verdict import Trait, Verdict

    described = rooms.describe(name, cls)
    faults = [] if described.doc else [f"{cls.__name__} has no docstring"]
    faults += [f"{row.kind} '{row.name}' has no doc" for row in described.quantities if not row.doc.strip()]
    faults += [
        f"{row.kind} '{row.name}' has no unit: '1' where there is none" for row in described.quantities if not row.unit.strip()
    ]
    if not any(row.kind == "parameter" for row in described.quantities):
        faults.append("no parameter is declared: there is nothing to differentiate with respect to")
    count = len(described.quantities)
    return Trait(
        "documentation", Verdict.VIOLATED if faults else Verdict.HOLDS, "; ".join(faults) or f"{count} quantities and options"
    )
