"""Orthonormal polynomials in standard variables: sets of them, and their least-squares fit to values and derivatives.

SciPy is imported where it is used: comparing two results needs none of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from itertools import combinations
from math import comb

import numpy as np
from numpy.polynomial import hermite_e, legendre
from numpy.typing import NDArray

from implicit_cli.analysis.standard import UNIFORM
from implicit_cli.sample import Array

CUTS = (1.0, 0.75, 0.5)
"""Exponents q of the hyperbolic cut: (sum of a_i^q)^(1/q) is at most the degree."""
DEGREES = 20
TOGETHER = (1, 2, 3, 4, 6, 8, 12)
"""Numbers of inputs, those with the largest derivatives, that may interact."""
PARTS, SEED = 10, 0
ROUNDING = 1e-13
"""Added to a matrix whose diagonal is 1, relative to it, so that it has a factor."""
Index = NDArray[np.int64]


def bases(order: Index, most: int) -> Iterator[Iterator[Index]]:
    """Sets of exponents (terms, n) with at most so many terms, by growing degree: for each cut and each number of inputs, the first
    of `order`, that come together and to any degree; the others come by themselves, squared at most.
    """
    n, seen = len(order), set()

    def of(cut: float, together: int) -> Iterator[Index]:
        for degree in range(1, DEGREES + 1):
            basis = _basis(together, degree, cut, most)
            if basis is None:
                return
            alone = [k * np.eye(n, dtype=np.int64)[order[together:]] for k in range(1, min(degree, 2) + 1)]
            whole = np.zeros((len(basis), n), dtype=np.int64)
            whole[:, order[:together]] = basis
            whole = np.concatenate([whole, *alone])
            if len(whole) <= most and (key := whole.tobytes()) not in seen:
                seen.add(key)
                yield whole

    return (of(cut, together) for together in sorted({n, *TOGETHER} & set(range(1, n + 1))) for cut in CUTS)


def _basis(n: int, degree: int, cut: float, most: int) -> Index | None:
    """Exponents with (sum a_i^cut)^(1/cut) <= degree, the constant first; None where they are more than `most`."""
    if cut == 1.0 and comb(n + degree, n) > most:
        return None
    found = [np.zeros((1, n), dtype=np.int64)]
    total = 1
    for size in range(1, min(n, degree) + 1):
        exponents = np.array([a for a in _compositions(size, degree) if sum(e**cut for e in a) ** (1 / cut) <= degree + 1e-9])
        if not exponents.size:
            break
        total += comb(n, size) * len(exponents)
        if total > most:
            return None
        for where in combinations(range(n), size):
            part = np.zeros((len(exponents), n), dtype=np.int64)
            part[:, where] = exponents
            found.append(part)
    return np.concatenate(found)


def _compositions(size: int, degree: int) -> Iterator[tuple[int, ...]]:
    """Exponents, each at least 1, of so many inputs, with a sum of at most `degree`."""
    if size == 0:
        yield ()
        return
    for first in range(1, degree - size + 2):
        for rest in _compositions(size - 1, degree - first):
            yield (first, *rest)


class Points:
    """Polynomials of each input at the points xi (cases, n) up to `DEGREES`: their values and slopes (n, cases, degree), and the
    weights of derivatives there (cases, n), (1 - xi_i^2)^(1/2) for uniform inputs.
    """

    def __init__(self, xi: Array, families: tuple[str, ...]) -> None:
        found = [_polynomials(family, xi[:, i], DEGREES) for i, family in enumerate(families)]
        self.value, self.slope = (np.stack(parts) for parts in zip(*found, strict=True))
        uniform = np.array([family == UNIFORM for family in families])
        self.weight = np.sqrt(np.where(uniform, np.maximum(1 - xi**2, 0.0), 1.0))


class Fit:
    """Least squares for the coefficients of a basis (terms, n), from y (cases,) and dy/dxi (cases, n) at the points.

    A tenth of the cases can be left out of it at a time.
    """

    def __init__(self, points: Points, basis: Index, y: Array, g: Array) -> None:
        value, slope, weight = points.value, points.slope, points.weight
        n, cases = value.shape[:2]
        factors = [value[i][:, basis[:, i]] for i in range(n)]
        matrix = np.empty((cases, n + 1, len(basis)))
        matrix[:, 0] = np.prod(factors, axis=0)
        for i in range(n):
            others = [factors[j] for j in range(n) if j != i]
            matrix[:, i + 1] = np.prod([weight[:, i, None] * slope[i][:, basis[:, i]], *others], axis=0)
        self.y, self.weight, self.parts = y, weight, parts(cases)
        length = np.sqrt(np.sum(matrix**2, axis=(0, 1)))
        self._length = np.where(length > 0, length, 1.0)
        self._matrix = matrix / self._length
        self._right = self._of(y, g)

    @cached_property
    def coefficients(self) -> Array:
        return self.without(None)

    @cached_property
    def left_out(self) -> float:
        """Part of the variance of y that fits without a tenth of the cases leave unexplained on it."""
        values = [self._matrix[part, 0] @ (self.without(k) * self._length) for k, part in enumerate(self.parts)]
        squares = sum(float(np.sum((value - self.y[part]) ** 2)) for value, part in zip(values, self.parts, strict=True))
        return squares / (float(np.sum((self.y - self.y.mean()) ** 2)) or 1.0)

    def without(self, part: int | None) -> Array:
        """Coefficients without one of the `parts`."""
        right = self._right.sum(axis=0) - (0.0 if part is None else self._right[part])
        return self._solved(part, right)

    def of(self, y: Array, g: Array) -> Array:
        """Coefficients for other values and derivatives at the same cases."""
        return self._solved(None, self._of(y, g).sum(axis=0))

    def _of(self, y: Array, g: Array) -> Array:
        right = np.concatenate([y[:, None], self.weight * g], axis=1)
        return np.stack([np.einsum("crt,cr->t", self._matrix[part], right[part]) for part in self.parts])

    @cached_property
    def _grams(self) -> Array:
        rows = [self._matrix[part].reshape(-1, self._matrix.shape[2]) for part in self.parts]
        return np.stack([A.T @ A for A in rows])

    def _solved(self, part: int | None, right: Array) -> Array:
        """By the normal equations: columns are next to orthogonal, as long as there are rows enough."""
        from scipy.linalg import LinAlgError, cho_factor, cho_solve

        G = self._grams.sum(axis=0) - (0.0 if part is None else self._grams[part])
        G[np.diag_indices_from(G)] += ROUNDING
        try:
            return np.asarray(cho_solve(cho_factor(G), right) / self._length)
        except LinAlgError:
            return np.asarray(np.linalg.lstsq(G, right, rcond=None)[0] / self._length)


def parts(cases: int) -> list[NDArray[np.int64]]:
    """A tenth of the cases each, drawn once."""
    return np.array_split(np.random.default_rng(SEED).permutation(cases), min(PARTS, cases))


def _polynomials(family: str, x: Array, top: int) -> tuple[Array, Array]:
    """Orthonormal polynomials of one variable up to a degree, and their slopes (cases, degree)."""
    from scipy.special import factorial

    k = np.arange(top + 1)
    if family == UNIFORM:
        vander, derivative, norms = legendre.legvander, legendre.legder, np.sqrt(2.0 * k + 1)
    else:
        vander, derivative, norms = hermite_e.hermevander, hermite_e.hermeder, 1 / np.sqrt(factorial(k))
    value = vander(x, top)
    one = np.eye(top + 1)
    slopes = [vander(x, max(top - 1, 0)) @ np.pad(derivative(one[j]), (0, max(top - len(derivative(one[j])), 0))) for j in k]
    return value * norms, np.stack(slopes, axis=1) * norms
