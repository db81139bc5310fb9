"""A sweep with `continue: arc`: the cases along a branch, computed and saved as it passes them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from implicit_cli.api.cases import Prepared
from implicit_cli.api.reports import Observer, RunReport
from implicit_cli.api.sweeping import MOST_AT_ONCE, SAVED_EVERY, Sweep, Watched, finished, report_of
from implicit_cli.errors import InputError, Interrupted

if TYPE_CHECKING:
    from implicit_cli.engine.arc import State
    from implicit_cli.result import CaseResult

NAMED = 6
"""Folds that are told with their place, at most."""


def refuse_parts(prepared: Prepared, options: Mapping[str, Any]) -> None:
    """Raises InputError where a branch is to be divided: `options` are those that would, by their names, with what was given."""
    assert prepared.cases is not None
    for option, given in options.items():
        if prepared.cases.spec.continuation is not None and given is not None:
            where = prepared.loaded.at("sweep", "continue")
            raise InputError(f"{option}: found with {where}: arc, allowed: one process, for a branch is followed from case to case")


def follow(prepared: Prepared, output: Path, *, observer: Observer | None, stopped: Callable[[], bool], begun: float) -> RunReport:
    """Follow the branch and write OUTPUT with the cases along it, in order; goes on from what is in `OUTPUT.parts`.

    Raises Interrupted where it is asked to leave, and InputError where the folder belongs to another sweep.
    """
    from implicit_cli import engine, store

    work = Sweep(prepared, output)
    parts, before, name = work.parts, work.earlier(), work.cases.targets[0].text
    if before:
        Watched(before, None, observer)
        parts.remove()
        return _reported(work, output, begun)
    known = dict(parts.done())
    watched = Watched(known, None, observer, stopped)
    for text in parts.damaged:
        watched.stage(f"warning: {text}")
    ids, state = _where(work, known)
    pending: list[CaseResult] = []
    last, room = time.monotonic(), store.Scratch(output)

    def save(state: State | None) -> None:
        if pending:
            work.kept(work.keep(pending))
            pending.clear()
        if state is not None:
            kept = {field: np.asarray(value) for field, value in state._asdict().items()}
            store.write_state(parts.folder, ids[: int(state.cases)], kept)
        room.forget()

    stopped()  # from here on there is something to save
    for one in engine.follow(work.cases, work.plan, known=known, state=state, room=room):
        if isinstance(one, engine.Followed):
            ids.append(one.id)
            state, fold = one.state, one.point == "fold"
            if fold:
                watched.stage(f"{name} = {one.value:.8g}: the branch turns back, after {len(ids)} cases")
            if one.result is not None:
                pending.append(one.result)
                watched.add(finished(one.result), at=f"{name} = {one.value:.6g}", failed=not one.result.status.good and not fold)
        else:
            state = one
        leaving = watched.leaving()
        if leaving or len(pending) >= MOST_AT_ONCE or time.monotonic() - last >= SAVED_EVERY:
            save(state)
            last = time.monotonic()
        if leaving:
            there = f"stopped after {len(ids)} cases, saved in {parts.folder}"
            raise Interrupted(f"{there}: the same command goes on from there")
    save(None)
    watched.stage(f"writing {output}")
    work.write(ids)
    return _reported(work, output, begun)


def _where(work: Sweep, known: Mapping[str, int]) -> tuple[list[str], State | None]:
    """The cases so far, in order, and from where to go on; nothing and None for the beginning."""
    from implicit_cli import store
    from implicit_cli.engine.arc import State

    found = store.read_state(work.parts.folder)
    if found is None or not set(found[0]) <= known.keys() or set(found[1]) != set(State._fields):
        return [], None  # some of what lies before is missing, so it is passed once more
    return found[0], State(**found[1])


def _reported(work: Sweep, output: Path, begun: float) -> RunReport:
    """What there is to say of all cases in the file, and of the way."""
    from implicit_cli import engine, store

    report, target = report_of(output, time.perf_counter() - begun), work.cases.targets[0]
    found = store.read_passages(output, target.name)
    where: Any = (slice(None), *target.index)
    values = found.values[where].reshape(len(found.points), -1)[:, 0]
    folds = [f"{target.text} = {value:.8g}" for value, point in zip(values, found.points, strict=True) if point == "fold"]
    reason = found.messages[-1].rpartition(engine.ENDS)[2]
    text = f"the branch {_told(folds)}, and ends at {target.text} = {values[-1]:.8g}: {reason}"
    told = tuple(case for case in report.cases if case.id not in found.folds)
    return replace(report, cases=told, branch=text, folds=len(folds))


def _told(folds: list[str]) -> str:
    """`passes 2 folds, at b = 1 and b = -1`."""
    if not folds:
        return "passes no fold"
    more = [f"{len(folds) - NAMED} more"] if len(folds) > NAMED else []
    shown = [*folds[:NAMED], *more]
    listed = " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)
    return f"passes {len(folds)} fold{'s' if len(folds) > 1 else ''}, at {listed}"
