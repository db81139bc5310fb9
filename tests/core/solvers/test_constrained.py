"""Solvers of constrained programs: planted solutions, references of others, and a status where there is no solution."""

import sys
from collections import namedtuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linprog

from implicit_cli.core.conditions import kkt
from implicit_cli.core.implicit import Point
from implicit_cli.core.solvers.base import Goal, Limits, iterate, residual, run
from implicit_cli.core.solvers.clarabel import Clarabel
from implicit_cli.core.solvers.host import drive
from implicit_cli.core.solvers.nlp import Slopes, Slsqp, TrustConstr, multipliers
from implicit_cli.core.solvers.qp import Qp, Quadratic, extractor, is_qp
from implicit_cli.errors import EnvironmentProblem
from implicit_cli.status import Status

X = namedtuple("X", "x nu lam")
HOST = {"clarabel": Clarabel, "slsqp": Slsqp, "trust_constr": TrustConstr}


def goal_of(f, h, g, n, p, m):
    """The goal of a `kkt` condition with x (n,), nu (p,), lam (m,) end to end; theta is not used, f, h, g take `(x, data)`."""
    condition = kkt(f, h, g)

    def split(x):
        return X(x[:n], x[n : n + p], x[n + p :])

    def on_vectors(function):
        return None if function is None else lambda x, theta, data: function(split(x), data)

    def F(x, theta, data):
        found = condition.F(split(x), data)
        return jnp.concatenate([found.x, found.nu, found.lam])

    limits = Limits(on_vectors(h), on_vectors(g), ((0, n),), (n, n + p), (n + p, n + p + m))
    return Goal(F, f=on_vectors(f), limits=limits)


def quadratic_goal(n, p, m):
    return goal_of(
        lambda x, d: 0.5 * x.x @ d.Q @ x.x + d.c @ x.x, lambda x, d: d.A @ x.x - d.b, lambda x, d: d.G @ x.x - d.h, n, p, m
    )


N, P, M = 7, 2, 9
QP = quadratic_goal(N, P, M)


def planted(seed, n=N, p=P, m=M, *, rank=None):
    """A program with a known solution (n,), nu (p,), lam (m,): strictly complementary, and unique where enough is active."""
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(n, n if rank is None else rank))
    A, G, x, nu = (rng.normal(size=shape) for shape in ((p, n), (m, n), n, p))
    active = np.arange(m) < (n - p if rank == 0 else 3)
    lam = np.where(active, rng.uniform(0.5, 2.0, m), 0.0)
    h = G @ x + np.where(active, 0.0, rng.uniform(0.5, 2.0, m))
    Q = root @ root.T / n
    program = Quadratic(Q, -(Q @ x + A.T @ nu + G.T @ lam), A, A @ x, G, h)
    return Quadratic(*map(jnp.asarray, program)), np.concatenate([x, nu, lam])


def start(goal, data, x=None):
    size = goal.limits.lam[1]
    return Point(jnp.zeros(size) if x is None else jnp.zeros(size).at[: len(x)].set(jnp.asarray(x, float)), jnp.zeros(0), data)


def solve(name, goal, p, *, tol=1e-8, max_steps=300):
    if name == "qp":
        return iterate(Qp(goal), goal, p, tol=tol, max_steps=max_steps)
    return drive(HOST[name](goal), goal, p, tol=tol, max_steps=max_steps)


# Quadratic programs


@pytest.mark.parametrize("name", ["qp", *HOST])
@pytest.mark.parametrize("rank", [None, 0], ids=["quadratic", "linear"])
def test_a_planted_solution_is_found_with_its_multipliers(name, rank):
    data, expected = planted(3, rank=rank)
    tol = 1e-6 if (name, rank) == ("trust_constr", 0) else 1e-8
    solution = solve(name, QP, start(QP, data), tol=tol)
    assert solution.status is Status.OK
    assert solution.name == name
    np.testing.assert_allclose(solution.x, expected, atol=100 * tol)
    now = float(residual(QP, start(QP, data)._replace(x=solution.x)))
    assert solution.history[-1] == pytest.approx(now, rel=1e-3, abs=1e-14)


@pytest.mark.parametrize("seed", range(8))
def test_the_interior_point_ends_at_rounding_in_a_few_steps(seed):
    data, expected = planted(seed, rank=(None, 4, 0)[seed % 3])
    solution = solve("qp", QP, start(QP, data), tol=1e-13)
    assert solution.status is Status.OK
    assert solution.steps <= 20
    np.testing.assert_allclose(solution.x, expected, atol=1e-11)


def test_a_linear_program_against_highs():
    rng = np.random.default_rng(2)
    A, x = rng.normal(size=(P, N)), rng.uniform(0.0, 1.0, N)
    G, h = np.concatenate([-np.eye(N), np.ones((1, N)), rng.normal(size=(1, N))]), np.concatenate([np.zeros(N), [10.0, 9.0]])
    c = rng.normal(size=N)
    reference = linprog(c, G, h, A, A @ x, bounds=(None, None), method="highs")
    data = Quadratic(*map(jnp.asarray, (np.zeros((N, N)), c, A, A @ x, G, h)))
    solution = solve("qp", QP, start(QP, data), tol=1e-12)
    np.testing.assert_allclose(solution.x[:N], reference.x, atol=1e-10)
    np.testing.assert_allclose(solution.x[N : N + P], -reference.eqlin.marginals, atol=1e-10)
    np.testing.assert_allclose(solution.x[N + P :], -reference.ineqlin.marginals, atol=1e-10)


def test_scales_far_from_one_do_no_harm():
    data, expected = planted(4)
    big = data._replace(Q=1e6 * data.Q, c=1e6 * data.c, G=1e-3 * data.G, h=1e-3 * data.h)
    solution = solve("qp", QP, start(QP, big), tol=1e-7)
    assert solution.status is Status.OK
    np.testing.assert_allclose(solution.x[:N], expected[:N], atol=1e-9)


def test_it_runs_compiled_and_batched():
    programs, expected = zip(*(planted(seed) for seed in range(5)), strict=True)
    batch = jax.tree.map(lambda *parts: jnp.stack(parts), *programs)
    found = jax.jit(jax.vmap(lambda data: run(Qp(QP), QP, start(QP, data), tol=1e-12, max_steps=40)))(batch)
    assert (found.status == int(Status.OK)).all()
    np.testing.assert_allclose(found.x, np.stack(expected), atol=1e-11)


def test_redundant_constraints_leave_the_primal_solution_alone():
    """Every constraint twice: multipliers are not unique, their sums are."""
    data, expected = planted(6, p=1, m=4)
    twice = data._replace(
        A=jnp.tile(data.A, (2, 1)), b=jnp.tile(data.b, 2), G=jnp.tile(data.G, (2, 1))[:-1], h=jnp.tile(data.h, 2)[:-1]
    )
    wide = twice._replace(G=jnp.concatenate([twice.G, -jnp.ones((2, N))]), h=jnp.concatenate([twice.h, jnp.full(2, 50.0)]))
    for name in ("qp", "clarabel"):
        x = solve(name, QP, start(QP, wide), tol=1e-9).x
        np.testing.assert_allclose(x[:N], expected[:N], atol=1e-8)
        np.testing.assert_allclose(x[N] + x[N + 1], expected[N], atol=1e-8)
        np.testing.assert_allclose(x[N + 2 : N + 5] + x[N + 6 : N + 9], expected[N + 1 : N + 4], atol=1e-7)


def test_extraction_reads_the_program_off_the_functions():
    data, _ = planted(1)
    found = extractor(QP)(start(QP, data, np.arange(1.0, N + 1)))
    for one, other in zip(found, data, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-12)


def parts(f, h=None, g=None, m=0):
    return goal_of(f, h, g, 2, 1 if h else 0, m)


@pytest.mark.parametrize(
    ("expected", "goal"),
    [
        (True, parts(lambda x, d: x.x @ x.x + x.x[0], lambda x, d: x.x[:1] - 1.0, lambda x, d: -x.x, 2)),
        (True, parts(lambda x, d: x.x[0] ** 2 - x.x[1] ** 2, lambda x, d: x.x[1:] - 1.0)),  # convex where h holds
        (False, parts(lambda x, d: x.x[0] ** 2 - x.x[1] ** 2)),
        (False, parts(lambda x, d: x.x @ x.x + x.x[0] ** 3)),
        (False, parts(lambda x, d: jnp.sum(x.x**4))),
        (False, parts(lambda x, d: jnp.sum(jnp.where(jnp.abs(x.x) < 1.0, x.x**2, 2.0 * jnp.abs(x.x) - 1.0)))),  # Huber
        (False, parts(lambda x, d: x.x @ x.x, lambda x, d: x.x[:1] ** 2 - 1.0)),
        (False, parts(lambda x, d: x.x @ x.x, None, lambda x, d: jnp.exp(x.x) - 1.0, 2)),
        (False, parts(lambda x, d: x.x @ x.x, None, lambda x, d: jnp.nan * x.x, 2)),
        (False, Goal(lambda x, theta, data: x)),
    ],
)
def test_quadratic_programs_are_recognised(expected, goal):
    p = Point(jnp.zeros(2 if goal.limits is None else goal.limits.lam[1]), jnp.zeros(0), None)
    assert is_qp(goal, p) is expected


# No solution


def filled(Q, c, A, b, G, h):
    """A smaller program brought to the shape of QP: further unknowns are pulled to zero and bounded far away."""
    n, p, m = len(c), len(b), len(h)
    data = Quadratic(*(np.zeros(shape) for shape in ((N, N), N, (P, N), P, (M, N), M)))
    data.Q[:n, :n], data.Q[n:, n:] = Q, np.eye(N - n)
    data.c[:n], data.A[:p, :n], data.b[:p], data.G[:m, :n], data.h[:m] = c, np.reshape(A, (p, n)), b, np.reshape(G, (m, n)), h
    data.A[p:, n : n + P - p] = np.eye(P - p)
    data.G[m:, -1], data.h[m:] = 1.0, 9.0
    return Quadratic(*map(jnp.asarray, data))


EMPTY = {
    # x_1 >= 6, x_2 >= 6, x_1 + x_2 <= 11
    "infeasible": filled(np.zeros((2, 2)), [1.0, 1.0], [], [], [[-1.0, 0], [0, -1.0], [1.0, 1.0]], [-6.0, -6.0, 11.0]),
    # x_1 + x_2 = 1, 2 x_1 + 2 x_2 = 3
    "infeasible equalities": filled(np.eye(2), [0.0, 0.0], [[1.0, 1], [2, 2]], [1.0, 3.0], -np.eye(2), [0.0, 0.0]),
    # min x_1 - 2 x_2 + x_3, x_1 + x_2 >= 0, x_3 = 1
    "unbounded": filled(np.zeros((3, 3)), [1.0, -2.0, 1.0], [[0.0, 0, 1]], [1.0], [[-1.0, -1, 0]], [0.0]),
}


@pytest.mark.parametrize("name", ["qp", *HOST])
@pytest.mark.parametrize("case", EMPTY)
def test_no_solution_is_a_status(case, name):
    solution = solve(name, QP, start(QP, EMPTY[case], [5.0, -3.0]), max_steps=60)
    assert solution.status in (Status.NOT_CONVERGED, Status.NOT_FINITE)


@pytest.mark.parametrize("name", ["qp", *HOST])
def test_a_root_of_F_outside_of_the_feasible_set_is_not_taken(name):
    """min x'x / 2, x >= 1 from x = 0, lam = 0: F vanishes there."""
    data = filled(np.eye(2), [0.0, 0.0], [], [], -np.eye(2), [-1.0, -1.0])
    p = start(QP, data)
    assert not QP.F(p.x, p.theta, p.data).any()
    solution = solve(name, QP, p)
    assert solution.status is Status.OK
    np.testing.assert_allclose(np.asarray(solution.x)[[0, 1, N + P, N + P + 1]], 1.0, atol=1e-7)


@pytest.mark.parametrize("name", ["qp", "slsqp", "trust_constr"])
def test_out_of_steps_is_a_status(name):
    data, _ = planted(0)
    solution = solve(name, QP, start(QP, data), tol=1e-10, max_steps=2)
    assert (solution.status, solution.steps) == (Status.NOT_CONVERGED, 2)


def test_a_missing_clarabel_is_named_with_its_cure(monkeypatch):
    monkeypatch.setitem(sys.modules, "clarabel", None)
    with pytest.raises(EnvironmentProblem, match="pip install clarabel"):
        solve("clarabel", QP, start(QP, planted(0)[0]))


# Nonlinear programs


def hs071(x, d):
    a, b, c, e = x.x
    return a * e * (a + b + c) + c


HS071 = goal_of(
    hs071,
    lambda x, d: jnp.sum(x.x**2)[None] - 40.0,
    lambda x, d: jnp.concatenate([25.0 - jnp.prod(x.x)[None], 1.0 - x.x, x.x - 5.0]),
    4,
    1,
    9,
)


@pytest.mark.parametrize("name", ["slsqp", "trust_constr"])
def test_a_nonlinear_program(name):
    """Problem 71 of Hock and Schittkowski: not convex, x* = (1, 4.7429996, 3.8211500, 1.3794083), f = 17.0140173."""
    p = start(HS071, None, [1.0, 5.0, 5.0, 1.0])
    solution = solve(name, HS071, p, tol=1e-7, max_steps=400)
    assert solution.status is Status.OK
    assert len(solution.history) == solution.steps > 3
    np.testing.assert_allclose(solution.x[:4], [1.0, 4.7429996, 3.8211500, 1.3794083], atol=1e-6)
    assert float(HS071.f(solution.x, p.theta, p.data)) == pytest.approx(17.0140173, abs=1e-6)


def test_multipliers_are_recovered_where_constraints_are_nearly_active():
    """Gradients fit exactly: planted multipliers come back, zero where the slack is large, never negative."""
    data, expected = planted(5)
    slopes = Slopes(np.asarray(0.0), np.zeros(P), np.asarray(data.G) @ expected[:N] - data.h - 1e-5, None, data.A, data.G)
    slopes = slopes._replace(df=np.asarray(data.Q @ expected[:N] + data.c))
    nu, lam = multipliers(slopes)
    np.testing.assert_allclose(np.concatenate([nu, lam]), expected[N:], atol=1e-10)
    upwards = slopes._replace(df=-slopes.df)
    assert (multipliers(upwards)[1] >= 0.0).all()
    nowhere = multipliers(slopes._replace(df=np.full(N, np.nan)))
    assert not np.concatenate(nowhere).any()
