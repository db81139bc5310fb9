"""The group `/verify` of a result file: what `implicit verify` found; and the claims that it checks, read from the file."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from implicit_cli.errors import InputError, listing, nearest
from implicit_cli.result import Array, Bound, Product, Variable
from implicit_cli.status import Status
from implicit_cli.store import layout
from implicit_cli.store.addition import write_addition
from implicit_cli.store.guard import opened
from implicit_cli.store.image import Dimension, _annotate, _Dataset, _write
from implicit_cli.store.nodes import members, outcome, texts
from implicit_cli.store.products import Key, _keys
from implicit_cli.verdict import CaseVerdict, Claim, Finding, Verdict, Verification

_TOTAL = {"bound": "total"}


# Claims


def read_claims(path: Path, case: str | None = None) -> tuple[tuple[Claim, ...], str]:
    """What a result file claims, of one case or of all, and the file's SHA-256. Raises InputError as `read_stored` does."""
    with opened(path) as file:
        ids = texts(file[layout.CASES]["id"])
        if case is not None and case not in ids:
            raise InputError(f"{path}: no case '{case}', allowed: {listing(ids[:12])}{nearest(case, ids)}")
        keys = list(_keys(file))
        found = tuple(_claim(file, keys, row, name) for row, name in enumerate(ids) if case in (None, name))
        return found, bytes(file[layout.CHECKSUM][()])[-layout.CHECKSUM_LENGTH :].decode()


def _claim(file: h5py.File, keys: list[Key], row: int, name: str) -> Claim:
    status = outcome(file[layout.CASES]["status"], file[layout.CASES]["status"][row])
    products = (_product(file, key, row) for key in keys)
    return Claim(
        id=name,
        status=status.label,
        good=status.good,
        solution={unknown: np.asarray(node[row]) for unknown, node in members(file, layout.SOLUTION)},
        products=tuple(product for product in products if product is not None),
        residual=float(file[layout.SOLVER]["residual"][row]),
        radius=float(file[layout.CERTIFICATE]["radius"][row]),
        method=texts(file[layout.METHOD])[row] if layout.METHOD in file else "implicit",
    )


def _product(file: h5py.File, key: Key, row: int) -> Product | None:
    """One product of one case; None where this case has none of that name."""
    kind, name, of, wrt, wrt2 = key
    code = int(file[layout.status_path(*key)][row])
    if code == layout.ABSENT:
        return None
    group = file[layout.bound_path(*key)]
    parts = {_TOTAL.get(part, part): np.asarray(group[part][row]) for part in layout.PARTS}
    place = f"{layout.VALUES[kind]}/{layout.component(name)}/{layout.DIRECTION}" if name else ""
    direction = {quantity: np.asarray(node[()]) for quantity, node in members(file, place)} if place else {}
    value = np.asarray(file[layout.value_path(*key)][row], float)
    return Product(kind, name, of, wrt, value, Bound(**parts, kind=texts(group["kind"])[row]), Status(code), direction, wrt2)


def labelled(findings: Iterable[Finding], parameters: Iterable[Variable]) -> tuple[Finding, ...]:
    """With what tables call the parameters: `log(penalty)` where a derivative is with respect to that."""
    labels = {variable.name: layout.wrt_label(variable) for variable in parameters}
    return tuple(
        dataclasses.replace(found, wrt_label=layout.BOTH.join(labels.get(name, name) for name in (found.wrt, found.wrt2) if name))
        for found in findings
    )


# The group


def write_verification(source: Path, output: Path, verification: Verification, sha256: str | None = None) -> None:
    """Write the result at `source` to `output` with `/verify` holding this; an earlier group is replaced. They may be the same.

    Raises InputError where `source` is refused, or is another file than that of `sha256`, and EnvironmentProblem as `write_result`.
    """
    write_addition(source, output, layout.VERIFY, lambda file: _fill(file, verification), sha256)


def _fill(file: h5py.File, verification: Verification) -> None:
    scale = file[layout.CASES]["id"].dims[0][0]
    case = Dimension("case", scale.shape[0])
    by_id = {one.id: one for one in verification.cases}
    rows = [by_id.get(name) for name in texts(file[layout.CASES]["id"])]

    def put(path: str, value: Any, long_name: str, units: str | None = "1", **attributes: Any) -> None:
        array = np.asarray(value)
        extra = {**({"units": units} if units else {}), "long_name": long_name, **attributes}
        dataset = _Dataset(f"{layout.VERIFY}/{path}", array, (case,) if array.ndim else (), extra)
        _annotate(_write(file, dataset), dataset, {case: scale})

    put("directions", verification.directions, "random directions of each parameter, at most")
    put("full", np.uint8(verification.full), "1 where every column was checked")
    put("seed", verification.seed, "seed of the random directions")
    length = layout.common_unit(Variable(name, (), node.attrs["units"]) for name, node in members(file, layout.SOLUTION))
    put("verdict", _codes(row.verdict if row else None for row in rows), "verdict on the case", **_flags())
    put("note", _texts(row.note if row else "" for row in rows), "what is wrong with the solution")
    for name, (meaning, units) in layout.VERIFY_CASE.items():
        put(name, [getattr(row, name) if row else np.nan for row in rows], meaning, length if units == "length" else units)
    findings = [_by_path(row) for row in rows]
    for path in dict.fromkeys(path for found in findings for path in found):
        each = [found.get(path) for found in findings]
        unit = file[path].attrs["units"]
        put(f"{path}/verdict", _codes(one.verdict if one else None for one in each), "verdict on the product", **_flags())
        for name, meaning in layout.VERIFY_NUMBERS.items():
            units = unit if name in ("observed", "bound", "witness", "size") else "1"
            put(f"{path}/{name}", [getattr(one, name) if one else np.nan for one in each], meaning, units)
        for name, meaning in layout.VERIFY_COUNTS.items():
            put(f"{path}/{name}", np.array([getattr(one, name) if one else layout.ABSENT for one in each]), meaning)
        for name, meaning in layout.VERIFY_TEXTS.items():
            put(f"{path}/{name}", _texts(getattr(one, name) if one else "" for one in each), meaning)
    for name, text in verification.provenance.items():
        put(f"provenance/{layout.component(name)}", np.array(text, object), name, None)


def _by_path(row: CaseVerdict | None) -> Mapping[str, Finding]:
    return {layout.value_path(f.kind, f.name, f.of, f.wrt, f.wrt2): f for f in row.findings} if row else {}


def _codes(verdicts: Iterable[Verdict | None]) -> Array:
    return np.array([verdict.code if verdict is not None else layout.ABSENT for verdict in verdicts], np.int8)


def _texts(values: Iterable[str]) -> Array:
    return np.array(list(values), object)


def _flags() -> dict[str, Any]:
    codes = [layout.ABSENT, *(verdict.code for verdict in Verdict)]
    return {"flag_values": np.array(codes, np.int8), "flag_meanings": " ".join(["absent", *Verdict])}
