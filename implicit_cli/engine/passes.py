"""All right-hand sides of one direction, chunk by chunk: solved, certified, and gathered into named products.

Forward: columns of the Jacobian, then the jvps. Adjoint: rows of the Jacobian in the order of `of`, then the vjps. A chunk's arrays
are dropped before the next; what stays is the value and three numbers of a bound for each column.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from implicit_cli.core.certificate import Certifier, Parts
from implicit_cli.core.implicit import Adjoint, Forward
from implicit_cli.core.linear import Solved
from implicit_cli.engine.asked import Direction
from implicit_cli.engine.chunks import SMALL, Chunks, fill, mark, overlap
from implicit_cli.engine.site import FloatArray, Site, columns
from implicit_cli.result import Bound, Product
from implicit_cli.status import Status


class Solves(NamedTuple):
    """How the linear solves of one direction went, one entry for each right-hand side."""

    method: str
    status: NDArray[np.int8]
    relative: FloatArray
    steps: NDArray[np.int64]


class Pass(ABC):
    """Chunks of one direction: `solve` one, `gather` it, and `products` when all are done."""

    name: str

    def __init__(self, site: Site, chunks: Chunks, jacobian: int, directions: list[Direction]) -> None:
        self.site, self.chunks, self.jacobian = site, chunks, jacobian
        ends = list(accumulate((direction.count or 1 for direction in directions), initial=jacobian))
        self.directions = [(direction, slice(*ends)) for direction, ends in zip(directions, pairwise(ends), strict=True)]
        total = chunks.total
        self.solves = Solves(site.A.method, np.zeros(total, np.int8), np.zeros(total), np.zeros(total, np.int64))
        of, wrt = (site.vectors.bound.of, site.vectors.theta.names) if jacobian else ((), ())
        self.blocks = {(row, column): self._block(row, column) for row in of for column in wrt}
        self._marks = {key: np.zeros((), np.uint64) for key in self.blocks}

    @abstractmethod
    def solve(self, chunk: slice) -> Any:
        """The linear solves of a chunk."""

    @abstractmethod
    def gather(self, chunk: slice, solved: Any, certifier: Certifier) -> None:
        """Certify a solved chunk and keep what is wanted of it."""

    @abstractmethod
    def products(self, certifier: Certifier) -> list[Product]:
        """Everything gathered, by name."""

    def _block(self, of: str, wrt: str) -> FloatArray:
        """Room for a block of the Jacobian, one row per component of `of`, one column per component of `wrt`."""
        theta = self.site.vectors.theta
        shape = (len(self.site.parts_of(of)[2]), theta.slices[wrt].stop - theta.slices[wrt].start)
        return self.site.room.allocate(shape) if 8 * shape[0] * shape[1] > SMALL else np.empty(shape)

    @property
    def state(self) -> dict[str, NDArray[Any]]:
        """All that has been gathered so far, by name; large blocks, which are in the room, apart."""
        solves = {name: getattr(self.solves, name) for name in ("status", "relative", "steps")}
        small = {f"block {of}/{wrt}": block for (of, wrt), block in self.blocks.items() if block.nbytes <= SMALL}
        marks = {f"mark {of}/{wrt}": mark for (of, wrt), mark in self._marks.items()}
        return {f"{self.name} {name}": array for name, array in {**solves, **small, **marks, **self._gathered()}.items()}

    @abstractmethod
    def _gathered(self) -> dict[str, NDArray[Any]]:
        """What a direction keeps beside the blocks."""

    @abstractmethod
    def _done(self, of: str, wrt: str, done: slice) -> tuple[slice, slice] | None:
        """Rows and columns of a block that those right-hand sides have filled; None where they are not of it."""

    def restore(self, saved: Mapping[str, NDArray[Any]], count: int) -> bool:
        """Go on from a `state` after so many chunks; False where a block is not what it was then."""
        for name, array in self.state.items():
            array[...] = saved[name]
        done = slice(0, min(count * self.chunks.width, self.chunks.total))
        places = {key: self._done(*key, done) for key in self.blocks}
        return all(self._marks[key] == self._mark(key, self.blocks[key][place], *place) for key, place in places.items() if place)

    def _fill(self, of: str, wrt: str, rows: slice, columns: slice, values: FloatArray) -> None:
        """A part of a block, which no other chunk fills."""
        fill(self.blocks[of, wrt], rows, columns, values, self.site.room)
        if self.site.room.keeps:
            self._marks[of, wrt] += self._mark((of, wrt), values, rows, columns)

    def _mark(self, key: tuple[str, str], values: FloatArray, rows: slice, columns: slice) -> NDArray[np.uint64]:
        return mark(values, rows, columns, self.blocks[key].shape[1], self.site.room)

    def _named(self, chunk: slice, size: int, matrices: list[FloatArray]) -> FloatArray:
        """Columns of the named directions in a chunk, in their places in a matrix (size, width); the rest is zero."""
        found = np.zeros((size, self.chunks.width))
        for (_, place), matrix in zip(self.directions, matrices, strict=True):
            if meet := overlap(place, chunk):
                found[:, meet[1]] = matrix[:, meet[0]]
        return found

    def _corrected(self, value: FloatArray, parts: Parts) -> FloatArray:
        """The value, with its first-order error taken away where that is asked for."""
        return value + parts.correction if self.site.plan.corrected else value

    def _note(self, chunk: slice, solved: Solved) -> None:
        """Keep the story of the linear solves, without the padding."""
        used = chunk.stop - chunk.start
        self.solves.status[chunk] = solved.status[:used]
        self.solves.relative[chunk] = solved.relative[:used]
        self.solves.steps[chunk] = solved.steps[:used]

    def _jacobian(self, of: str, wrt: str, parts: Iterable[FloatArray], kind: str, status: Status, certifier: Certifier) -> Product:
        theta_shape = self.site.vectors.theta.shapes[wrt]
        bound = self.site.bound((part.reshape(theta_shape) for part in parts), kind, certifier)
        shape = self.site.parts_of(of)[0].shapes[of] + theta_shape
        return Product("jacobian", "", of, wrt, self.blocks[of, wrt].reshape(shape), bound, status)


class ForwardPass(Pass):
    """`A U = -B V`: a column of V for each component of theta, then for each jvp."""

    name = "forward"

    def __init__(self, site: Site, chunks: Chunks, jacobian: int, directions: list[Direction]) -> None:
        super().__init__(site, chunks, jacobian, directions)
        self._matrices = [columns(site.vectors.theta, direction) for direction in directions]
        named = chunks.total - jacobian
        of = site.vectors.bound.of
        self._values = {name: np.zeros((len(site.parts_of(name)[2]), named)) for name in of}
        self._bounds = {name: np.zeros((3, chunks.total)) for name in of}

    def _gathered(self) -> dict[str, NDArray[Any]]:
        values = {f"value {name}": array for name, array in self._values.items()}
        return values | {f"bound {name}": array for name, array in self._bounds.items()}

    def _done(self, of: str, wrt: str, done: slice) -> tuple[slice, slice] | None:
        meet = overlap(self.site.vectors.theta.slices[wrt], done)
        return (slice(0, len(self.blocks[of, wrt])), meet[0]) if meet else None

    def solve(self, chunk: slice) -> Forward:
        site, n = self.site, self.site.vectors.theta.size
        V = self._named(chunk, n, self._matrices)
        if meet := overlap(slice(0, self.jacobian), chunk):
            V[np.arange(meet[0].start, meet[0].stop), np.arange(meet[1].start, meet[1].stop)] = 1.0
        return site.forward(V)

    def gather(self, chunk: slice, solved: Forward, certifier: Certifier) -> None:
        site, used = self.site, slice(0, chunk.stop - chunk.start)
        self._note(chunk, solved.solved)
        in_x, in_y = certifier.forward(solved)
        for of in site.vectors.bound.of:
            _, rows, free = site.parts_of(of)
            parts, found = (in_x, solved.U) if of in site.vectors.x.slices else (in_y, solved.Y)
            values = self._corrected(np.asarray(found), parts)[rows, used]
            values = np.full_like(values, np.nan) if site.degeneracy.fatal else np.where(free[:, None], np.nan, values)
            parts = parts.corrected if site.plan.corrected else parts
            self._bounds[of][:, chunk] = [part[used] for part in parts.norms(np.arange(rows.start, rows.stop)[~free])]
            for wrt, place in site.vectors.theta.slices.items() if self.jacobian else ():
                if meet := overlap(place, chunk):
                    self._fill(of, wrt, slice(0, len(values)), meet[0], values[:, meet[1]])
            if meet := overlap(slice(self.jacobian, self.chunks.total), chunk):
                self._values[of][:, meet[0]] = values[:, meet[1]]

    def products(self, certifier: Certifier) -> list[Product]:
        site, status, results = self.site, self.solves.status, []
        theta = site.vectors.theta
        for of in site.vectors.bound.of:
            layout, _, free = site.parts_of(of)
            kind = "bound" if certifier.proved and of in site.vectors.x.slices else "estimate"
            bounds = self._bounds[of]
            for wrt in theta.names if self.jacobian else ():
                place = theta.slices[wrt]
                results.append(self._jacobian(of, wrt, bounds[:, place], kind, site.status(status[place], free), certifier))
            for direction, place in self.directions:
                values = self._values[of][:, place.start - self.jacobian : place.stop - self.jacobian].T
                many = () if direction.count is None else (direction.count,)
                bound = site.bound((part.reshape(many) for part in bounds[:, place]), kind, certifier)
                value = values.reshape(many + layout.shapes[of])
                results.append(
                    Product("jvp", direction.name, of, "", value, bound, site.status(status[place], free), dict(direction.parts))
                )
        return results


class AdjointPass(Pass):
    """`A' U = W_x + g_x' W_y`: a cotangent for each component of what is asked for, then for each vjp."""

    name = "adjoint"

    def __init__(self, site: Site, chunks: Chunks, jacobian: int, directions: list[Direction]) -> None:
        super().__init__(site, chunks, jacobian, directions)
        vectors = site.vectors
        # a cotangent's weight on what has no derivative is left out; the status says so
        self._x = [np.where(site.free[:, None], 0.0, columns(vectors.x, direction)) for direction in directions]
        self._y = [columns(vectors.y, direction) for direction in directions]
        n, named = vectors.theta.size, chunks.total - jacobian
        self._values = np.zeros((n, named))
        self._bounds = {wrt: np.zeros((3, named)) for wrt in vectors.theta.names}
        ends = list(accumulate((len(site.parts_of(of)[2]) for of in vectors.bound.of), initial=0))
        self._places = {of: slice(*ends) for of, ends in zip(vectors.bound.of, pairwise(ends), strict=True)} if jacobian else {}
        # sums of squares over the rows: each part of the bound by column of theta, and the spread
        self._squares = {of: (np.zeros((3, n)), np.zeros(())) for of in self._places}
        self._reach = np.zeros(n)

    def _gathered(self) -> dict[str, NDArray[Any]]:
        found = {"value": self._values, "reach": self._reach}
        found |= {f"bound {name}": array for name, array in self._bounds.items()}
        for of, (squares, spread) in self._squares.items():
            found |= {f"squares {of}": squares, f"spread {of}": spread}
        return found

    def _done(self, of: str, wrt: str, done: slice) -> tuple[slice, slice] | None:
        meet = overlap(self._places[of], done)
        return (meet[0], slice(0, self.blocks[of, wrt].shape[1])) if meet else None

    def solve(self, chunk: slice) -> Adjoint:
        site, x, y = self.site, self.site.vectors.x, self.site.vectors.y
        W_x, W_y = self._named(chunk, x.size, self._x), self._named(chunk, y.size, self._y)
        for of, place in self._places.items():
            if meet := overlap(place, chunk):
                rows = site.parts_of(of)[1]
                W = W_x if of in x.slices else W_y
                W[rows.start + np.arange(meet[0].start, meet[0].stop), np.arange(meet[1].start, meet[1].stop)] = 1.0
        return site.adjoint(W_x, W_y)

    def gather(self, chunk: slice, solved: Adjoint, certifier: Certifier) -> None:
        site = self.site
        self._note(chunk, solved.solved)
        parts = certifier.adjoint(solved)
        L = self._corrected(np.asarray(solved.L), parts)
        parts = parts.corrected if site.plan.corrected else parts
        assert parts.reach is not None
        self._reach[:] = parts.reach
        for of, place in self._places.items():
            if meet := overlap(place, chunk):
                free = site.parts_of(of)[2][meet[0]]
                values = L[:, meet[1]].T
                values = np.full_like(values, np.nan) if site.degeneracy.fatal else np.where(free[:, None], np.nan, values)
                for wrt, where in site.vectors.theta.slices.items():
                    whole = slice(0, where.stop - where.start)
                    self._fill(of, wrt, meet[0], whole, values[:, where])
                squares, spread = self._squares[of]
                kept = np.arange(meet[1].start, meet[1].stop)[~free]
                squares += parts.squares(kept)
                spread += np.sum(parts.spread[kept] ** 2)
        if meet := overlap(slice(self.jacobian, self.chunks.total), chunk):
            self._values[:, meet[0]] = L[:, meet[1]]
            for wrt, where in site.vectors.theta.slices.items():
                self._bounds[wrt][:, meet[0]] = [part[meet[1]] for part in parts.norms(where)]

    def products(self, certifier: Certifier) -> list[Product]:
        site, theta, results = self.site, self.site.vectors.theta, []
        for of, place in self._places.items():
            free = site.parts_of(of)[2]
            status = site.status(self.solves.status[place][~free], free)
            squares, spread = self._squares[of]
            bounds = np.sqrt(squares)
            bounds[0] += np.sqrt(spread) * self._reach
            for wrt in theta.names:
                results.append(self._jacobian(of, wrt, bounds[:, theta.slices[wrt]], "estimate", status, certifier))
        for direction, place in self.directions:
            named = slice(place.start - self.jacobian, place.stop - self.jacobian)
            many = () if direction.count is None else (direction.count,)
            weighs = site.weighs_free(direction)
            status = site.status(self.solves.status[place], np.full(1, weighs is not None))
            for wrt in theta.names:
                rows = theta.slices[wrt]
                parts = (part.reshape(many) for part in self._bounds[wrt][:, named])
                bound = site.bound(parts, "estimate", certifier)
                value = self._values[rows, named].T.reshape(many + theta.shapes[wrt])
                product = Product("vjp", direction.name, "", wrt, value, bound, status, dict(direction.parts))
                results.append(nothing(product) if weighs == "output" or site.degeneracy.fatal else product)
        return results


def nothing(product: Product) -> Product:
    """A product without a value: NaN, and no bound."""
    void = {name: np.full_like(getattr(product.bound, name), np.nan) for name in ("total", "truncation", "linear", "rounding")}
    return replace(product, value=np.full_like(product.value, np.nan), bound=Bound(**void, kind=product.bound.kind))
