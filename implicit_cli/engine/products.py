"""The products asked for: all directions go through one forward and one adjoint solve, and come back as named arrays with bounds.

Components without a derivative are NaN in a Jacobian and in a JVP. A cotangent's weight on them is left out of a VJP, and the
product's status says so; an output that depends on them is NaN.
"""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from implicit_cli.core.certificate import Certifier, Parts
from implicit_cli.core.degeneracy import Degeneracy
from implicit_cli.core.implicit import Adjoint, Forward, Point, adjoint, forward
from implicit_cli.core.linear import LinearSolver, Solved
from implicit_cli.engine.bind import Direction
from implicit_cli.engine.plan import Plan
from implicit_cli.engine.vectors import Vectors
from implicit_cli.result import Bound, Product
from implicit_cli.status import Status

FloatArray = NDArray[np.float64]


class Products:
    """Differentiate, then certify; `results` are the records, `solves` the linear solves behind them."""

    def __init__(self, vectors: Vectors, plan: Plan, p: Point, A: LinearSolver, degeneracy: Degeneracy) -> None:
        self.vectors, self.plan, self.p, self.A, self.degeneracy = vectors, plan, p, A, degeneracy
        bound = vectors.bound
        self.jvps = [direction for direction in bound.directions if direction.kind == "jvp"]
        self.vjps = [direction for direction in bound.directions if direction.kind == "vjp"]
        self.free = np.broadcast_to(degeneracy.mask, (vectors.x.size,))
        self.free_outputs = self._outputs_that_see(self.free)
        self.results: tuple[Product, ...] = ()
        self.solves: dict[str, Solved] = {}
        self._forward: Forward | None = None
        self._adjoint: Adjoint | None = None

    def differentiate(self) -> None:
        """One stacked solve per direction: columns of the Jacobian (or its rows) first, then the named directions."""
        layout = self.vectors
        n, d, m = layout.theta.size, layout.x.size, layout.y.size
        if self.plan.forward_solves:
            jacobian = self.vectors.bound.jacobian and self.plan.mode == "forward"
            V = [np.eye(n)] if jacobian else []
            V += [np.asarray(layout.theta.join(direction.parts))[:, None] for direction in self.jvps]
            self._forward = forward(layout.system, self.p, self.A, jnp.asarray(np.concatenate(V, axis=1)))
            self.solves["forward"] = self._forward.solved
        if self.plan.adjoint_solves:
            W_x, W_y = [np.zeros((d, 0))], [np.zeros((m, 0))]
            if self.vectors.bound.jacobian and self.plan.mode == "adjoint":
                rows_x, rows_y = self._rows()
                W_x.append(rows_x)
                W_y.append(rows_y)
            for direction in self.vjps:
                W_x.append(np.where(self.free, 0.0, layout.x.join(direction.parts))[:, None])
                W_y.append(np.asarray(layout.y.join(direction.parts))[:, None])
            stacked = jnp.asarray(np.concatenate(W_x, axis=1)), jnp.asarray(np.concatenate(W_y, axis=1))
            self._adjoint = adjoint(layout.system, self.p, self.A, *stacked)
            self.solves["adjoint"] = self._adjoint.solved

    def certify(self, certifier: Certifier) -> None:
        """Bounds for everything that was differentiated, then the records."""
        results: list[Product] = []
        if self._forward is not None:
            in_x, in_y = certifier.forward(self._forward)
            slope = np.asarray(self.vectors.slope(self.p.theta))[:, None]
            R_B = np.linalg.norm(np.asarray(self._forward.solved.rhs), axis=0)
            theorem = certifier.theorem(R_B, np.linalg.norm(slope * np.asarray(self._forward.V), axis=0))
            results += self._from_forward(self._forward, in_x, in_y, theorem, certifier)
        if self._adjoint is not None:
            results += self._from_adjoint(self._adjoint, certifier.adjoint(self._adjoint), certifier)
        order = {name: i for i, name in enumerate(("jacobian", "jvp", "vjp"))}
        self.results = tuple(sorted(results, key=lambda product: order[product.kind]))

    # Forward

    def _from_forward(
        self, f: Forward, in_x: Parts, in_y: Parts, theorem: FloatArray | None, certifier: Certifier
    ) -> list[Product]:
        vectors, results = self.vectors, []
        status = np.asarray(f.solved.status)
        n = vectors.theta.size if vectors.bound.jacobian and self.plan.mode == "forward" else 0
        for of in vectors.bound.of:
            unknown = of in vectors.x.slices
            layout, parts, values = (vectors.x, in_x, np.asarray(f.U)) if unknown else (vectors.y, in_y, np.asarray(f.Y))
            rows, shape = layout.slices[of], layout.shapes[of]
            free = (self.free if unknown else self.free_outputs)[rows]
            block = np.where(free[:, None], np.nan, values[rows])
            truncation, linear, rounding = _column_bounds(parts, rows, free)
            kind = "estimate"
            if unknown and theorem is not None:
                truncation, kind = theorem, "bound"
            bounds = (truncation, linear, rounding)
            for wrt in vectors.theta.names if n else ():
                columns = vectors.theta.slices[wrt]
                results.append(
                    Product(
                        kind="jacobian",
                        name="",
                        of=of,
                        wrt=wrt,
                        value=block[:, columns].reshape(shape + vectors.theta.shapes[wrt]),
                        bound=_bound(tuple(part[columns].reshape(vectors.theta.shapes[wrt]) for part in bounds), kind, certifier),
                        status=self._status(status[columns], free),
                    )
                )
            for index, direction in enumerate(self.jvps, start=n):
                results.append(
                    Product(
                        kind="jvp",
                        name=direction.name,
                        of=of,
                        wrt="",
                        value=block[:, index].reshape(shape),
                        bound=_bound(tuple(part[index] for part in bounds), kind, certifier),
                        status=self._status(status[index : index + 1], free),
                        direction=dict(direction.parts),
                    )
                )
        return [self._voided(product) for product in results]

    # Adjoint

    def _rows(self) -> tuple[FloatArray, FloatArray]:
        """Unit cotangents for every component of what is asked for, unknowns and outputs in the order of `of`."""
        x, y = self.vectors.x, self.vectors.y
        eye_x, eye_y = np.eye(x.size), np.eye(y.size)
        rows_x = [
            eye_x[:, x.slices[of]] if of in x.slices else np.zeros((x.size, y.slices[of].stop - y.slices[of].start))
            for of in self.vectors.bound.of
        ]
        rows_y = [
            eye_y[:, y.slices[of]] if of in y.slices else np.zeros((y.size, x.slices[of].stop - x.slices[of].start))
            for of in self.vectors.bound.of
        ]
        return np.concatenate(rows_x, axis=1), np.concatenate(rows_y, axis=1)

    def _from_adjoint(self, a: Adjoint, parts: Parts, certifier: Certifier) -> list[Product]:
        vectors, results = self.vectors, []
        L, status, begin = np.asarray(a.L), np.asarray(a.solved.status), 0
        if vectors.bound.jacobian and self.plan.mode == "adjoint":
            for of in vectors.bound.of:
                unknown = of in vectors.x.slices
                layout = vectors.x if unknown else vectors.y
                shape, rows = layout.shapes[of], layout.slices[of]
                free = (self.free if unknown else self.free_outputs)[rows]
                taken = slice(begin, begin + rows.stop - rows.start)
                begin = taken.stop
                block = np.where(free, np.nan, L[:, taken])
                keep = ~free
                rounding = np.linalg.norm(parts.rounding[taken][keep])
                for wrt in vectors.theta.names:
                    columns, theta_shape = vectors.theta.slices[wrt], vectors.theta.shapes[wrt]
                    bounds = (
                        np.linalg.norm(parts.truncation[columns, taken][:, keep], axis=1).reshape(theta_shape),
                        np.linalg.norm(parts.linear[columns, taken][:, keep], axis=1).reshape(theta_shape),
                        np.full(theta_shape, rounding),
                    )
                    value = np.moveaxis(
                        block[columns].reshape(theta_shape + shape), range(len(theta_shape)), range(-len(theta_shape), 0)
                    )
                    results.append(
                        Product(
                            "jacobian",
                            "",
                            of,
                            wrt,
                            value,
                            _bound(bounds, "estimate", certifier),
                            self._status(status[taken][keep], free),
                        )
                    )
        for index, direction in enumerate(self.vjps, start=begin):
            seen = self._sees_free(direction)
            for wrt in vectors.theta.names:
                columns, theta_shape = vectors.theta.slices[wrt], vectors.theta.shapes[wrt]
                bounds = (
                    np.asarray(np.linalg.norm(parts.truncation[columns, index])),
                    np.asarray(np.linalg.norm(parts.linear[columns, index])),
                    np.asarray(parts.rounding[index]),
                )
                product = Product(
                    kind="vjp",
                    name=direction.name,
                    of="",
                    wrt=wrt,
                    value=L[columns, index].reshape(theta_shape),
                    bound=_bound(bounds, "estimate", certifier),
                    status=self._status(status[index : index + 1], np.asarray([seen is not None])),
                    direction=dict(direction.parts),
                )
                results.append(_nan(product, product.status) if seen == "output" else product)
        return [self._voided(product) for product in results]

    # Components without a derivative

    def _outputs_that_see(self, free: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Output components (m,) that change when undetermined components move: a random move finds them with probability one."""
        vectors = self.vectors
        m = vectors.y.size
        if not free.any() or m == 0:
            return np.zeros(m, dtype=bool)
        k = 2
        moves = jax.random.normal(jax.random.key(0), (vectors.x.size, k)) * jnp.asarray(free)[:, None]
        still = jnp.zeros((vectors.theta.size, k))
        seen = jnp.max(jnp.abs(vectors.system.g_tangent(self.p, moves, still)), axis=1)
        everything = jax.random.normal(jax.random.key(1), (vectors.x.size, k))
        scale = jnp.max(jnp.abs(vectors.system.g_tangent(self.p, everything, still)), axis=1)
        return np.asarray(seen > 1e-9 * jnp.maximum(scale, jnp.finfo(float).tiny))

    def _sees_free(self, direction: Direction) -> str | None:
        """Whether a cotangent weighs undetermined components, directly ("unknown") or through an output ("output")."""
        weights_y = np.asarray(self.vectors.y.join(direction.parts))
        if (weights_y[self.free_outputs] != 0).any():
            return "output"
        return "unknown" if (np.asarray(self.vectors.x.join(direction.parts))[self.free] != 0).any() else None

    def _status(self, solves: NDArray[np.int8], free: NDArray[np.bool_]) -> Status:
        if (solves != Status.OK).any():
            return Status.LINEAR_SOLVE_FAILED
        if not self.degeneracy.solvable:
            return Status.SINGULAR
        return Status.PARTIAL if free.any() else Status.OK

    def _voided(self, product: Product) -> Product:
        """Everything NaN where nothing has a derivative."""
        return _nan(product, Status.SINGULAR) if self.degeneracy.fatal else product


def _nan(product: Product, status: Status) -> Product:
    void = {name: np.full_like(getattr(product.bound, name), np.nan) for name in ("total", "truncation", "linear", "rounding")}
    return replace(product, value=np.full_like(product.value, np.nan), bound=Bound(**void, kind=product.bound.kind), status=status)


def _column_bounds(parts: Parts, rows: slice, free: NDArray[np.bool_]) -> tuple[FloatArray, FloatArray, FloatArray]:
    keep = ~free
    return (
        np.linalg.norm(parts.truncation[rows][keep], axis=0),
        np.linalg.norm(parts.linear[rows][keep], axis=0),
        np.asarray(parts.rounding),
    )


def _bound(parts: tuple[FloatArray, ...], kind: str, certifier: Certifier) -> Bound:
    """Sum of the parts; NaN where there is no certificate."""
    truncation, linear, rounding = (np.asarray(part, dtype=float) for part in parts)
    if not certifier.available:
        truncation = np.full_like(truncation, np.nan)
    return Bound(truncation + linear + rounding, truncation, linear, rounding, kind)
