"""`implicit run`: solve, differentiate, certify, and write one result file."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from implicit_cli.cli import console
from implicit_cli.cli.options import AllowPlugin, Device, Overrides, Plugins, Quiet, Spec, Verbose
from implicit_cli.errors import InputError

if TYPE_CHECKING:
    from implicit_cli.api import RunReport

Output = Annotated[Path, typer.Option("-o", "--output", metavar="OUT", help="Result file (HDF5). Replaced where it exists.")]


def run(
    spec: Spec,
    output: Output,
    overrides: Overrides = None,
    device: Device = None,
    allow_plugin: AllowPlugin = False,
    plugins: Plugins = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Solve, differentiate, certify; write OUT.

    The solution, the derivatives that the spec asks for and an error bound on each go to one HDF5 file, which appears whole or
    not at all.
    """
    refuse_both(quiet, verbose)
    from implicit_cli import api

    with console.observer(quiet=quiet, verbose=verbose) as observer:
        report = api.run(
            spec,
            output,
            overrides=tuple(overrides or ()),
            device=device,
            allow_plugin=allow_plugin,
            plugins=tuple(plugins or ()),
            observer=observer,
        )
    if not quiet:
        console.say(f"wrote {report.path}: {tally(report)}, {report.seconds:.1f} s")
    for case in report.cases:
        if case.message:
            console.say(f"case {case.id}: {case.status.label}: {case.message}")
    return report.exit_code


def refuse_both(quiet: bool, verbose: bool) -> None:
    """--quiet and --verbose contradict each other."""
    if quiet and verbose:
        raise InputError("--quiet: found with --verbose, allowed: one of the two")


def tally(report: RunReport) -> str:
    """`1 case, ok`, or `3 cases, 2 ok, 1 not_converged`."""
    counts = Counter(case.status.label for case in report.cases)
    if len(report.cases) == 1:
        return f"1 case, {next(iter(counts))}"
    return ", ".join([f"{len(report.cases)} cases", *(f"{count} {label}" for label, count in counts.items())])
