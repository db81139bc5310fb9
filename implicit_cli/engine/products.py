"""The products asked for: all directions go through forward and adjoint solves, and come back as named arrays with bounds.

Components without a derivative are NaN in a Jacobian and in a JVP. A cotangent's weight on them is left out of a VJP, and the
product's status says so; an output that depends on them is NaN.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager

import numpy as np

from implicit_cli.core.certificate import Certifier
from implicit_cli.engine.chunks import column_sizes
from implicit_cli.engine.hessian import SecondOrder
from implicit_cli.engine.passes import AdjointPass, ForwardPass, Pass, Solves
from implicit_cli.engine.site import Site
from implicit_cli.result import Product

KINDS = ("jacobian", "jvp", "jvp_left", "jvp_right", "vjp", "hessian", "hessian_along")
"""Kinds of products in the order of the results."""


def ordered(products: Iterable[Product]) -> tuple[Product, ...]:
    """Products by kind, in the order of `KINDS`."""
    return tuple(sorted(products, key=lambda product: KINDS.index(product.kind)))


def _named(site: Site) -> str:
    """A hash of all that decides what is in a chunk: the point, what is singular there, and the plan."""
    plan = site.plan
    about = (
        site.degeneracy.nullity,
        plan.tol,
        plan.linear,
        plan.mode,
        plan.method,
        plan.corrected,
        plan.forward_chunks,
        plan.adjoint_chunks,
    )
    return hashlib.sha256(np.asarray(site.p.x).tobytes() + repr(about).encode()).hexdigest()


Watch = Callable[[str], AbstractContextManager[None]]


class Products:
    """Differentiate and certify, chunk by chunk; `results` are the records, `solves` the linear solves behind them."""

    def __init__(self, site: Site) -> None:
        self.site = site
        plan, bound = site.plan, site.vectors.bound
        self._work = _named(site) if site.room.keeps else ""
        self._done, saved = site.room.saved(self._work)
        jvps = [direction for direction in bound.directions if direction.kind == "jvp"]
        vjps = [direction for direction in bound.directions if direction.kind == "vjp"]
        columns = site.vectors.theta.size if bound.jacobian and plan.mode == "forward" else 0
        rows = sum(len(site.parts_of(of)[2]) for of in bound.of) if bound.jacobian and plan.mode == "adjoint" else 0
        self.passes: list[Pass] = []
        if plan.forward_solves:
            self.passes.append(ForwardPass(site, plan.forward_chunks, columns, jvps))
        if plan.adjoint_solves:
            self.passes.append(AdjointPass(site, plan.adjoint_chunks, rows, vjps))
        left = self._done
        for work in self.passes if left else ():
            if not work.restore(saved, left):
                site.room.reject()
            left = max(left - work.chunks.count, 0)
        self.second_order = SecondOrder(site)
        self.results: tuple[Product, ...] = ()

    @property
    def solves(self) -> dict[str, Solves]:
        """The linear solves by direction."""
        return {work.name: work.solves for work in self.passes} | self.second_order.solves

    def compute(self, certify: Callable[[], Certifier], watch: Watch, progress: Callable[[int, int], None]) -> Certifier:
        """Everything; `watch` keeps the times, `progress` hears of each chunk, `certify` is called once, after the first solves.

        What the room has from an earlier run is not computed again.
        """
        certifier: Certifier | None = None
        done, total = 0, sum(work.chunks.count for work in self.passes)
        for work in self.passes:
            for chunk in work.chunks:
                if done < self._done:
                    done += 1
                    continue
                with watch("differentiate"):
                    solved = work.solve(chunk)
                with watch("certify"):
                    certifier = certifier or certify()
                    work.gather(chunk, solved, certifier)
                done += 1
                if self.site.room.keeps:
                    state = [part.state for part in self.passes]
                    self.site.room.save(self._work, done, total, {name: array for part in state for name, array in part.items()})
                progress(done, total)
        with watch("differentiate"):
            self.second_order.solve()
        with watch("certify"):
            certifier = certifier or certify()
            self.second_order.certify(certifier)
            results = [product for work in self.passes for product in work.products(certifier)] + self.second_order.results
        self.results = ordered(results)
        return certifier

    def relative(self, product: Product) -> float:
        """Largest bound of a product relative to its largest column (a Jacobian) or to each of its directions; NaN for nothing."""
        if product.kind in ("jacobian", "hessian"):
            sizes, found = column_sizes(product.value.reshape(-1, max(product.bound.total.size, 1)), self.site.room)
            sizes, bounds = sizes.max(initial=0.0, keepdims=True), product.bound.total.max(initial=0.0, keepdims=True).reshape(-1)
        else:
            bounds = product.bound.total.reshape(-1)
            sizes, found = column_sizes(product.value.reshape(bounds.size, -1).T, self.site.room)
        if not found:
            return float("nan")
        zero = np.maximum(bounds, self.site.plan.zero.get(product.of, 0.0))
        if not (sizes > zero).all():
            sizes = np.where(sizes > zero, sizes, np.maximum(sizes, self._scale(product)))
        return float(np.max(np.divide(bounds, sizes, out=bounds.astype(float), where=sizes > 0), initial=0.0))

    def _scale(self, product: Product) -> float:
        """What a derivative that is zero, as far as can be told, is compared with: its quantity over its parameters."""
        vectors, p = self.site.vectors, self.site.p
        y = vectors.system.g(p.x, p.theta, p.data)
        values = {**vectors.x.split(np.asarray(p.x)), **vectors.y.split(np.asarray(y))}
        above = {name: float(np.linalg.norm(value)) for name, value in values.items()}
        below = {
            name: float(np.linalg.norm(np.asarray(value))) or 1.0
            for name, value in vectors.theta.split(np.asarray(p.theta)).items()
        }
        weights = {name: float(np.linalg.norm(np.asarray(part))) for name, part in product.direction.items()}
        match product.kind:
            case "vjp":
                return sum(size * above[name] for name, size in weights.items()) / below[product.wrt]
            case "jvp" | "jvp_left" | "jvp_right" | "hessian_along":
                moved = max((size / below[name] for name, size in weights.items() if name in below), default=1.0)
                return above[product.of] * moved ** (2 if product.kind == "hessian_along" else 1)
            case _:
                return above[product.of] / below[product.wrt] / below.get(product.wrt2, 1.0)
