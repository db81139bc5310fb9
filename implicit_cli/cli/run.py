"""`implicit run`: solve, differentiate, certify, and write one result file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from implicit_cli.cli import console
from implicit_cli.cli.options import AllowPaths, AllowPlugin, Device, Overrides, Plugins, Quiet, Spec, Verbose
from implicit_cli.cli.signals import Signals
from implicit_cli.errors import InputError, Interrupted

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
    allow_paths: AllowPaths = None,
    shard: Annotated[
        str | None,
        typer.Option("--shard", metavar="I/N", help="Of a sweep, compute part I of N only; without it, OUT is made of all parts."),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option("--jobs", min=1, metavar="N", help="Of a sweep, compute cases in N processes; with --cluster, in N jobs."),
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option("--cluster", metavar="NAME", help="The N jobs are those of slurm, pbs, sge, lsf, oar or htcondor."),
    ] = None,
    json_lines: Annotated[
        bool, typer.Option("--json-lines", help="Print progress and outcome on standard output, a JSON object a line.")
    ] = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Solve, differentiate, certify; write OUT.

    The solution, the derivatives that the spec asks for and an error bound on each go to one HDF5 file, which appears whole or
    not at all. The cases of a sweep are saved in OUT.parts as they come, a large Jacobian in OUT.blocks: after a kill the same
    command goes on from there.
    """
    refuse_both(quiet, verbose)
    from implicit_cli import api

    lines = console.JsonLines()
    with (
        lines if json_lines else console.observer(quiet=quiet, verbose=verbose) as observer,
        Signals("what is in hand", at_once=False) as signals,
    ):
        try:
            report = api.run(
                spec,
                output,
                overrides=tuple(overrides or ()),
                device=device,
                allow_plugin=allow_plugin,
                plugins=tuple(plugins or ()),
                allow_paths=tuple(allow_paths or ()),
                observer=observer,
                stopped=signals.stopped,
                shard=shard,
                jobs=jobs,
                cluster=cluster,
            )
        except Interrupted as stop:
            console.say(str(stop))
            if json_lines:
                lines.event("interrupted", text=str(stop))
            return signals.exit_code
    if json_lines:
        counts = {status.label: count for status, count in sorted(report.counts.items())}
        branch = {"branch": report.branch, "folds": report.folds} if report.branch else {}
        lines.event("done", path=report.path, statuses=counts, seconds=report.seconds, exit_code=report.exit_code, **branch)
    elif not quiet:
        console.say(f"wrote {report.path}: {tally(report)}, {report.seconds:.1f} s")
        if report.branch:
            console.say(report.branch)
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
    total = sum(report.counts.values())
    if total == 1:
        return f"1 case, {next(iter(report.counts)).label}"
    return ", ".join([f"{total} cases", *(f"{count} {status.label}" for status, count in sorted(report.counts.items()))])
