"""What a projection or proximal operator is here: a function of a point that also knows how far the nearest kink is.

Every operator is called as `name(v, *parameters)`, v the point and the parameters whatever the set or the penalty depends on. All
are arrays of v's dtype (scalars and integers are converted), all may be differentiated, forward and reverse, any number of times,
under `jit` and `vmap`. Operators are piecewise smooth. On a piece the derivative is exact; at a kink it is that of one adjacent
piece, named in the docstring, never NaN. Where the set is empty or the parameters make no sense, value and derivative are NaN.

Each is solved without derivatives first, which finds the piece (the active set, the pooled blocks, the sorted order). The value is
then a closed formula on that piece, and JAX differentiates the formula.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

Array = jax.Array
Function = Callable[..., Array]


@dataclass(frozen=True)
class Operator:
    """`operator(v, *parameters)` with `operator.margin(v, *parameters)`; keeps the function's name, docstring and signature."""

    function: Function
    distance: Function

    def __post_init__(self) -> None:
        copied = {name: getattr(self.function, name) for name in ("__name__", "__qualname__", "__module__", "__doc__")}
        vars(self).update(copied, __wrapped__=self.function)

    def __call__(self, v: Any, *parameters: Any, **named: Any) -> Array:
        """The operator at v, of v's shape."""
        return _called(self.function, v, parameters, named)

    def margin(self, v: Any, *parameters: Any, **named: Any) -> Array:
        """Distance (2-norm, scalar) from v to the nearest kink, `inf` where the operator is smooth: closer than that, the
        derivative is that of the same smooth piece. The parameters stay. Exact unless the operator's docstring calls it a lower
        bound. It is a diagnosis: its own derivative is zero by definition.
        """
        v, parameters, named = jax.lax.stop_gradient((v, parameters, named))
        return jax.lax.stop_gradient(_called(self.distance, v, parameters, named))


def with_margin(distance: Function) -> Callable[[Function], Operator]:
    """Decorator: `distance(v, *parameters)` is the margin of the decorated operator."""
    return lambda function: Operator(function, distance)


def smooth(v: Array, *_: Array, **__: Array) -> Array:
    """The margin of an operator without kinks."""
    return jnp.asarray(jnp.inf, v.dtype)


def _called(function: Function, v: Any, parameters: tuple[Any, ...], named: dict[str, Any]) -> Array:
    v = jnp.asarray(v)
    if not jnp.issubdtype(v.dtype, jnp.floating):
        v = v.astype(jnp.result_type(float))
    return function(
        v, *(jnp.asarray(p).astype(v.dtype) for p in parameters), **{k: jnp.asarray(p).astype(v.dtype) for k, p in named.items()}
    )


# Pieces that several operators share.


def nan_unless(sound: Array, x: Array) -> Array:
    """x where `sound`, NaN elsewhere, derivative included: an empty set has no point to return."""
    return x * jnp.where(sound, 1.0, jnp.nan).astype(x.dtype)


def like(v: Array, parameter: Array | float) -> Array:
    """A scalar or an array of v's shape, spread to v's shape."""
    return jnp.broadcast_to(jnp.asarray(parameter, v.dtype), v.shape)


def norm(v: Array) -> Array:
    """2-norm over all entries; its derivative at 0 is 0, and neither large nor tiny entries over- or underflow."""
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(v), initial=0.0))
    scale = jnp.where(largest > 0, largest, 1.0)
    squares = jnp.sum((v / scale) ** 2)
    positive = squares > 0
    return jnp.where(positive, scale * jnp.sqrt(jnp.where(positive, squares, 1.0)), 0.0)


def over(numerator: Array, denominator: Array) -> Array:
    """|numerator| / denominator, the distance to a hyperplane; `inf` where the denominator vanishes and the plane is never met."""
    met = denominator > 1e-9
    return jnp.where(met, jnp.abs(numerator) / jnp.where(met, denominator, 1.0), jnp.inf)


def nearest(*distances: Array) -> Array:
    """The smallest of all entries of all arguments, `inf` where there is none."""
    return jnp.stack([jnp.min(d, initial=jnp.inf) for d in distances]).min()
