"""Differences of solutions: solve again at lambda + h v and lambda - h v, for a ladder of steps h, and extrapolate to h = 0.

    first      (x(h) - x(-h)) / 2h                second      (x(h) - 2 x(0) + x(-h)) / h^2

Both are even in h, so Richardson's extrapolation (Ridders, Advances in Engineering Software 4, 75, 1982) removes h^2, h^4, ... from
the ladder, and neighbours in its table tell the error. Of all entries of the table the one with the smallest estimate is taken, for
each quantity and direction: small steps where a kink is near, large ones where rounding is. Solves start from the solution and are
polished. Differences lose their part along the null space, which makes them comparable with the minimum-norm J.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from implicit_cli.core.certificate import Certifier
from implicit_cli.core.implicit import Point
from implicit_cli.core.linear.base import project_out
from implicit_cli.core.solvers import Solution
from implicit_cli.engine.methods.base import Columns, FloatArray
from implicit_cli.engine.passes import Solves
from implicit_cli.engine.site import Site
from implicit_cli.engine.vectors import Layout
from implicit_cli.status import Status

LEVELS, FACTOR, LARGEST = 8, 3.0, 2e-2
"""Steps of the ladder, each smaller by the factor; the largest is relative to the parameter's size."""
FEWEST = 3
"""Steps whose solves must have succeeded."""
SAFETY = 2.0
"""Times the difference of neighbours in the table, which estimates the error and does not bound it."""
AMPLIFIED = 1.5
"""What the extrapolation makes of rounding errors, at most."""

Solve = Callable[[Point], Solution]


class Ladder(NamedTuple):
    """Changes of (x, y) at the steps h (l,) that could be solved, forward and backward (l, d + m); `noise` is their error.

    `slip` (l,) is how far x moved along the null space, which the changes have lost.
    """

    h: FloatArray
    plus: FloatArray
    minus: FloatArray
    noise: FloatArray
    slip: FloatArray


class FiniteDifference:
    """Central differences of re-solved problems."""

    name = "finite_difference"

    def __init__(self, site: Site, solve: Solve) -> None:
        self.site, self.solve = site, solve
        self.solves: dict[str, Solves] = {}
        self.note = ""
        self._ladders: dict[bytes, Ladder] = {}
        self._blocks = [*site.vectors.x.slices.values()]
        d = site.vectors.x.size
        self._blocks += [slice(d + s.start, d + s.stop) for s in site.vectors.y.slices.values()]
        self._failed = 0
        # where differences are taken from: nearer to the root than the site, or as near
        self.base = self._solved(site.p.theta)

    def columns(self, V: FloatArray) -> Columns:
        return self._extrapolated(V, lambda ladder, h: (ladder.plus - ladder.minus) / (2 * h), lambda h: 1 / h)

    def rows(self, W: FloatArray) -> FloatArray | None:
        return None

    def seconds(self, V: FloatArray) -> Columns:
        return self._extrapolated(V, lambda ladder, h: (ladder.plus + ladder.minus) / h**2, lambda h: 4 / h**2)

    def certify(self, V: FloatArray, found: Columns, certifier: Certifier) -> Columns:
        return found

    # Solving again

    def _solved(self, theta: FloatArray | jnp.ndarray) -> tuple[Point, Status]:
        p = self.site.p._replace(theta=jnp.asarray(theta))
        solution = self.solve(p)
        return p._replace(x=solution.x), solution.status

    def ladder(self, v: FloatArray) -> Ladder:
        """Solve at every step of a ladder along v (n,); kept, for a first and a second derivative share it."""
        key = v.tobytes()
        if key not in self._ladders:
            site, vectors = self.site, self.site.vectors
            theta = np.asarray(site.p.theta)
            largest = LARGEST / max(relative_size(vectors.theta, v, theta), 1e-300)
            rows: list[tuple[float, FloatArray, FloatArray, float]] = []
            defects = [self._defect(self.base[0])]
            for level in range(LEVELS if v.any() else 0):
                h = largest / FACTOR**level
                ends = [self._solved(theta + sign * h * v) for sign in (1.0, -1.0)]
                if any(status is not Status.OK for _, status in ends) or self.base[1] is not Status.OK:
                    self._failed += 1
                    continue
                defects += [self._defect(p) for p, _ in ends]
                plus, minus = (self._change(p) for p, _ in ends)
                slip = max(float(jnp.linalg.norm(site.A.spectrum.Z.T @ (p.x - self.base[0].x))) for p, _ in ends)
                rows.append((h, plus, minus, slip))
            if self._failed:
                self.note = f"{self._failed} steps of the ladders could not be solved and were left out"
            error = np.asarray(site.A.solve(jnp.stack(defects, axis=1)).value)
            noise = self._noise(2 * float(np.linalg.norm(error, axis=0).max()))
            width = vectors.x.size + vectors.y.size
            self._ladders[key] = Ladder(
                np.array([h for h, _, _, _ in rows]),
                np.array([plus for _, plus, _, _ in rows]).reshape(-1, width),
                np.array([minus for _, _, minus, _ in rows]).reshape(-1, width),
                noise,
                np.array([slip for _, _, _, slip in rows]),
            )
        return self._ladders[key]

    def _defect(self, p: Point) -> jnp.ndarray:
        return self.site.vectors.system.F(p.x, p.theta, p.data)

    def _change(self, p: Point) -> FloatArray:
        """(x, y) at p less those at the solution, the former without its part along the null space."""
        g, base = self.site.vectors.system.g, self.base[0]
        dx = project_out(self.site.A.spectrum.Z, (p.x - base.x)[:, None])[:, 0]
        return np.concatenate([np.asarray(dx), np.asarray(g(p.x, p.theta, p.data) - g(base.x, base.theta, base.data))])

    def _noise(self, left: float) -> FloatArray:
        """Error of a solution (d + m,) from rounding and from what is left of F: in each block, its norm spread evenly."""
        vectors, p = self.site.vectors, self.base[0]
        d, eps = vectors.x.size, float(jnp.finfo(p.x.dtype).eps)
        in_x = left + 2 * eps * float(jnp.linalg.norm(p.x))
        g_x, _ = vectors.system.g_cotangent(p, jnp.eye(vectors.y.size, dtype=p.x.dtype))
        y = np.asarray(vectors.system.g(p.x, p.theta, p.data))
        noise = np.zeros(d + vectors.y.size)
        for block in self._blocks:
            length = max(block.stop - block.start, 1)
            if block.start < d:
                noise[block] = in_x / length**0.5
            else:
                rows = slice(block.start - d, block.stop - d)
                size = float(jnp.linalg.norm(g_x[:, rows])) * in_x + 2 * eps * float(np.linalg.norm(y[rows]))
                noise[block] = size / length**0.5
        return noise

    # Extrapolation

    def _extrapolated(
        self, V: FloatArray, quotient: Callable[[Ladder, FloatArray], FloatArray], growth: Callable[[float], float]
    ) -> Columns:
        """`quotient` at every step, extrapolated; `growth(h)` is what it makes of errors of the solutions."""
        width, k = self.site.vectors.x.size + self.site.vectors.y.size, V.shape[1]
        value, truncation, rounding = (np.zeros((width, k)) for _ in range(3))
        status = np.zeros(k, np.int8)
        for column in range(k):
            if not V[:, column].any():
                continue
            ladder = self.ladder(np.ascontiguousarray(V[:, column]))
            if len(ladder.h) < FEWEST:
                status[column] = int(Status.NOT_CONVERGED)
                value[:, column] = truncation[:, column] = rounding[:, column] = np.nan
                continue
            table = richardson(ladder.h, quotient(ladder, ladder.h[:, None]))
            for block in self._blocks:
                scores = [
                    (float(np.linalg.norm(error[block])) + AMPLIFIED * growth(h) * float(np.linalg.norm(ladder.noise[block])), i)
                    for i, (_, error, h) in enumerate(table)
                ]
                best, error, h = table[min(scores)[1]]
                value[block, column], truncation[block, column] = best[block], SAFETY * error[block]
                rounding[block, column] = AMPLIFIED * growth(h) * ladder.noise[block]
        return Columns(value, truncation, np.zeros_like(value), rounding, status)


def sizes(layout: Layout, values: FloatArray) -> FloatArray:
    """How large each entry of named values (n,) counts as: its own size, at least a tenth of the largest of its name.

    Where all of a name are 0 they count as 1: names have units of their own, and say nothing about each other.
    """
    size, found = np.abs(values), np.ones(layout.size)
    for place in layout.slices.values():
        if (largest := size[place].max(initial=0.0)) > 1e-290:
            found[place] = np.maximum(size[place], 0.1 * largest)
    return found


def relative_size(layout: Layout, v: FloatArray, values: FloatArray) -> float:
    """Largest change of an entry of named values (n,) by v (n,), relative to how large it counts as."""
    return float(np.max(np.abs(v) / sizes(layout, values), initial=0.0))


def richardson(h: FloatArray, D: FloatArray) -> list[tuple[FloatArray, FloatArray, float]]:
    """Extrapolations to h = 0 of quotients D (l, r) that are even in h (l,): each with its error estimate and its smallest step.

    Neville's scheme in h^2. The error is the larger difference to the two entries that it was made of.
    """
    found: list[tuple[FloatArray, FloatArray, float]] = []
    before: list[FloatArray] = []
    for i in range(len(h)):
        row = [D[i]]
        for j in range(1, i + 1):
            ratio = (h[i - j] / h[i]) ** 2
            row.append(row[j - 1] + (row[j - 1] - before[j - 1]) / (ratio - 1))
            error = np.maximum(np.abs(row[j] - row[j - 1]), np.abs(row[j] - before[j - 1]))
            found.append((row[j], error, float(h[i])))
        before = row
    return found
