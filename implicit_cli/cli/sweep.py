"""`implicit sweep`: plan a job array, compute a shard of it, see how far it is, submit what is missing, merge what is done."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from implicit_cli.cli import console
from implicit_cli.cli.options import AllowPaths, AllowPlugin, Device, Json, Overrides, Plugins, Quiet, Spec, Verbose
from implicit_cli.cli.run import Output, refuse_both, tally
from implicit_cli.cli.signals import Signals
from implicit_cli.errors import Interrupted

if TYPE_CHECKING:
    from implicit_cli.api import SweepStatus

app = typer.Typer(rich_markup_mode=None, no_args_is_help=True)
Planned = Annotated[Path, typer.Argument(metavar="OUT", help="The result file that was planned.", show_default=False)]
TOLD = 20
"""Shards that are told one by one, at most."""


@app.callback()
def sweep() -> None:
    """Sweeps as job arrays: plan, submit, look, merge."""


@app.command(short_help="Divide a sweep into shards; write the script.")
def plan(
    spec: Spec,
    output: Output,
    overrides: Overrides = None,
    shards: Annotated[int | None, typer.Option("--shards", metavar="N", help="Tasks of the array. Default: by --hours.")] = None,
    hours: Annotated[float, typer.Option("--hours", metavar="H", min=0.01, help="Hours that a task takes, about.")] = 1.0,
    directives: Annotated[
        list[str] | None, typer.Option("--sbatch", metavar="OPTION", help="An option of sbatch for the script. May be repeated.")
    ] = None,
    device: Device = None,
    allow_plugin: AllowPlugin = False,
    plugins: Plugins = None,
    allow_paths: AllowPaths = None,
    quiet: Quiet = False,
) -> int:
    """Divide a sweep into shards, time some cases, write the script of a job array.

    The script is OUT.sbatch, for Slurm; the cases that are timed are kept. `implicit sweep submit OUT` submits it.
    """
    from implicit_cli import api

    with console.observer(quiet=quiet, verbose=False) as observer:
        report = api.plan_sweep(
            spec,
            output,
            overrides=tuple(overrides or ()),
            device=device,
            allow_plugin=allow_plugin,
            plugins=tuple(plugins or ()),
            allow_paths=tuple(allow_paths or ()),
            shards=shards,
            hours=hours,
            directives=tuple(directives or ()),
            observer=observer,
        )
    if not quiet:
        each = f"{console.span(report.each)} each" if report.each else "nothing left to time"
        console.say(f"{report.cases} cases, {report.done} of them done; {each}")
        long = console.span(max(report.seconds, 1.0))
        console.say(f"wrote {report.script}: {report.shards} {_shards(report.shards)}, about {long} each")
    return 0


@app.command(short_help="Compute one shard.")
def worker(
    output: Planned,
    shard: Annotated[int, typer.Option("--shard", metavar="I", min=1, help="Which shard to compute.")],
    requeue: Annotated[bool, typer.Option("--requeue", help="When a signal ends it, ask Slurm to start this task again.")] = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Compute one shard of a planned sweep: what a task of the array runs.

    SIGTERM, SIGUSR1 and Ctrl-C end it when the case in hand is done and all is saved; it goes on from there when started again.
    """
    refuse_both(quiet, verbose)
    from implicit_cli import api

    with (
        console.observer(quiet=quiet, verbose=verbose) as observer,
        Signals("this case") as signals,  # also before anything is computed: a task may be stopped at any time
    ):
        try:
            report = api.work_on(output, shard, observer=observer, stopped=signals.stopped)
        except Interrupted as stop:
            console.say(str(stop))
            if requeue:
                api.requeue()
            return signals.exit_code
    if not quiet:
        console.say(f"shard {shard}: {tally(report)}, {report.seconds:.1f} s")
    return report.exit_code


@app.command(short_help="How far a planned sweep is.")
def status(output: Planned, json: Json = False) -> int:
    """How far a planned sweep is, and what submits the rest; reads files alone.

    Exit code 0 where all cases are done and good, else 1.
    """
    from implicit_cli import api

    found = api.sweep_status(output)
    if json:
        totals = {name: found.total(name) for name in ("cases", "done", "failed", "missing")}
        lines = [{**asdict(line), "missing": line.missing} for line in found.shards]
        console.write_json({"path": str(output), **totals, "resubmit": found.command or None, "shards": lines})
    else:
        _print(found)
    return found.exit_code


@app.command(short_help="Submit what is missing to Slurm.")
def submit(output: Planned) -> int:
    """Submit the shards that have missing cases to Slurm; prints the number of the job."""
    from implicit_cli import api

    job, shards = api.submit_sweep(output)
    console.line(job)
    console.say(f"submitted {len(shards)} {_shards(len(shards))} as job {job}")
    return 0


@app.command(short_help="Write OUT from all finished cases.")
def merge(
    output: Planned,
    partial: Annotated[bool, typer.Option("--partial", help="Write OUT though cases are missing; the parts stay.")] = False,
    quiet: Quiet = False,
) -> int:
    """Write OUT from all finished cases; every part's hash is verified. Refused where cases are missing."""
    from implicit_cli import api

    report = api.merge_sweep(output, partial=partial)
    if not quiet:
        counts = ", ".join(f"{count} {label}" for label, count in report.statuses.items())
        missing = f"; {report.missing} missing" if report.missing else ""
        console.say(f"wrote {report.path}: {report.cases} cases, {counts}{missing}")
    return report.exit_code


def _print(found: SweepStatus) -> None:
    open_ = [line for line in found.shards if line.missing or line.failed]
    told = open_[:TOLD]
    if told:
        rows = [(str(line.shard), *(f"{n:,}" for n in (line.cases, line.done, line.failed, line.missing))) for line in told]
        console.table(rows, ("shard", "cases", "done", "failed", "missing"))
    if len(open_) > len(told):
        console.line(f"and {len(open_) - len(told)} more")
    done, failed = found.total("done"), found.total("failed")
    failures = f", {failed:,} of them failed" if failed else ""
    text = f"{len(found.shards)} {_shards(len(found.shards))}, {found.total('cases'):,} cases: {done:,} done{failures}"
    console.line(f"{text}, {found.total('missing'):,} missing" if found.command else f"{text}, none missing")
    if found.command:
        console.line(f"to submit what is missing: {found.command}")
    else:
        console.line(f"to write the result: implicit sweep merge {found.path}")


def _shards(count: int) -> str:
    return "shard" if count == 1 else "shards"
