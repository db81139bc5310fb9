"""What a condition says of its A reaches the linear solvers: pattern, entries, preconditioner, null space."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg

from implicit_cli import engine
from implicit_cli.core import stationary
from implicit_cli.problem import Option, Parameter, Problem, Unknown
from implicit_cli.spec import load_spec
from implicit_cli.status import Status

D = 300


class Chain(Problem):
    """A chain of beads held by soft springs, pushed by forces t: x = (K + I / 10)^-1 t with K the chain's Laplacian."""

    known = Option("pattern", choices=("pattern", "entries", "precondition"))
    t = Parameter(shape=("bead",), default=1.0)
    x = Unknown(shape=("bead",))

    def energy(self, x, theta, data):
        return jnp.sum(jnp.diff(x.x) ** 2) / 2 + jnp.sum(x.x**2) / 20 - theta.t @ x.x

    def condition(self):
        i = np.arange(D)
        rows, cols = np.concatenate([i, i[1:], i[:-1]]), np.concatenate([i, i[:-1], i[1:]])
        diagonal = np.where((i == 0) | (i == D - 1), 1.1, 2.1)
        tags = {
            "pattern": {"pattern": lambda x, theta, data: (rows, cols)},
            "entries": {
                "pattern": lambda x, theta, data: (rows, cols),
                "entries": lambda x, theta, data: np.concatenate([diagonal, np.full(2 * D - 2, -1.0)]),
            },
            "precondition": {"precondition": lambda r, x, theta, data: r._replace(x=r.x / diagonal)},
        }
        return stationary(self.energy).tagged(**tags[self.known])


@pytest.mark.parametrize(
    ("known", "solver", "used"),
    [("pattern", "sparse_lu", "sparse_lu"), ("entries", "auto", "sparse"), ("precondition", "cg", "cg")],
)
def test_a_tag_is_used(tmp_path, known, solver, used):
    path = tmp_path / "spec.yaml"
    path.write_text(
        f"problem: here\noptions: {{known: {known}}}\nparameters: {{t: {[1.0] * D}}}\nsolver: {{name: newton_cg}}\n"
        f"sensitivity: {{linear_solver: {solver}, products: [{{jvp: {{all: {{t: 1.0}}}}}}]}}\n"
    )
    loaded = load_spec(path)
    vectors = engine.Vectors(engine.bind(loaded, Chain))
    result = engine.run_case(vectors, engine.make_plan(loaded, vectors), identity="0", seed=0)
    assert result.status is Status.OK, result.message
    assert result.linear[0].method.startswith(used)
    i = np.arange(D)
    A = scipy.sparse.diags_array(
        [np.full(D - 1, -1.0), np.where((i == 0) | (i == D - 1), 1.1, 2.1), np.full(D - 1, -1.0)], offsets=[-1, 0, 1]
    )
    true = scipy.sparse.linalg.spsolve(A.tocsc(), np.ones(D))
    np.testing.assert_allclose(result.products[0].value, true, rtol=1e-8)
