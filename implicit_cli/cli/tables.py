"""What tables of several commands are made of: columns, numbers, bounds rounded up, bars, names of derivatives."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from implicit_cli.cli.console import out

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from implicit_cli.api import Finding, ProductSummary, QuantityComparison

WIDTH, WIDEST = 100, 10_000
"""Letters of a line when the output is not a terminal, and in any case."""
LONG = 44
"""Letters of a first column that is kept in one piece."""
BREAKABLE = ("case", "derivative", "product", "value", "unit", "meaning", "message")
BAR, FULL, HALF, LEVELS, PLAIN = 5, "█", "▌", "▁▂▃▄▅▆▇█", "_.-:=+*#"
"""Letters of the longest bar, what bars are made of, and columns of sparklines, where the output has them and where not.

Bars have no heading, and by that their columns are known.
"""


def printed(write: Callable[[Console], None]) -> None:
    """Print what `write` writes to a console: as wide as the terminal, else of a fixed width."""
    from rich.console import Console

    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = WIDTH
    with console.capture() as captured:
        write(console)
    # Table cells are padded; a pipe and a transcript are better off without the blanks.
    shown = "".join(f"{line.rstrip()}\n" for line in captured.get().splitlines())
    out(shown.encode(console.encoding, "replace").decode(console.encoding))


def section(console: Console, title: str, *content: Text | Table) -> None:
    """A heading with what stands below it, set in."""
    from rich.measure import Measurement
    from rich.padding import Padding

    console.print()
    console.print(text(title, "bold"))
    for item in content:
        padded = Padding(item, (0, 0, 0, 2), expand=False)
        # a number that is cut is another number: what does not fit makes long lines
        needed = Measurement.get(console, console.options.update(width=WIDEST), padded).minimum
        console.print(padded, width=max(needed, console.width), crop=False)


def table(*columns: str) -> Table:
    """A table without lines; `>` after a heading makes a column of numbers, flush right."""
    from rich.table import Table

    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for heading in columns:
        numeric, name = heading.endswith(">"), heading.rstrip(">")
        kept = numeric or heading not in BREAKABLE
        # no column gives way entirely
        made.add_column(name, justify="right" if numeric else "left", no_wrap=kept, overflow="fold", min_width=len(name) or BAR)
    return made


def whole(made: Table) -> Table:
    """Keep the first column in one piece, so that the others give way, unless that leaves them no room."""
    first = made.columns[0]
    first.no_wrap = max((len(str(cell)) for cell in first.cells), default=0) <= LONG
    return made


def status(label: str, good: bool) -> Text:
    """A status, green or red."""
    return text(label, "green" if good else "red")


def text(content: str, style: str = "") -> Text:
    """Text as it is: no markup, and nothing in it that steers a terminal."""
    from rich.text import Text

    return Text("".join(letter if letter.isprintable() or letter == "\n" else "?" for letter in content), style)


def bar(share: float, blocks: bool = True) -> str:
    """A bar for a share of the largest, 0 to 1, in halves of letters; what is not zero has a mark."""
    halves = max(round(2 * BAR * share), int(share > 0))
    return FULL * (halves // 2) + HALF * (halves % 2) if blocks else "#" * ((halves + 1) // 2)


def sparkline(values: Sequence[float], blocks: bool = True) -> str:
    """Values as columns of eight heights between the least and the most; a blank for what is no number."""
    finite = [value for value in values if math.isfinite(value)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 0.0)
    levels = LEVELS if blocks else PLAIN
    scale = len(levels) / (high - low) if high > low else 0.0
    return "".join(levels[min(int(scale * (value - low)), len(levels) - 1)] if math.isfinite(value) else " " for value in values)


def number(value: float) -> str:
    """Six significant digits; NaN as `nan`."""
    return exponent(f"{value:.6g}")


def upward(value: float) -> str:
    """Two significant digits, rounded up so that a bound remains one; `-` where there is none."""
    from decimal import ROUND_CEILING, Context, Decimal

    if value != value:
        return "-"
    if value in (0.0, float("inf")):
        return f"{value:g}"
    return exponent(f"{Context(prec=2, rounding=ROUND_CEILING).create_decimal(Decimal(repr(value))):.1e}")


def exponent(digits: str) -> str:
    """`e-7` for `e-07`."""
    mantissa, e, exponent = digits.partition("e")
    return f"{mantissa}e{int(exponent)}" if e else digits


def derivative(product: ProductSummary | QuantityComparison | Finding, of: str = "", wrt: str = "") -> str:
    """`d w[bmi] / d log(penalty[s5])`, `d w along all_up`, `d first / d penalty`, `d2 loss / d a[0] d b[1]`."""
    above = of or product.of or product.name
    if product.kind in ("jvp", "jvp_left", "jvp_right", "hessian_along"):
        word, side = ("d2", "") if product.kind == "hessian_along" else ("d", product.kind.removeprefix("jvp").strip("_"))
        return f"{word} {above} along {wrt or product.name}{f', {side}' if side else ''}"
    if product.kind == "hessian":
        return f"d2 {above} / d {(wrt or product.wrt).replace(' and ', ' d ')}"
    return f"d {above} / d {wrt or product.wrt}"


def plus_minus(console: Console) -> str:
    """What stands before a bound."""
    return "±" if encodes(console, "±") else "+/-"


def encodes(console: Console, letters: str) -> bool:
    """Whether the output has these letters."""
    try:
        letters.encode(console.encoding)
    except UnicodeEncodeError:
        return False
    return True
