"""The use cases that only look: at results, at the spec's form, at this machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from implicit_cli.api.reports import ConvertReport
from implicit_cli.errors import InputError, listing

if TYPE_CHECKING:
    from implicit_cli.analysis import Comparison
    from implicit_cli.store import Integrity, Overview, Summary

TABLES, WHOLE = (".csv", ".parquet"), (".nc", ".mat")
OF_A_CASE = ("table", "particles")
"""What `--case` goes with."""


def show(
    result: Path,
    *,
    case: str | None = None,
    of: Sequence[str] = (),
    wrt: Sequence[str] = (),
    sort: str = "size",
    entries: int | None = 10,
) -> Summary:
    """What is in a result file, or what of it belongs to one case, with so many `entries` of every derivative, None for all.

    `of` and `wrt` leave derivatives of some quantities, by some parameters, whole or one entry. `sort` is `size`, largest first,
    `bound`, the least sure first, or `name`. Raises InputError for what does not fit.
    """
    from implicit_cli import store

    return store.read_summary(result, store.Wanted(entries, tuple(of), tuple(wrt), sort), case=case)


def integrity(result: Path) -> Integrity:
    """Whether a result file is, bit for bit, what was written; raises InputError, naming what is damaged, where it is not."""
    from implicit_cli import store

    return store.integrity(result)


def overview(result: Path, *, of: Sequence[str] = (), wrt: Sequence[str] = (), sort: str = "case") -> Overview:
    """The cases of a result file at a glance: outputs or unknowns `of`, moved by inputs `wrt`, the first rows by `sort`, which is
    `case`, `bound`, `status`, or a value that is told of them. Raises InputError for what does not fit.
    """
    from implicit_cli import store

    return store.read_overview(result, of=of, wrt=wrt, sort=sort)


def compare(a: Path, b: Path, *, case: str | None = None, rtol: float | None = None, top: int = 5) -> Comparison:
    """Two result files, judged by the bounds of both; what has none by `rtol` where one is given. `top` entries of what differs.

    `case` picks one of several. Raises InputError for what is no result, and for files that have no case or no quantity in common.
    """
    from implicit_cli import analysis, store

    with store.opened_arrays(a) as first, store.opened_arrays(b) as second:
        return analysis.compare(first, second, case=case, rtol=rtol, top=top)


def convert(result: Path, output: Path, *, case: str | None = None, of: Sequence[str] = (), wrap: bool = False) -> ConvertReport:
    """Write a result in a format of other programs, as the name of `output` says.

    `.csv` and `.parquet`: a table with a row for each case, or for `case`, of all unknowns and outputs or those in `of`. `.nc` and
    `.mat`: all of it. `.extxyz`, `.xyz`, `.h5md`, `.h5`, `.hdf5`: the particles of one case; `wrap` moves them into the cell.

    Raises InputError for another name, for an option that the format has not, for what is no result, and for particles where there
    are none; EnvironmentProblem for an output that cannot be written, and where a package is missing.
    """
    from implicit_cli import store
    from implicit_cli.structures import export as particles

    kind = output.suffix.lower()
    formats = {**dict.fromkeys(TABLES, "table"), **dict.fromkeys(WHOLE, "whole"), **dict.fromkeys(particles.SUFFIXES, "particles")}
    if kind not in formats:
        raise InputError(f"{output}: found a name that tells no format, allowed: one that ends in {listing(formats)}")
    for option, given, fitting in (("--of", bool(of), ("table",)), ("--wrap", wrap, ("particles",)), ("--case", case, OF_A_CASE)):
        if given and formats[kind] not in fitting:
            allowed = listing(suffix for suffix, what in formats.items() if what in fitting)
            raise InputError(f"{option}: found with {kind}, allowed with: {allowed}")
    store.check_output(output, [result])
    if formats[kind] == "table":
        columns = store.read_table(result, of=of, case=case)
        store.replace_file(output, store.csv_of(columns) if kind == ".csv" else store.parquet_of(columns))
        rows = len(columns["id"])
        return ConvertReport(output, f"{rows} case{'s' * (rows != 1)}, {len(columns)} columns")
    if formats[kind] == "whole":
        store.replace_file(output, store.matlab_of(result) if kind == ".mat" else store.netcdf_of(result))
        return ConvertReport(output)
    stored = store.read_stored(result, case)
    with store.opened_arrays(result) as arrays:
        seen = particles.snapshot(stored, arrays, wrap=wrap)
    store.replace_file(output, particles.h5md(seen) if particles.SUFFIXES[kind] == "H5MD" else particles.extxyz(seen))
    vectors = f"{len(seen.vectors)} vector{'s' * (len(seen.vectors) != 1)} for each"
    return ConvertReport(output, f"{len(seen.structure.position)} particles, {vectors}", seen.warnings)


def schema() -> dict[str, Any]:
    """JSON Schema of the spec."""
    from implicit_cli import spec

    return spec.json_schema()


def info(device: str | None = None, *, report: bool = False) -> tuple[tuple[str, str], ...]:
    """Versions, devices, caches, and the outcome of the numerical canary, as label and value.

    With `report` also what a report of a fault needs; nothing then names a person, a host or a folder.
    """
    from implicit_cli import runtime

    runtime.configure(device)
    facts = runtime.facts()
    if not report:
        return facts
    return (*((label, value) for label, value in facts if label != "cache folder"), *runtime.surroundings())
