"""When there is no derivative (docs/theory.md): what a singular A means for each component of the solution.

A null vector z of A is harmless where it is a gauge: a symmetry under which F does not change, such as moving all particles
together. Then J is the minimum-norm solution. Every other null vector makes the components it moves *undetermined*: they have no
derivative, while all others keep theirs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
FloatArray = NDArray[np.float64]

SUPPORT_TOLERANCE, BLURRED = 1e-9, 1e-6
"""A component belongs to a null vector (of length 1) when it moves by more than the first, and by more than the vector is known to.
Where that is beyond the second, nobody can tell which components it moves."""
TIMES = 10.0
"""Times the angle by which a null vector may be off, within which a component of it may be zero."""
RANGE_TOLERANCE = 1e-8
"""A null vector z is outside the range of A when |z' B| exceeds this fraction of |B|."""


class Degeneracy(NamedTuple):
    """Null dimension, named gauges, masks (d,) of components without a derivative by reason, and whether B is in the range of A."""

    nullity: int
    gauges: tuple[str, ...]
    undetermined: Mapping[str, Mask]
    solvable: bool
    fatal: bool
    """True where no component has a derivative: B leaves the range along a gauge, or everything is undetermined."""

    @property
    def mask(self) -> Mask:
        """All undetermined components (d,), or a single False where there is none."""
        masks = list(self.undetermined.values())
        return np.logical_or.reduce(masks) if masks else np.zeros(1, dtype=bool)


def analyse(
    Z: FloatArray,
    gauges: Mapping[str, FloatArray],
    declared: Mapping[str, Mask],
    *,
    leak: float,
    gauge_leak: float,
    size_of_B: float,
    noise: float = 0.0,
    angle: float = 0.0,
) -> Degeneracy:
    """Sort the null space of A.

    Z (d, k)            orthonormal right null vectors of A
    gauges              directions (d,) known from symmetry, by name
    declared            masks (d,) that the problem itself calls undetermined, by reason
    leak, gauge_leak    |Y' B| and |G' B|: how much of B lies outside the range of A, along null vectors Y and along gauges G
    size_of_B           |B|, to compare with
    noise               what rounding makes of B: all there is where B vanishes by symmetry
    angle               |A Z| over the smallest singular value outside: how far Z is off, as a null space of A
    """
    d = Z.shape[0]
    G = np.stack(list(gauges.values()), axis=1) if gauges else np.zeros((d, 0))
    undetermined = {reason: mask for reason, mask in declared.items() if mask.any()}
    known = np.logical_or.reduce(list(undetermined.values())) if undetermined else np.zeros(d, dtype=bool)
    seen = max(SUPPORT_TOLERANCE, TIMES * angle)
    null_modes = (moved_beyond(Z, G, seen) if seen <= BLURRED else np.ones(d, dtype=bool)) & ~known
    if null_modes.any():
        undetermined["null mode"] = null_modes
    floor = max(RANGE_TOLERANCE * size_of_B, noise, float(np.finfo(float).tiny))
    everything = bool((known | null_modes).all())
    return Degeneracy(Z.shape[1], tuple(gauges), undetermined, solvable=leak <= floor, fatal=everything or gauge_leak > floor)


def moved_beyond(Z: FloatArray, G: FloatArray, tolerance: float = SUPPORT_TOLERANCE) -> Mask:
    """Components (d,) that the null vectors Z (d, k) move, by more than `tolerance`, in a way that no combination of the gauges
    G (d, l) explains.

    Null vectors come mixed: one that moves a single free particle also carries some translation. The explanation that leaves the
    fewest components moving is found by iteratively re-weighted least squares (an l1 fit of Z by G).
    """
    d, k = Z.shape
    if k <= G.shape[1] or k == d:
        return np.full(d, k == d)
    weights = np.ones(d)
    rest = Z
    for _ in range(60):
        root = np.sqrt(weights)[:, None]
        coefficients = np.linalg.lstsq(root * G, root * Z, rcond=None)[0] if G.shape[1] else np.zeros((0, k))
        rest = Z - G @ coefficients
        size = np.linalg.norm(rest, axis=1)
        weights = 1.0 / np.maximum(size, 1e-12)
    return np.linalg.norm(rest, axis=1) > tolerance
