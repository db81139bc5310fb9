"""A sweep at a glance: how many cases ended how, what its outputs do over it, what moves them most, and a line for some cases."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy as np

from implicit_cli.errors import InputError, listing, nearest
from implicit_cli.result import Array
from implicit_cli.sample import Sample
from implicit_cli.store import layout
from implicit_cli.store.guard import opened
from implicit_cli.store.nodes import labels, members, outcome, texts
from implicit_cli.store.sample import read_sample

COLUMNS = 4
"""Values that differ from case to case and are told, at most."""
BINS = 40
TRENDS, MOVED = 8, 10
"""Outputs, and sensitivities, that are told at most."""


@dataclass(frozen=True)
class CaseRow:
    """A case in one line: `values` are those of the overview's `varied`, `accuracy` its largest relative bound."""

    id: str
    status: str
    good: bool
    message: str
    accuracy: float
    values: tuple[float, ...]


@dataclass(frozen=True)
class Trend:
    """An output over the good cases of a sweep: its range and median, and `values`: along the one input that there is, or a branch
    in it, means over equal parts of the cases; else how many cases there are in equal parts of the range.
    """

    name: str
    unit: str
    minimum: float
    median: float
    maximum: float
    values: tuple[float, ...]


@dataclass(frozen=True)
class Moved:
    """How much an input moves an output: the median of |(theta / y) dy/dtheta| over good cases."""

    of: str
    wrt: str
    elasticity: float


@dataclass(frozen=True)
class Overview:
    """A result with many cases: how many ended how, by the names of the statuses, and rows of the first and of those that failed.

    `varied` names entries of parameters, data and initial guesses that differ from case to case, the first few of `more` and these,
    and after them what was asked for. `trends` are over `over`, the one input there is, or a branch
    in it; with several it is empty. `sort` is what the first rows are sorted by.
    """

    path: str
    format_version: int
    problem: str
    summary: str
    creator: str
    created: str
    cases: int
    statuses: dict[str, int]
    worst: float
    varied: tuple[str, ...]
    more: int
    first: tuple[CaseRow, ...]
    failed: tuple[CaseRow, ...]
    over: str = ""
    trends: tuple[Trend, ...] = ()
    moved: tuple[Moved, ...] = ()
    sort: str = "case"


def read_overview(path: Path, rows: int = 10, *, of: Sequence[str] = (), wrt: Sequence[str] = (), sort: str = "case") -> Overview:
    """The cases of a result file, with `rows` of the first, and of those that failed, at most; outputs or unknowns `of`, moved by
    inputs `wrt`. The first are those of the file's order, or of what `sort` names: bounds largest first, values smallest first.

    Raises as `read_summary` does, and for names that the file lacks.
    """
    sample = _sample(path, of, wrt)
    with opened(path) as file:
        group, attributes = file[layout.CASES], file.attrs
        codes = group["status"][()]
        known = {int(code): outcome(group["status"], code) for code in np.unique(codes)}
        good = np.array([known[int(code)].good for code in codes])
        accuracy = group["accuracy"][()] if "accuracy" in group else np.full(len(codes), np.nan)
        ids, messages = texts(group["id"]), texts(group["message"])
        varied = list(_varied(file))
        more, varied = max(len(varied) - COLUMNS, 0), varied[:COLUMNS]
        if sample is not None and of:
            place = {name: row for row, name in enumerate(sample.ids)}
            order = [place[name] for name in ids]
            varied += [(name, sample.y[order, k]) for k, name in enumerate(sample.outputs[:COLUMNS])]

        def row(case: int) -> CaseRow:
            status = known[int(codes[case])]
            values = tuple(float(column[case]) for _, column in varied)
            return CaseRow(ids[case], status.label, status.good, messages[case], float(accuracy[case]), values)

        keys = {"case": np.arange(len(codes)), "bound": -accuracy, "status": codes, **dict(varied)}
        if sort not in keys:
            raise InputError(f"--sort: found '{sort}', allowed: {listing(keys)}{nearest(sort, keys)}")
        first = np.argsort(keys[sort], kind="stable")[:rows]  # NaN comes last
        finite = accuracy[np.isfinite(accuracy)]
        return Overview(
            path=str(path),
            format_version=int(attributes["format_version"]),
            problem=attributes["problem"],
            summary=attributes["summary"],
            creator=f"{attributes['creator']} {attributes['creator_version']}",
            created=attributes["created"],
            cases=len(codes),
            statuses=dict(Counter(known[int(code)].label for code in codes)),
            worst=float(finite.max()) if finite.size else np.nan,
            varied=tuple(name for name, _ in varied),
            more=more,
            first=tuple(row(int(case)) for case in first),
            failed=tuple(row(int(case)) for case in np.flatnonzero(~good)[:rows]),
            over=_over(sample) if sample is not None else "",
            trends=tuple(_trends(sample)) if sample is not None else (),
            moved=_moved(sample) if sample is not None else (),
            sort=sort,
        )


def _sample(path: Path, of: Sequence[str], wrt: Sequence[str]) -> Sample | None:
    """What outputs there are and by what they vary; None where there is nothing of that kind, and nothing was asked for."""
    try:
        found = read_sample(path, of)
        kept = sorted({i for name in wrt for i in found.called(name, "--wrt")}) if wrt else range(len(found.inputs))
    except InputError:
        if of or wrt:
            raise
        return None
    inputs = tuple(found.inputs[i] for i in kept)
    return replace(found, inputs=inputs, theta=found.theta[:, kept], J=found.J[..., kept], J_bound=found.J_bound[..., kept])


def _over(sample: Sample) -> str:
    """What values of a trend are over."""
    only = sample.names[0] if len(sample.names) == 1 else ""
    return f"{only}, along the branch" if sample.folds else only


def _trends(sample: Sample) -> Iterator[Trend]:
    for k, name in enumerate(sample.outputs[:TRENDS]):
        rows = np.flatnonzero(sample.good & np.isfinite(sample.y[:, k]))
        if not rows.size:
            continue
        y = sample.y[rows, k]
        if len(sample.names) == 1:
            along = y if sample.branch else y[np.argsort(sample.theta[rows, 0], kind="stable")]
            values = [float(np.mean(part)) for part in np.array_split(along, min(BINS, rows.size))]
        else:
            values = np.histogram(y, BINS)[0].astype(float).tolist()
        yield Trend(name, sample.units[k], float(y.min()), float(np.median(y)), float(y.max()), tuple(values))


def _moved(sample: Sample) -> tuple[Moved, ...]:
    """The largest sensitivities of the outputs that are told."""
    with np.errstate(divide="ignore", invalid="ignore"):
        elasticity = np.abs(sample.theta[:, None, :] / sample.y[:, :, None] * sample.J)[sample.good, :TRENDS]
    elasticity[~np.isfinite(elasticity)] = np.nan
    found = []
    for k, i in np.ndindex(elasticity.shape[1:]):
        known = elasticity[:, k, i][np.isfinite(elasticity[:, k, i])]
        if known.size:
            found.append(Moved(sample.outputs[k], sample.names[i], float(np.median(known))))
    return tuple(sorted(found, key=lambda one: -one.elasticity)[:MOVED])


def _varied(file: h5py.File) -> Iterator[tuple[str, Array]]:
    """Entries that differ from case to case: what they are called, and their values (case,)."""
    for group in (layout.PARAMETERS, layout.SWEPT):
        for name, node in members(file, group):
            values = node[()]
            differs = (values != values[:1]).any(axis=0)
            rows = values.reshape(len(values), -1)
            if values.ndim > 1 and rows.size and (rows == rows[:, :1]).all():  # one number fills it
                values, differs = rows[:, 0], differs.any()
            for index in np.argwhere(differs) if values.ndim > 1 else [()] * bool(differs):
                where = ", ".join(labels(node, axis + 1)[entry] for axis, entry in enumerate(index))
                yield f"{name}[{where}]" if where else name, values[(slice(None), *index)]
