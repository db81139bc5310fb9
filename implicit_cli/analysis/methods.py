"""The analyses by name, what each needs, and which of them a result allows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from threadpoolctl import threadpool_limits

from implicit_cli.analysis.chaos import chaos
from implicit_cli.analysis.derivative_based import active, dgsm
from implicit_cli.analysis.local import covariance_of, delta_method, elasticities
from implicit_cli.analysis.variance_based import fast, moment_independent, morris, sobol
from implicit_cli.errors import EnvironmentProblem, InputError, listing, nearest
from implicit_cli.sample import Array, Finding, Sample


@dataclass(frozen=True)
class Wanted:
    """What is asked for: `case` is the row of a single case, `deviations` and `covariance` say how uncertain inputs are."""

    case: int | None = None
    deviations: Mapping[str, float] | None = None
    covariance: Array | None = None
    fill: bool = False

    @property
    def uncertain(self) -> bool:
        return bool(self.deviations) or self.covariance is not None


@dataclass(frozen=True)
class Method:
    """An analysis: its function, the design that allows it (none: any), what it takes from the result, and whether it is `slow`,
    minutes for a thousand cases, and so made only where it is named.
    """

    run: Callable[[Sample, Wanted], list[Finding]]
    design: str = ""
    distributions: bool = False
    derivatives: bool = False
    slow: bool = False


def _delta(sample: Sample, wanted: Wanted) -> list[Finding]:
    if wanted.case is None:
        raise InputError(f"{sample.path}: the delta method is about one case; allowed: --case ID")
    return delta_method(sample, wanted.case, covariance_of(sample, wanted.deviations or {}, wanted.covariance))


METHODS: Mapping[str, Method] = MappingProxyType(
    {
        "elasticity": Method(lambda s, w: elasticities(s, w.case), derivatives=True),
        "delta": Method(_delta, derivatives=True),
        "dgsm": Method(lambda s, _: dgsm(s), distributions=True, derivatives=True),
        "active": Method(lambda s, _: active(s), distributions=True, derivatives=True),
        "chaos": Method(lambda s, _: chaos(s), distributions=True, derivatives=True),
        "sobol": Method(lambda s, w: sobol(s, fill=w.fill), design="saltelli"),
        "morris": Method(lambda s, w: morris(s, fill=w.fill), design="morris"),
        "fast": Method(lambda s, w: fast(s, fill=w.fill), design="fast"),
        "borgonovo": Method(lambda s, w: moment_independent(s, fill=w.fill), distributions=True, slow=True),
    }
)


def analyse(sample: Sample, names: Sequence[str], wanted: Wanted) -> tuple[list[Finding], list[str]]:
    """Tables of the analyses named, or of all quick ones that the result allows, and why some were left out.

    Raises InputError for a name that is none, and for an analysis that is asked for and that the result does not allow;
    EnvironmentProblem where one that is asked for needs a package that is not there.
    """
    for name in names:
        if name not in METHODS:
            raise InputError(f"found the analysis '{name}', allowed: {listing(METHODS)}{nearest(name, METHODS)}")
    findings: list[Finding] = []
    left: list[str] = []
    for name in names or fitting(sample, wanted):
        if METHODS[name].slow and not names:
            left.append(f"{name}: takes long, and is made where it is named")
            continue
        try:
            # matrices are small: beside other work, threads that wait for each other took ten times as long as one
            with threadpool_limits(1, user_api="blas"):
                findings += METHODS[name].run(sample, wanted)
        except (InputError, EnvironmentProblem) as error:
            if names:
                raise
            left.append(f"{name}: {error}")
    if not findings:
        why = "; ".join(left) or "it has no derivatives, and no distributions that cases were drawn from"
        raise InputError(f"{sample.path}: nothing to analyse: {why}")
    return findings, left


def fitting(sample: Sample, wanted: Wanted) -> list[str]:
    """The analyses that the result allows."""
    drawn = bool(sample.inputs) and all(one.law is not None for one in sample.inputs)
    differentiated = bool(np.isfinite(sample.J).any())
    found = []
    for name, method in METHODS.items():
        if name == "delta":
            fits = wanted.case is not None and (wanted.uncertain or drawn)
        else:
            fits = (not method.distributions or drawn) and (not method.design or method.design == sample.design)
            fits = fits and (wanted.case is None or name == "elasticity")
        if fits and (differentiated or not method.derivatives):
            found.append(name)
    return found
