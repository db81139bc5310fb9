"""What an analysis takes and gives: the cases of a result as rows of numbers, and tables of what was found about them.

Here, because reading and writing them is the store's and computing with them is the analysis's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from implicit_cli.errors import InputError, listing, nearest

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Input:
    """One number that varies from case to case, or, in a single case, that there are derivatives by.

    `law` is the distribution it was drawn from and its arguments, as `designs.LAWS` names them; None for levels.
    """

    name: str
    unit: str = "1"
    law: tuple[str, tuple[float, ...]] | None = None


@dataclass(frozen=True)
class Sample:
    """Cases as rows: theta (cases, n), y (cases, m), dy/dtheta (cases, m, n), and bounds on the errors of the last two.

    Derivatives are by theta itself, whatever transform they were taken through; NaN where there are none. `good` (cases,) is True
    where all numbers of a case hold. `curvature` (cases, m, n, n) is d2y/dtheta2 where the result has it. `design` is the sweep's,
    `settings` its numbers, `covariance` (n, n) that of correlated inputs. `branch` says that cases follow a branch of solutions.
    """

    path: str
    ids: tuple[str, ...]
    good: NDArray[np.bool_]
    inputs: tuple[Input, ...]
    theta: Array
    outputs: tuple[str, ...]
    units: tuple[str, ...]
    y: Array
    y_bound: Array
    J: Array
    J_bound: Array
    curvature: Array | None = None
    design: str = ""
    settings: Mapping[str, int] = field(default_factory=dict)
    covariance: Array | None = None
    branch: bool = False

    @property
    def folds(self) -> bool:
        """Whether the branch turns back, so that a parameter has several solutions."""
        way = np.diff(self.theta[:, 0]) if self.branch else np.zeros(0)
        return bool((way > 0).any() and (way < 0).any())

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(one.name for one in self.inputs)

    def called(self, name: str, option: str) -> list[int]:
        """Inputs of that name, or all entries of what is called so; raises InputError, about `option`, where there is none."""
        found = [i for i, own in enumerate(self.names) if own == name or own.startswith(f"{name}[")]
        if not found:
            raise InputError(f"{option}: found '{name}', allowed: {listing(self.names)}{nearest(name, self.names)}")
        return found


@dataclass(frozen=True)
class Column:
    """Numbers, one for each row of a table, and the interval that each is in, where one is known."""

    values: Array
    doc: str
    low: Array | None = None
    high: Array | None = None
    unit: str = "1"


@dataclass(frozen=True)
class Finding:
    """A table of one analysis about one output: `rows` are named, `columns` go by name; `facts` are about the whole."""

    method: str
    of: str
    axis: str
    rows: tuple[str, ...]
    columns: Mapping[str, Column]
    facts: Mapping[str, float | str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
