"""The use cases `analyze` and `predict`: what derivatives and cases of a result say of its parameters, without a solve."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from implicit_cli.api.reports import AnalysisReport
from implicit_cli.errors import InputError, listing, nearest


def analyze(
    result: Path,
    methods: Sequence[str] = (),
    *,
    of: Sequence[str] = (),
    case: str | None = None,
    deviations: Mapping[str, float] | None = None,
    covariance: str | None = None,
    fill: bool = False,
    output: Path | None = None,
    in_place: bool = False,
) -> AnalysisReport:
    """Analyses of a result file (`analysis.METHODS`), all that it allows where none is named; of outputs or unknowns `of`.

    A single case is looked at by itself, and so is `case` of many. `deviations` are standard deviations by input, `covariance` is
    FILE:/PATH of a matrix: one of them, or a sweep's distributions, serves the delta method. `fill` predicts cases that failed from
    their neighbours. The tables go to a copy of the file, `output`, or into the file itself (`in_place`).

    Raises InputError for what does not fit, EnvironmentProblem as `run` does and where SALib is missing.
    """
    from implicit_cli import analysis, spec, store

    begun = time.perf_counter()
    if in_place and output is not None:
        raise InputError("--in-place: found with --output, allowed: one of them")
    if deviations and covariance is not None:
        raise InputError("--covariance: found with --deviation, allowed: one of them")
    target = result if in_place else output
    if target is not None:
        store.check_output(target, [] if in_place else [result])
    sample = store.read_sample(result, of)
    given = spec.read_array(covariance, "--covariance") if covariance is not None else None
    wanted = analysis.Wanted(_row(sample.path, sample.ids, case), deviations, given, fill)
    findings, left = analysis.analyse(sample, methods, wanted)
    if target is not None:
        about = {"methods": ", ".join(dict.fromkeys(one.method for one in findings)), "of": ", ".join(sample.outputs)}
        store.write_findings(result, target, findings, about)
    return AnalysisReport(str(result), tuple(findings), tuple(left), target, time.perf_counter() - begun)


def predict(
    result: Path,
    values: Mapping[str, float | Sequence[float]],
    *,
    of: Sequence[str] = (),
    case: str | None = None,
    order: str = "",
) -> AnalysisReport:
    """What the cases of a result say of its outputs at other `values` of inputs; nothing is solved (`analysis.predict`).

    From the nearest case, or `case`, by Taylor's formula, or between several. Raises InputError for what does not fit.
    """
    from implicit_cli import analysis, store

    begun = time.perf_counter()
    if order and order not in analysis.ORDERS:
        raise InputError(f"--order: found '{order}', allowed: {listing(analysis.ORDERS)}{nearest(order, analysis.ORDERS)}")
    sample = store.read_sample(result, of)
    row = _row(sample.path, sample.ids, case)
    found = analysis.predict(sample, values, order=order, case=row)
    return AnalysisReport(str(result), (found,), (), None, time.perf_counter() - begun)


def _row(path: str, ids: Sequence[str], case: str | None) -> int | None:
    """The row of the case that is asked for, or of the only one; None for all of several."""
    from implicit_cli import store

    return None if case is None and len(ids) > 1 else ids.index(store.chosen(Path(path), ids, case))
