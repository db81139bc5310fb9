"""The molecular experiment: sensitivities of a jammed packing against a hand-written pseudo-inverse and re-minimised positions."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

from implicit_cli import engine, plugins
from implicit_cli.spec import load_spec
from implicit_cli.status import Status

from .discs import Discs, N, relative

SPEC = """\
problem: packing
options: {{box: {box}}}
parameters: {{diameter: 0.6, phi: {phi}}}
solver: {{name: fire, tol: 1e-8, max_steps: 50000}}
sensitivity:
  of: [position, energy, pressure]
  wrt: [diameter]
  products:
    - jacobian
    - jvp: {{growth: {{diameter: 2.0}}}}
    - vjp: {{all: {{position: cotangent.h5:/w}}}}
  accuracy: 1e-5
"""
COTANGENT = np.random.default_rng(1).normal(size=(N, 2))


@pytest.fixture(scope="module")
def prepare(tmp_path_factory):
    """(phi, box) -> compiled vectors and plan; one compilation serves all seeds."""
    import h5py

    folder = tmp_path_factory.mktemp("packing")
    with h5py.File(folder / "cotangent.h5", "w") as file:
        file["w"] = COTANGENT
    made = {}

    def make(phi, box):
        if box not in made:
            path = folder / "packing.yaml"
            path.write_text(SPEC.format(phi=phi, box=box))
            loaded = load_spec(path)
            cls = plugins.load("packing", base=folder, allow_plugin=False, plugins=())
            vectors = engine.Vectors(engine.bind(loaded, cls))
            made[box] = vectors, engine.make_plan(loaded, vectors)
        vectors, plan = made[box]
        vectors.data[1]["phi"] = jnp.asarray(phi)
        return vectors, plan

    return make


def products(result):
    return {(product.kind, product.of or product.wrt): product for product in result.products}


def check(prepare, phi, box, seed, method=None):
    vectors, plan = prepare(phi, box)
    if method is not None:
        plan = replace(plan, linear=plan.linear._replace(method=method, dense=False, then=()))
    result = engine.run_case(vectors, plan, identity=str(seed), seed=seed)
    assert result.status in (Status.OK, Status.PARTIAL), result.message
    found = products(result)
    R = result.solution["position"]
    discs = Discs(0.6, phi, follows=box == "follows")
    assert np.abs(discs.force(R)).max() < 1e-13

    rattlers = result.null_space.undetermined.get("rattler", {"position": np.zeros((N, 2), dtype=bool)})["position"].any(axis=1)
    keep = ~rattlers
    if method is None:  # else what is loose is eliminated, and no null vector of A
        assert result.null_space.dimension >= 2 + 2 * rattlers.sum() - 2 * rattlers.sum() * (result.status is Status.OK)
    assert set(result.null_space.undetermined) <= {"rattler"}
    assert (result.status is Status.PARTIAL) == rattlers.any()

    A, B = discs.derivatives(R)
    inverse = np.linalg.pinv(A, rcond=1e-11, hermitian=True)
    J = (-inverse @ B).reshape(N, 2)
    jacobian, jvp, vjp = found["jacobian", "position"], found["jvp", "position"], found["vjp", "diameter"]
    assert np.isnan(jacobian.value[rattlers]).all()
    assert np.isfinite(jacobian.value[keep]).all()
    error = np.linalg.norm(jacobian.value[keep] - J[keep])
    assert error <= 1e-8 * np.linalg.norm(J[keep])
    assert error <= jacobian.bound.total
    assert np.linalg.norm(jvp.value[keep] - 2 * J[keep]) <= 1e-8 * np.linalg.norm(J[keep])
    w = np.where(rattlers[:, None], 0.0, COTANGENT).ravel()
    assert float(vjp.value) == pytest.approx(-B @ (inverse @ w), rel=1e-8)
    assert (vjp.status is Status.PARTIAL) == rattlers.any()

    # re-minimised positions on both sides; the step stays well inside the distance to the next change of contacts
    h = min(1e-6, 0.1 * result.certificate.margin / np.linalg.norm(J[keep], axis=1).max())
    sides = [Discs(0.6 + s * h, phi, follows=box == "follows").minimise(R) for s in (1, -1)]
    assert relative((sides[0] - sides[1]) / (2 * h), jacobian.value, keep) < 1e-5
    return rattlers


def seeds(count, always, often):
    """A few seeds in every run, some more in a whole one, all of them where they are asked for: `-m exhaustive`."""
    marks = {s: [] if s in always else [pytest.mark.slow if s in often else pytest.mark.exhaustive] for s in range(count)}
    return [pytest.param(s, marks=marks[s]) for s in range(count)]


@pytest.mark.parametrize("seed", seeds(40, always=(2,), often=(20,)))
def test_jammed_packings(prepare, seed):
    check(prepare, 0.98, "fixed", seed)


@pytest.mark.parametrize("seed", seeds(10, always=(), often=(0,)))
def test_barely_jammed_packings_with_rattlers(prepare, seed):
    check(prepare, 0.86, "fixed", seed)


@pytest.mark.slow
def test_conjugate_gradients_get_along_with_rattlers(prepare):
    assert check(prepare, 0.86, "fixed", 0, "cg").any()


@pytest.mark.parametrize("seed", seeds(4, always=(), often=(2,)))
def test_a_box_that_follows_the_diameter(prepare, seed):
    check(prepare, 0.98, "follows", seed)


def test_an_unjammed_packing_gets_a_status_and_no_numbers(prepare):
    vectors, plan = prepare(0.80, "fixed")
    result = engine.run_case(vectors, plan, identity="0", seed=0)
    assert result.status is Status.SINGULAR
    assert "128 unjammed particles" in result.message
    assert result.products
    for product in result.products:
        assert np.isnan(product.value).all()
        assert np.isnan(product.bound.total).all()
