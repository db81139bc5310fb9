"""Kinks at the solution: declared by a margin, or seen in the derivatives; what stands on one loses its value."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from implicit_cli.core.linear.base import rank_floor
from implicit_cli.core.one_sided import kinks
from implicit_cli.engine.passes import nothing
from implicit_cli.engine.site import Site, columns
from implicit_cli.result import Certificate, Product
from implicit_cli.status import Status

STEPS, NEAR = 4.0, 1e-6
"""Where no radius is known, x is taken to be within so many Newton steps; derivatives are compared within this part of x."""


class Kink(NamedTuple):
    """What is not smooth within `reach` of the solution: F, as `declared` by its margin or `found`; outputs (m,); F's domain."""

    reach: float
    declared: bool
    found: bool
    outputs: NDArray[np.bool_]
    edge: bool

    @property
    def in_F(self) -> bool:
        return self.declared or self.found


def look(site: Site, certificate: Certificate, *, converged: bool) -> Kink:
    """Kinks at the site, whose constants are the certificate's; a point that is no solution is not looked at."""
    reach = certificate.radius if np.isfinite(certificate.radius) else STEPS * certificate.step
    if site.vectors.condition.natural is not None and "null mode" in site.degeneracy.undetermined:
        # the row of A that vanishes on the kink counts as zero from here on
        reach = max(reach, rank_floor(site.vectors.x.size) * site.A.spectrum.sigma_max)
    if not converged or not np.isfinite(reach):
        return Kink(reach, False, False, np.zeros(site.vectors.y.size, dtype=bool), False)
    near = min(reach, NEAR * float(np.linalg.norm(np.asarray(site.p.x))) or reach)
    found = kinks(site.vectors.system, site.p, radius=near, loose=site.free)
    # where nothing has a derivative anyway, a piece of F that is flat is no kink worth telling
    return Kink(reach, certificate.margin <= reach, found.in_F and not site.degeneracy.fatal, found.in_g, found.edge)


def without_kinks(site: Site, kink: Kink, products: tuple[Product, ...]) -> tuple[Product, ...]:
    """The products, less the values of what has a kink."""
    if kink.in_F:
        return tuple(replace(nothing(product), status=Status.NONDIFFERENTIABLE) for product in products)
    if not kink.outputs.any():
        return products
    y = site.vectors.y
    by_name = {name: mask for name, mask in y.split(kink.outputs).items() if mask.any()}
    weighed = {
        direction.name
        for direction in site.vectors.bound.directions
        if direction.kind == "vjp" and (columns(y, direction)[kink.outputs] != 0).any()
    }

    def of(product: Product) -> Product:
        if product.kind == "vjp":
            return replace(nothing(product), status=Status.NONDIFFERENTIABLE) if product.name in weighed else product
        if product.of not in by_name:
            return product
        if product.kind.startswith("hessian"):
            return replace(nothing(product), status=Status.NONDIFFERENTIABLE)
        mask = by_name[product.of]
        many = product.value.ndim - mask.ndim if product.kind == "jvp" else 0
        value = product.value.copy()
        value[(slice(None),) * many + (mask,)] = np.nan
        return replace(product, value=value, status=Status.NONDIFFERENTIABLE)

    return tuple(of(product) for product in products)
