"""The file from which an outer loop goes on after a kill: all evaluations so far, and whose they are.

It is no result: nothing else reads it.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from implicit_cli.errors import InputError
from implicit_cli.outer import Evaluation, Stored
from implicit_cli.status import Status
from implicit_cli.store.atomic import check_output
from implicit_cli.store.identity import NAMED, differences
from implicit_cli.store.kept import Damaged, read_kept, write_kept

VERSION = 1
PAUSE = 2.0
"""Seconds between two writings, at least; what falls between is written with the next one, or when the loop ends."""
ARRAYS = ("point", "gradient")
_CURE = "go on with what it belongs to, or remove the file to start anew"


class Checkpoint:
    """The file at `path`, for the run that `identity` describes: nested mappings of texts and numbers, equal for equal runs."""

    def __init__(self, path: Path, identity: Mapping[str, Any]) -> None:
        """Raises what `check_output` does, before any work."""
        self.path, self.identity = path, json.loads(json.dumps(identity))
        check_output(path)
        self._last, self._waiting = -np.inf, Stored()

    def read(self) -> Stored:
        """What was saved; nothing where there is no file. Raises InputError where it is damaged or belongs to another run."""
        try:
            kept = read_kept(self.path, "outer")
        except Damaged as error:
            raise InputError(f"{self.path}: damaged, or no file of `implicit optimize`: remove it to start anew") from error
        if kept is None:
            return Stored()
        header, arrays = kept
        if header["version"] > VERSION:
            raise InputError(f"{self.path}: version {header['version']}, this implicit-cli reads up to {VERSION}: {_CURE}")
        if different := list(differences(header["identity"], self.identity)):
            raise InputError([f"{self.path}: belongs to another run: {text}" for text in (*different[:NAMED], _CURE)])
        return _unpacked(header, arrays)

    def save(self, stored: Stored) -> None:
        """Keep this, and write it unless the last writing was just now."""
        self._waiting = stored
        if time.monotonic() - self._last >= PAUSE:
            self.flush()

    def flush(self) -> None:
        """Write what is kept and not written yet."""
        if self._waiting.evaluations:
            write_kept(self.path, "outer", *_packed(self._waiting, self.identity))
            self._last, self._waiting = time.monotonic(), Stored()

    def remove(self) -> None:
        """The run is over, and its result is written."""
        self._waiting = Stored()
        self.path.unlink(missing_ok=True)


def _packed(stored: Stored, identity: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    columns = {field.name: [getattr(one, field.name) for one in stored.evaluations] for field in dataclasses.fields(Evaluation)}
    arrays: dict[str, Any] = {name: np.array(columns.pop(name), dtype=float) for name in ARRAYS}
    arrays |= {f"solution_{index}": x for index, x in (stored.solutions or {}).items()}
    # JSON writes a float with all of its digits, and reads NaN back
    return {"version": VERSION, "identity": identity, "columns": columns}, arrays


def _unpacked(header: Mapping[str, Any], arrays: Mapping[str, np.ndarray[Any, Any]]) -> Stored:
    columns: dict[str, Any] = {**header["columns"], **{name: arrays[name] for name in ARRAYS}}
    columns["status"] = [Status(code) for code in columns["status"]]
    rows = zip(*columns.values(), strict=True)
    solutions = {int(name.removeprefix("solution_")): x for name, x in arrays.items() if name.startswith("solution_")}
    return Stored(tuple(Evaluation(**dict(zip(columns, row, strict=True))) for row in rows), solutions)
