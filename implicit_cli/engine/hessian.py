"""Second derivatives as products: whole Hessians of scalars, and second derivatives of everything along directions.

One set of forward solves serves all Hessians, one adjoint solve each scalar, one more forward solve each direction. What has no
first derivative has no second one: it is NaN. A Hessian's bound is one number for each column, that is, each component of its
second parameter; along a direction it is one number for each quantity.
"""

from __future__ import annotations

from itertools import accumulate, pairwise

import jax.numpy as jnp
import numpy as np

from implicit_cli.core.certificate import Certifier
from implicit_cli.core.implicit import Forward, forward
from implicit_cli.core.linear import Solved
from implicit_cli.core.nearby import lengths
from implicit_cli.core.second_order import Hessians, Second, SecondCertifier, hessians, second
from implicit_cli.engine.passes import Solves
from implicit_cli.engine.site import FloatArray, Mask, Site, columns, no_bound
from implicit_cli.result import Bound, Product

FORWARD, ADJOINT = "second_order_forward", "second_order_adjoint"
"""Names of the linear solves in diagnostics."""


class SecondOrder:
    """`solve`, then `certify`; `results` are the records, `solves` the linear solves behind them."""

    def __init__(self, site: Site) -> None:
        self.site = site
        bound = site.vectors.bound
        self.scalars = scalars(site) if bound.hessian else []
        self.directions = [direction for direction in bound.directions if direction.kind == "hessian"]
        self.results: list[Product] = []
        self.solves: dict[str, Solves] = {}
        self._whole: tuple[Forward, Hessians] | None = None
        self._along: tuple[Forward, Second] | None = None

    def solve(self) -> None:
        """Everything that needs the factor."""
        site, system = self.site, self.site.vectors.system
        n, d, m = site.vectors.theta.size, site.vectors.x.size, site.vectors.y.size
        forwards: list[Solved] = []
        if self.scalars:
            W_x, W_y = np.zeros((d, len(self.scalars))), np.zeros((m, len(self.scalars)))
            for column, of in enumerate(self.scalars):
                W = W_x if of in site.vectors.x.slices else W_y
                W[site.parts_of(of)[1], column] = 1.0
            f = forward(system, site.p, site.A, jnp.eye(n))
            h = hessians(system, site.p, site.A, f, jnp.asarray(W_x), jnp.asarray(W_y))
            self._whole, self.solves[ADJOINT] = (f, h), _told(h.solved)
            forwards.append(f.solved)
        if self.directions:
            V = np.concatenate([columns(site.vectors.theta, direction) for direction in self.directions], axis=1)
            f = forward(system, site.p, site.A, jnp.asarray(V))
            s = second(system, site.p, site.A, f)
            self._along = (f, s)
            forwards += [f.solved, s.solved]
        if forwards:
            self.solves[FORWARD] = _told(*forwards)

    def certify(self, certifier: Certifier) -> None:
        """Bounds, and the records."""
        if self._whole is not None:
            self._hessians(*self._whole, certifier)
        if self._along is not None:
            self._seconds(*self._along, certifier)

    def _hessians(self, f: Forward, h: Hessians, certifier: Certifier) -> None:
        parts = SecondCertifier(certifier, f).hessians(h)
        theta = self.site.vectors.theta
        for i, of in enumerate(self.scalars):
            free = self.site.parts_of(of)[2]
            value, truncation, linear = np.asarray(h.H[i]), parts.truncation[i], parts.linear[i]
            for wrt, rows in theta.slices.items():
                for wrt2, place in theta.slices.items():
                    solves = np.concatenate([f.solved.status[rows], f.solved.status[place], h.solved.status[i : i + 1]])
                    norms = (lengths(truncation[rows, place]), lengths(linear[rows, place]), parts.rounding[i, place])
                    found = (part.reshape(theta.shapes[wrt2]) for part in norms)
                    bound = self.site.bound(found, "estimate", certifier)
                    block = value[rows, place].reshape(theta.shapes[wrt] + theta.shapes[wrt2])
                    block, bound = self._void(block, bound, free)
                    self.results.append(Product("hessian", "", of, wrt, block, bound, self.site.status(solves, free), wrt2=wrt2))

    def _seconds(self, f: Forward, s: Second, certifier: Certifier) -> None:
        in_x, in_y = SecondCertifier(certifier, f).second(s)
        ends = accumulate((direction.count or 1 for direction in self.directions), initial=0)
        status = np.maximum(f.solved.status, s.solved.status)
        for direction, place in zip(self.directions, (slice(*pair) for pair in pairwise(ends)), strict=True):
            many = () if direction.count is None else (direction.count,)
            for of in self.site.vectors.bound.of:
                layout, rows, free = self.site.parts_of(of)
                unknown = of in self.site.vectors.x.slices
                parts, values = (in_x, np.asarray(s.U)) if unknown else (in_y, np.asarray(s.Y))
                found = (part[place].reshape(many) for part in parts.norms(np.arange(rows.start, rows.stop)[~free]))
                bound = self.site.bound(found, "estimate", certifier)
                block = np.where(self.site.degeneracy.fatal | free[:, None], np.nan, values[rows, place])
                value = block.T.reshape(many + layout.shapes[of])
                told = self.site.status(status[place], free)
                self.results.append(Product("hessian_along", direction.name, of, "", value, bound, told, dict(direction.parts)))

    def _void(self, block: FloatArray, bound: Bound, free: Mask) -> tuple[FloatArray, Bound]:
        """A scalar that has no derivative has no Hessian either."""
        if not (self.site.degeneracy.fatal or free.any()):
            return block, bound
        return np.full_like(block, np.nan), no_bound(bound)


def scalars(site: Site) -> list[str]:
    """What in `of` has a Hessian: unknowns and outputs of shape ()."""
    return [of for of in site.vectors.bound.of if site.vectors.bound.shapes[of] == ()]


def _told(*solved: Solved) -> Solves:
    """The story of several stacks of right-hand sides, end to end."""
    status, relative, steps = (
        np.concatenate([np.asarray(getattr(one, name)) for one in solved]) for name in ("status", "relative", "steps")
    )
    return Solves(solved[0].method, status, relative, steps)
