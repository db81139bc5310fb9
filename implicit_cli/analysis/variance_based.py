"""Sobol, Morris, FAST and moment-independent indices: SALib's estimators on this program's designs.

Cases that failed leave a hole: a block of a Saltelli design, or a trajectory of Morris's, is left out whole, FAST cannot do
without any. Where it is asked for (`fill`), a hole takes what neighbours predict along their tangents, and how far that moves the
indices is told. What certificates leave unknown of y moves every index by the fact `numerical`, as signs drawn at random show.
"""

from __future__ import annotations

import importlib
import io
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from typing import Any

import numpy as np

from implicit_cli.analysis.resampled import LEVEL
from implicit_cli.analysis.standard import independent
from implicit_cli.analysis.taylor import predicted
from implicit_cli.errors import EnvironmentProblem, InputError
from implicit_cli.sample import Array, Column, Finding, Sample

INSTALL = "pip install 'implicit-cli[analysis]'"
RESAMPLES = 200
SEED = 1
"""Not 0: to some of SALib's functions that is no seed."""
SIGNS = 4
"""Draws of signs with which the bounds of y are added to it."""
HARMONICS = 4
FEWEST_BLOCKS = 8

Indices = dict[str, Array]
Estimator = Callable[[Sample, Array, Array], Indices]


def sobol(sample: Sample, *, fill: bool = False) -> list[Finding]:
    """First-order and total Sobol indices, and those of pairs where the design has them. Needs a design `saltelli`."""
    pairs = bool(sample.settings.get("second_order"))
    n = len(sample.inputs)
    block = 2 * n + 2 if pairs else n + 2

    def estimate(sample: Sample, X: Array, y: Array) -> Indices:
        module = _salib("sobol")
        kept = y - y.mean()  # the estimators lose digits to a mean
        found = module.analyze(
            _problem(sample), kept, calc_second_order=pairs, num_resamples=RESAMPLES, conf_level=LEVEL, seed=SEED
        )
        names = ("S1", "ST", "S2") if pairs else ("S1", "ST")
        return {key: np.asarray(found[part]) for name in names for key, part in ((name, name), (f"{name}_conf", f"{name}_conf"))}

    return _analysed("sobol", "saltelli", sample, estimate, {"S1": "first-order index", "ST": "total index"}, block, fill)


def morris(sample: Sample, *, fill: bool = False) -> list[Finding]:
    """Elementary effects: mu, mu* and sigma. Needs a design `morris`."""

    def estimate(sample: Sample, X: Array, y: Array) -> Indices:
        levels = sample.settings.get("levels") or 4
        found = _salib("morris").analyze(
            _problem(sample), X, y, num_levels=levels, num_resamples=RESAMPLES, conf_level=LEVEL, seed=SEED
        )
        return {name: np.asarray(found[name], dtype=float) for name in ("mu_star", "mu_star_conf", "mu", "sigma")}

    docs = {
        "mu_star": "mean of |elementary effect|, by the share of the input's law",
        "mu": "mean elementary effect",
        "sigma": "its standard deviation: interaction or curvature",
    }
    return _analysed("morris", "morris", sample, estimate, docs, len(sample.inputs) + 1, fill)


def fast(sample: Sample, *, fill: bool = False) -> list[Finding]:
    """First-order and total indices by Fourier amplitudes, without intervals: those of SALib do not hold. Needs a design `fast`."""

    def estimate(sample: Sample, X: Array, y: Array) -> Indices:
        with _as_before():
            found = _salib("fast").analyze(_problem(sample), y, M=HARMONICS, num_resamples=2, seed=SEED)
        return {name: np.asarray(found[name], dtype=float) for name in ("S1", "ST")}

    return _analysed("fast", "fast", sample, estimate, {"S1": "first-order index", "ST": "total index"}, 0, fill)


def moment_independent(sample: Sample, *, fill: bool = False) -> list[Finding]:
    """Borgonovo's delta, and first-order indices, from any sample."""

    def estimate(sample: Sample, X: Array, y: Array) -> Indices:
        with _as_before():
            found = _salib("delta").analyze(_problem(sample), X, y, num_resamples=RESAMPLES, conf_level=LEVEL, seed=SEED)
        names = {"delta": "delta_raw", "delta_conf": "delta_raw_conf", "S1": "S1", "S1_conf": "S1_conf"}
        return {name: np.asarray(found[key], dtype=float) for name, key in names.items()}

    docs = {"delta": "part of the distribution of y that the input moves", "S1": "first-order index"}
    return _analysed("borgonovo", "", sample, estimate, docs, 1, fill)


def _analysed(
    method: str, design: str, sample: Sample, estimate: Estimator, docs: Mapping[str, str], block: int, fill: bool
) -> list[Finding]:
    """Tables of a method for each output. `block` cases go together where one fails; with 0 all do."""
    if design and sample.design != design:
        raise InputError(f"{sample.path}: {method} needs design '{design}', found '{sample.design or 'none'}'")
    independent(sample, f"indices of {method}")
    findings = []
    for k, name in enumerate(sample.outputs):
        y, bound = sample.y[:, k], sample.y_bound[:, k]
        bad = ~(sample.good & np.isfinite(y))
        notes: list[str] = []
        whole = np.ones(len(y), bool)
        if bad.any():
            size = block or len(y)
            whole = np.repeat(~bad.reshape(-1, size).any(axis=1), size)
            if fill:
                filled, doubt = predicted(sample, k, bad)
                notes.append(f"{int(bad.sum())} of {len(y)} cases are predictions from their neighbours, good to about {doubt:.2g}")
            else:
                lost = int((~whole).sum())
                filled = np.where(bad, np.nan, y)
                notes.append(f"{lost} of {len(y)} cases are left out, for {int(bad.sum())} of them failed")
        else:
            filled = y
        used = np.ones(len(y), bool) if fill else whole
        if used.sum() < FEWEST_BLOCKS * max(block, 1):
            raise InputError(
                f"{sample.path}: {int(bad.sum())} of {len(y)} cases without {name} leave too few for {method}; "
                "allowed: --fill, which predicts them from their neighbours"
            )
        X, y = sample.theta[used], filled[used]
        found = estimate(sample, X, y)
        if not all(np.isfinite(found[key]).all() for key in docs):
            raise InputError(f"{sample.path}: {method} finds no numbers for {name} from {used.sum()} cases; allowed: more of them")
        numerical = _moved(estimate, sample, X, y, np.where(np.isfinite(bound[used]), bound[used], 0.0), found)
        if fill and bad.any() and whole.sum() >= FEWEST_BLOCKS * max(block, 1):
            without = estimate(sample, sample.theta[whole], sample.y[whole, k])
            shift = max(float(np.max(np.abs(found[key] - without[key]))) for key in docs)
            notes.append(f"to leave them out instead moves an index by at most {shift:.2g}")
        columns = {key: _column(found, key, doc, numerical[key]) for key, doc in docs.items()}
        facts = {"cases": float(used.sum()), "numerical": max(float(np.max(numerical[key])) for key in docs)}
        findings.append(Finding(method, name, "input", sample.names, columns, facts, tuple(notes)))
        if "S2" in found:
            findings.append(_pairs(sample, name, found))
    return findings


def _column(found: Indices, key: str, doc: str, numerical: Array) -> Column:
    half = found.get(f"{key}_conf")
    if half is None:
        return Column(found[key], doc)
    return Column(found[key], doc, found[key] - half - numerical, found[key] + half + numerical)


def _pairs(sample: Sample, of: str, found: Indices) -> Finding:
    """Second-order indices, pair by pair."""
    first, second = np.triu_indices(len(sample.inputs), 1)
    rows = tuple(f"{sample.names[i]} x {sample.names[j]}" for i, j in zip(first, second, strict=True))
    value, half = found["S2"][first, second], found["S2_conf"][first, second]
    return Finding("sobol", of, "pair", rows, {"S2": Column(value, "index of the interaction", value - half, value + half)})


def _moved(estimate: Estimator, sample: Sample, X: Array, y: Array, bound: Array, found: Indices) -> Indices:
    """How far the bounds of y move each index."""
    rng = np.random.default_rng(SEED)
    moved = [estimate(sample, X, y + bound * rng.choice([-1.0, 1.0], len(y))) for _ in range(SIGNS if bound.any() else 0)]
    return {key: np.max([np.abs(one[key] - value) for one in moved] or [0 * value], axis=0) for key, value in found.items()}


def _problem(sample: Sample) -> dict[str, Any]:
    """SALib's description; bounds only where an estimator scales by them, which none of these does."""
    return {"num_vars": len(sample.inputs), "names": list(sample.names), "bounds": [[0.0, 1.0]] * len(sample.inputs)}


@contextmanager
def _as_before() -> Iterator[None]:
    """SALib may draw from NumPy's global generator, print, warn, and change how warnings are filtered: nothing of that gets out."""
    state, form = np.random.get_state(), warnings.formatwarning  # noqa: NPY002
    try:
        with warnings.catch_warnings(record=True), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        np.random.set_state(state)  # noqa: NPY002
        warnings.formatwarning = form


def _salib(module: str) -> Any:
    try:
        return importlib.import_module(f"SALib.analyze.{module}")
    except ImportError as error:
        raise EnvironmentProblem(f"analysis '{module}' needs SALib: {INSTALL}") from error
