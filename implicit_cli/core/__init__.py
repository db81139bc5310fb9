"""The mathematics, on pytrees and vectors: no files, no problem names. What problems need of it is the catalogue."""

from implicit_cli.core.composite import (
    block_proximal_gradient,
    frank_wolfe,
    mirror_descent,
    projected_gradient,
    proximal_gradient,
)
from implicit_cli.core.conditions import Condition, fixed_point, kkt, least_squares, newton, root, stationary

__all__ = [
    "Condition",
    "block_proximal_gradient",
    "fixed_point",
    "frank_wolfe",
    "kkt",
    "least_squares",
    "mirror_descent",
    "newton",
    "projected_gradient",
    "proximal_gradient",
    "root",
    "stationary",
]
