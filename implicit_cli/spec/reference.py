"""HDF5 references: one dataset, looked at before it is read.

No file can make us open another file, fill the memory, or take numbers for data that nobody wrote.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from implicit_cli.errors import EnvironmentProblem, InputError, listing, nearest
from implicit_cli.spec.outlived import outlived
from implicit_cli.spec.source import check_regular, shown_path
from implicit_cli.spec.words import shown

MAX_BYTES = 4 * 1024**3
"""Largest array that a spec can bring in, counted as it lies in memory."""
LARGE, MAX_PACKED = 256 * 1024**2, 100
"""Bytes in memory from which an array may be at most so many times as large as it lies in its file."""
MAX_LABELS = 1_000_000
TRIED = 64 * 1024**2
"""Bytes of an array up to which its data, too, are read twice: a try, and for good."""
DAMAGED = "damaged or cut short, the HDF5 library cannot read it; restore the file from a copy"

_MAX_SOFT_LINKS = 16
_MAX_LISTED = 12
_MAX_VISITED = 10_000
_MAX_UNITS = 256
_UNREADABLE = (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError, OverflowError, SystemError)


def read(path: Path, file_name: str, inner: str, *, place: str, text: bool) -> tuple[NDArray[Any], str | None]:
    """The dataset `inner` of the file at `path`, and its `units` attribute. Messages start with `place` and `file_name`.

    Numbers come as float64 or int64 in native order, texts (`text`) as NumPy strings. Raises InputError for what is missing,
    damaged, elsewhere (external links and storage, virtual datasets), never written, empty, too large or of another type.
    """

    def reading(*, whole: bool) -> tuple[NDArray[Any], str | None]:
        with _opened(path, file_name, inner, place) as reader:
            return reader.read(text=text, whole=whole)

    check_outlived(lambda: reading(whole=False), path, f"{place}: {shown_path(file_name)}")
    return reading(whole=True)


def check_outlived(action: Callable[[], object], path: Path, label: str) -> None:
    """Refuse an HDF5 file that the library does not get through, as `action` reads it."""
    if not path.is_file():
        return  # there is nothing to read, and `action` says so
    import h5py  # noqa: F401  # before this process is copied, not after

    if not outlived(action):
        raise InputError(f"{label}: {DAMAGED}")


def datasets_in(path: Path, file_name: str, inner: str, *, place: str) -> list[str]:
    """Names of the datasets in the group `inner` of the file at `path`; raises as `read` does."""

    def reading() -> list[str]:
        with _opened(path, file_name, inner, place) as reader:
            return reader.members()

    check_outlived(reading, path, f"{place}: {shown_path(file_name)}")
    return reading()


@contextmanager
def _opened(path: Path, file_name: str, inner: str, place: str) -> Iterator[_Reader]:
    # Imported here: a spec without references needs no HDF5.
    import h5py

    label = f"{place}: {shown_path(file_name)}"
    try:
        check_regular(path, label, "an HDF5 file")
        with path.open("rb"):
            pass
    except OSError as error:
        raise EnvironmentProblem(f"{label}: cannot read the file: {error.strerror}") from error
    if not h5py.is_hdf5(path):
        raise InputError(f"{label}: found another kind of file, allowed: HDF5")
    try:
        # Without locking: an input is only read, and some shared file systems cannot lock.
        with h5py.File(path, "r", locking=False) as file:
            yield _Reader(h5py, file, label, inner)
    except MemoryError as error:
        raise EnvironmentProblem(f"{label}:{shown(inner)}: not enough memory to read the dataset") from error
    except _UNREADABLE as error:
        raise InputError(f"{label}: {DAMAGED}") from error


class _Reader:
    def __init__(self, h5py: Any, file: Any, label: str, inner: str) -> None:
        self.h5py, self.file, self.label, self.inner = h5py, file, label, inner

    def read(self, *, text: bool, whole: bool) -> tuple[NDArray[Any], str | None]:
        node = self.find()
        if not isinstance(node, self.h5py.Dataset):
            kind = "a group" if isinstance(node, self.h5py.Group) else "a named type"
            self.refuse(f"found {kind}, allowed: a dataset, the file holds {self.contents()}")
        dtype = self.check_type(node, text=text)
        self.check_size(node, dtype)
        self.check_storage(node)
        units = self.units(node)
        if not whole and math.prod(node.shape) * dtype.itemsize > TRIED:
            return np.zeros(0), units
        return (self.texts(node) if text else self.numbers(node, dtype)), units

    def members(self) -> list[str]:
        """Datasets of a group, by name."""
        node = self.find()
        found = (
            [name for name in node if isinstance(node.get(name), self.h5py.Dataset)] if isinstance(node, self.h5py.Group) else []
        )
        if not found:
            self.refuse("found no dataset in it, allowed: a group of datasets, one for each quantity")
        return found

    def at(self, inner: str) -> _Reader:
        """The same file, at another place in it."""
        return _Reader(self.h5py, self.file, self.label, inner)

    def refuse(self, what: str) -> NoReturn:
        raise InputError(f"{self.label}:{shown(self.inner)}: {what}")

    # The way to the dataset

    def find(self) -> Any:
        """Follow the path link by link: h5py would silently follow one out of the file."""
        node, links = self.file, 0
        pending = _parts(self.inner)
        while pending:
            if not isinstance(node, self.h5py.Group):
                self.missing()
            part = pending.pop()
            match node.get(part, getlink=True):
                case None:
                    self.missing()
                case self.h5py.ExternalLink() as link:
                    self.refuse(f"found a link to the file '{shown(link.filename)}', allowed: a dataset in the file itself")
                case self.h5py.SoftLink() as link:
                    links += 1
                    if links > _MAX_SOFT_LINKS:
                        self.refuse(f"found more than {_MAX_SOFT_LINKS} links on the way, allowed: fewer")
                    node = self.file if link.path.startswith("/") else node
                    pending += _parts(link.path)
                case _:
                    node = node[part]
        return node

    def missing(self) -> NoReturn:
        names = self.datasets()
        raise InputError(
            f"{self.label} has no dataset '{shown(self.inner)}', it holds {self.contents()}{shown_path(nearest(self.inner, names))}"
        )

    def datasets(self) -> list[str]:
        names: list[str] = []
        visited = 0

        def visit(name: str, node: Any) -> bool | None:
            nonlocal visited
            visited += 1
            if isinstance(node, self.h5py.Dataset):
                names.append(f"/{name}")
            return True if visited >= _MAX_VISITED else None

        self.file.visititems(visit)
        return names

    def contents(self) -> str:
        names = self.datasets()
        more = f" and {len(names) - _MAX_LISTED} more" if len(names) > _MAX_LISTED else ""
        return listing(shown(name) for name in sorted(names)[:_MAX_LISTED]) + more

    # What it is, before it is read

    def check_type(self, node: Any, *, text: bool) -> np.dtype[Any]:
        try:
            dtype: np.dtype[Any] = node.dtype
        except TypeError:
            self.refuse("found a type that NumPy lacks, allowed: real numbers of up to 64 bits")
        kind = self.kind(dtype)
        if text and kind != "texts":
            self.refuse(f"found {kind}, allowed: texts")
        if not text and kind not in ("real numbers", "integers"):
            self.refuse(f"found {kind}, allowed: real numbers of up to 64 bits")
        return dtype

    def kind(self, dtype: np.dtype[Any]) -> str:
        if self.h5py.check_string_dtype(dtype) is not None:
            return "texts"
        if self.h5py.check_enum_dtype(dtype) is not None:
            return "true/false values" if dtype.kind == "b" else "an enumeration"
        if dtype.subdtype is not None:
            return "arrays within the entries"
        if dtype.kind in "fiu":
            size = 8 * dtype.itemsize
            return f"{size}-bit numbers" if size > 64 else "real numbers" if dtype.kind == "f" else "integers"
        names = {
            "b": "true/false values",
            "c": "complex numbers",
            "O": "lists or references",
            "S": "texts",
            "V": "records or opaque bytes",
        }
        return names.get(dtype.kind, "values of another type")

    def check_size(self, node: Any, dtype: np.dtype[Any], read: tuple[int, ...] | None = None) -> None:
        """Refuse what is empty or too large; `read` is the shape of the part that is read, where it is not the whole."""
        if node.shape is None:
            self.refuse("found an empty dataset without a shape, allowed: at least one entry")
        if 0 in node.shape:
            self.refuse(f"found the shape {_shape(node.shape)}, allowed: at least one entry along every axis")
        # Numbers of any width are 64 bits wide in memory.
        width = max(dtype.itemsize, 8)
        for what, shape in (("a dataset", node.shape if read is None else read), ("chunks", node.chunks or ())):
            if math.prod(shape) * width > MAX_BYTES:
                size = f"{math.prod(shape) * width / 1024**3:.3g} GiB"
                self.refuse(f"found {what} of shape {_shape(shape)}, {size} in memory, allowed: {MAX_BYTES / 1024**3:.3g} GiB")
        whole, stored = math.prod(node.shape) * width, node.id.get_storage_size()
        if read is None and whole > max(LARGE, MAX_PACKED * stored):
            times = f"{whole / max(stored, 1):.3g} times as large as it lies in the file"
            self.refuse(f"found {whole / 1024**3:.3g} GiB, {times}, allowed: at most {MAX_PACKED} times; store it uncompressed")
        if dtype.kind in "OS" and math.prod(node.shape) > MAX_LABELS:
            self.refuse(f"found {math.prod(node.shape)} texts, allowed: {MAX_LABELS}")

    def check_storage(self, node: Any) -> None:
        """Refuse data that lie elsewhere or were never written: the library would fill in zeros without a word."""
        if node.is_virtual or node.external:
            self.refuse("found a dataset whose data lie in other files, allowed: data in the file itself")
        plan = node.id.get_create_plist()
        for index in range(plan.get_nfilters()):
            code, _, _, name = plan.get_filter(index)
            if not self.h5py.h5z.filter_avail(code):
                self.refuse(
                    f"found the filter {code} '{shown(name.decode(errors='replace'))}', which is not installed, allowed: gzip"
                )
        user_fill = plan.fill_value_defined() == self.h5py.h5d.FILL_VALUE_USER_DEFINED
        if node.chunks and not user_fill:
            expected = math.prod(-(-size // chunk) for size, chunk in zip(node.shape, node.chunks, strict=True))
            written = node.id.get_num_chunks()
            if written < expected:
                self.refuse(f"found data in {written} of {expected} chunks, allowed: a dataset that is written in full")
        elif node.id.get_storage_size() == 0 and not user_fill:
            self.refuse("found a dataset that was never written, allowed: one with data")

    # Its content

    def numbers(self, node: Any, dtype: np.dtype[Any], frame: int | None = None) -> NDArray[Any]:
        target: np.dtype[Any] = np.dtype(np.float64) if dtype.kind == "f" else np.dtype(np.int64)
        if dtype.kind == "u" and dtype.itemsize == 8:
            # The library would cut what is too large for int64 down to its largest value.
            target = np.dtype(np.uint64)
        array = np.empty(node.shape if frame is None else node.shape[1:], dtype=target)
        if array.shape:
            node.read_direct(array, source_sel=None if frame is None else np.s_[frame])
        else:
            array[()] = node[() if frame is None else frame]
        if target.kind == "u":
            if (largest := int(array.max())) >= 2**63:
                self.refuse(f"found {largest}, allowed: -2^63 to 2^63 - 1")
            return array.astype(np.int64)
        return array

    def texts(self, node: Any) -> NDArray[Any]:
        if len(node.shape) != 1:
            self.refuse(f"found texts of shape {_shape(node.shape)}, allowed: a list, with one axis")
        try:
            strings = [str(entry) for entry in node.asstr()[()]]
        except UnicodeDecodeError:
            self.refuse("found texts that are not UTF-8, allowed: UTF-8")
        # NumPy makes every entry as wide as the widest.
        if max(map(len, strings)) * 4 * len(strings) > MAX_BYTES:
            self.refuse(f"found texts of up to {max(map(len, strings))} characters, allowed: shorter ones")
        return np.array(strings, dtype=np.str_)

    def units(self, node: Any) -> str | None:
        if "units" not in node.attrs:
            return None
        where = "the attribute 'units'"
        stored = node.attrs.get_id("units")
        if stored.shape is None:
            return None
        if math.prod(stored.shape or ()) != 1 or self.kind(stored.dtype) != "texts" or stored.dtype.itemsize > _MAX_UNITS:
            self.refuse(f"found no single short text in {where}, allowed: the symbol of a unit")
        raw = node.attrs["units"]
        raw = raw.ravel()[0] if isinstance(raw, np.ndarray) else raw
        text = raw.decode(errors="replace") if isinstance(raw, bytes) else str(raw)
        if not text.isprintable() or len(text) > _MAX_UNITS:
            self.refuse(f"found '{shown(text)}' in {where}, allowed: the symbol of a unit")
        return text.strip() or None


_KINDS = {
    "b": "true/false values",
    "c": "complex numbers",
    "O": "lists or references",
    "S": "texts",
    "V": "records or opaque bytes",
}


def _parts(path: str) -> list[str]:
    """Names along a path, the first one last."""
    return [part for part in reversed(path.split("/")) if part not in ("", ".")]


def _shape(shape: tuple[int, ...]) -> str:
    return "(" + ", ".join(map(str, shape)) + ")"
