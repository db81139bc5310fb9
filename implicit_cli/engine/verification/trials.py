"""Along which directions a product is checked, and what it claims there.

A product is a matrix M with one bound b_i for each of its columns: it claims M c, for any c, with the error sum |c_i| b_i. By
default the c are a few random combinations of all columns: each weighs a column by something between half and one and a half
times the size of its parameter, with a random sign, so that no column is missed. Where a parameter has no more components than
that, and on request, they are the columns themselves.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product as pairs
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from implicit_cli.engine.asked import Direction
from implicit_cli.engine.methods.finite_difference import relative_size, sizes
from implicit_cli.engine.site import FloatArray, Site, columns
from implicit_cli.result import Product

EPS = float(np.finfo(float).eps)


class Seen(NamedTuple):
    """What of (x, y), end to end, a claim is about: `rows` of it, or one number, `weights` times all of it."""

    rows: NDArray[np.int64] | None
    weights: FloatArray | None = None

    def of(self, values: FloatArray) -> FloatArray:
        """That of `values` (..., d + m): (..., r)."""
        if self.weights is None:
            return np.asarray(values[..., self.rows])
        used = self.weights != 0  # a weight of zero times NaN is no NaN here
        return np.asarray(values[..., used] @ self.weights[used])[..., None]

    def error(self, *entries: FloatArray) -> float:
        """Length of errors that are known entry by entry (d + m,), one kind of them after the other."""
        if self.weights is None:
            return sum(float(np.linalg.norm(part[self.rows])) for part in entries)
        used = self.weights != 0
        return sum(float(np.abs(self.weights[used]) @ np.abs(part[used])) for part in entries)

    def within(self, d: int) -> bool:
        """Whether it is about unknowns alone, the first d of (x, y)."""
        return self.rows is not None and bool((self.rows < d).all())

    def cotangent(self, size: int, rng: np.random.Generator) -> FloatArray:
        """The weights; for rows, random ones."""
        if self.weights is not None:
            return self.weights
        w = np.zeros(size)
        w[self.rows] = rng.standard_normal(len(w[self.rows]))
        return w


class Trial(NamedTuple):
    """A claim along one direction: `value` (r,) is wrong by `bound` at most, in the 2-norm.

    The witness for it is the sum of weight * derivative along v over `terms`: there is one of them, save for the mixed second
    derivative along two directions.
    """

    along: str
    order: int
    terms: tuple[tuple[float, FloatArray], ...]
    seen: Seen
    value: FloatArray
    bound: float
    rounding: float


class Trials:
    """The trials of each product; equal parameters are tried along equal directions, so that their solves are shared."""

    def __init__(self, site: Site, count: int, *, full: bool, seed: int) -> None:
        self.site, self.count, self.full, self.seed = site, count, full, seed
        self.theta = np.asarray(site.p.theta)

    def of(self, product: Product) -> list[Trial]:
        """Empty where all components are without a derivative."""
        return list(getattr(self, f"_{product.kind}")(product))

    # First derivatives

    def _jacobian(self, product: Product) -> Iterator[Trial]:
        rows, place = self._rows(product.of), self.site.vectors.theta.slices[product.wrt]
        M, b = product.value.reshape(len(rows), -1), product.bound.total.ravel()
        keep = np.isfinite(M).all(axis=1)
        for along, c in self._block(product.wrt) if keep.any() else ():
            yield Trial(along, 1, _one(self._placed(c, place)), Seen(rows[keep]), *_combined(M[keep], b, c))

    def _jvp(self, product: Product) -> Iterator[Trial]:
        rows, V, M, b = self._directions(product)
        keep = np.isfinite(M).all(axis=1)
        for along, c in self._combinations(V.shape[1], "direction") if keep.any() else ():
            yield Trial(along, 1, _one(V @ c), Seen(rows[keep]), *_combined(M[keep], b, c))

    def _vjp(self, product: Product) -> Iterator[Trial]:
        site, vectors = self.site, self.site.vectors
        place = vectors.theta.slices[product.wrt]
        direction = _direction(product)
        # as in the product: a weight on what has no derivative is left out
        W = np.concatenate([np.where(site.free[:, None], 0.0, columns(vectors.x, direction)), columns(vectors.y, direction)])
        M, b = product.value.reshape(W.shape[1], place.stop - place.start), product.bound.total.ravel()
        keep = np.isfinite(M).all(axis=1)
        many = list(self._combinations(int(keep.sum()), "cotangent"))
        for (name, e), (along, c) in pairs(many, self._block(product.wrt)):
            seen = Seen(None, W[:, keep] @ e)
            value, bound, rounding = _combined((M[keep] @ c)[None], b[keep], e)
            # the bound is on the array as a whole, of which this is one component
            bound *= float(np.linalg.norm(c))
            yield Trial(", ".join(filter(None, (name, along))), 1, _one(self._placed(c, place)), seen, value, bound, rounding)

    # Second derivatives

    def _hessian_along(self, product: Product) -> Iterator[Trial]:
        rows, V, M, b = self._directions(product)
        keep, k = np.isfinite(M).all(axis=1), V.shape[1]
        some = np.arange(k) if self.full or k <= self.count else np.sort(self._rng("along", k).choice(k, self.count, replace=False))
        for i in some if keep.any() else ():
            along = "" if k == 1 else f"direction {i}"
            yield Trial(along, 2, _one(V[:, i]), Seen(rows[keep]), M[keep, i], float(b[i]), 0.0)

    def _hessian(self, product: Product) -> Iterator[Trial]:
        if not np.isfinite(product.value).all():
            return
        theta = self.site.vectors.theta
        places = [theta.slices[name] for name in (product.wrt, product.wrt2)]
        H, b = product.value.reshape([place.stop - place.start for place in places]), product.bound.total.ravel()
        one, other = (list(self._block(name)) for name in (product.wrt, product.wrt2))
        same = product.wrt == product.wrt2
        if self._whole(product.wrt) and self._whole(product.wrt2):
            chosen = [(i, j) for i, j in np.ndindex(len(one), len(other)) if not same or i <= j]
        else:
            chosen = [(i % len(one), i % len(other)) for i in range(max(len(one), len(other)))]
        for i, j in chosen:
            (first, c), (second, e) = one[i], other[j]
            p, q = self._placed(c, places[0]), self._placed(e, places[1])
            square = same and i == j
            along = first if square else " and ".join(filter(None, (first, second)))
            value, bound, rounding = _combined((c @ H)[None], b, e)
            # |c'E e| is at most |c| times the sum of |e_j| |E_j|
            bound *= float(np.linalg.norm(c))
            terms = _one(p) if square else self._mixed(p, q)
            yield Trial(along, 2, terms, Seen(self._rows(product.of)), value, bound, rounding)

    def _mixed(self, p: FloatArray, q: FloatArray) -> tuple[tuple[float, FloatArray], ...]:
        """D2[p, q] from the second derivatives along p, q and their sum, scaled to move parameters by the same fraction."""
        a, b = (1.0 / max(relative_size(self.site.vectors.theta, v, self.theta), 1e-300) for v in (p, q))
        return (0.5 / (a * b), a * p + b * q), (-0.5 * a / b, p), (-0.5 * b / a, q)

    # Helpers

    def _rows(self, of: str) -> NDArray[np.int64]:
        """Where a quantity is in (x, y)."""
        _, rows, _ = self.site.parts_of(of)
        begin = 0 if of in self.site.vectors.x.slices else self.site.vectors.x.size
        return np.arange(begin + rows.start, begin + rows.stop)

    def _directions(self, product: Product) -> tuple[NDArray[np.int64], FloatArray, FloatArray, FloatArray]:
        """Rows in (x, y), directions V (n, k), values (r, k) and bounds (k,) of a product along named directions."""
        rows, V = self._rows(product.of), columns(self.site.vectors.theta, _direction(product))
        return rows, V, product.value.reshape(V.shape[1], len(rows)).T, product.bound.total.ravel()

    def _placed(self, c: FloatArray, place: slice) -> FloatArray:
        v = np.zeros(self.theta.size)
        v[place] = c
        return v

    def _whole(self, wrt: str) -> bool:
        """Whether a parameter is tried column by column."""
        place = self.site.vectors.theta.slices[wrt]
        return self.full or place.stop - place.start <= self.count

    def _block(self, wrt: str) -> Iterator[tuple[str, FloatArray]]:
        """Names and coefficients of the directions in one parameter."""
        place = self.site.vectors.theta.slices[wrt]
        scale = sizes(self.site.vectors.theta, self.theta)[place]
        return self._combinations(place.stop - place.start, "column", scale / scale.max(initial=0.0), wrt)

    def _combinations(self, k: int, word: str, scale: FloatArray | float = 1.0, name: str = "") -> Iterator[tuple[str, FloatArray]]:
        if self.full or k <= self.count:
            yield from (("" if k == 1 else f"{word} {i}", row) for i, row in enumerate(np.eye(k)))
            return
        rng = self._rng(word, k, *name.encode())
        for i in range(self.count):
            signs = rng.choice(np.array([-1.0, 1.0]), k)
            yield f"combination {i}", signs * rng.uniform(0.5, 1.5, k) * scale

    def _rng(self, word: str, *numbers: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, *word.encode(), *numbers])


def _direction(product: Product) -> Direction:
    """A product's direction as the spec's are; a bound for each of many."""
    return Direction(product.kind, product.name, product.direction, product.bound.total.size if product.bound.total.ndim else None)


def _one(v: FloatArray) -> tuple[tuple[float, FloatArray], ...]:
    return ((1.0, np.ascontiguousarray(v)),)


def _combined(M: FloatArray, b: FloatArray, c: FloatArray) -> tuple[FloatArray, float, float]:
    """M c, its bound and its rounding, from the columns that c uses."""
    used = c != 0
    sizes_used = np.abs(c[used])
    return M[:, used] @ c[used], float(sizes_used @ b[used]), 4 * EPS * float(np.linalg.norm(np.abs(M[:, used]) @ sizes_used))
