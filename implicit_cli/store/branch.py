"""What a sweep along a branch keeps besides its cases, to go on from: the file `branch.npz` in the folder of its parts.

It is no result: where it is missing or damaged the branch is followed from its beginning once more, which costs time and no case.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from implicit_cli.result import Array
from implicit_cli.store import layout
from implicit_cli.store.guard import opened
from implicit_cli.store.kept import Damaged, read_kept, write_kept
from implicit_cli.store.nodes import texts

NAME = "branch.npz"
VERSION = 1
_IDS = "ids"


@dataclass(frozen=True)
class Passages:
    """The cases of a branch in a result file, in order: what each is (`points`), its message, and the values of the parameter."""

    ids: tuple[str, ...]
    points: tuple[str, ...]
    messages: tuple[str, ...]
    values: Array

    @property
    def folds(self) -> frozenset[str]:
        """Ids of the folds."""
        return frozenset(name for name, point in zip(self.ids, self.points, strict=True) if point == "fold")


def write_state(folder: Path, ids: Sequence[str], state: Mapping[str, Array]) -> None:
    """Keep where the branch is, and the ids of its cases so far, in order; raises EnvironmentProblem where that cannot be."""
    write_kept(folder / NAME, "branch", {"version": VERSION}, {_IDS: np.array(ids, dtype="U16"), **state})


def read_state(folder: Path) -> tuple[list[str], dict[str, Array]] | None:
    """What was kept; None where there is no such file, or none that is whole."""
    try:
        kept = read_kept(folder / NAME, "branch")
    except Damaged:
        return None
    if kept is None or kept[0]["version"] != VERSION:
        return None
    return kept[1].pop(_IDS).tolist(), kept[1]


def read_passages(path: Path, parameter: str) -> Passages:
    """The branch in a result file; raises InputError for one that `read_summary` refuses."""
    with opened(path) as file:
        group = file[layout.CASES]
        node = file[f"{layout.PARAMETERS}/{layout.component(parameter)}"]
        assert isinstance(node, h5py.Dataset)
        return Passages(
            tuple(texts(group["id"])), tuple(texts(group["point"])), tuple(texts(group["message"])), np.asarray(node[()])
        )
