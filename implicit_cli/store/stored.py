"""What a result file holds of a solved case, whole: enough to differentiate it again without solving it again."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from implicit_cli.errors import InputError, listing, nearest
from implicit_cli.result import Array
from implicit_cli.store import layout
from implicit_cli.store.guard import opened
from implicit_cli.store.nodes import members, outcome, text, texts


@dataclass(frozen=True)
class StoredCase:
    """One case as it was solved: `inputs`, `parameters` and `solution` by quantity, `labels` by axis where there are any.

    `spec_text` and `spec_resolved` are those of the run, `sha256` that of the file; `good` is False for a status that is not.
    """

    id: str
    status: str
    good: bool
    spec_text: str
    spec_resolved: str
    inputs: Mapping[str, Array]
    parameters: Mapping[str, Array]
    solution: Mapping[str, Array]
    labels: Mapping[str, Array]
    provenance: Mapping[str, str]
    sha256: str


@dataclass(frozen=True)
class Outcomes:
    """How the cases of a result file ended, in order: ids, status codes, messages; and the file's provenance."""

    ids: tuple[str, ...]
    codes: tuple[int, ...]
    messages: tuple[str, ...]
    provenance: Mapping[str, str]


def read_outcomes(path: Path) -> Outcomes:
    """How the cases of the file ended; raises InputError for one that `read_summary` refuses."""
    with opened(path) as file:
        group = file[layout.CASES]
        return Outcomes(
            ids=tuple(texts(group["id"])),
            codes=tuple(group["status"][()].tolist()),
            messages=tuple(texts(group["message"])),
            provenance={name: text(node) for name, node in members(file, layout.PROVENANCE)},
        )


def read_stored(path: Path, case: str | None = None) -> StoredCase:
    """The case of that id, or the only one.

    Raises InputError (one line) for a file that `read_summary` refuses, for an id that it lacks, and where no id is given and there
    are several cases.
    """
    with opened(path) as file:
        group = file[layout.CASES]
        ids = texts(group["id"])
        row = ids.index(chosen(path, ids, case))
        status = outcome(group["status"], group["status"][row])
        resolved = text(file[f"{layout.SPEC}/resolved"])
        settings = json.loads(resolved)
        labelled = [*settings.get("labels", ()), *([layout.KIND] if settings.get("structure") else [])]
        solution = _row(file, layout.SOLUTION, row)
        # a sweep keeps what it varies with its cases: data, besides initial guesses and the seed
        varied = {
            name: value for name, value in _row(file, layout.SWEPT, row).items() if name not in solution and name != layout.SEED
        }
        inputs = {name: np.asarray(node[()]) for name, node in members(file, layout.INPUTS)} | varied
        return StoredCase(
            id=ids[row],
            status=status.label,
            good=status.good,
            spec_text=text(file[f"{layout.SPEC}/text"]),
            spec_resolved=resolved,
            inputs=inputs,
            parameters=_row(file, layout.PARAMETERS, row),
            solution=solution,
            labels=_labels(file, labelled),
            provenance={name: text(node) for name, node in members(file, layout.PROVENANCE)},
            sha256=bytes(file[layout.CHECKSUM][()])[-layout.CHECKSUM_LENGTH :].decode(),
        )


def chosen(path: Path, ids: Sequence[str], case: str | None) -> str:
    """The id that is asked for, or the only one; raises InputError for one that the file lacks, and where there are several."""
    if case is None and len(ids) > 1:
        raise InputError(f"{path}: found {len(ids)} cases, allowed with --case: {listing(ids[:12])}")
    if case is not None and case not in ids:
        raise InputError(f"{path}: no case '{case}', allowed: {listing(ids[:12])}{nearest(case, ids)}")
    return ids[0] if case is None else case


def _row(file: h5py.File, group: str, row: int) -> dict[str, Array]:
    return {name: np.asarray(node[row]) for name, node in members(file, group)}


def _labels(file: h5py.File, axes: Iterable[str]) -> dict[str, Array]:
    """Labels of the axes to which the spec, or its structure, gives some."""
    found: dict[str, Array] = {}
    for node in file.values():
        if isinstance(node, h5py.Dataset) and node.is_scale and h5py.check_string_dtype(node.dtype) is not None:
            found.setdefault(str(node.attrs["long_name"]), np.array(texts(node)))
    return {axis: found[axis] for axis in axes if axis in found}
