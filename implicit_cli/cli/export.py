"""`implicit export`: the particles of a result, in a format that viewers open."""

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
        "-o", "--output", metavar="FILE", help="H5MD (.h5md, .h5) or extxyz (.extxyz, .xyz) file. Replaced where it exists."
    ),
]
Wrap = Annotated[bool, typer.Option("--wrap", help="Move positions into the cell along its periodic vectors.")]


def export(result: Result, output: Output, case: Case = None, wrap: Wrap = False, quiet: Quiet = False) -> int:
    """Write the particles of RESULT as H5MD or extxyz.

    Relaxed positions, cell and species go out, and each derivative of the positions as a vector for each particle.
    """
    from implicit_cli import api

    report = api.export(result, output, case=case, wrap=wrap)
    for warning in report.warnings:
        console.say(f"warning: {warning}")
    if not quiet:
        vectors = f"{report.vectors} vector{'s' * (report.vectors != 1)} for each"
        console.say(f"wrote {report.path}: {report.particles} particles, {vectors}")
    return 0
