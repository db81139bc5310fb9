"""CSV references, `file.csv:column`: one column of numbers, read within limits.

The first line that is not empty names the columns; fields are separated by commas and may be quoted. Nothing is guessed: what is no
number is refused with its line.
"""

from __future__ import annotations

import codecs
import csv
import math
import re
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from implicit_cli.errors import EnvironmentProblem, InputError, listing, nearest
from implicit_cli.spec.source import check_regular, shown_path
from implicit_cli.spec.words import found, meant_number, shown

MAX_BYTES = 256 * 1024**2
MAX_ROWS = 10_000_000
COLUMN = r"^[^\n]+?\.[cC][sS][vV]:[^\n]+$"
"""The file ends at the first `.csv:`, so that names of columns may have colons and slashes."""

_COLUMN = re.compile(r"(?P<file>[^\n]+?\.[cC][sS][vV]):(?P<column>[^\n]+)\Z")
_INTEGER = re.compile(r"[+-]?\d+", re.ASCII)
_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_LONGEST = 400
"""Characters of a number."""
_MAX_LISTED = 12


def split_column(text: str) -> tuple[str, str] | None:
    """File and column of `file.csv:column`; None for a text that is no such reference."""
    match = _COLUMN.match(text)
    return (match["file"], match["column"]) if match else None


def read(path: Path, file_name: str, column: str, *, place: str) -> NDArray[Any]:
    """The column (n,) of the CSV file at `path`: int64 where every entry is an integer, else float64.

    Messages start with `place` and `file_name`, and name the line. Raises InputError for what is missing, too large, not UTF-8, of
    unequal rows or no finite number; EnvironmentProblem where the system does not let us read.
    """
    label = f"{place}: {shown_path(file_name)}"
    try:
        check_regular(path, label, "a CSV file")
        if (size := path.stat().st_size) > MAX_BYTES:
            allowed = f"{MAX_BYTES // 2**20} MiB; put large arrays into an HDF5 file"
            raise InputError(f"{label}: found {size / 2**20:,.0f} MiB, allowed: at most {allowed}")
        with path.open("rb") as stream:
            return _Table(label, stream).column(column)
    except OSError as error:
        raise EnvironmentProblem(f"{label}: cannot read the file: {error.strerror}") from error


class _Table:
    """A file while it is read."""

    def __init__(self, label: str, stream: Any) -> None:
        self.label = label
        self.rows = csv.reader(self.lines(stream), strict=True)

    def column(self, name: str) -> NDArray[Any]:
        header, _ = next(self.filled(), (None, 0))
        if header is None:
            raise InputError(f"{self.label}: found no line, allowed: a line with the names of the columns, then their numbers")
        names = [text.strip() for text in header]
        if name.strip() not in names:
            self.missing(name, names)
        if names.count(name.strip()) > 1:
            self.refuse(f"found the column '{shown(name)}' {names.count(name.strip())} times, allowed: once")
        return self.numbers(names.index(name.strip()), name, len(names))

    def numbers(self, index: int, name: str, width: int) -> NDArray[Any]:
        # Arrays of the standard library: 8 bytes an entry, where a list of numbers takes 32.
        whole, parts, beyond = array("q"), array("d"), 0
        is_whole = True
        for count, (row, line) in enumerate(self.filled(), start=1):
            if len(row) != width:
                self.refuse(f"found a row of {len(row)}, allowed: {width}, an entry for each column")
            if count > MAX_ROWS:
                self.refuse(f"found more than {MAX_ROWS:,} rows, allowed: fewer; put large arrays into an HDF5 file")
            text = row[index].strip()
            number = self.number(text, name)
            if is_whole and _INTEGER.fullmatch(text):
                exact = int(text)
                if -(2**63) <= exact < 2**63:
                    whole.append(exact)
                else:
                    # Fine in a column of floating-point numbers, and whether it is one is not yet known.
                    beyond = beyond or line
                    whole.append(0)
            else:
                is_whole = False
            parts.append(number)
        if not parts:
            self.refuse("found no row below the names of the columns, allowed: at least one")
        if is_whole and beyond:
            raise InputError(
                f"{self.label}:{beyond}: column '{shown(name)}': found an integer beyond 64 bits, allowed: -2^63 to 2^63 - 1"
            )
        # Copied: an array of the standard library stays locked as long as NumPy looks at it.
        return np.array(whole, dtype=np.int64) if is_whole else np.array(parts, dtype=np.float64)

    def number(self, text: str, name: str) -> float:
        well_formed = len(text) <= _LONGEST and _NUMBER.fullmatch(text)
        number = float(text) if well_formed else math.nan
        if not math.isfinite(number):
            hint = "" if well_formed else meant_number(text)
            self.refuse(f"column '{shown(name)}': found {found(text)}, allowed: a finite number{hint}")
        return number

    def filled(self) -> Iterator[tuple[list[str], int]]:
        """Rows that are not empty, with the number of the line where each ends."""
        while True:
            try:
                row = next(self.rows)
            except StopIteration:
                return
            except csv.Error as error:
                self.refuse(f"found no row of a CSV file: {shown(str(error))}")
            if len(row) > 1 or (row and row[0].strip()):
                yield row, self.rows.line_num

    def lines(self, stream: Any) -> Iterator[str]:
        for number, raw in enumerate(stream, start=1):
            try:
                yield raw.removeprefix(codecs.BOM_UTF8 if number == 1 else b"").decode()
            except UnicodeDecodeError as error:
                byte = f"found the byte 0x{error.object[error.start]:02x}"
                raise InputError(f"{self.label}:{number}: {byte}, allowed: text in UTF-8") from None

    def missing(self, name: str, names: list[str]) -> NoReturn:
        more = f" and {len(names) - _MAX_LISTED} more" if len(names) > _MAX_LISTED else ""
        held = listing(shown(text) for text in names[:_MAX_LISTED]) + more
        if all(_NUMBER.fullmatch(text) for text in names):
            hint = "; the first line must name the columns"
        elif len(names) == 1 and (";" in names[0] or "\t" in names[0]):
            hint = "; columns must be separated by commas"
        else:
            hint = shown_path(nearest(name, names))
        raise InputError(f"{self.label} has no column '{shown(name)}', it holds {held}{hint}")

    def refuse(self, what: str) -> NoReturn:
        raise InputError(f"{self.label}:{self.rows.line_num}: {what}")
