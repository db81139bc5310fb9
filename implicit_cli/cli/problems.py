"""`implicit problems`: list the installed problems, or show one."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from implicit_cli.cli import console
from implicit_cli.cli.options import AllowPlugin, Json, Plugins

if TYPE_CHECKING:
    from implicit_cli.plugins import ProblemDescription, QuantityRow

app = typer.Typer(rich_markup_mode=None)
Name = Annotated[str, typer.Argument(metavar="NAME", help="An installed name, or './file.py:Class'.", show_default=False)]


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
