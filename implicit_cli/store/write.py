"""From case results to the file: which array goes where, with which axes, units and words (`docs/file-format.md`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from implicit_cli.result import Array, Bound, CaseResult, Header, LinearReport, Product, Variable
from implicit_cli.store import layout
from implicit_cli.store.atomic import replace_file
from implicit_cli.store.image import Content, Dimension, Image
from implicit_cli.store.words import joined, root_attributes, weakest, weakest_kind

T = TypeVar("T")
ProductKey = tuple[str, str, str, str, str]


def write_result(path: Path, header: Header, cases: Sequence[CaseResult]) -> None:
    """Write a result file with one or more cases; an earlier file at `path` stays as it was until the new one is complete.

    Missing folders are created. Raises EnvironmentProblem (one line) where the file system refuses, ValueError where the records
    contradict each other (shapes that differ from the declared axes, a quantity that a good case lacks, an id used twice).
    """
    replace_file(path, image_of(header, cases))


def image_of(header: Header, cases: Sequence[CaseResult]) -> Content:
    """The bytes of a result file; raises ValueError as `write_result` does."""
    return _Writer(header, cases).image()


class _Writer:
    def __init__(self, header: Header, cases: Sequence[CaseResult]) -> None:
        ids = [case.id for case in cases]
        if not ids or len(set(ids)) < len(ids):
            again = next((name for name, times in Counter(ids).items() if times > 1), None)
            raise ValueError(f"a result needs cases with different ids, found {'none' if again is None else f'{again!r} twice'}")
        self.header = header
        self.cases = cases
        self.file = Image()
        self.case = self.file.dimension(layout.CASE, len(ids), np.array(ids, object), "identifier of the case")
        self.axes = {axis.name: self.file.dimension(axis.name, axis.size, axis.labels) for axis in header.axes}
        self.sources = {axis.name: axis for axis in header.axes}
        self.copies: dict[tuple[str, str, int], Dimension] = {}
        self.values = {variable.name: variable for variable in (*header.unknowns, *header.outputs)}
        self.parameters = {variable.name: variable for variable in header.parameters}

    def image(self) -> Content:
        """The bytes of the file."""
        self.write_inputs()
        self.write_cases()
        self.write_quantities()
        self.write_products()
        self.write_certificate()
        self.write_diagnostics()
        for name, text in self.header.provenance.items():
            self.file.text(f"{layout.PROVENANCE}/{layout.component(name)}", text, name)
        return self.file.finish(root_attributes(self.header.problem, self.header.summary))

    # Axes

    def dims(self, variable: Variable) -> tuple[Dimension, ...]:
        """The dimensions of a quantity; an axis that it has twice gets a dimension of its own the second time."""
        return tuple(self.copy("", name, count) if count else self.axes[name] for name, count in _counted(variable.axes))

    def theta_dims(self, *parameters: Variable | None) -> tuple[tuple[Dimension, ...], ...]:
        """The dimensions of parameters as rows and columns of a derivative: `<parameter>_<axis>`.

        xarray has no dimension twice, so a parameter that comes a second time gets dimensions of its own.
        """
        found = [parameter for parameter in parameters if parameter]
        counted = iter(_counted([(parameter.name, name) for parameter in found for name in parameter.axes]))
        return tuple(
            tuple(self.copy(owner, name, count) for (owner, name), count in islice(counted, len(parameter.axes)))
            for parameter in found
        )

    def copy(self, owner: str, name: str, count: int) -> Dimension:
        key = (owner, name, count)
        if key not in self.copies:
            axis = self.sources[name]
            wanted = f"{owner}_{name}" if owner else name
            self.copies[key] = self.file.dimension(wanted, axis.size, axis.labels, f"{name} of {owner}" if owner else name)
        return self.copies[key]

    # Groups

    def write_inputs(self) -> None:
        self.file.text(f"{layout.SPEC}/text", self.header.spec_text, "the spec as given")
        self.file.text(f"{layout.SPEC}/resolved", self.header.spec_resolved, "the spec with every default filled in, as JSON")
        declared = {variable.name: variable for variable in self.header.data}
        for name, value in self.header.inputs.items():
            variable = declared[name]
            self.file.put(
                f"{layout.INPUTS}/{layout.component(name)}", value, self.dims(variable), variable.doc or name, variable.unit
            )

    def write_cases(self) -> None:
        self.per_case("id", [case.id for case in self.cases], "identifier of the case")
        self.per_case("status", self.codes(case.status for case in self.cases), "what became of the case", **layout.status_flags())
        self.per_case("message", [case.message for case in self.cases], "cause and cure where the status is not ok")
        accuracy = [float(case.accuracy) for case in self.cases]
        self.file.put(f"{layout.CASES}/accuracy", accuracy, [self.case], "largest bound of a product, relative to the product")
        for name, long_name in (
            ("start", "where the solve began"),
            ("basin", "case from which the solution goes on without a jump"),
            ("point", "what the case is of a branch: level, fold or end"),
        ):
            if any(getattr(case, name) for case in self.cases):
                self.per_case(name, [getattr(case, name) for case in self.cases], long_name)
        for stage in dict.fromkeys(stage for case in self.cases for stage in case.seconds):
            seconds = [case.seconds.get(stage, np.nan) for case in self.cases]
            self.file.put(f"{layout.SECONDS}/{layout.component(stage)}", seconds, [self.case], f"wall time: {stage}", "s")
        for variable in self.header.parameters:
            extra = {"transform": variable.transform, "wrt": layout.wrt_label(variable)}
            self.quantity(layout.PARAMETERS, variable, [case.theta.get(variable.name) for case in self.cases], **extra)
        declared = {variable.name: variable for variable in (*self.header.data, *self.header.unknowns)}
        for name in dict.fromkeys(name for case in self.cases for name in case.swept):
            variable = declared.get(name, Variable(name, (), doc="seed of everything random in the case"))
            self.quantity(layout.SWEPT, variable, [case.swept.get(name) for case in self.cases])

    def write_quantities(self) -> None:
        for variable in self.header.unknowns:
            self.quantity(layout.SOLUTION, variable, [case.solution.get(variable.name) for case in self.cases])
        for variable in self.header.outputs:
            self.quantity(layout.OUTPUTS, variable, [case.outputs.get(variable.name) for case in self.cases])

    def write_products(self) -> None:
        found: list[dict[ProductKey, Product]] = []
        for case in self.cases:
            found.append({(p.kind, p.name, p.of, p.wrt, p.wrt2): p for p in case.products})
            if len(found[-1]) < len(case.products):
                raise ValueError(f"case '{case.id}' has two products of one name")
        for key in dict.fromkeys(key for products in found for key in products):
            self.product(key, [products.get(key) for products in found])
        named = [p for case in self.cases for p in case.products if p.direction]
        for kind, name in dict.fromkeys((p.kind, p.name) for p in named):
            self.direction(kind, name, [p for p in named if (p.kind, p.name) == (kind, name)])

    def product(self, key: ProductKey, products: Sequence[Product | None]) -> None:
        kind, name, of, wrt, wrt2 = key
        above, below, last = self.values.get(of), self.parameters.get(wrt), self.parameters.get(wrt2)
        if kind == "hessian":  # of a scalar: its rows are the first parameter's components
            rows, columns = self.theta_dims(below, last)
        else:
            rows = self.dims(above) if above else ()
            columns = (self.theta_dims(below)[0] if kind == "jacobian" else self.dims(below)) if below else ()
            rows = (*self.directions(kind, name, products), *rows)
        label = layout.BOTH.join(layout.wrt_label(parameter) for parameter in (below, last) if parameter)
        match kind:
            case "jacobian":
                meaning = f"derivative of {of} with respect to {label}"
            case "jvp":
                meaning = f"derivative of {of} along direction {name}"
            case "vjp":
                meaning = f"cotangent {name} times the derivatives with respect to {label}"
            case "hessian":
                meaning = f"second derivative of {of} with respect to {label}"
            case "jvp_left" | "jvp_right":
                meaning = f"{kind.removeprefix('jvp_')} derivative of {of} along direction {name}"
            case "hessian_along":
                meaning = f"second derivative of {of} along direction {name}"
            case _:
                raise ValueError(f"product kind: found '{kind}', allowed: {', '.join(layout.VALUES)}")
        below_unit = layout.times(*(layout.wrt_unit(parameter) if parameter else "1" for parameter in (below, last)))
        units = layout.quotient(above.unit if above else "1", below_unit)
        path = layout.value_path(*key)
        bound_path, status_path = layout.bound_path(*key), layout.status_path(*key)
        links = {"status": f"/{status_path}", "bound": f"/{bound_path}/bound"}
        links |= {word: text for word, text in (("of", of), ("wrt", label)) if text}
        links["method"] = joined(case.method for case in self.cases)
        values = self.stacked(path, [product.value if product else None for product in products], _sizes((*rows, *columns)))
        self.file.put(path, values, [self.case, *rows, *columns], meaning, units, **links)

        statuses = [product.status if product else case.status for product, case in zip(products, self.cases, strict=True)]
        self.file.put(status_path, self.codes(statuses), [self.case], f"status of: {meaning}", **layout.status_flags())

        bound_columns = columns if kind in ("jacobian", "hessian") else self.directions(kind, name, products)
        self.bound(bound_path, [product.bound if product else None for product in products], bound_columns, units)

    def bound(self, path: str, bounds: Sequence[Bound | None], columns: Sequence[Dimension], units: str) -> None:
        """A bound with its parts, over the cases; NaN for a case that has none."""
        kinds = [bound.kind if bound else "bound" for bound in bounds]
        for part, long_name in layout.PARTS.items():
            parts = [getattr(bound, "total" if part == "bound" else part) if bound else None for bound in bounds]
            stack = self.stacked(f"{path}/{part}", parts, _sizes(columns))
            self.file.put(f"{path}/{part}", stack, [self.case, *columns], long_name, units, kind=weakest_kind(kinds))
        text = "bound: every constant is proved or computed; else estimate"
        self.file.put(f"{path}/kind", np.array(kinds, object), [self.case], text)

    def directions(self, kind: str, name: str, products: Sequence[Product | None]) -> tuple[Dimension, ...]:
        """The dimension of many directions under one name; none where there is one direction."""
        size = next((np.size(p.bound.total) for p in products if p and p.direction and np.ndim(p.bound.total)), None)
        if size is None:
            return ()
        key = (kind, name, size)
        if key not in self.copies:
            word = "cotangent" if kind == "vjp" else "direction"
            self.copies[key] = self.file.dimension(f"{name}_{word}", size, None, f"{word} of {name}")
        return (self.copies[key],)

    def direction(self, kind: str, name: str, products: Sequence[Product]) -> None:
        """A direction's parts, once for all cases and for all the products that share it."""
        directions, many = [product.direction for product in products], self.directions(kind, name, products)
        for quantity in dict.fromkeys(quantity for direction in directions for quantity in direction):
            path = layout.direction_path(kind, name, quantity)
            value = directions[0].get(quantity)
            parts = [direction.get(quantity, np.nan) for direction in directions]
            # the cases of a run share one array, as a rule
            if value is None or any(part is not value and not np.array_equal(part, value) for part in parts):
                raise ValueError(f"/{path}: the direction differs between products")
            if kind != "vjp":
                variable = self.parameters[quantity]
                unit, meaning = layout.wrt_unit(variable), f"direction in {layout.wrt_label(variable)}"
            else:
                variable = self.values[quantity]
                unit, meaning = layout.quotient("1", variable.unit), f"cotangent of {quantity}"
            self.file.put(path, value, [*many, *self.dims(variable)], meaning, unit)

    def write_certificate(self) -> None:
        length = layout.common_unit(self.header.unknowns)
        for name, meaning in layout.CONSTANTS.items():
            values = [float(getattr(case.certificate, name)) for case in self.cases]
            sources = [case.certificate.provenance.get(name, "not stated") for case in self.cases]
            units = length if name in ("step", "radius", "margin") else "1"
            self.file.put(f"{layout.CERTIFICATE}/{name}", values, [self.case], meaning, units, provenance=weakest(sources))
            long_name = f"where {name} comes from: proved, computed or estimated"
            self.file.put(f"{layout.CERTIFICATE_PROVENANCE}/{name}", np.array(sources, object), [self.case], long_name)
        for group, variables in ((layout.SOLUTION, self.header.unknowns), (layout.OUTPUTS, self.header.outputs)):
            for variable in variables:
                bounds = [case.bounds.get(variable.name) for case in self.cases]
                if any(bounds):
                    self.bound(layout.quantity_bound_path(group, variable.name), bounds, (), variable.unit)

    def write_diagnostics(self) -> None:
        methods = np.array([case.method for case in self.cases], object)
        self.file.put(layout.METHOD, methods, [self.case], "how the products were differentiated")
        solvers = [case.solver for case in self.cases]
        root = layout.SOLVER
        self.file.put(f"{root}/name", np.array([s.name for s in solvers], object), [self.case], "forward solver")
        status = self.codes(s.status for s in solvers)
        self.file.put(f"{root}/status", status, [self.case], "what became of the forward solve", **layout.status_flags())
        self.file.put(f"{root}/steps", [int(s.steps) for s in solvers], [self.case], "iterations of the solver")
        self.file.put(f"{root}/polish_steps", [int(s.polish_steps) for s in solvers], [self.case], "Newton steps after the solver")
        self.file.put(f"{root}/tol", [float(s.tol) for s in solvers], [self.case], "tolerance on max |F|")
        self.file.put(f"{root}/residual", [float(s.residual) for s in solvers], [self.case], "max |F| at the solution, recomputed")
        histories = [np.asarray(s.history, float) for s in solvers]
        iteration = self.file.dimension(layout.ITERATION, max(map(len, histories)), None, "iteration, polish steps included")
        padded = _padded(histories, iteration.size, np.nan)
        self.file.put(f"{layout.CONVERGENCE}/residual", padded, [self.case, iteration], "max |F| per iteration; NaN after the last")
        for direction in dict.fromkeys(report.direction for case in self.cases for report in case.linear):
            self.linear(
                direction, [_only(report for report in case.linear if report.direction == direction) for case in self.cases]
            )
        self.null_space()

    def linear(self, direction: str, reports: Sequence[LinearReport | None]) -> None:
        root = f"{layout.LINEAR}/{layout.component(direction)}"
        count = max(len(report.status) for report in reports if report)
        side = self.file.dimension(f"{direction}_right_hand_side", count, None, f"right-hand side of the {direction} solves")
        axes = [self.case, side]
        self.file.put(f"{root}/method", np.array([r.method if r else "" for r in reports], object), [self.case], "linear solver")
        codes = _padded([np.asarray(r.status) if r else np.empty(0) for r in reports], count, layout.ABSENT).astype(np.int8)
        self.file.put(f"{root}/status", codes, axes, "what became of each linear solve", **layout.status_flags(padded=True))
        residuals = _padded([np.asarray(r.residual) if r else np.empty(0) for r in reports], count, np.nan)
        self.file.put(f"{root}/residual", residuals, axes, "relative residual, recomputed in float64")
        steps = _padded([np.asarray(r.steps) if r else np.empty(0) for r in reports], count, layout.ABSENT).astype(np.int64)
        self.file.put(f"{root}/steps", steps, axes, "iterations; 1 for a direct solve, -1 where there is none")

    def null_space(self) -> None:
        spaces = [case.null_space for case in self.cases]
        root = layout.NULL_SPACE
        self.file.put(f"{root}/dimension", [int(s.dimension) for s in spaces], [self.case], "dimension of the null space of A")
        if names := list(dict.fromkeys(name for space in spaces for name in space.gauges)):
            gauge = self.file.dimension(layout.GAUGE, len(names), np.array(names, object), "symmetry of F")
            flags = np.array([[name in space.gauges for name in names] for space in spaces], np.uint8)
            self.file.put(f"{root}/gauges", flags, [self.case, gauge], "1 where the symmetry is in the null space")
        for reason, name in dict.fromkeys((r, n) for space in spaces for r, masks in space.undetermined.items() for n in masks):
            dims = self.dims(self.values[name])
            nothing = np.zeros(_sizes(dims), bool)
            masks = [np.asarray(space.undetermined.get(reason, {}).get(name, nothing)) for space in spaces]
            path = f"{layout.UNDETERMINED}/{layout.component(reason)}/{layout.component(name)}"
            long_name = f"1 where {name} has no derivative: {reason}"
            self.file.put(path, self.stacked(path, masks, _sizes(dims)).astype(np.uint8), [self.case, *dims], long_name)

    # Helpers that know the cases

    def per_case(self, name: str, values: Any, long_name: str, **attributes: Any) -> None:
        array = values if isinstance(values, np.ndarray) else np.array(values, object)
        self.file.put(f"{layout.CASES}/{name}", array, [self.case], long_name, **attributes)

    def codes(self, statuses: Iterable[int]) -> Array:
        return np.array([int(status) for status in statuses], np.int8)

    def quantity(self, group: str, variable: Variable, values: Sequence[Array | None], **attributes: Any) -> None:
        dims = self.dims(variable)
        path = f"{group}/{layout.component(variable.name)}"
        stack = self.stacked(path, values, _sizes(dims))
        self.file.put(path, stack, [self.case, *dims], variable.doc or variable.name, variable.unit, **attributes)

    def stacked(self, path: str, values: Sequence[Array | None], shape: tuple[int, ...]) -> Array:
        """One array over the cases; NaN for a case that went wrong before it had a value."""
        rows: list[Array] = []
        nothing = np.full(shape, np.nan) if any(value is None for value in values) else np.empty(0)
        for case, value in zip(self.cases, values, strict=True):
            if value is None and case.status.good:
                raise ValueError(f"/{path}: case '{case.id}' is {case.status.label} and has no value")
            # a mapped array stays one: it is never all in memory
            row = nothing if value is None else value if isinstance(value, np.ndarray) else np.asarray(value)
            if row.shape != shape:
                raise ValueError(f"/{path}: case '{case.id}' has shape {row.shape}, expected {shape}")
            rows.append(row)
        if len(rows) == 1:
            return rows[0][np.newaxis]
        # np.stack would look at each row several times
        return np.concatenate(rows).reshape(len(rows), *shape) if shape else np.array(rows)


def _sizes(dims: Sequence[Dimension]) -> tuple[int, ...]:
    return tuple(dim.size for dim in dims)


def _counted(axes: Sequence[T]) -> list[tuple[T, int]]:
    """Each axis with how often it came before."""
    return [(name, axes[:position].count(name)) for position, name in enumerate(axes)]


def _padded(rows: Sequence[Array], length: int, fill: float) -> Array:
    out = np.full((len(rows), length), fill)
    for target, row in zip(out, rows, strict=True):
        target[: len(row)] = row
    return out


def _only(found: Iterable[T]) -> T | None:
    items = list(found)
    if len(items) > 1:
        raise ValueError(f"one linear report per direction, found {len(items)}")
    return items[0] if items else None
