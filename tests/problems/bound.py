"""A problem of particles bound to a spec and its arrays, with what tests ask of it: dense derivatives and minima."""

from __future__ import annotations

from typing import Any, NamedTuple

import h5py
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from scipy.sparse import coo_array

from implicit_cli import engine, plugins
from implicit_cli.core.implicit import Point
from implicit_cli.spec import load_spec


class Bound(NamedTuple):
    problem: Any
    x: Any
    theta: Any
    data: Any

    def at(self, position=None, **parameters):
        """The same at other positions and parameters, with a list of neighbours of its own."""
        x = self.x if position is None else self.x._replace(position=jnp.asarray(position))
        theta = self.theta._replace(**{name: jnp.asarray(value, float) for name, value in parameters.items()})
        data = self.data._replace(**jax.tree.map(jnp.asarray, self.problem.derive(x, theta, self.data)))
        return self._replace(x=x, theta=theta, data=data)

    @property
    def energy(self):
        return float(jax.jit(self.problem.objective)(self.x, self.theta, self.data))

    @property
    def sparse_hessian(self):
        """A from the problem's own entries, as a dense matrix."""
        rows, cols = self.problem.pattern(self.x, self.theta, self.data)
        values = np.asarray(self.problem.entries(self.x, self.theta, self.data))
        d = sum(np.size(part) for part in self.x)
        return coo_array((values, (rows, cols)), shape=(d, d)).toarray()

    @property
    def hessian(self):
        """A by JAX, from the objective."""
        flat, unravel = ravel_pytree(self.x)
        return np.asarray(
            jax.jit(jax.hessian(lambda v, t, d: self.problem.objective(unravel(v), t, d)))(flat, self.theta, self.data)
        )


def bind(folder, text, **arrays):
    """A `Bound` from a spec's text; `arrays` are datasets of `data.h5`."""
    with h5py.File(folder / "data.h5", "w") as file:
        for name, value in arrays.items():
            file[name] = value
    path = folder / "spec.yaml"
    path.write_text(text)
    loaded = load_spec(path)
    vectors = engine.Vectors(engine.bind(loaded, plugins.load(loaded.model.problem, base=folder, allow_plugin=False, plugins=())))
    p = Point(vectors.initial(0), vectors.start, vectors.data)
    return Bound(vectors.bound.problem, *vectors.at(vectors.refreshed(p)))


class Solver:
    """Compiled energy, gradient and dF/dtheta of one problem; minima by Newton steps with its own entries."""

    def __init__(self, bound: Bound) -> None:
        objective = bound.problem.objective

        def F(x, theta, data):
            return ravel_pytree(jax.grad(objective)(x, theta, data))[0]

        self.value, self.F, self.B = jax.jit(objective), jax.jit(F), jax.jit(jax.jacfwd(F, argnums=1))

    def energy(self, bound: Bound) -> float:
        return float(self.value(bound.x, bound.theta, bound.data))

    def minimise(self, bound: Bound, steps: int = 30) -> Bound:
        """The minimum nearest to where `bound` is; translations stay."""
        flat, unravel = ravel_pytree(bound.x)
        for _ in range(steps):
            force = np.asarray(self.F(bound.x, bound.theta, bound.data))
            if np.abs(force).max() < 1e-13 * max(1.0, np.abs(bound.sparse_hessian).max()):
                return bound
            step = -inverse(bound.sparse_hessian) @ force
            step *= min(1.0, 0.1 / np.abs(step).max())
            flat = flat + step
            bound = bound._replace(x=unravel(flat)).at()
        return bound

    def sensitivity(self, bound: Bound) -> Any:
        """dx/dtheta at a minimum, as theta of arrays (d, *shape of the parameter)."""
        A = inverse(bound.sparse_hessian)
        return jax.tree.map(lambda part: -np.tensordot(A, np.asarray(part), 1), self.B(bound.x, bound.theta, bound.data))

    def differences(self, bound: Bound, name: str, index: tuple[int, ...], h: float) -> np.ndarray:
        """The same for one entry of a parameter, from minima at both sides."""
        value = np.asarray(getattr(bound.theta, name))
        sides = []
        for sign in (1, -1):
            moved = value.copy()
            moved[index] += sign * h
            sides.append(np.asarray(ravel_pytree(self.minimise(bound.at(**{name: moved})).x)[0]))
        return (sides[0] - sides[1]) / (2 * h)


def inverse(A):
    return np.linalg.pinv(A, rcond=1e-10, hermitian=True)
