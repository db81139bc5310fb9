"""Which figures a result has, each with a caption that says what it means."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from implicit_cli.report import course, local, many

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from implicit_cli.engine import Spectrum
    from implicit_cli.sample import Finding, Sample
    from implicit_cli.store import Material
    from implicit_cli.structures.export import Snapshot

OUTPUTS, INPUTS = 4, 6
"""Outputs and inputs of which a page has figures of their own, at most."""


@dataclass(frozen=True)
class Panel:
    """A figure by its name, with a title and a caption; `draw` makes it."""

    name: str
    title: str
    caption: str
    draw: Callable[[], Figure]


def panels(
    material: Material,
    sample: Sample,
    findings: Sequence[Finding],
    case: int | None,
    particles: Snapshot | None = None,
    spectrum: Callable[[], Spectrum] | None = None,
) -> Iterator[Panel]:
    """All figures that the result allows, in the order of a page. `case` is the row that is shown by itself, if one is, `particles`
    those of that case, where it has some, and `spectrum` finds the eigenvalues of its A.
    """
    if particles is not None:
        for name in list(particles.vectors)[:OUTPUTS]:
            yield Panel(
                f"displacements-{name}",
                f"How particles move: {name.replace('_', ' ')}",
                "Particles at the solution, each with its derivative as an arrow, all to one scale; forms tell species,"
                " crosses are particles without a derivative. Three dimensions are seen along the third axis.",
                partial(
                    local.displacements,
                    particles.structure.position,
                    particles.vectors[name],
                    particles.structure.cell if particles.structure.periodic.any() else None,
                    particles.structure.species,
                    particles.undetermined,
                ),
            )
    if case is not None:
        yield from _of_case(sample, case)
    else:
        yield from _of_sweep(material, sample)
    yield from _of_findings(sample, findings)
    if material.products:
        parts = np.array([one.parts for one in material.products])
        sizes = np.array([one.size for one in material.products])
        kinds = sorted({one.kind for one in material.products})
        yield Panel(
            "certificate",
            "How sure each derivative is",
            "Bars: the bound on the error of a derivative's worst column, in its three parts: how far the solution is "
            "known, what the linear solve left, and rounding. "
            "The stroke is the size of that column: the further right of the bars, the more digits are right. Bounds "
            f"here are of the kind: {', '.join(kinds)}.",
            lambda: local.certificate([one.label for one in material.products][:40], sizes[:40], parts[:40]),
        )
    for (of, wrt), matrix in list(material.jacobians.items())[:OUTPUTS]:
        yield Panel(
            f"jacobian-{of}-{wrt}",
            f"d {of} / d {wrt}, entry by entry",
            "Left: entries that are not zero. Right: how large each is, as a logarithm; zeros and entries without a "
            "derivative are white.",
            partial(local.jacobian, matrix, of, wrt),
        )
    if spectrum is not None:
        yield Panel(
            "spectrum",
            "Stiff and soft modes",
            "Eigenvalues of A = dF/dx at the solution (of an energy, the Hessian; singular values where A is not symmetric), "
            "the softest first. Crosses count as zero: symmetries, which do no harm, and modes that leave unknowns undetermined. "
            "A solution answers most along soft modes.",
            lambda: local.spectrum(spectrum()),
        )
    residual, solves = material.residual, material.linear.values()
    if (residual > 0).any() or any((values > 0).any() for values in solves):
        yield Panel(
            "convergence",
            "Convergence",
            "Left: the largest component of F after each iteration, polishing Newton steps last; each line is a case. "
            "Right: relative residuals of the linear solves behind the derivatives, recomputed.",
            lambda: course.convergence(residual, material.tol, dict(material.linear)),
        )
    if material.search is not None:
        found = material.search
        yield Panel(
            "optimisation",
            "The search",
            "Left: objective by evaluation, the star is the result. Right: the length of the projected gradient after "
            f"each step. It ended: {found.reason}.",
            lambda: course.optimisation(found.steps, found.objective, found.gradient, found.validation, found.result),
        )
    if material.checked is not None and material.checked.observed.size:
        checked = material.checked
        verdicts = ", ".join(f"{count} {name}" for name, count in checked.verdicts.items())
        yield Panel(
            "verification",
            "Bounds against differences of solutions",
            "Each point is a derivative: its distance from a witness that solves again nearby, over its stored bound; "
            f"grey is the witness's own error. Below the line the bound holds. Cases: {verdicts}.",
            lambda: course.predicted_against_observed(checked.observed, checked.bound, checked.witness),
        )


def _of_case(sample: Sample, case: int) -> Iterator[Panel]:
    for k in range(min(len(sample.outputs), OUTPUTS)):
        if np.isfinite(sample.J[case, k]).any():
            yield Panel(
                f"tornado-{sample.outputs[k]}",
                f"What moves {sample.outputs[k]}",
                "Each bar: how far the output moves, to first order, when one input alone changes by 10 % of itself, up"
                " and down. The longest first. Strokes at the ends are error bounds, where they can be seen.",
                partial(local.tornado, sample, case, k),
            )
    if len(sample.outputs) > 1 and np.isfinite(sample.J[case]).any():
        yield Panel(
            "elasticities",
            "Inputs by outputs",
            "Percent by which an output (row) changes for one percent of an input (column). Orange and violet are "
            "opposite signs, pale is little.",
            lambda: local.heatmap(sample, case),
        )


def _of_sweep(material: Material, sample: Sample) -> Iterator[Panel]:
    basins = tuple(material.basins[name] for name in sample.ids) if material.basins else ()
    between = "The curve goes through both, its band is as wide as the error that is estimated for it. "
    if sample.folds:
        between = "The line follows the branch. "
    elif len(sample.inputs) > 1:
        between = "Other inputs vary too: the band has the middle 80 % of cases nearby, the line their median. "
    for k in range(min(len(sample.outputs), OUTPUTS)):
        for i in range(min(len(sample.inputs), INPUTS if k == 0 else 1)):
            yield Panel(
                f"response-{sample.outputs[k]}-{sample.names[i]}",
                f"{sample.outputs[k]} over {sample.names[i]}",
                "Marks are cases, strokes their exact slopes. "
                + between
                + "Crosses at the bottom are cases that failed."
                + (" Forms of marks tell basins: where the form changes the solution has jumped." if len(set(basins)) > 1 else ""),
                partial(many.response, sample, k, i, basins),
            )
    if len(sample.inputs) > 1 and len(sample.outputs):
        yield Panel(
            "map",
            f"{sample.outputs[0]} over {sample.names[0]} and {sample.names[1]}",
            "Each mark is a case, its shade the output, dark is little. Crosses are cases that failed.",
            lambda: many.sweep_map(sample, 0, 0, 1, basins),
        )


def _of_findings(sample: Sample, findings: Sequence[Finding]) -> Iterator[Panel]:
    meanings = {
        "dgsm": "Upper bounds on total Sobol indices from mean squared derivatives, with 95 % intervals. An input whose"
        " bound is near zero does not matter.",
        "chaos": "Shares of the output's variance: S1 by an input alone, ST with all that it takes part in. Intervals "
        "are 95 % and carry error bounds and what the fit leaves unexplained.",
        "sobol": "Shares of the output's variance: S1 by an input alone, ST with all that it takes part in; 95 % intervals.",
        "morris": "Mean size of elementary effects, with 95 % intervals.",
        "fast": "Shares of the output's variance by Fourier amplitudes. Without intervals.",
        "borgonovo": "How far an input moves the distribution of the output, with 95 % intervals.",
    }
    count: dict[str, int] = {}
    for one in findings:
        if one.method in meanings and one.axis == "input":
            count[one.method] = count.get(one.method, 0) + 1
            if count[one.method] <= OUTPUTS:
                yield Panel(f"{one.method}-{one.of}", f"{one.method} of {one.of}", meanings[one.method], partial(many.indices, one))
    directions = {one.of: one for one in findings if one.method == "active" and one.axis == "direction"}
    vectors = {one.of: one for one in findings if one.method == "active" and one.axis == "input"}
    for of in list(directions)[:OUTPUTS]:
        yield Panel(
            f"active-{of}",
            f"Active subspace of {of}",
            "Left: eigenvalues of the mean outer product of gradients with 95 % intervals; the dashed line is the "
            "largest gap. Right: the output over the first direction: the closer to a curve, the more that one "
            "direction tells.",
            partial(_active, sample, of, directions[of], vectors[of]),
        )


def _active(sample: Sample, of: str, eigen: Finding, inputs: Finding) -> Figure:
    from implicit_cli.analysis.standard import standard

    k = sample.outputs.index(of)
    return many.active(sample, k, eigen, standard(sample).xi, inputs.columns["direction 1"].values)
