"""Block coordinate descent: a proximal gradient step for one block of x after the other, each with its own step size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from implicit_cli.core.implicit import Point
from implicit_cli.core.solvers.backtracking import backtrack
from implicit_cli.core.solvers.base import Goal, Range


class BlockState(NamedTuple):
    """The last step size of each block (m,); `found` is False when no step size did for any block."""

    eta: jax.Array
    found: jax.Array


@dataclass(frozen=True)
class BlockCoordinateDescent:
    """Minimises f(x_1 .. x_m) + sum of r_j(x_j); one step is a sweep over all blocks, in order, each seeing those before it.

    Each block's step size comes from backtracking along that block: no Lipschitz constant is asked for, whatever the scale of f.

    Source: Beck and Tetruashvili, "On the convergence of block coordinate descent type methods", SIAM J. Optim. 23(4), 2013.
    """

    goal: Goal
    name: str = "block_coordinate_descent"

    def init(self, p: Point) -> BlockState:
        return BlockState(jnp.ones(len(self.goal.blocks), p.x.dtype), jnp.asarray(True))

    def step(self, p: Point, state: BlockState) -> tuple[jax.Array, BlockState]:
        etas, found = [], []
        for part, eta in zip(self.goal.blocks, state.eta, strict=True):
            x, eta, good = self._block(p, part, eta)
            p = p._replace(x=x)
            etas.append(eta)
            found.append(good)
        return p.x, BlockState(jnp.stack(etas), jnp.any(jnp.stack(found)))

    def _block(self, p: Point, part: Range, eta: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """x after a step of this block, the step size, and whether there was one."""
        f, prox = self.goal.f, self.goal.prox
        assert f is not None
        assert prox is not None
        where = slice(*part)

        def objective(block: jax.Array) -> tuple[jax.Array, jax.Array]:
            return jax.value_and_grad(lambda b: f(p.x.at[where].set(b), p.theta, p.data))(block)

        value, slope = objective(p.x[where])

        def move(eta: jax.Array) -> jax.Array:
            return prox(p.x.at[where].add(-eta * slope), eta, p.theta, p.data)[where]

        block, eta, good = backtrack(objective, move, p.x[where], value, slope, eta)
        return p.x.at[where].set(block), eta, good

    def stop(self, state: BlockState) -> jax.Array:
        return ~state.found
