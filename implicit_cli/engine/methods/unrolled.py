"""Differentiation through the solver's own steps: the derivative of the iterate that it returned, not of the solution.

The steps are run again from the same start, as many as the solve took, and differentiated forward (tangents beside the iterates) or
backward (`lax.scan` with checkpoints). The start is a constant. There is no error estimate: how far the derivative of an iterate is
from that of the solution is what this method does not know.
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from implicit_cli.core.certificate import Certifier
from implicit_cli.core.implicit import Point
from implicit_cli.core.solvers import METHODS
from implicit_cli.core.solvers.base import stepped, strong
from implicit_cli.engine.methods.base import Columns, FloatArray, unknown_error
from implicit_cli.engine.passes import Solves
from implicit_cli.engine.site import Site
from implicit_cli.status import Status

WIDTH = 64
"""Tangents that are carried along at once."""
TAPE = 2**30
"""Bytes of iterates and states that the backward pass may keep; beyond it, all columns are taken forward."""
DRIFT = 1e-6
"""Relative difference to the stored solution above which the repeated steps did not repeat it."""


class Unrolled:
    """The solver's map from theta to its last iterate, differentiated."""

    name = "unrolled"

    def __init__(self, site: Site, start: Point, steps: int) -> None:
        self.site, self.start, self.steps = site, start, steps
        self.solves: dict[str, Solves] = {}
        self.note = (
            f"unrolled through {steps} steps of {site.plan.solver}, without polish: these derivatives carry no error estimate "
            "(every bound is NaN); compare them with sensitivity.method: implicit"
        )
        self._method: Any = METHODS[site.plan.solver](site.vectors.goal)

    def columns(self, V: FloatArray) -> Columns:
        if self.steps == 0:
            self.note = "the solver took no step: there is nothing to unroll; start elsewhere, or use sensitivity.method: implicit"
        g = self.site.vectors.system.g

        @eqx.filter_jit
        def along(p: Point, steps: jax.Array, V: jax.Array) -> tuple[jax.Array, jax.Array]:
            def whole(theta: jax.Array) -> jax.Array:
                x = self._iterate(p._replace(theta=theta), steps)
                return jnp.concatenate([x, g(x, theta, p.data)])

            value, tangents = jax.vmap(lambda v: jax.jvp(whole, (p.theta,), (v,)), in_axes=1, out_axes=(None, 1))(V)
            return value, tangents

        parts, x = [], np.asarray(self.site.p.x)
        for begin in range(0, V.shape[1], WIDTH):
            value, part = along(self.start, jnp.asarray(self.steps), jnp.asarray(V[:, begin : begin + WIDTH]))
            parts.append(np.asarray(part))
            drift = float(np.linalg.norm(np.asarray(value)[: x.size] - x)) / max(float(np.linalg.norm(x)), 1e-300)
            if drift > DRIFT and "differs" not in self.note:
                self.note += f"; the iterate that was differentiated differs from the stored one by {drift:.1e} relative"
        found = np.concatenate(parts, axis=1) if parts else np.zeros((x.size + self.site.vectors.y.size, 0))
        status = np.full(V.shape[1], int(Status.NOT_CONVERGED if self.steps == 0 else Status.OK), np.int8)
        return unknown_error(found, status)

    def rows(self, W: FloatArray) -> FloatArray | None:
        g = self.site.vectors.system.g

        def whole(theta: jax.Array, p: Point) -> jax.Array:
            x = self._scan(p._replace(theta=theta))
            return jnp.concatenate([x, g(x, theta, p.data)])

        def pullback(p: Point, W: jax.Array) -> jax.Array:
            _, back = jax.vjp(lambda theta: whole(theta, p), p.theta)
            return jax.vmap(lambda w: back(w)[0], in_axes=1, out_axes=1)(W)

        state = jax.eval_shape(lambda p: eqx.filter(self._method.init(p), eqx.is_array), self.start)
        size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves((state, self.start.x)))
        if self.steps == 0 or size * self.steps > TAPE:
            return None
        try:
            jax.eval_shape(pullback, self.start, jnp.asarray(W))
        except (ValueError, TypeError, NotImplementedError):
            return None  # a loop inside the solver's step has no reverse mode: the same numbers come from all columns
        return np.asarray(jax.jit(pullback)(self.start, jnp.asarray(W)))

    def seconds(self, V: FloatArray) -> Columns:
        raise NotImplementedError("refused at planning time")

    def certify(self, V: FloatArray, found: Columns, certifier: Certifier) -> Columns:
        return found

    # The solver's steps

    def _parts(self, p: Point) -> tuple[Any, Any]:
        """State before the first step: arrays of fixed types, and the rest."""
        arrays, fixed = eqx.partition(self._method.init(p), eqx.is_array)
        return strong(arrays), fixed

    def _step(self, p: Point, carry: tuple[jax.Array, Any], fixed: Any) -> tuple[jax.Array, Any]:
        return stepped(self._method, p._replace(x=carry[0]), carry[1], fixed)[:2]

    def _iterate(self, p: Point, steps: jax.Array) -> jax.Array:
        arrays, fixed = self._parts(p)
        x, _ = jax.lax.fori_loop(0, steps, lambda _, carry: self._step(p, carry, fixed), (p.x, arrays))
        return x

    def _scan(self, p: Point) -> jax.Array:
        arrays, fixed = self._parts(p)

        @jax.checkpoint
        def body(carry: tuple[jax.Array, Any], _: None) -> tuple[tuple[jax.Array, Any], None]:
            return self._step(p, carry, fixed), None

        (x, _), _ = jax.lax.scan(body, (p.x, arrays), length=self.steps)
        return x
