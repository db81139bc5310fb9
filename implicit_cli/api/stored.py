"""The use cases that begin with a result file, and compute: products at its solutions, and the check of its derivatives."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from implicit_cli.api.cases import SOURCE, Request, doubts, header_of, inputs_of, prepare, rebuilt, source_sha256
from implicit_cli.api.reports import Observer, ProductsReport, VerifyReport
from implicit_cli.errors import InputError, listing, nearest

if TYPE_CHECKING:
    from implicit_cli.engine import Plan, Vectors
    from implicit_cli.spec import LoadedSpec
    from implicit_cli.verdict import CaseVerdict, Claim

HDF5 = b"\x89HDF\r\n\x1a\n"
"""How an HDF5 file begins."""


def products(
    kind: str,
    result: Path,
    directions: Sequence[str],
    *,
    of: Sequence[str] = (),
    wrt: Sequence[str] = (),
    case: str | None = None,
    output: Path | None = None,
    device: str | None = None,
    allow_plugin: bool = False,
    plugins: Sequence[Path] = (),
    observer: Observer | None = None,
) -> ProductsReport:
    """Products ("jvp" or "vjp") along `directions` (`spec.read_directions`) at the solution in a result file, without a solve.

    Problem, data, parameters and solution are those of `case`, settings those of its run; F and the certificate are computed anew.
    A jvp is of `of` and along any parameter, a vjp with respect to `wrt`; left out, they are those of the run. Raises InputError
    for what does not fit, EnvironmentProblem as `run` does.
    """
    from implicit_cli import spec, store

    begun = time.perf_counter()
    if output is not None:
        store.check_output(output, [result])
    stored = store.read_stored(result, case)
    parts = spec.read_directions(kind, directions)
    # nothing is solved, so that no other method than the theorem is left
    chosen: dict[str, Any] = {"method": "implicit", **{key: tuple(names) for key, names in (("of", of), ("wrt", wrt)) if names}}
    if kind == "jvp":
        chosen["wrt"] = None
    loaded, vectors, plan, _ = rebuilt(result, stored, chosen, kind, parts, device, allow_plugin, plugins)
    from implicit_cli import engine

    if output is not None:
        store.check_output(output, [result, *inputs_of(loaded, vectors)])
    room = store.Scratch(output) if output is not None else None
    found = engine.differentiate_at(vectors, plan, stored.solution, identity=stored.id, observer=observer, room=room)
    # the spec of the run, with these products: its data and references are as they were
    settings = json.loads(stored.spec_resolved)
    sensitivity = loaded.model.sensitivity.model_dump(mode="json")
    header = header_of(loaded, vectors)
    header = replace(
        header,
        spec_resolved=json.dumps({**settings, "sensitivity": sensitivity}),
        provenance={**header.provenance, "solution": f"case {stored.id} of the result with SHA-256 {stored.sha256}"},
    )
    if output is not None:
        store.write_result(output, header, [found])
    summary = store.read_summary(output) if output is not None else store.summarise(header, [found])
    return ProductsReport(summary, output, doubts(result, stored, header.provenance), time.perf_counter() - begun)


def verify(
    source: str,
    *,
    directions: int = 3,
    full: bool = False,
    of: Sequence[str] = (),
    wrt: Sequence[str] = (),
    case: str | None = None,
    output: Path | None = None,
    in_place: bool = False,
    overrides: Sequence[str] = (),
    device: str | None = None,
    allow_plugin: bool = False,
    plugins: Sequence[Path] = (),
    allow_paths: Sequence[Path] = (),
    observer: Observer | None = None,
) -> VerifyReport:
    """Check the derivatives in a result file, or those of a spec, which is run first, by solving again nearby.

    Each parameter is tried along `directions` random combinations of its components, or column by column (`full`); `of` and `wrt`
    leave some products only. A copy of the file with the findings goes to `output`, or takes the file's own place (`in_place`); the
    result of a spec is kept in `output` only. Raises InputError for what does not fit, EnvironmentProblem as `run` does.
    """
    from implicit_cli import store

    begun = time.perf_counter()
    given = _is_result(source)
    if in_place and (output is not None or not given):
        found = "with --output" if output is not None else "with a spec"
        raise InputError(f"--in-place: found {found}, allowed: alone, with a result file")
    target = Path(source) if in_place else output
    if target is not None:
        store.check_output(target, [] if in_place else [Path(source)])
    settings = {"directions": directions, "full": full, "of": tuple(of), "wrt": tuple(wrt)}
    if given:
        if overrides:
            raise InputError("--set: found with a result file, allowed: with a spec")
        stated, sha256 = store.read_claims(Path(source), case)
        checks = []
        warnings: list[str] = []
        for claim in stated:
            stored = store.read_stored(Path(source), claim.id)
            loaded, vectors, plan, _ = rebuilt(
                Path(source), stored, {"method": "implicit"}, "jacobian", {}, device, allow_plugin, plugins
            )
            checks.append(_verified(loaded, vectors, plan, claim, settings, observer))
            warnings += doubts(Path(source), stored, {SOURCE: source_sha256(type(vectors.bound.problem))})
    else:
        loaded, vectors, plan, _ = prepare(Request(source, overrides, device, allow_plugin, plugins, allow_paths), canary=True)
        from implicit_cli import engine
        from implicit_cli.verdict import claim_of

        if target is not None:
            store.check_output(target, inputs_of(loaded, vectors))
        room = store.Scratch(target) if target is not None else None
        result = engine.run_case(vectors, plan, identity="0", seed=loaded.model.seed, observer=observer, room=room)
        if case not in (None, result.id):
            raise InputError(f"--case: found '{case}', allowed: '{result.id}'")
        if target is not None:
            store.write_result(target, header_of(loaded, vectors), [result])
        checks, warnings, sha256 = [_verified(loaded, vectors, plan, claim_of(result), settings, observer)], [], None
    from implicit_cli import runtime
    from implicit_cli.verdict import Verification

    verification = Verification(tuple(checks), directions, full, loaded.model.seed, runtime.provenance())
    if target is not None:
        store.write_verification(Path(source) if given else target, target, verification, sha256)
    return VerifyReport(loaded.model.problem, verification, target, tuple(warnings), time.perf_counter() - begun)


def _is_result(source: str) -> bool:
    """Whether this is, or was meant as, a result file and not a spec."""
    path = Path(source)
    if path.suffix in (".h5", ".hdf5"):
        return True
    try:
        if not path.is_file():  # to open a pipe is to wait for who writes to it
            return False
        with path.open("rb") as stream:
            return stream.read(len(HDF5)) == HDF5
    except OSError:
        return False


def _verified(
    loaded: LoadedSpec, vectors: Vectors, plan: Plan, claim: Claim, settings: Mapping[str, Any], observer: Observer | None
) -> CaseVerdict:
    """The check of one case, parameters called as in tables; raises InputError for an `of` or `wrt` that it has nothing of."""
    from implicit_cli import engine, store
    from implicit_cli.problem import Parameter

    for option in ("of", "wrt"):
        known = {getattr(product, option) for product in claim.products} - {""}
        for name in settings[option]:
            if name not in known:
                raise InputError(f"--{option}: found '{name}', allowed: {listing(known)}{nearest(name, known)}")
    found = engine.verify_case(vectors, plan, claim, seed=loaded.model.seed, observer=observer, **settings)
    parameters = [vectors.bound.variables[name] for name in vectors.bound.names(Parameter)]
    return replace(found, findings=store.labelled(found.findings, parameters))
