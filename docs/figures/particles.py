"""Figures of the particle samples (docs/samples.md)."""

from __future__ import annotations

from typing import Any

import h5py
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.collections import EllipseCollection

FOLDER = "samples"
GROWTH = 0.5
"""Of the small discs, for which displacements are drawn."""
SMALLEST = 1e-7
"""Displacement that is drawn; what does not move by symmetry has its rounding below."""
VOIGT = ("xx", "yy", "zz", "yz", "xz", "xy")


def packing(file: h5py.File) -> Any:
    """Discs, and dR/d(diameter) as arrows."""
    R, J = file["solution/position"][0], file["sensitivity/position/diameter"][0]
    small, phi = file["cases/parameters/diameter"][0], file["cases/parameters/phi"][0]
    n = len(R)
    side = np.sqrt(np.pi * n * (1 + small**2) / (8 * phi))
    R = R % side
    diameter = np.where(np.arange(n) < n // 2, 1.0, small)
    free = np.isnan(J).any(axis=1)
    figure, axis = plt.subplots(figsize=(5.0, 5.0), layout="constrained")
    for mask, face, edge in (
        (~free & (diameter == 1), "0.88", "0.6"),
        (~free & (diameter < 1), "0.72", "0.45"),
        (free, "none", "0.45"),
    ):
        discs = EllipseCollection(
            diameter[mask], diameter[mask], np.zeros(mask.sum()), units="xy", offsets=R[mask], transOffset=axis.transData
        )
        discs.set(facecolor=face, edgecolor=edge, linewidth=0.6)
        axis.add_collection(discs)
    axis.quiver(*R[~free].T, *J[~free].T, angles="xy", scale_units="xy", scale=1 / GROWTH, width=0.004, color="black")
    axis.set(xlim=(0, side), ylim=(0, side), aspect="equal", xlabel="x / D", ylabel="y / D")
    axis.set_title(f"small discs grow by {GROWTH} D: displacements, to first order")
    return figure


def silicon_vacancy(file: h5py.File) -> Any:
    """How far each shell moves, and elasticities of the formation energy with their bounds."""
    R, cell = file["solution/position"][0], file["inputs/cell"][()]
    r = np.linalg.norm(R - np.round(R @ np.linalg.inv(cell)) @ cell, axis=1)  # `vacancies: [0]` empties the corner of the cell
    names = sorted(file["sensitivity/position"])
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 3.2), layout="constrained")
    for name, marker in zip(names, "osv^D", strict=True):
        value = file[f"cases/parameters/{name}"][0]
        moved = np.linalg.norm(file[f"sensitivity/position/{name}"][0], axis=-1) * abs(value)
        left.plot(
            r, moved, marker, markersize=3.5, label=name, color="black", markerfacecolor="none" if marker in "os" else "black"
        )
    left.set(yscale="log", ylim=(SMALLEST, None), xlabel="distance from the vacancy (Angstrom)", ylabel="|dR / d log p| (Angstrom)")
    left.legend(frameon=False, title="parameter p")
    energy = file["outputs/formation_energy"][0, 0]
    scale = [file[f"cases/parameters/{name}"][0] / energy for name in names]
    height = [file[f"sensitivity/formation_energy/{name}"][0, 0] * s for name, s in zip(names, scale, strict=True)]
    right.barh(names, height, color="0.7", edgecolor="black", linewidth=0.6)
    for k, (name, h) in enumerate(zip(names, height, strict=True)):
        bound = file[f"certificate/jacobian/formation_energy/{name}/bound"][0] * abs(scale[k])
        right.annotate(f" {h:.3f} ± {bound:.0e} ", (max(h, 0.0), k), va="center", ha="left")
    right.axvline(0.0, color="black", linewidth=0.8)
    right.set(xlabel="d log(formation energy) / d log p", title=f"formation energy {energy:.4f} eV")
    right.margins(x=0.6)
    return figure


def lj_elastic(file: h5py.File) -> Any:
    """The tensor of elastic constants."""
    C = file["sensitivity/stress/strain"][0]
    figure, axis = plt.subplots(figsize=(3.8, 3.4), layout="constrained")
    largest = np.abs(C).max()
    axis.imshow(C, cmap="Greys", vmin=0, vmax=1.6 * largest)
    for i, j in np.ndindex(*C.shape):
        if abs(C[i, j]) > 1e-9 * largest:
            axis.annotate(f"{C[i, j]:.2f}", (j, i), ha="center", va="center")
    axis.set_xticks(range(6), VOIGT)
    axis.set_yticks(range(6), VOIGT)
    axis.set(xlabel="strain", ylabel="stress", title="elastic constants (epsilon / sigma³)")
    return figure


def inverse_design(file: h5py.File) -> Any:
    """Objective and parameters over the evaluations of the search."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 2.8), layout="constrained")
    objective = file["outer/objective"][()]
    left.plot(objective, "o-", color="black", markersize=3.5)
    left.set(yscale="log", xlabel="evaluation", ylabel="objective")
    for name, style in (("sigma", "o-"), ("epsilon", "s--")):
        right.plot(np.exp(file[f"outer/lambda/{name}"][()]), style, color="black", markersize=3.5, label=name)
    right.set(xlabel="evaluation", ylabel="parameter")
    right.legend(frameon=False)
    return figure


FIGURES = (packing, silicon_vacancy, lj_elastic, inverse_design)
