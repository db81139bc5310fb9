"""`implicit predict`: outputs at other parameters, from solved cases and their derivatives."""

from __future__ import annotations

import json as format_
import math
from typing import Annotated

import typer

from implicit_cli.cli import console, tables
from implicit_cli.cli.analyze import Of, document, render
from implicit_cli.cli.options import Json
from implicit_cli.cli.products import Result
from implicit_cli.errors import InputError

Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="INPUT=VALUE", help="Value of a parameter, or of an entry: k[2]=0.3. May be repeated."),
]
Case = Annotated[str | None, typer.Option("--case", metavar="ID", help="Predict from this case alone. Default: the nearest.")]
Order = Annotated[
    str, typer.Option("--order", metavar="ORDER", help="first, second or hermite. Default: the best that RESULT allows.")
]


def predict(result: Result, values: Set = None, of: Of = None, case: Case = None, order: Order = "", json: Json = False) -> int:
    """Outputs at other values of parameters; nothing is solved.

    From one case by Taylor's formula, to second order where it has a hessian; between the cases of a sweep by Hermite
    interpolation. With how far error bounds move the prediction, and an estimate of what curvature does.
    """
    from implicit_cli import api

    if not values:
        raise InputError("--set: missing, allowed: INPUT=VALUE")
    report = api.predict(result, dict(map(_value, values)), of=tuple(of or ()), case=case, order=order)
    if json:
        console.write_json(document(report.findings[0]))
    else:
        tables.printed(lambda to: render(report, to))
    return 0


def _value(text: str) -> tuple[str, float | list[float]]:
    name, _, written = text.partition("=")
    try:
        value = format_.loads(written)
    except ValueError:
        value = None
    numbers = value if isinstance(value, list) else [value]
    if not name or not numbers or not all(type(one) in (int, float) and math.isfinite(one) for one in numbers):
        raise InputError(f"--set: found '{text}', allowed: INPUT=VALUE with a finite number, or a list of them")
    return name.strip(), value
