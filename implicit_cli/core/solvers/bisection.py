"""Bisection: a sign change of F, halved until it is a point."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from implicit_cli.core.implicit import Point
from implicit_cli.core.solvers.base import Goal


class Bracket(NamedTuple):
    """The limits (d,) and the sign of F at the lower one; `open` is False where F does not change its sign or nothing is left."""

    lower: jax.Array
    upper: jax.Array
    sign: jax.Array
    open: jax.Array


@dataclass(frozen=True)
class Bisection:
    """The root of F between `Goal.bounds`: one unknown, or many where F_i depends on x_i alone, each with a bracket of its own.

    F must change its sign between the limits, in every component. The error halves with each step, however F bends. Where F_i
    depends on other unknowns too, halving proves nothing, the residual stays large, and the solve ends as not converged.
    """

    goal: Goal
    name: str = "bisection"

    def init(self, p: Point) -> Bracket:
        assert self.goal.bounds is not None
        lower, upper = self.goal.bounds(p.theta, p.data)
        at_lower, at_upper = (jnp.sign(self.goal.F(x, p.theta, p.data)) for x in (lower, upper))
        # a limit that is the root itself becomes both limits
        lower, upper = jnp.where(at_upper == 0, upper, lower), jnp.where(at_lower == 0, lower, upper)
        return Bracket(lower, upper, at_lower, jnp.all(at_lower * at_upper <= 0))

    def step(self, p: Point, state: Bracket) -> tuple[jax.Array, Bracket]:
        x = state.lower + (state.upper - state.lower) / 2
        sign = jnp.sign(self.goal.F(x, p.theta, p.data))
        left = (sign == state.sign) & (sign != 0)
        lower = jnp.where(left | (sign == 0), x, state.lower)
        upper = jnp.where(left, state.upper, x)
        left_over = jnp.any((lower < upper) & ((lower != state.lower) | (upper != state.upper)))
        return jnp.where(state.open, x, p.x), Bracket(lower, upper, state.sign, state.open & left_over)

    def stop(self, state: Bracket) -> jax.Array:
        return ~state.open
