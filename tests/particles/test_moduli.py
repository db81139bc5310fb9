"""Elastic constants against dense linear algebra and against stress itself; moduli against those of isotropic materials."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from implicit_cli.particles.base import tensor
from implicit_cli.particles.moduli import averages, elastic, relaxed
from implicit_cli.status import Status

RNG = np.random.default_rng(4)
N = 4
BONDS = [(i, j) for i in range(N) for j in range(i)]
LENGTHS = RNG.uniform(0.8, 1.2, len(BONDS))


def energy(R, more, given):
    """Springs between all of four particles, those in the plane held by a periodic field that follows the strain."""
    D = (R[jnp.array([i for i, _ in BONDS])] - R[jnp.array([j for _, j in BONDS])]) @ (jnp.eye(2) + tensor(more, 2))
    field = jnp.sum(jnp.cos(R @ jnp.array([[2.0, 0.3], [0.1, 1.7]])) * (1.0 + more[0]))
    return given["k"] * jnp.sum((jnp.linalg.norm(D, axis=1) - LENGTHS) ** 2) - given["depth"] * field


def volume(more, given):
    return given["V"] * jnp.linalg.det(jnp.eye(2) + tensor(more, 2))


def minimum(given, R):
    still, gradient, hessian = jnp.zeros(3), jax.jit(jax.grad(energy)), jax.jit(jax.hessian(energy))
    for _ in range(200):
        F = np.ravel(gradient(R, still, given))
        A = np.reshape(hessian(R, still, given), (2 * N, 2 * N))
        values, vectors = np.linalg.eigh(A)
        R = R - (vectors @ ((vectors.T @ F) / np.maximum(np.abs(values), 0.3))).reshape(N, 2)
    assert np.abs(gradient(R, still, given)).max() < 1e-13
    assert values.min() > 0.1
    return R


GIVEN = {"k": 1.5, "depth": 0.6, "V": 3.0}
STILL = jnp.zeros(3)


@pytest.fixture(scope="module")
def R():
    """Positions at a minimum."""
    return minimum(GIVEN, jnp.asarray(np.random.default_rng(5).uniform(-0.7, 0.7, (N, 2))))


@jax.jit
def dense(R, more, given):
    """The definition: dstress/dstrain + dstress/dR dR/dstrain, with the Hessian inverted."""

    def stress(R, more):
        return jax.grad(energy, argnums=1)(R, more, given) / volume(more, given)

    A = jax.hessian(energy)(R, more, given).reshape(2 * N, 2 * N)
    B = jax.jacfwd(jax.grad(energy), argnums=1)(R, more, given).reshape(2 * N, 3)
    return jax.jacfwd(stress, 1)(R, more) - jax.jacfwd(stress)(R, more).reshape(3, 2 * N) @ jnp.linalg.solve(A, B)


def test_elastic_constants_are_those_of_dense_algebra(R):
    C = jax.jit(lambda R: elastic(energy, volume, R, STILL, GIVEN))(R)
    np.testing.assert_allclose(C, dense(R, STILL, GIVEN), rtol=1e-11, atol=1e-11)
    born = jax.jit(jax.jacfwd(jax.grad(energy, argnums=1), 1))(R, STILL, GIVEN) / 3.0
    assert np.abs(np.asarray(born - C)).max() > 0.1  # they do relax


@pytest.mark.parametrize("order", [1, pytest.param(2, marks=pytest.mark.exhaustive)])
def test_their_derivatives_are_those_of_dense_algebra(R, order):
    """In the positions too, which is what the adjoint goes through."""
    flat, unravel = ravel_pytree((R, GIVEN))
    weights = jnp.asarray(RNG.normal(size=(3, 3)))

    def found(v):
        return jnp.vdot(weights, elastic(energy, volume, unravel(v)[0], STILL, unravel(v)[1]))

    def truth(v):
        return jnp.vdot(weights, dense(unravel(v)[0], STILL, unravel(v)[1]))

    derivative = (jax.grad, jax.hessian)[order - 1]
    expected = np.asarray(jax.jit(derivative(truth))(flat))
    np.testing.assert_allclose(jax.jit(derivative(found))(flat), expected, atol=1e-9 * np.abs(expected).max())


def test_what_does_not_relax_is_nan():
    A = jnp.diag(jnp.array([1.0, 2.0, 0.0]))
    found = jax.jit(lambda b: relaxed(lambda u: A @ u, b))
    np.testing.assert_allclose(found(jnp.array([1.0, 1.0, 0.0])), [1.0, 0.5, 0.0], rtol=1e-14)
    assert np.isnan(found(jnp.array([1.0, 1.0, 1.0]))).all()


@pytest.mark.parametrize("dim", [2, 3])
def test_moduli_of_an_isotropic_material(dim):
    """C_abcd = lambda d_ab d_cd + mu (d_ac d_bd + d_ad d_bc), whose bulk modulus is lambda + 2 mu / dim."""
    lam, mu, components = 0.7, 0.4, dim * (dim + 1) // 2
    C = np.zeros((components, components))
    C[:dim, :dim] = lam + 2 * mu * np.eye(dim)
    C[dim:, dim:] = mu * np.eye(components - dim)
    assert averages(jnp.asarray(C), dim) == pytest.approx((lam + 2 * mu / dim, mu), rel=1e-14)


def test_a_hexagonal_crystal_is_as_stiff_in_all_directions_of_its_plane():
    """Voigt's average over orientations is the average over orientations."""
    C = RNG.normal(size=(3, 3))
    C = C + C.T
    full = np.empty((2, 2, 2, 2))
    place = {(0, 0): 0, (1, 1): 1, (0, 1): 2, (1, 0): 2}
    for index in np.ndindex(2, 2, 2, 2):
        full[index] = C[place[index[:2]], place[index[2:]]]
    shear = []
    for angle in np.linspace(0, np.pi, 16, endpoint=False):
        Q = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        shear.append(np.einsum("ai,bj,ck,dl,ijkl->abcd", Q, Q, Q, Q, full)[0, 1, 0, 1])
    assert averages(jnp.asarray(C), 2)[1] == pytest.approx(np.mean(shear), rel=1e-12)


@pytest.mark.exhaustive
def test_moduli_and_their_derivatives_in_a_result(solve):
    """A crystal with a vacancy: the constants are the derivatives of stress, energies scale them, and differences agree."""
    text = (
        "problem: lennard_jones\nstructure: {{lattice: hexagonal, a: 1.12, repeat: [3, 2], vacancies: [0], rattle: 0.01}}\n"
        "options: {{cutoff: 2.0, onset: 1.6, moduli: true}}\nparameters: {{sigma: {sigma}, epsilon: 1.3}}\nseed: 2\n"
        "sensitivity: {{of: [stress, elastic, bulk_modulus, shear_modulus], wrt: [{wrt}]}}\n"
    )
    result, found = solve(text.format(sigma=1.0, wrt="strain, sigma, epsilon"))
    assert result.status is Status.OK, result.message
    np.testing.assert_allclose(result.outputs["elastic"], found["jacobian", "", "stress", "strain"].value, atol=1e-9)
    for of in ("elastic", "bulk_modulus", "shear_modulus"):
        by_epsilon = found["jacobian", "", of, "epsilon"]
        error = np.linalg.norm(np.ravel(by_epsilon.value) - np.ravel(result.outputs[of]) / 1.3)
        assert error <= by_epsilon.bound.total.max() + 1e-12
        assert by_epsilon.bound.total.max() < 1e-8
    h = 1e-4
    sides = [solve(text.format(sigma=1.0 + s * h, wrt="epsilon"))[0].outputs["bulk_modulus"] for s in (1, -1, 2, -2)]
    richardson = (8 * (sides[0] - sides[1]) - (sides[2] - sides[3])) / (12 * h)
    by_sigma = found["jacobian", "", "bulk_modulus", "sigma"].value
    assert by_sigma.ravel() == pytest.approx(richardson, rel=1e-7)
