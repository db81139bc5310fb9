"""Products by another method than the theorem: the same records, with what the method knows of its own errors."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from implicit_cli.core.certificate import Certifier
from implicit_cli.engine.asked import Direction
from implicit_cli.engine.hessian import scalars
from implicit_cli.engine.methods.base import Columns, FloatArray, Method, unknown_error
from implicit_cli.engine.passes import Solves
from implicit_cli.engine.products import KINDS, Products, Watch
from implicit_cli.engine.site import Site, columns, no_bound
from implicit_cli.result import Bound, Product
from implicit_cli.status import Status


class Compared(Products):
    """As `Products`: `results` are the records, `solves` the linear solves; `note` is what must be said of the numbers."""

    def __init__(self, site: Site, make: Callable[[], Method]) -> None:
        self.site, self._make = site, make
        self.results: tuple[Product, ...] = ()
        self.note = ""
        self._solves: dict[str, Solves] = {}
        bound = site.vectors.bound
        self._kinds = {kind: [one for one in bound.directions if one.kind == kind] for kind in ("jvp", "vjp", "hessian")}

    @property
    def solves(self) -> dict[str, Solves]:
        return self._solves

    @property
    def trouble(self) -> tuple[Status, str] | None:
        """Status and words of the worst product, where one must not be relied on."""
        bad = [product for product in self.results if not product.status.good]
        if not bad:
            return None
        named = bad[0].of or bad[0].name
        return bad[0].status, self.note or f"{self.site.plan.method}: {len(bad)} of {len(self.results)} products, {named} first"

    def compute(self, certify: Callable[[], Certifier], watch: Watch, progress: Callable[[int, int], None]) -> Certifier:
        site, bound = self.site, self.site.vectors.bound
        theta = site.vectors.theta
        with watch("differentiate"):
            method = self._make()
            W = self._cotangents()
            backward = method.rows(W) if W.shape[1] else np.zeros((theta.size, 0))
            by_rows = bound.jacobian and site.plan.mode == "adjoint" and backward is not None
            everything = (bound.jacobian and not by_rows) or backward is None
            V = [np.eye(theta.size)] if everything else []
            V += [columns(theta, direction) for direction in self._kinds["jvp"]]
            stacked = np.concatenate(V, axis=1) if V else np.zeros((theta.size, 0))
            found = method.columns(stacked) if stacked.shape[1] else None
            V2 = self._second_directions()
            second = method.seconds(V2) if V2.shape[1] else None
        with watch("certify"):
            certifier = certify()
            if found is not None:
                found = method.certify(stacked, found, certifier)
            results = self._first(found, theta.size if everything else 0, W, backward)
            results += self._second(second) if second is not None else []
        self.note, self._solves = method.note, dict(method.solves)
        self.results = tuple(sorted(results, key=lambda product: KINDS.index(product.kind)))
        return certifier

    # Cotangents and directions

    def _cotangents(self) -> FloatArray:
        """W (d + m, k): rows of a Jacobian in adjoint mode, then the vjps; nothing on unknowns without a derivative."""
        site = self.site
        d, m = site.vectors.x.size, site.vectors.y.size
        W = [np.zeros((d + m, 0))]
        if site.vectors.bound.jacobian and site.plan.mode == "adjoint":
            W += [np.eye(d + m)[:, self._rows(of)] for of in site.vectors.bound.of]
        for direction in self._kinds["vjp"]:
            W_x = np.where(site.free[:, None], 0.0, columns(site.vectors.x, direction))
            W.append(np.concatenate([W_x, columns(site.vectors.y, direction)]))
        return np.concatenate(W, axis=1)

    def _rows(self, of: str) -> slice:
        """Where a quantity is in (x, y)."""
        _, rows, _ = self.site.parts_of(of)
        begin = 0 if of in self.site.vectors.x.slices else self.site.vectors.x.size
        return slice(begin + rows.start, begin + rows.stop)

    def _second_directions(self) -> FloatArray:
        """Directions of second derivatives: e_i and e_i + e_j, from which whole Hessians are made, then the named ones."""
        theta = self.site.vectors.theta
        V = [np.zeros((theta.size, 0))]
        if scalars(self.site) and self.site.vectors.bound.hessian:
            eye = np.eye(theta.size)
            i, j = np.triu_indices(theta.size, 1)
            V += [eye, eye[:, i] + eye[:, j]]
        V += [columns(theta, direction) for direction in self._kinds["hessian"]]
        return np.concatenate(V, axis=1)

    # Records

    def _first(self, found: Columns | None, n: int, W: FloatArray, backward: FloatArray | None) -> list[Product]:
        site, bound = self.site, self.site.vectors.bound
        theta, begin = site.vectors.theta, 0
        results: list[Product] = []
        if bound.jacobian and site.plan.mode == "adjoint" and backward is not None:
            value = np.zeros((len(W), theta.size))
            for of in bound.of:
                rows = self._rows(of)
                value[rows] = backward[:, begin : begin + rows.stop - rows.start].T
                begin += rows.stop - rows.start
            results += self._jacobian(unknown_error(value, np.zeros(value.shape[1], np.int8)))
        elif bound.jacobian and found is not None:
            results += self._jacobian(found.columns(slice(n)))
        if bound.jacobian and site.plan.mode == "adjoint":
            begin = sum(len(site.parts_of(of)[2]) for of in bound.of)
        place = n
        for direction in self._kinds["jvp"]:
            count = direction.count or 1
            assert found is not None
            results += self._along("jvp", direction, found.columns(slice(place, place + count)))
            place += count
        for direction in self._kinds["vjp"]:
            count = direction.count or 1
            chosen = slice(begin, begin + count)
            begin += count
            if backward is not None:
                found_rows = unknown_error(backward[:, chosen], np.zeros(count, np.int8))
            else:
                assert found is not None
                found_rows = _pulled_back(found.columns(slice(n)), W[:, chosen])
            results += self._vjp(direction, found_rows)
        return results

    def _jacobian(self, found: Columns) -> list[Product]:
        theta, results = self.site.vectors.theta, []
        for of in self.site.vectors.bound.of:
            layout, _, free = self.site.parts_of(of)
            block = found.rows(self._rows(of))
            for wrt, place in theta.slices.items():
                shape = theta.shapes[wrt]
                value = self._void(block.value[:, place], free).reshape(layout.shapes[of] + shape)
                bound = self._bound(block, place, ~free, shape)
                results.append(Product("jacobian", "", of, wrt, value, bound, self._status(block.status[place], free)))
        return results

    def _along(self, kind: str, direction: Direction, found: Columns) -> list[Product]:
        many, results = () if direction.count is None else (direction.count,), []
        for of in self.site.vectors.bound.of:
            layout, _, free = self.site.parts_of(of)
            block = found.rows(self._rows(of))
            value = self._void(block.value, free).T.reshape(many + layout.shapes[of])
            bound = self._bound(block, slice(None), ~free, many)
            told = self._status(block.status, free)
            results.append(Product(kind, direction.name, of, "", value, bound, told, dict(direction.parts)))
        return results

    def _vjp(self, direction: Direction, found: Columns) -> list[Product]:
        theta, results = self.site.vectors.theta, []
        weighs = self.site.weighs_free(direction)
        many = () if direction.count is None else (direction.count,)
        lost = np.asarray([weighs == "output"])
        for wrt, rows in theta.slices.items():
            block = found.rows(rows)
            value = self._void(block.value, np.broadcast_to(lost, (len(block.value),))).T.reshape(many + theta.shapes[wrt])
            bound = self._bound(block, slice(None), np.full(len(block.value), True), many)
            if lost.any():
                bound = no_bound(bound)
            told = self._status(block.status, np.full(1, weighs is not None))
            results.append(Product("vjp", direction.name, "", wrt, value, bound, told, dict(direction.parts)))
        return results

    def _second(self, found: Columns) -> list[Product]:
        """`2 H_ij = D2[e_i + e_j] - D2[e_i] - D2[e_j]`, and the named directions as they are."""
        site, theta = self.site, self.site.vectors.theta
        results: list[Product] = []
        n, place = theta.size, 0
        if site.vectors.bound.hessian:
            place = n * (n + 1) // 2
            for of in scalars(site):
                row, free = self._rows(of).start, site.parts_of(of)[2]
                whole = _hessian(found.rows(slice(row, row + 1)).columns(slice(place)), n)
                for wrt, rows in theta.slices.items():
                    for wrt2, chosen in theta.slices.items():
                        block = whole.rows(rows)
                        lost = np.full(len(block.value), free.any())
                        shape = theta.shapes[wrt] + theta.shapes[wrt2]
                        void = self._void(block.value[:, chosen], lost).reshape(shape)
                        bound = self._bound(block, chosen, ~lost, theta.shapes[wrt2])
                        bound = no_bound(bound) if free.any() else bound
                        told = self._status(block.status, free)
                        results.append(Product("hessian", "", of, wrt, void, bound, told, wrt2=wrt2))
        for direction in self._kinds["hessian"]:
            count = direction.count or 1
            results += self._along("hessian_along", direction, found.columns(slice(place, place + count)))
            place += count
        return results

    def _void(self, value: FloatArray, free: NDArray[np.bool_]) -> FloatArray:
        return np.where(self.site.degeneracy.fatal | free[:, None], np.nan, value)

    def _bound(self, block: Columns, columns: slice, keep: NDArray[np.bool_], shape: tuple[int, ...]) -> Bound:
        """Norms of the error parts, column by column."""
        truncation, linear, rounding = (
            np.asarray(np.linalg.norm(part[keep][:, columns], axis=0)).reshape(shape)
            for part in (block.truncation, block.linear, block.rounding)
        )
        bound = Bound(truncation + linear + rounding, truncation, linear, rounding, "estimate")
        return no_bound(bound) if self.site.degeneracy.fatal else bound

    def _status(self, found: NDArray[np.int8], free: NDArray[np.bool_]) -> Status:
        if not self.site.degeneracy.fatal and (found != Status.OK).any():
            return Status(int(np.max(found)))
        return self.site.status(np.zeros(0, np.int8), free)


def _pulled_back(found: Columns, W: FloatArray) -> Columns:
    """Cotangents W (d + m, k) times all columns of the derivatives: (n, k)."""
    weights = np.abs(W)
    used = weights.any(axis=1)  # a weight of zero times NaN is no NaN here
    truncation, linear, rounding = (part[used].T @ weights[used] for part in (found.truncation, found.linear, found.rounding))
    status = np.full(W.shape[1], found.worst, np.int8)
    return Columns(found.value[used].T @ W[used], truncation, linear, rounding, status)


def _hessian(along: Columns, n: int) -> Columns:
    """Of one scalar, from its second derivatives along e_i and e_i + e_j; errors add up."""
    truncation, linear, rounding = (_polarised(part[0], n, 1) for part in (along.truncation, along.linear, along.rounding))
    return Columns(_polarised(along.value[0], n, -1), truncation, linear, rounding, np.full(n, along.worst, np.int8))


def _polarised(along: FloatArray, n: int, sign: int) -> FloatArray:
    """Matrix (n, n) from its values along e_i and e_i + e_j; `sign` +1 adds up errors instead."""
    diagonal, i, j = along[:n], *np.triu_indices(n, 1)
    H = np.diag(diagonal)
    H[i, j] = H[j, i] = (along[n:] + sign * (diagonal[i] + diagonal[j])) / 2
    return H
