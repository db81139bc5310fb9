"""The group `/outer` of a result file: how `implicit optimize` came to the parameters of its case."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from implicit_cli.outer import Outcome
from implicit_cli.result import Array, CaseResult, Header
from implicit_cli.store import layout
from implicit_cli.store.atomic import replace_file
from implicit_cli.store.write import _Writer


def write_optimised(
    path: Path, header: Header, case: CaseResult, outcome: Outcome, points: Mapping[str, Array], unit: str = "1"
) -> None:
    """Write a result file with the case at the optimum and the way there; `points` are lambda by parameter, one row per evaluation.

    `unit` is that of the objective. Raises what `write_result` does.
    """
    replace_file(path, _OuterWriter(header, case, outcome, points, unit).image())


class _OuterWriter(_Writer):
    def __init__(self, header: Header, case: CaseResult, outcome: Outcome, points: Mapping[str, Array], unit: str) -> None:
        super().__init__(header, [case])
        self.outcome, self.points, self.unit = outcome, points, unit

    def write_diagnostics(self) -> None:
        super().write_diagnostics()
        self.write_outer()

    def write_outer(self) -> None:
        outcome, root, put = self.outcome, layout.OUTER, self.file.put
        each = outcome.evaluations
        evaluation = self.file.dimension(layout.EVALUATION, len(each), None, "evaluation of the objective, in order")
        step = self.file.dimension(layout.OUTER_STEP, len(outcome.steps), None, "outer step; 0 is the start")
        self.file.text(f"{root}/reason", outcome.reason, "why the outer loop ended")
        put(f"{root}/converged", np.uint8(outcome.converged), (), "1 where it ended at an optimum, or by its validation")
        put(f"{root}/result", np.int64(outcome.result), (), "evaluation whose parameters are those of the case")
        put(f"{root}/steps", np.array(outcome.steps, np.int64), [step], "evaluation that each step took")
        below = {layout.wrt_unit(self.parameters[name]) for name in self.points}
        slope = layout.quotient(self.unit, below.pop()) if len(below) == 1 else "1"
        numbers = {
            "objective": ([one.objective for one in each], "objective", self.unit),
            "gradient_norm": (outcome.gradient_norms(), "2-norm of the projected gradient with respect to lambda", slope),
            "bound": ([one.bound for one in each], "error of the gradient in the 2-norm, at most", slope),
            "accuracy": ([one.accuracy for one in each], "relative accuracy asked of the gradient", "1"),
            "residual": ([one.residual for one in each], "max |F| at the solution, recomputed", "1"),
            "validation": ([one.validation for one in each], "validation; NaN where there is none", "1"),
            "seconds": ([one.seconds for one in each], "wall time of the evaluation", "s"),
        }
        for name, (values, meaning, unit) in numbers.items():
            put(f"{root}/{name}", np.asarray(values, float), [evaluation], meaning, unit)
        codes = self.codes(one.status for one in each)
        put(f"{root}/status", codes, [evaluation], "what became of the inner solve", **layout.status_flags())
        messages = np.array([one.message for one in each], object)
        put(f"{root}/message", messages, [evaluation], "cause and cure where the status is not ok")
        for name, values in self.points.items():
            variable = self.parameters[name]
            label = layout.wrt_label(variable)
            path = f"{layout.LAMBDA}/{layout.component(name)}"
            put(
                path,
                np.asarray(values, float),
                [evaluation, *self.dims(variable)],
                f"what is varied: {label}",
                layout.wrt_unit(variable),
            )
