"""Right-hand sides in chunks of one width: their arrays stay within a budget, and no program is compiled twice.

A Jacobian may be larger than the budget. Its blocks are then filled window by window, and what is filled may leave the memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

WINDOW = 16 << 20
"""Bytes of a block that are touched before they may leave the memory."""
PAGE = 4096
SMALL = 1 << 20
"""Blocks below this many bytes always stay in memory."""


class Room(Protocol):
    """Where the blocks of a Jacobian are: in memory, or in a file that is mapped into it, from which a later run may go on."""

    @property
    def keeps(self) -> bool:
        """Whether what is here outlives the process."""

    def allocate(self, shape: tuple[int, ...]) -> FloatArray:
        """A new array of float64, its content not set; or, of a work that is gone on with, the one that was allocated as this."""

    def release(self) -> None:
        """What has been written may leave the memory; it can be read as before."""

    def saved(self, work: str) -> tuple[int, Mapping[str, FloatArray]]:
        """How many chunks of this work are done, and the arrays that `save` was given then; to be asked before `allocate`."""

    def save(self, work: str, done: int, total: int, arrays: Mapping[str, FloatArray]) -> None:
        """So many chunks are done: what was allocated, with these small arrays, is all that is needed to go on from here."""

    def reject(self) -> None:
        """An array that was allocated before is not what it was when it was saved."""


class Memory:
    """Room in memory, which ends with the process."""

    keeps = False

    def allocate(self, shape: tuple[int, ...]) -> FloatArray:
        return np.empty(shape)

    def release(self) -> None:
        pass

    def saved(self, work: str) -> tuple[int, Mapping[str, FloatArray]]:
        return 0, {}

    def save(self, work: str, done: int, total: int, arrays: Mapping[str, FloatArray]) -> None:
        pass

    def reject(self) -> None:
        pass


@dataclass(frozen=True)
class Chunks:
    """`total` right-hand sides in chunks of `width`; the last chunk is padded to that width."""

    total: int
    width: int

    @property
    def count(self) -> int:
        return -(-self.total // self.width) if self.total else 0

    def __iter__(self) -> Iterator[slice]:
        for begin in range(0, self.total, max(self.width, 1)):
            yield slice(begin, min(begin + self.width, self.total))


def divide(total: int, bytes_each: float, budget: float) -> Chunks:
    """The fewest chunks whose arrays, `bytes_each` for a right-hand side, fit the budget; one right-hand side is the least."""
    if not total:
        return Chunks(0, 0)
    count = -(-total // max(int(budget // bytes_each), 1))
    return Chunks(total, -(-total // count))


def overlap(part: slice, chunk: slice) -> tuple[slice, slice] | None:
    """Where `part` of all right-hand sides meets `chunk`: within the part, and within the chunk; None where they do not meet."""
    begin, end = max(part.start, chunk.start), min(part.stop, chunk.stop)
    if begin >= end:
        return None
    return slice(begin - part.start, end - part.start), slice(begin - chunk.start, end - chunk.start)


def fill(block: FloatArray, rows: slice, columns: slice, values: FloatArray, room: Room) -> None:
    """`block[rows, columns] = values`, a window of rows at a time."""
    step = _rows_in_window(values.shape[1])
    for begin in range(0, len(values), step):
        part = values[begin : begin + step]
        block[rows.start + begin : rows.start + begin + len(part), columns] = part
        room.release()


def mark(values: FloatArray, rows: slice, columns: slice, width: int, room: Room) -> NDArray[np.uint64]:
    """The sum, modulo 2^64, of the bits of each number times an odd number that is its place: `values` are a block's, which is of
    that width, at [rows, columns].

    Where a single number is another one, so is the sum; marks of parts add up to that of the whole.
    """
    step, found = _rows_in_window(values.shape[1]), np.zeros((), np.uint64)
    j = np.arange(columns.start, columns.stop, dtype=np.uint64)
    for begin in range(0, len(values), step):
        part = np.ascontiguousarray(values[begin : begin + step])
        i = np.arange(rows.start + begin, rows.start + begin + len(part), dtype=np.uint64)
        found += np.sum(part.view(np.uint64) * (2 * (i[:, None] * np.uint64(width) + j) + 1), dtype=np.uint64)
        room.release()
    return found


def column_sizes(block: FloatArray, room: Room) -> tuple[FloatArray, bool]:
    """2-norm of each column of `block` (r, c), NaN counted as zero, and whether anything in it is not NaN."""
    squares, found = np.zeros(block.shape[1]), False
    step = _rows_in_window(block.shape[1])
    for begin in range(0, len(block), step):
        part = np.asarray(block[begin : begin + step])
        found |= not bool(np.isnan(part).all())
        squares += np.sum(np.nan_to_num(part) ** 2, axis=0)
        room.release()
    return np.sqrt(squares), found


def _rows_in_window(columns: int) -> int:
    """Each row touches a page of the file at least."""
    return max(1, WINDOW // max(8 * columns, PAGE))
