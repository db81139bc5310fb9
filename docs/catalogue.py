"""Writes docs/explanation/catalogue.md: what the catalogue has, with the errors of every derivative as measured here and now.

    python docs/catalogue.py

It takes a few minutes. Digits differ between machines; that every cell is filled and below 1e-7 is what the tests hold.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "explanation" / "catalogue.md"
LIMIT = 1e-7

HEAD = """\
# The catalogue

Every optimality mapping, projection and proximal operator that a problem can be made of, and how far its derivatives are from
the truth on this program's own test problems. Written by `python docs/catalogue.py`, which measures what it writes; float64, on
a CPU.

A problem's `condition()` returns one of the mappings; [Tutorial](../tutorial.md) shows how. In Python, they go into `custom_root`
and `implicit_jacobian` as they are: [Python](../python.md).

## Mappings

Each on a problem whose solution is known in closed form. The figures are the largest error relative to the largest entry:
derivatives of the closed form are the witness, and finite differences of roots that SciPy finds are another, whose own error is
what the last column shows.

"""

OPERATORS = """
## Projections and proximal operators

`from implicit_cli.core import projections, prox`. Each is a function of a point v and of the parameters of its set, all of which
may depend on theta, and has `margin(v, ...)`, the distance to its nearest kink. The witness is finite differences on a ladder of
steps; "parameters" are derivatives with respect to bounds, radii, right-hand sides and matrices; "-" is for those that have none.
The proximal operator of `weight * r` is argmin_x |x - v|^2 / 2 + weight r(x). At a kink the derivative is one of the one-sided
ones, as the docstring of the operator says, and never NaN.

"""


def table(first: str, columns: tuple[str, ...], rows: list[tuple[str, dict[str, float]]]) -> str:
    lines = [f"| {first} | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for name, errors in rows:
        cells = ["-" if math.isnan(errors[column]) and column == "parameters" else f"{errors[column]:.0e}" for column in columns]
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    sys.path.insert(0, str(ROOT / "benchmarks"))
    from implicit_cli import runtime

    runtime.configure("cpu")
    import catalogue_mappings
    import catalogue_operators

    mappings, operators = catalogue_mappings.rows(), catalogue_operators.rows()
    text = HEAD + table("mapping", catalogue_mappings.COLUMNS, mappings)
    text += OPERATORS + table("operator", catalogue_operators.COLUMNS, operators)
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(text)
    worst = max(value for _, errors in (*mappings, *operators) for value in errors.values() if not math.isnan(value))
    sys.stdout.write(f"{PAGE.relative_to(ROOT)}: {len(mappings)} mappings, {len(operators)} operators, largest error {worst:.1e}\n")
    return 0 if worst < LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
