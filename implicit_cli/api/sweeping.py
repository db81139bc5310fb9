"""The cases of a sweep: those that are missing are computed and saved as they come, in the end all are one result file."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from implicit_cli.api.cases import Prepared, header_of, identity_of
from implicit_cli.api.reports import CaseLine, Observer, RunReport, SweepProgress
from implicit_cli.errors import CaseFailed, EnvironmentProblem, InputError, Interrupted
from implicit_cli.status import Status

if TYPE_CHECKING:
    from implicit_cli.result import CaseResult, Header
    from implicit_cli.store import Parts, Scratch

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


class Finished(NamedTuple):
    """How a case ended, once it is saved; `accuracy` is its largest relative bound."""

    id: str
    status: Status
    message: str
    accuracy: float


class Sweep:
    """The cases of a spec and the place where finished ones are kept: `OUTPUT.parts`."""

    def __init__(self, prepared: Prepared, output: Path) -> None:
        from implicit_cli import store

        assert prepared.cases is not None
        self.cases, self.plan, self.output = prepared.cases, prepared.plan, output
        identity = _identity(prepared)
        self.header = _header(prepared, identity)
        self.parts = store.Parts(parts_of(output), identity)
        self._own: list[Path] = []

    @cached_property
    def ids(self) -> list[str]:
        """The ids of all cases, in the order of the design."""
        return self.cases.ids()

    def earlier(self) -> Mapping[str, int]:
        """The cases of an earlier result of this sweep at OUTPUT, and their status codes."""
        return earlier(self.output, self.parts)

    def results(self, indices: Sequence[int], room: Scratch) -> Iterator[CaseResult]:
        """The cases at some points of the design, computed here and now."""
        from implicit_cli import engine

        return engine.run_cases(self.cases, self.plan, indices, room=room)

    def keep(self, results: Sequence[CaseResult]) -> Path:
        """Save finished cases."""
        return self.parts.add(self.header, results)

    def kept(self, path: Path) -> None:
        """One more file of finished cases is there, of this process or of one that it started; many become one."""
        self._own.append(path)
        if len(self._own) >= MOST_FILES:
            self._own = self.parts.compact(self._own)

    def write(self, ids: Sequence[str]) -> None:
        """Make OUTPUT of these cases, which are finished, and remove the parts.

        Another process may have ended on the same OUTPUT meanwhile, and taken the parts with it: then they are in OUTPUT. Raises
        EnvironmentProblem where some are in neither.
        """
        merged = -1
        while merged < len(ids):
            before = self.earlier()
            there = self.parts.done().keys() | before.keys()
            if gone := sum(name not in there for name in ids):
                text = f"{gone} of {len(ids)} finished cases are no longer there, as where another process writes {self.output}"
                told = f"{self.parts.folder}: {text}: the same command goes on from the others"
                raise EnvironmentProblem("\n".join((*self.parts.damaged, told)))
            merged = self.parts.merge(self.output, order=ids, also=[self.output] if before else []).cases
        self.parts.remove()


def parts_of(output: Path) -> Path:
    """The folder in which a sweep keeps what is done."""
    return Path(f"{output}.parts")


def earlier(output: Path, parts: Parts) -> Mapping[str, int]:
    """The cases of a result at OUTPUT, where it is of the same sweep as the parts, and their status codes."""
    from implicit_cli import store

    try:
        found = store.read_outcomes(output)
    except (InputError, EnvironmentProblem):
        return {}  # nothing that could be used; the output has been checked
    same = found.provenance.get(IDENTITY) == _sha256(parts.identity)
    return dict(zip(found.ids, found.codes, strict=True)) if same else {}


Computing = Callable[[Sweep, Sequence[int], "Watched"], None]
"""Computes and saves the cases at some points of the design, and tells of each; ends early where it is asked to leave."""


def here(work: Sweep, indices: Sequence[int], watched: Watched) -> None:
    """In this process."""
    from implicit_cli import store

    pending: list[CaseResult] = []
    last, room = time.monotonic(), store.Scratch(work.output)
    for result in work.results(indices, room):
        pending.append(result)
        watched.add(finished(result))
        leaving = watched.leaving()
        if leaving or len(pending) >= MOST_AT_ONCE or time.monotonic() - last >= SAVED_EVERY:
            work.kept(work.keep(pending))
            pending, last = [], time.monotonic()
            room.forget()
        if leaving:
            return
    if pending:
        work.kept(work.keep(pending))


def finished(result: CaseResult) -> Finished:
    """What there is to tell of a case."""
    return Finished(result.id, result.status, result.message, result.accuracy)


def sweep(
    prepared: Prepared,
    output: Path,
    *,
    shard: Shard | None,
    compute: Computing,
    observer: Observer | None,
    stopped: Callable[[], bool],
    begun: float,
) -> RunReport:
    """Compute the cases that neither `OUTPUT.parts` nor an earlier OUTPUT of the same sweep has, and write OUTPUT with all.

    With a `shard` only cases of that part of the design are computed, and OUTPUT is left alone. Raises CaseFailed and Interrupted
    where the sweep ends before all are done, and InputError where the folder belongs to another sweep or design.
    """
    from implicit_cli import store

    work = Sweep(prepared, output)
    parts, ids = work.parts, work.ids
    asked = list(dict.fromkeys(ids))
    if shard is not None:
        _as_planned(parts, asked, shard)
        begin, end = store.shard_bounds(len(asked), shard[1])[shard[0] - 1 : shard[0] + 1]
        asked = asked[begin:end]
    before = work.earlier()
    known = {**parts.done(), **before}
    wanted = set(asked)
    aborts = work.cases.spec.on_failure == "abort"
    kept = {name: known[name] for name in wanted & known.keys()}
    watched = Watched(kept, len(asked), observer, stopped, aborts=aborts)
    for text in parts.damaged:
        watched.stage(f"warning: {text}")
    stopped()  # from here on there is something to save
    missing = [index for index in _missing(ids, known) if ids[index] in wanted]
    if missing:
        compute(work, missing, watched)
    saved = f"stopped after {watched.done} of {len(asked)} cases, saved in {parts.folder}"
    if (one := watched.failure) is not None:
        raise CaseFailed(f"case {one.id}: {one.status.label}: {one.message}; {saved}, as sweep.on_failure asks")
    if watched.done < len(asked):
        raise Interrupted(f"{saved}: the same command goes on from there")
    if shard is not None:
        counts = Counter(Status(code) for name, code in parts.done().items() if name in wanted)
        return RunReport(parts.folder, counts, (), time.perf_counter() - begun)
    if parts.files() or list(before) != asked:
        watched.stage(f"writing {output}")
        work.write(asked)
    else:
        parts.remove()
    return report_of(output, time.perf_counter() - begun)


def _as_planned(parts: Parts, ids: Sequence[str], shard: Shard) -> None:
    """Raises InputError where these shards were planned of another design: some cases would be in none of them."""
    from implicit_cli import store

    try:
        planned = store.read_shards(parts.folder)
    except InputError:
        return  # nobody has planned anything
    if planned.count == shard[1] and planned.names() != list(ids):
        found = f"planned for {len(planned.ids)} cases, found another design with {len(ids)}"
        raise InputError(f"{parts.folder}: {found}: `implicit sweep plan` again")


def report_of(output: Path, seconds: float) -> RunReport:
    """What there is to say of all cases in the file."""
    from implicit_cli import store

    found = store.read_outcomes(output)
    rows = zip(found.ids, map(Status, found.codes), found.messages, strict=True)
    told = [CaseLine(*row) for row in rows if not row[1].good]
    return RunReport(output, Counter(map(Status, found.codes)), tuple(told[:TOLD]), seconds)


def _header(prepared: Prepared, identity: Mapping[str, Any]) -> Header:
    """The header of a result of this sweep, which says to which it belongs."""
    header = header_of(prepared.loaded, prepared.vectors)
    # what each case has for itself: the first one's would say nothing of the others
    swept = _swept(prepared)
    inputs = {name: value for name, value in header.inputs.items() if name not in swept}
    resolved = json.dumps({**identity["spec"], **_design(prepared)})
    return replace(header, inputs=inputs, spec_resolved=resolved, provenance={**header.provenance, IDENTITY: _sha256(identity)})


def _sha256(identity: Mapping[str, Any]) -> str:
    """Which sweep it is, in a line."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def _design(prepared: Prepared) -> dict[str, Any]:
    """The sections of the spec that do not make a sweep another one, with a covariance in place that was given by reference."""
    from implicit_cli import spec

    design = prepared.loaded.model.model_dump(mode="json", include={"sweep", "outer"})
    sweep = design["sweep"]
    if sweep.get("covariance") is not None:
        sweep["covariance"] = spec.read_value(prepared.loaded, ("sweep", "covariance"), sweep["covariance"]).array.tolist()
    return design


def _swept(prepared: Prepared) -> set[str]:
    """Quantities that have a value in each case."""
    assert prepared.cases is not None
    return {target.name for target in prepared.cases.targets}


def _missing(ids: Iterable[str], done: Mapping[str, int]) -> Iterable[int]:
    """Indices of the cases that are not done, each question once."""
    asked = set(done)
    for index, name in enumerate(ids):
        if name not in asked:
            asked.add(name)
            yield index


def _identity(prepared: Prepared) -> dict[str, Any]:
    """What makes two runs of a sweep one: all but the design, which may grow; along a branch the design, too."""
    loaded, vectors, _, _ = prepared
    spec, swept = loaded.model.model_dump(mode="json", exclude={"sweep", "outer"}), _swept(prepared)
    for section in ("parameters", "data", "initial"):
        spec[section] = {name: value for name, value in spec[section].items() if name not in swept}
    if prepared.cases is not None and prepared.cases.spec.continuation is not None:
        spec |= loaded.model.model_dump(mode="json", include={"sweep"})  # other levels are passed on another way
    return identity_of(loaded, vectors.bound, spec, varied=swept)


class Watched:
    """Counts what is done, tells the observer, and says when to leave; `kept` are status codes of cases that were done before.

    `total` is None where nobody knows how many there will be.

    `failure` is the case that ended the sweep, where the spec says that one `aborts` it.
    """

    def __init__(
        self,
        kept: Mapping[str, int],
        total: int | None,
        observer: Observer | None,
        stopped: Callable[[], bool] = lambda: False,
        *,
        aborts: bool = False,
    ) -> None:
        self.total, self._observer, self._stopped, self._aborts = total, observer, stopped, aborts
        self.done, self._kept = len(kept), len(kept)
        self.failure: Finished | None = None
        self._failed = sum(not Status(code).good for code in kept.values())
        self._worst, self._begun = 0.0, time.monotonic()
        self._marks: deque[tuple[float, int]] = deque(maxlen=64)
        what = "following a branch" if total is None else f"{total} cases"
        done = f", {len(kept)} {'cases' if total is None else 'of them'} done before" if kept else ""
        self.stage(f"{what}{done}")

    def leaving(self) -> bool:
        """Whether to save what is done and end."""
        return self._stopped() or self.failure is not None

    def stage(self, text: str) -> None:
        """What begins now."""
        if self._observer is not None:
            self._observer.stage(text)

    def add(self, one: Finished, *, at: str = "", failed: bool | None = None) -> None:
        """One more case; `at` says where it is, `failed` whether it counts as such, where its status alone does not say so."""
        self.done += 1
        self._failed += not one.status.good if failed is None else failed
        if self._aborts and not one.status.good:
            self.failure = self.failure or one
        if one.accuracy > self._worst:
            self._worst = one.accuracy
        if self._observer is not None:
            rate, seconds = self._rate(), time.monotonic() - self._begun
            self._observer.sweep(SweepProgress(self.done, self.total, self._kept, self._failed, self._worst, seconds, rate, at))

    def _rate(self) -> float:
        """Cases per second of late, the first one apart, for which programs were compiled."""
        now = time.monotonic()
        if not self._marks or now - self._marks[-1][0] >= SPACING:
            self._marks.append((now, self.done))
        begun, done = self._marks[0]
        return (self.done - done) / (now - begun) if now - begun >= SPACING else 0.0
