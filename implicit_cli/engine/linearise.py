"""A point linearised: A prepared for many solves, its null space sorted, and the distance to the nearest kink."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from implicit_cli.core.degeneracy import Degeneracy, analyse
from implicit_cli.core.implicit import Point
from implicit_cli.core.linear import LinearSolver, prepare
from implicit_cli.core.linear.base import Operator
from implicit_cli.core.measured import rounding_of_Bt
from implicit_cli.core.nearby import probes
from implicit_cli.core.precision import float32
from implicit_cli.engine.plan import Plan
from implicit_cli.engine.vectors import Vectors

SINGLE_TOLERANCE = 1e-5
"""No linear solve in float32 is asked for a smaller relative residual."""


class Single(NamedTuple):
    """The point in float32: the problem's vectors, the point itself, and A there, prepared for many solves."""

    vectors: Vectors
    p: Point
    A: LinearSolver


def linearise(vectors: Vectors, plan: Plan, p: Point, single: Single | None = None) -> LinearSolver:
    """A at p, prepared by the plan's method; with `single`, from its factor in float32, refined."""
    quick = single.A if single is not None else None
    return prepare(plan.linear, operator_at(vectors, p), None, _known(vectors, p), single=quick, last=vectors.last_factor)


def linearise_natural(vectors: Vectors, plan: Plan, p: Point) -> LinearSolver:
    """A of the condition's natural map at p; where it has none of its own, of F."""
    system = vectors.natural
    if system is vectors.system:
        return linearise(vectors, plan, p)
    operator = Operator(system.A_times, system.At_times, p, vectors.x.size, system.symmetric, matrix=system.A_matrix)
    linear = plan.linear._replace(method="auto", then=(), ridge=0.0)
    return prepare(linear, operator, None, vectors.nothing)


def in_single(vectors: Vectors, plan: Plan, p: Point) -> Single | None:
    """p and A in float32; None where the plan is in float64."""
    if not plan.single:
        return None
    q = single_point(vectors, p)
    with float32():
        return Single(vectors.single, q, single_solver(vectors, plan, q))


def single_point(vectors: Vectors, p: Point) -> Point:
    """p rounded to float32, with the problem's data in float32."""
    x, theta = (np.asarray(part, dtype=np.float32) for part in (p.x, p.theta))
    with float32():
        return vectors.single.refreshed(Point(jnp.asarray(x), jnp.asarray(theta), vectors.single.data))


def single_solver(vectors: Vectors, plan: Plan, q: Point) -> LinearSolver:
    """A at a point in float32; to be called with JAX's x64 mode off."""
    linear = plan.linear._replace(tol=max(plan.linear.tol, SINGLE_TOLERANCE))
    return prepare(linear, operator_at(vectors.single, q), None, _known(vectors.single, q))


def operator_at(vectors: Vectors, p: Point) -> Operator:
    """A at p as products, and as far as it is known, its entries and the unknowns that are loose."""
    system, condition = vectors.system, vectors.condition
    find = condition.pattern
    declared = vectors.problem.undetermined(*vectors.at(p)) if find is not None else {}
    return Operator(
        system.A_times,
        system.At_times,
        p,
        vectors.x.size,
        condition.symmetric,
        definite=condition.definite,
        matrix=system.A_matrix,
        pattern=find(*vectors.at(p)) if find is not None else None,
        entries=vectors.entries,
        precondition=vectors.precondition,
        loose=np.any([vectors.x.mask(masks) for masks in declared.values()], axis=0) if declared else None,
    )


def _known(vectors: Vectors, p: Point) -> jax.Array:
    """Known symmetries as columns (d, k)."""
    known = list(gauges(vectors, p).values())
    return jnp.stack(known, axis=1) if known else vectors.nothing


def gauges(vectors: Vectors, p: Point) -> dict[str, jax.Array]:
    """Known symmetries at a point, by name, as directions (d,)."""
    arguments = vectors.at(p)
    found = dict(vectors.problem.null_space(*arguments))
    if vectors.condition.null_space is not None:
        found |= {name: z._asdict() for name, z in vectors.condition.null_space(*arguments).items()}
    return {name: vectors.x.join(direction) for name, direction in found.items()}


def margin(vectors: Vectors, p: Point) -> float:
    """Distance to the nearest kink of F, of those that the problem and its condition know of."""
    arguments = vectors.at(p)
    margins = [vectors.problem.margin(*arguments)]
    if vectors.margin is not None:
        margins.append(vectors.margin(*arguments))
    return min(map(float, margins))


def degeneracy(vectors: Vectors, p: Point, A: LinearSolver) -> Degeneracy:
    """What the null space of A means for each component of x."""
    system, d, symmetries = vectors.system, vectors.x.size, gauges(vectors, p)
    declared = {reason: vectors.x.mask(masks) for reason, masks in vectors.problem.undetermined(*vectors.at(p)).items()}
    leak, gauge_leak, size_of_B, noise = 0.0, 0.0, 1.0, 0.0
    Z, Y = A.null_space
    if Y.shape[1]:
        leak = float(jnp.linalg.norm(system.Bt_times(p, Y)))
        Q = jnp.asarray(np.linalg.qr(probes(2, d))[0])
        whole = (d / Q.shape[1]) ** 0.5
        size_of_B = float(jnp.linalg.norm(system.Bt_times(p, Q))) * whole
        noise = float(system.compiled(rounding_of_Bt)(p, Q)) * whole  # of all of B: along a gauge rounding may cancel too
    if symmetries and system.symmetric:  # else what B must not have is in Y, and its leak is found above
        G = jnp.linalg.qr(jnp.stack(list(symmetries.values()), axis=1))[0]
        gauge_leak = float(jnp.linalg.norm(system.Bt_times(p, G)))
    named = {name: np.asarray(direction) for name, direction in symmetries.items()}
    angle = 0.0
    if Z.shape[1] > len(named):
        least, most = float(A.spectrum.sigma_min), float(A.spectrum.sigma_max)
        size = max(float(jnp.linalg.norm(system.A_times(p, Z))), most * float(jnp.finfo(Z.dtype).eps))
        angle = size / least if least > 0 else np.inf
    sizes = {"leak": leak, "gauge_leak": gauge_leak, "size_of_B": size_of_B, "noise": noise, "angle": angle}
    return analyse(np.asarray(Z), named, declared, **sizes)
