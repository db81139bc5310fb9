"""A result as one table: a row for each case, a column for each number, for programs that read tables."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import h5py
import numpy as np

from implicit_cli.errors import EnvironmentProblem, InputError, listing, nearest
from implicit_cli.result import Array
from implicit_cli.store import layout
from implicit_cli.store.guard import opened
from implicit_cli.store.nodes import members, outcome, place_of, texts
from implicit_cli.store.products import Key, _frame, _keys
from implicit_cli.store.stored import chosen

MOST_COLUMNS = 10_000
INSTALL = "pip install 'implicit-cli[parquet]'"
Columns = dict[str, Array]


def read_table(path: Path, *, of: Sequence[str] = (), case: str | None = None) -> Columns:
    """Columns (case,) by name: id, status, message; parameters, and what varies; unknowns, outputs, derivatives with their bounds.

    `of` leaves some unknowns and outputs only. A derivative is called "d loss / d log(penalty[bmi])", its bound "bound of ..."; the
    bound of an unknown or an output is one for all its entries. Raises InputError as `read_summary`, for names that the file lacks
    and for more than `MOST_COLUMNS` columns.
    """
    with opened(path) as file:
        group = file[layout.CASES]
        ids = texts(group["id"])
        rows = slice(None) if case is None else [ids.index(chosen(path, ids, case))]
        known = [name for part in (layout.SOLUTION, layout.OUTPUTS) for name, _ in members(file, part)]
        for name in of:
            if name not in known:
                raise InputError(f"--of: found '{name}', allowed: {listing(known)}{nearest(name, known)}")
        wanted = set(of or known)
        names = {code: outcome(group["status"], code).label for code in set(group["status"][()].tolist())}
        columns: Columns = {
            "id": np.array(ids, object),
            "status": np.array([names[code] for code in group["status"][()].tolist()], object),
            "message": np.array(texts(group["message"]), object),
        }
        for part in (layout.PARAMETERS, layout.SWEPT):
            columns |= dict(_entries(file, part, [name for name, _ in members(file, part)]))
        for part in (layout.SOLUTION, layout.OUTPUTS):
            columns |= dict(_entries(file, part, [name for name, _ in members(file, part) if name in wanted]))
        for key in _keys(file):
            if (key[2] or key[1]) in wanted or not key[2]:
                columns |= dict(_derivatives(file, key))
        if len(columns) > MOST_COLUMNS:
            found = f"{len(columns):,} columns"
            raise InputError(f"{path}: found {found}, allowed: at most {MOST_COLUMNS:,}; fewer by --of, or as .nc or .mat")
        return {name: column[rows] for name, column in columns.items()}


def csv_of(columns: Columns) -> bytes:
    """The table as CSV (RFC 4180, UTF-8), numbers with all their digits, `nan` where there is none."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(columns)
    writer.writerows(zip(*(column.tolist() for column in columns.values()), strict=True))
    return text.getvalue().encode()


def parquet_of(columns: Columns) -> bytes:
    """The table as Apache Parquet; raises EnvironmentProblem where pyarrow is missing."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise EnvironmentProblem(f".parquet needs pyarrow: {INSTALL}") from error
    content = io.BytesIO()
    parquet.write_table(pyarrow.table({name: pyarrow.array(column.tolist()) for name, column in columns.items()}), content)
    return content.getvalue()


def _entries(file: h5py.File, part: str, names: Sequence[str]) -> Iterator[tuple[str, Array]]:
    """The entries of quantities, and the bound of each quantity that has one."""
    for name in names:
        node = file[f"{part}/{layout.component(name)}"]
        rows = node[()].reshape(node.shape[0], -1)
        for entry in range(rows.shape[1]):
            yield f"{name}{place_of(node, entry)}", rows[:, entry]
        bound = file.get(layout.quantity_bound_path(part, name)) if part in (layout.SOLUTION, layout.OUTPUTS) else None
        if bound is not None:
            yield f"bound of {name}", bound["bound"][()]


def _derivatives(file: h5py.File, key: Key) -> Iterator[tuple[str, Array]]:
    """The entries of a product, each with its bound."""
    kind, name, *_ = key
    frame, node = _frame(file, key), file[layout.value_path(*key)]
    bounds = file[layout.bound_path(*key)]["bound"][()].reshape(node.shape[0], -1)
    values = np.asarray(node[()], float).reshape(node.shape[0], -1)
    each = values.shape[1] // max(bounds.shape[1], 1)
    for position in range(values.shape[1]):
        shape = node.shape[1:]
        place = tuple(int(i) for i in np.unravel_index(position, shape)) if shape else ()
        entry = frame.entry(place, np.nan, np.nan)
        label = f"{_TITLES.get(kind, 'd')} {entry.of}{f' / d {entry.wrt}' if entry.wrt else ''}{f' along {name}' if name else ''}"
        yield label, values[:, position]
        yield f"bound of {label}", bounds[:, position // each if frame.many else position % bounds.shape[1]]


_TITLES = {"hessian": "d2", "hessian_along": "d2", "jvp_left": "left d", "jvp_right": "right d", "vjp": "vjp"}
