"""Figures of regression and classification (docs/problems)."""

from __future__ import annotations

from typing import Any

import h5py
import matplotlib.pyplot as plt
import numpy as np

FOLDER = "problems"
MARKERS = "osv^D<>pXP"
GROWTH = 0.02
"""Relative growth of the penalty for which dual variables are moved."""


def texts(file: h5py.File, axis: str) -> list[str]:
    """The labels of an axis."""
    return list(file[axis].asstr()[()])


def ridge(file: h5py.File) -> Any:
    """Derivatives of all weights by all penalties, as numbers on their sizes."""
    names, slope = texts(file, "feature"), file["sensitivity/w/penalty"][0]
    figure, axis = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
    axis.imshow(np.abs(slope), cmap="Greys", vmin=0.0, vmax=1.6 * np.abs(slope).max(), aspect="auto")
    for i, j in np.ndindex(*slope.shape):
        axis.annotate(f"{slope[i, j]:.1f}", (j, i), ha="center", va="center", fontsize=7)
    axis.set_xticks(range(len(names)), names)
    axis.set_yticks(range(len(names)), names)
    axis.set(xlabel="penalty of", ylabel="weight of")
    return figure


def lasso(file: h5py.File) -> Any:
    """The path of the weights, each solution with its tangent, and the losses."""
    penalty, w, slope = (file[name][()] for name in ("cases/parameters/penalty", "solution/w", "sensitivity/w/penalty"))
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 3.4), layout="constrained")
    for j, (name, marker) in enumerate(zip(texts(file, "feature"), MARKERS, strict=True)):
        left.plot(penalty, w[:, j], marker, markersize=3, color="black", markerfacecolor="none", markeredgewidth=0.6, label=name)
        _tangents(left, penalty, w[:, j], slope[:, j])
    left.set(xlabel="penalty", ylabel="weight", title="weights, with their derivatives as tangents")
    left.legend(frameon=False, ncols=2, fontsize=7)
    _losses(right, file, penalty)
    return figure


def elastic_net(file: h5py.File) -> Any:
    """The weights, and what they gain or lose by a change of either penalty."""
    names = texts(file, "feature")
    at = np.arange(len(names))
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 3.0), layout="constrained", sharey=True)
    left.barh(at, file["solution/w"][0], color="0.7", edgecolor="black", linewidth=0.6)
    left.set(xlabel="weight", title="weights")
    left.set_yticks(at, names)
    left.invert_yaxis()
    for shift, name, face, hatch in ((-0.2, "l1", "0.35", ""), (0.2, "l2", "white", "////")):
        rate = file[f"sensitivity/w/{name}"][0]
        label = f"by log {name} = log {file[f'cases/parameters/{name}'][0]:g}"
        right.barh(at + shift, rate, 0.4, color=face, edgecolor="black", linewidth=0.6, hatch=hatch, label=label)
    right.set(xlabel="derivative of the weight", title="derivatives")
    right.legend(frameon=False)
    for axis in (left, right):
        axis.axvline(0.0, color="black", linewidth=0.8)
    return figure


def group_lasso(file: h5py.File) -> Any:
    """How long the weights of each group are, and what more weight for a group does to the held-out loss."""
    penalty, w, group_of = (file[name][()] for name in ("cases/parameters/penalty", "solution/w", "inputs/group_of"))
    slope = file["sensitivity/validation_loss/weight"][()]
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 3.2), layout="constrained")
    style = {"markersize": 3, "linewidth": 0.8, "color": "black", "markerfacecolor": "none"}
    for g, (name, marker) in enumerate(zip(texts(file, "group"), "osv^D", strict=True)):
        length = np.linalg.norm(w[:, group_of == g], axis=1)
        left.plot(penalty, length, f"{marker}-", label=name, **style)
        right.plot(penalty, np.where(length > 0, slope[:, g], np.nan), f"{marker}-", label=name, **style)
    left.set(xlabel="penalty", ylabel="length of the weights", title="groups")
    left.legend(frameon=False)
    right.axhline(0.0, color="black", linewidth=0.6)
    right.set_yscale("symlog", linthresh=10)
    right.set(xlabel="penalty", ylabel="d(held-out loss) / d(weight of the group)", title="groups that are not zero")
    return figure


def nnls(file: h5py.File) -> Any:
    """The spectrum with its parts, and what noise at a wavelength does to each amount."""
    wavelength, names = [float(text.removesuffix(" nm")) for text in texts(file, "row")], texts(file, "column")
    A, b, x = file["inputs/A"][()], file["cases/parameters/b"][0], file["solution/x"][0]
    gain = file["sensitivity/x/b"][0]
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 3.2), layout="constrained")
    left.plot(wavelength, b, "o", color="black", markerfacecolor="none", markersize=3.5, label="measured")
    left.plot(wavelength, A @ x, "-", color="black", linewidth=1.0, label="fitted")
    for j, style in zip(range(len(names)), ("--", ":", "-.", (0, (5, 1, 1, 1, 1, 1))), strict=True):
        if x[j] > 0:
            left.plot(wavelength, A[:, j] * x[j], linestyle=style, color="0.35", linewidth=0.9, label=f"{names[j]}: {x[j]:.3f}")
            right.plot(wavelength, gain[j], linestyle=style, color="black", linewidth=1.0, label=names[j])
    zero = ", ".join(name for name, amount in zip(names, x, strict=True) if amount == 0)
    left.set(xlabel="wavelength (nm)", ylabel="absorbance", ylim=(0, None), title=f"spectrum (zero: {zero or 'none'})")
    left.legend(frameon=False, fontsize=7)
    right.axhline(0.0, color="black", linewidth=0.6)
    right.set(xlabel="wavelength (nm)", ylabel="d(amount) / d(absorbance)", title="what each wavelength counts for")
    right.legend(frameon=False)
    return figure


def logistic(file: h5py.File) -> Any:
    """What each training sample does to the loss on held-out samples, over its own score."""
    X, y, w, b = file["inputs/X"][()], file["inputs/y"][()], file["solution/w"][0], file["solution/intercept"][0]
    influence = np.ravel(file["sensitivity/validation_loss/weight"][0])
    score = X @ w + b
    figure, axis = plt.subplots(figsize=(5.6, 3.4), layout="constrained")
    for label, marker, name in ((0, "x", "malignant"), (1, "o", "benign")):
        mine = y == label
        axis.plot(
            score[mine],
            influence[mine],
            marker,
            color="black",
            markerfacecolor="none",
            markersize=3.5,
            markeredgewidth=0.7,
            label=name,
        )
    axis.axhline(0.0, color="black", linewidth=0.6)
    axis.axvline(0.0, color="black", linewidth=0.6, linestyle=":")
    axis.set(xlabel="score of the training sample, X w + b", ylabel="d(held-out loss) / d(weight of the sample)")
    axis.legend(frameon=False, loc="center left")
    return figure


def multinomial(file: h5py.File) -> Any:
    """The weights of each class, and their derivatives by the logarithm of the penalty."""
    names = texts(file, "feature")
    figure, axes = plt.subplots(1, 2, figsize=(7.6, 4.2), layout="constrained", sharey=True)
    for axis, value, title in zip(
        axes, (file["solution/W"][0], file["sensitivity/W/penalty"][0]), ("weights", "derivatives by log penalty"), strict=True
    ):
        value = value.reshape(len(names), -1)
        axis.imshow(np.abs(value), cmap="Greys", vmin=0, vmax=2.0 * np.abs(value).max(), aspect="auto")
        for i, j in np.ndindex(*value.shape):
            axis.annotate(f"{value[i, j]:.2f}", (j, i), ha="center", va="center", fontsize=7)
        axis.set_yticks(range(len(names)), names)
        axis.set_xticks(range(value.shape[1]))
        axis.set(xlabel="class", title=title)
    return figure


def kernel_ridge(file: h5py.File) -> Any:
    """The curve through the years, and how it moves with the length scale."""
    known, held = np.ravel(file["inputs/X"][()]), np.ravel(file["inputs/X_validation"][()])
    order = np.argsort(np.concatenate([known, held]))
    year = np.concatenate([known, held])[order]

    def joined(path: str) -> Any:
        parts = [np.ravel(file[path.format(name)][0]) for name in ("fitted", "prediction")]
        return np.concatenate(parts)[order]

    curve, length, penalty = joined("outputs/{}"), joined("sensitivity/{}/length"), joined("sensitivity/{}/penalty")
    figure, (top, bottom) = plt.subplots(2, 1, figsize=(6.4, 4.6), layout="constrained", sharex=True)
    top.plot(known, file["inputs/y"][()], "o", color="black", markersize=2.5, label="training")
    top.plot(held, file["inputs/y_validation"][()], "o", color="black", markerfacecolor="none", markersize=3.5, label="held out")
    top.plot(year, curve, "-", color="black", linewidth=1.0, label="prediction")
    top.set(ylabel="flow less its mean (1e8 m³)")
    top.legend(frameon=False, ncols=3)
    bottom.plot(year, length, "-", color="black", linewidth=1.0, label="by log length")
    bottom.plot(year, penalty, "--", color="black", linewidth=1.0, label="by log penalty")
    bottom.axhline(0.0, color="black", linewidth=0.6)
    bottom.set(xlabel="year", ylabel="derivative of the prediction (1e8 m³)")
    bottom.legend(frameon=False, ncols=2)
    return figure


def svm(file: h5py.File) -> Any:
    """The dual variables of each sample in their simplex, and where they go as the penalty grows."""
    x, slope, y = file["solution/x"][0], file["sensitivity/x/penalty"][0], file["inputs/y"][()]
    slope = slope.reshape(x.shape)
    corners = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(0.75)]])
    inner = x.max(axis=1) < 1
    figure, axis = plt.subplots(figsize=(5.0, 4.4), layout="constrained")
    axis.plot(*np.vstack([corners, corners[:1]]).T, "-", color="0.7", linewidth=0.8)
    axis.quiver(
        *(x[inner] @ corners).T,
        *(GROWTH * slope[inner] @ corners).T,
        angles="xy",
        scale_units="xy",
        scale=1.0,
        width=0.004,
        color="0.3",
    )
    for label, marker in zip(range(3), "os^", strict=True):
        mine = inner & (y == label)
        axis.plot(*(x[mine] @ corners).T, marker, color="black", markerfacecolor="none", markersize=5, label=f"of class {label}")
    for j, (corner, place) in enumerate(zip(corners, ((0.0, -0.1), (0.0, -0.1), (0.0, 0.03)), strict=True)):
        axis.annotate(f"x = class {j}\n{(x[:, j] == 1).sum()} samples", corner + np.array(place), ha="center")
    axis.set(aspect="equal", xlim=(-0.2, 1.2), ylim=(-0.12, 1.0), title=f"penalty {GROWTH:.0%} larger: moves to first order")
    axis.axis("off")
    axis.legend(frameon=False, loc="upper left")
    return figure


def _losses(axis: Any, file: h5py.File, penalty: Any) -> None:
    """Losses over the penalty, with tangents."""
    for name, label, marker in (("training_loss", "training", "o"), ("validation_loss", "held out", "s")):
        value, rate = np.ravel(file[f"outputs/{name}"][()]), np.ravel(file[f"sensitivity/{name}/penalty"][()])
        axis.plot(penalty, value, marker, markersize=3, color="black", markerfacecolor="none", markeredgewidth=0.6, label=label)
        _tangents(axis, penalty, value, rate)
    axis.set(xlabel="penalty", ylabel="mean squared error / 2", title="losses")
    axis.legend(frameon=False)


def _tangents(axis: Any, at: Any, value: Any, rate: Any) -> None:
    """A piece of the tangent at each point, all as one line with gaps."""
    reach = 0.4 * np.diff(at).min() * np.array([-1.0, 1.0, np.nan])
    axis.plot(np.add.outer(at, reach).ravel(), (value[:, None] + np.outer(rate, reach)).ravel(), "-", color="black", linewidth=0.8)


FIGURES = (ridge, lasso, elastic_net, group_lasso, nnls, logistic, multinomial, kernel_ridge, svm)
