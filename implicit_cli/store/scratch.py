"""Room for arrays that are larger than the memory they may take: files without a name beside the result, mapped into memory."""

from __future__ import annotations

import errno
import mmap
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from implicit_cli.errors import EnvironmentProblem
from implicit_cli.result import Array
from implicit_cli.store.atomic import reason

_BLOCK = 1 << 20


class Scratch:
    """Arrays in the folder of the result at `path`. They vanish with the process, for their files never have a name."""

    keeps = False

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._arrays: list[np.memmap[tuple[int, ...], np.dtype[Any]]] = []

    def allocate(self, shape: tuple[int, ...], dtype: DTypeLike = np.float64) -> Array:
        """A new array, of float64 unless told otherwise; raises EnvironmentProblem (one line) where there is no space for it.

        All of its space is taken now: where it ran out later, a write through the map would kill the process.
        """
        folder = next(parent for parent in self.path.absolute().parents if parent.exists())
        try:
            with tempfile.TemporaryFile(dir=folder) as file:
                reserve(file.fileno(), np.dtype(dtype).itemsize * int(np.prod(shape, dtype=np.int64)))
                array: np.memmap[Any, Any] = np.memmap(file, dtype, "r+", shape=shape)
        except OSError as error:
            raise EnvironmentProblem(f"{self.path}: cannot write the result: {reason(error)}") from error
        self._arrays.append(array)
        return array

    def forget(self) -> None:
        """The arrays so far are no longer wanted: their space is free once nobody else holds them."""
        self._arrays.clear()

    def release(self) -> None:
        """Let what has been written leave the memory."""
        for array in self._arrays:
            release(array)

    def saved(self, work: str) -> tuple[int, Mapping[str, Array]]:
        """Nothing is: what is here vanishes."""
        return 0, {}

    def save(self, work: str, done: int, total: int, arrays: Mapping[str, Array]) -> None:
        """Nothing is kept."""

    def reject(self) -> None:
        """Nothing is here that was saved."""


def release(array: Array) -> None:
    """Let the pages of a mapped array leave the memory; they are read again from its file."""
    pages = getattr(array, "_mmap", None)
    if pages is not None and hasattr(mmap, "MADV_DONTNEED"):
        pages.madvise(mmap.MADV_DONTNEED)


def reserve(descriptor: int, size: int) -> None:
    """Take space for a file's content; raises OSError where there is none."""
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(descriptor, 0, size)
            return
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP):
                raise
    zeros = memoryview(bytes(_BLOCK))
    while size > 0:
        size -= os.write(descriptor, zeros[: min(size, _BLOCK)])
