"""Second derivatives against closed forms and JAX's derivatives of the solution map; their bounds on early-stopped solves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from implicit_cli.core.certificate import Certifier
from implicit_cli.core.implicit import Point, System, forward
from implicit_cli.core.linear import choose, prepare
from implicit_cli.core.linear.base import Operator
from implicit_cli.core.second_order import SecondCertifier, hessians, second
from implicit_cli.problem import Constants

# An affine F that is not symmetric, with parameters through an exponential and products of theta and x: everything in closed form.

pytestmark = pytest.mark.slow

D, N, M = 5, 3, 2


def F(x, theta, data):
    return data["K"] @ x + theta[0] * x - data["C"] @ jnp.exp(theta)


def g(x, theta, data):
    return jnp.stack([x @ x / 2 + theta[1] * x[0], theta @ theta * x[1]])


def solution(theta, data):
    return jnp.linalg.solve(data["K"] + theta[0] * jnp.eye(D), data["C"] @ jnp.exp(theta))


SYSTEM = System(F, g)


def linearise(system, p, *, symmetric=False, method="auto"):
    d = p.x.size
    plan = choose(d, symmetric=symmetric, name=method)
    operator = Operator(system.A_times, system.At_times, p, d, symmetric=symmetric)
    return prepare(plan, operator, system.A_matrix(p) if plan.dense else None, jnp.zeros((d, 0)))


@pytest.fixture
def case():
    rng = np.random.default_rng(3)
    data = {"K": jnp.asarray(4 * np.eye(D) + rng.normal(size=(D, D)) / 2), "C": jnp.asarray(rng.normal(size=(D, N)))}
    theta = jnp.asarray(rng.uniform(-0.5, 0.5, size=N))
    return Point(solution(theta, data), theta, data)


@pytest.mark.parametrize("method", ["lu", "gmres"])
def test_the_closed_form(case, method):
    A = linearise(SYSTEM, case, method=method)
    V = jnp.asarray(np.random.default_rng(4).normal(size=(N, 2)))
    s = second(SYSTEM, case, A, forward(SYSTEM, case, A, V))
    in_x = jax.jacfwd(jax.jacfwd(solution))(case.theta, case.data)
    in_y = jax.jacfwd(jax.jacfwd(lambda theta: g(solution(theta, case.data), theta, case.data)))(case.theta)
    np.testing.assert_allclose(s.U, jnp.einsum("dij,ik,jk->dk", in_x, V, V), rtol=1e-9)
    np.testing.assert_allclose(s.Y, jnp.einsum("dij,ik,jk->dk", in_y, V, V), rtol=1e-9)
    f = forward(SYSTEM, case, A, jnp.eye(N))
    # both outputs, and the unknown x[3], as scalars
    W_x, W_y = jnp.zeros((D, 3)).at[3, 2].set(1.0), jnp.eye(M, 3)
    h = hessians(SYSTEM, case, A, f, W_x, W_y)
    np.testing.assert_allclose(h.H, jnp.concatenate([in_y, in_x[3:4]]), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(h.H, jnp.swapaxes(h.H, 1, 2), rtol=1e-12, atol=1e-14)
    assert (s.solved.status == 0).all()
    assert (h.solved.status == 0).all()


def test_a_hessian_along_other_columns_is_the_same_one_seen_from_there(case):
    A = linearise(SYSTEM, case)
    V = jnp.asarray(np.random.default_rng(5).normal(size=(N, 2)))
    W_x, W_y = jnp.zeros((D, M)), jnp.eye(M)
    whole = hessians(SYSTEM, case, A, forward(SYSTEM, case, A, jnp.eye(N)), W_x, W_y).H
    seen = hessians(SYSTEM, case, A, forward(SYSTEM, case, A, V), W_x, W_y).H
    np.testing.assert_allclose(seen, jnp.einsum("sij,ik,jl->skl", whole, V, V), rtol=1e-11, atol=1e-13)


# Logistic regression, stopped early: the bound against the true error.

DL, SAMPLES = 7, 30


def loss(x, theta, data):
    X, y = data
    return jnp.mean(jnp.logaddexp(jnp.zeros(SAMPLES), -y * (X @ x))) + jnp.exp(theta) @ x**2 / 2


def outputs(x, theta, data):
    return jnp.stack([loss(x, theta, data), x @ x])


gradient = jax.grad(loss)
LOGISTIC = System(gradient, outputs, symmetric=True)
descend = jax.jit(lambda x, theta, data: x - 0.9 * gradient(x, theta, data))


def make(seed):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(SAMPLES, DL))
    y = np.sign(X @ rng.normal(size=DL) + 0.5 * rng.normal(size=SAMPLES))
    return Point(jnp.zeros(DL), jnp.asarray(rng.uniform(-3.0, -1.0, size=DL)), (jnp.asarray(X), jnp.asarray(y)))


def solve_exactly(p):
    for _ in range(15):
        A = linearise(LOGISTIC, p, symmetric=True)
        p = p._replace(x=p.x + A.solve(-gradient(p.x, p.theta, p.data)[:, None]).value[:, 0])
    return p


def everything(p):
    A = linearise(LOGISTIC, p, symmetric=True)
    f = forward(LOGISTIC, p, A, jnp.eye(DL))
    s = second(LOGISTIC, p, A, f)
    h = hessians(LOGISTIC, p, A, f, jnp.zeros((DL, 2)), jnp.eye(2))
    certifier = Certifier(LOGISTIC, p, A, Constants(), margin=np.inf)
    return f, s, h, certifier


def total(parts, axis):
    """The bound of each column, of a stack of Hessians (axis 1) or of one matrix."""
    if axis == 0:
        return sum(parts.norms())
    return np.linalg.norm(parts.truncation, axis=axis) + np.linalg.norm(parts.linear, axis=axis) + parts.rounding


def study(seeds, steps):
    """Effectivities (bound / true error), per column, of d2x[v, v], d2y[v, v] and the Hessians of both outputs."""
    ratios = {"U": [], "Y": [], "H": []}
    for seed in seeds:
        p = make(seed)
        _, exact_s, exact_h, _ = everything(solve_exactly(p))
        for _ in range(steps):
            p = p._replace(x=descend(p.x, p.theta, p.data))
        f, s, h, certifier = everything(p)
        if not certifier.available:
            continue
        found = SecondCertifier(certifier, f)
        in_x, in_y = found.second(s)
        in_H = found.hessians(h)
        for name, parts, value, truth in (
            ("U", in_x, s.U, exact_s.U),
            ("Y", in_y, s.Y, exact_s.Y),
            ("H", in_H, h.H, exact_h.H),
        ):
            axis = value.ndim - 2
            bound = total(parts, axis)
            error = np.linalg.norm(np.asarray(value) - np.asarray(truth), axis=axis)
            ratios[name].extend(np.ravel(bound / np.maximum(error, 1e-300)))
    return {name: np.asarray(values) for name, values in ratios.items()}


@pytest.mark.parametrize("steps", [30, pytest.param(120, marks=pytest.mark.exhaustive)])
def test_the_bound_holds_and_is_tight_on_early_stopped_solves(steps):
    ratios = study(range(8), steps)
    for name, values in ratios.items():
        assert values.size >= 5 * DL, name
        assert values.min() >= 1.0, name
        assert np.median(values) < 6.0, name


def test_at_the_solution_rounding_is_what_is_left():
    p = solve_exactly(make(3))
    f, s, h, certifier = everything(p)
    found = SecondCertifier(certifier, f)
    in_x, _ = found.second(s)
    in_H = found.hessians(h)
    assert np.linalg.norm(in_x.norms()[0]) < 1e-10 * np.linalg.norm(s.U)
    assert np.linalg.norm(in_H.truncation) < 1e-10 * np.linalg.norm(h.H)
    assert (in_x.norms()[2] > 0).all()
    assert (in_H.rounding > 0).all()
    assert np.linalg.norm(in_H.rounding) < 1e-10 * np.linalg.norm(h.H)


def test_a_loose_linear_solve_is_in_the_bound():
    p = solve_exactly(make(1))
    plan = choose(DL, symmetric=True, name="cg", max_steps=5, escalate=False)
    operator = Operator(LOGISTIC.A_times, LOGISTIC.At_times, p, DL, symmetric=True)
    A = prepare(plan, operator, None, jnp.zeros((DL, 0)))
    _, exact_s, exact_h, certifier = everything(p)
    f = forward(LOGISTIC, p, A, jnp.eye(DL))
    found = SecondCertifier(certifier, f)
    s, h = second(LOGISTIC, p, A, f), hessians(LOGISTIC, p, A, f, jnp.zeros((DL, 2)), jnp.eye(2))
    for parts, value, truth, axis in ((found.second(s)[0], s.U, exact_s.U, 0), (found.hessians(h), h.H, exact_h.H, 1)):
        error = np.linalg.norm(np.asarray(value) - np.asarray(truth), axis=axis)
        bound = total(parts, axis)
        assert error.max() > 1e-7
        assert (bound >= 0.9 * error).all()
