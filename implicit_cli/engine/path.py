"""From one case to the next: the order of neighbours, where a solve begins, and whether its solution is in another basin."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from implicit_cli.core.implicit import Point, forward
from implicit_cli.core.solvers import compiled_residual
from implicit_cli.core.solvers.base import Goal, residual
from implicit_cli.engine.linearise import linearise
from implicit_cli.engine.plan import Plan
from implicit_cli.engine.threads import one_thread
from implicit_cli.engine.vectors import Vectors
from implicit_cli.status import Status

FloatArray = NDArray[np.float64]
SHORTEST = 8
"""Cases of a chain, at least: its first one has no neighbour to begin at."""
JUMP, SAME = 1.0, 1e-6
"""A solution is looked at where it is farther from its prediction than so many times the predicted step, and so much of itself."""


class Link(NamedTuple):
    """The last case of a chain: its problem, its solution, what that predicts for the next case, and its basin."""

    vectors: Vectors
    x: FloatArray
    ahead: FloatArray
    basin: str

    @property
    def nearby(self) -> FloatArray:
        """Starts for the next case (2, d)."""
        return np.stack([self.x, self.ahead])


def chains(points: FloatArray, most: int) -> list[list[int]]:
    """Paths through points (k, entries), each from neighbour to neighbour, about as long as each other; `most` of them at most.

    One path goes from each point to the nearest that is left, in units of the entries' standard deviations, and is cut.
    """
    spread = points.std(axis=0)
    scaled = (points / np.where(spread > 0, spread, 1.0))[:, spread > 0]
    left, path = np.ones(len(points), bool), [0]
    left[0] = False
    for _ in range(len(points) - 1):
        distance = np.where(left, ((scaled - scaled[path[-1]]) ** 2).sum(axis=1), np.inf)
        path.append(int(distance.argmin()))
        left[path[-1]] = False
    count = max(1, min(most, len(path) // SHORTEST))
    return [path[begin:end] for begin, end in pairwise(len(path) * part // count for part in range(count + 1))]


def best_start(goal: Goal, p: Point, nearby: jax.Array) -> tuple[Point, jax.Array]:
    """p.x or one of `nearby` (2, d), whichever has the least residual, and which it is (`records.STARTS`)."""
    starts = jnp.concatenate([p.x[None], nearby])
    sizes = jnp.stack([residual(goal, p._replace(x=x)) for x in starts])
    begun = jnp.argmin(jnp.where(jnp.isnan(sizes), jnp.inf, sizes))
    return p._replace(x=starts[begun]), begun


def start_of(vectors: Vectors, seed: int, nearby: FloatArray) -> tuple[FloatArray, int]:
    """`best_start` on the host, where what the problem derives from x is found anew for each."""
    starts = [np.asarray(vectors.initial(seed)), *nearby]
    sizes = [np.inf] * len(starts)
    for number, x in enumerate(starts):
        if np.isfinite(x).all():
            p = vectors.refreshed(Point(jnp.asarray(x), vectors.start, vectors.data))
            sizes[number] = float(compiled_residual(vectors.goal)(p))
    begun = int(np.argmin(np.where(np.isnan(sizes), np.inf, sizes)))
    return starts[begun], begun


def prediction(vectors: Vectors, plan: Plan, x: FloatArray, onward: FloatArray | None) -> FloatArray:
    """x + J dlambda, x itself where nothing follows; NaN where A does not give it, and where x should be a minimum and is none."""
    p = vectors.refreshed(Point(jnp.asarray(x), vectors.start, vectors.data))
    with one_thread(x.size):
        A = linearise(vectors, plan, p)
        f = forward(vectors.system.bare, p, A, jnp.asarray(np.zeros(p.theta.size) if onward is None else onward)[:, None])
        minimum = vectors.condition.kind != "stationary" or A.method.endswith("cholesky") or A.spectrum.negative == 0
    good = minimum and np.all(np.asarray(f.solved.status) == Status.OK)
    return np.asarray(p.x + f.U[:, 0]) if good else np.full(x.shape, np.nan)


def suspect(before: Link, x: FloatArray) -> bool:
    """Whether a solution is so far from what the last one predicted that it may belong to another basin."""
    step, missed = np.linalg.norm(before.ahead - before.x), np.linalg.norm(x - before.ahead)
    return bool(missed > max(JUMP * step, SAME * np.linalg.norm(x)) and step > 0)
