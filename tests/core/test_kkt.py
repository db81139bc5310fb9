"""Derivatives through the KKT conditions against closed forms, the active set and finite differences."""

from collections import namedtuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import nnls

from implicit_cli.core.conditions import kkt
from implicit_cli.core.implicit import Point
from implicit_cli.core.solvers.base import Goal, Limits, iterate
from implicit_cli.core.solvers.qp import Qp, Quadratic
from implicit_cli.status import Status

pytestmark = pytest.mark.slow

X = namedtuple("X", "x nu lam")


class Problem:
    """A `kkt` condition in x (n,), nu (p,), lam (m,), its functions of `(x, theta)`, and the derivative by A J = -B."""

    def __init__(self, f, h, g, n, p, m):
        self.n, self.p, self.m = n, p, m
        self.condition = kkt(f, h, g)
        self.linearised = jax.jit(lambda x, theta: (self.F(x, theta), *jax.jacfwd(self.F, argnums=(0, 1))(x, theta)))

    def split(self, x):
        return X(x[: self.n], x[self.n : self.n + self.p], x[self.n + self.p :])

    def F(self, x, theta):
        found = self.condition.F(self.split(x), theta)
        return jnp.concatenate([found.x, found.nu, found.lam])

    def margin(self, x, theta):
        return float(self.condition.margin(self.split(x), theta))

    def jacobian(self, x, theta):
        """J, a pytree like theta with a leading axis of x: by LU, and by the pseudo-inverse where A is singular."""
        F, A, B = self.linearised(x, theta)
        np.testing.assert_allclose(F, 0.0, atol=1e-11)
        if np.linalg.cond(A) < 1e10:
            return jax.tree.map(lambda b: np.asarray(jnp.linalg.solve(A, -b.reshape(len(A), -1))).reshape(b.shape), B)
        inverse = np.linalg.pinv(A, rcond=1e-10)
        return jax.tree.map(lambda b: -np.tensordot(inverse, b, axes=1), B)

    def goal(self):
        def on_vectors(function):
            return None if function is None else lambda x, theta, data: function(self.split(x), data)

        ends = self.n, self.n + self.p, self.n + self.p + self.m
        h, g = self.condition.constraints[:2]
        limits = Limits(on_vectors(h), on_vectors(g), ((0, ends[0]),), ends[:2], ends[1:])
        return Goal(lambda x, theta, data: self.F(x, data), f=on_vectors(self.condition.objective), limits=limits)


class QuadraticProblem(Problem):
    """All of Q, c, A, b, G, h are parameters."""

    def __init__(self, n, p, m):
        super().__init__(
            lambda x, t: 0.5 * x.x @ t.Q @ x.x + t.c @ x.x,
            lambda x, t: t.A @ x.x - t.b,
            (lambda x, t: t.G @ x.x - t.h) if m else None,
            n,
            p,
            m,
        )
        self._goal = self.goal()

    def solve(self, theta):
        size = self.n + self.p + self.m
        solution = iterate(Qp(self._goal), self._goal, Point(jnp.zeros(size), jnp.zeros(0), theta), tol=1e-12, max_steps=100)
        assert solution.status is Status.OK
        return solution.x


PROBLEMS = {shape: QuadraticProblem(*shape) for shape in ((6, 1, 12), (6, 0, 6), (6, 2, 0))}


def program(Q, c, A, b, G, h):
    n = len(c)
    shapes = (n, n), n, (-1, n), -1, (-1, n), -1
    return Quadratic(
        *(jnp.asarray(np.reshape(np.asarray(part, float), shape)) for part, shape in zip((Q, c, A, b, G, h), shapes, strict=True))
    )


# x >= 0, and x <= 9, which is never active but shares the compiled programs with boxes
NON_NEGATIVE = np.concatenate([-np.eye(6), np.eye(6)]), np.concatenate([np.zeros(6), np.full(6, 9.0)])


def of_active_set(theta, x, active):
    """dx/dc, dx/db and dx/dh in closed form: the inverse of the KKT matrix of the constraints that are active."""
    Q, _, A, b, G, h = map(np.asarray, theta)
    n, rows = len(Q), np.concatenate([A, G[active]])
    K = np.block([[Q, rows.T], [rows, np.zeros((len(rows), len(rows)))]])
    inverse = np.linalg.inv(K)[:n]
    by_h = np.zeros((n, len(h)))
    by_h[:, active] = inverse[:, n + len(b) :]
    return {"c": -inverse[:, :n], "b": inverse[:, n : n + len(b)], "h": by_h}


# The quadratic programs of JAXopt's tests


def mixed():
    """Random, with equalities and bounds."""
    rng = np.random.default_rng(1)
    root = rng.normal(size=(6, 6))
    return program(root @ root.T / 6, rng.normal(size=6), np.ones((1, 6)), [1.0], *NON_NEGATIVE)


def simplex():
    """Euclidean projection on the probability simplex."""
    v = [0.9, -0.4, 0.5, 0.1, -1.2, 0.35]
    return program(np.eye(6), np.negative(v), np.ones((1, 6)), [1.0], *NON_NEGATIVE)


def portfolio():
    """Risk of a factor model minus return, no short sales."""
    rng = np.random.default_rng(0)
    factors, returns = rng.normal(size=(6, 2)), rng.normal(size=6)
    risk = 2.0 * (factors @ factors.T + np.diag(rng.uniform(0.1, np.sqrt(2.0), 6)))
    return program(risk, -returns, np.ones((1, 6)), [1.0], *NON_NEGATIVE)


def linear_with_ridge():
    """min c'x + abs(x)^2 / 20 on the simplex."""
    c = [0.3, 0.1, 0.15, 0.9, 0.12, 0.5]
    return program(0.1 * np.eye(6), c, np.ones((1, 6)), [1.0], *NON_NEGATIVE)


def support_vectors():
    """The dual of a kernel SVM: 0 <= beta_i y_i <= C, sum beta = 0."""
    rng = np.random.default_rng(7)
    y = np.asarray([1.0, 1.0, 1.0, -1.0, -1.0, -1.0])
    points = rng.normal(size=(6, 3)) + 0.5 * y[:, None]
    K = np.exp(-0.5 * np.sum((points[:, None] - points[None]) ** 2, axis=2))
    G = np.concatenate([-np.diag(y), np.diag(y)])
    return program(K, -y, np.ones((1, 6)), [0.0], G, np.concatenate([np.zeros(6), np.full(6, 0.9)]))


def least_squares():
    """Non-negative least squares."""
    rng = np.random.default_rng(5)
    data, target = rng.normal(size=(9, 6)), rng.normal(size=9)
    return program(data.T @ data, -data.T @ target, [], [], -np.eye(6), np.zeros(6))


def lasso():
    """abs(data x - target)^2 / 2 + 2 abs(x)_1 with x = x+ - x-, both at least 0; a little ridge keeps pairs apart."""
    rng = np.random.default_rng(6)
    data, target = rng.normal(size=(9, 3)), 3.0 * rng.normal(size=9)
    gram, slope = data.T @ data, data.T @ target
    Q = np.block([[gram, -gram], [-gram, gram]]) + 0.01 * np.eye(6)
    return program(Q, np.concatenate([2.0 - slope, 2.0 + slope]), [], [], -np.eye(6), np.zeros(6))


@pytest.mark.parametrize(
    "case",
    [
        *(mixed, portfolio, support_vectors),
        *(pytest.param(case, marks=pytest.mark.exhaustive) for case in (simplex, linear_with_ridge, least_squares, lasso)),
    ],
)
def test_quadratic_programs(case):
    theta = case()
    problem = PROBLEMS[theta.c.size, theta.b.size, theta.h.size]
    x = problem.solve(theta)
    v, _, lam = map(np.asarray, problem.split(x))
    active = lam > 1e-6
    assert 0 < active.sum() < min(len(active), 6 - len(theta.b)) + 1
    assert problem.margin(x, theta) > 1e-3
    J = problem.jacobian(x, theta)
    for name, expected in of_active_set(theta, v, active).items():
        np.testing.assert_allclose(getattr(J, name)[:6], expected, atol=1e-10)

    rng = np.random.default_rng(9)  # all parameters at once
    direction = jax.tree.map(lambda a: jnp.asarray(rng.normal(size=a.shape)), theta)
    direction = direction._replace(Q=direction.Q + direction.Q.T)
    pushed = sum(np.tensordot(j, d, axes=d.ndim) for j, d in zip(J, direction, strict=True))
    errors = []
    for step in (1e-4, 1e-5, 1e-6):
        one, other = (problem.solve(jax.tree.map(lambda a, d, s=s: a + s * d, theta, direction)) for s in (step, -step))
        errors.append(np.max(np.abs((one - other) / (2 * step) - pushed)))
    assert min(errors) < 1e-7 * np.max(np.abs(pushed))


def test_the_simplex_projection_and_non_negative_least_squares_in_closed_form():
    theta = simplex()
    problem = PROBLEMS[6, 1, 12]
    x = problem.solve(theta)
    v, support = -np.asarray(theta.c), np.asarray([1.0, 0.0, 1.0, 0.0, 0.0, 1.0])
    threshold = (v @ support - 1.0) / support.sum()
    np.testing.assert_allclose(x[:6], np.maximum(v - threshold, 0.0), atol=1e-14)
    J = problem.jacobian(x, theta)
    np.testing.assert_allclose(-J.c[:6], np.diag(support) - np.outer(support, support) / support.sum(), atol=1e-12)
    np.testing.assert_allclose(J.b[:6, 0], support / support.sum(), atol=1e-12)

    theta = least_squares()
    factor = np.linalg.cholesky(theta.Q)
    reference, _ = nnls(factor.T, np.linalg.solve(factor, -np.asarray(theta.c)))
    np.testing.assert_allclose(PROBLEMS[6, 0, 6].solve(theta)[:6], reference, atol=1e-10)


def test_an_equality_program_in_closed_form():
    """x = K^-1 (-c, b): dK^-1 = -K^-1 dK K^-1 for Q and A."""
    rng = np.random.default_rng(2)
    root, A = rng.normal(size=(6, 6)), rng.normal(size=(2, 6))
    theta = program(root @ root.T, rng.normal(size=6), A, rng.normal(size=2), [], [])
    problem = PROBLEMS[6, 2, 0]
    x = problem.solve(theta)
    K = np.block([[theta.Q, A.T], [A, np.zeros((2, 2))]])
    np.testing.assert_allclose(x, np.linalg.solve(K, np.concatenate([-theta.c, theta.b])), atol=1e-12)
    inverse, J = np.linalg.inv(K), problem.jacobian(x, theta)
    np.testing.assert_allclose(np.concatenate([-J.c, J.b], axis=1), inverse, atol=1e-11)
    expected = -0.5 * (np.einsum("ai,j->aij", inverse[:, :6], x[:6]) + np.einsum("aj,i->aij", inverse[:, :6], x[:6]))
    np.testing.assert_allclose(J.Q, expected, atol=1e-11)
    by_A = np.einsum("ak,i->aki", inverse[:, 6:], x[:6]) + np.einsum("ai,k->aki", inverse[:, :6], x[6:])
    np.testing.assert_allclose(J.A, -by_A, atol=1e-11)


def test_the_projection_on_a_hyperplane():
    """v - a (a'v - b) / a'a, by v, a and b."""
    Theta = namedtuple("Theta", "v a b")
    theta = Theta(jnp.asarray([1.0, 2.0, -0.3]), jnp.asarray([-0.5, 1.5, 0.7]), jnp.asarray(0.3))
    problem = Problem(lambda x, t: 0.5 * jnp.sum((x.x - t.v) ** 2), lambda x, t: (t.a @ x.x - t.b)[None], None, 3, 1, 0)

    def closed(t):
        excess = (t.a @ t.v - t.b) / (t.a @ t.a)
        return jnp.concatenate([t.v - t.a * excess, excess[None]])

    assert problem.condition.symmetric
    assert problem.condition.margin is None
    J = problem.jacobian(closed(theta), theta)
    for one, other in zip(J, jax.jit(jax.jacfwd(closed))(theta), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-14)


def test_water_filling():
    """max sum log(alpha_i + x_i), sum x = w, x >= 0: x_i = max(1 / nu - alpha_i, 0), dx_i/dalpha_j = 1/k - delta_ij where wet."""
    Theta = namedtuple("Theta", "alpha w")
    alpha, wet, w = np.asarray([0.8, 0.2, 1.9, 0.5, 0.35]), np.asarray([1.0, 1.0, 0.0, 1.0, 1.0]), 2.0
    level = (w + alpha @ wet) / wet.sum()
    x = np.maximum(level - alpha, 0.0)
    assert ((x > 0) == (wet > 0)).all()
    point = jnp.concatenate([jnp.asarray(x), jnp.asarray([1 / level]), jnp.asarray(1 / level - 1 / (alpha + x))])
    theta = Theta(jnp.asarray(alpha), jnp.asarray(w))
    problem = Problem(
        lambda x, t: -jnp.sum(jnp.log(t.alpha + x.x)), lambda x, t: (jnp.sum(x.x) - t.w)[None], lambda x, t: -x.x, 5, 1, 5
    )
    J = problem.jacobian(point, theta)
    np.testing.assert_allclose(J.alpha[:5], np.outer(wet, wet) / wet.sum() - np.diag(wet), atol=1e-13)
    np.testing.assert_allclose(J.w[:5], wet / wet.sum(), atol=1e-13)
    assert problem.margin(point, theta) == pytest.approx(min(x[x > 0].min(), 1 / level - 1 / 1.9))


def test_the_parametric_program_of_ganesh_and_biegler():
    """min x'x, 6 x_1 + 3 x_2 + 2 x_3 = p_1, p_2 x_1 + x_2 - x_3 = 1, x >= 0 at p = (5, 1): A(p) and b(p) in x = A'(A A')^-1 b."""

    def rows(p):
        return jnp.stack([jnp.asarray([6.0, 3.0, 2.0]), jnp.stack([p[1], jnp.asarray(1.0), jnp.asarray(-1.0)])])

    def right(p):
        return jnp.stack([p[0], jnp.asarray(1.0)])

    def closed(p):
        A = rows(p)
        nu = -2.0 * jnp.linalg.solve(A @ A.T, right(p))
        return jnp.concatenate([-A.T @ nu / 2.0, nu, jnp.zeros(3)])

    p = jnp.asarray([5.0, 1.0])
    problem = Problem(lambda x, p: x.x @ x.x, lambda x, p: rows(p) @ x.x - right(p), lambda x, p: -x.x, 3, 2, 3)
    x = closed(p)
    np.testing.assert_allclose(x[:3], [0.6326531, 0.3877551, 0.0204082], atol=1e-7)
    J = problem.jacobian(x, p)
    np.testing.assert_allclose(J, jax.jit(jax.jacfwd(closed))(p), atol=1e-13)
    # to p = (4.5, 1) the first-order step leaves x >= 0, and the margin had said how near that is
    predicted = x[:3] + J[:3] @ jnp.asarray([-0.5, 0.0])
    np.testing.assert_allclose(predicted, closed(jnp.asarray([4.5, 1.0]))[:3], atol=1e-13)
    assert predicted[2] < 0.0 < problem.margin(x, p) == pytest.approx(float(x[2]))


def test_a_weakly_active_constraint_has_margin_zero():
    """The simplex projection of a point whose third entry is the threshold itself."""
    theta = program(np.eye(6), [-0.75, -0.75, -0.25, 0.5, 0.5, 0.5], np.ones((1, 6)), [1.0], *NON_NEGATIVE)
    problem = PROBLEMS[6, 1, 12]
    x = problem.solve(theta)
    np.testing.assert_allclose(x[:6], [0.5, 0.5, 0.0, 0.0, 0.0, 0.0], atol=1e-10)
    assert problem.margin(x, theta) < 1e-9
    assert problem.margin(problem.solve(simplex()), simplex()) > 0.05


def test_redundant_constraints_leave_the_derivative_of_the_primal_solution_alone():
    """sum x = 1 twice: A is singular, its null space holds multipliers only, and the minimum-norm J has the right primal part."""
    theta = program(np.diag(np.arange(1.0, 7.0)), np.linspace(-1.0, 1.0, 6), [np.ones(6), 2.0 * np.ones(6)], [1.0, 2.0], [], [])
    problem = PROBLEMS[6, 2, 0]
    x = problem.solve(theta)
    _, A, _ = problem.linearised(x, theta)
    assert np.linalg.matrix_rank(A) == 7
    once = np.block([[theta.Q, np.ones((6, 1))], [np.ones((1, 6)), np.zeros((1, 1))]])
    np.testing.assert_allclose(problem.jacobian(x, theta).c[:6], -np.linalg.inv(once)[:6, :6], atol=1e-12)
