"""`implicit compare`: are two result files equal within the bounds that both give?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from implicit_cli.cli import console, tables
from implicit_cli.cli.options import Json

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from implicit_cli.api import Comparison, QuantityComparison, Told

_DETAILED = 5
"""Cases that are shown in full, those that do not agree first; the others have a line in the overview."""

_FEW = 5
_NAMED = 12

_LONG = 34
"""Letters of a setting or a version that are shown of each file."""

_GIVEN = ("data", "parameter", "solution", "output")
"""Kinds that are no derivative."""

_RED = "red"
_COLOURS = {
    "agree": "green",
    "no bound": "yellow",
    "gauge": "yellow",
    "undecided": "yellow",
    "only in A": "dim",
    "only in B": "dim",
}

First = Annotated[Path, typer.Argument(metavar="A", help="Result file, as `implicit run` writes it.", show_default=False)]
Second = Annotated[Path, typer.Argument(metavar="B", help="Another one.", show_default=False)]
Case = Annotated[str | None, typer.Option("--case", metavar="ID", help="Compare this case only. Default: all that both have.")]
Rtol = Annotated[
    float | None,
    typer.Option(
        "--rtol", metavar="R", min=0.0, help="Judge what has no bound by |A - B| <= R max(|A|, |B|). Default: not at all."
    ),
]
Top = Annotated[int, typer.Option("--top", metavar="N", min=0, help="Entries to show of each quantity that differs.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors: the exit code answers.")]


def compare(
    a: First,
    b: Second,
    case: Case = None,
    rtol: Rtol = None,
    top: Top = 5,
    json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Compare two result files within the bounds that both give.

    Exit code 0: they agree; 1: they do not; 2: that cannot be told. Parameters and data must be the same; versions, devices and
    settings may differ, which is told and not judged.
    """
    from implicit_cli import api

    comparison = api.compare(a, b, case=case, rtol=rtol, top=top)
    if quiet:
        return comparison.exit_code
    if json:
        console.write_json(comparison.asdict())
    else:
        tables.printed(lambda where: render(comparison, where))
    return comparison.exit_code


def render(comparison: Comparison, where: Console) -> None:
    """Print a comparison to a console: the same question? which cases? what of each quantity? and last, the answer."""
    where.print(tables.text(f"A: {comparison.a}\nB: {comparison.b}"), soft_wrap=True)
    where.print(tables.text(f"problem {_pair(comparison.problem_a, comparison.problem_b)}"))
    if comparison.told:
        tables.section(where, "Settings and versions that differ", _differences(comparison.told))
    if comparison.data:
        tables.section(where, "Data", _quantities(comparison.data))
        _details(comparison.data, where)
    if len(comparison.cases) > 1:
        table = tables.table("case", "status", "verdict")
        for case in comparison.cases:
            table.add_row(
                tables.text(_pair(case.a, case.b)), tables.text(_pair(case.status_a, case.status_b)), _verdict(case.verdict)
            )
        tables.section(where, f"{len(comparison.cases)} cases", table)
    for case in sorted(comparison.cases, key=lambda case: case.verdict == "agree")[:_DETAILED]:
        where.print()
        where.print(tables.text(f"case {_pair(case.a, case.b)}: ", "bold") + tables.text(_pair(case.status_a, case.status_b)))
        told = [row for row in case.told if row.what != "status"]
        if told:
            tables.section(where, "Facts that differ", _differences(told))
        tables.section(where, "Quantities", _quantities(case.quantities))
        _details(case.quantities, where)
    if len(comparison.cases) > _DETAILED:
        where.print(tables.text(f"\n{len(comparison.cases) - _DETAILED} more cases: --json has them all", "dim"))
    for word, cases in (("A", comparison.only_a), ("B", comparison.only_b)):
        if cases:
            where.print(
                tables.text(f"\nonly in {word}: {_many(len(cases), 'case')}: {_listed(cases, _NAMED)}", "dim"), soft_wrap=True
            )
    where.print()
    where.print(tables.text(_answer(comparison), _COLOURS.get(comparison.verdict, _RED)), soft_wrap=True)


def _answer(comparison: Comparison) -> str:
    """The last line."""
    found = [quantity for case in comparison.cases for quantity in case.quantities]
    if comparison.verdict == "agree":
        agreed = sum(quantity.verdict == "agree" and quantity.kind != "parameter" for quantity in found)
        rest = [quantity for quantity in found if quantity.verdict in ("no bound", "gauge")]
        return f"agree: {_many(agreed, 'quantity')}" + (f"; not judged: {_named(rest)}" if rest else "")
    if comparison.verdict == "differ":
        return f"differ: {_named(comparison.disagreeing)}"
    if comparison.undecided:
        return f"undecided: no bound on {_named(comparison.undecided)}; --rtol judges without one"
    return "undecided: there is nothing that can be judged"


def _named(quantities: Sequence[QuantityComparison]) -> str:
    return _listed(list(dict.fromkeys(map(_name, quantities))), _FEW)


def _listed(names: Sequence[str], few: int) -> str:
    more = [f"and {len(names) - few} more"] if len(names) > few else []
    return ", ".join([*names[:few], *more])


def _name(quantity: QuantityComparison) -> str:
    return f"{quantity.kind} {quantity.name}" if quantity.kind in _GIVEN else tables.derivative(quantity)


def _pair(a: str, b: str) -> str:
    return a if a == b else f"{a} | {b}"


def _differences(rows: Sequence[Told]) -> Table:
    table = tables.table("what", "A", "B")
    for row in rows:
        table.add_row(*(tables.text(_short(word)) for word in (row.what, row.a, row.b)))
    return table


def _short(text: str) -> str:
    return (text if len(text) <= _LONG else f"{text[: _LONG - 3]}...") or "-"


def _quantities(rows: Sequence[QuantityComparison]) -> Table:
    table = tables.table("quantity", "verdict", "|A - B|>", "bounds>", "relative>", "kind", "status")
    for row in rows:
        numbers, kind = ("", "", ""), ""
        if not math.isnan(row.difference):
            numbers, kind = (tables.upward(row.difference), tables.upward(row.allowed), tables.upward(row.relative)), row.bound_kind
        words = (*numbers, kind, _pair(row.status_a, row.status_b))
        table.add_row(tables.text(_name(row)), _verdict(row.verdict), *map(tables.text, words))
    for column in (1, -1):  # words give way, numbers do not
        table.columns[column].no_wrap = False
    return tables.whole(table)


def _verdict(verdict: str) -> Text:
    return tables.text(verdict, _COLOURS.get(verdict, _RED))


def _details(rows: tuple[QuantityComparison, ...], where: Console) -> None:
    """What else there is to say of the quantities, and the entries that disagree."""
    from rich.padding import Padding

    for row in rows:
        if row.note:
            where.print(Padding(tables.text(f"{_name(row)}: {row.note}", "dim"), (0, 0, 0, 2), expand=False))
    for row in rows:
        if not row.entries:
            continue
        table = tables.table("entry", "A>", "B>", "|A - B|>", "bounds>")
        for entry in row.entries:
            label = entry.of if row.kind in _GIVEN else tables.derivative(row, entry.of, entry.wrt)
            numbers = (_digits(entry.a), _digits(entry.b), tables.upward(entry.difference), tables.upward(entry.allowed))
            table.add_row(*map(tables.text, (label, *numbers)))
        unit = f", in {row.unit}" if row.unit != "1" else ""
        tables.section(where, f"{_name(row)}: where they disagree most{unit}", tables.whole(table))


def _digits(value: float) -> str:
    """Twelve significant digits, for what may differ late."""
    return f"{value:.12g}"


def _many(count: int, word: str) -> str:
    plural = f"{word[:-1]}ies" if word.endswith("y") else f"{word}s"
    return f"{count} {word if count == 1 else plural}"
