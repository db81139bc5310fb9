"""The bound against the true error: solvers stopped early on purpose, truth from Newton's method run to rounding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from implicit_cli.core.certificate import Certifier
from implicit_cli.core.implicit import Point, System, adjoint, forward
from implicit_cli.core.linear import choose, prepare
from implicit_cli.core.linear.base import Operator
from implicit_cli.core.measured import row_lengths
from implicit_cli.core.nearby import lengths
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


def study(seeds, steps, start=0.0):
    """Effectivities (bound / true error) of J's columns, of output gradients (forward and adjoint) and of x.

    Errors near the rounding of the truth, which is in double precision too, are left out.
    """
    ratios = {"J": [], "Y": [], "adjoint": [], "x": []}
    refused = 0
    for seed in seeds:
        p = make(seed)
        exact = solve_exactly(p)
        p = p._replace(x=p.x + start)
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
            bound = sum(parts.norms())
            error = np.linalg.norm(np.asarray(value) - np.asarray(true), axis=0)
            seen = error > 1e-13 * np.linalg.norm(true, axis=0)
            ratios[name].extend(bound[seen] / error[seen])
        ratios["x"].append(certifier.certificate.radius / float(jnp.linalg.norm(p.x - exact.x)))
    return {name: np.asarray(values) for name, values in ratios.items()}, refused


@pytest.mark.parametrize(("steps", "most"), [pytest.param(0, 2.0, marks=pytest.mark.exhaustive), (5, 1.3), (60, 1.1)])
def test_the_bound_holds_and_is_tight_on_early_stopped_solves(steps, most):
    """The output x'x and the loss: the first order of the loss's error vanishes, so that its bound is looser."""
    ratios, refused = study(range(8), steps)
    assert refused == 0
    for name, times in (("J", 1.0), ("Y", 2.5), ("adjoint", 4.0), ("x", 1.0)):
        assert ratios[name].size >= 8, name
        assert ratios[name].min() >= 1.0, name
        assert np.median(ratios[name]) < times * most, name


def test_a_rough_solution_gets_no_certificate():
    ratios, refused = study(range(10), 0, start=4.0)
    assert refused >= 5
    assert all((values >= 1.0).all() for values in map(np.asarray, ratios.values()))


def test_at_the_solution_rounding_is_what_is_left():
    p = solve_exactly(make(3))
    certifier = Certifier(SYSTEM, p, linearise(p), Constants(), margin=np.inf)
    f = forward(SYSTEM, p, linearise(p), jnp.eye(D))
    truncation, linear, rounding = certifier.forward(f)[0].norms()
    assert certifier.certificate.h < 1e-12
    assert np.linalg.norm(truncation + linear) < 1e-12 * np.linalg.norm(f.U)
    assert (rounding > 0).all()
    assert (rounding < 1e-12 * np.linalg.norm(f.U)).all()


def affine():
    """F = (Q + diag(theta)) x - 1 near its root: gamma = 0, beta = 1, and J(x) - J(x*) = -A^-1 diag(x - x*)."""
    Q = np.diag(np.linspace(1.0, 5.0, 4)) + 0.1

    def F(x, theta, data):
        return data @ x + theta * x - 1.0

    system = System(F, lambda x, theta, data: jnp.zeros(0), symmetric=True)
    A = Q + 0.5 * np.eye(4)
    exact = np.linalg.solve(A, np.ones(4))
    p = Point(jnp.asarray(exact + 1e-3 * np.array([1.0, -2.0, 0.5, 1.0])), jnp.full(4, 0.5), jnp.asarray(Q))
    operator = Operator(system.A_times, system.At_times, p, 4, symmetric=True)
    solver = prepare(choose(4, symmetric=True), operator, system.A_matrix(p), jnp.zeros((4, 0)))
    return system, p, solver, A, exact


def test_proved_constants_give_a_bound_and_theorem_1():
    system, p, solver, A, exact = affine()
    certifier = Certifier(system, p, solver, Constants(alpha=0.5, gamma=0.0, beta=1.0), margin=np.inf)
    c = certifier.certificate
    assert certifier.proved
    assert (c.h, c.gamma, c.beta) == (0.0, 0.0, 1.0)
    assert c.provenance["h"] == c.provenance["gamma"] == "proved"
    error_x = np.linalg.norm(np.asarray(p.x) - exact)
    assert c.radius == pytest.approx(error_x, rel=1e-9)
    assert c.alpha == pytest.approx(np.linalg.eigvalsh(A).min())  # sharper than what was proved, and the same everywhere
    assert c.lipschitz == pytest.approx(1.0 / c.alpha)
    errors = np.linalg.norm(np.linalg.inv(A) @ np.diag(np.asarray(p.x) - exact), axis=0)
    bound = sum(certifier.forward(forward(system, p, solver, jnp.eye(4)))[0].norms())
    assert (bound >= errors).all()
    assert (bound <= 1.02 * errors).all()
    assert (errors <= c.lipschitz * c.radius).all()


def test_the_corrected_derivative_is_of_second_order():
    """An affine F has no second order: what is left is rounding."""
    system, p, solver, A, exact = affine()
    certifier = Certifier(system, p, solver, Constants(), margin=np.inf)
    f = forward(system, p, solver, jnp.eye(4))
    parts, _ = certifier.forward(f)
    J = -np.linalg.inv(A) @ np.diag(exact)
    errors = np.linalg.norm(np.asarray(f.U) + parts.correction - J, axis=0)
    assert (errors < 1e-14).all()
    assert (errors <= sum(parts.corrected.norms()) + 1e-15).all()
    size = []
    for steps in (5, 20):  # x is wrong by 1e-1 and 1e-2 of itself, J by as much, and the corrected one by the square of that
        p = make(1)
        exact_p = solve_exactly(p)
        for _ in range(steps):
            p = p._replace(x=descend(p.x, p.theta, p.data))
        A = linearise(p)
        f, truth = forward(SYSTEM, p, A, jnp.eye(D)), forward(SYSTEM, exact_p, linearise(exact_p), jnp.eye(D)).U
        parts, _ = Certifier(SYSTEM, p, A, Constants(), margin=np.inf).forward(f)
        before, after = (np.linalg.norm(value - truth, axis=0) for value in (f.U, f.U + parts.correction))
        assert (after <= sum(parts.corrected.norms())).all()
        size.append((np.linalg.norm(before), np.linalg.norm(after)))
    order = np.log(size[0][1] / size[1][1]) / np.log(size[0][0] / size[1][0])
    assert order == pytest.approx(2.0, abs=0.4)


def test_without_proof_it_is_an_estimate():
    p = solve_exactly(make(0))
    assert not Certifier(SYSTEM, p, linearise(p), Constants(beta=1.0), margin=np.inf).proved


def test_outputs_that_are_left_out_change_nothing_else():
    p = make(3)
    for _ in range(40):
        p = p._replace(x=descend(p.x, p.theta, p.data))
    A = linearise(p)
    certifier = Certifier(SYSTEM, p, A, Constants(), margin=np.inf)
    whole, bare = forward(SYSTEM, p, A, jnp.eye(D)), forward(SYSTEM.bare, p, A, jnp.eye(D))
    np.testing.assert_array_equal(bare.U, whole.U)
    assert bare.Y.shape == (0, D)
    (in_x, _), (bare_x, nothing) = certifier.forward(whole), certifier.forward(bare)
    np.testing.assert_allclose(bare_x.norms(), in_x.norms(), rtol=1e-6, atol=1e-18)
    assert nothing.correction.shape == (0, D)
    assert not np.any(nothing.norms())


@pytest.mark.parametrize("where", [0, 1, 20, 39])
def test_a_column_whose_terms_cancel_is_no_measure_for_others(where):
    """F = S x - (a + b + c) theta: of 40 columns, of which 16 are measured, one is zero but for the rounding of its terms."""
    n = 40
    S = np.linspace(1.0, 2.0, n)

    def F(x, theta, data):
        a, b, c = data
        return jnp.asarray(S) * x - (a + b + c) * theta

    a, b, c = np.full(n, 0.1), np.full(n, 0.2), np.full(n, 0.7)
    c[where] = -0.3
    system = System(F, lambda x, theta, data: jnp.zeros(0), symmetric=True)
    p = Point(jnp.asarray((a + b + c) / S), jnp.ones(n), tuple(map(jnp.asarray, (a, b, c))))
    operator = Operator(system.A_times, system.At_times, p, n, symmetric=True)
    A = prepare(choose(n, symmetric=True), operator, system.A_matrix(p), jnp.zeros((n, 0)))
    f = forward(system, p, A, jnp.eye(n))
    bound = sum(Certifier(system, p, A, Constants(), margin=np.inf).forward(f)[0].norms())
    true = np.where(np.arange(n) == where, 0.0, 1.0) / S
    error = np.abs(np.diag(f.U) - true)
    assert error[where] > 1e-17
    assert (bound >= error).all()
    assert (bound < 1e-14).all()


def test_a_length_that_overflows_is_infinite_and_no_warning():
    np.testing.assert_array_equal(lengths(np.array([[1e200, 3.0], [0.0, 4.0]])), [np.inf, 5.0])


@pytest.mark.parametrize(("m", "d"), [(5, 300), (130, 200), (300, 70), (300, 130)])
def test_lengths_of_the_rows_of_g_x_are_found_from_either_side(m, d):
    """Many outputs of few unknowns, and few of many: A of (50,000, 3,500) would not fit."""
    rng = np.random.default_rng(m + d)
    G, p = jnp.asarray(rng.normal(size=(m, d))), Point(jnp.zeros(d), jnp.zeros(2), ())
    system = System(lambda x, theta, data: x, lambda x, theta, data: G @ x)
    np.testing.assert_allclose(row_lengths(system, p, m), np.linalg.norm(G, axis=1), rtol=1e-13)
