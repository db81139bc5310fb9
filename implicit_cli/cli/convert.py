"""`implicit convert`: a result for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from implicit_cli.cli import console
from implicit_cli.cli.options import Quiet
from implicit_cli.cli.products import Case, Result

Output = Annotated[
    Path,
    typer.Option(
        "-o",
        "--output",
        metavar="FILE",
        help="The name tells the format: .csv, .parquet, .nc, .mat; particles: .extxyz, .xyz, .h5md, .h5. Replaced if it exists.",
    ),
]
Of = Annotated[
    list[str] | None, typer.Option("--of", metavar="NAME", help="In a table: this unknown or output only. May be repeated.")
]
Wrap = Annotated[bool, typer.Option("--wrap", help="Particles: move positions into the cell along its periodic vectors.")]


def convert(result: Result, output: Output, case: Case = None, of: Of = None, wrap: Wrap = False, quiet: Quiet = False) -> int:
    """Write RESULT in a format of other programs.

    A table with a row for each case (CSV, Parquet), the whole of it (netCDF, MATLAB), or the particles of a case with each
    derivative of the positions as a vector (extxyz, H5MD).
    """
    from implicit_cli import api

    report = api.convert(result, output, case=case, of=tuple(of or ()), wrap=wrap)
    for warning in report.warnings:
        console.say(f"warning: {warning}")
    if not quiet:
        console.say(f"wrote {report.path}{f': {report.content}' if report.content else ''}")
    return 0
