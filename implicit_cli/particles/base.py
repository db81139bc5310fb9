"""What all problems of particles share: cell and strain, lists of neighbours that are kept fresh, gauges, energy and stress.

    x* = argmin_R  E(R, eps) + p V(eps)        R positions in the undeformed cell, eps the strain, V the volume

Vectors between particles are D = (I + eps) (R_j - R_i + S H): positions are those of the undeformed cell, whose vectors are the
rows of H, and a particle at R is seen at (I + eps) R. So the derivative of `position` with respect to strain is the non-affine
displacement field, and where the cell relaxes too, derivatives come in two parts: `deformation` is the homogeneous one, `position`
the inhomogeneous one.

Strain and stress have the components of Voigt: xx, yy, xy in two dimensions and xx, yy, zz, yz, xz, xy in three, with engineering
shear (twice the entry of the tensor) for strain.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from itertools import combinations
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from implicit_cli.core import Condition, stationary
from implicit_cli.errors import InputError
from implicit_cli.problem import Derived, Option, Problem, Unknown

Array = jax.Array
FloatArray = NDArray[np.float64]

VOIGT = {2: ((0, 0), (1, 1), (0, 1)), 3: ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))}
COMPONENTS = {2: ("xx", "yy", "xy"), 3: ("xx", "yy", "zz", "yz", "xz", "xy")}
SPENT = 0.75
"""Part of the skin after which a list is made anew: one more step must still be safe."""


def tensor(components: Array, dim: int) -> Array:
    """The symmetric matrix (axis, axis) of strain in Voigt's components."""
    matrix = jnp.zeros((dim, dim), components.dtype)
    for k, (a, b) in enumerate(VOIGT[dim]):
        value = components[k] if a == b else components[k] / 2
        matrix = matrix.at[a, b].set(value)
        matrix = matrix.at[b, a].set(value)
    return matrix


class Particles(Problem):
    """Base of all problems of particles. A subclass tells the cell, the species, the reach of the interaction, and the energy.

    The methods to write: `frame`, `kind_of` (left out: one species), `reach`, and those of `PairPotential` or `ClusterPotential`.
    """

    axis = Option(3, choices=(2, 3), doc="dimensions of space")
    box = Option("fixed", choices=("fixed", "relaxed"), doc="whether the cell is fixed or relaxes with the particles")
    skin = Option(0.2, minimum=0.0, doc="by how much lists of neighbours reach beyond the interaction, relative to it")

    neighbours = Derived(doc="list of neighbours")
    position = Unknown(shape=("particle", "axis"), unit="length", doc="positions in the undeformed cell")

    solver = "lbfgs"

    # What a subclass tells.

    def frame(self, theta: Any, data: Any) -> tuple[Array, Array]:
        """Vectors of the undeformed cell, as rows (axis, axis), and which axes are periodic (axis,)."""
        raise self.unwritten("frame(theta, data): return the vectors of the cell, as rows, and which axes are periodic")

    def kind_of(self, data: Any) -> Array | None:
        """Species of each particle (particle,); None where all are alike."""
        return None

    def reach(self, theta: Any, data: Any) -> Any:
        """Distance beyond which nothing interacts."""
        raise self.unwritten("reach(theta, data): return the distance beyond which nothing interacts")

    def total_energy(self, R: Array, strain: Array | None, theta: Any, data: Any) -> Array:
        """Energy of particles at R (particle, axis), all vectors strained."""
        raise self.unwritten("total_energy(R, strain, theta, data): derive from PairPotential or ClusterPotential")

    def strain_of(self, x: Any, theta: Any) -> Array | None:
        """The whole strain (axis, axis): what is imposed, and what has relaxed; None where there is none."""
        return None

    def work(self, x: Any, theta: Any, data: Any) -> Array:
        """What is minimised beside the energy: the work done against pressure and stress."""
        return jnp.zeros((), x.position.dtype)

    # The condition.

    def objective(self, x: Any, theta: Any, data: Any) -> Array:
        return self.total_energy(x.position, self.strain_of(x, theta), theta, data) + self.work(x, theta, data)

    def condition(self) -> Condition:
        return stationary(self.objective).tagged(pattern=self.pattern, entries=self.entries)

    def pattern(self, x: Any, theta: Any, data: Any) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows and columns of the Hessian's entries."""
        raise self.unwritten("pattern(x, theta, data): derive from PairPotential or ClusterPotential")

    def entries(self, x: Any, theta: Any, data: Any) -> Array:
        """The Hessian's entries at the pattern."""
        raise self.unwritten("entries(x, theta, data): derive from PairPotential or ClusterPotential")

    def null_space(self, x: Any, theta: Any, data: Any) -> Mapping[str, Mapping[str, Any]]:
        still = np.zeros(x.position.shape)
        gauges = {}
        for a in range(self.axis):
            moved = still.copy()
            moved[:, a] = 1.0
            gauges[f"translation along {'xyz'[a]}"] = {"position": jnp.asarray(moved)}
        periodic = np.asarray(self.frame(theta, data)[1], dtype=bool)
        R = np.asarray(x.position) - np.mean(np.asarray(x.position), axis=0)
        for a, b in combinations(range(self.axis), 2):
            if not periodic[a] and not periodic[b]:
                turned = still.copy()
                turned[:, a], turned[:, b] = -R[:, b], R[:, a]
                gauges[f"rotation in the plane {'xyz'[a]}{'xyz'[b]}"] = {"position": jnp.asarray(turned)}
        return gauges

    # Lists of neighbours.

    def list_of(self, position: FloatArray, cell: FloatArray, periodic: NDArray[np.bool_], reach: float) -> Any:
        """A list of the kind that this potential needs."""
        raise self.unwritten("list_of(..): derive from PairPotential or ClusterPotential")

    def derive(self, x: Any, theta: Any, data: Any) -> Mapping[str, Any]:
        # distances in the deformed cell decide: the list is made there
        bare = data._replace(**dict.fromkeys(self.declared(Derived)))
        position, seen, periodic, interaction = (np.asarray(part) for part in self._view(x, theta, bare))
        reach = float(interaction) * (1.0 + self.skin)
        if not np.isfinite(position).all() or not np.isfinite(reach):
            position, reach = np.zeros_like(position), 0.0
        try:
            found = self.list_of(position, seen, periodic.astype(bool), reach)
        except (ValueError, np.linalg.LinAlgError) as error:
            raise InputError(f"{type(self).__name__}: no list of neighbours can be made: {error}") from None
        return {"neighbours": found}

    @cached_property
    def _view(self) -> Callable[..., Any]:
        """Positions and cell as they are seen, periodic axes and reach, as one compiled call."""

        def view(x: Any, theta: Any, data: Any) -> tuple[Any, ...]:
            return (*self._deformed(x, theta, data), self.frame(theta, data)[1], self.reach(theta, data))

        return jax.jit(view)

    def stale(self, x: Any, theta: Any, data: Any) -> Any:
        listed = data.neighbours
        position, cell = self._deformed(x, theta, data)
        # a listed vector D becomes T D + (moves of its ends); what was beyond the list's reach stays beyond the interaction's while
        # (1 - |T - I|) list > interaction + 2 move
        T = jnp.linalg.solve(listed.cell, cell)
        moved = position - listed.position @ T
        moved = moved - jnp.mean(moved, axis=0, keepdims=True)
        farthest = jnp.sqrt(jnp.max(jnp.sum(moved**2, axis=1)))
        stretch = jnp.linalg.norm(T - jnp.eye(self.axis, dtype=T.dtype))
        interaction = self.reach(theta, data)
        allowed = SPENT * (listed.reach / interaction - 1.0)
        return stretch * (1.0 + allowed) + 2.0 * farthest / interaction > allowed

    def _deformed(self, x: Any, theta: Any, data: Any) -> tuple[Array, Array]:
        """Positions and cell vectors as they are seen, (I + eps) applied to each."""
        (cell, _), strain = self.frame(theta, data), self.strain_of(x, theta)
        return (x.position, cell) if strain is None else (x.position + x.position @ strain, cell + cell @ strain)

    def vectors(self, R: Array, strain: Array | None, i: Array, j: Array, shift: Array, theta: Any, data: Any) -> Array:
        """D = (I + eps) (R_j - R_i + S H) for index arrays i and j (..,) and shifts (.., axis).

        Positions and cell are strained, not their differences: those are many. The second term is what a loop computes only once.
        """
        cell, _ = self.frame(theta, data)
        if strain is not None:
            R, cell = R + R @ strain, cell + cell @ strain
        return R[j] - R[i] + shift.astype(R.dtype) @ cell

    # What a relaxed cell adds to the Hessian.

    def bordered_pattern(
        self, rows: NDArray[np.int64], cols: NDArray[np.int64], x: Any
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The pattern of positions, with what other unknowns add to it."""
        return rows, cols

    def bordered_entries(self, values: Array, x: Any, theta: Any, data: Any) -> Array:
        """The entries of positions, with what other unknowns add to them."""
        return values
