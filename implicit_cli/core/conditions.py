"""The catalogue of optimality mappings: each function returns the F whose root is the solution (docs/theory.md).

F takes `(x, theta, *data)`, where x and theta are pytrees of arrays, and returns a pytree shaped like x.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

Function = Callable[..., Any]


@dataclass(frozen=True)
class Condition:
    """An optimality mapping with what is known of it.

    kind       name in the catalogue
    F          the mapping itself, `F(x*, theta, *data) = 0`
    symmetric  A = dF/dx is symmetric
    objective  f where F = grad f, for solvers that minimise
    mapping    T where F = T - x, for solvers that iterate
    """

    kind: str
    F: Function
    symmetric: bool = False
    objective: Function | None = None
    mapping: Function | None = None


def stationary(f: Function) -> Condition:
    """`F = grad_x f`: the solution is a stationary point of the scalar function `f(x, theta, *data)`.

    A is the Hessian of f and symmetric. A solution where A has a negative eigenvalue is reported as not being a minimum.
    """
    return Condition("stationary", F=jax.grad(f), symmetric=True, objective=f)


def root(F: Function, *, symmetric: bool = False) -> Condition:
    """F itself: the solution is a root of `F(x, theta, *data)`; `symmetric` declares that dF/dx is."""
    return Condition("root", F=F, symmetric=symmetric)


def fixed_point(T: Function) -> Condition:
    """`F = T - x`: the solution is a fixed point of `T(x, theta, *data)`."""

    def F(x: Any, theta: Any, *data: Any) -> Any:
        return jax.tree.map(jnp.subtract, T(x, theta, *data), x)

    return Condition("fixed_point", F=F, mapping=T)
