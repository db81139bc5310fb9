"""Several datasets of one HDF5 file whose layout is known, as H5MD; guarded as a single reference is."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from implicit_cli.spec.reference import _MAX_UNITS, _opened, _parts, _Reader


@contextmanager
def opened(path: Path, file_name: str, *, place: str) -> Iterator[Datasets]:
    """The datasets of the file at `path`, one after the other; each call raises as `read` does."""
    with _opened(path, file_name, "/", place) as reader:
        yield Datasets(reader)


class Datasets:
    """An open file of a known layout, whose parts are looked at before they are read."""

    def __init__(self, reader: _Reader) -> None:
        self._reader = reader

    def refuse(self, inner: str, what: str) -> NoReturn:
        """Raise InputError about the node at `inner`."""
        self._reader.at(inner).refuse(what)

    def names(self, inner: str) -> list[str]:
        """Names in the group at `inner`; of a dataset, or of what is not there, none."""
        node = self._reader.at(inner).find() if self.has(inner) else None
        return list(node) if isinstance(node, self._reader.h5py.Group) else []

    def has(self, inner: str) -> bool:
        """Whether there is something at `inner`."""
        above = "/"
        for part in reversed(_parts(inner)):
            group = self._reader.at(above).find()
            if not isinstance(group, self._reader.h5py.Group) or group.get(part, getlink=True) is None:
                return False
            above = f"{above.rstrip('/')}/{part}"
        return True

    def shape(self, inner: str) -> tuple[int, ...]:
        """Shape of the dataset at `inner`."""
        node = self._reader.at(inner).find()
        if not isinstance(node, self._reader.h5py.Dataset) or node.shape is None:
            self.refuse(inner, "found no dataset with a shape, allowed: a dataset")
        return tuple(node.shape)

    def array(self, inner: str, frame: int | None = None) -> NDArray[Any]:
        """Numbers of the dataset at `inner`, or one entry along its first axis; those of an enumeration are its integers."""
        reader = self._reader.at(inner)
        node = reader.find()
        if self.shape(inner) and node.dtype.kind in "iu" and reader.h5py.check_enum_dtype(node.dtype) is not None:
            dtype = node.dtype
        else:
            dtype = reader.check_type(node, text=False)
        reader.check_size(node, dtype, node.shape if frame is None else node.shape[1:])
        reader.check_storage(node)
        return reader.numbers(node, dtype) if frame is None else reader.numbers(node, dtype, frame)

    def names_of_values(self, inner: str) -> dict[int, str]:
        """What the integers of an enumeration are called; empty for a dataset of another type."""
        reader = self._reader.at(inner)
        names = reader.h5py.check_enum_dtype(reader.find().dtype)
        return {int(value): name for name, value in (names or {}).items()}

    def texts(self, inner: str, attribute: str) -> list[str]:
        """An attribute that is a short text, or a short list of them; empty where there is none."""
        reader = self._reader.at(inner)
        node = reader.find()
        if attribute not in node.attrs:
            return []
        stored = node.attrs.get_id(attribute)
        if stored.shape is None or math.prod(stored.shape) > _MAX_UNITS or reader.kind(stored.dtype) != "texts":
            self.refuse(inner, f"found no short list of texts in the attribute '{attribute}', allowed: texts")
        raw = np.ravel(np.asarray(node.attrs[attribute], dtype=object))
        return [one.decode(errors="replace") if isinstance(one, bytes) else str(one) for one in raw]
