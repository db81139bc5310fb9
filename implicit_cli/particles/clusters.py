"""Potentials of clusters: E = sum over particles of e(vectors to the neighbours), with a sparse Hessian from blocks of clusters.

The vectors of particle i are D_k = (I + eps) (R_k - R_i). Its e has a Hessian with respect to the positions of i and all its
neighbours, a block for each two of them, and the Hessian of E is the sum of those.

Two neighbours of one particle have a block although they may not see each other: a row holds what is within twice the reach.
Blocks of the same two particles are added up before they leave the compiled program, since metals have dozens of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from implicit_cli.particles.base import Array, FloatArray, Particles
from implicit_cli.particles.neighbours import Clusters, capacity, find_clusters
from implicit_cli.problem import Option

AT_ONCE = 2**22
"""Entries of clusters' Hessians that are held at a time."""
GOLDEN = 2.399963229728653
"""The golden angle: multiples of it never meet."""


class Places(NamedTuple):
    """Where blocks go: particles `first` and `second` (P,) of each, and the place `slot` (n, K + 1, K + 1) of those of a cluster.

    Member 0 of a cluster is the particle itself.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    slot: NDArray[np.int64]


class ClusterPotential(Particles):
    """A sum over particles. A subclass writes `cluster_energy`, `reach` and, where the force has kinks, `kinks`."""

    skin = Option(0.1, minimum=0.0, doc="by how much lists of neighbours reach beyond the interaction, relative to it")

    def cluster_energy(self, D: Array, present: Array, kind: Array, kinds: Array, theta: Any) -> Array:
        """e of one particle of species `kind`, whose neighbours of species `kinds` (K,) are at D (K, axis).

        Only the neighbours that are `present` (K,) are within reach. The others are filling, and must not count; they are at
        distinct places just beyond reach, so that no quotient or angle between them is singular.
        """
        raise self.unwritten("cluster_energy(D, present, kind, kinds, theta): return the energy of one particle")

    def kinks(self, theta: Any) -> tuple[Any, ...]:
        """Distances at which a force has a kink."""
        return ()

    def list_of(self, position: FloatArray, cell: FloatArray, periodic: NDArray[np.bool_], reach: float) -> Any:
        listed = find_clusters(position, cell, periodic, reach)
        return _of_width(listed, _roomy(listed.j.shape[1]))

    def total_energy(self, R: Array, strain: Array | None, theta: Any, data: Any) -> Array:
        listed = data.neighbours
        D = self._D(R, strain, theta, data)
        return jnp.sum(jax.vmap(self._own_energy(theta, data))(D, jnp.arange(listed.j.shape[0]), listed.j, listed.present))

    def _D(self, R: Array, strain: Array | None, theta: Any, data: Any) -> Array:
        """Vectors (n, K, axis) of the listed neighbours."""
        listed = data.neighbours
        own = jnp.arange(listed.j.shape[0])[:, None]
        return self.vectors(R, strain, own, listed.j, listed.shift, theta, data)

    def _own_energy(self, theta: Any, data: Any) -> Callable[[Array, Array, Array, Array], Array]:
        """e as a function of the vectors D (K, axis) of particle i, its neighbours j (K,), and which of them the list has (K,)."""
        kind, reach = self.kind_of(data), jnp.asarray(self.reach(theta, data))

        def energy(D: Array, i: Array, j: Array, listed: Array) -> Array:
            present = listed & (jnp.sum(D**2, axis=1) < reach.astype(D.dtype) ** 2)
            own, others = (jnp.zeros_like(i), jnp.zeros_like(j)) if kind is None else (kind[i], kind[j])
            outside = _outside(*D.shape) * jax.lax.stop_gradient(reach)
            return self.cluster_energy(jnp.where(present[:, None], D, outside.astype(D.dtype)), present, own, others, theta)

        return energy

    # The Hessian.

    def pattern(self, x: Any, theta: Any, data: Any) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        dim = self.axis
        places = _places(self._near(x, theta, data).neighbours)
        shape, block = (places.first.size, dim, dim), np.arange(dim)
        rows = np.broadcast_to(places.first[:, None, None] * dim + block[None, :, None], shape).ravel()
        cols = np.broadcast_to(places.second[:, None, None] * dim + block[None, None, :], shape).ravel()
        return self.bordered_pattern(rows, cols, x)

    def entries(self, x: Any, theta: Any, data: Any) -> Array:
        """On the host, as `pattern`: which of the listed neighbours interact decides how many there are."""
        near = self._near(x, theta, data)
        places = _places(near.neighbours)
        return self._compiled_entries(x, theta, near, jnp.asarray(places.slot), jnp.asarray(places.first))

    @cached_property
    def _compiled_entries(self) -> Callable[..., Array]:
        return jax.jit(self._entries)

    def _near(self, x: Any, theta: Any, data: Any) -> Any:
        """The data with a list of those neighbours only that interact: skin and filling would cost the square of their number."""
        listed, near = data.neighbours, self._interacting(x, theta, data)
        width = _roomy(int(near.sum(axis=1).max(initial=1)))
        order = np.argsort(~near, axis=1, kind="stable")[:, :width]
        j, shift = np.asarray(listed.j), np.asarray(listed.shift)
        found = listed._replace(
            j=np.take_along_axis(j, order, axis=1),
            shift=np.take_along_axis(shift, order[:, :, None], axis=1),
            present=np.take_along_axis(near, order, axis=1),
        )
        return data._replace(neighbours=_of_width(found, width))

    def _entries(self, x: Any, theta: Any, data: Any, slot: Array, first: Array) -> Array:
        listed, strain = data.neighbours, self.strain_of(x, theta)
        n, K, dim = listed.shift.shape
        undeformed, energy = self._D(x.position, None, theta, data), self._own_energy(theta, data)

        def blocks(D: Array, i: Array, j: Array, present: Array) -> Array:
            def moved(step: Array) -> Array:
                """e after steps (K + 1, axis) of the particle and its neighbours."""
                there = D + step[1:] - step[:1]
                return energy(there if strain is None else there + there @ strain, i, j, present)

            return jnp.swapaxes(jax.hessian(moved)(jnp.zeros((K + 1, dim), D.dtype)), 1, 2)

        def add(total: Array, some: tuple[Array, ...]) -> tuple[Array, None]:
            *clusters, slot = some
            return total.at[slot].add(jax.vmap(blocks)(*clusters)), None

        def chunked(part: Array) -> Array:
            filled = jnp.pad(part, ((0, -n % size), *((0, 0),) * (part.ndim - 1)))
            return filled.reshape(-1, size, *part.shape[1:])

        size = max(1, min(n, AT_ONCE // ((K + 1) * dim) ** 2))
        clusters = (undeformed, jnp.arange(n), listed.j, listed.present, slot)
        total = jnp.zeros((first.shape[0], dim, dim), undeformed.dtype)
        total, _ = jax.lax.scan(add, total, jax.tree.map(chunked, clusters))
        return self.bordered_entries(total.ravel(), x, theta, data)

    # What has no derivative.

    def undetermined(self, x: Any, theta: Any, data: Any) -> Mapping[str, Mapping[str, Any]]:
        free = np.asarray(~self._interacting(x, theta, data).any(axis=1))
        return {"isolated particle": {"position": np.repeat(free[:, None], self.axis, axis=1)}} if free.any() else {}

    def _interacting(self, x: Any, theta: Any, data: Any) -> NDArray[np.bool_]:
        """Which of the listed neighbours (n, K) are within reach."""
        r = self._distance(x, theta, data)
        return np.logical_and(data.neighbours.present, r < np.asarray(self.reach(theta, data)))

    def _distance(self, x: Any, theta: Any, data: Any) -> FloatArray:
        return np.linalg.norm(np.asarray(self._seen(x, theta, data)), axis=2)

    @cached_property
    def _seen(self) -> Callable[..., Array]:
        """D of the listed neighbours, as one compiled call (x, theta, data)."""
        return jax.jit(lambda x, theta, data: self._D(x.position, self.strain_of(x, theta), theta, data))

    def margin(self, x: Any, theta: Any, data: Any) -> float:
        """Moving x by a moves a distance by at most sqrt(2) a, and a strain of a by r a more."""
        found = self.kinks(theta)
        if not found:
            return float("inf")
        r, live = self._distance(x, theta, data), np.asarray(data.neighbours.present)
        per = np.sqrt(2.0) + (r if self.box == "relaxed" else 0.0)
        gaps = [np.min((np.abs(r - np.asarray(edge)) / per)[live], initial=np.inf) for edge in found]
        return float(min(gaps))


def _outside(count: int, dim: int) -> FloatArray:
    """Points (count, dim) outside of the unit circle, no two in the same or in opposite directions."""
    k = np.arange(count)
    angle, r = 0.3 + GOLDEN * k, 1.25 + k / max(count, 1)
    found = np.zeros((count, dim))
    found[:, 0], found[:, 1] = r * np.cos(angle), r * np.sin(angle)
    return found


def _roomy(width: int) -> int:
    """The smallest of the widths that lists may have which holds `width`: a few neighbours more need no new compilation."""
    step = 2 if width <= 8 else 4 if width <= 32 else 8
    return -(-width // step) * step


def _of_width(listed: Clusters, width: int) -> Clusters:
    """The list with so many columns, or more; those added are filling."""
    more = max(0, width - listed.j.shape[1])
    return listed._replace(
        j=np.pad(listed.j, ((0, 0), (0, more))),
        shift=np.pad(listed.shift, ((0, 0), (0, more), (0, 0))),
        present=np.pad(listed.present, ((0, 0), (0, more))),
    )


def _places(listed: Clusters) -> Places:
    n = listed.j.shape[0]
    own = np.arange(n, dtype=np.int64)[:, None]
    members = np.concatenate([own, np.where(listed.present, listed.j, own)], axis=1)  # filling has blocks of zeros
    keys, slot = _distinct(members[:, :, None] * n + members[:, None, :], n * n)
    filled = np.zeros(capacity(keys.size), np.int64)
    filled[: keys.size] = keys
    return Places(filled // n, filled % n, slot)


def _distinct(keys: NDArray[np.int64], most: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The distinct keys, in order, and the place of each key among them; keys are below `most`."""
    if keys.size < most:
        found, place = np.unique(keys, return_inverse=True)
        return found, place.reshape(keys.shape)
    there = np.zeros(most, bool)  # so many that counting beats sorting
    there[keys] = True
    return np.flatnonzero(there), (np.cumsum(there) - 1)[keys]
