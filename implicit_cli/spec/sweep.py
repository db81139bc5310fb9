"""The section `sweep`: which targets vary from case to case, through which values, and by which design."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, WithJsonSchema, model_validator
from typing_extensions import TypeAliasType

from implicit_cli.errors import listing
from implicit_cli.spec.axes import DISTRIBUTIONS, KINDS, LEVELS, AxisSpec, LevelsSpec
from implicit_cli.spec.fields import Checked, Strict, Table, Value, nothing
from implicit_cli.spec.grammar import REFERENCE, Fault, stop
from implicit_cli.spec.table import COLUMN
from implicit_cli.spec.targets import over, thaw_over

LISTED = ("grid", "zip", "one_at_a_time")
"""Designs of levels."""
SAMPLED = ("random", "latin_hypercube", "sobol", "halton", "saltelli", "morris", "fast")
"""Designs of distributions."""
INDEPENDENT = ("saltelli", "morris", "fast")
"""Designs whose points differ in chosen entries, which correlations would mix."""
FEWEST_FAST = 65
"""FAST resolves 4 harmonics of each frequency from more than 4 * 4^2 samples."""
ALLOWED_WITH = {
    "samples": SAMPLED,
    "seed": SAMPLED,
    "covariance": tuple(name for name in SAMPLED if name not in INDEPENDENT),
    "second_order": ("saltelli",),
    "levels": ("morris",),
}
"""Settings that only some designs have."""


def together(spec: SweepSpec) -> Iterator[Fault]:
    """Faults of a `SweepSpec` whose keys are good one by one."""
    for name, designs in ALLOWED_WITH.items():
        given = getattr(spec, name)
        if given is not None and given is not False and spec.design not in designs:
            yield (name,), f"found with design '{spec.design}', allowed with: {listing(designs)}"
    for target, axis in spec.over.items():
        if text := _unfit(axis, spec):
            yield ("over", target), text
    if spec.continuation == "arc":
        yield from _of_a_branch(spec)
    if spec.design in SAMPLED:
        yield from _of_samples(spec)
    else:
        yield from _of_lengths(spec)


def _unfit(axis: AxisSpec, spec: SweepSpec) -> str:
    """Why an axis does not go with the design or with the covariance, or the empty string."""
    levels = isinstance(axis, LevelsSpec)
    what = "levels" if levels else f"{{{axis.kind}: ...}}"
    if levels == (spec.design in SAMPLED):
        fitting = f"a distribution: {listing(DISTRIBUTIONS)}" if levels else f"a list, a reference, or one of {listing(LEVELS)}"
        others = f"levels go with {listing(LISTED)}" if levels else f"distributions go with {listing(SAMPLED)}"
        return f"found {what} with design '{spec.design}', allowed: {fitting}; {others}"
    if spec.covariance is not None and not levels and (axis.kind != "normal" or len(axis.arguments) > 1):
        given = what if axis.kind != "normal" else "{normal: [MEAN, DEVIATION]}"
        return f"found {given} with sweep.covariance, allowed: {{normal: [MEAN]}}, whose deviations are in the covariance"
    if spec.covariance is None and axis.kind == "normal" and len(axis.arguments) == 1:
        return "found {normal: [MEAN]} without sweep.covariance, allowed: {normal: [MEAN, DEVIATION]}"
    return ""


def _of_a_branch(spec: SweepSpec) -> Iterator[Fault]:
    """What does not go with `continue: arc`."""
    for name, allowed in (("design", "grid"), ("start", "cold"), ("on_failure", "skip")):
        if (given := getattr(spec, name)) != allowed:
            yield (name,), f"found '{given}' with continue: arc, allowed: '{allowed}'"
    if len(spec.over) != 1:
        yield ("over",), f"found {len(spec.over)} targets with continue: arc, allowed: one, a parameter or one entry of it"
        return
    target, axis = next(iter(spec.over.items()))
    if target == "seed":
        yield ("over", target), "found the seed with continue: arc, allowed: a parameter or one entry of it"
    elif isinstance(axis, LevelsSpec) and axis.count is not None and axis.count < 2:
        yield ("over", target), "found 1 level with continue: arc, allowed: at least 2, of which the second says which way to go"


def _of_samples(spec: SweepSpec) -> Iterator[Fault]:
    samples = spec.samples
    if samples is None:
        yield ("samples",), f"missing, allowed with design '{spec.design}': {SweepSpec.model_fields['samples'].description}"
    elif spec.design in ("sobol", "saltelli") and samples & (samples - 1):
        below = 1 << (samples.bit_length() - 1)
        lost = "other counts lose Sobol's balance"
        yield ("samples",), f"found {samples}, allowed: a power of two, such as {below} or {2 * below}; {lost}"
    elif spec.design == "fast" and samples < FEWEST_FAST:
        yield ("samples",), f"found {samples}, allowed with design 'fast': at least {FEWEST_FAST}"
    elif samples > spec.max_cases:
        yield ("samples",), f"found {samples:,}, allowed: at most {spec.max_cases:,}, which is sweep.max_cases"
    if spec.levels is not None and spec.levels % 2:
        yield ("levels",), f"found {spec.levels}, allowed: an even number"


def _of_lengths(spec: SweepSpec) -> Iterator[Fault]:
    """Counts that are known without reading a file; references are counted when they are read."""
    known = {target: axis.count for target, axis in spec.over.items() if isinstance(axis, LevelsSpec) and axis.count is not None}
    if not known:
        return
    if spec.design == "zip" and len(set(known.values())) > 1:
        counts = ", ".join(f"{count:,} of '{target}'" for target, count in known.items())
        yield ("over",), f"found {counts}, allowed with design 'zip': as many values of each target"
        return
    cases = math.prod(known.values()) if spec.design == "grid" else max(known.values())
    if cases > spec.max_cases:
        least = "at least " if spec.design == "one_at_a_time" or len(known) < len(spec.over) else ""
        yield ("over",), f"found {least}{cases:,} cases, allowed: at most {spec.max_cases:,}, which is sweep.max_cases"


def _written() -> dict[str, Any]:
    """JSON Schema of an axis."""
    number = {"anyOf": [{"type": "number"}, {"type": "array", "minItems": 1}]}
    kinds = [
        {
            "type": "object",
            "description": f"[{', '.join(rule.arguments)}]: {rule.meaning}",
            "properties": {
                kind: {"type": "array", "items": number, "minItems": rule.needed, "maxItems": len(rule.arguments)},
            },
            "required": [kind],
            "additionalProperties": False,
        }
        for kind, rule in KINDS.items()
    ]
    texts = [
        {
            "type": "string",
            "pattern": REFERENCE,
            "description": "'file.h5:/path', a value for each entry of its first axis",
        },
        {
            "type": "string",
            "pattern": COLUMN,
            "description": "'file.csv:column', whose first line names the columns",
        },
    ]
    listed = {"type": "array", "items": number, "minItems": 1, "description": "values, each a number or a nested list"}
    return {"description": "What a target runs through: levels or a distribution", "anyOf": [listed, *texts, *kinds]}


Axis = TypeAliasType("Axis", Annotated[Any, WithJsonSchema(_written())])
Over = Annotated[Mapping[str, AxisSpec], Checked(over, Annotated[dict[str, Axis], Field(min_length=1)], thaw_over)]


class SweepSpec(Strict):
    """Many cases of one problem: what varies from case to case, and how the cases are chosen."""

    model_config = ConfigDict(serialize_by_alias=True)

    over: Over = Field(
        description="{TARGET: AXIS}; a target is NAME, NAME[i] or NAME[i, j]: a parameter, data or an unknown's initial guess, "
        "or one entry of it, or `seed`; the last one varies fastest in a grid"
    )
    design: Literal[
        "grid", "zip", "one_at_a_time", "random", "latin_hypercube", "sobol", "halton", "saltelli", "morris", "fast"
    ] = Field(
        default="grid",
        description="how cases are chosen: grid, zip and one_at_a_time take levels, the others take points of distributions",
    )
    samples: int | None = Field(
        default=None,
        ge=1,
        description="number of points; with saltelli base samples N of N (D + 2) points, D being the number of all entries that "
        "vary; with morris trajectories of D + 1 points; with fast samples for each of the D entries",
    )
    second_order: bool = Field(default=False, description="with saltelli: N (2 D + 2) points, which give the indices of pairs, too")
    levels: int | None = Field(
        default=None, ge=2, description="with morris: even number of levels that each entry takes; left out: 4"
    )
    seed: int | None = Field(default=None, ge=0, description="seed of a design that is sampled; left out: the spec's own `seed`")
    covariance: Value | None = Field(
        default=None,
        description="covariance matrix of all entries that vary, in the order written, each target's laid end to end; every axis "
        "is then {normal: [MEAN]}",
    )
    max_cases: int = Field(default=1_000_000, ge=1, description="most cases that are allowed")
    start: Literal["cold", "neighbour"] = Field(
        default="cold",
        description="where a solve begins. cold: at the case's own guess; neighbour: where the residual is smaller there, at the "
        "solution of the case before it on a path from neighbour to neighbour, or at what that predicts along the tangent",
    )
    continuation: Literal["arc"] | None = Field(
        default=None,
        alias="continue",
        description="arc: the branch of solutions that begins at the first level is followed by its arclength, through folds, "
        "within the range of levels; each time it passes a level is a case, and so is each fold. Left out: a case for each level",
    )
    timeout: float | None = Field(
        default=None,
        gt=0,
        description="seconds after which a case is given up; looked at between steps of its solver, and with --jobs also where "
        "it does not come to one. Cases that are computed many at once have no clock. Left out: no limit",
    )
    on_failure: Literal["skip", "retry", "abort"] = Field(
        default="skip",
        description="what a case that fails means. skip: it has a status of its own, the others go on; retry: it is solved again "
        "by each other solver that its condition allows, until one succeeds; abort: the sweep ends there, with what is done saved",
    )
    fallback: Table[float] = Field(
        default_factory=nothing,
        description="{OUTPUT: NUMBER}: what an output is in a case that has failed in the end, for whoever reads numbers alone; "
        "its status and its message say so",
    )

    @model_validator(mode="after")
    def _fits_together(self) -> SweepSpec:
        stop(list(together(self)))
        return self
