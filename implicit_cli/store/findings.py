"""The group `/analysis` of a result file: the tables that `implicit analyze` found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from implicit_cli.sample import Column, Finding
from implicit_cli.store import layout
from implicit_cli.store.addition import write_addition
from implicit_cli.store.guard import opened
from implicit_cli.store.image import Dimension, _annotate, _Dataset, _write
from implicit_cli.store.nodes import members, text, texts

WHOLE = "all"
"""In place of an output's name, for a table about all of them."""
ENDS = {"low": "lower end of the interval", "high": "upper end of the interval"}
NOTES, FACTS = "notes", "facts"


def write_findings(source: Path, output: Path, findings: Iterable[Finding], about: Mapping[str, str]) -> None:
    """Write the result at `source` to `output` with these tables in `/analysis`; those of an earlier analysis are replaced.

    Raises as `write_verification` does.
    """
    write_addition(source, output, layout.ANALYSIS, lambda file: _fill(file, list(findings), about))


def read_findings(path: Path) -> tuple[Finding, ...]:
    """The tables of a result file, in the order written; none where it was not analysed. Raises as `read_summary` does."""
    with opened(path) as file:
        return tuple(
            _finding(node, method, of, axis)
            for method, outputs in members(file, layout.ANALYSIS)
            if method != layout.PROVENANCE
            for of, tables in members(outputs)
            for axis, node in members(tables)
        )


def _fill(file: h5py.File, findings: list[Finding], about: Mapping[str, str]) -> None:
    for one in findings:
        place = "/".join((layout.ANALYSIS, one.method, layout.component(one.of or WHOLE), one.axis))
        rows = np.array(one.rows, object)
        scale = _write(file, _Dataset(f"{place}/{one.axis}", rows, (), {}))
        scale.make_scale(one.axis)
        scale.attrs["long_name"], scale.attrs["units"] = one.axis, "1"
        dimension = Dimension(one.axis, len(rows))
        for name, column in one.columns.items():
            parts = {"": (column.values, column.doc)}
            parts |= {f"_{end}": (getattr(column, end), f"{words}: {column.doc}") for end, words in ENDS.items()}
            for suffix, (values, doc) in parts.items():
                if values is not None:
                    extra = {"units": column.unit, "long_name": doc}
                    dataset = _Dataset(f"{place}/{layout.component(name)}{suffix}", np.asarray(values, float), (dimension,), extra)
                    _annotate(_write(file, dataset), dataset, {dimension: scale})
        for name, fact in one.facts.items():
            value: Any = np.array(fact, object) if isinstance(fact, str) else np.asarray(fact)
            _scalar(file, f"{place}/{FACTS}/{name}", value, name)
        if one.notes:
            _scalar(file, f"{place}/{NOTES}", np.array("\n".join(one.notes), object), "what to know about this table")
    for name, words in about.items():
        _scalar(file, f"{layout.ANALYSIS}/{layout.PROVENANCE}/{layout.component(name)}", np.array(words, object), name)


def _scalar(file: h5py.File, path: str, value: Any, long_name: str) -> None:
    units = {} if value.dtype.kind == "O" else {"units": "1"}
    dataset = _Dataset(path, value, (), {**units, "long_name": long_name})
    _annotate(_write(file, dataset), dataset, {})


def _finding(group: h5py.Group, method: str, of: str, axis: str) -> Finding:
    columns: dict[str, Column] = {}
    nodes = {name: node for name, node in members(group) if isinstance(node, h5py.Dataset) and name not in (axis, NOTES)}
    for name, node in nodes.items():
        stem, _, end = name.rpartition("_")
        if end in ENDS and stem in nodes:
            continue
        low, high = (nodes[f"{name}_{end}"][()] if f"{name}_{end}" in nodes else None for end in ENDS)
        columns[name] = Column(node[()], str(node.attrs["long_name"]), low, high, str(node.attrs["units"]))
    facts = {name: text(node) if h5py.check_string_dtype(node.dtype) else float(node[()]) for name, node in members(group, FACTS)}
    notes = tuple(text(group[NOTES]).split("\n")) if NOTES in group else ()
    return Finding(method, "" if of == WHOLE else of, axis, tuple(texts(group[axis])), columns, facts, notes)
