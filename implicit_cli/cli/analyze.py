"""`implicit analyze`: which parameters matter, and how uncertain the outputs are, from a result's derivatives and cases."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from implicit_cli.cli import console, tables
from implicit_cli.cli.options import Json, Quiet
from implicit_cli.cli.products import Result
from implicit_cli.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console

    from implicit_cli.api import AnalysisReport
    from implicit_cli.sample import Column, Finding

_ROWS, _TABLES, _COLUMNS = 20, 6, 8
"""Rows of a table, tables of an analysis and columns of a table that are printed; the file and --json have all."""
_NARROW = 1e-4
"""Of a value: an interval as narrow as this is told by its half width."""
_SORTED_BY = ("elasticity", "median", "share", "bound", "S1", "mu_star", "delta", "activity", "S2")
"""Rows go by the size of the first of these columns that a table has, the largest first."""

Analyses = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[ANALYSIS]...",
        help="elasticity, delta, dgsm, active, chaos, sobol, morris, fast, borgonovo. Default: all that RESULT allows.",
        show_default=False,
    ),
]
Of = Annotated[
    list[str] | None,
    typer.Option("--of", metavar="NAME", help="Output or unknown, or an entry of it: x[3]. May be repeated. Default: all numbers."),
]
Case = Annotated[str | None, typer.Option("--case", metavar="ID", help="Look at this case of several by itself.")]
Deviation = Annotated[
    list[str] | None,
    typer.Option("--deviation", metavar="INPUT=SIGMA", help="Standard deviation of an input, for delta. May be repeated."),
]
Covariance = Annotated[
    str | None, typer.Option("--covariance", metavar="FILE:/PATH", help="Covariance matrix of all inputs, for delta.")
]
Fill = Annotated[bool, typer.Option("--fill", help="Predict cases that failed from their neighbours, and tell what that moves.")]
Output = Annotated[
    Path | None,
    typer.Option("-o", "--output", metavar="OUT", help="Result file (HDF5) with the tables added. Replaced where it exists."),
]
InPlace = Annotated[bool, typer.Option("--in-place", help="Put the tables into RESULT itself.")]


def analyze(
    result: Result,
    analysis: Analyses = None,
    of: Of = None,
    case: Case = None,
    deviation: Deviation = None,
    covariance: Covariance = None,
    fill: Fill = False,
    output: Output = None,
    in_place: InPlace = False,
    json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Which parameters matter, and how uncertain the outputs are.

    Of a case: elasticities, and the delta method. Of a sweep whose cases are drawn from distributions: DGSM with bounds on total
    Sobol indices, active subspaces, Sobol indices by polynomial chaos with derivatives, and what its design allows. Intervals are
    95 %, widened by the error bounds of the derivatives.
    """
    from implicit_cli import api

    report = api.analyze(
        result,
        tuple(analysis or ()),
        of=tuple(of or ()),
        case=case,
        deviations=dict(_deviation(text) for text in deviation or ()),
        covariance=covariance,
        fill=fill,
        output=output,
        in_place=in_place,
    )
    for line in report.left_out if not quiet else ():
        console.say(f"left out: {line}")
    if json:
        console.write_json([document(one) for one in report.findings])
    else:
        tables.printed(lambda to: render(report, to))
    if report.path is not None and not quiet:
        console.say(f"wrote {report.path}")
    return 0


def render(report: AnalysisReport, to: Console) -> None:
    """Print the tables of a report."""
    for method in dict.fromkeys(one.method for one in report.findings):
        found = [one for one in report.findings if one.method == method]
        for one in found[:_TABLES]:
            _render(one, to)
        if len(found) > _TABLES:
            to.print(tables.text(f"\n{len(found) - _TABLES} more tables of {method}: --json has them, fewer by --of", "dim"))


def _render(one: Finding, to: Console) -> None:
    names = list(one.columns)[:_COLUMNS]
    table = tables.table(one.axis, *(head for name in names for head in _heads(name, one.columns[name])))
    order = _order(one)
    for i in order[:_ROWS]:
        table.add_row(tables.text(one.rows[i]), *(tables.text(cell) for name in names for cell in _cells(one.columns[name], i)))
    tables.section(to, f"{one.method}{f' of {one.of}' if one.of else ''}{_facts(one)}", table)
    more = [f"{len(order) - _ROWS} more rows"] * (len(order) > _ROWS)
    more += [f"{len(one.columns) - _COLUMNS} more columns"] * (len(one.columns) > _COLUMNS)
    if more:
        to.print(tables.text(f"{', '.join(more)}: --json has them", "dim"))
    for note in one.notes:
        to.print(tables.text(note, "yellow"))


def _order(one: Finding) -> list[int]:
    """Rows as they are printed."""
    key = next((name for name in _SORTED_BY if name in one.columns), None)
    if key is None or one.axis not in ("input", "pair"):
        return list(range(len(one.rows)))
    sizes = [abs(float(value)) for value in one.columns[key].values]
    return sorted(range(len(one.rows)), key=lambda i: -sizes[i] if math.isfinite(sizes[i]) else math.inf)


def _heads(name: str, column: Column) -> Sequence[str]:
    return (f"{name}>",) if column.low is None else (f"{name}>", "interval>")


def _cells(column: Column, i: int) -> Sequence[str]:
    value = float(column.values[i])
    if column.low is None or column.high is None:
        return (tables.number(value),)
    low, high = float(column.low[i]), float(column.high[i])
    half = max(high - value, value - low)
    if half <= _NARROW * abs(value):
        return tables.number(value), f"\u00b1 {tables.upward(half)}"
    return tables.number(value), f"{tables.exponent(f'{low:.4g}')} .. {tables.exponent(f'{high:.4g}')}"


def _facts(one: Finding) -> str:
    told = [f"{name} {value if isinstance(value, str) else tables.number(value)}" for name, value in one.facts.items()]
    return f": {', '.join(told)}" if told else ""


def document(one: Finding) -> dict[str, Any]:
    """A table for JSON."""
    columns = {}
    for name, column in one.columns.items():
        parts = {"values": column.values, "low": column.low, "high": column.high}
        columns[name] = {"doc": column.doc, "unit": column.unit} | {
            key: [_plain(float(number)) for number in part] for key, part in parts.items() if part is not None
        }
    return {
        "method": one.method,
        "of": one.of,
        "axis": one.axis,
        "rows": list(one.rows),
        "columns": columns,
        "facts": {name: value if isinstance(value, str) else _plain(value) for name, value in one.facts.items()},
        "notes": list(one.notes),
    }


def _plain(number: float) -> float | None:
    return number if math.isfinite(number) else None


def _deviation(text: str) -> tuple[str, float]:
    name, equals, value = text.rpartition("=")
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not equals or not name or not number >= 0 or math.isinf(number):
        raise InputError(f"--deviation: found '{text}', allowed: INPUT=SIGMA, with a finite number that is not below 0")
    return name.strip(), number
