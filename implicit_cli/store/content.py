"""What each group of a result holds, as a SHA-256 of its own: of a file that was damaged it says which groups are as they were."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import h5py
import numpy as np

from implicit_cli.result import Array
from implicit_cli.store import layout

CONTENT = "content_sha256"
"""Attribute of a group: SHA-256 of its own datasets, by name (`docs/file-format.md`)."""
_PIECE_BYTES = 16 << 20


def sign(group: h5py.Group, arrays: Mapping[int, Array] | None = None) -> None:
    """Write the content hash of a group and of all groups below it.

    `arrays` are the values of datasets, by their addresses, for which HDF5 has only reserved a place.
    """
    for each in _groups(group):
        each.attrs[CONTENT] = content_sha256(each, arrays)


def changed(file: h5py.File) -> Iterator[str]:
    """Groups whose content is not what it was when they were signed, by path; one that cannot be read is one of them."""
    for group in _groups(file):
        try:
            found = content_sha256(group)
            whole = group.attrs.get(CONTENT, found) == found
        except (OSError, RuntimeError, KeyError, ValueError, TypeError):
            whole = False
        if not whole:
            yield str(group.name)


def content_sha256(group: h5py.Group, arrays: Mapping[int, Array] | None = None) -> str:
    """SHA-256 of the datasets in a group itself: of each, in the order of their names, its name, type, shape and values."""
    digest = hashlib.sha256()
    for name in sorted(group):
        node = group[name]
        if isinstance(node, h5py.Dataset) and node.name != f"/{layout.CHECKSUM}":
            text = h5py.check_string_dtype(node.dtype) is not None
            kind = "text" if text else node.dtype.newbyteorder("<").str
            digest.update(f"{name}\0{kind}\0{','.join(map(str, node.shape))}\0".encode())
            value = (arrays or {}).get(node.id.get_offset() or -1, node)
            for piece in _pieces(value, node.dtype.itemsize):
                digest.update(_letters(piece) if text else np.asarray(piece, piece.dtype.newbyteorder("<")).tobytes())
    return digest.hexdigest()


def _groups(group: h5py.Group) -> Iterator[h5py.Group]:
    """The group, and all below it."""
    yield group
    for name in group:
        if group.get(name, getclass=True) is h5py.Group:
            yield from _groups(group[name])


def _pieces(value: h5py.Dataset | Array, itemsize: int) -> Iterator[Any]:
    """The values in order of rows, a few at a time."""
    if not value.shape:
        yield np.asarray(value[()])
        return
    row = itemsize * int(np.prod(value.shape[1:], dtype=np.int64))
    step = max(_PIECE_BYTES // max(row, 1), 1)
    for begin in range(0, value.shape[0], step):
        yield value[begin : begin + step]


def _letters(texts: Any) -> bytes:
    """Texts one after the other, each closed by a NUL."""
    return b"".join((text if isinstance(text, bytes) else str(text).encode()) + b"\0" for text in np.ravel(texts).tolist())
