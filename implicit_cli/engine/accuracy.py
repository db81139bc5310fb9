"""The accuracy asked for, driven by the bound: what is known of each product, and which tolerance must be tightened, and how far.

A bound is the sum of its parts. Truncation shrinks with the error of x, so with `solver.tol`; the linear part with
`linear_solver.tol`; rounding with neither. So where a bound is too large, the tolerance behind its largest part is tightened in
proportion, and the case is solved on from where it is.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from implicit_cli.engine.products import Products
from implicit_cli.result import Product

ROUNDS = 4
"""Times that a case is solved on, at most."""
GAIN = 0.7
"""A round that leaves more than this much of the bound was in vain: there is no further one."""
MARGIN, AT_ONCE = 0.3, 1e-6
"""Tolerances are tightened to this much of what the bound asks for, and by this much at once at most."""


class Known(NamedTuple):
    """How well the worst product is known: its bound relative to its size, the largest part of the bound, and what it is.

    `rounding` is the largest rounding part of all products, relative likewise.
    """

    relative: float
    part: str
    what: str
    rounding: float


def known(products: Products) -> Known:
    """The product with the largest relative bound; NaN does not count, for what has no bound has a status that says so."""
    worst, part, what, rounding = 0.0, "truncation", "", 0.0
    for product in products.results:
        relative = products.relative(product)
        if not np.isfinite(relative):
            continue
        sizes = {name: float(np.max(getattr(product.bound, name), initial=0.0)) for name in ("truncation", "linear", "rounding")}
        total = float(np.max(product.bound.total, initial=0.0))
        if total > 0:
            rounding = max(rounding, relative * sizes["rounding"] / total)
        if relative > worst:
            worst, part, what = relative, max(sizes, key=sizes.__getitem__), described(product)
    return Known(worst, part, what, rounding)


def described(product: Product) -> str:
    """`d w / d penalty`, or `jvp 'heavier'`."""
    if product.kind not in ("jacobian", "hessian"):
        return f"{product.kind} '{product.name}'"
    d = "d2" if product.wrt2 else "d"
    return f"{d} {product.of} / d {product.wrt}{f' d {product.wrt2}' if product.wrt2 else ''}"


def tightened(found: Known, accuracy: float, tol: float) -> float:
    """The tolerance with which the bound would be met, if it shrinks in proportion to `tol`, or to what was reached with it."""
    return tol * max(MARGIN * accuracy / found.relative, AT_ONCE)
