"""The bound against the true error: solvers stopped early on purpose, truth from Newton's method run to rounding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from implicit_cli.core.certificate import Certifier
from implicit_cli.core.implicit import Point, System, adjoint, forward
from implicit_cli.core.linear import choose, prepare
from implicit_cli.core.linear.base import Operator
from implicit_cli.problem import Constants

D, SAMPLES = 12, 40


def loss(x, theta, data):
    """Logistic regression with a penalty for each weight, penalty = exp(theta)."""
    X, y = data
    return jnp.mean(jnp.logaddexp(jnp.zeros(SAMPLES), -y * (X @ x))) + jnp.exp(theta) @ x**2 / 2


def outputs(x, theta, data):
    return jnp.stack([loss(x, theta, data), x @ x])


gradient = jax.grad(loss)
SYSTEM = System(gradient, outputs, symmetric=True)
descend = jax.jit(lambda x, theta, data: x - 0.9 * gradient(x, theta, data))


def linearise(p):
    operator = Operator(SYSTEM.A_times, SYSTEM.At_times, p, D, symmetric=True)
    return prepare(choose(D, symmetric=True), operator, SYSTEM.A_matrix(p), jnp.zeros((D, 0)))


def make(seed):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(SAMPLES, D))
    y = np.sign(X @ rng.normal(size=D) + 0.5 * rng.normal(size=SAMPLES))
    return Point(jnp.zeros(D), jnp.asarray(rng.uniform(-3.0, -1.0, size=D)), (jnp.asarray(X), jnp.asarray(y)))


def solve_exactly(p):
    for _ in range(30):
        p = p._replace(x=p.x + linearise(p).solve(-gradient(p.x, p.theta, p.data)[:, None]).value[:, 0])
    return p


def study(seeds, steps):
    """Effectivities (bound / true error) of J's columns, of output gradients (forward and adjoint) and of x; and h."""
    ratios = {"J": [], "Y": [], "adjoint": [], "x": []}
    refused = 0
    for seed in seeds:
        p = make(seed)
        exact = solve_exactly(p)
        truth = forward(SYSTEM, exact, linearise(exact), jnp.eye(D))
        for _ in range(steps):
            p = p._replace(x=descend(p.x, p.theta, p.data))
        A = linearise(p)
        certifier = Certifier(SYSTEM, p, A, Constants(), margin=np.inf)
        if not certifier.available:
            refused += 1
            continue
        f = forward(SYSTEM, p, A, jnp.eye(D))
        a = adjoint(SYSTEM, p, A, jnp.zeros((D, 2)), jnp.eye(2))
        in_x, in_y = certifier.forward(f)
        in_adjoint = certifier.adjoint(a)
        for name, parts, value, true in (
            ("J", in_x, f.U, truth.U),
            ("Y", in_y, f.Y, truth.Y),
            ("adjoint", in_adjoint, a.L, truth.Y.T),
        ):
            bound = np.linalg.norm(parts.truncation, axis=0) + np.linalg.norm(parts.linear, axis=0) + parts.rounding
            error = np.linalg.norm(np.asarray(value) - np.asarray(true), axis=0)
            ratios[name].extend(bound / np.maximum(error, 1e-300))
        ratios["x"].append(certifier.certificate.radius / float(jnp.linalg.norm(p.x - exact.x)))
    return {name: np.asarray(values) for name, values in ratios.items()}, refused


@pytest.mark.parametrize("steps", [20, 60, 200])
def test_the_bound_holds_and_is_tight_on_early_stopped_solves(steps):
    ratios, refused = study(range(15), steps)
    assert refused == 0
    for name, most in (("J", 2.5), ("Y", 2.5), ("adjoint", 8.0), ("x", 1.5)):
        assert ratios[name].min() >= 1.0 - 1e-6, name
        assert np.median(ratios[name]) < most, name


def test_a_rough_solution_gets_no_certificate():
    ratios, refused = study(range(10), 0)
    assert refused >= 5
    assert all((values >= 1.0).all() for values in ratios.values())


def test_at_the_solution_rounding_is_what_is_left():
    p = solve_exactly(make(3))
    certifier = Certifier(SYSTEM, p, linearise(p), Constants(), margin=np.inf)
    f = forward(SYSTEM, p, linearise(p), jnp.eye(D))
    in_x, _ = certifier.forward(f)
    assert certifier.certificate.h < 1e-12
    assert np.linalg.norm(in_x.truncation) < 1e-12 * np.linalg.norm(f.U)
    assert (in_x.rounding > 0).all()


def test_proved_constants_give_theorem_1():
    """A quadratic with B = diag(x): gamma = 0, beta = 1, and J(x) - J(x*) = -A^-1 diag(x - x*)."""
    Q = np.diag(np.linspace(1.0, 5.0, 4)) + 0.1

    def F(x, theta, data):
        return data @ x + theta * x - 1.0

    system = System(F, lambda x, theta, data: jnp.zeros(0), symmetric=True)
    theta = jnp.full(4, 0.5)
    A = Q + 0.5 * np.eye(4)
    exact = np.linalg.solve(A, np.ones(4))
    p = Point(jnp.asarray(exact + 1e-3 * np.array([1.0, -2.0, 0.5, 1.0])), theta, jnp.asarray(Q))
    operator = Operator(system.A_times, system.At_times, p, 4, symmetric=True)
    solver = prepare(choose(4, symmetric=True), operator, system.A_matrix(p), jnp.zeros((4, 0)))
    certifier = Certifier(system, p, solver, Constants(alpha=0.5, gamma=0.0, beta=1.0), margin=np.inf)
    assert certifier.proved
    assert certifier.certificate.h == 0.0
    assert certifier.certificate.provenance["h"] == "proved"
    error_x = np.linalg.norm(np.asarray(p.x) - exact)
    assert certifier.certificate.radius == pytest.approx(error_x, rel=1e-9)
    bound = certifier.theorem(R_B=np.abs(p.x), size_of_v=np.ones(4))
    np.testing.assert_allclose(bound, error_x / np.linalg.eigvalsh(A).min(), rtol=1e-9)
    np.testing.assert_allclose(certifier.theorem(R_B=np.abs(p.x), size_of_v=np.full(4, 1e4)), 1e4 * bound)
    columns = np.linalg.norm(np.linalg.inv(A) @ np.diag(np.asarray(p.x) - exact), axis=0)
    assert (bound >= columns).all()


def test_without_proof_there_is_no_theorem_bound():
    p = solve_exactly(make(0))
    certifier = Certifier(SYSTEM, p, linearise(p), Constants(beta=1.0), margin=np.inf)
    assert not certifier.proved
    assert certifier.theorem(np.ones(1), np.ones(1)) is None
