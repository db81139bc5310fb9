"""`implicit jvp` and `implicit vjp`: more derivatives at a solution that a result file holds, without solving again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from implicit_cli.cli import console, tables
from implicit_cli.cli.options import AllowPlugin, Device, Json, Plugins, Quiet, Verbose
from implicit_cli.cli.run import refuse_both
from implicit_cli.cli.show import render_products

_FORMS = "NAME:{0}=VALUE, a YAML file {{NAME: {{{0}: VALUE}}}}, or an HDF5 group file.h5:/group. May be repeated."

Result = Annotated[Path, typer.Argument(metavar="RESULT", help="Result file, as `implicit run` writes it.", show_default=False)]
Direction = Annotated[
    list[str],
    typer.Option(
        "-d",
        "--direction",
        metavar="PARAMETER=VALUE",
        help=f"Part of a direction. Also {_FORMS.format('PARAMETER')}",
        show_default=False,
    ),
]
Cotangent = Annotated[
    list[str],
    typer.Option(
        "-c",
        "--cotangent",
        metavar="QUANTITY=VALUE",
        help=f"Part of a cotangent. Also {_FORMS.format('QUANTITY')}",
        show_default=False,
    ),
]
Of = Annotated[
    list[str] | None,
    typer.Option("--of", metavar="NAME", help="Unknown or output to differentiate. Default: those of the run. May be repeated."),
]
Wrt = Annotated[
    list[str] | None,
    typer.Option("--wrt", metavar="NAME", help="Parameter to differentiate to. Default: those of the run. May be repeated."),
]
Output = Annotated[
    Path | None,
    typer.Option("-o", "--output", metavar="OUT", help="Result file (HDF5) for these products. Replaced where it exists."),
]
Case = Annotated[str | None, typer.Option("--case", metavar="ID", help="Case of the result. Default: the only one.")]


def jvp(
    result: Result,
    direction: Direction,
    of: Of = None,
    output: Output = None,
    case: Case = None,
    device: Device = None,
    allow_plugin: AllowPlugin = False,
    plugins: Plugins = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Derivatives along directions of the parameters, at the solution in RESULT; nothing is solved again.

    Prints them with their bounds, and with -o writes them to a result file of their own. Parts without a name make one direction.
    """
    options = {"of": tuple(of or ()), "output": output, "case": case, "device": device, "allow_plugin": allow_plugin}
    return _products("jvp", result, direction, plugins, options, json=json, quiet=quiet, verbose=verbose)


def vjp(
    result: Result,
    cotangent: Cotangent,
    wrt: Wrt = None,
    output: Output = None,
    case: Case = None,
    device: Device = None,
    allow_plugin: AllowPlugin = False,
    plugins: Plugins = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Derivatives of cotangents on unknowns and outputs, at the solution in RESULT; nothing is solved again.

    Prints them with their bounds, and with -o writes them to a result file of their own. Parts without a name make one cotangent.
    """
    options = {"wrt": tuple(wrt or ()), "output": output, "case": case, "device": device, "allow_plugin": allow_plugin}
    return _products("vjp", result, cotangent, plugins, options, json=json, quiet=quiet, verbose=verbose)


def _products(
    kind: str,
    result: Path,
    directions: Sequence[str],
    plugins: Sequence[Path] | None,
    options: dict[str, Any],
    *,
    json: bool,
    quiet: bool,
    verbose: bool,
) -> int:
    refuse_both(quiet, verbose)
    from implicit_cli import api

    with console.observer(quiet=quiet, verbose=verbose) as observer:
        report = api.products(kind, result, directions, plugins=tuple(plugins or ()), observer=observer, **options)
    for warning in report.warnings:
        console.say(f"warning: {warning}")
    if json:
        console.write_json(report.summary.asdict())
    else:
        tables.printed(lambda where: render_products(report.summary, where))
    if not quiet and report.path is not None:
        console.say(f"wrote {report.path}, {report.seconds:.1f} s")
    return report.exit_code
