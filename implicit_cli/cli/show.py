"""`implicit show`: a result file as tables a person reads, or as one JSON document."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from implicit_cli.cli.console import write_json

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from implicit_cli.api import (
        CaseRow,
        CaseSummary,
        Finding,
        LinearSummary,
        Overview,
        ProductSummary,
        QuantityComparison,
        QuantitySummary,
        Summary,
        UndeterminedSummary,
    )

_WIDTH, _WIDEST = 100, 10_000
"""Letters of a line when the output is not a terminal, and in any case."""

_DETAILED = 5
"""Cases that are shown in full; where there are more, some have a line."""

_ROWS = 30
"""Rows of the table of derivatives that all products of a case share; three of each are shown in any case."""

_BAR, _FULL, _HALF, _LEVELS, _PLAIN = 5, "█", "▌", "▁▂▃▄▅▆▇█", "_.-:=+*#"
"""Letters of the longest bar, what bars are made of, and columns of sparklines, where the output has them and where not.

Bars have no heading, and by that their columns are known.
"""

_ORDERS = {"size": "largest first", "bound": "least sure first", "name": "as they are stored"}
_FEW = 4
_RANGES = 20
_LONG = 44
_BREAKABLE = ("case", "derivative", "product", "value", "unit", "meaning", "message")


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
            printed(lambda console: render_overview(seen, console))
            return
    narrowed = bool(chosen["of"] or chosen["wrt"])
    summary = api.show(result, case=case, **chosen, sort=sort or "size", entries=None if csv else _ROWS if narrowed else 10)
    if json:
        write_json(summary.asdict())
    elif csv:
        _write_csv(summary)
    else:
        printed(lambda console: render(summary, console, _ORDERS[sort or "size"]))


def _write_csv(summary: Summary) -> None:
    """All derivatives of a summary, a line for each, numbers with all their digits."""
    import csv

    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(("case", "product", "of", "wrt", "value", "bound", "bound_kind", "unit", "status"))
    for case in summary.cases:
        for product in case.products:
            for entry in product.entries:
                by = entry.wrt or product.name
                numbers = (entry.value, entry.bound, product.bound_kind if entry.bound == entry.bound else "none")
                writer.writerow((case.id, product.kind, entry.of, by, *numbers, product.unit, product.status))


def printed(write: Callable[[Console], None]) -> None:
    """Print what `write` writes to a console: as wide as the terminal, else of a fixed width."""
    from rich.console import Console

    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = _WIDTH
    with console.capture() as captured:
        write(console)
    # Table cells are padded; a pipe and a transcript are better off without the blanks.
    text = "".join(f"{line.rstrip()}\n" for line in captured.get().splitlines())
    sys.stdout.write(text.encode(console.encoding, "replace").decode(console.encoding))


def render(summary: Summary, console: Console, order: str = "largest first") -> None:
    """Print a summary to `console`; `order` says how its derivatives are sorted."""
    _head(summary, console)
    if len(summary.cases) > 1:
        table = _table("case", "status", "seconds", "message")
        for case in summary.cases:
            row = [_text(case.id), _status(case.status, case.good), _text(f"{sum(case.seconds.values()):.3g}"), _text(case.message)]
            table.add_row(*row)
        _section(console, f"{len(summary.cases)} cases", table)
    for case in summary.cases:
        _case(case, console, order)


def render_overview(seen: Overview, console: Console) -> None:
    """Print the cases of a sweep at a glance."""
    _head(seen, console)
    counts = ", ".join(f"{count} {label}" for label, count in seen.statuses.items())
    worst = f"; largest bound {_upward(seen.worst)} of a product" if math.isfinite(seen.worst) else ""
    console.print(_text(f"\n{seen.cases} cases: ", "bold") + _text(f"{counts}{worst}"))
    _over(seen, console)
    _rows_of(seen, seen.first, f"First {len(seen.first)}{f' by {seen.sort}' if seen.sort != 'case' else ''}", console)
    if seen.failed:
        failed = seen.cases - sum(count for label, count in seen.statuses.items() if label in ("ok", "partial"))
        _rows_of(seen, seen.failed, f"Failed, {len(seen.failed)} of {failed}", console, told=True)
    more = f"; {seen.more} more values differ from case to case" if seen.more else ""
    console.print(_text(f"\n--case ID shows one of them, --json has them all{more}", "dim"))


def _over(seen: Overview, console: Console) -> None:
    """What outputs do over a sweep, and what moves them most."""
    if seen.trends:
        table = _table("name", "unit", "least>", "median>", "most>", "")
        for trend in seen.trends:
            numbers = map(_number, (trend.minimum, trend.median, trend.maximum))
            table.add_row(*map(_text, (trend.name, trend.unit, *numbers, sparkline(trend.values, _encodes(console, _LEVELS)))))
        _section(
            console, f"Outputs, {f'over {seen.over}' if seen.over else 'and how many cases from the least to the most'}", table
        )
    if seen.moved:
        table = _table("derivative", "median>", "")
        most = max(one.elasticity for one in seen.moved)
        for one in seen.moved:
            share = one.elasticity / most if most > 0 else 0.0
            table.add_row(*map(_text, (f"d {one.of} / d {one.wrt}", _number(one.elasticity), bar(share, _encodes(console, _FULL)))))
        _section(console, "Sensitivities, percent by which an output moves for one percent of an input", table)


def bar(share: float, blocks: bool = True) -> str:
    """A bar for a share of the largest, 0 to 1, in halves of letters; what is not zero has a mark."""
    halves = max(round(2 * _BAR * share), int(share > 0))
    return _FULL * (halves // 2) + _HALF * (halves % 2) if blocks else "#" * ((halves + 1) // 2)


def sparkline(values: Sequence[float], blocks: bool = True) -> str:
    """Values as columns of eight heights between the least and the most; a blank for what is no number."""
    finite = [value for value in values if math.isfinite(value)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 0.0)
    levels = _LEVELS if blocks else _PLAIN
    scale = len(levels) / (high - low) if high > low else 0.0
    return "".join(levels[min(int(scale * (value - low)), len(levels) - 1)] if math.isfinite(value) else " " for value in values)


def _rows_of(seen: Overview, rows: Sequence[CaseRow], title: str, console: Console, *, told: bool = False) -> None:
    table = _table("case", *(f"{name}>" for name in seen.varied), "status", *(["message"] if told else ["bound>"]))
    for row in rows:
        last = _text(row.message) if told else _text(_upward(row.accuracy) if math.isfinite(row.accuracy) else "none")
        table.add_row(_text(row.id), *(_text(_number(value)) for value in row.values), _status(row.status, row.good), last)
    _section(console, title, table)


def _head(seen: Summary | Overview, console: Console) -> None:
    console.print(_text(f"{seen.problem}: {seen.summary}" if seen.summary else seen.problem, "bold"))
    console.print(_text(f"{seen.path}, format version {seen.format_version}", "dim"))
    console.print(_text(f"written by {seen.creator} at {seen.created}", "dim"))


def render_products(summary: Summary, console: Console) -> None:
    """Print the products of a summary, with the status of each case and the solution that they stand on."""
    console.print(_text(f"{summary.problem}: {summary.summary}" if summary.summary else summary.problem, "bold"))
    for case in summary.cases:
        console.print(_text(f"case {case.id}: ", "bold") + _status(case.status, case.good) + _text(f", {case.message}"))
        residual = f"max |F| = {_number(case.solver.residual)}, tolerance {_number(case.solver.tol)}"
        console.print(_text(f"at the stored solution: {residual}", "dim"))
        for row in case.linear:
            console.print(_text(_linear(row), "dim"))
        _derivatives(case, console)


def _case(case: CaseSummary, console: Console, order: str) -> None:
    timing = ", ".join(f"{stage} {seconds:.3g} s" for stage, seconds in case.seconds.items())
    console.print()
    console.print(_text(f"case {case.id}: ", "bold") + _status(case.status, case.good) + _text(f", {case.message}"))
    if timing:
        console.print(_text(timing, "dim"))
    if case.parameters:
        _section(console, "Parameters", _quantities(case.parameters))
    method = [] if case.method == "implicit" else [_text(f"derivatives: {case.method}")]
    _section(console, "Solvers", _text(_solver(case)), *method, *(_text(_linear(row)) for row in case.linear))
    _section(console, "Null space", *map(_text, _null_space(case)))
    table = _table("constant", "value>", "unit", "provenance", "meaning")
    for constant in case.certificate:
        cells = (constant.name, _number(constant.value), constant.unit, constant.provenance, constant.meaning)
        table.add_row(*map(_text, cells))
    _section(console, "Certificate", table)
    _section(console, "Solution and outputs", _quantities((*case.solution, *case.outputs), _plus_minus(console)))
    # Last, so that what was asked for is what the terminal ends with.
    _derivatives(case, console, order)


def _derivatives(case: CaseSummary, console: Console, order: str = "largest first") -> None:
    if case.products:
        _section(console, "Products", _products(case.products))
        _section(console, f"Sensitivities, {order}", _entries(case.products, console))


def _plus_minus(console: Console) -> str:
    return "±" if _encodes(console, "±") else "+/-"


def _quantities(rows: Sequence[QuantitySummary], sign: str = "") -> Table:
    """A line for each; with a sign, their bounds too."""
    table = _table("name", "shape", "unit", "value", *(["bound"] if sign else []), "meaning")
    for row in rows:
        bound = f"{sign} {_upward(row.bound)}" if row.bound == row.bound else "no bound"
        meaning = row.doc if row.doc != row.name else ""
        table.add_row(*map(_text, (row.name, _shape(row.shape), row.unit, _value(row), *([bound] if sign else []), meaning)))
    return table


def _value(row: QuantitySummary) -> str:
    size = 1
    for length in row.shape:
        size *= length
    if not size:
        return "empty"
    if row.value is not None and not row.shape:
        return _number(row.value)
    if row.value is not None and len(row.shape) == 1 and size <= _FEW:
        return f"[{', '.join(map(_number, row.value))}]"
    return f"norm {_number(row.norm)}, from {_number(row.minimum)} to {_number(row.maximum)}"


def _entries(products: Sequence[ProductSummary], console: Console) -> Table:
    """A line for each derivative, with a bar as long as it is beside the largest of its product."""
    table = _table("derivative", "value>", "bound", "unit", "status", "")
    sign, blocks = _plus_minus(console), _encodes(console, _FULL)
    allowed = max(_ROWS // len(products), 3)
    for product in products:
        most = max((abs(entry.value) for entry in product.entries), default=0.0)
        for entry in product.entries[:allowed]:
            share = abs(entry.value) / most if most > 0 and len(product.entries) > 1 else 0.0
            bound = f"{sign} {_upward(entry.bound)}" if entry.bound == entry.bound else "no bound"
            if product.bound_kind == "estimate" and entry.bound == entry.bound:
                bound += " (estimate)"
            cells = (_derivative(product, entry.of, entry.wrt), _number(entry.value), bound, product.unit)
            table.add_row(*map(_text, cells), _status(product.status, product.good), _text(bar(share, blocks)))
        if product.undetermined:
            kept = "all" if product.undetermined == product.count else f"{product.undetermined} of {product.count}"
            table.add_row(*(_text(part, "dim") for part in (_derivative(product), kept, "undetermined")))
        more = product.more + len(product.entries[allowed:])
        if more:
            table.add_row(*(_text(part, "dim") for part in (_derivative(product), str(more), "more")))
    return _whole(table)


def _products(products: Iterable[ProductSummary]) -> Table:
    table = _table("product", "shape", "norm>", "worst bound>", "relative>", "kind", "status")
    for product in products:
        numbers = (_number(product.norm), _upward(product.bound), _upward(product.relative))
        kind = product.bound_kind if product.bound == product.bound else "none"
        cells = (_derivative(product), _shape(product.shape), *numbers, kind)
        table.add_row(*map(_text, cells), _status(product.status, product.good))
    return _whole(table)


def _derivative(product: ProductSummary | QuantityComparison | Finding, of: str = "", wrt: str = "") -> str:
    """`d w[bmi] / d log(penalty[s5])`, `d w along all_up`, `d first / d penalty`, `d2 loss / d a[0] d b[1]`."""
    above = of or product.of or product.name
    if product.kind in ("jvp", "jvp_left", "jvp_right", "hessian_along"):
        word, side = ("d2", "") if product.kind == "hessian_along" else ("d", product.kind.removeprefix("jvp").strip("_"))
        return f"{word} {above} along {wrt or product.name}{f', {side}' if side else ''}"
    if product.kind == "hessian":
        return f"d2 {above} / d {(wrt or product.wrt).replace(' and ', ' d ')}"
    return f"d {above} / d {wrt or product.wrt}"


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
    return f"{row.name}: {row.status}, {steps}, max |F| = {_number(row.residual)}, tolerance {_number(row.tol)}"


def _linear(row: LinearSummary) -> str:
    outcome = ", ".join(f"{count} {status}" for status, count in row.statuses.items())
    steps = f", at most {_many(row.steps, 'iteration')}" if row.steps > 1 else ""
    solves = _many(row.right_hand_sides, "linear solve")
    return f"{row.direction}: {solves} by {row.method}: {outcome}{steps}, worst relative residual {_upward(row.residual)}"


def _many(count: int, word: str) -> str:
    return f"{count} {word}{'' if count == 1 else 's'}"


def _shape(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape)) if shape else "scalar"


def _number(value: float) -> str:
    """Six significant digits; NaN as `nan`."""
    return _exponent(f"{value:.6g}")


def _upward(value: float) -> str:
    """Two significant digits, rounded up so that a bound remains one; `-` where there is none."""
    from decimal import ROUND_CEILING, Context, Decimal

    if value != value:
        return "-"
    if value in (0.0, float("inf")):
        return f"{value:g}"
    return _exponent(f"{Context(prec=2, rounding=ROUND_CEILING).create_decimal(Decimal(repr(value))):.1e}")


def _exponent(text: str) -> str:
    """`e-7` for `e-07`."""
    mantissa, e, exponent = text.partition("e")
    return f"{mantissa}e{int(exponent)}" if e else text


# Rich


def _section(console: Console, title: str, *content: Text | Table) -> None:
    from rich.measure import Measurement
    from rich.padding import Padding

    console.print()
    console.print(_text(title, "bold"))
    for item in content:
        padded = Padding(item, (0, 0, 0, 2), expand=False)
        # a number that is cut is another number: what does not fit makes long lines
        needed = Measurement.get(console, console.options.update(width=_WIDEST), padded).minimum
        console.print(padded, width=max(needed, console.width), crop=False)


def _table(*columns: str) -> Table:
    """A table without lines; `>` after a heading makes a column of numbers, flush right."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for heading in columns:
        number, name = heading.endswith(">"), heading.rstrip(">")
        whole = number or heading not in _BREAKABLE
        # no column gives way entirely
        table.add_column(name, justify="right" if number else "left", no_wrap=whole, overflow="fold", min_width=len(name) or _BAR)
    return table


def _whole(table: Table) -> Table:
    """Keep the first column in one piece, so that the others give way, unless that leaves them no room."""
    first = table.columns[0]
    first.no_wrap = max((len(str(cell)) for cell in first.cells), default=0) <= _LONG
    return table


def _status(label: str, good: bool) -> Text:
    return _text(label, "green" if good else "red")


def _text(text: str, style: str = "") -> Text:
    """Text as it is: no markup, and nothing in it that steers a terminal."""
    from rich.text import Text

    return Text("".join(letter if letter.isprintable() or letter == "\n" else "?" for letter in text), style)


def _encodes(console: Console, text: str) -> bool:
    try:
        text.encode(console.encoding)
    except UnicodeEncodeError:
        return False
    return True
