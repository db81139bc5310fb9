"""One page of all that a result says: figures with captions, tables, failed cases, provenance. It needs nothing but itself."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from implicit_cli.errors import EnvironmentProblem
from implicit_cli.report.style import styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from implicit_cli.report.panels import Panel
    from implicit_cli.sample import Finding
    from implicit_cli.store import Material

INSTALL = "pip install 'implicit-cli[report]'"
FORMATS = (".png", ".svg", ".pdf")
ROWS = 20


def image(panel: Panel, kind: str) -> bytes:
    """A figure as PNG, SVG or PDF; the same figure gives the same bytes. Raises EnvironmentProblem where matplotlib is missing."""
    try:
        with styled():
            return _bytes(panel.draw(), kind)
    except ImportError as error:
        raise EnvironmentProblem(f"figures need matplotlib: {INSTALL}") from error


def _bytes(figure: Figure, kind: str) -> bytes:
    content = io.BytesIO()
    metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {}}[kind]
    figure.savefig(content, format=kind, dpi=150, metadata=metadata)
    return content.getvalue()


def page(material: Material, cases: int, panels: Sequence[Panel], findings: Sequence[Finding]) -> str:
    """The page as HTML: no scripts, no network, and all that comes from the result escaped. Raises as `image` does."""
    try:
        from jinja2 import Environment, StrictUndefined
        from markupsafe import Markup
    except ImportError as error:
        raise EnvironmentProblem(f"a report needs jinja2: {INSTALL}") from error
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string((files("implicit_cli.report") / "page.html").read_text(encoding="utf-8"))
    drawn = []
    for number, panel in enumerate(panels):
        svg = _inline(image(panel, "svg").decode(), number)
        drawn.append({"id": f"figure-{number}", "title": panel.title, "caption": panel.caption, "svg": Markup(svg)})
    tables = [_table(one) for one in findings]
    return template.render(material=material, name=Path(material.path).name, cases=cases, panels=drawn, tables=tables)


def _inline(svg: str, number: int) -> str:
    """The element itself, with ids of its own on a page of many."""
    # what has an id, and what refers to one
    return re.sub(r'(\bid="|\bhref="#|\burl\(#)', rf"\g<1>f{number}-", svg[svg.index("<svg") :])


def _table(one: Finding) -> dict[str, Any]:
    """An analysis for the page: values with their intervals, the first rows."""
    heads = [one.axis]
    for name, column in one.columns.items():
        heads += [name] if column.low is None else [name, "interval"]
    rows = []
    for i, row in enumerate(one.rows[:ROWS]):
        cells = [row]
        for column in one.columns.values():
            cells.append(_number(float(column.values[i])))
            if column.low is not None and column.high is not None:
                cells.append(f"{_number(float(column.low[i]))} .. {_number(float(column.high[i]))}")
        rows.append(cells)
    more = [f"{len(one.rows) - ROWS} more rows are left out here."] if len(one.rows) > ROWS else []
    facts = ", ".join(f"{name} {value if isinstance(value, str) else _number(value)}" for name, value in one.facts.items())
    title = f"{one.method}{f' of {one.of}' if one.of else ''}{f': {facts}' if facts else ''}"
    return {"title": title, "heads": heads, "rows": rows, "notes": [*more, *one.notes]}


def _number(value: float) -> str:
    return f"{value:.5g}" if math.isfinite(value) else "none"
