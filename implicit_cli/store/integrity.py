"""Whether a result file is, bit for bit, what was written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import h5py

from implicit_cli.errors import InputError
from implicit_cli.store import layout
from implicit_cli.store.content import CONTENT, changed
from implicit_cli.store.guard import CURE, opened


@dataclass(frozen=True)
class Integrity:
    """A result file in which nothing has changed: the SHA-256 that it carries, and how much of it was read."""

    path: Path
    sha256: str
    groups: int
    datasets: int
    size: int


def integrity(path: Path) -> Integrity:
    """Hold all bytes of a result against its SHA-256, then all values against the hashes of their groups and their own checksums.

    Raises InputError (one line), naming what is damaged as far as can be told.
    """
    with opened(path) as file:
        found = list(changed(file))
        if found:
            raise InputError(f"{path}: {', '.join(found)} changed after being written, and was signed again; {CURE}")
        nodes: list[h5py.HLObject] = [file]
        file.visititems(lambda _, node: nodes.append(node))
        datasets = sum(isinstance(node, h5py.Dataset) for node in nodes)
        signed = sum(isinstance(node, h5py.Group) and CONTENT in node.attrs for node in nodes)
        sha256 = bytes(file[layout.CHECKSUM][()])[-layout.CHECKSUM_LENGTH :].decode()
    return Integrity(Path(path), sha256, signed, datasets, Path(path).stat().st_size)
