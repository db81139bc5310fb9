"""Elastic constants of particles that relax, and the moduli that are their averages over all orientations.

    C = d stress / d strain = D / V - stress (d log V / d strain)'       stress = E_eps / V
    D = E_eps,eps + B' U + U' B + U' A U,    A U = -B,    A = E_RR, B = E_R,eps

U (component, particle, axis), the non-affine displacements, is a solve by conjugate gradients. D is stationary in U, so that its
derivative is that at fixed U: derivatives of C with respect to thousands of parameters take no further solve.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

Array = jax.Array
Energy = Callable[[Array, Array, Any], Array]
"""E(R, more, given): `more` (component,) is strain beside what is `given`."""

ROUNDINGS, FAILED = 1e3, 1e6
"""In units of eps: the relative residual that the solve goes on to, and that beyond which its result is NaN."""
STEPS = 20
"""Steps per unknown after which the solve gives up."""


def elastic(energy: Energy, volume: Callable[[Array, Any], Array], R: Array, more: Array, given: Any) -> Array:
    """C (component, component) at a minimum R (particle, axis) of the energy; NaN where the particles do not relax to one.

    `volume(more, given)` is that of the cell, `more` no strain at all.
    """
    stress = jax.grad(energy, argnums=1)(R, more, given) / volume(more, given)
    swelling = jax.grad(lambda more: jnp.log(volume(more, given)))(more)
    return curvature(energy, R, more, given) / volume(more, given) - stress[:, None] * swelling[None]


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def curvature(energy: Energy, R: Array, more: Array, given: Any) -> Array:
    """D, second derivatives of the relaxed energy with respect to strain (component, component)."""
    return _along(energy, displacements(energy, R, more, given), R, more, given)


@curvature.defjvp
def _(energy: Energy, primals: Any, tangents: Any) -> tuple[Array, Array]:
    # dD/dU = 0; what U itself does counts in second derivatives only, which come from differentiating this
    return jax.jvp(partial(_along, energy, displacements(energy, *primals)), primals, tangents)


def _along(energy: Energy, U: Array, R: Array, more: Array, given: Any) -> Array:
    """Second derivatives of the energy along the displacements and loads together."""

    def column(u: Array, load: Array) -> Array:
        slopes = jax.grad(energy, argnums=(0, 1))
        by_R, by_more = jax.jvp(lambda R, more: slopes(R, more, given), (R, more), (u, load))[1]
        return jnp.tensordot(U, by_R, axes=2) + by_more

    return jax.vmap(column, out_axes=1)(U, jnp.eye(more.size, dtype=more.dtype))


def displacements(energy: Energy, R: Array, more: Array, given: Any) -> Array:
    """U, the non-affine displacement field of each load (component, particle, axis)."""
    force = jax.grad(energy)

    def field(load: Array) -> Array:
        B = jax.jvp(lambda more: force(R, more, given), (more,), (load,))[1]
        return relaxed(lambda u: jax.jvp(lambda R: force(R, more, given), (R,), (u,))[1], -B)

    return jax.vmap(field)(jnp.eye(more.size, dtype=more.dtype))


def relaxed(product: Callable[[Array], Array], b: Array) -> Array:
    """`A^+ b` for a symmetric A by its product; NaN where the residual does not become small."""
    eps = float(jnp.finfo(b.dtype).eps)

    def solve(A: Callable[[Array], Array], b: Array) -> Array:
        u, _ = jax.scipy.sparse.linalg.cg(A, b, tol=ROUNDINGS * eps, maxiter=STEPS * b.size)
        good = jnp.linalg.norm(b - A(u)) <= FAILED * eps * jnp.linalg.norm(b)
        return jnp.where(good, u, jnp.nan)

    found: Any = jax.lax.custom_linear_solve(product, b, solve, symmetric=True)
    return found


def averages(C: Array, dim: int) -> tuple[Array, Array]:
    """Bulk and shear modulus of an isotropic material that is as stiff as C on average (Voigt).

    In two dimensions (C11 + C22 + C12 + C21) / 4 and (C11 + C22 - C12 - C21 + 4 C66) / 8, in three likewise.
    """
    along, normal, shear = jnp.trace(C[:dim, :dim]), jnp.sum(C[:dim, :dim]), jnp.trace(C[dim:, dim:])
    return normal / dim**2, (dim * along - normal + 2 * dim * shear) / (dim * (dim - 1) * (dim + 2))
