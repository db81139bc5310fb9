"""One more group in a result file that is there: what `implicit verify` and `implicit analyze` found.

A file gets the group in a copy of its bytes: pages that HDF5 changes are kept in memory, all others come from the file itself when
the copy is written, and the copy appears whole or not at all.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py

from implicit_cli.errors import InputError
from implicit_cli.store import layout
from implicit_cli.store.atomic import replace_file
from implicit_cli.store.content import CONTENT, content_sha256, sign
from implicit_cli.store.guard import opened
from implicit_cli.store.image import _PAGE_BYTES, Content, _Pages, _split

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


def write_addition(source: Path, output: Path, group: str, fill: Callable[[h5py.File], None], sha256: str | None = None) -> None:
    """Write the result at `source` to `output` with the group that `fill` makes; an earlier one is replaced. They may be the same.

    Raises InputError where `source` is refused, or is another file than that of `sha256`, and EnvironmentProblem as `write_result`.
    """
    with opened(source) as file:
        digits = bytes(file[layout.CHECKSUM][()])[-layout.CHECKSUM_LENGTH :].decode()
        if sha256 is not None and digits != sha256:
            raise InputError(f"{source}: the file has changed since it was read; run the command again")
    with Path(source).open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        pages = _Copy(content)
        with h5py.File(pages, "r+", libver=("v110", "v110"), locking=False) as file:
            _remove(file, group)
            fill(file)
            sign(file[group])
            file.attrs[CONTENT] = content_sha256(file)  # new dimensions lie there
            offset = file[layout.CHECKSUM].id.get_offset() + len(layout.CHECKSUM_MARK)
        pages.seek(offset)
        pages.write(b"0" * layout.CHECKSUM_LENGTH)
        replace_file(output, Content(pages, {}, offset))


class _Copy(_Pages):
    """A file in memory, of which only the pages that were written to take memory; the others are those of another file."""

    def __init__(self, content: mmap.mmap) -> None:
        super().__init__()
        self._content = content
        self._size = len(content)

    def write(self, data: ReadableBuffer) -> int:
        begin = self._position
        for number, _ in _split(begin, begin + memoryview(data).nbytes):
            if number not in self._pages:
                self._pages[number] = bytearray(self._original(number))
        return super().write(data)

    def parts(self, begin: int, end: int | None = None) -> Iterator[memoryview]:
        for number, part in _split(begin, self._size if end is None else end):
            yield memoryview(self._pages.get(number) or self._original(number))[part]

    def _original(self, number: int) -> bytes:
        """A page as it was, filled up with zeros."""
        return self._content[number * _PAGE_BYTES : (number + 1) * _PAGE_BYTES].ljust(_PAGE_BYTES, b"\0")


def _remove(file: h5py.File, group: str) -> None:
    """Take an earlier group out, and out of the lists of its dimensions."""
    if group not in file:
        return

    def detach(_: str, node: Any) -> None:
        if isinstance(node, h5py.Dataset):
            for dimension in node.dims:
                for scale in list(dimension.values()):
                    dimension.detach_scale(scale)

    file[group].visititems(detach)
    del file[group]
