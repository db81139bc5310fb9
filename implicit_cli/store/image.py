"""A result file put together in memory, so that a full disk meets finished bytes and never a half-written HDF5 file.

The HDF5 library writes to a `BytesIO`. Its core driver would do too, but `H5Fget_file_image` of HDF5 before 2.0 (h5py before 3.16)
returns an image with a wrong superblock checksum when the file is in the 1.8 format or a newer one, and no library opens it.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import h5py
import numpy as np

from implicit_cli.result import Array
from implicit_cli.store import layout

_CHUNK_BYTES = 1 << 20
_FILTERS: dict[str, Any] = {"shuffle": True, "compression": "gzip", "compression_opts": 1, "fletcher32": True}


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
        array = np.asarray(value)
        sizes = tuple(dimension.size for dimension in dims)
        if array.shape != sizes:
            raise ValueError(f"/{path}: found shape {array.shape}, expected {sizes}")
        if path in self._datasets:
            raise ValueError(f"/{path}: written twice")
        self._datasets[path] = _Dataset(path, array, tuple(dims), {"units": units, "long_name": long_name, **attributes})

    def text(self, path: str, value: str, long_name: str) -> None:
        """A scalar string at `path`."""
        self._datasets[path] = _Dataset(path, np.array(value, object), (), {"long_name": long_name})

    def finish(self, attributes: Mapping[str, Any]) -> memoryview:
        """The bytes of the file, with `attributes` on the root group and the checksum of the whole filled in."""
        buffer = io.BytesIO()
        with h5py.File(buffer, "w", libver=("v110", "v110"), track_order=True) as file:
            _describe(file, "", attributes)
            scales = self._write_scales(file)
            checksum = file.create_dataset(layout.CHECKSUM, data=np.bytes_(layout.CHECKSUM_MARK + b"0" * layout.CHECKSUM_LENGTH))
            checksum.attrs["long_name"] = "SHA-256 of this file, taken with the last 64 characters of this text set to 0"
            offset = checksum.id.get_offset() + len(layout.CHECKSUM_MARK)
            for dataset in self._datasets.values():
                _write(file, dataset, scales)
        image = buffer.getbuffer()
        image[offset : offset + layout.CHECKSUM_LENGTH] = hashlib.sha256(image).hexdigest().encode()
        return image

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
        group.attrs[name] = _clean(value) if isinstance(value, str) else value


def _write(file: h5py.File, dataset: _Dataset, scales: Mapping[Dimension, h5py.Dataset]) -> None:
    group: h5py.Group = file
    *groups, name = dataset.path.split("/")
    for depth, part in enumerate(groups, 1):
        if part not in group:
            # Order of creation is the order of declaration, which `implicit show` keeps.
            _describe(group.create_group(part, track_order=True), "/".join(groups[:depth]), {})
        group = group[part]
    node = _create(group, name, dataset.value)
    for axis, dimension in enumerate(dataset.dimensions):
        node.dims[axis].attach_scale(scales[dimension])
    for key, value in dataset.attributes.items():
        node.attrs[key] = _clean(value) if isinstance(value, str) else value


def _create(group: h5py.Group, name: str, value: Array) -> h5py.Dataset:
    if value.dtype.kind in "OUS":
        # A checksum filter would see pointers only: text is guarded by the checksum of the whole file.
        texts = np.array([_clean(item) for item in value.ravel()], object).reshape(value.shape)
        return group.create_dataset(name, data=texts, dtype=h5py.string_dtype())
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


def _chunks(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """Blocks of at most 1 MiB that are contiguous in memory: the leading axes are cut first."""
    chunks = list(shape)
    for axis in range(len(chunks)):
        while chunks[axis] > 1 and np.prod(chunks, dtype=float) * itemsize > _CHUNK_BYTES:
            chunks[axis] = -(-chunks[axis] // 2)
    return tuple(chunks)


def _clean(value: Any) -> str:
    """Text that HDF5 can hold: no lone surrogates, no NUL."""
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")
