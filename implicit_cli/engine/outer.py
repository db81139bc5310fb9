"""The objective of an outer loop: its value, its gradient with respect to lambda, and a bound on that, by one case each time.

Targets become an output: a problem derived from the given one has the sum of weighted squared differences as one more output, with
the targets among its data. So one adjoint solve gives the gradient in either form, and the certificate bounds it like any product.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import jax.numpy as jnp
import numpy as np

from implicit_cli.core.transforms import TRANSFORMS
from implicit_cli.engine.asked import Direction
from implicit_cli.engine.bind import BoundProblem
from implicit_cli.engine.case import run_case
from implicit_cli.engine.faults import Faults
from implicit_cli.engine.given import Array
from implicit_cli.engine.plan import make_plan
from implicit_cli.engine.solving import Observer
from implicit_cli.engine.vectors import Vectors
from implicit_cli.errors import InputError, listing, nearest
from implicit_cli.outer import Evaluation, Settings, Trial, projected
from implicit_cli.outer.records import USABLE, FloatArray
from implicit_cli.problem import Data, Output, Parameter, Problem, Unknown
from implicit_cli.result import CaseResult, Variable
from implicit_cli.spec import LoadedSpec, OuterSpec, read_value
from implicit_cli.status import Status

LOOSE, FINEST = 0.1, 1e-14
"""Accuracy that is asked of the first gradient, and the smallest one that is ever asked."""
SHARE, MARGIN = 0.1, 0.3
"""The bound ought to be below this part of the projected gradient; where it is not, the accuracy is tightened beyond that."""
ROUNDS, GAIN = 3, 0.7
"""Times that a point is evaluated at most; what leaves more than this much of the bound was in vain."""
NAME = "outer"
"""Of the cotangent."""


class Objective:
    """A bound problem as a function of lambda: the section `outer` has been checked against its declarations.

    `settings` are the optimiser's; `title` names the objective, `label` says what is done. Raises InputError with all faults of the
    section that can be seen.
    """

    def __init__(self, loaded: LoadedSpec, vectors: Vectors, observer: Observer | None = None) -> None:
        bound = vectors.bound
        self.loaded, self.observer, self.seed = loaded, observer, loaded.model.seed
        section = _Section(loaded, bound)
        self.spec, self.parameters, self.problem = section.spec, section.parameters, bound.problem
        self.name = self.spec.objective if isinstance(self.spec.objective, str) else ""
        given = replace(bound, wrt=self.parameters, jacobian=False, hessian=False, inputs=(*bound.inputs, *section.origins))
        if not self.name:
            self.name, given = _with_targets(given, section.targets, section.weights)
        direction = Direction("vjp", NAME, {self.name: np.ones(())})
        given = replace(given, of=(self.name,), directions=(direction,))
        # F and g are those of a run where parameters and outputs are: then the programs are, too
        self._shares = given.problem is bound.problem and given.wrt == bound.wrt
        self._given, self.vectors = vectors, vectors.moved(given) if self._shares else Vectors(given)
        self.plan = replace(make_plan(loaded, self.vectors), method="implicit", one_sided=False, bounds=False)
        self.limits = section.limits
        self.settings = self._settings()
        spec, n = self.spec, self.vectors.theta.size
        self.title = self.name if isinstance(spec.objective, str) else "objective"
        what = self.name if isinstance(spec.objective, str) else f"squared differences of {', '.join(spec.objective)}"
        over = f"{', '.join(self.parameters)} ({n} {'entry' if n == 1 else 'entries'})"
        self.label = f"{spec.sense} {what} over {over} with {spec.method}"

    def __call__(self, point: FloatArray, x: FloatArray | None, before: Evaluation | None) -> Trial:
        """The evaluation at `point` (n,), with the solve started from x (d,); None: from the initial guess.

        Where the bound is more than a share of the projected gradient, a finer accuracy is asked for, and for all that follow.
        """
        begun, last, solution = time.perf_counter(), np.inf, x
        accuracy = before.accuracy if before is not None else LOOSE
        for _ in range(ROUNDS):
            plan = replace(self.plan, accuracy=accuracy)
            moved = self._moved(self.vectors, point, solution)
            result = run_case(moved, plan, identity="0", seed=self.seed, observer=self.observer)
            found = self._evaluation(point, result, accuracy, time.perf_counter() - begun)
            solution = np.asarray(self.vectors.x.join(result.solution))
            if not found.good:
                break
            wanted = SHARE * max(projected(found, self.settings), self.settings.tol)
            if found.bound <= wanted or found.bound > GAIN * last or accuracy <= FINEST:
                break
            reached = found.bound / max(float(np.linalg.norm(found.gradient)), found.bound)
            accuracy, last = max(min(accuracy, reached) * MARGIN * wanted / found.bound, FINEST), found.bound
        assert solution is not None
        return Trial(found, solution)

    def case_at(self, point: FloatArray, x: FloatArray | None) -> Vectors:
        """The vectors of a run with the parameters at `point`, and the solution x (d,), if there is one, as its initial guess."""
        return self._moved(self._given, point, x) if self._shares else Vectors(self._bound_at(self._given.bound, point, x))

    def theta(self, point: FloatArray) -> dict[str, Array]:
        """The parameters at lambda (n,), within their bounds to the last bit."""
        named = self.vectors.named_theta(jnp.asarray(point), self.vectors.data)
        low, high = (self.vectors.theta.split(side) for side in (self.settings.low, self.settings.high))
        found = {}
        for name, value in self.vectors.theta.split(point).items():
            least, most = self.limits[name]
            theta = np.clip(np.asarray(getattr(named, name)), least, most)
            theta = np.where(value <= low[name], least if np.isfinite(least) else theta, theta)
            found[name] = np.where(value >= high[name], most if np.isfinite(most) else theta, theta)
        return found

    def row(self) -> tuple[str, str]:
        """A line of the plan."""
        spec = self.spec
        return "outer", f"{self.label}, at most {spec.max_steps} steps, |projected gradient| <= {spec.tol:g}"

    def _moved(self, vectors: Vectors, point: FloatArray, x: FloatArray | None) -> Vectors:
        """Vectors at another lambda, with the programs that are compiled already."""
        moved = vectors.moved(self._bound_at(vectors.bound, point, x), single=self.plan.single)
        moved.start = jnp.asarray(point)
        return moved

    def _bound_at(self, bound: BoundProblem, point: FloatArray, x: FloatArray | None) -> BoundProblem:
        initial = bound.initial if x is None else self.vectors.x.split(x)
        return replace(bound, parameters={**bound.parameters, **self.theta(point)}, initial=initial)

    def _evaluation(self, point: FloatArray, result: CaseResult, accuracy: float, seconds: float) -> Evaluation:
        values = {**result.solution, **result.outputs}
        products = {product.wrt: product for product in result.products if product.kind == "vjp"}
        sound, gradient, bound = result.status in USABLE, np.full(point.shape, np.nan), np.nan
        if sound and products:
            gradient = np.array(self.vectors.theta.join({name: product.value for name, product in products.items()}))
            bound = float(np.linalg.norm([float(product.bound.total) for product in products.values()]))
        return Evaluation(
            point=np.array(point),
            objective=float(values[self.name]) if sound else np.nan,
            gradient=gradient,
            bound=bound,
            status=result.status,
            message=result.message if result.status is not Status.OK else "",
            residual=result.solver.residual,
            accuracy=accuracy,
            validation=float(values[self.spec.validation]) if sound and self.spec.validation is not None else np.nan,
            seconds=seconds,
        )

    def _settings(self) -> Settings:
        spec, theta = self.spec, self.vectors.theta
        sides = []
        for side, nothing in ((0, -np.inf), (1, np.inf)):
            each = {}
            for name in self.parameters:
                limit = _in_lambda(self.vectors.bound.variables[name].transform, self.limits[name][side], nothing)
                each[name] = np.full(theta.shapes[name], limit)
            sides.append(np.array(theta.join(each)))
        momentum = 0.9 if spec.method == "adam" else 0.0
        return Settings(
            method=spec.method,
            start=np.clip(np.asarray(self.vectors.start), *sides),
            low=sides[0],
            high=sides[1],
            max_steps=spec.max_steps,
            tol=spec.tol,
            sign=1.0 if spec.sense == "minimise" else -1.0,
            step=0.1 if spec.step is None else spec.step,
            decay=0.0 if spec.decay is None else spec.decay,
            momentum=momentum if spec.momentum is None else spec.momentum,
            patience=spec.patience,
        )


class _Section:
    """The section `outer` against the declarations: names, shapes, units, bounds. `limits` are those on theta."""

    def __init__(self, loaded: LoadedSpec, bound: BoundProblem) -> None:
        assert loaded.model.outer is not None
        self.loaded, self.bound = loaded, bound
        self.spec: OuterSpec = loaded.model.outer
        self.faults = Faults(loaded)
        self.origins: list[str] = []
        self.parameters = self._parameters()
        self.limits = {name: self._limits(name) for name in self.parameters}
        self.targets: dict[str, Array] = {}
        self.weights: dict[str, Array] = {}
        if isinstance(self.spec.objective, Mapping):
            for name, value in self.spec.objective.items():
                self._target(name, value)
        else:
            self._scalar("objective", self.spec.objective)
        if self.spec.validation is not None:
            self._scalar("validation", self.spec.validation)
        self.faults.stop()

    def _fault(self, keys: tuple[str | int, ...], text: str) -> None:
        self.faults.add(("outer", *keys), text)

    def _parameters(self) -> tuple[str, ...]:
        declared = self.bound.names(Parameter)
        for index, name in enumerate(self.spec.parameters or ()):
            if name not in declared:
                self.faults.unknown(("outer", "parameters", index), name, declared)
        chosen = tuple(name for name in self.spec.parameters or self.bound.wrt if name in declared)
        if not declared:
            self._fault((), f"{self._cls} has no parameters: there is nothing to vary")
        for name in self.spec.bounds:
            if name not in chosen and self.spec.parameters is None:
                self._fault(("bounds", name), f"'{name}' is not varied, allowed: {listing(chosen)}{nearest(name, chosen)}")
        return chosen

    def _limits(self, name: str) -> tuple[float, float]:
        own = _limits(self.bound.problem.declared(Parameter)[name].bounds)
        given = self.spec.bounds.get(name)
        low, high = own if given is None else (own[k] if side is None else side for k, side in enumerate(given))
        if low < own[0] or high > own[1]:
            self._fault(("bounds", name), f"found {_text(low, high)}, allowed: within {_text(*own)}, as {self._cls} declares")
        transform = self.bound.variables[name].transform
        least, most = TRANSFORMS[transform].domain
        if high <= least or low >= most:
            self._fault(("bounds", name), f"found {_text(low, high)}, allowed with transform '{transform}': {_text(least, most)}")
        theta = self.bound.parameters[name]
        outside = (theta < low) | (theta > high)
        if outside.any():
            found = float(theta[outside].flat[0])
            self.faults.add(("parameters", name), f"found {found:g}, allowed: within outer.bounds, {_text(low, high)}")
        return low, high

    def _scalar(self, key: str, name: str) -> None:
        known = (*self.bound.names(Output), *self.bound.names(Unknown))
        scalars = [other for other in known if self.bound.shapes[other] == ()]
        if name not in known:
            hint = nearest(name, scalars)
            self._fault((key,), f"found '{name}', allowed: an output or unknown that is a single number: {listing(scalars)}{hint}")
        elif name not in scalars:
            cure = f"; to come near a target: {{{name}: TARGET}}" if key == "objective" else ""
            shape = ", ".join(map(str, self.bound.shapes[name]))
            self._fault((key,), f"'{name}' has shape ({shape}), allowed: a single number: {listing(scalars)}{cure}")

    def _target(self, name: str, value: Any) -> None:
        known = (*self.bound.names(Unknown), *self.bound.names(Output))
        if name not in known:
            self.faults.unknown(("outer", "objective", name), name, known)
            return
        target = self._read(("objective", name), name, value, self.bound.variables[name].unit)
        weight = self._read(("weights", name), name, self.spec.weights.get(name, 1.0), None)
        if weight is not None and (weight < 0).any():
            self._fault(("weights", name), f"found {float(weight.min()):g}, allowed: at least 0")
        if target is not None and weight is not None:
            self.targets[name], self.weights[name] = target, weight

    def _read(self, keys: tuple[str, ...], name: str, value: Any, unit: str | None) -> Array | None:
        """A value in the shape of the quantity, which a single number fills."""
        try:
            found = read_value(self.loaded, ("outer", *keys), value)
        except InputError as error:
            self.faults.extend(error.messages)
            return None
        self.origins += [found.origin] if found.origin else []
        where, shape = (f" ({found.origin})" if found.origin else ""), self.bound.shapes[name]
        if unit is not None and found.unit not in (None, unit):
            self._fault(keys, f"found unit '{found.unit}'{where}, allowed: '{unit}'")
        if found.array.ndim and found.array.shape != shape:
            texts = ["(" + ", ".join(map(str, one)) + ")" for one in (found.array.shape, shape)]
            self._fault(keys, f"found shape {texts[0]}{where}, allowed: {texts[1] if shape else 'a single number'}")
            return None
        return np.broadcast_to(np.asarray(found.array, dtype=float), shape).copy()

    @property
    def _cls(self) -> str:
        return type(self.bound.problem).__name__


def _with_targets(bound: BoundProblem, targets: Mapping[str, Array], weights: Mapping[str, Array]) -> tuple[str, BoundProblem]:
    """The problem with one more output, sum_q sum_i w_i (q_i - t_i)^2 over the quantities q with targets t, and its name."""
    base = type(bound.problem)
    taken = set(base.__dict__) | set(bound.shapes)

    def free(name: str) -> str:
        return free(f"{name}_") if name in taken else name

    objective = free("outer_objective")
    names = {q: (free(f"outer_target_{q}"), free(f"outer_weight_{q}")) for q in targets}

    def outputs(self: Any, x: Any, theta: Any, data: Any) -> dict[str, Any]:
        found = dict(base.outputs(self, x, theta, data))
        values = {**x._asdict(), **found}
        parts = [jnp.sum(getattr(data, w) * (values[q] - getattr(data, t)) ** 2) for q, (t, w) in names.items()]
        return {**found, objective: sum(parts[1:], parts[0])}

    declared: dict[str, Any] = {"__doc__": base.__doc__, "__module__": base.__module__, "outputs": outputs, objective: Output()}
    variables, shapes, data = dict(bound.variables), dict(bound.shapes), dict(bound.data)
    variables[objective], shapes[objective] = Variable(objective, ()), ()
    for q, pair in names.items():
        axes = bound.variables[q].axes
        for name, value in zip(pair, (targets[q], weights[q]), strict=True):
            declared[name] = Data(shape=axes)
            variables[name], shapes[name], data[name] = Variable(name, axes), value.shape, value
    cls: type[Problem] = type(base.__name__, (base,), declared)
    problem = cls(**bound.problem._options)
    return objective, replace(bound, problem=problem, variables=variables, shapes=shapes, data=data)


def _limits(bounds: tuple[float | None, float | None]) -> tuple[float, float]:
    low, high = bounds
    return (-np.inf if low is None else low), (np.inf if high is None else high)


def _in_lambda(transform: str, theta: float, nothing: float) -> float:
    """A bound on theta as one on lambda; `nothing` where theta cannot reach it. Every transform grows."""
    low, high = TRANSFORMS[transform].domain
    return float(TRANSFORMS[transform].to_lambda(jnp.asarray(theta))) if low < theta < high and np.isfinite(theta) else nothing


def _text(low: float, high: float) -> str:
    """Limits in words."""
    if np.isinf(low) and np.isinf(high):
        return "any number"
    return f"at least {low:g}" if np.isinf(high) else f"at most {high:g}" if np.isinf(low) else f"{low:g} to {high:g}"
