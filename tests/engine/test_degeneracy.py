"""A null space at a point of a bound problem: rounding is told from a derivative that does not exist."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np

from implicit_cli import engine, plugins
from implicit_cli.core.implicit import Point
from implicit_cli.engine.linearise import degeneracy, linearise
from implicit_cli.spec import load_spec

CRYSTAL = """\
problem: lennard_jones
structure: {lattice: fcc, a: 1.5496}
options: {cutoff: 6.0, onset: 5.0}
sensitivity: {wrt: [strain, sigma, epsilon]}
"""


def test_what_vanishes_by_symmetry_is_no_leak(tmp_path: Path):
    """dF/dtheta of a perfect crystal is nothing but rounding, whatever its potential; translations are no fault then."""
    (tmp_path / "spec.yaml").write_text(CRYSTAL)
    loaded = load_spec(tmp_path / "spec.yaml")
    cls = plugins.load(loaded.model.problem, base=tmp_path, allow_plugin=False, plugins=())
    vectors = engine.Vectors(engine.bind(loaded, cls))
    plan = engine.make_plan(loaded, vectors)
    p = vectors.refreshed(Point(vectors.initial(0), vectors.start, vectors.data))
    for sigma in np.linspace(0.99, 1.01, 40):
        q = p._replace(theta=vectors.theta.join({"strain": np.zeros(6), "sigma": np.full(1, sigma), "epsilon": jnp.ones(1)}))
        found = degeneracy(vectors, q, linearise(vectors, plan, q))
        assert (found.nullity, found.solvable, found.fatal) == (3, True, False)
