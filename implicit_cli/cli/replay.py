"""`implicit replay`: run again what a result was made from, and compare."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from implicit_cli.cli import console, tables
from implicit_cli.cli.compare import render
from implicit_cli.cli.options import AllowPaths, AllowPlugin, Device, Json, Plugins, Quiet, Verbose
from implicit_cli.cli.products import Result
from implicit_cli.cli.run import refuse_both

if TYPE_CHECKING:
    from rich.console import Console

    from implicit_cli.api import ReplayReport

Case = Annotated[str | None, typer.Option("--case", metavar="ID", help="Replay this case of a sweep alone.")]
Folder = Annotated[
    Path | None,
    typer.Option("--folder", metavar="DIR", help="Where files that the spec names are. Default: beside RESULT, then here."),
]
Output = Annotated[
    Path | None, typer.Option("-o", "--output", metavar="OUT", help="Keep the new result (HDF5) here. Replaced where it exists.")
]


def replay(
    result: Result,
    case: Case = None,
    folder: Folder = None,
    output: Output = None,
    device: Device = None,
    allow_plugin: AllowPlugin = False,
    plugins: Plugins = None,
    allow_paths: AllowPaths = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Run again what RESULT was made from, and compare by both files' bounds.

    Spec, data and parameters are those in RESULT. Data files that are still there are held against them, and one that has
    changed is named. Exit code 0: the answers agree; 1: they do not, or data have changed; 2: that cannot be told.
    """
    refuse_both(quiet, verbose)
    from implicit_cli import api

    with console.observer(quiet=quiet, verbose=verbose) as observer:
        report = api.replay(
            result,
            case=case,
            folder=folder,
            output=output,
            device=device,
            allow_plugin=allow_plugin,
            plugins=tuple(plugins or ()),
            allow_paths=tuple(allow_paths or ()),
            observer=observer,
        )
    if json:
        console.write_json({"changed": list(report.changed), **report.comparison.asdict()})
    else:
        tables.printed(lambda to: _render(report, to))
    if report.path is not None and not quiet:
        console.say(f"wrote {report.path}")
    return report.exit_code


def _render(report: ReplayReport, to: Console) -> None:
    render(report.comparison, to)
    for line in report.changed:
        to.print(tables.text(line, "red"), soft_wrap=True)
