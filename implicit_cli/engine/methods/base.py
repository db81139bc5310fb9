"""What every method has in common: derivatives along columns, with the errors that it knows of."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from implicit_cli.core.certificate import Certifier
from implicit_cli.engine.passes import Solves
from implicit_cli.status import Status

FloatArray = NDArray[np.float64]


class Columns(NamedTuple):
    """Derivatives of x and y, end to end, along k directions: `value` (d + m, k), its error parts entry by entry, a status each.

    A part that a method knows nothing of is NaN.
    """

    value: FloatArray
    truncation: FloatArray
    linear: FloatArray
    rounding: FloatArray
    status: NDArray[np.int8]

    def rows(self, where: slice) -> Columns:
        """Some components of (x, y)."""
        return Columns(self.value[where], self.truncation[where], self.linear[where], self.rounding[where], self.status)

    def columns(self, where: slice) -> Columns:
        """Some directions."""
        return Columns(
            self.value[:, where], self.truncation[:, where], self.linear[:, where], self.rounding[:, where], self.status[where]
        )

    @property
    def worst(self) -> int:
        """The worst status of all, for what is made of all directions."""
        return int(np.max(self.status, initial=0))


class Method(Protocol):
    """One way to differentiate; `note` is what must be said of its numbers, `solves` its linear solves."""

    name: str
    note: str
    solves: dict[str, Solves]

    def columns(self, V: FloatArray) -> Columns:
        """First derivatives along the columns of V (n, k)."""

    def rows(self, W: FloatArray) -> FloatArray | None:
        """Cotangents W (d + m, k) times the derivatives (n, k), where that is less work than all columns; else None."""

    def seconds(self, V: FloatArray) -> Columns:
        """Second derivatives along the columns of V (n, k)."""

    def certify(self, V: FloatArray, found: Columns, certifier: Certifier) -> Columns:
        """`found` with the error parts that need the certificate's constants."""


def unknown_error(value: FloatArray, status: NDArray[np.int8]) -> Columns:
    """Columns without any error estimate; a value that is not finite says so in its status."""
    nothing = np.full_like(value, np.nan)
    lost = np.where(np.isfinite(value).all(axis=0), status, int(Status.NOT_FINITE)).astype(np.int8)
    return Columns(value, nothing, nothing, nothing, lost)
