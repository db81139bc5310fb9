"""Texts in a result file: what HDF5 can hold of them, and how lists of them are stored (`docs/file-format.md`, Storage).

A text of variable length takes 40 bytes or so beside its letters and passes no filter. Of many texts most are alike: at one length
for all they are compressed to almost nothing.
"""

from __future__ import annotations

from typing import Any

import h5py
import numpy as np

from implicit_cli.result import Array

MANY = 64
"""Lists of so many texts are stored at one length for all; shorter ones stay as every HDF5 program likes them best."""
WIDEST = 1024
"""Bytes of the longest text, at most, for that; one very long text would make all of the others as long."""
CHARSET = "_Encoding"
"""The attribute by which netCDF programs, xarray among them, know that bytes of one length are texts."""
_CHUNK_BYTES = 1 << 20


def create_texts(group: h5py.Group, name: str, values: Array) -> h5py.Dataset:
    """A new dataset with the texts in `values`, of any shape."""
    if values.ndim == 1 and len(values) >= MANY:
        width = max(len(clean(value).encode()) for value in set(values.tolist()))
        if width <= WIDEST:
            # xarray takes single bytes for letters of words along their last axis
            return _of_one_length(group, name, values, max(width, 2))
    # A checksum filter would see pointers only: such text is guarded by the checksum of the whole file.
    texts = np.array([clean(value) for value in values.ravel()], object).reshape(values.shape)
    return group.create_dataset(name, data=texts, dtype=h5py.string_dtype())


def _of_one_length(group: h5py.Group, name: str, values: Array, width: int) -> h5py.Dataset:
    kind, count = h5py.string_dtype("utf-8", width), len(values)
    rows = -(-count // -(-count * width // _CHUNK_BYTES))
    filters: dict[str, Any] = {"shuffle": True, "compression": "gzip", "compression_opts": 1, "fletcher32": True}
    node = group.create_dataset(name, (count,), kind, chunks=(rows,), **filters)
    for begin in range(0, count, rows):
        block = values[begin : begin + rows].tolist()
        # there are few different ones, as a rule
        letters = {value: clean(value).encode() for value in set(block)}
        node[begin : begin + rows] = np.array([letters[value] for value in block], dtype=kind)
    node.attrs[CHARSET] = "utf-8"
    return node


def clean(value: Any) -> str:
    """Text that HDF5 can hold: no lone surrogates, no NUL."""
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")
