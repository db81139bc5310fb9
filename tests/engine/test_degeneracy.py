"""A null space at a point of a bound problem: rounding is told from a derivative that does not exist."""

import jax.numpy as jnp
import numpy as np

from implicit_cli.core.implicit import Point
from implicit_cli.engine.linearise import degeneracy, linearise
from implicit_cli.status import Status

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


SLACK = """\
problem: expression
formulas:
  parameters: {t: {}}
  unknowns: {a: {initial: 0.0}, z: {initial: 0.0}}
  equations: {a: a - t, z: 0 * z}
  outputs: {straight: a + z, square: a + z ** 2, alone: z ** 2, free: a ** 2}
parameters: {t: 1.0}
solver: newton
"""


def test_an_output_that_sees_an_undetermined_unknown_by_its_square(solve):
    """z may be anything, and is 0, where z**2 has no slope."""
    result, products = solve(SLACK)
    assert result.status is Status.PARTIAL, result.message
    found = {of: float(products["jacobian", "", of, "t"].value) for of in ("a", "z", "straight", "square", "alone", "free")}
    assert {of for of, slope in found.items() if np.isnan(slope)} == {"z", "straight", "square", "alone"}
    assert (found["a"], found["free"]) == (1.0, 2.0)
    assert {of for of, bound in result.bounds.items() if np.isnan(bound.total).all()} == {"straight", "square", "alone"}
