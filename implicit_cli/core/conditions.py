"""The catalogue of optimality mappings: each function returns the F whose root is the solution, with what is known of it.

| name                      | unknowns           | F                                                                    |
|---------------------------|--------------------|----------------------------------------------------------------------|
| `stationary`              | x                  | grad_x f                                                             |
| `least_squares`           | x                  | grad_x of abs(r)^2 / 2                                               |
| `root`                    | x                  | F itself                                                             |
| `fixed_point`             | x                  | T(x) - x                                                             |
| `kkt`                     | x, nu, lam         | grad_x f + dh' nu + dg' lam;  h;  lam * g                            |
| `proximal_gradient`       | x                  | prox_{eta r}(x - eta grad f) - x                                     |
| `projected_gradient`      | x                  | proj_C(x - eta grad f) - x                                           |
| `mirror_descent`          | x                  | projKL_C(grad phi(x) - eta grad f) - x                               |
| `newton`                  | x                  | -(dG/dx)^-1 G                                                        |
| `block_proximal_gradient` | x = (x_1 .. x_m)   | prox_{eta_j r_j}(x_j - eta_j grad_j f) - x_j                         |
| `frank_wolfe`             | weights            | proj_simplex(w - eta grad_w f(V' w)) - w                             |
| `conic`                   | u, v, w            | ((Theta - I) Pi + I) z, in `implicit_cli.core.conic`                 |

The first are here; those that take a gradient step and then an operator are in `composite`. Functions of the user take
`(x, theta, *data)`, where x and theta are pytrees of arrays; F returns a pytree shaped like x. The step eta may be any positive
number, or a function of `(theta, *data)`: the solution and its derivatives do not depend on it.

Source: Blondel et al., "Efficient and Modular Implicit Differentiation", NeurIPS 2022, arXiv 2105.15183, table 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

Function = Callable[..., Any]
Step = float | Function


class Constraints(NamedTuple):
    """Equalities h = 0 and inequalities g <= 0 of a `kkt` condition, and the fields of x that hold their multipliers."""

    equality: Function | None
    inequality: Function | None
    nu: tuple[str, ...] = ("nu",)
    lam: tuple[str, ...] = ("lam",)


class Program(NamedTuple):
    """Data `(c, A, b) = data(theta, *data)` of min c'x, A x + s = b, s in a product of `cones`, each a name and a size."""

    data: Function
    cones: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Condition:
    """An optimality mapping with what is known of it.

    kind         name in the catalogue
    F            the mapping itself, `F(x*, theta, *data) = 0`

    Tags, for the linear solver:
    symmetric    A = dF/dx is symmetric
    definite     A is positive semi-definite at a solution, and definite but for its null space
    null_space   `(x, theta, *data)` to known null directions of A, by name: pytrees shaped like x
    pattern      `(x, theta, *data)` to rows and columns of the entries of A that may differ from zero: integer arrays, x flattened
    entries      `(x, theta, *data)` to the values of A at the pattern; left out, they are found by coloured products
    precondition `(r, x, theta, *data)` to M^-1 r, with M close to A and r a pytree like x; definite where A is

    For the certificate:
    margin       `(x, theta, *data)` to the distance to the nearest kink of F; None where F has none

    For one-sided derivatives:
    natural      the natural map, an F with the same solutions that keeps its first order at a kink where this one is degenerate

    For the forward solvers:
    objective    f where F is made of its gradient
    residuals    r where f = abs(r)^2 / 2
    mapping      T where F = T - x
    prox         `(v, eta, theta, *data)` to the proximal operator or projection of v
    mirror       `(x, g, theta, *data)` to the mirror step from x along -g
    blocks       x is a tuple or mapping of blocks, each with a step of its own
    bounds       `(x, theta, *data)` to lower and upper limits, x with its arrays replaced: a box, or the bracket of a root
    constraints  of a `kkt` condition
    program      of a `conic` condition
    """

    kind: str
    F: Function
    symmetric: bool = False
    definite: bool = False
    null_space: Function | None = None
    pattern: Function | None = None
    entries: Function | None = None
    precondition: Function | None = None
    margin: Function | None = None
    natural: Function | None = None
    objective: Function | None = None
    residuals: Function | None = None
    mapping: Function | None = None
    prox: Function | None = None
    mirror: Function | None = None
    blocks: bool = False
    bounds: Function | None = None
    constraints: Constraints | None = None
    program: Program | None = None

    def tagged(self, **tags: Any) -> Condition:
        """The same condition with more known of it: `stationary(f).tagged(pattern=..., null_space=...)`."""
        return replace(self, **tags)


def stationary(f: Function) -> Condition:
    """`F = grad_x f`: the solution is a stationary point of the scalar function `f(x, theta, *data)`.

    A is the Hessian of f: symmetric, and positive semi-definite at a minimum. A solution where it has a negative eigenvalue is
    reported as not being a minimum.
    """
    return Condition("stationary", F=jax.grad(f), symmetric=True, definite=True, objective=f)


def least_squares(r: Function) -> Condition:
    """`F = grad_x abs(r)^2 / 2` for residuals `r(x, theta, *data)`, any pytree: stationary, and open to Gauss-Newton methods."""

    def f(x: Any, theta: Any, *data: Any) -> jax.Array:
        return jnp.asarray(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(r(x, theta, *data)))) / 2

    return Condition("stationary", F=jax.grad(f), symmetric=True, definite=True, objective=f, residuals=r)


def root(
    F: Function,
    *,
    symmetric: bool = False,
    definite: bool = False,
    bounds: Function | None = None,
) -> Condition:
    """F itself: the solution is a root of `F(x, theta, *data)`.

    `symmetric` and `definite` declare dF/dx, `bounds` brackets a root for bisection: `(x, theta, *data)` to lower and upper
    limits, x with its arrays replaced.
    """
    return Condition("root", F=F, symmetric=symmetric or definite, definite=definite, bounds=bounds)


def fixed_point(T: Function, *, symmetric: bool = False) -> Condition:
    """`F = T - x`: the solution is a fixed point of `T(x, theta, *data)`; `symmetric` declares that dT/dx is."""
    return Condition("fixed_point", F=difference(T), symmetric=symmetric, mapping=T)


def kkt(
    f: Function,
    equality: Function | None = None,
    inequality: Function | None = None,
    *,
    nu: str | tuple[str, ...] = "nu",
    lam: str | tuple[str, ...] = "lam",
) -> Condition:
    """Karush-Kuhn-Tucker conditions of: minimise f subject to `h = 0` and `g <= 0`.

        grad_x f + dh' nu + dg' lam = 0        h = 0        lam * g = 0

    x is a named tuple: its fields `nu` and `lam` hold the multipliers of the equalities h and the inequalities g, shaped like them,
    and its other fields are the primal unknowns; f, h and g take `(x, theta, *data)` and use the primal fields only. Where `nu` or
    `lam` is a tuple of names, of fields that stand next to each other, h or g returns a tuple of as many parts. A is singular where
    constraints are redundant. The margin is the smallest over the inequalities of max(-g, lam): where it vanishes, a constraint is
    weakly active and the solution has a kink. There A has a row of zeros; the natural map, with min(lam, -g) in place of lam * g,
    tells the two branches apart.
    """
    of_h, of_g = ((names,) if isinstance(names, str) else names for names in (nu, lam))

    def multipliers(x: Any, names: tuple[str, ...]) -> Any:
        return tuple(getattr(x, name) for name in names)

    def lagrangian(x: Any, theta: Any, *data: Any) -> jax.Array:
        total = jnp.asarray(f(x, theta, *data))
        if equality is not None:
            total = total + _inner(multipliers(x, of_h), equality(x, theta, *data))
        if inequality is not None:
            total = total + _inner(multipliers(x, of_g), inequality(x, theta, *data))
        return total

    def of_each(join: Function, x: Any, slope: Any) -> Any:
        return slope._replace(**{name: jax.tree.map(join, getattr(x, name), getattr(slope, name)) for name in of_g})

    def F(x: Any, theta: Any, *data: Any) -> Any:
        slope = jax.grad(lagrangian)(x, theta, *data)  # along nu it is h, along lam it is g
        if inequality is None:
            return slope
        return of_each(jnp.multiply, x, slope)

    def natural(x: Any, theta: Any, *data: Any) -> Any:
        slope = jax.grad(lagrangian)(x, theta, *data)
        return of_each(lambda a, g: jnp.minimum(a, -g), x, slope)

    def margin(x: Any, theta: Any, *data: Any) -> jax.Array:
        assert inequality is not None
        slack = jnp.ravel(ravel_pytree(inequality(x, theta, *data))[0])
        multiplier = ravel_pytree(multipliers(x, of_g))[0]
        return jnp.min(jnp.maximum(-slack, multiplier), initial=jnp.inf)

    return Condition(
        "kkt",
        F=F,
        symmetric=inequality is None,
        margin=None if inequality is None else margin,
        natural=None if inequality is None else natural,
        objective=f,
        constraints=Constraints(equality, inequality, of_h, of_g),
    )


def newton(G: Function) -> Condition:
    """`F = -(dG/dx)^-1 G`: a root of `G(x, theta, *data)` as the fixed point of Newton's method. At the solution A = -I."""

    def T(x: Any, theta: Any, *data: Any) -> Any:
        flat, unravel = ravel_pytree(x)

        def residual(v: jax.Array) -> jax.Array:
            return ravel_pytree(G(unravel(v), theta, *data))[0]

        return unravel(flat - jnp.linalg.solve(jax.jacfwd(residual)(flat), residual(flat)))

    return Condition("newton", F=difference(T), mapping=T)


def difference(T: Function) -> Function:
    """`F = T - x`."""

    def F(x: Any, *args: Any, **kwargs: Any) -> Any:
        return jax.tree.map(jnp.subtract, T(x, *args, **kwargs), x)

    return F


def _inner(a: Any, b: Any) -> jax.Array:
    return jnp.vdot(ravel_pytree(a)[0], ravel_pytree(b)[0])
