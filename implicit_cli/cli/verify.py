"""`implicit verify`: an independent check of every derivative in a result, by solving again nearby."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from implicit_cli.cli import console, tables
from implicit_cli.cli.options import AllowPaths, AllowPlugin, Device, Json, Overrides, Plugins, Quiet, Verbose
from implicit_cli.cli.run import refuse_both
from implicit_cli.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from implicit_cli.api import CaseVerdict, Finding, VerifyReport
    from implicit_cli.api import Integrity as FileIntegrity

_COLOURS: dict[str, str] = {"holds": "green", "violated": "red", "not_decided": "yellow"}

Source = Annotated[
    str, typer.Argument(metavar="SPEC|RESULT", help="Result file, or a spec in YAML, which is run first.", show_default=False)
]
Directions = Annotated[
    int, typer.Option("--directions", metavar="N", min=1, help="Random directions of each parameter that has more components.")
]
Full = Annotated[bool, typer.Option("--full", help="Every column of every product instead.")]
Of = Annotated[
    list[str] | None, typer.Option("--of", metavar="NAME", help="Only derivatives of this unknown or output. May be repeated.")
]
Wrt = Annotated[
    list[str] | None, typer.Option("--wrt", metavar="NAME", help="Only derivatives with respect to this. May be repeated.")
]
Case = Annotated[str | None, typer.Option("--case", metavar="ID", help="Case of the result. Default: all.")]
Output = Annotated[
    Path | None,
    typer.Option("-o", "--output", metavar="OUT", help="Result file (HDF5) with the findings added. Replaced where it exists."),
]
InPlace = Annotated[bool, typer.Option("--in-place", help="Put the findings into RESULT itself.")]
Integrity = Annotated[
    bool, typer.Option("--integrity", help="Of a result file, check only that every bit is as it was written; solve nothing.")
]


def verify(
    result: Source,
    directions: Directions = 3,
    full: Full = False,
    of: Of = None,
    wrt: Wrt = None,
    case: Case = None,
    output: Output = None,
    in_place: InPlace = False,
    integrity: Integrity = False,
    overrides: Overrides = None,
    device: Device = None,
    allow_plugin: AllowPlugin = False,
    plugins: Plugins = None,
    allow_paths: AllowPaths = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Check derivatives by solving again nearby.

    A witness that does not use the implicit function theorem holds every stored derivative against its stored bound: differences of
    solutions, Taylor remainders, differences of F, forward against adjoint solves. Exit code 1 where a bound is violated.
    """
    refuse_both(quiet, verbose)
    from implicit_cli import api

    if integrity:
        if full or of or wrt or case or output or in_place or overrides:
            raise InputError("--integrity: found with other options of a check, allowed: alone, with a result file")
        _render_integrity(api.integrity(Path(result)), json=json)
        return 0

    with console.observer(quiet=quiet, verbose=verbose) as observer:
        report = api.verify(
            result,
            directions=directions,
            full=full,
            of=tuple(of or ()),
            wrt=tuple(wrt or ()),
            case=case,
            output=output,
            in_place=in_place,
            overrides=tuple(overrides or ()),
            device=device,
            allow_plugin=allow_plugin,
            plugins=tuple(plugins or ()),
            allow_paths=tuple(allow_paths or ()),
            observer=observer,
        )
    for warning in report.warnings:
        console.say(f"warning: {warning}")
    if json:
        console.write_json(report.asdict())
    else:
        tables.printed(lambda where: render(report, where))
    if not quiet and report.path is not None:
        console.say(f"wrote {report.path}, {report.seconds:.1f} s")
    return report.exit_code


def _render_integrity(found: FileIntegrity, *, json: bool) -> None:
    if json:
        told = {"sha256": found.sha256, "groups": found.groups, "datasets": found.datasets, "size": found.size}
        console.write_json({"file": str(found.path), "whole": True, **told})
        return
    groups = f"{found.groups} as they were signed" if found.groups else "not signed one by one: written by an earlier version"
    rows = (
        ("file", f"{found.path}, {found.size / 1e6:.2f} MB"),
        ("SHA-256", f"{found.sha256}, holds"),
        ("groups", groups),
        ("datasets", f"{found.datasets} read, no checksum fails"),
    )
    console.rows(rows)


def render(report: VerifyReport, where: Console) -> None:
    """Print the verdicts to a console: each case with its solution, a row for each product, and what is to be said of some."""
    for case in report.verification.cases:
        where.print(tables.text(f"{report.problem}, case {case.id}: ", "bold") + tables.text(_told(case), _COLOURS[case.verdict]))
        where.print(tables.text(f"status {case.status}; {_solution(case)}", "dim"))
        if (largest := _largest(case)) == largest:
            where.print(tables.text(f"largest difference from the witness: {tables.upward(largest)} relative", "dim"))
        if case.note:
            where.print(tables.text(case.note, "yellow" if case.verdict == "not_decided" else "red"))
        if case.findings:
            _products(case, where)


def _told(case: CaseVerdict) -> str:
    """`violated: 1 violated, 3 hold`, `not decided: 4 not decided`."""
    counts = Counter(str(finding.verdict) for finding in case.findings)
    words = {"violated": "violated", "holds": "hold" if counts["holds"] > 1 else "holds", "not_decided": "not decided"}
    parts = [f"{counts[verdict]} {word}" for verdict, word in words.items() if counts[verdict]]
    return f"{case.verdict.replace('_', ' ')}{': ' if parts else ''}{', '.join(parts)}"


def _largest(case: CaseVerdict) -> float:
    """Largest difference of a product from a witness that agrees, relative to the witness; NaN where there is none."""
    ratios = [found.observed / found.size for found in case.findings if found.agrees and found.size > 0]
    return max(ratios, default=float("nan"))


def _solution(case: CaseVerdict) -> str:
    residual = f"max |F| = {tables.number(case.residual)}, tolerance {tables.number(case.tol)}"
    return f"{residual}; solved again, x moves by {tables.upward(case.moved)}, radius {tables.upward(case.radius)}"


def _products(case: CaseVerdict, where: Console) -> None:
    told = any(found.effectivity == found.effectivity for found in case.findings)
    ratio = ("ratio>",) if told else ()
    table = tables.table("product", "verdict", "error>", "bound>", *ratio, "witness>", "slope>", "residual>", "dot>")
    for found in case.findings:
        sharp = f"{found.effectivity:.2g}" if found.effectivity == found.effectivity else "-"
        cells = (
            tables.upward(found.observed),
            tables.upward(found.bound),
            *((sharp,) if told else ()),
            tables.upward(found.witness),
            f"{found.slope:.1f}" if found.slope == found.slope else "too few" if found.trials else "-",
            tables.upward(found.residual),
            tables.upward(found.dot),
        )
        table.add_row(tables.text(_name(found)), _verdict(found), *map(tables.text, cells))
    tables.section(where, "Products, each along its worst direction", table)
    notes = _notes(case.findings)
    if notes:
        tables.section(where, "Notes", *map(tables.text, notes))


def _name(found: Finding) -> str:
    return tables.derivative(found, wrt=found.wrt_label or found.wrt)


def _verdict(found: Finding) -> Text:
    return tables.text(found.verdict.replace("_", " "), _COLOURS[found.verdict])


def _notes(findings: Sequence[Finding]) -> list[str]:
    """What is said of products, once for all of which the same is said; then what was left out of each."""
    said: dict[str, list[str]] = {}
    for found in findings:
        if found.note:
            said.setdefault(found.note, []).append(_name(found) + (f" ({found.along})" if found.along else ""))
    lines = [f"{names[0] if len(names) == 1 else f'{len(names)} products'}: {note}" for note, names in said.items()]
    for found in findings:
        if found.left_out:
            entries = "entry" if found.left_out == 1 else "entries"
            lines.append(f"{_name(found)}: {found.left_out} {entries} without a derivative left out")
    return lines
