"""The peers of `benchmarks/molecular.py`: jax-md's FIRE with jax-md's neighbour list, and LAMMPS where `lmp` is installed.

All minimise the same energy from the same start, soft spheres u(r) = (1 - r / sigma)^2 / 2 of diameters 1 and `small`, half each,
in a periodic box. LAMMPS has no such pair style, and is given it as a table over r^2, which its cubic splines follow to rounding
but at small r. The largest force is recomputed in NumPy from the positions that each ends with (`largest_force`).
"""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax_md import energy, minimize, partition, space
from scipy.spatial import KDTree

CHUNK = 100
"""Steps of jax-md between two looks at the largest force."""
POINTS, INNER = 20_000, 1e-4
"""Length of LAMMPS's tables, and their shortest distance."""


class Start(NamedTuple):
    """Where minimisation begins: positions (n, axis) in a periodic box of this side; the second half has diameter `small`."""

    position: np.ndarray
    side: float
    small: float

    @property
    def diameter(self) -> np.ndarray:
        n = len(self.position)
        return np.where(np.arange(n) < n // 2, 1.0, self.small)


class Minimised(NamedTuple):
    """Where it ended: positions, steps, seconds, those of compilation apart, the largest force, and how it stopped."""

    position: np.ndarray
    steps: int
    seconds: float
    compilation: float
    force: float
    note: str = ""

    def reached(self, tol: float) -> bool:
        return self.force <= tol


def largest_force(start: Start, position: np.ndarray) -> float:
    """Largest component of the force at these positions, from the formula, with SciPy's pairs."""
    n, axis = position.shape
    wrapped = np.mod(position, start.side)
    i, j = KDTree(np.where(wrapped >= start.side, 0.0, wrapped), boxsize=start.side).query_pairs(1.0, output_type="ndarray").T
    apart = position[j] - position[i]
    apart -= start.side * np.round(apart / start.side)
    r = np.linalg.norm(apart, axis=1)
    sigma = (start.diameter[i] + start.diameter[j]) / 2
    push = (np.maximum(1.0 - r / sigma, 0.0) / sigma / r)[:, None] * apart
    total = np.stack([np.bincount(j, push[:, a], n) - np.bincount(i, push[:, a], n) for a in range(axis)])
    return float(np.abs(total).max())


def jax_md_fire(start: Start, tol: float, limit: float) -> Minimised:
    """FIRE with its defaults, lists with their default skin, updated within the compiled loop and made anew on overflow."""
    diameter = np.array([1.0, start.small])
    sigma = jnp.asarray((diameter[:, None] + diameter[None, :]) / 2)
    species = jnp.asarray(start.diameter < 1.0, dtype=jnp.int32)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        displacement, shift = space.periodic(start.side)
        lists, of = energy.soft_sphere_neighbor_list(
            displacement,
            start.side,
            species=species,
            sigma=sigma,
            format=partition.OrderedSparse,
            fractional_coordinates=False,
        )
        init, apply = minimize.fire_descent(of, shift)

        def allocated(position):
            # the cell's size is an array among the static fields, which JAX 0.12 refuses to compare when a second list is made
            made = lists.allocate(position)
            return dataclasses.replace(made, cell_size=None if made.cell_size is None else float(made.cell_size))

        neighbours = allocated(jnp.asarray(start.position))
        state = init(jnp.asarray(start.position), neighbor=neighbours)

        def body(_, carry):
            state, neighbours = carry
            neighbours = neighbours.update(state.position)
            return apply(state, neighbor=neighbours), neighbours

        def chunk(state, neighbours):
            state, neighbours = jax.lax.fori_loop(0, CHUNK, body, (state, neighbours))
            return state, neighbours, jnp.max(jnp.abs(state.force))

        def compiled(state, neighbours):
            begun = time.perf_counter()
            made = jax.jit(chunk).lower(state, neighbours).compile()
            return made, time.perf_counter() - begun

        run, compilation = compiled(state, neighbours)
        steps, seconds, force, grown, note = 0, 0.0, np.inf, 0, ""
        while force > tol:
            begun = time.perf_counter()
            new, updated, found = run(state, neighbours)
            overflow = bool(updated.did_buffer_overflow)
            seconds += time.perf_counter() - begun
            if overflow:
                grown += 1
                begun = time.perf_counter()
                neighbours = allocated(state.position)
                seconds += time.perf_counter() - begun
                run, more = compiled(state, neighbours)
                compilation += more
                continue
            state, neighbours, force, steps = new, updated, float(found), steps + CHUNK
            if not np.isfinite(force) or seconds > limit:
                note = "not finite" if not np.isfinite(force) else f"stopped after {seconds:.0f} s"
                break
    position = np.asarray(state.position)
    note = "; ".join(filter(None, (note, f"{grown} lists grown" if grown else "")))
    return Minimised(position, steps, seconds, compilation, largest_force(start, position), note)


def lammps_version() -> str | None:
    """What `lmp` calls itself; None where it is not installed."""
    if shutil.which("lmp") is None:
        return None
    said = subprocess.run(["lmp", "-help"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"Simulator - (.*)", said)
    return found.group(1).strip() if found else "unknown"


def lammps(start: Start, tol: float, limit: float, style: str = "fire") -> Minimised:
    """One process of LAMMPS, its FIRE with time steps up to 0.4 as jax-md's, or its conjugate gradients ("cg")."""
    n, axis = start.position.shape
    diameter = (1.0, start.small)
    pairs = [(0, 0), (0, 1), (1, 1)]
    with tempfile.TemporaryDirectory() as folder:
        at = Path(folder)
        position = np.mod(start.position, start.side)
        position = np.hstack([position, np.zeros((n, 3 - axis))])
        kind = np.where(start.diameter < 1.0, 2, 1)
        depth = f"0 {start.side:.17g}" if axis == 3 else "-0.5 0.5"
        lines = [f"spheres\n\n{n} atoms\n2 atom types\n", f"0 {start.side:.17g} xlo xhi", f"0 {start.side:.17g} ylo yhi"]
        lines += [f"{depth} zlo zhi\n\nMasses\n\n1 1\n2 1\n\nAtoms # atomic\n"]
        lines += [f"{k + 1} {kind[k]} {x:.17g} {y:.17g} {z:.17g}" for k, (x, y, z) in enumerate(position)]
        (at / "data").write_text("\n".join(lines) + "\n")
        script = [f"dimension {axis}", "units lj", "boundary p p p", "atom_style atomic", "read_data data"]
        script += [f"pair_style table spline {POINTS}"]
        for a, b in pairs:
            sigma = (diameter[a] + diameter[b]) / 2
            r = np.sqrt(np.linspace(INNER**2, sigma**2, POINTS))
            r[-1] = sigma
            u, f = (1 - r / sigma) ** 2 / 2, (1 - r / sigma) / sigma
            rows = "\n".join(f"{k + 1} {r[k]:.17g} {u[k]:.17g} {f[k]:.17g}" for k in range(POINTS))
            head = f"SPHERE\nN {POINTS} RSQ {INNER:.17g} {sigma:.17g}\n"
            (at / f"table{a}{b}").write_text(f"# r, u, -du/dr\n\n{head}\n{rows}\n")
            script += [f"pair_coeff {a + 1} {b + 1} table{a}{b} SPHERE {sigma:.17g}"]
        if axis == 2:
            script += ["fix flat all enforce2d"]
        step = "min_modify dmax 0.1 norm inf" if style == "fire" else "min_modify dmax 0.1 norm inf line quadratic"
        script += ["neighbor 0.2 bin", "neigh_modify delay 0 every 1 check yes", "timestep 0.04", "thermo 100000"]
        script += [f"min_style {style}", step, f"timer timeout {limit:.0f} every 100"]
        script += [f"minimize 0.0 {tol:.3g} 10000000 100000000"]
        script += ["write_dump all custom end id x y z modify format float %.17g sort id"]
        (at / "in").write_text("\n".join(script) + "\n")
        done = subprocess.run(
            ["lmp", "-in", "in", "-log", "none"],
            cwd=at,
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        said = done.stdout
        loop = re.search(r"Loop time of (\S+) on \d+ procs for (\d+) steps", said)
        if loop is None or not (at / "end").exists():
            trouble = [line for line in (said + done.stderr).splitlines() if "ERROR" in line]
            return Minimised(start.position, 0, np.nan, 0.0, np.nan, trouble[0] if trouble else f"lmp ended with {done.returncode}")
        stop = re.search(r"Stopping criterion = (.*)", said)
        found = np.loadtxt(at / "end", skiprows=9)[:, 1 : 1 + axis]
    note = stop.group(1).strip() if stop else ""
    return Minimised(found, int(loop.group(2)), float(loop.group(1)), 0.0, largest_force(start, found), note)
