"""`implicit show`: a result file as tables a person reads, or as one JSON document."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from implicit_cli.cli import tables
from implicit_cli.cli.console import out, write_json

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from implicit_cli.api import (
        CaseRow,
        CaseSummary,
        LinearSummary,
        Overview,
        ProductSummary,
        QuantitySummary,
        Summary,
        UndeterminedSummary,
    )

_DETAILED = 5
"""Cases that are shown in full; where there are more, some have a line."""

_ROWS = 30
"""Rows of the table of derivatives that all products of a case share; three of each are shown in any case."""

_ORDERS = {"size": "largest first", "bound": "least sure first", "name": "as they are stored"}
_FEW = 4
_RANGES = 20


def show(
    result: Annotated[Path, typer.Argument(help="Result file, as `implicit run` writes it.")],
    case: Annotated[str | None, typer.Option("--case", metavar="ID", help="Show this case of several.")] = None,
    of: Annotated[
        list[str] | None,
        typer.Option("--of", metavar="NAME", help="Unknown or output, whole or one entry, as in 'w[bmi]'. May be repeated."),
    ] = None,
    wrt: Annotated[
        list[str] | None, typer.Option("--wrt", metavar="NAME", help="Parameter, or direction of a jvp, likewise. May be repeated.")
    ] = None,
    sort: Annotated[
        str | None,
        typer.Option(
            "--sort",
            metavar="KEY",
            help="Derivatives by size, bound or name; cases of a sweep by case, bound, status or a value that is shown. "
            "Bounds begin with the least sure.",
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document, with all cases, instead of tables.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print all derivatives as CSV: a line for each number of each case.")] = False,
) -> None:
    """Show what is in a result: status, solution, derivatives with their bounds, certificate, null space, solver.

    Of a sweep: how many cases ended how, what outputs do over it, the first cases, and those that failed.
    """
    from implicit_cli import api
    from implicit_cli.errors import InputError

    if json and csv:
        raise InputError("--csv: found with --json, allowed: one of them")
    chosen: dict[str, Any] = {"of": tuple(of or ()), "wrt": tuple(wrt or ())}
    if case is None and not json and not csv:
        seen = api.overview(result)
        if seen.cases > _DETAILED:
            if chosen["of"] or chosen["wrt"] or sort:
                seen = api.overview(result, **chosen, sort=sort or "case")
            tables.printed(lambda console: render_overview(seen, console))
            return
    narrowed = bool(chosen["of"] or chosen["wrt"])
    summary = api.show(result, case=case, **chosen, sort=sort or "size", entries=None if csv else _ROWS if narrowed else 10)
    if json:
        write_json(summary.asdict())
    elif csv:
        _write_csv(summary)
    else:
        tables.printed(lambda console: render(summary, console, _ORDERS[sort or "size"]))


def _write_csv(summary: Summary) -> None:
    """All derivatives of a summary, a line for each, numbers with all their digits."""
    import csv

    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(("case", "product", "of", "wrt", "value", "bound", "bound_kind", "unit", "status"))
    for case in summary.cases:
        for product in case.products:
            for entry in product.entries:
                by = entry.wrt or product.name
                numbers = (entry.value, entry.bound, product.bound_kind if entry.bound == entry.bound else "none")
                writer.writerow((case.id, product.kind, entry.of, by, *numbers, product.unit, product.status))
    out(lines.getvalue())


def render(summary: Summary, console: Console, order: str = "largest first") -> None:
    """Print a summary to `console`; `order` says how its derivatives are sorted."""
    _head(summary, console)
    if len(summary.cases) > 1:
        table = tables.table("case", "status", "seconds", "message")
        for case in summary.cases:
            row = [
                tables.text(case.id),
                tables.status(case.status, case.good),
                tables.text(f"{sum(case.seconds.values()):.3g}"),
                tables.text(case.message),
            ]
            table.add_row(*row)
        tables.section(console, f"{len(summary.cases)} cases", table)
    for case in summary.cases:
        _case(case, console, order)


def render_overview(seen: Overview, console: Console) -> None:
    """Print the cases of a sweep at a glance."""
    _head(seen, console)
    counts = ", ".join(f"{count} {label}" for label, count in seen.statuses.items())
    worst = f"; largest bound {tables.upward(seen.worst)} of a product" if math.isfinite(seen.worst) else ""
    console.print(tables.text(f"\n{seen.cases} cases: ", "bold") + tables.text(f"{counts}{worst}"))
    _over(seen, console)
    _rows_of(seen, seen.first, f"First {len(seen.first)}{f' by {seen.sort}' if seen.sort != 'case' else ''}", console)
    if seen.failed:
        failed = seen.cases - sum(count for label, count in seen.statuses.items() if label in ("ok", "partial"))
        _rows_of(seen, seen.failed, f"Failed, {len(seen.failed)} of {failed}", console, told=True)
    more = f"; {seen.more} more values differ from case to case" if seen.more else ""
    console.print(tables.text(f"\n--case ID shows one of them, --json has them all{more}", "dim"))


def _over(seen: Overview, console: Console) -> None:
    """What outputs do over a sweep, and what moves them most."""
    if seen.trends:
        table = tables.table("name", "unit", "least>", "median>", "most>", "")
        for trend in seen.trends:
            numbers = map(tables.number, (trend.minimum, trend.median, trend.maximum))
            table.add_row(
                *map(
                    tables.text,
                    (trend.name, trend.unit, *numbers, tables.sparkline(trend.values, tables.encodes(console, tables.LEVELS))),
                )
            )
        tables.section(
            console, f"Outputs, {f'over {seen.over}' if seen.over else 'and how many cases from the least to the most'}", table
        )
    if seen.moved:
        table = tables.table("derivative", "median>", "")
        most = max(one.elasticity for one in seen.moved)
        for one in seen.moved:
            share = one.elasticity / most if most > 0 else 0.0
            table.add_row(
                *map(
                    tables.text,
                    (
                        f"d {one.of} / d {one.wrt}",
                        tables.number(one.elasticity),
                        tables.bar(share, tables.encodes(console, tables.FULL)),
                    ),
                )
            )
        tables.section(console, "Sensitivities, percent by which an output moves for one percent of an input", table)


def _rows_of(seen: Overview, rows: Sequence[CaseRow], title: str, console: Console, *, told: bool = False) -> None:
    table = tables.table("case", *(f"{name}>" for name in seen.varied), "status", *(["message"] if told else ["bound>"]))
    for row in rows:
        last = (
            tables.text(row.message)
            if told
            else tables.text(tables.upward(row.accuracy) if math.isfinite(row.accuracy) else "none")
        )
        table.add_row(
            tables.text(row.id),
            *(tables.text(tables.number(value)) for value in row.values),
            tables.status(row.status, row.good),
            last,
        )
    tables.section(console, title, table)


def _head(seen: Summary | Overview, console: Console) -> None:
    console.print(tables.text(f"{seen.problem}: {seen.summary}" if seen.summary else seen.problem, "bold"))
    console.print(tables.text(f"{seen.path}, format version {seen.format_version}", "dim"))
    console.print(tables.text(f"written by {seen.creator} at {seen.created}", "dim"))


def render_products(summary: Summary, console: Console) -> None:
    """Print the products of a summary, with the status of each case and the solution that they stand on."""
    console.print(tables.text(f"{summary.problem}: {summary.summary}" if summary.summary else summary.problem, "bold"))
    for case in summary.cases:
        console.print(
            tables.text(f"case {case.id}: ", "bold") + tables.status(case.status, case.good) + tables.text(f", {case.message}")
        )
        residual = f"max |F| = {tables.number(case.solver.residual)}, tolerance {tables.number(case.solver.tol)}"
        console.print(tables.text(f"at the stored solution: {residual}", "dim"))
        for row in case.linear:
            console.print(tables.text(_linear(row), "dim"))
        _derivatives(case, console)


def _case(case: CaseSummary, console: Console, order: str) -> None:
    timing = ", ".join(f"{stage} {seconds:.3g} s" for stage, seconds in case.seconds.items())
    console.print()
    console.print(
        tables.text(f"case {case.id}: ", "bold") + tables.status(case.status, case.good) + tables.text(f", {case.message}")
    )
    if timing:
        console.print(tables.text(timing, "dim"))
    if case.parameters:
        tables.section(console, "Parameters", _quantities(case.parameters))
    method = [] if case.method == "implicit" else [tables.text(f"derivatives: {case.method}")]
    tables.section(console, "Solvers", tables.text(_solver(case)), *method, *(tables.text(_linear(row)) for row in case.linear))
    tables.section(console, "Null space", *map(tables.text, _null_space(case)))
    table = tables.table("constant", "value>", "unit", "provenance", "meaning")
    for constant in case.certificate:
        cells = (constant.name, tables.number(constant.value), constant.unit, constant.provenance, constant.meaning)
        table.add_row(*map(tables.text, cells))
    tables.section(console, "Certificate", table)
    tables.section(console, "Solution and outputs", _quantities((*case.solution, *case.outputs), tables.plus_minus(console)))
    # Last, so that what was asked for is what the terminal ends with.
    _derivatives(case, console, order)


def _derivatives(case: CaseSummary, console: Console, order: str = "largest first") -> None:
    if case.products:
        tables.section(console, "Products", _products(case.products))
        tables.section(console, f"Sensitivities, {order}", _entries(case.products, console))


def _quantities(rows: Sequence[QuantitySummary], sign: str = "") -> Table:
    """A line for each; with a sign, their bounds too."""
    table = tables.table("name", "shape", "unit", "value", *(["bound"] if sign else []), "meaning")
    for row in rows:
        bound = f"{sign} {tables.upward(row.bound)}" if row.bound == row.bound else "no bound"
        meaning = row.doc if row.doc != row.name else ""
        table.add_row(*map(tables.text, (row.name, _shape(row.shape), row.unit, _value(row), *([bound] if sign else []), meaning)))
    return table


def _value(row: QuantitySummary) -> str:
    size = 1
    for length in row.shape:
        size *= length
    if not size:
        return "empty"
    if row.value is not None and not row.shape:
        return tables.number(row.value)
    if row.value is not None and len(row.shape) == 1 and size <= _FEW:
        return f"[{', '.join(map(tables.number, row.value))}]"
    return f"norm {tables.number(row.norm)}, from {tables.number(row.minimum)} to {tables.number(row.maximum)}"


def _entries(products: Sequence[ProductSummary], console: Console) -> Table:
    """A line for each derivative, with a bar as long as it is beside the largest of its product."""
    table = tables.table("derivative", "value>", "bound", "unit", "status", "")
    sign, blocks = tables.plus_minus(console), tables.encodes(console, tables.FULL)
    allowed = max(_ROWS // len(products), 3)
    for product in products:
        most = max((abs(entry.value) for entry in product.entries), default=0.0)
        for entry in product.entries[:allowed]:
            share = abs(entry.value) / most if most > 0 and len(product.entries) > 1 else 0.0
            bound = f"{sign} {tables.upward(entry.bound)}" if entry.bound == entry.bound else "no bound"
            if product.bound_kind == "estimate" and entry.bound == entry.bound:
                bound += " (estimate)"
            cells = (tables.derivative(product, entry.of, entry.wrt), tables.number(entry.value), bound, product.unit)
            table.add_row(
                *map(tables.text, cells), tables.status(product.status, product.good), tables.text(tables.bar(share, blocks))
            )
        if product.undetermined:
            kept = "all" if product.undetermined == product.count else f"{product.undetermined} of {product.count}"
            table.add_row(*(tables.text(part, "dim") for part in (tables.derivative(product), kept, "undetermined")))
        more = product.more + len(product.entries[allowed:])
        if more:
            table.add_row(*(tables.text(part, "dim") for part in (tables.derivative(product), str(more), "more")))
    return tables.whole(table)


def _products(products: Iterable[ProductSummary]) -> Table:
    table = tables.table("product", "shape", "norm>", "worst bound>", "relative>", "kind", "status")
    for product in products:
        numbers = (tables.number(product.norm), tables.upward(product.bound), tables.upward(product.relative))
        kind = product.bound_kind if product.bound == product.bound else "none"
        cells = (tables.derivative(product), _shape(product.shape), *numbers, kind)
        table.add_row(*map(tables.text, cells), tables.status(product.status, product.good))
    return tables.whole(table)


def _null_space(case: CaseSummary) -> list[str]:
    space = case.null_space
    lines = [f"dimension {space.dimension}" + (f", gauges: {', '.join(space.gauges)}" if space.gauges else ", no gauges")]
    lines += [_undetermined(found) for found in space.undetermined]
    return lines


def _undetermined(found: UndeterminedSummary) -> str:
    count = f"{found.count} of {found.size} components"
    if not found.axis:
        return f"{found.reason}: {found.unknown}"
    part = "" if found.whole else ", some components of each"
    return f"{found.reason}: {found.unknown}, {len(found.indices)} along {found.axis}: {ranges(found.indices)} ({count}{part})"


def ranges(indices: Sequence[int]) -> str:
    """Increasing indices, compactly: `3-5, 17`; a long list ends with how many ranges were left out."""
    runs: list[list[int]] = []
    for index in indices:
        if runs and index == runs[-1][1] + 1:
            runs[-1][1] = index
        else:
            runs.append([index, index])
    texts = [str(first) if first == last else f"{first}-{last}" for first, last in runs]
    if len(texts) > _RANGES:
        left = sum(last - first + 1 for first, last in runs[_RANGES:])
        texts = [*texts[:_RANGES], f"and {left} more"]
    return ", ".join(texts)


def _solver(case: CaseSummary) -> str:
    row = case.solver
    polish = f" and {_many(row.polish_steps, 'polish step')}" if row.polish_steps else ""
    steps = f"{_many(row.steps, 'step')}{polish}"
    return f"{row.name}: {row.status}, {steps}, max |F| = {tables.number(row.residual)}, tolerance {tables.number(row.tol)}"


def _linear(row: LinearSummary) -> str:
    outcome = ", ".join(f"{count} {status}" for status, count in row.statuses.items())
    steps = f", at most {_many(row.steps, 'iteration')}" if row.steps > 1 else ""
    solves = _many(row.right_hand_sides, "linear solve")
    return f"{row.direction}: {solves} by {row.method}: {outcome}{steps}, worst relative residual {tables.upward(row.residual)}"


def _many(count: int, word: str) -> str:
    return f"{count} {word}{'' if count == 1 else 's'}"


def _shape(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape)) if shape else "scalar"
