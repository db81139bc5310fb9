"""The use case `replay`: run again from what a result file holds, and compare."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from implicit_cli.api.reading import compare
from implicit_cli.api.reports import Observer, ReplayReport
from implicit_cli.api.solving import optimize, run
from implicit_cli.errors import InputError, listing

if TYPE_CHECKING:
    from implicit_cli.store import StoredRun

SPEC, ARRAYS, RESULT = "replay.yaml", "replay_inputs.h5", "replay.h5"
SECTIONS = ("data", "parameters")
"""Sections of the spec whose arrays the result has."""


def replay(
    result: Path,
    *,
    case: str | None = None,
    folder: Path | None = None,
    output: Path | None = None,
    device: str | None = None,
    allow_plugin: bool = False,
    plugins: Sequence[Path] = (),
    allow_paths: Sequence[Path] = (),
    observer: Observer | None = None,
) -> ReplayReport:
    """Run again what made a result file: its resolved spec, data and parameters; then compare the two.

    Files that the spec names are looked for in `folder`, or beside the result and in the working folder: data there are held
    against those of the result, and what the result does not hold (structures, initial guesses, levels of a sweep, plug-ins) is
    taken from there; files elsewhere are read below `allow_paths` only. `case` replays one of a sweep. The new result is kept as
    `output`, if any.

    Raises InputError for what cannot be replayed, and all that `run` raises.
    """
    from implicit_cli import store

    begun = time.perf_counter()
    if output is not None:
        store.check_output(output, [result])
    stored = store.read_run(result)
    places = _Places([folder] if folder is not None else [result.absolute().parent, Path.cwd()], allow_paths)
    settings = json.loads(stored.resolved)
    changed: list[str] = []
    with tempfile.TemporaryDirectory(prefix="implicit-replay-") as temporary:
        room = Path(temporary)
        if case is not None:
            _leave_one(result, settings, stored, case)
        arrays = dict(_held(settings, stored))
        for (section, name), text in arrays.items():
            changed += _changes(section, name, text, stored, places) if text else ()
            _put(settings[section], name, f"{ARRAYS}:/{section}/{name}")
        settings["labels"] = {axis: stored.labels[axis].tolist() for axis in settings.get("labels") or {} if axis in stored.labels}
        store.write_arrays(room / ARRAYS, {f"{section}/{name}": getattr(stored, section)[name] for section, name in arrays})
        for file in _files(settings):
            _bring(result, file, room, places)
        (room / SPEC).write_text(json.dumps(settings), encoding="utf-8")
        allowed = [*plugins, *((room / plugin.name) for plugin in plugins)]
        work = optimize if settings.get("outer") and stored.optimised else run
        new = output if output is not None else room / RESULT
        more: dict[str, Any] = {"device": device, "allow_plugin": allow_plugin, "plugins": allowed, "allow_paths": allow_paths}
        work(str(room / SPEC), new, observer=observer, **more)
        comparison = compare(result, new, case=case)
    return ReplayReport(comparison, tuple(changed), output, time.perf_counter() - begun)


def _leave_one(result: Path, settings: dict[str, Any], stored: StoredRun, case: str) -> None:
    """One case of a sweep: the design with its values alone, so that it keeps its id."""
    sweep = settings.get("sweep")
    if sweep is None:
        if case not in stored.ids:
            raise InputError(f"{result}: no case '{case}', allowed: {listing(stored.ids[:12])}")
        return
    if sweep.get("continue") is not None or sweep.get("start") == "neighbour":
        raise InputError(f"{result}: a case of this sweep begins where another ended; allowed: without --case")
    values = stored.swept(case)
    settings["sweep"] = {"over": {target: [values[target].tolist()] for target in sweep["over"]}, "design": "grid"}


def _held(settings: Mapping[str, Any], stored: StoredRun) -> Iterator[tuple[tuple[str, str], str]]:
    """Section and name of each array that is a reference in the spec and is in the result, with the reference.

    What a sweep varies is not in the resolved spec, and empty here: what it leaves alone of it is as in the first case. Where an
    outer loop began is not in the result, whose parameters are those that it came to.
    """
    varied = {target.partition("[")[0] for target in (settings.get("sweep") or {}).get("over", {})}
    for section in SECTIONS if not stored.optimised else SECTIONS[:1]:
        held, given = getattr(stored, section), settings[section]
        for name in held:
            value = given.get(name)
            text = value.get("value") if isinstance(value, dict) else value
            if isinstance(text, str) or (name in varied and value is None):
                yield (section, name), text or ""


def _put(section: dict[str, Any], name: str, reference: str) -> None:
    if isinstance(section.get(name), dict):
        section[name]["value"] = reference
    else:
        section[name] = reference


def _changes(section: str, name: str, text: str, stored: StoredRun, places: _Places) -> Iterator[str]:
    """What is different in the file that a reference names, if it is there, from what the result holds."""
    import numpy as np

    from implicit_cli import spec

    held = getattr(stored, section)[name]
    file, _, inside = text.partition(":")
    found = places.find(file)
    if found is None:
        return
    now = spec.read_array(f"{found}:{inside}", f"{section}.{name}")
    if now.shape != held.shape:
        yield f"{section}.{name}: {text} has the shape {now.shape} now, the result has {held.shape}"
        return
    differs = np.argwhere(now != held)
    if len(differs):
        first = tuple(int(i) for i in differs[0])
        place = f"[{', '.join(map(str, first))}]" if first else ""
        count = f"{len(differs):,} of {held.size:,} entries differ, the first" if held.size > 1 else "it is another:"
        yield f"{section}.{name}: {text} has changed: {count} {name}{place} is {now[first]:.10g} now and was {held[first]:.10g}"


def _files(settings: Mapping[str, Any]) -> Iterator[str]:
    """Files that the spec still names."""
    from implicit_cli.spec import named_file

    problem = str(settings["problem"])
    if ".py" in problem:
        yield problem.partition(".py")[0] + ".py"

    def walk(value: Any) -> Iterator[str]:
        if isinstance(value, str):
            file = named_file(value)
            if file is not None and file != ARRAYS:
                yield file
        elif isinstance(value, Mapping):
            for inner in value.values():
                yield from walk(inner)
        elif isinstance(value, list):
            for inner in value:
                yield from walk(inner)

    structure = settings.get("structure") or {}
    if isinstance(structure.get("file"), str):
        yield structure["file"]
    for key, value in settings.items():
        if key not in ("problem", "structure", "formulas"):
            yield from dict.fromkeys(walk(value))


class _Places(NamedTuple):
    """Where files that a spec names are looked for; it can come from anybody, and has no right to others."""

    folders: Sequence[Path]
    allowed: Sequence[Path]

    def find(self, file: str) -> Path | None:
        """The file in the first of the folders that has it below itself, or has it below what is allowed, links followed."""
        for folder in self.folders:
            path = folder / file
            if any(path.resolve().is_relative_to(root.resolve()) for root in (folder, *self.allowed)) and path.is_file():
                return path
        return None


def _bring(result: Path, file: str, room: Path, places: _Places) -> None:
    """A file of the spec into the room, at the place that the spec says; one that is not below its folder is read where it is."""
    source, target = places.find(file), room / file
    if source is None:
        looked = listing(map(str, places.folders))
        raise InputError(f"{result}: its spec names {file}, which is not in {looked}; allowed: --folder DIR, where it is")
    if not target.resolve().is_relative_to(room.resolve()):
        if Path(file).is_absolute():
            return
        raise InputError(f"{result}: its spec names {file}, which is not below its folder; allowed: a copy there, with --folder")
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.suffix == ".py":
        target.symlink_to(source.resolve())  # a plug-in is the file that --plugin allows, and not a copy of it
    else:
        shutil.copyfile(source, target)
