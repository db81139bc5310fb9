"""The use cases `plot` and `report`: a result as figures, one at a time or together on a page."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from implicit_cli.api.reports import DrawnReport
from implicit_cli.errors import InputError, listing, nearest

if TYPE_CHECKING:
    from implicit_cli.engine import Spectrum
    from implicit_cli.report.panels import Panel
    from implicit_cli.sample import Finding
    from implicit_cli.store import Material, StoredCase
    from implicit_cli.structures.export import Snapshot

MOST_MODES = 2000
"""Unknowns of a case whose eigenvalues are drawn: A is made dense for them."""


class _Allowed(NamedTuple):
    """Plug-ins that may be imported to compute something of a result: whatever it names, or these files."""

    any: bool
    plugins: Sequence[Path]


@dataclass(frozen=True)
class _Seen:
    """What there is to draw, and what was left out and why."""

    material: Material
    cases: int
    panels: list[Panel]
    findings: tuple[Finding, ...]
    left_out: tuple[str, ...]


def figures(result: Path, *, of: Sequence[str] = (), case: str | None = None) -> list[tuple[str, str]]:
    """Name and title of each figure that a result allows."""
    return [(panel.name, panel.title) for panel in _seen(result, of, case, _Allowed(False, ())).panels]


def plot(
    result: Path,
    name: str,
    output: Path,
    *,
    of: Sequence[str] = (),
    case: str | None = None,
    allow_plugin: bool = False,
    plugins: Sequence[Path] = (),
) -> DrawnReport:
    """Draw one figure of a result, as the name of `output` says: PNG, SVG or PDF.

    `name` is that of a figure, or how some begin, of which the first is drawn. Raises InputError for a name that is none, for
    another format, and for the spectrum of a plug-in that may not be imported; EnvironmentProblem where matplotlib is missing and
    where `output` cannot be written.
    """
    from implicit_cli import store
    from implicit_cli.report import page

    begun = time.perf_counter()
    if output.suffix.lower() not in page.FORMATS:
        raise InputError(f"{output}: found a name that tells no format, allowed: one that ends in {listing(page.FORMATS)}")
    store.check_output(output, [result])
    known = {panel.name: panel for panel in _seen(result, of, case, _Allowed(allow_plugin, plugins)).panels}
    chosen = known.get(name) or next((panel for own, panel in known.items() if own.startswith(name)), None)
    if chosen is None:
        raise InputError(f"FIGURE: found '{name}', allowed for this result: {listing(known)}{nearest(name, known)}")
    store.replace_file(output, page.image(chosen, output.suffix.lower()[1:]))
    return DrawnReport(output, chosen.title, chosen.caption, 1, time.perf_counter() - begun)


def report(
    result: Path,
    output: Path,
    *,
    of: Sequence[str] = (),
    case: str | None = None,
    allow_plugin: bool = False,
    plugins: Sequence[Path] = (),
) -> DrawnReport:
    """Write one page with all figures of a result, its analyses, failed cases and provenance. Raises as `plot` does.

    The spectrum of a plug-in that may not be imported is left out, and told.
    """
    from implicit_cli import store
    from implicit_cli.report import page

    begun = time.perf_counter()
    store.check_output(output, [result])
    seen = _seen(result, of, case, _Allowed(allow_plugin, plugins), at_once=True)
    text = page.page(seen.material, seen.cases, seen.panels, seen.findings)
    store.replace_file(output, text.encode())
    return DrawnReport(output, "report", "", len(seen.panels), time.perf_counter() - begun, seen.left_out)


def _seen(result: Path, of: Sequence[str], case: str | None, allowed: _Allowed, *, at_once: bool = False) -> _Seen:
    """What there is to draw; analyses that the file holds are taken from it, others are made. What JAX is needed for is computed
    `at_once`, or when it is drawn.
    """
    from implicit_cli import analysis, store
    from implicit_cli.report.panels import panels

    sample = store.read_sample(result, of)
    stored = store.read_stored(result, case) if case is not None or len(sample.ids) == 1 else None
    row = sample.ids.index(stored.id) if stored is not None else None
    material = store.read_material(result, row or 0)
    findings = store.read_findings(result)
    left: list[str] = []
    if not findings:
        try:
            made, left = analysis.analyse(sample, (), analysis.Wanted(row))
            findings = tuple(made)
        except InputError:  # there is nothing to analyse, and that is no fault of who wants to see the rest
            findings = ()
    find = _spectrum(result, stored, allowed) if stored is not None else None
    if find is not None and at_once:
        try:
            find = partial(lambda found: found, find())
        except InputError as error:
            find, left = None, [*left, f"spectrum: {error}"]
    particles = _particles(result, stored) if stored is not None else None
    drawn = list(panels(material, sample, findings, row, particles, find))
    return _Seen(material, len(sample.ids), drawn, findings, tuple(left))


def _spectrum(result: Path, stored: StoredCase, allowed: _Allowed) -> Callable[[], Spectrum] | None:
    """What finds the eigenvalues of A of a case, if that is solved and not too large for it."""
    if not stored.good or not 1 < sum(x.size for x in stored.solution.values()) <= MOST_MODES:
        return None

    def find() -> Spectrum:
        from implicit_cli.api.cases import rebuilt

        prepared = rebuilt(result, stored, {"method": "implicit"}, "jacobian", {}, None, allowed.any, allowed.plugins)
        from implicit_cli import engine

        return engine.spectrum(prepared.vectors, prepared.plan, stored.solution)

    return find


def _particles(result: Path, stored: StoredCase) -> Snapshot | None:
    """The particles of a case; None where there are none."""
    from implicit_cli import store
    from implicit_cli.structures import export

    position = stored.solution.get("position")
    if position is None or position.ndim != 2 or position.shape[1] not in (2, 3):
        return None
    try:
        with store.opened_arrays(result) as arrays:
            return export.snapshot(stored, arrays, wrap=True)
    except InputError:  # a case that has failed: its particles are nowhere
        return None
