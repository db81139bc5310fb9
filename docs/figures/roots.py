"""Figures of fixed points, roots and what learns through them (docs/problems)."""

from __future__ import annotations

from typing import Any

import h5py
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import MaxNLocator

FOLDER = "problems"
INK = {"color": "black", "linewidth": 1.0}
DOTS = {"color": "black", "linestyle": "none", "markersize": 3.5}
PUBLISHED = (1.06, 1.045, 1.01, 1.019, 1.02, 1.07, 1.062, 1.09, 1.056, 1.051, 1.057, 1.055, 1.05, 1.036)
"""Voltages in the file of the IEEE 14-bus test case (University of Washington archive)."""


def equilibrium_layer(file: h5py.File) -> Any:
    """Slopes of the loss by the weights, as numbers on their signs and sizes."""
    figure, axes = plt.subplots(1, 2, figsize=(8.4, 3.0), layout="constrained", width_ratios=(10, 6))
    features = file["feature"].asstr()[()]
    for axis, name, ticks in zip(axes, "UW", (features, range(6)), strict=True):
        slope = file[f"sensitivity/loss/{name}"][0]
        axis.imshow(np.abs(slope), cmap="Greys", vmin=0.0, vmax=1.6 * np.abs(slope).max(), aspect="auto")
        for i, j in np.ndindex(*slope.shape):
            axis.annotate(f"{slope[i, j]:+.0f}", (j, i), ha="center", va="center")
        axis.set_xticks(range(slope.shape[1]), ticks)
        axis.set(ylabel="hidden unit", title=f"d loss / d {name}")
    axes[0].set_xlabel("feature")
    axes[1].set_xlabel("hidden unit")
    return figure


def reaction_network(file: h5py.File) -> Any:
    """The switch, and what controls the flux through it."""
    total = file["cases/parameters/total"][()]
    ratio, protein = total[:, 1] / total[:, 2], total[0, 0]
    bind, unbind, convert = file["cases/parameters/k"][0, :3]
    K = (unbind + convert) / bind / protein
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 3.2), layout="constrained")
    log_concentration = file["solution/log_concentration"][()]
    left.plot(ratio, np.exp(log_concentration[:, 1]) / protein, "o", label="all species", **DOTS)
    left.plot(ratio, goldbeter_koshland(ratio, K), label="few enzymes (Goldbeter, Koshland)", **INK)
    left.set(ylabel="share of protein that is modified")
    left.legend(frameon=False)
    control = file["sensitivity/log_rate/k"][:, 2]
    names = file["reaction"].asstr()[()]
    for j, style in zip((2, 5, 0, 3), ("-", "--", "-.", ":"), strict=True):
        right.plot(ratio, control[:, j], style, label=names[j], **INK)
    right.plot(ratio, control.sum(axis=1), "o", label="sum of all six", **(DOTS | {"markersize": 2}))
    right.set(ylabel="control coefficient of the flux")
    right.legend(frameon=False)
    for axis in (left, right):
        axis.set(xscale="log", xlabel="enzyme 1 / enzyme 2")
        axis.set_xticks([0.5, 0.7, 1.0, 1.4, 2.0], ["0.5", "0.7", "1", "1.4", "2"])
        axis.set_xticks([], minor=True)
    return figure


def goldbeter_koshland(ratio: np.ndarray, K: float) -> np.ndarray:
    """Share w that is modified where ratio (1 - w) / (K + 1 - w) = w / (K + w)."""
    a, b, c = 1 - ratio, ratio * (1 - K) - (1 + K), ratio * K
    return 2 * c / (np.sqrt(b**2 - 4 * a * c) - b)


def power_flow(file: h5py.File) -> Any:
    """Voltages beside the published ones, and what another megawatt costs in losses."""
    bus = 1 + np.arange(len(PUBLISHED))
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 3.0), layout="constrained")
    left.plot(bus, PUBLISHED, "s", markerfacecolor="none", label="published", **(DOTS | {"markersize": 7}))
    left.plot(bus, file["solution/voltage"][0], "o", label="solution", **DOTS)
    left.set(xlabel="bus", ylabel="voltage (per unit)", xticks=bus)
    left.legend(frameon=False)
    right.bar(bus, file["sensitivity/losses/P"][0], color="0.7", edgecolor="black", linewidth=0.6)
    right.axhline(0.0, color="black", linewidth=0.8)
    right.set(xlabel="bus where power is fed in", ylabel="d losses / d P", xticks=bus)
    return figure


def boundary_value(file: h5py.File) -> Any:
    """The branch with its slopes and the closed form, and its two solutions at one lam."""
    lam, middle = file["cases/parameters/lam"][()], file["outputs/middle"][()]
    slope, point = file["sensitivity/middle/lam"][()], file["cases/point"].asstr()[()]
    u = file["solution/u"][()]
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 3.2), layout="constrained")
    t = np.linspace(0.1, 14.0, 600)
    left.plot(t**2 / 2 / np.cosh(t / 4) ** 2, 2 * np.log(np.cosh(t / 4)), label="closed form", color="0.6", linewidth=1.0)
    good = np.isfinite(slope)
    step = 0.12 / np.hypot(1, slope[good])
    sides = step * np.array([-1, 1])[:, None]
    left.plot(lam[good] + sides, middle[good] + sides * slope[good], **INK)
    left.plot(lam[good], middle[good], "o", label="solutions and derivatives", **DOTS)
    fold = point == "fold"
    left.plot(
        lam[fold], middle[fold], "s", markerfacecolor="none", label=f"fold at {lam[fold][0]:.9f}", **(DOTS | {"markersize": 8})
    )
    left.set(xlabel="lam", ylabel="u(1/2)", xlim=(0.0, 4.0), ylim=(0.0, 1.1 * middle.max()))
    left.legend(frameon=False, loc="upper right")
    x = (1 - np.cos(np.pi * np.arange(u.shape[1]) / (u.shape[1] - 1))) / 2
    for case, style in zip(np.flatnonzero(np.abs(lam - 2.0) < 1e-9), ("o-", "s--"), strict=False):
        right.plot(x, u[case], style, color="black", markersize=2.5, linewidth=0.8, label=f"u(1/2) = {middle[case]:.4f}")
    right.set(xlabel="x", ylabel="u", title="lam = 2: two solutions")
    right.legend(frameon=False)
    return figure


def distillation(file: h5py.File) -> Any:
    """The loss over the search, and the images it found."""
    images = file["cases/parameters/image"][0].reshape(-1, 8, 8)
    largest = np.abs(images).max()
    figure = plt.figure(figsize=(8.4, 2.6), layout="constrained")
    grid = figure.add_gridspec(2, 8)
    axis = figure.add_subplot(grid[:, :3])
    losses(axis, file)
    for digit, image in enumerate(images):
        axis = figure.add_subplot(grid[digit // 5, 3 + digit % 5])
        axis.imshow(image, cmap="Greys", vmin=-largest, vmax=largest)
        axis.set(xticks=[], yticks=[], title=str(digit))
    return figure


def dictionary(file: h5py.File) -> Any:
    """The loss over the search, and the atoms with their weights, the heaviest first."""
    atoms, w = file["cases/parameters/dictionary"][0], file["cases/parameters/w"][0]
    order = np.argsort(-np.abs(w))
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 3.2), layout="constrained", width_ratios=(3, 5))
    losses(left, file)
    largest = np.abs(atoms).max()
    shown = right.imshow(atoms[order], cmap="Greys", vmin=-largest, vmax=largest, aspect="auto")
    right.set_yticks(range(len(w)), [f"{value:+.2f}" for value in w[order]])
    right.set(xlabel="feature", ylabel="weight w of the atom", title="atoms")
    figure.colorbar(shown, ax=right)
    return figure


def losses(axis: Any, file: h5py.File) -> None:
    """Objective and validation at each step of a search."""
    step = file["outer/steps"][()]
    for name, label, style in (("objective", "objective", "o-"), ("validation", "held-out loss", "s--")):
        face = "black" if style == "o-" else "white"
        axis.plot(file[f"outer/{name}"][()][step], style, label=label, markersize=2.5, markerfacecolor=face, **INK)
    axis.set(xlabel="step", yscale="log")
    ticks = [tick for tick in (0.05, 0.1, 0.2, 0.5, 1.0, 2.0) if axis.get_ylim()[0] < tick < axis.get_ylim()[1]]
    axis.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.set_yticks([], minor=True)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.legend(frameon=False)


def matrix_factorisation(file: h5py.File) -> Any:
    """Mean images, what three terms make of them, and how these answer to the penalty."""
    rows = (
        ("mean image", file["cases/parameters/M"][0]),
        ("rank 3", file["outputs/product"][0]),
        ("d / d penalty", file["sensitivity/product/penalty"][0]),
    )
    figure, axes = plt.subplots(3, 10, figsize=(8.4, 2.7), layout="constrained")
    for line, (name, images) in zip(axes, rows, strict=True):
        largest = np.abs(images).max()
        for axis, image in zip(line, images, strict=True):
            axis.imshow(image.reshape(8, 8), cmap="Greys", vmin=-largest if images.min() < -0.1 * largest else 0.0, vmax=largest)
            axis.set(xticks=[], yticks=[])
        line[0].set_ylabel(name)
    return figure


def kepler(file: h5py.File) -> Any:
    """Each orbit with its body, and where a little more mean anomaly takes it."""
    e, E = file["cases/parameters/eccentricity"][0], file["solution/E"][0]
    slope = np.diag(file["sensitivity/E/mean_anomaly"][0])
    figure, axis = plt.subplots(figsize=(5.6, 4.4), layout="constrained")
    round_trip = np.linspace(0.0, 2 * np.pi, 361)
    for name, k, style, marker in zip(file["orbit"].asstr()[()], range(len(e)), ("-", "--", ":"), "os^", strict=True):
        flat = np.sqrt(1 - e[k] ** 2)
        axis.plot(np.cos(round_trip) - e[k], flat * np.sin(round_trip), style, **INK)
        place, way = (np.cos(E[k]) - e[k], flat * np.sin(E[k])), 0.1 * slope[k] * np.array([-np.sin(E[k]), flat * np.cos(E[k])])
        axis.plot(*place, marker, label=name, markerfacecolor="none", **(DOTS | {"markersize": 6}))
        axis.quiver(*place, *way, angles="xy", scale_units="xy", scale=1.0, width=0.005)
    axis.plot(0.0, 0.0, "+", **(DOTS | {"markersize": 9}))
    axis.set(aspect="equal", xlabel="x / a", ylabel="y / a")
    axis.legend(frameon=False, loc="lower left")
    return figure


FIGURES = (kepler, equilibrium_layer, reaction_network, power_flow, boundary_value, distillation, dictionary, matrix_factorisation)
