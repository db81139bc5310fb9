"""The use cases that only look: at results, at the spec's form, at this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from implicit_cli.api.reports import ExportReport

if TYPE_CHECKING:
    from implicit_cli.analysis import Comparison
    from implicit_cli.store import Overview, Summary


def show(result: Path, *, case: str | None = None) -> Summary:
    """What is in a result file, or what of it belongs to one case."""
    from implicit_cli import store

    return store.read_summary(result, case=case)


def overview(result: Path) -> Overview:
    """The cases of a result file at a glance."""
    from implicit_cli import store

    return store.read_overview(result)


def compare(a: Path, b: Path, *, case: str | None = None, rtol: float | None = None, top: int = 5) -> Comparison:
    """Two result files, judged by the bounds of both; what has none by `rtol` where one is given. `top` entries of what differs.

    `case` picks one of several. Raises InputError for what is no result, and for files that have no case or no quantity in common.
    """
    from implicit_cli import analysis, store

    with store.opened_arrays(a) as first, store.opened_arrays(b) as second:
        return analysis.compare(first, second, case=case, rtol=rtol, top=top)


def export(result: Path, output: Path, *, case: str | None = None, wrap: bool = False) -> ExportReport:
    """Write the particles of one case as H5MD or extxyz, as the name of `output` says; `wrap` moves them into the cell.

    Raises InputError for another name, for what is no result, and for one without positions; EnvironmentProblem for an output that
    cannot be written.
    """
    from implicit_cli import store
    from implicit_cli.structures import export as formats

    kind = formats.check_format(output)
    store.check_output(output, [result])
    stored = store.read_stored(result, case)
    with store.opened_arrays(result) as arrays:
        seen = formats.snapshot(stored, arrays, wrap=wrap)
    store.replace_file(output, formats.h5md(seen) if kind == "H5MD" else formats.extxyz(seen))
    return ExportReport(output, len(seen.structure.position), len(seen.vectors), seen.warnings)


def schema() -> dict[str, Any]:
    """JSON Schema of the spec."""
    from implicit_cli import spec

    return spec.json_schema()


def info(device: str | None = None) -> tuple[tuple[str, str], ...]:
    """Versions, devices, caches, and the outcome of the numerical canary, as label and value."""
    from implicit_cli import runtime

    runtime.configure(device)
    return runtime.facts()
