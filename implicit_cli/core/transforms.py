"""Pre-processing maps `theta = p(lambda)`: derivatives are then taken with respect to lambda, by the chain rule.

Each is a bijection from the real line onto its range, so that lambda is found from the theta that the user gives.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp


class Transform(NamedTuple):
    """`to_theta` is p, `to_lambda` its inverse, `domain` the open interval of theta; `label` shows the variable that is varied."""

    to_theta: Callable[[jax.Array], jax.Array]
    to_lambda: Callable[[jax.Array], jax.Array]
    domain: tuple[float, float]
    label: str


TRANSFORMS = {
    "identity": Transform(lambda t: t, lambda t: t, (-jnp.inf, jnp.inf), "{}"),
    "log": Transform(jnp.exp, jnp.log, (0.0, jnp.inf), "log({})"),
    "log10": Transform(lambda t: jnp.power(10.0, t), jnp.log10, (0.0, jnp.inf), "log10({})"),
    "logit": Transform(jax.nn.sigmoid, lambda t: jnp.log(t) - jnp.log1p(-t), (0.0, 1.0), "logit({})"),
    "softplus": Transform(jax.nn.softplus, lambda t: t + jnp.log(-jnp.expm1(-t)), (0.0, jnp.inf), "softplus^-1({})"),
}
