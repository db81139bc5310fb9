"""Small readings that the whole of `read` needs: members in order, texts, labels, what a status code says, norms."""

from __future__ import annotations

from typing import Any, NamedTuple

import h5py
import numpy as np

from implicit_cli.result import Array
from implicit_cli.status import Status
from implicit_cli.store import layout


class Outcome(NamedTuple):
    """A status as words: its name, whether the numbers under it can be relied on, cause and cure."""

    label: str
    good: bool
    text: str


def outcome(node: h5py.Dataset, code: int) -> Outcome:
    """What a status code in `node` says; that of a newer program is read from the file's own table, and not trusted."""
    if int(code) in set(Status):
        status = Status(int(code))
        return Outcome(status.label, status.good, status.text)
    names = dict(zip(node.attrs["flag_values"].tolist(), node.attrs["flag_meanings"].split(), strict=True))
    return Outcome(names.get(int(code), f"status_{code}"), False, "a newer implicit-cli knows what this status means")


def members(group: h5py.Group, path: str = "") -> list[tuple[str, Any]]:
    """Names, as they were before they became part of a path, and nodes of a group that may be missing; in the order written."""
    found = group.get(path) if path else group
    return [] if found is None else [(layout.original(name), node) for name, node in found.items()]


def text(node: h5py.Dataset) -> str:
    """The string of a scalar."""
    return str(node.asstr()[()])


def texts(node: h5py.Dataset) -> list[str]:
    """The strings of a one-dimensional array."""
    return list(node.asstr()[()].tolist())


def scale(node: h5py.Dataset, axis: int) -> h5py.Dataset:
    """The dimension scale of an axis."""
    return node.dims[axis][0]


def labels(node: h5py.Dataset, axis: int) -> list[str]:
    """What the entries along an axis are called."""
    found = scale(node, axis)
    return texts(found) if h5py.check_string_dtype(found.dtype) else [str(label) for label in found[()].tolist()]


def place_of(node: h5py.Dataset, entry: int) -> str:
    """What entry number `entry` of a case is called in brackets, by its labels: "[bmi]"; empty for a number."""
    shape = node.shape[1:]
    index = np.unravel_index(entry, shape) if shape else ()
    names = [labels(node, axis + 1)[int(i)] for axis, i in enumerate(index)]
    return f"[{', '.join(names)}]" if names else ""


def norm(values: Array) -> float:
    """2-norm of a vector without overflow; 0 for nothing."""
    return longest(np.reshape(values, (-1, 1)))


def longest(matrix: Array) -> float:
    """Largest 2-norm of a column without overflow; 0 for nothing."""
    largest = float(np.abs(matrix).max(initial=0.0))
    return largest * float(np.linalg.norm(matrix / largest, axis=0).max()) if largest else 0.0
