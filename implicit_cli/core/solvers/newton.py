"""Newton's method for F(x, theta) = 0 with a dense A, damped by backtracking on |F|."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from implicit_cli.core.implicit import Point
from implicit_cli.core.solvers.base import Goal

DECREASE = 1e-4
HALVINGS = 30
TRUSTED = 1e-6


@dataclass(frozen=True)
class Newton:
    """x + t s with A s = -F and t = 1, 1/2, 1/4 .. until |F| shrinks: quadratic near a root with regular A.

    Where LU cannot solve A s = -F, A being singular there, s is the least-squares step of smallest norm. It gives up where no
    t makes |F| smaller, as at a minimum of |F| that is no root.
    """

    goal: Goal
    name: str = "newton"

    def init(self, p: Point) -> jax.Array:
        return jnp.asarray(True)

    def step(self, p: Point, state: jax.Array) -> tuple[jax.Array, jax.Array]:
        def F(x: jax.Array) -> jax.Array:
            return self.goal.F(x, p.theta, p.data)

        here = F(p.x)
        return shorten(F, p.x, here, direction(jax.jacfwd(F)(p.x), here))

    def stop(self, state: jax.Array) -> jax.Array:
        return ~state


def direction(A: jax.Array, F: jax.Array) -> jax.Array:
    """s with A s = -F by LU; the least-squares solution of smallest norm where LU leaves a residual."""
    s = jnp.linalg.solve(A, -F)
    misfit = jnp.linalg.norm(A @ s + F)
    return jax.lax.cond(
        misfit <= TRUSTED * jnp.linalg.norm(F),  # False for NaN too
        lambda: s,
        lambda: jnp.linalg.lstsq(jnp.nan_to_num(A), -jnp.nan_to_num(F))[0],
    )


def shorten(F: Callable[[jax.Array], jax.Array], x: jax.Array, here: jax.Array, s: jax.Array) -> tuple[jax.Array, jax.Array]:
    """x + t s for the first t of 1, 1/2, 1/4 .. with |F(x + t s)| <= (1 - 1e-4 t) |F(x)|, and True; or x and False."""
    size = jnp.linalg.norm(here)

    def missed(carry: tuple[jax.Array, ...]) -> jax.Array:
        _, _, good, tries = carry
        return ~good & (tries < HALVINGS)

    def attempt(carry: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        _, t, _, tries = carry
        trial = x + t * s
        return trial, t / 2, jnp.linalg.norm(F(trial)) <= (1 - DECREASE * t) * size, tries + 1

    start: tuple[Any, ...] = (x, jnp.ones((), x.dtype), jnp.asarray(False), jnp.asarray(0))
    trial, _, good, _ = jax.lax.while_loop(missed, attempt, start)
    return jnp.where(good, trial, x), good
