"""The cases of a sweep: those that are missing are computed and saved as they come, in the end all are one result file."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from implicit_cli.api.cases import Prepared, header_of, identity_of
from implicit_cli.api.reports import CaseLine, Observer, RunReport, SweepProgress
from implicit_cli.errors import CaseFailed, EnvironmentProblem, InputError, Interrupted
from implicit_cli.status import Status

if TYPE_CHECKING:
    from implicit_cli.result import CaseResult, Header

SAVED_EVERY, MOST_AT_ONCE = 5.0, 1000
"""Seconds, and cases, after which what is done is saved: a kill loses no more than that."""
SPACING = 0.5
"""Seconds over which a rate is found, at least."""
MOST_FILES = 64
"""Files of one process in the folder of parts, before they become one."""
TOLD = 20
"""Cases with a message that a report tells, at most."""
IDENTITY = "sweep_sha256"
"""Key of the provenance that says which sweep a result file belongs to."""


Shard = tuple[int, int]
"""Number of a shard, from 1, and how many there are."""


def read_shard(text: str) -> Shard:
    """`3/16` as numbers; raises InputError for another form."""
    match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text, re.ASCII)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise InputError(f"--shard: found '{text}', allowed: NUMBER/COUNT, such as 3/16, with NUMBER from 1 to COUNT")
    return int(match[1]), int(match[2])


def sweep(
    prepared: Prepared,
    output: Path,
    *,
    shard: Shard | None,
    observer: Observer | None,
    stopped: Callable[[], bool],
    begun: float,
) -> RunReport:
    """Compute the cases that neither `OUTPUT.parts` nor an earlier OUTPUT of the same sweep has, and write OUTPUT with all.

    With a `shard` only cases of that part of the design are computed, and OUTPUT is left alone.
    """
    from implicit_cli import engine, store

    _, _, plan, cases = prepared
    assert cases is not None
    identity = _identity(prepared)
    header = _header(prepared, identity)
    ids = cases.ids()
    asked = list(dict.fromkeys(ids if shard is None else _part(ids, shard)))
    parts = store.Parts(Path(f"{output}.parts"), identity)
    earlier = _earlier(output, header.provenance[IDENTITY])
    known = {**parts.done(), **earlier}
    wanted = set(asked)
    watched = _Watched({name: known[name] for name in wanted & known.keys()}, len(asked), observer)
    for text in parts.damaged:
        watched.stage(f"warning: {text}")
    stopped()  # from here on there is something to save
    missing = [index for index in _missing(ids, known) if ids[index] in wanted]
    aborts = cases.spec.on_failure == "abort"
    pending: list[CaseResult] = []
    own: list[Path] = []
    last, room = time.monotonic(), store.Scratch(output)
    for result in engine.run_cases(cases, plan, missing, room=room):
        pending.append(result)
        watched.add(result)
        failed = aborts and not result.status.good
        leaving = stopped() or failed
        if leaving or len(pending) >= MOST_AT_ONCE or time.monotonic() - last >= SAVED_EVERY:
            own.append(parts.add(header, pending))
            pending, last = [], time.monotonic()
            room.forget()
        if len(own) >= MOST_FILES:
            own = [parts.compact(own)]
        saved = f"stopped after {watched.done} of {watched.total} cases, saved in {parts.folder}"
        if failed:
            raise CaseFailed(f"case {result.id}: {result.status.label}: {result.message}; {saved}, as sweep.on_failure asks")
        if leaving and watched.done < watched.total:
            raise Interrupted(f"{saved}: the same command goes on from there")
    if pending:
        parts.add(header, pending)
    if shard is not None:
        counts = Counter(Status(code) for name, code in parts.done().items() if name in wanted)
        return RunReport(parts.folder, counts, (), time.perf_counter() - begun)
    if parts.files() or list(earlier) != asked:
        watched.stage(f"writing {output}")
        parts.merge(output, order=asked, also=[output] if earlier else [])
    parts.remove()
    return _report(output, time.perf_counter() - begun)


def _report(output: Path, seconds: float) -> RunReport:
    """What there is to say of all cases in the file."""
    from implicit_cli import store

    found = store.read_outcomes(output)
    rows = zip(found.ids, map(Status, found.codes), found.messages, strict=True)
    told = [CaseLine(*row) for row in rows if not row[1].good]
    return RunReport(output, Counter(map(Status, found.codes)), tuple(told[:TOLD]), seconds)


def _earlier(output: Path, belongs: str) -> Mapping[str, int]:
    """The cases of an earlier result of this sweep at OUTPUT, and their status codes."""
    from implicit_cli import store

    try:
        found = store.read_outcomes(output)
    except (InputError, EnvironmentProblem):
        return {}  # nothing that could be used; the output has been checked
    return dict(zip(found.ids, found.codes, strict=True)) if found.provenance.get(IDENTITY) == belongs else {}


def _header(prepared: Prepared, identity: Mapping[str, Any]) -> Header:
    """The header of a result of this sweep, which says to which it belongs."""
    header = header_of(prepared.loaded, prepared.vectors)
    # what each case has for itself: the first one's would say nothing of the others
    swept = _swept(prepared)
    inputs = {name: value for name, value in header.inputs.items() if name not in swept}
    resolved = json.dumps({**identity["spec"], **_design(prepared)})
    belongs = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    return replace(header, inputs=inputs, spec_resolved=resolved, provenance={**header.provenance, IDENTITY: belongs})


def _design(prepared: Prepared) -> dict[str, Any]:
    """The sections of the spec that do not make a sweep another one."""
    return prepared.loaded.model.model_dump(mode="json", include={"sweep", "outer"})


def _swept(prepared: Prepared) -> set[str]:
    """Quantities that have a value in each case."""
    assert prepared.cases is not None
    return {target.name for target in prepared.cases.targets}


def _part(ids: Sequence[str], shard: Shard) -> list[str]:
    """The ids of a shard: neighbours in the design."""
    number, count = shard
    begin, end = ((len(ids) * part) // count for part in (number - 1, number))
    return list(ids[begin:end])


def _missing(ids: Iterable[str], done: Mapping[str, int]) -> Iterable[int]:
    """Indices of the cases that are not done, each question once."""
    asked = set(done)
    for index, name in enumerate(ids):
        if name not in asked:
            asked.add(name)
            yield index


def _identity(prepared: Prepared) -> dict[str, Any]:
    """What makes two runs of a sweep one: all but the design, which may grow."""
    loaded, vectors, _, _ = prepared
    spec, swept = loaded.model.model_dump(mode="json", exclude={"sweep", "outer"}), _swept(prepared)
    for section in ("parameters", "data", "initial"):
        spec[section] = {name: value for name, value in spec[section].items() if name not in swept}
    return identity_of(loaded, vectors.bound, spec, varied=swept)


class _Watched:
    """Counts what is done, and tells the observer; `kept` are the status codes of cases that were done before."""

    def __init__(self, kept: Mapping[str, int], total: int, observer: Observer | None) -> None:
        self.total, self._observer = total, observer
        self.done, self._kept = len(kept), len(kept)
        self._failed = sum(not Status(code).good for code in kept.values())
        self._worst, self._begun = 0.0, time.monotonic()
        self._marks: deque[tuple[float, int]] = deque(maxlen=64)
        self.stage(f"{total} cases" + (f", {len(kept)} of them done before" if kept else ""))

    def stage(self, text: str) -> None:
        """What begins now."""
        if self._observer is not None:
            self._observer.stage(text)

    def add(self, result: CaseResult) -> None:
        """One more case."""
        self.done += 1
        self._failed += not result.status.good
        if result.accuracy > self._worst:
            self._worst = result.accuracy
        if self._observer is not None:
            rate, seconds = self._rate(), time.monotonic() - self._begun
            self._observer.sweep(SweepProgress(self.done, self.total, self._kept, self._failed, self._worst, seconds, rate))

    def _rate(self) -> float:
        """Cases per second of late, the first one apart, for which programs were compiled."""
        now = time.monotonic()
        if not self._marks or now - self._marks[-1][0] >= SPACING:
            self._marks.append((now, self.done))
        begun, done = self._marks[0]
        return (self.done - done) / (now - begun) if now - begun >= SPACING else 0.0
