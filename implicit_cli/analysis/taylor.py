"""What a solved case says of another one nearby: y + J dtheta + dtheta' H dtheta / 2, and how far that can be trusted."""

from __future__ import annotations

import numpy as np

from implicit_cli.errors import InputError
from implicit_cli.sample import Array, Sample

NEIGHBOURS = 3


def predicted(sample: Sample, k: int, missing: np.ndarray) -> tuple[Array, float]:
    """Output k with the `missing` cases predicted along the tangents of the nearest others, and how far these disagree at most."""
    y = sample.y[:, k].copy()
    usable = np.flatnonzero(~missing & np.isfinite(sample.J[:, k]).all(axis=1))
    if usable.size < NEIGHBOURS:
        raise InputError(f"{sample.path}: no derivatives of {sample.outputs[k]} to predict by; allowed: what sensitivity.of names")
    spread = np.where((deviation := sample.theta.std(axis=0)) > 0, deviation, 1.0)
    scaled, doubt = sample.theta / spread, 0.0
    for case in np.flatnonzero(missing):
        distance = np.linalg.norm(scaled[usable] - scaled[case], axis=1)
        near = usable[np.argsort(distance, kind="stable")[:NEIGHBOURS]]
        each = y[near] + np.sum(sample.J[near, k] * (sample.theta[case] - sample.theta[near]), axis=1)
        weight = 1 / np.maximum(distance[np.searchsorted(usable, near)], 1e-12) ** 2
        y[case] = float(weight @ each / weight.sum())
        doubt = max(doubt, float(np.ptp(each)))
    return y, doubt
