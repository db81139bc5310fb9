"""How an interaction ends at its cutoff."""

from __future__ import annotations

import jax
import jax.numpy as jnp

Array = jax.Array


def switch(r: Array, onset: float, cutoff: float) -> Array:
    """1 up to `onset`, 0 from `cutoff` on, and between 1 - 10 t^3 + 15 t^4 - 6 t^5, t from 0 to 1.

    It has two continuous derivatives, so that a force that is multiplied by it has no kink.
    """
    t = jnp.clip((r - onset) / (cutoff - onset), 0.0, 1.0)
    return 1.0 - t**3 * (10.0 - 15.0 * t + 6.0 * t**2)
