"""The command line: words in, exit codes out.

One module per command; each imports what it needs only when it runs, so that `--help` and a refusal are quick.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from implicit_cli import __version__
from implicit_cli.cli import (
    analyze,
    check,
    compare,
    console,
    convert,
    info,
    optimize,
    plot,
    predict,
    problems,
    products,
    replay,
    run,
    schema,
    show,
    sweep,
    verify,
)

EPILOG = (
    "Exit codes: 0 all good; 1 finished, but a case failed or missed its accuracy; 2 the input is wrong; "
    "3 the machine lacks something; 70 a fault of implicit; 75 and 130 interrupted."
)

app = typer.Typer(
    name="implicit",
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=EPILOG,
)
app.command("run")(run.run)
app.add_typer(sweep.app, name="sweep")
app.command("check")(check.check)
app.command("optimize", short_help="Minimise an output over parameters; write OUT.")(optimize.optimize)
app.command("show", short_help="Show what is in a result file.")(show.show)
app.command("jvp", short_help="Derivatives along directions, at a stored solution.")(products.jvp)
app.command("vjp", short_help="Derivatives of cotangents, at a stored solution.")(products.vjp)
app.command("analyze", short_help="Which parameters matter, and how uncertain outputs are.")(analyze.analyze)
app.command("plot", short_help="Draw a figure of a result.")(plot.plot)
app.command("report", short_help="Write a page with all that a result says.")(plot.report)
app.command("predict", short_help="Outputs at other parameters, from the cases of a result.")(predict.predict)
app.command("replay", short_help="Run again what a result was made from, and compare.")(replay.replay)
app.command("compare", short_help="Compare two results within their bounds.")(compare.compare)
app.command("convert", short_help="Write a result in a format of other programs.")(convert.convert)
app.command("verify", short_help="Check derivatives by solving again nearby.")(verify.verify)
app.add_typer(problems.app, name="problems")
app.command("schema")(schema.schema)
app.command("info")(info.info)


def _version(asked: bool) -> None:
    if asked:
        console.line(f"implicit {__version__}")
        raise typer.Exit


Version = Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")]


@app.callback()
def implicit(version: Version = False) -> None:
    """Sensitivities of anything that is solved, each with an error bound."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line with `arguments` (sys.argv where None) and return its exit code; never raises for a user's mistake."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    console.open_streams()
    try:
        code = _invoke(given or ["--help"])
        console.flush()
    except BaseException as error:
        code = console.answer(error)
    console.let_go()
    return code


def _invoke(arguments: list[str]) -> int:
    command = typer.main.get_command(app)
    if "_IMPLICIT_COMPLETE" in os.environ:  # the shell asks for completions, and takes what is printed
        command.main(arguments, prog_name="implicit")
    try:
        # Not `command.main`: it has exit codes and messages of its own for broken pipes, interrupts and wrong usage.
        with command.make_context("implicit", arguments) as context:
            code = command.invoke(context)
    except typer.Exit as done:
        code = done.exit_code
    return int(code or 0)
