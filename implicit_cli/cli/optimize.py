"""`implicit optimize`: minimise or maximise an output over the parameters, and write the case at the optimum."""

from __future__ import annotations

from typing import TYPE_CHECKING

from implicit_cli.cli import console
from implicit_cli.cli.options import AllowPaths, AllowPlugin, Device, Overrides, Plugins, Quiet, Spec, Verbose
from implicit_cli.cli.run import Output, refuse_both
from implicit_cli.cli.signals import Signals
from implicit_cli.errors import Interrupted

if TYPE_CHECKING:
    from implicit_cli.api import SweepProgress


def optimize(
    spec: Spec,
    output: Output,
    overrides: Overrides = None,
    device: Device = None,
    allow_plugin: AllowPlugin = False,
    plugins: Plugins = None,
    allow_paths: AllowPaths = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Minimise or maximise over parameters; write OUT.

    The section `outer` of SPEC says what, over which parameters, and how; gradients go through the solution, each with a bound. OUT
    holds what a run at the optimum would, and the way there in `/outer`. After a kill the same command goes on from OUT.outer.
    """
    refuse_both(quiet, verbose)
    from implicit_cli import api

    with console.observer(quiet=quiet, verbose=verbose) as observer, Signals("this evaluation") as signals:
        try:
            report = api.optimize(
                spec,
                output,
                overrides=tuple(overrides or ()),
                device=device,
                allow_plugin=allow_plugin,
                plugins=tuple(plugins or ()),
                allow_paths=tuple(allow_paths or ()),
                observer=observer,
                inner=observer if verbose else _Inner(observer),
                stopped=signals.stopped,
            )
        except Interrupted as stop:
            console.say(str(stop))
            return signals.exit_code
    if not quiet:
        counts = f"{report.steps} steps, {report.evaluations} evaluations"
        console.say(f"{report.name} {report.first:.8g} -> {report.last:.8g} in {counts}; {report.reason}")
        console.say(f"wrote {report.path}: 1 case, {report.case.status.label}, {report.seconds:.1f} s")
    elif not report.converged:
        console.say(f"not converged: {report.reason}")
    if report.case.message:
        console.say(f"case {report.case.id}: {report.case.status.label}: {report.case.message}")
    if report.checkpoint is not None and not quiet:
        console.say(f"kept {report.checkpoint}: the same command with a larger outer.max_steps goes on from there")
    return report.exit_code


class _Inner:
    """Passes on how far an inner solve is, for the bar, and not what begins in it: that would hide the outer steps."""

    def __init__(self, observer: console.Observing) -> None:
        self._observer = observer

    def stage(self, text: str) -> None:
        pass

    def progress(self, step: int, residual: float, tol: float) -> None:
        self._observer.progress(step, residual, tol)

    def chunk(self, done: int, total: int) -> None:
        self._observer.chunk(done, total)

    def sweep(self, progress: SweepProgress) -> None:
        pass
