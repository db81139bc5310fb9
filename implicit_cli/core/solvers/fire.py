"""FIRE, the fast inertial relaxation engine of jax-md, for energies of many particles (Bitzek et al., PRL 97, 170201, 2006)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from implicit_cli.core.implicit import Point
from implicit_cli.core.solvers.base import Goal


@contextmanager
def _numpy_promotion() -> Iterator[None]:
    """jax-md relies on NumPy's promotion of ranks and dtypes, whatever the caller has set."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


@dataclass(frozen=True)
class Fire:
    """Minimises f by damped dynamics of unit masses: time step `dt_start`, at most `dt_max`.

    jax-md adds 1e-6 inside its norms, so below forces of about 1e-8 it slows down: leave the last digits to the Newton polish.
    """

    goal: Goal
    dt_start: float = 0.1
    dt_max: float = 0.4
    name: str = "fire"

    def _functions(self, p: Point) -> tuple[Any, Any]:
        from jax_md import minimize

        def force(x: jax.Array, **_: Any) -> jax.Array:
            return -self.goal.F(x[:, 0], p.theta, p.data)[:, None]

        def shift(x: jax.Array, dx: jax.Array, **_: Any) -> jax.Array:
            return x + dx

        init, apply = minimize.fire_descent(force, shift, dt_start=self.dt_start, dt_max=self.dt_max)
        return init, apply

    def init(self, p: Point) -> Any:
        with _numpy_promotion():
            return jax.tree.map(jnp.asarray, self._functions(p)[0](p.x[:, None]))

    def step(self, p: Point, state: Any) -> tuple[jax.Array, Any]:
        with _numpy_promotion():
            state = self._functions(p)[1](state)
        return state.position[:, 0], state

    def F(self, state: Any) -> jax.Array:
        return -state.force[:, 0]

    def stop(self, state: Any) -> jax.Array:
        return jnp.asarray(False)
