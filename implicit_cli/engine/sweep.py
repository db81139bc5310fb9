"""The cases of a sweep: which values each has, what it is called, and the problem at its values. `sweeping` computes them.

A case's id is a hash of the question that it asks: the problem, its options and all that goes into it, and nothing of how it is
answered. The same question has the same id in a larger design, in another shard and on another machine.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from implicit_cli.core.transforms import TRANSFORMS
from implicit_cli.engine.batch import WIDTH, Batch
from implicit_cli.engine.bind import BoundProblem, bind, bounds_text, outside
from implicit_cli.engine.faults import Faults
from implicit_cli.engine.given import Array
from implicit_cli.engine.plan import Plan
from implicit_cli.engine.varied import SEED, Target, Varied
from implicit_cli.engine.vectors import Vectors
from implicit_cli.errors import InputError
from implicit_cli.problem import Data, Problem, Quantity
from implicit_cli.result import CaseResult
from implicit_cli.spec import LoadedSpec

AT_ONCE = 4096
"""Points of a design that are looked at in one go."""
WORTH_A_BATCH = 64
"""The smallest design that is worth compiling a program for many cases."""


@dataclass(frozen=True)
class Case:
    """One point of a design: its id, the problem's values there, its seed, and what is varied besides parameters."""

    id: str
    bound: BoundProblem
    seed: int
    swept: Mapping[str, Array]


class Cases:
    """The points of a design, with the problem that they belong to; `vectors` is the problem at the spec's own values.

    `compiled` says that a case has been computed by itself. Raises InputError where the section `sweep` does not fit the problem,
    with all faults that can be seen.
    """

    def __init__(self, loaded: LoadedSpec, cls: type[Problem]) -> None:
        faults = Faults(loaded)
        self._loaded, self._varied = loaded, Varied(loaded, cls, faults)
        self.spec = self._varied.spec
        faults.stop()
        self.targets = self._varied.targets
        self._sections = {target.name: target.section for target in self.targets}
        bound = _bound(loaded, cls, dict(self._varied.stand_ins()))
        self.vectors = Vectors(replace(bound, inputs=(*bound.inputs, *self._varied.origins)))
        self.design = self._varied.design(bound)
        self.count = self.design.count
        for target in self.targets:
            if text := self._beyond(target):
                self._varied.fault(target, [text])
        for name in self.spec.fallback:
            if name not in self.vectors.y.names:
                faults.unknown(("sweep", "fallback", name), name, self.vectors.y.names)
        faults.stop()
        self._question = _question(bound, self._sections, loaded.model.seed)
        self._batch: Batch | None = None
        self.compiled = False

    def ids(self) -> list[str]:
        """The ids of all points, in order; points that ask the same question have the same."""
        return [name for begin in range(0, self.count, AT_ONCE) for name in self._names(self._rows(begin, begin + AT_ONCE))]

    def at(self, index: int) -> Case:
        """One point."""
        rows, bound = self._rows(index, index + 1), self.vectors.bound
        sections: dict[str, dict[str, Array]] = {}
        for name, values in rows.items():
            sections.setdefault(self._sections[name], {})[name] = values[0]
        seed = sections.pop(SEED, {}).get(SEED, np.asarray(self._loaded.model.seed))
        changed: dict[str, Any] = {section: {**getattr(bound, section), **named} for section, named in sections.items()}
        moved = replace(bound, **changed)
        swept = {name: values[0] for name, values in rows.items() if self._sections[name] != "parameters"}
        return Case(next(self._names(rows)), moved, int(seed), swept)

    def concluded(self, result: CaseResult) -> CaseResult:
        """A case as it is stored: one that has failed has the outputs of `sweep.fallback`."""
        instead = self.spec.fallback
        if result.status.good or not instead:
            return result
        outputs = {name: np.full(self.vectors.y.shapes[name], value) for name, value in instead.items()}
        message = f"{result.message}; {', '.join(outputs)}: of sweep.fallback"
        return replace(result, outputs={**result.outputs, **outputs}, message=message)

    def points(self, indices: Sequence[int]) -> NDArray[Any]:
        """Where some points of the design lie (points, entries): parameters as they are differentiated, without seeds."""
        blocks = sorted({index // AT_ONCE for index in indices})
        rows = []
        for block in blocks:
            found = self._rows(block * AT_ONCE, (block + 1) * AT_ONCE)
            inside = [index - block * AT_ONCE for index in indices if index // AT_ONCE == block]
            parts = [self._as_differentiated(name, values[inside]) for name, values in found.items() if name != SEED]
            rows.append(np.concatenate([part.reshape(len(inside), -1) for part in parts or [np.zeros((len(inside), 1))]], axis=1))
        return np.concatenate(rows)

    def _as_differentiated(self, name: str, values: Array) -> NDArray[Any]:
        """lambda of a parameter; of all else the values themselves."""
        if self._sections[name] != "parameters":
            return values.astype(float)
        return np.asarray(TRANSFORMS[self.vectors.bound.variables[name].transform].to_lambda(jnp.asarray(values)))

    def batch(self, plan: Plan) -> Batch | None:
        """The program for many cases at once, the same for the same plan; None where there are too few to compile it for."""
        if self.count < WORTH_A_BATCH:
            return None
        if self._batch is None or self._batch.plan is not plan:
            self._batch = Batch(self.vectors, plan, warm=self.spec.start == "neighbour")
        return self._batch

    def at_once(self, plan: Plan) -> int:
        """How many cases one call computes."""
        batch = self.batch(plan)
        return 1 if batch is None or batch.unsuited else WIDTH

    def fault(self, keys: tuple[str, ...], text: str) -> None:
        """Raise InputError about a key of the section `sweep`."""
        raise InputError(f"{self._loaded.at('sweep', *keys)}: {text}")

    def row(self, plan: Plan) -> tuple[str, str]:
        """A line of the plan."""
        if self.spec.continuation is not None:
            way = "the branch from the first one is followed by its arclength, through folds"
            return "sweep", f"{self.count:,} levels of {', '.join(self.spec.over)}: {way}; cases one by one"
        spec, batch, how = self.spec, self.batch(plan), "; one by one"
        if batch is not None:
            solved = ", solved one by one" if batch.hosted else ""
            how = f"; one by one: {batch.unsuited}" if batch.unsuited else f"; {WIDTH} at once{solved}"
        return "sweep", f"{self.count:,} {'case' if self.count == 1 else 'cases'}: {spec.design} of {', '.join(spec.over)}{how}"

    def _rows(self, start: int, stop: int) -> dict[str, Array]:
        """Values of each quantity that varies (points, *shape), whole where only entries of it do."""
        stop = min(stop, self.count)
        whole: dict[str, Array] = {}
        for target, values in zip(self.targets, self.design.rows(start, stop).values(), strict=True):
            if target.index and target.name not in whole:
                own = self._varied.own(target.section, target.name, self.vectors.bound)
                whole[target.name] = np.broadcast_to(own, (stop - start, *own.shape)).copy()
            if target.index:
                everywhere: Any = (slice(None), *target.index)
                whole[target.name][everywhere] = values
            else:
                own = self._varied.own(target.section, target.name, self.vectors.bound)
                whole[target.name] = values.astype(own.dtype, copy=False)
        return whole

    def _names(self, rows: Mapping[str, Array]) -> Iterator[str]:
        """Ids of points, from their values."""
        parts = [rows[name].reshape(len(rows[name]), -1) for name in sorted(rows)]
        for row in np.concatenate(parts, axis=1, dtype=np.float64) + 0.0:  # -0.0 is 0.0
            question = self._question.copy()
            question.update(row.tobytes())
            yield question.hexdigest()

    def _beyond(self, target: Target) -> str:
        """What is wrong with the first value that its quantity does not allow; empty where there is none."""
        if target.section == SEED:
            return ""
        quantity = type(self.vectors.problem).declared(Quantity)[target.name]
        for begin in range(0, self.count, AT_ONCE):
            values = self.design.rows(begin, min(begin + AT_ONCE, self.count))[target.text]
            for wrong, limit in self._limits(target, quantity, values):
                if wrong.any():
                    return f"found {values[wrong].flat[0]:g}, allowed: {limit}"
        return ""

    def _limits(self, target: Target, quantity: Quantity, values: Array) -> Iterator[tuple[NDArray[np.bool_], str]]:
        """Which values are beyond each limit, and the limit in words."""
        yield outside(quantity, values), bounds_text(quantity) if quantity.bounds != (None, None) else ""
        transform = self.vectors.bound.variables[target.name].transform
        low, high = TRANSFORMS[transform].domain
        where = f"between {low:g} and {high:g}" if np.isfinite(high) else f"above {low:g}"
        yield ~((values > low) & (values < high)), f"with transform '{transform}' {where}"
        if isinstance(quantity, Data) and quantity.dtype == "int":
            yield values != np.round(values), "integers"


def _bound(loaded: LoadedSpec, cls: type[Problem], stand_ins: Mapping[tuple[str, str], Array]) -> BoundProblem:
    """The problem at the spec's own values, with stand-ins for those that only the design gives."""
    model = loaded.model
    for section, name in stand_ins:
        model = model.model_copy(update={section: {**getattr(model, section), name: 0.0}})
    return bind(replace(loaded, model=model), cls, dict(stand_ins.items()))


def _question(bound: BoundProblem, swept: Collection[str], seed: int) -> hashlib.blake2b:
    """A hash of all that the questions of the cases have in common."""
    named = {"data": bound.data, "parameters": bound.parameters, "initial": bound.initial}
    about = {
        "problem": type(bound.problem).__name__,
        "options": {name: str(value) for name, value in bound.problem._options.items()},
        "values": {
            section: {name: digest(array) for name, array in arrays.items() if name not in swept}
            for section, arrays in named.items()
        },
        "swept": sorted(swept),
        "seed": None if SEED in swept else seed,
    }
    if bound.problem.formulas is not None:
        about["formulas"] = str(bound.problem.formulas)
    return hashlib.blake2b(json.dumps(about, sort_keys=True).encode(), digest_size=8)


def digest(array: Array) -> str:
    """SHA-256 of an array: type, shape and content."""
    return hashlib.sha256(f"{array.dtype} {array.shape} ".encode() + array.tobytes()).hexdigest()
