"""What a result file holds of what made it, whole: enough to run it again."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from implicit_cli.result import Array
from implicit_cli.store import layout
from implicit_cli.store.guard import opened
from implicit_cli.store.nodes import members, text, texts
from implicit_cli.store.stored import _labels, _row, chosen


@dataclass(frozen=True)
class StoredRun:
    """What a whole run went in with: its resolved spec (JSON), data, parameters of the first case, and labels by axis.

    `optimised` says that `implicit optimize` made it. `swept` gives what a sweep's targets are in a case.
    """

    resolved: str
    ids: tuple[str, ...]
    data: Mapping[str, Array]
    parameters: Mapping[str, Array]
    labels: Mapping[str, Array]
    optimised: bool
    swept: Callable[[str], Mapping[str, Array]]


def read_run(path: Path) -> StoredRun:
    """What made a result file. Raises InputError for one that `read_summary` refuses."""
    with opened(path) as file:
        ids = tuple(texts(file[layout.CASES]["id"]))
        resolved = text(file[f"{layout.SPEC}/resolved"])
        settings = json.loads(resolved)
        over = (settings.get("sweep") or {}).get("over", {})
        varied = {name: np.asarray(node[()]) for group in (layout.PARAMETERS, layout.SWEPT) for name, node in members(file, group)}

        def swept(case: str) -> dict[str, Array]:
            row = ids.index(chosen(path, ids, case))
            found = {}
            for target in over:
                name, _, place = target.partition("[")
                index = tuple(int(part) for part in place.rstrip("]").split(",")) if place else ()
                found[target] = np.asarray(varied[name][row][index])
            return found

        # a sweep keeps what it varies with its cases; what it does not vary of that is in each of them
        others = {layout.SEED, *dict(members(file, layout.SOLUTION))}
        first = {name: value for name, value in _row(file, layout.SWEPT, 0).items() if name not in others}
        return StoredRun(
            resolved=resolved,
            ids=ids,
            data={name: np.asarray(node[()]) for name, node in members(file, layout.INPUTS)} | first,
            parameters=_row(file, layout.PARAMETERS, 0),
            labels=_labels(file, settings.get("labels", ())),
            optimised=layout.OUTER in file,
            swept=swept,
        )


def write_arrays(path: Path, arrays: Mapping[str, Array]) -> None:
    """A plain HDF5 file of arrays, for a spec to refer to."""
    with h5py.File(path, "w") as file:
        for name, value in arrays.items():
            file[name] = value
