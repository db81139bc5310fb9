"""One-sided derivatives as products: for each jvp, what moves along v and along -v, which on a kink are not the same."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from implicit_cli.core.certificate import Certifier
from implicit_cli.core.implicit import Point
from implicit_cli.core.linear import LinearSolver
from implicit_cli.core.one_sided import Side, one_sided
from implicit_cli.engine.asked import Direction
from implicit_cli.engine.kinks import Kink
from implicit_cli.engine.linearise import linearise_natural
from implicit_cli.engine.site import Site, columns, estimate
from implicit_cli.result import Product
from implicit_cli.status import Status

ROUNDING = 64.0
"""Roundings of a value that was extrapolated."""


def both_sides(site: Site, kink: Kink, certifier: Certifier) -> list[Product]:
    """Left and right derivatives along every jvp; NaN with a status where there is none. Their bounds are estimates."""
    vectors, plan, products = site.vectors, site.plan, []

    def prepared(p: Point) -> LinearSolver:
        return linearise_natural(vectors, plan, p)

    for direction in vectors.bound.directions:
        if direction.kind != "jvp":
            continue
        V = jnp.asarray(columns(vectors.theta, direction))
        found = one_sided(
            vectors.natural,
            site.p,
            prepared,
            V,
            radius=kink.reach,
            margin=certifier.certificate.margin,
            gauges=len(site.degeneracy.gauges),
        )
        products += _records(site, "jvp_left", direction, found.left)
        products += _records(site, "jvp_right", direction, found.right)
    return products


def _records(site: Site, kind: str, direction: Direction, side: Side) -> list[Product]:
    many = () if direction.count is None else (direction.count,)
    status = Status(int(side.status.max(initial=0)))
    records = []
    for of in site.vectors.bound.of:
        layout, rows, _ = site.parts_of(of)
        unknown = of in site.vectors.x.slices
        values, errors = (np.asarray(part)[rows] for part in ((side.U, side.U_error) if unknown else (side.Y, side.Y_error)))
        rounding = ROUNDING * np.finfo(float).eps * np.linalg.norm(values, axis=0)
        bound = estimate(np.linalg.norm(errors, axis=0).reshape(many), rounding.reshape(many))
        value = values.T.reshape(many + layout.shapes[of])
        records.append(Product(kind, direction.name, of, "", value, bound, status, dict(direction.parts)))
    return records
