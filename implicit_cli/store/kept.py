"""Small files that a run keeps to go on from, or to be worked by others: a header and arrays, and a checksum of both.

    HEADER                      a mapping, as JSON, and what kind of file it is
    NAME, ..                    arrays
    the archive's comment       SHA-256 of all bytes before it

It is a NumPy archive (npz), written whole or not at all. No pickle is read.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from implicit_cli.errors import EnvironmentProblem
from implicit_cli.result import Array
from implicit_cli.store.atomic import reason, replace_file

_HEADER = "header"
_SIZE = hashlib.sha256().digest_size
_LENGTH = _SIZE.to_bytes(2, "little")
"""The last two bytes of an archive are the length of its comment."""


class Damaged(ValueError):
    """The file is not what was written. Whoever reads it says what to do."""


def write_kept(path: Path, kind: str, header: Mapping[str, Any], arrays: Mapping[str, Any]) -> None:
    """Write the file at `path`; raises EnvironmentProblem where that cannot be."""
    out = io.BytesIO()
    content: dict[str, Any] = {_HEADER: np.array(json.dumps([kind, header])), **arrays}
    np.savez(out, **content)
    body = out.getvalue()[: -len(_LENGTH)] + _LENGTH
    replace_file(path, body + hashlib.sha256(body).digest())


def read_kept(path: Path, kind: str) -> tuple[dict[str, Any], dict[str, Array]] | None:
    """Header and arrays of the file at `path`, None where there is none.

    Raises Damaged, for one of another kind too, and EnvironmentProblem.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise EnvironmentProblem(f"{path}: cannot read the file: {reason(error)}") from error
    body, digest = content[:-_SIZE], content[-_SIZE:]
    if not body.endswith(_LENGTH) or hashlib.sha256(body).digest() != digest:
        raise Damaged(f"{path}: the checksum does not hold")
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        found, header = json.loads(str(arrays.pop(_HEADER)))
        if found != kind:
            raise ValueError(f"kept for {found}, not for {kind}")
        return dict(header), arrays
    except (zipfile.BadZipFile, KeyError, ValueError, TypeError) as error:  # signed, and none of ours
        raise Damaged(f"{path}: {error}") from error
