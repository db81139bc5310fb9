"""Structures from H5MD files (de Buyl, Colberg and Höfling, Computer Physics Communications 185, 2014; version 1.1).

Of `/particles/<group>` are read: `position`, `box` with its `edges` and `boundary`, and `species` where there are any.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from implicit_cli.errors import listing, nearest
from implicit_cli.spec.datasets import Datasets, opened
from implicit_cli.spec.reference import check_outlived
from implicit_cli.spec.source import shown_path
from implicit_cli.structures.structure import Array, Structure, boxed


def read_h5md(path: Path, name: str, group: str | None, frame: int | None, place: str) -> Structure:
    """The structure in the H5MD file at `path`, called `name` in messages, which start with `place`.

    Raises InputError for what is missing, damaged or of a wrong shape; EnvironmentProblem where the system does not let us read.
    """

    def reading() -> Structure:
        with opened(path, name, place=place) as file:
            return _Reader(file, _group(file, group), frame).structure()

    check_outlived(reading, path, f"{place}: {shown_path(name)}")
    return reading()


def _group(file: Datasets, asked: str | None) -> str:
    groups = file.names("/particles")
    if not groups:
        file.refuse("/particles", "found no group of particles, allowed: an H5MD file with one")
    if asked is None and len(groups) > 1:
        file.refuse("/particles", f"found the groups {listing(groups)}, allowed: one of them as 'group'")
    if asked is not None and asked not in groups:
        file.refuse("/particles", f"found no group '{asked}', allowed: {listing(groups)}{nearest(asked, groups)}")
    return f"/particles/{asked or groups[0]}"


class _Reader:
    def __init__(self, file: Datasets, group: str, frame: int | None) -> None:
        self.file, self.group, self.frame = file, group, frame

    def structure(self) -> Structure:
        position = np.asarray(self.element("position", 2), dtype=np.float64)
        n, d = position.shape
        if d not in (2, 3):
            self.file.refuse(f"{self.group}/position", f"found {d} dimensions, allowed: 2 or 3")
        periodic = self.boundary(d)
        cell = self.cell(d)
        for axis in np.flatnonzero(periodic):
            if not np.any(cell[axis]):
                self.file.refuse(f"{self.group}/box", f"found no edge along the periodic axis {axis}, allowed: one")
        species, names = self.species(n)
        return Structure(position, boxed(position, cell, periodic), periodic, species, names)

    def boundary(self, d: int) -> Array:
        box = f"{self.group}/box"
        words = self.file.texts(box, "boundary") if self.file.has(box) else []
        if words and (len(words) != d or not {*words} <= {"periodic", "none"}):
            self.file.refuse(box, f"found the boundary {words}, allowed: 'periodic' or 'none' for each of {d} dimensions")
        return np.array([word == "periodic" for word in words] or [False] * d)

    def cell(self, d: int) -> Array:
        if not self.file.has(f"{self.group}/box/edges"):
            return np.zeros((d, d))
        inner = f"{self.group}/box/edges"
        # lengths of the edges, or a matrix of them; over time, one axis more
        stored = self.path(inner)
        steps = 1 if stored.endswith("/value") else 0
        rank = len(self.file.shape(stored)) - steps
        edges = np.asarray(self.element("box/edges", rank), dtype=np.float64)
        if edges.shape not in ((d,), (d, d)):
            self.file.refuse(inner, f"found edges of shape {edges.shape}, allowed: ({d},) or ({d}, {d})")
        return np.diag(edges) if edges.ndim == 1 else edges

    def species(self, n: int) -> tuple[Array, tuple[str, ...]]:
        if not self.file.has(f"{self.group}/species"):
            return np.zeros(n, dtype=np.int64), ("A",)
        stored = self.path(f"{self.group}/species")
        numbers = self.element("species", 1)
        if numbers.shape != (n,) or numbers.dtype.kind != "i":
            self.file.refuse(stored, f"found {numbers.dtype} of shape {numbers.shape}, allowed: integers of shape ({n},)")
        called = self.file.names_of_values(stored)
        present, species = np.unique(numbers, return_inverse=True)
        if called:  # all of them, also those that no particle has
            order = sorted({*called, *present.tolist()})
            species = np.searchsorted(order, numbers)
            return species.astype(np.int64), tuple(called.get(value, str(value)) for value in order)
        return species.astype(np.int64), tuple(str(value) for value in present)

    def element(self, name: str, rank: int) -> Array:
        """An element of the particles, at one frame where it changes in time."""
        inner = self.path(f"{self.group}/{name}")
        shape = self.file.shape(inner)
        moving = inner.endswith("/value")
        if len(shape) != rank + moving or (moving and not shape[0]):
            what = "frames, " * moving + "particles, axes" * (rank == 2)
            self.file.refuse(inner, f"found the shape {shape}, allowed: {rank + moving} axes{f' ({what})' * (rank == 2)}")
        if not moving:
            return self.file.array(inner)
        frame = shape[0] - 1 if self.frame is None else self.frame
        if frame >= shape[0]:
            self.file.refuse(inner, f"found {shape[0]} frames, allowed with frame: {frame}: at least {frame + 1}")
        return self.file.array(inner, frame)

    def path(self, inner: str) -> str:
        """Where the numbers of an element are: in itself, or in `value` where it changes in time."""
        return f"{inner}/value" if self.file.has(f"{inner}/value") else inner
