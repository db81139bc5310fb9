"""One large Jacobian that is gone on with after a kill: its blocks in files with names, and what else a run has found so far.

    OUT.blocks/state.npz            whose it is, the solution, how many chunks are done, what was gathered of them
    OUT.blocks/HASH-0.bin, ..       blocks of the Jacobian, filled as far as that

A block is mapped into memory: what a killed process has written stays. `state.npz` is written whole or not at all, and after the
blocks that it speaks of. The folder is no result, and is removed when the result is there.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import DTypeLike

from implicit_cli.errors import EnvironmentProblem, InputError, Interrupted
from implicit_cli.result import Array
from implicit_cli.store.atomic import reason
from implicit_cli.store.identity import NAMED, differences
from implicit_cli.store.kept import Damaged, read_kept, write_kept
from implicit_cli.store.scratch import Scratch, reserve

PAUSE = 5.0
"""Seconds between two writings, at least."""


class Blocks(Scratch):
    """Room for one case of the run that `identity` describes, beside the result at `path`.

    Raises InputError where the folder belongs to another run. `stopped` is asked after the solve and after each chunk; it ends the
    work by Interrupted.
    """

    keeps = True

    def __init__(self, path: Path, identity: Mapping[str, Any], stopped: Callable[[], bool]) -> None:
        super().__init__(path)
        self.folder = Path(f"{path}.blocks")
        self._identity: dict[str, Any] = json.loads(json.dumps(identity))
        self._stopped, self._last = stopped, time.monotonic()
        self._work, self._number = "", 0
        self._header, self._state = self._read()

    @property
    def done(self) -> int:
        """Chunks that an earlier run has done."""
        return int(self._header.get("done", 0))

    @property
    def solution(self) -> tuple[Array, Mapping[str, Any]] | None:
        """x and its story, as `solved` was given them."""
        return (self._state["x"], self._header["story"]) if "x" in self._state else None

    def solved(self, x: Array, story: Mapping[str, Any]) -> None:
        """Keep the solution."""
        self._header, self._state = {"story": dict(story)}, {"x": x}
        self._write()
        if self._stopped():
            raise Interrupted(f"stopped after the solve, saved in {self.folder}: the same command goes on from there")

    def allocate(self, shape: tuple[int, ...], dtype: DTypeLike = np.float64) -> Array:
        """The next block of the work in hand."""
        path = self.folder / f"{self._work[:8]}-{self._number}.bin"
        self._number += 1
        size = np.dtype(dtype).itemsize * int(np.prod(shape, dtype=np.int64))
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            # a link that somebody put there is not followed
            flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
            with os.fdopen(os.open(path, flags, 0o666), "r+b") as file:
                if os.fstat(file.fileno()).st_size != size:
                    self._begin(path, file, size)
                array: np.memmap[Any, Any] = np.memmap(file, dtype, "r+", shape=shape)
        except OSError as error:
            raise EnvironmentProblem(f"{path}: cannot write the block: {reason(error)}") from error
        self._arrays.append(array)
        return array

    def _begin(self, path: Path, file: BinaryIO, size: int) -> None:
        if self.done and self._header.get("work") == self._work:
            raise InputError(f"{path}: missing or damaged: remove {self.folder} to start anew")
        file.truncate(0)
        try:
            reserve(file.fileno(), size)
        except OSError:
            path.unlink()
            raise

    def saved(self, work: str) -> tuple[int, Mapping[str, Array]]:
        """What is done of this work; from here on it is the one in hand."""
        self._work, self._number = work, 0
        return (self.done, self._state) if self._header.get("work") == work else (0, {})

    def save(self, work: str, done: int, total: int, arrays: Mapping[str, Array]) -> None:
        """Note what is done, and write it from time to time; raises Interrupted where the run is to end."""
        leaving = self._stopped()
        if leaving or time.monotonic() - self._last >= PAUSE:
            story = self._header["story"]
            self._header = {"story": story, "work": work, "done": done}
            self._state = {"x": self._state["x"], **arrays}
            self._write()
        if leaving:
            saved = f"stopped after {done} of {total} chunks of right-hand sides, saved in {self.folder}"
            raise Interrupted(f"{saved}: the same command goes on from there")

    def reject(self) -> None:
        raise InputError(f"{self.folder}: a block is damaged: remove the folder to start anew")

    def remove(self) -> None:
        """The result is written."""
        self.forget()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _write(self) -> None:
        for array in self._arrays:
            array.flush()
        write_kept(self.folder / "state.npz", "blocks", {"identity": self._identity, **self._header}, self._state)
        self._last = time.monotonic()

    def _read(self) -> tuple[dict[str, Any], dict[str, Array]]:
        path = self.folder / "state.npz"
        try:
            kept = read_kept(path, "blocks")
        except Damaged as error:
            raise InputError(f"{path}: damaged: remove {self.folder} to start anew") from error
        if kept is None:
            return {}, {}
        header, state = kept
        identity = header.pop("identity")
        if different := list(differences(identity, self._identity)):
            cure = f"go on with what it belongs to, or remove {self.folder} to start anew"
            raise InputError([f"{path}: belongs to another run: {text}" for text in (*different[:NAMED], cure)])
        return header, state
