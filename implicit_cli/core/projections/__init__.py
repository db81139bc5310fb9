"""Projections on convex sets (and on two spheres), each with derivatives by every argument and its distance to the nearest kink."""

from implicit_cli.core.projections.balls import kl_simplex, l1_ball, l1_sphere, l2_ball, l2_sphere, linf_ball, simplex
from implicit_cli.core.projections.cones import psd_cone, psd_cone_svec, second_order_cone, smat, svec
from implicit_cli.core.projections.exponential import exponential_cone, exponential_dual_cone
from implicit_cli.core.projections.kl import kl_birkhoff, kl_transport
from implicit_cli.core.projections.operator import Operator, with_margin
from implicit_cli.core.projections.polyhedra import box_section, polyhedron
from implicit_cli.core.projections.simple import affine_set, box, half_space, hyperplane, nonnegative
from implicit_cli.core.projections.transport import birkhoff, transport

__all__ = [
    "Operator",
    "affine_set",
    "birkhoff",
    "box",
    "box_section",
    "exponential_cone",
    "exponential_dual_cone",
    "half_space",
    "hyperplane",
    "kl_birkhoff",
    "kl_simplex",
    "kl_transport",
    "l1_ball",
    "l1_sphere",
    "l2_ball",
    "l2_sphere",
    "linf_ball",
    "nonnegative",
    "polyhedron",
    "psd_cone",
    "psd_cone_svec",
    "second_order_cone",
    "simplex",
    "smat",
    "svec",
    "transport",
    "with_margin",
]
