"""A structure with strain, stress and a cell that may relax: what problems of real materials have in common.

    minimise over R, and with `box: relaxed` over a strain e too,   E(R, eps) + p V(eps) - V_0 s . eps,      eps = strain + e

with p the applied pressure and s the applied stress, work-conjugate to the strain and counted per volume V_0 of the undeformed
cell. Stress is (dE/d eps) / V, pressure is minus its trace over the number of axes.

The derivative of `stress` with respect to `strain` is the tensor of elastic constants, relaxation of the particles included; those
that Voigt's C_ij holds, where the cell is free of stress.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from implicit_cli.particles.base import COMPONENTS, Array, Particles, tensor
from implicit_cli.particles.moduli import averages, elastic
from implicit_cli.problem import Data, Derived, Option, Output, Parameter, Unknown


class Material(Particles):
    """Particles of a given structure: start, cell, periodic axes, species."""

    kinds = Option(1, minimum=1, doc="number of species")
    moduli = Option(False, doc="whether elastic constants and moduli are outputs: they take a solve each time")

    start = Data(shape=("particle", "axis"), unit="length", doc="positions to start from")
    cell = Data(shape=("axis", "axis"), unit="length", doc="vectors of the undeformed cell, as rows")
    periodic = Data(shape=("axis",), dtype="int", doc="1 along axes that are periodic, else 0")
    species = Data(shape=("particle",), dtype="int", doc="species of each particle, counted from 0")

    probe = Data(shape=("probe", 2), dtype="int", optional=True, doc="pairs of particles whose distance is an output")
    perfect = Data(shape=("reference", "site", "axis"), unit="length", optional=True, doc="perfect crystals, in the same cell")
    perfect_species = Data(shape=("reference", "site"), dtype="int", optional=True, doc="species of their sites")
    perfect_neighbours = Derived(doc="their lists of neighbours")

    strain = Parameter(shape=("component",), default=0.0, doc="imposed strain (Voigt, engineering shear)")
    applied_pressure = Parameter(default=0.0, unit="energy/volume", doc="pressure that a relaxed cell is under")
    applied_stress = Parameter(shape=("component",), default=0.0, unit="energy/volume", doc="stress that a relaxed cell is under")
    deformation = Unknown(shape=("freedom",), doc="strain of a relaxed cell (Voigt, engineering shear); empty where it is fixed")
    energy = Output(unit="energy", doc="potential energy")
    volume = Output(unit="volume", doc="volume of the cell, an area in two dimensions")
    stress = Output(shape=("component",), unit="energy/volume", doc="(dE/dstrain) / V (Voigt)")
    pressure = Output(unit="energy/volume", doc="minus the mean of the normal stresses")
    elastic = Output(
        shape=("component", "load"), unit="energy/volume", doc="elastic constants dstress/dstrain, particles relaxed (Voigt)"
    )
    bulk_modulus = Output(shape=("modulus",), unit="energy/volume", doc="bulk modulus, Voigt's average of `elastic`")
    shear_modulus = Output(shape=("modulus",), unit="energy/volume", doc="shear modulus, Voigt's average of `elastic`")
    distance = Output(shape=("probe",), unit="length", doc="distances between the particles of `probe`, the nearest images")
    formation_energy = Output(
        shape=("reference",), unit="energy", doc="energy beyond that of as many particles of the perfect crystal, in the same cell"
    )

    @cached_property
    def sizes(self) -> dict[str, int]:
        components = len(COMPONENTS[self.axis])
        return super().sizes | {
            "component": components,
            "freedom": components if self.box == "relaxed" else 0,
            "load": components if self.moduli else 0,
            "modulus": 1 if self.moduli else 0,
            "kind": self.kinds,
            "pair": self.kinds * (self.kinds + 1) // 2,
        }

    def frame(self, theta: Any, data: Any) -> tuple[Array, Array]:
        return data.cell, data.periodic

    def kind_of(self, data: Any) -> Array | None:
        return data.species if self.kinds > 1 else None

    def per_pair(self, parameter: Array, a: Array, b: Array) -> Array:
        """Entries of a parameter (pair,) for species a <= b: pairs in the order 00, 01, .., 11, 12, .."""
        if self.kinds == 1:
            return parameter[0]
        return parameter[a * self.kinds - a * (a - 1) // 2 + (b - a)]

    def initial(self, theta: Any, data: Any, key: Array) -> dict[str, Array]:
        return {"position": data.start}

    def strain_of(self, x: Any, theta: Any) -> Array:
        whole = theta.strain + x.deformation if self.box == "relaxed" else theta.strain
        return tensor(whole, self.axis)

    def volume_of(self, strain: Array, theta: Any, data: Any) -> Array:
        cell, _ = self.frame(theta, data)
        return jnp.abs(jnp.linalg.det(cell)) * jnp.linalg.det(jnp.eye(self.axis, dtype=strain.dtype) + strain)

    def work(self, x: Any, theta: Any, data: Any) -> Array:
        if self.box != "relaxed":
            return super().work(x, theta, data)
        strain = self.strain_of(x, theta)
        undeformed = self.volume_of(jnp.zeros_like(strain), theta, data)
        against = jnp.vdot(theta.applied_stress, theta.strain + x.deformation)
        return theta.applied_pressure * self.volume_of(strain, theta, data) - undeformed * against

    def outputs(self, x: Any, theta: Any, data: Any) -> dict[str, Array]:
        # through a strain of its own, added to the others: the same where the cell is fixed and where it is relaxed
        def energy(more: Array) -> Array:
            return self.total_energy(x.position, self.strain_of(x, theta) + tensor(more, self.axis), theta, data)

        value, slope = jax.value_and_grad(energy)(jnp.zeros_like(theta.strain))
        volume = self.volume_of(self.strain_of(x, theta), theta, data)
        stress = slope / volume
        return {
            "energy": value,
            "volume": volume,
            "stress": stress,
            "pressure": -jnp.mean(stress[: self.axis]),
            **self._moduli(x, theta, data),
            "distance": self._distances(x, theta, data),
            "formation_energy": value - self._perfect_energies(x, theta, data),
        }

    def _moduli(self, x: Any, theta: Any, data: Any) -> dict[str, Array]:
        """Elastic constants and moduli; empty where they are not asked for."""
        nothing = jnp.zeros((len(COMPONENTS[self.axis]), 0), x.position.dtype)
        if not self.moduli:
            return {"elastic": nothing, "bulk_modulus": nothing[0], "shear_modulus": nothing[0]}

        def energy(R: Array, more: Array, given: Any) -> Array:
            x, theta, data = given
            return self.total_energy(R, self.strain_of(x, theta) + tensor(more, self.axis), theta, data)

        def volume(more: Array, given: Any) -> Array:
            x, theta, data = given
            return self.volume_of(self.strain_of(x, theta) + tensor(more, self.axis), theta, data)

        C = elastic(energy, volume, x.position, jnp.zeros_like(theta.strain), (x, theta, data))
        bulk, shear = averages(C, self.axis)
        return {"elastic": C, "bulk_modulus": bulk[None], "shear_modulus": shear[None]}

    def _distances(self, x: Any, theta: Any, data: Any) -> Array:
        """Distances (probe,); which image is the nearest is not differentiated."""
        R, cell = self._deformed(x, theta, data)
        D = R[data.probe[:, 1]] - R[data.probe[:, 0]]
        turns = jnp.where(jnp.asarray(data.periodic)[None] > 0, jnp.round(D @ jnp.linalg.inv(cell)), 0.0)
        nearest = D - jax.lax.stop_gradient(turns) @ cell
        return jnp.sqrt(jnp.sum(nearest**2, axis=1))

    def _perfect_energies(self, x: Any, theta: Any, data: Any) -> Array:
        """Energies (reference,) of the perfect crystals at the same strain, for as many particles as there are."""
        found = [
            self.total_energy(
                data.perfect[k],
                self.strain_of(x, theta),
                theta,
                data._replace(neighbours=listed, species=data.perfect_species[k]),
            )
            for k, listed in enumerate(data.perfect_neighbours)
        ]
        share = x.position.shape[0] / max(data.perfect.shape[1], 1)
        return share * jnp.stack(found) if found else jnp.zeros(0, x.position.dtype)

    def derive(self, x: Any, theta: Any, data: Any) -> Mapping[str, Any]:
        found = dict(super().derive(x, theta, data))
        lists = data.perfect_neighbours
        if lists is None or any(
            bool(self.stale(x._replace(position=R), theta, data._replace(neighbours=listed)))
            for R, listed in zip(data.perfect, lists, strict=True)
        ):
            lists = tuple(super(Material, self).derive(x._replace(position=R), theta, data)["neighbours"] for R in data.perfect)
        return found | {"perfect_neighbours": lists}

    # What a relaxed cell adds to the Hessian: a border of full rows and columns.

    def bordered_pattern(
        self, rows: NDArray[np.int64], cols: NDArray[np.int64], x: Any
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        if self.box != "relaxed":
            return rows, cols
        d, m = x.position.size, x.deformation.size
        inner, outer = np.tile(np.arange(d), m), np.repeat(np.arange(d, d + m), d)
        square = np.arange(d, d + m)
        corner = np.repeat(square, m), np.tile(square, m)
        return np.concatenate([rows, inner, outer, corner[0]]), np.concatenate([cols, outer, inner, corner[1]])

    def bordered_entries(self, values: Array, x: Any, theta: Any, data: Any) -> Array:
        if self.box != "relaxed":
            return values

        def slope(deformation: Array) -> tuple[Array, Array]:
            g = jax.grad(self.objective)(x._replace(deformation=deformation), theta, data)
            return jnp.ravel(g.position), g.deformation

        border, corner = jax.jacfwd(slope)(x.deformation)
        return jnp.concatenate([values, jnp.ravel(border.T), jnp.ravel(border.T), jnp.ravel(corner)])
