"""What a sweep varies: the targets and axes of the section `sweep.over` against the declarations of the problem."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from implicit_cli import designs
from implicit_cli.engine.bind import BoundProblem
from implicit_cli.engine.faults import Faults, Keys
from implicit_cli.engine.given import Array, shape_text
from implicit_cli.errors import InputError
from implicit_cli.problem import Data, Parameter, Problem, Quantity, Unknown
from implicit_cli.spec import AxisSpec, DistributionSpec, LoadedSpec, LoadedValue, read_axis, read_value, split_target

SEED = "seed"
"""The target that is no quantity of a problem, and the section that it is of."""
SECTIONS: Mapping[str, type[Quantity]] = {"parameters": Parameter, "data": Data, "initial": Unknown}
"""Sections of the spec whose quantities a sweep can vary, and their kinds."""


@dataclass(frozen=True)
class Target:
    """What one axis of a design varies: a quantity of a section, or one entry of it, or the seed. `text` is as the spec has it."""

    text: str
    name: str
    index: tuple[int, ...]
    section: str
    axis: AxisSpec


class Varied:
    """The targets, and what the spec gives for their axes; faults go to `faults`."""

    def __init__(self, loaded: LoadedSpec, cls: type[Problem], faults: Faults) -> None:
        assert loaded.model.sweep is not None
        self.loaded, self.cls, self.faults, self.spec = loaded, cls, faults, loaded.model.sweep
        self.origins: list[str] = []
        self.targets = tuple(self._targets())
        self.given = {target: found for target in self.targets if (found := self._read(target)) is not None}

    def fault(self, target: Target, texts: Iterable[str]) -> None:
        """Faults of a target's axis."""
        for text in texts:
            self.faults.add(("sweep", "over", target.text), text)

    def stand_ins(self) -> Iterator[tuple[tuple[str, str], Array]]:
        """Values of quantities that only the sweep gives, by section and name: their shapes and bounds are checked with these."""
        declared = self.cls.declared(Parameter)
        for target in self.targets:
            known = target.section == SEED or target.name in getattr(self.loaded.model, target.section)
            if known or target.index or target.section == "initial" or target.axis.kind == "centred":
                continue
            if target.section == "parameters" and declared[target.name].default is not None:
                continue
            first, *rest = (value.array for value in self.given[target])
            match target.axis.kind:
                case "list" | "reference":
                    yield (target.section, target.name), first[0]
                case "logspace":
                    yield (target.section, target.name), 10.0**first
                case "uniform" | "loguniform":
                    yield (target.section, target.name), (first + rest[0]) / 2
                case _:
                    yield (target.section, target.name), first

    def design(self, bound: BoundProblem) -> designs.Design:
        """The design; raises InputError for one that has too many cases, or that its axes do not allow."""
        base = {target: self._own(target, bound) for target in self.targets}
        self.faults.stop()
        axes: list[Any] = []
        for target in self.targets:
            try:
                axes.append(self._axis(target, base[target]))
            except InputError as error:
                self.fault(target, error.messages)
        self.faults.stop()
        try:
            return self._made(axes, {target.text: value for target, value in base.items()})
        except InputError as error:
            self.faults.extend([f"{self.loaded.at('sweep')}: {message}" for message in error.messages])
            self.faults.stop()
            raise

    def own(self, section: str, name: str, bound: BoundProblem) -> Array:
        """The spec's own value of a quantity."""
        if section == SEED:
            return np.asarray(self.loaded.model.seed)
        found = getattr(bound, section).get(name)
        return np.asarray(found) if found is not None else np.full(bound.shapes[name], self.cls.declared(Unknown)[name].initial)

    def _targets(self) -> Iterator[Target]:
        sections = {name: section for section, kind in SECTIONS.items() for name in self.cls.declared(kind)}
        sections.setdefault(SEED, SEED)
        for text, axis in self.spec.over.items():
            name, index = split_target(text)
            if name in sections:
                yield Target(text, name, index, sections[name], axis)
            else:
                self.faults.unknown(("sweep", "over", text), name, sections)

    def _read(self, target: Target) -> tuple[LoadedValue, ...] | None:
        try:
            found = read_axis(self.loaded, target.text)
        except InputError as error:
            self.faults.extend(error.messages)
            return None
        self.origins += [value.origin for value in found if value.origin is not None]
        if target.section != SEED:
            unit = self.cls.declared(Quantity)[target.name].unit
            self.fault(target, [f"found unit '{v.unit}', allowed: '{unit}'" for v in found if v.unit not in (None, unit)])
        return found

    def _own(self, target: Target, bound: BoundProblem) -> Array:
        """The spec's own value of a target."""
        whole = self.own(target.section, target.name, bound)
        fits = len(target.index) == whole.ndim and all(i < n for i, n in zip(target.index, whole.shape, strict=True))
        if target.index and not fits:
            index = ", ".join(map(str, target.index))
            self.fault(target, [f"found the index [{index}], allowed: an entry of the shape {shape_text(whole.shape)}"])
            return np.zeros(())
        return np.asarray(whole[target.index])

    def _axis(self, target: Target, base: Array) -> designs.Levels | designs.Distribution:
        """Levels or a distribution in the shape of their target, which single numbers fill."""
        arguments, shape, axis = [value.array for value in self.given[target]], base.shape, target.axis
        if isinstance(axis, DistributionSpec):
            return designs.Distribution(target.text, axis.kind, tuple(designs.filled(part, shape) for part in arguments))
        if axis.kind not in ("list", "reference"):
            return designs.Levels(target.text, designs.spaced(axis.kind, arguments, shape=shape, base=base))
        levels = arguments[0]
        if levels.shape[1:] not in ((), shape):
            raise InputError(f"found levels of the shape {shape_text(levels.shape[1:])}, allowed: {shape_text(shape)}")
        if levels.shape[1:] != shape:
            levels = np.broadcast_to(levels.reshape(-1, *(1,) * len(shape)), (len(levels), *shape))
        return designs.Levels(target.text, levels)

    def _made(self, axes: list[Any], base: Mapping[str, Array]) -> designs.Design:
        spec, samples = self.spec, self.spec.samples or 0
        if spec.design in designs.SAMPLED:
            entries = sum(axis.entries for axis in axes)
            designs.check_count(
                designs.count_of(spec.design, samples=samples, entries=entries, second_order=spec.second_order), spec.max_cases
            )
            keys: Keys = ("sweep", "covariance")
            return designs.sampled(
                spec.design,
                axes,
                samples,
                self.loaded.model.seed if spec.seed is None else spec.seed,
                covariance=None if spec.covariance is None else read_value(self.loaded, keys, spec.covariance).array,
                second_order=spec.second_order,
                levels=spec.levels or 4,
            )
        designs.check_count(designs.count_of(spec.design, lengths=[len(axis.values) for axis in axes]), spec.max_cases)
        match spec.design:
            case "grid":
                return designs.grid(axes)
            case "zip":
                return designs.zipped(axes)
            case _:
                return designs.one_at_a_time(axes, base)
