"""`implicit info`: versions, devices, cache, whether compiled numbers are right, and a report of a fault."""

from __future__ import annotations

from typing import Annotated

import typer

from implicit_cli.cli import console, fault
from implicit_cli.cli.options import Device

Report = Annotated[
    bool,
    typer.Option(
        "--bug-report",
        help="Print what a report of a fault needs: more versions, the machine, and the last fault. It holds no data.",
    ),
]


def info(device: Device = None, bug_report: Report = False) -> None:
    """Print versions and devices; check the arithmetic.

    The check compiles two small programs whose exact results are known; it fails on versions of JAX that compute wrong numbers.
    """
    from implicit_cli import api

    console.rows(api.info(device, report=bug_report))
    if bug_report:
        console.line()
        for line in ["last fault:", *fault.last()] if fault.last() else ["no fault is known"]:
            console.line(line)
