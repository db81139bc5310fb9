"""The file `plan.npz` in the folder of a sweep's parts: which cases there are, in how many shards, and what each worker is to run.

Whoever has it and the parts knows how far the sweep is, without the spec, its data or JAX.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from implicit_cli.errors import InputError
from implicit_cli.status import Status
from implicit_cli.store.kept import Damaged, read_kept, write_kept

NAME = "plan.npz"
VERSION = 1
MISSING = -1
_GOOD = [int(status) for status in Status if status.good]


@dataclass(frozen=True)
class Shards:
    """A sweep in `count` shards of neighbours: `ids` of all cases in the order of the design, and what was asked (`request`)."""

    ids: NDArray[np.uint64]
    count: int
    request: Mapping[str, Any]

    def bounds(self) -> NDArray[np.int64]:
        """Where each shard begins, and where the last one ends: (count + 1,)."""
        return shard_bounds(len(self.ids), self.count)

    def names(self) -> list[str]:
        """The ids as result files have them."""
        return [f"{number:016x}" for number in self.ids.tolist()]


class Progress:
    """The status codes of all cases of some shards, as far as they are done: `codes` in the order of the design, MISSING else."""

    def __init__(self, shards: Shards) -> None:
        self._order = np.argsort(shards.ids, kind="stable")
        self._sorted = shards.ids[self._order]
        self.codes = np.full(len(shards.ids), MISSING, np.int8)

    def enter(self, found: Mapping[str, int]) -> None:
        """Take note of cases that are done; one that is there already is replaced where it was not good. Others are passed over."""
        if not len(self._sorted):
            return
        numbers = np.array([int(name, 16) for name in found], np.uint64)
        codes = np.fromiter(found.values(), np.int8, len(found))
        places = np.minimum(np.searchsorted(self._sorted, numbers), len(self._sorted) - 1)
        ours = self._sorted[places] == numbers
        rows, codes = self._order[places[ours]], codes[ours]
        new = ~np.isin(self.codes[rows], _GOOD)
        self.codes[rows[new]] = codes[new]

    @property
    def done(self) -> NDArray[np.bool_]:
        """Which cases are done."""
        return self.codes != MISSING

    @property
    def failed(self) -> NDArray[np.bool_]:
        """Which cases are done and not good."""
        return self.done & ~np.isin(self.codes, _GOOD)


def shard_bounds(cases: int, count: int) -> NDArray[np.int64]:
    """Where each of `count` shards of neighbours begins, and where the last one ends: (count + 1,)."""
    return np.arange(count + 1, dtype=np.int64) * cases // count


def write_shards(folder: Path, shards: Shards) -> None:
    """Write the file; raises EnvironmentProblem where that cannot be."""
    header = {"version": VERSION, "count": shards.count, "request": shards.request}
    write_kept(folder / NAME, "plan", header, {"ids": shards.ids})


def read_shards(folder: Path) -> Shards:
    """What was written; raises InputError where there is no such file, or it is damaged."""
    path = Path(folder) / NAME
    try:
        kept = read_kept(path, "plan")
    except Damaged as error:
        raise InputError(f"{path}: damaged, or no plan of a sweep: plan again") from error
    if kept is None:
        raise InputError(f"{path}: no such file: `implicit sweep plan` writes it")
    header, arrays = kept
    if header["version"] > VERSION:
        raise InputError(f"{path}: version {header['version']}, this implicit-cli reads up to {VERSION}: plan again")
    return Shards(arrays["ids"], int(header["count"]), dict(header["request"]))
