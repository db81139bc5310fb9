"""Conic programs: the homogeneous self-dual residual as an optimality mapping, and the solution read off its root.

    minimise  c'x    subject to    A x + s = b,    s in K          K a product of cones, in order, A (m, n)

| cone           | rows                | K                                                               |
|----------------|---------------------|-----------------------------------------------------------------|
| `zero`         | size                | {0}: equalities                                                 |
| `nonnegative`  | size                | s >= 0: inequalities A x <= b                                   |
| `second_order` | size                | (t, r) with abs(r) <= t                                         |
| `psd`          | size (size + 1) / 2 | `projections.svec(S)`, S (size, size) positive semi-definite    |
| `exponential`  | size = 3 k          | k triples (r, s, t) with s exp(r / s) <= t, s > 0, and limits   |

`svec` stacks the columns of the upper triangle, S_11, S_12, S_22, S_13, .., entries off the diagonal times sqrt 2, so that inner
products stay. Rows are in Clarabel's order throughout.

Source: Agrawal, Barratt, Boyd, Busseti and Moursi, "Differentiating through a cone program", J. Appl. Numer. Optim. 1 (2019)
107-115, arXiv 1904.09043; Busseti, Moursi and Boyd, "Solution refinement at regular points of conic problems", 2019.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from implicit_cli.core.conditions import Condition, Function, Program
from implicit_cli.core.projections import exponential_dual_cone, nonnegative, psd_cone_svec, second_order_cone

Cones = Sequence[tuple[str, int]]


def conic(program: Function, cones: Cones) -> Condition:
    """`F = ((Theta - I) Pi + I) z`, z = (u, v, w): a root with w > 0 is a solution of the conic program and of its dual.

        Theta = [[0, A', c], [-A, 0, b], [-c', -b', 0]]        Pi = projection on R^n x K* x R_+

    so that with y = Pi v and s = y - v

        F_u = A'y + c w        F_v = b w - A u - s        F_w = -c'u - b'y        (where w > 0)

    x is a named tuple with the fields `u` (n,), `v` (m,) and `w` (), in this order; `program(theta, *data)` returns c (n,),
    A (m, n) and b (m,); `cones` are names and sizes, see the module. The solution is `primal(x)`, `dual(x, cones)` and
    `slack(x, cones)`.

    F is homogeneous: with z, every positive multiple of it is a root. A z = 0, B is in the range of A, and the derivatives of
    primal, dual and slack do not depend on the scale; the gauge is called "scale". The margin is the distance in v to the nearest
    kink of Pi, or w if that is less: where it vanishes, strict complementarity fails.

    Raises ValueError for a cone that does not exist or a size that it cannot have.
    """
    named = tuple((str(name), int(size)) for name, size in cones)
    m = sum(rows(name, size) for name, size in named)

    def F(x: Any, theta: Any, *data: Any) -> Any:
        c, A, b = program(theta, *data)
        if A.shape != (m, *x.u.shape) or x.v.shape != (m,):
            raise ValueError(f"conic: A has shape {A.shape} and v {x.v.shape}; the cones have {m} rows, and u is {x.u.shape}")
        y = project_dual(x.v, named)
        w = jnp.maximum(x.w, 0.0)
        return x._replace(u=A.T @ y + w * c, v=w * b - A @ x.u - (y - x.v), w=x.w - w - jnp.vdot(c, x.u) - jnp.vdot(b, y))

    def margin(x: Any, theta: Any, *data: Any) -> jax.Array:
        return jnp.minimum(kink(x.v, named), jnp.abs(x.w))

    def null_space(x: Any, theta: Any, *data: Any) -> dict[str, Any]:
        return {"scale": x}

    return Condition("conic", F=F, null_space=null_space, margin=margin, program=Program(program, named))


def primal(x: Any) -> jax.Array:
    """The primal solution `u / w` (n,)."""
    return x.u / x.w


def dual(x: Any, cones: Cones) -> jax.Array:
    """The multipliers `Pi v / w` (m,) in K*: stationarity reads `A'y + c = 0`."""
    return project_dual(x.v, cones) / x.w


def slack(x: Any, cones: Cones) -> jax.Array:
    """`s = (Pi v - v) / w = b - A x` (m,) in K."""
    return (project_dual(x.v, cones) - x.v) / x.w


def rows(name: str, size: int) -> int:
    """Rows of s that a cone takes; ValueError for a cone that does not exist or a size that it cannot have."""
    if name not in _DUALS:
        raise ValueError(f"found cone '{name}', allowed: " + ", ".join(f"'{cone}'" for cone in _DUALS))
    if size < 1 or (name == "exponential" and size % 3):
        raise ValueError(f"cone '{name}' has size {size}: " + ("a multiple of 3 is needed" if size > 0 else "at least 1 is needed"))
    return size * (size + 1) // 2 if name == "psd" else size


def project_dual(v: jax.Array, cones: Cones) -> jax.Array:
    """Projection of v (m,) on K*, the product of the dual cones; that of `zero` is free, `exponential` has one of its own."""
    parts = [_DUALS[name][0](part) for name, part in _parts(v, cones)]
    return jnp.concatenate(parts) if parts else v


def kink(v: jax.Array, cones: Cones) -> jax.Array:
    """Distance (2-norm, scalar) from v (m,) to the nearest kink of `project_dual`."""
    return jnp.min(jnp.stack([jnp.asarray(jnp.inf, v.dtype), *(_DUALS[name][1](part) for name, part in _parts(v, cones))]))


def _parts(v: jax.Array, cones: Cones) -> list[tuple[str, jax.Array]]:
    ends = np.cumsum([0, *(rows(name, size) for name, size in cones)])
    return [(name, v[first:last]) for (name, _), first, last in zip(cones, ends[:-1], ends[1:], strict=True)]


def _free(v: jax.Array) -> jax.Array:
    return v


def _smooth(v: jax.Array) -> jax.Array:
    return jnp.asarray(jnp.inf, v.dtype)


def _triples(v: jax.Array) -> jax.Array:
    return jax.vmap(exponential_dual_cone)(v.reshape(-1, 3)).ravel()


def _nearest_of_triples(v: jax.Array) -> jax.Array:
    return jnp.min(jax.vmap(exponential_dual_cone.margin)(v.reshape(-1, 3)))


# by cone: projection on the dual cone, and distance to its nearest kink
_DUALS: dict[str, tuple[Callable[[jax.Array], jax.Array], Callable[[jax.Array], jax.Array]]] = {
    "zero": (_free, _smooth),
    "nonnegative": (nonnegative, nonnegative.margin),
    "second_order": (second_order_cone, second_order_cone.margin),
    "psd": (psd_cone_svec, psd_cone_svec.margin),
    "exponential": (_triples, _nearest_of_triples),
}
