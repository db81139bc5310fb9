"""Potentials of pairs: E = sum over pairs of u(r), with a sparse Hessian from blocks of pairs.

The Hessian of one pair with respect to its vector D, of length r and direction n, is

    h = u'' n n' + (u' / r) (I - n n')

and a pair (i, j) adds h to the blocks (i, i) and (j, j) and takes it from (i, j) and (j, i).
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
from implicit_cli.particles.neighbours import find_pairs
from implicit_cli.particles.rigidity import held, parted

GRAZING = 1e-7
"""Overlaps (relative to the contact distance) below this carry no force worth the name: such a contact holds nothing."""


class Bond(NamedTuple):
    """A pair's particles, for what depends on them: i, j (E,) and their species, a <= b (E,)."""

    i: Array
    j: Array
    a: Array
    b: Array


class PairPotential(Particles):
    """A sum over pairs. A subclass writes `pair_energy`, `reach` and, where the energy has kinks, `kinks`."""

    contacts = False
    """Particles interact by touching: those that are not held by enough contacts are rattlers."""

    def pair_energy(self, r: Array, bond: Bond, theta: Any) -> Array:
        """u(r) (E,) of pairs at distances r (E,)."""
        raise self.unwritten("pair_energy(r, bond, theta): return the energy of pairs at distances r")

    def kinks(self, bond: Bond, theta: Any) -> tuple[Any, ...]:
        """Distances (E,), or numbers for all, at which the force of a pair has a kink."""
        return ()

    def list_of(self, position: FloatArray, cell: FloatArray, periodic: NDArray[np.bool_], reach: float) -> Any:
        return find_pairs(position, cell, periodic, reach)

    def bond(self, listed: Any, data: Any) -> Bond:
        """The listed pairs with their species."""
        i, j, kind = listed.i, listed.j, self.kind_of(data)
        if kind is None:
            return Bond(i, j, jnp.zeros_like(i), jnp.zeros_like(i))
        return Bond(i, j, jnp.minimum(kind[i], kind[j]), jnp.maximum(kind[i], kind[j]))

    def total_energy(self, R: Array, strain: Array | None, theta: Any, data: Any) -> Array:
        listed = data.neighbours
        r = self._distance(self._D(R, strain, theta, data))
        return jnp.sum(jnp.where(listed.present, self.pair_energy(r, self.bond(listed, data), theta), 0.0))

    def _D(self, R: Array, strain: Array | None, theta: Any, data: Any) -> Array:
        """Vectors of the listed pairs (E, axis); what only fills the list is out of reach."""
        listed = data.neighbours
        D = self.vectors(R, strain, listed.i, listed.j, listed.shift, theta, data)
        far = jnp.zeros(self.axis, D.dtype).at[0].set(jax.lax.stop_gradient(4.0 * listed.reach + 1.0).astype(D.dtype))
        return jnp.where(listed.present[:, None], D, far[None])

    @cached_property
    def _seen(self) -> Callable[..., tuple[Array, Array, tuple[Any, ...]]]:
        """D and r of the listed pairs, and the distances at which they have kinks, as one compiled call (x, theta, data)."""

        def seen(x: Any, theta: Any, data: Any) -> tuple[Array, Array, tuple[Any, ...]]:
            D = self._D(x.position, self.strain_of(x, theta), theta, data)
            return D, self._distance(D), self.kinks(self.bond(data.neighbours, data), theta)

        return jax.jit(seen)

    @staticmethod
    def _distance(D: Array) -> Array:
        return jnp.sqrt(jnp.sum(D**2, axis=1))

    # The Hessian.

    def pattern(self, x: Any, theta: Any, data: Any) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        n, dim, listed = x.position.shape[0], self.axis, data.neighbours
        i, j = (np.asarray(part, dtype=np.int64) for part in (listed.i, listed.j))
        j = np.where(self._interacting(x, theta, data), j, i)  # what the skin holds has a block of zeros, and needs no place
        one = np.arange(n, dtype=np.int64)
        left, right = np.concatenate([one, i, j]), np.concatenate([one, j, i])
        block = np.arange(dim)
        rows = np.broadcast_to(left[:, None, None] * dim + block[None, :, None], (left.size, dim, dim)).ravel()
        cols = np.broadcast_to(right[:, None, None] * dim + block[None, None, :], (left.size, dim, dim)).ravel()
        return self.bordered_pattern(rows, cols, x)

    def entries(self, x: Any, theta: Any, data: Any) -> Array:
        return self._compiled_entries(x, theta, data)

    @cached_property
    def _compiled_entries(self) -> Callable[..., Array]:
        return jax.jit(self._entries)

    def _entries(self, x: Any, theta: Any, data: Any) -> Array:
        listed, strain = data.neighbours, self.strain_of(x, theta)
        bond = self.bond(listed, data)
        D = self._D(x.position, strain, theta, data)
        r = self._distance(D)

        def slope(r: Array) -> Array:
            return jax.jvp(lambda r: self.pair_energy(r, bond, theta), (r,), (jnp.ones_like(r),))[1]

        first, second = jax.jvp(slope, (r,), (jnp.ones_like(r),))
        first, second = (jnp.where(listed.present, part, 0.0) for part in (first, second))
        n = D / r[:, None]
        along, across = second - first / r, first / r
        one = jnp.eye(self.axis, dtype=D.dtype)
        T = one if strain is None else one + strain  # h becomes T' h T, and T is symmetric
        n = n @ T
        h = along[:, None, None] * n[:, :, None] * n[:, None, :] + across[:, None, None] * (T @ T)[None]
        own = jnp.zeros((x.position.shape[0], self.axis, self.axis), h.dtype).at[listed.i].add(h).at[listed.j].add(h)
        return self.bordered_entries(jnp.concatenate([own.ravel(), -h.ravel(), -h.ravel()]), x, theta, data)

    # What has no derivative.

    def undetermined(self, x: Any, theta: Any, data: Any) -> Mapping[str, Mapping[str, Any]]:
        free = self._free(x, theta, data)
        all_free, one_free = ("unjammed particle", "rattler") if self.contacts else ("isolated particle",) * 2
        reason = all_free if free.all() else one_free
        return {reason: {"position": np.repeat(free[:, None], self.axis, axis=1)}} if free.any() else {}

    def _free(self, x: Any, theta: Any, data: Any) -> NDArray[np.bool_]:
        """Particles (n,) that nothing holds: without enough contacts, or without any neighbour at all."""
        near, listed = self._interacting(x, theta, data, GRAZING), data.neighbours
        return ~held(
            x.position.shape[0],
            np.asarray(listed.i)[near],
            np.asarray(listed.j)[near],
            self.axis + 1 if self.contacts else 1,
        )

    def _interacting(self, x: Any, theta: Any, data: Any, grazing: float = 0.0) -> NDArray[np.bool_]:
        """Pairs (E,) that are near enough; contacts of a relative overlap up to `grazing` do not count."""
        _, r, kinks = self._seen(x, theta, data)
        edge = kinks[0] if self.contacts else self.reach(theta, data)
        return np.asarray(data.neighbours.present) & (1.0 - np.asarray(r) / np.asarray(edge) > grazing * self.contacts)

    def settle(self, x: Any, theta: Any, data: Any) -> Mapping[str, Any]:
        """Rattlers that touch others without a force are moved off them: a contact that just closes is a kink."""
        if not self.contacts:
            return {}
        free, listed = self._free(x, theta, data), data.neighbours
        if not free.any() or free.all():
            return {}
        i, j = np.asarray(listed.i), np.asarray(listed.j)
        near = np.asarray(listed.present) & (free[i] | free[j])
        D, _, (edge,) = self._seen(x, theta, data)
        moves = parted(free, i[near], j[near], np.asarray(D)[near], np.asarray(edge)[near])
        return {"position": jnp.asarray(np.asarray(x.position) + moves)} if moves.any() else {}

    def margin(self, x: Any, theta: Any, data: Any) -> float:
        """Moving x by a moves a distance by at most sqrt(2) a, and a strain of a by r a more."""
        listed = data.neighbours
        _, seen, found = self._seen(x, theta, data)
        if not found:
            return float("inf")
        r = np.asarray(seen)
        live = np.asarray(listed.present)
        free = self._free(x, theta, data)
        live = live & ~free[np.asarray(listed.i)] & ~free[np.asarray(listed.j)]
        per = np.sqrt(2.0) + (r if self.box == "relaxed" else 0.0)
        gaps = [np.min((np.abs(r - np.asarray(edge)) / per)[live], initial=np.inf) for edge in found]
        return float(min(gaps))
