"""A sweep at a glance: how many cases ended how, and a line for some of them. Reads no more of a file than that takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from implicit_cli.result import Array
from implicit_cli.store import layout
from implicit_cli.store.guard import opened
from implicit_cli.store.nodes import labels, members, outcome, texts

COLUMNS = 4
"""Values that differ from case to case and are told, at most."""


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
class Overview:
    """A result with many cases: how many ended how, by the names of the statuses, and rows of the first and of those that failed.

    `varied` names entries of parameters, data and initial guesses that differ from case to case, the first few of `more` and these.
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


def read_overview(path: Path, rows: int = 10) -> Overview:
    """The cases of a result file, with `rows` of the first, and of those that failed, at most. Raises as `read_summary` does."""
    with opened(path) as file:
        group, attributes = file[layout.CASES], file.attrs
        codes = group["status"][()]
        known = {int(code): outcome(group["status"], code) for code in np.unique(codes)}
        good = np.array([known[int(code)].good for code in codes])
        accuracy = group["accuracy"][()] if "accuracy" in group else np.full(len(codes), np.nan)
        varied = list(_varied(file))
        ids, messages = texts(group["id"]), texts(group["message"])

        def row(case: int) -> CaseRow:
            status = known[int(codes[case])]
            values = tuple(float(column[case]) for _, column in varied[:COLUMNS])
            return CaseRow(ids[case], status.label, status.good, messages[case], float(accuracy[case]), values)

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
            varied=tuple(name for name, _ in varied[:COLUMNS]),
            more=max(len(varied) - COLUMNS, 0),
            first=tuple(row(case) for case in range(min(rows, len(codes)))),
            failed=tuple(row(int(case)) for case in np.flatnonzero(~good)[:rows]),
        )


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
