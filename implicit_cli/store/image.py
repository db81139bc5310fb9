"""A result file put together in memory, so that a full disk meets finished bytes and never a half-written HDF5 file.

Arrays that are mapped from a file (`store.scratch`) are left out of the memory: HDF5 reserves their place, and their bytes
come from where they are when the file is written. HDF5 itself never writes to a disk.

The HDF5 library writes to a file object in memory. Its core driver would do too, but `H5Fget_file_image` of HDF5 before 2.0 (h5py
before 3.16) returns an image with a wrong superblock checksum when the file is in the 1.8 format or a newer one, and no library
opens it.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from implicit_cli.result import Array
from implicit_cli.store import layout
from implicit_cli.store.content import sign
from implicit_cli.store.scratch import release
from implicit_cli.store.texts import clean, create_texts

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

_CHUNK_BYTES = 1 << 20
_PAGE_BYTES = 1 << 20
_PIECE_BYTES = 16 << 20
_FILTERS: dict[str, Any] = {"shuffle": True, "compression": "gzip", "compression_opts": 1, "fletcher32": True}


class _Pages(io.RawIOBase):
    """A file in memory, of which only the pages that were written to take memory."""

    def __init__(self) -> None:
        self._pages: dict[int, bytearray] = {}
        self._size = self._position = 0

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        return self._position

    def tell(self) -> int:
        return self._position

    def truncate(self, size: int | None = None) -> int:
        self._size = self._position if size is None else size
        return self._size

    def write(self, data: ReadableBuffer) -> int:
        rest = memoryview(data).cast("B")
        end = self._position + len(rest)
        for number, part in _split(self._position, end):
            page = self._pages.setdefault(number, bytearray(_PAGE_BYTES))
            length = part.stop - part.start
            page[part] = rest[:length]
            rest = rest[length:]
        written, self._position = end - self._position, end
        self._size = max(self._size, end)
        return written

    def readinto(self, buffer: WriteableBuffer) -> int:
        rest = memoryview(buffer).cast("B")
        begin, end = self._position, min(self._position + len(rest), max(self._size, self._position))
        for part in self.parts(begin, end):
            rest[: len(part)] = part
            rest = rest[len(part) :]
        self._position = end
        return end - begin

    def parts(self, begin: int, end: int | None = None) -> Iterator[memoryview]:
        """The bytes from `begin` to `end`, or to the end of the file."""
        for number, part in _split(begin, self._size if end is None else end):
            yield memoryview(self._pages.get(number) or bytes(_PAGE_BYTES))[part]


def _split(begin: int, end: int) -> Iterator[tuple[int, slice]]:
    """Pages with bytes from `begin` to `end`, and which of their bytes."""
    while begin < end:
        number, first = divmod(begin, _PAGE_BYTES)
        last = min(_PAGE_BYTES, first + end - begin)
        yield number, slice(first, last)
        begin += last - first


class Content:
    """The bytes of a file, in order and a few at a time; the checksum of the whole is its `seal`."""

    def __init__(self, image: _Pages, arrays: Mapping[int, Array], offset: int) -> None:
        """`arrays` are those that HDF5 has only reserved a place for, by their addresses; the checksum's digits are at `offset`."""
        self._image, self._arrays, self._offset = image, arrays, offset
        self._digest = hashlib.sha256()

    def __iter__(self) -> Iterator[memoryview]:
        self._digest = hashlib.sha256()
        for piece in self._pieces():
            self._digest.update(piece)
            yield piece

    def seal(self) -> tuple[int, bytes]:
        """Offset and digits of the checksum, after the last piece."""
        return self._offset, self._digest.hexdigest().encode()

    def __bytes__(self) -> bytes:
        whole = bytearray().join(self)
        offset, digits = self.seal()
        whole[offset : offset + len(digits)] = digits
        return bytes(whole)

    def _pieces(self) -> Iterator[memoryview]:
        done = 0
        for address, array in sorted(self._arrays.items()):
            yield from self._image.parts(done, address)
            content = array.data.cast("B")
            for begin in range(0, len(content), _PIECE_BYTES):
                yield content[begin : begin + _PIECE_BYTES]
                release(array)
            done = address + len(content)
        yield from self._image.parts(done)


@dataclass(frozen=True, eq=False)
class Dimension:
    """A dimension to be: the name it would like, its length, and its labels (0, 1, ... where there are none)."""

    wanted: str
    size: int
    labels: Array | None = None
    long_name: str = ""


@dataclass(frozen=True)
class _Dataset:
    path: str
    value: Array
    dimensions: tuple[Dimension, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)


class Image:
    """Collects dimensions and datasets, then makes the file of them.

    Dimension scales live in the root group, where xarray inherits them from. xarray takes a variable or a group that bears the name
    of a dimension for that dimension's coordinate, so a dimension steps aside (`name_2`) for whatever else has its name.
    """

    def __init__(self) -> None:
        self._dimensions: list[Dimension] = []
        self._datasets: dict[str, _Dataset] = {}

    def dimension(self, wanted: str, size: int, labels: Array | None = None, long_name: str = "") -> Dimension:
        """A new dimension of the file."""
        if labels is not None and len(labels) != size:
            raise ValueError(f"dimension '{wanted}': {len(labels)} labels for {size} entries")
        self._dimensions.append(Dimension(wanted, size, labels, long_name))
        return self._dimensions[-1]

    def put(self, path: str, value: Any, dims: Sequence[Dimension], long_name: str, units: str = "1", **attributes: Any) -> None:
        """A dataset at `path`, one dimension per axis; raises ValueError where the sizes differ."""
        array = value if isinstance(value, np.memmap) else np.asarray(value)
        sizes = tuple(dimension.size for dimension in dims)
        if array.shape != sizes:
            raise ValueError(f"/{path}: found shape {array.shape}, expected {sizes}")
        if path in self._datasets:
            raise ValueError(f"/{path}: written twice")
        self._datasets[path] = _Dataset(path, array, tuple(dims), {"units": units, "long_name": long_name, **attributes})

    def text(self, path: str, value: str, long_name: str) -> None:
        """A scalar string at `path`."""
        self._datasets[path] = _Dataset(path, np.array(value, object), (), {"long_name": long_name})

    def finish(self, attributes: Mapping[str, Any]) -> Content:
        """The file, with `attributes` on the root group."""
        buffer = _Pages()
        with h5py.File(buffer, "w", libver=("v110", "v110"), track_order=True) as file:
            _describe(file, "", attributes)
            scales = self._write_scales(file)
            checksum = file.create_dataset(layout.CHECKSUM, data=np.bytes_(layout.CHECKSUM_MARK + b"0" * layout.CHECKSUM_LENGTH))
            checksum.attrs["long_name"] = "SHA-256 of this file, taken with the last 64 characters of this text set to 0"
            offset = checksum.id.get_offset() + len(layout.CHECKSUM_MARK)
            arrays: dict[int, Array] = {}
            for dataset in self._datasets.values():
                node = _write(file, dataset)
                if isinstance(dataset.value, np.memmap):
                    arrays[node.id.get_offset()] = dataset.value
                _annotate(node, dataset, scales)
            sign(file, arrays)
        return Content(buffer, arrays, offset)

    def _write_scales(self, file: h5py.File) -> dict[Dimension, h5py.Dataset]:
        taken = {part for path in self._datasets for part in path.split("/")} | {layout.CHECKSUM}
        scales = {}
        for dimension in self._dimensions:
            name = layout.unique(layout.component(dimension.wanted), taken.__contains__)
            taken.add(name)
            labels = np.arange(dimension.size) if dimension.labels is None else np.asarray(dimension.labels)
            scale = _create(file, name, labels)
            scale.make_scale(name)
            scale.attrs["units"] = "1"
            scale.attrs["long_name"] = dimension.long_name or dimension.wanted
            scales[dimension] = scale
        return scales


def _describe(group: h5py.Group, path: str, attributes: Mapping[str, Any]) -> None:
    group.attrs["encoding-type"] = layout.encoding(path)
    group.attrs["encoding-version"] = layout.ENCODING_VERSION
    for name, value in attributes.items():
        group.attrs[name] = clean(value) if isinstance(value, str) else value


def _write(file: h5py.File, dataset: _Dataset) -> h5py.Dataset:
    group: h5py.Group = file
    *groups, name = dataset.path.split("/")
    for depth, part in enumerate(groups, 1):
        if part not in group:
            # Order of creation is the order of declaration, which `implicit show` keeps.
            _describe(group.create_group(part, track_order=True), "/".join(groups[:depth]), {})
        group = group[part]
    return _reserve(group, name, dataset.value) if isinstance(dataset.value, np.memmap) else _create(group, name, dataset.value)


def _annotate(node: h5py.Dataset, dataset: _Dataset, scales: Mapping[Dimension, h5py.Dataset]) -> None:
    for axis, dimension in enumerate(dataset.dimensions):
        node.dims[axis].attach_scale(scales[dimension])
    for key, value in dataset.attributes.items():
        node.attrs[key] = clean(value) if isinstance(value, str) else value


def _reserve(group: h5py.Group, name: str, value: Array) -> h5py.Dataset:
    """A contiguous dataset whose place in the file is taken now, and to which HDF5 writes nothing."""
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_layout(h5py.h5d.CONTIGUOUS)
    plan.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    plan.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    kind, space = h5py.h5t.py_create(value.dtype), h5py.h5s.create_simple(value.shape)
    return h5py.Dataset(h5py.h5d.create(group.id, name.encode(), kind, space, dcpl=plan))


def _create(group: h5py.Group, name: str, value: Array) -> h5py.Dataset:
    if value.dtype.kind in "OUS":
        return create_texts(group, name, value)
    value = value.astype(value.dtype.newbyteorder("="), copy=False)
    if value.ndim == 0 or value.size == 0:
        return group.create_dataset(name, data=value)
    return group.create_dataset(
        name,
        data=value,
        chunks=_chunks(value.shape, value.itemsize),
        shuffle=True,
        compression="gzip",
        compression_opts=1,
        fletcher32=True,
    )


def _chunks(shape: tuple[int, ...], itemsize: int, most: int = _CHUNK_BYTES) -> tuple[int, ...]:
    """Blocks of at most `most` bytes that are contiguous in memory: the leading axes are cut first."""
    chunks = list(shape)
    for axis in range(len(chunks)):
        while chunks[axis] > 1 and np.prod(chunks, dtype=float) * itemsize > most:
            chunks[axis] = -(-chunks[axis] // 2)
    return tuple(chunks)
