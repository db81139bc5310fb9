"""A null space at a point of a bound problem: rounding is told from a derivative that does not exist."""

import jax.numpy as jnp
import numpy as np

from implicit_cli.core.implicit import Point
from implicit_cli.engine.linearise import degeneracy, linearise

CRYSTAL = """\
problem: lennard_jones
structure: {lattice: fcc, a: 1.5496}
options: {cutoff: 6.0, onset: 5.0}
sensitivity: {wrt: [strain, sigma, epsilon]}
"""


def test_what_vanishes_by_symmetry_is_no_leak(prepared):
    """dF/dtheta of a perfect crystal is nothing but rounding, whatever its potential; translations are no fault then."""
    _, vectors, plan = prepared(CRYSTAL)
    p = vectors.refreshed(Point(vectors.initial(0), vectors.start, vectors.data))
    for sigma in np.linspace(0.99, 1.01, 40):
        q = p._replace(theta=vectors.theta.join({"strain": np.zeros(6), "sigma": np.full(1, sigma), "epsilon": jnp.ones(1)}))
        found = degeneracy(vectors, q, linearise(vectors, plan, q))
        assert (found.nullity, found.solvable, found.fatal) == (3, True, False)
