"""`implicit problems`: list the installed problems, show one, begin one, or see whether one keeps the contract."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from implicit_cli.cli import console
from implicit_cli.cli.options import AllowPaths, AllowPlugin, Device, Json, Overrides, Plugins, Quiet, Verbose
from implicit_cli.cli.run import refuse_both

if TYPE_CHECKING:
    from implicit_cli.api import ConformanceReport
    from implicit_cli.plugins import ProblemDescription, QuantityRow

app = typer.Typer(rich_markup_mode=None)
Name = Annotated[str, typer.Argument(metavar="NAME", help="An installed name, or './file.py:Class'.", show_default=False)]

NewName = Annotated[
    str, typer.Argument(metavar="NAME", help="Name of the file and, in camel case, of the class.", show_default=False)
]
Folder = Annotated[Path, typer.Option("--folder", metavar="DIR", help="Where to write; made where it does not exist.")]
Kind = Annotated[
    str, typer.Option("--kind", metavar="KIND", help="stationary, root, fixed_point, proximal_gradient or kkt: the condition.")
]
Package = Annotated[bool, typer.Option("--package", help="Also write a pyproject.toml, so that pip installs it under its name.")]
TriedOn = Annotated[
    Path | None, typer.Option("--spec", metavar="SPEC", help="Spec to try it on. Default: the problem's own example.")
]


@app.callback(invoke_without_command=True)
def listing(context: typer.Context, json: Json = False) -> None:
    """List the installed problems; `show NAME` describes one."""
    if context.invoked_subcommand is not None:
        return
    from implicit_cli import api

    entries = api.problems()
    if json:
        console.write_json([asdict(entry) for entry in entries])
        return
    console.table([(entry.name, entry.distribution, entry.summary) for entry in entries], ("name", "from", "summary"))


@app.command("show")
def show(name: Name, allow_plugin: AllowPlugin = False, plugins: Plugins = None, json: Json = False) -> None:
    """Show one problem's quantities and example spec.

    Prints every parameter, datum, unknown, output and option with its shape, unit, bounds, default and meaning.
    """
    from implicit_cli import api

    description = api.describe_problem(name, allow_plugin=allow_plugin, plugins=tuple(plugins or ()))
    if json:
        console.write_json(asdict(description))
    else:
        _print(description)


@app.command("new")
def new(name: NewName, kind: Kind = "stationary", folder: Folder = Path(), package: Package = False, quiet: Quiet = False) -> None:
    """Begin a problem of your own.

    Writes NAME.py, a problem that runs as it is and is to be changed into yours, NAME.yaml, a spec for it, and test_NAME.py, which
    tries it for the contract of all problems. No file is overwritten.
    """
    from implicit_cli import api

    for path in api.new_problem(name, folder, kind=kind, package=package):
        if not quiet:
            console.say(f"wrote {path}")


@app.command("check")
def check(
    name: Name,
    spec: TriedOn = None,
    overrides: Overrides = None,
    device: Device = None,
    allow_plugin: AllowPlugin = False,
    plugins: Plugins = None,
    allow_paths: AllowPaths = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Try whether a problem keeps the contract.

    Solves its example, or SPEC, and tries: documentation, shapes and dtypes, the same numbers each time, compiled and for many x at
    once, what it declares of its Jacobian, and every derivative against solutions nearby. Exit code 1 where something is violated.
    """
    refuse_both(quiet, verbose)
    from implicit_cli import api

    with console.observer(quiet=quiet, verbose=verbose) as observer:
        report = api.check_problem(
            name,
            spec=spec,
            overrides=tuple(overrides or ()),
            device=device,
            allow_plugin=allow_plugin,
            plugins=tuple(plugins or ()),
            allow_paths=tuple(allow_paths or ()),
            observer=observer,
        )
    if json:
        console.write_json(asdict(report))
    else:
        _print_report(report)
    return report.exit_code


def _print_report(report: ConformanceReport) -> None:
    rows = [(trait.name, trait.verdict.replace("_", " "), trait.note) for trait in report.traits]
    console.table(rows, ("trait", "verdict", "found"))


def _print(description: ProblemDescription) -> None:
    console.line(description.name)
    if description.doc:
        console.line()
        console.line(description.doc)
    if description.quantities:
        console.line()
        header = ("kind", "name", "shape", "unit", "allowed", "default", "meaning")
        console.table([_cells(row) for row in description.quantities], header)
    if description.example:
        console.line()
        console.line("example spec:")
        console.line()
        for line in description.example.splitlines():
            console.line(f"    {line}".rstrip())


def _cells(row: QuantityRow) -> tuple[str, ...]:
    shape = "scalar" if not row.shape else " x ".join(map(str, row.shape))
    default = "" if row.default is None else str(row.default)
    return row.kind, row.name, "" if row.kind == "option" else shape, row.unit, _allowed(row), default, row.doc


def _allowed(row: QuantityRow) -> str:
    """`0 to 1`, `>= 0`, `<= 1`, `fixed | free`, or nothing."""
    if row.choices is not None:
        return " | ".join(map(str, row.choices))
    low, high = row.bounds
    if low is None:
        return "" if high is None else f"<= {high:g}"
    return f">= {low:g}" if high is None else f"{low:g} to {high:g}"
