"""Conic programs: the residual is the one of the theorem, its roots are solutions, and their derivatives are right."""

from collections import namedtuple
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from implicit_cli.core.conic import conic, dual, primal, project_dual, rows, slack
from implicit_cli.core.implicit import Point
from implicit_cli.core.solvers.base import Goal
from implicit_cli.core.solvers.clarabel import Clarabel
from implicit_cli.core.solvers.host import drive
from implicit_cli.status import Status

pytestmark = pytest.mark.slow

Z = namedtuple("Z", "u v w")
MIXED = (("zero", 2), ("nonnegative", 3), ("second_order", 4), ("psd", 3), ("exponential", 6))


def split(z, n):
    return Z(z[:n], z[n:-1], z[-1])


def join(x):
    return jnp.concatenate([x.u, x.v, x.w[None]])


class Example(NamedTuple):
    """A program with a closed form `solution(c, A, b)`, true as the parts in `moves` vary in their `first` entries."""

    cones: tuple
    data: tuple
    solution: object
    moves: tuple = (0, 1, 2)
    first: int | None = None


def lp():
    """Three constraints meet in a vertex of R^3, two are slack: x = A_B^-1 b_B."""
    rng = np.random.default_rng(1)
    A, x, lam = rng.normal(size=(5, 3)), rng.normal(size=3), np.asarray([0.7, 0.0, 1.3, 0.4, 0.0])
    s = np.where(lam > 0, 0.0, 0.6)

    def vertex(c, A, b):
        active = np.flatnonzero(lam)
        return jnp.linalg.solve(A[active], b[active])

    return Example((("nonnegative", 5),), (-A.T @ lam, A, A @ x + s), vertex)


def ball():
    """min c'x over abs(x - a) <= r is a - r c / abs(c); b = (r, -a)."""
    c, a = np.asarray([0.3, -1.2, 0.8]), np.asarray([0.5, 0.1, -0.4])

    def edge(c, A, b):
        return -b[1:] - b[0] * c / jnp.linalg.norm(c)

    A = np.concatenate([np.zeros((1, 3)), -np.eye(3)])
    return Example((("second_order", 4),), (c, A, np.concatenate([[1.5], -a])), edge, (0, 2))


def eigenvector():
    """min <C, X>, trace X = 1, X positive semi-definite: the projector on the lowest eigenvector; X is svec-ed as documented."""
    order = [(0, 0), (0, 1), (1, 1), (0, 2), (1, 2), (2, 2)]
    weight = np.asarray([1.0 if i == j else np.sqrt(2.0) for i, j in order])
    C = np.random.default_rng(3).normal(size=(3, 3))
    C = C + C.T

    def projector(c, A, b):
        full = sum(jnp.asarray(np.eye(3)[[i]].T @ np.eye(3)[[j]]) * (c[k] / weight[k]) for k, (i, j) in enumerate(order))
        full = full + full.T - jnp.diag(jnp.diag(full))
        lowest = jnp.linalg.eigh(full)[1][:, 0]
        return b[0] * jnp.stack([weight[k] * lowest[i] * lowest[j] for k, (i, j) in enumerate(order)])

    c = np.stack([weight[k] * C[i, j] for k, (i, j) in enumerate(order)])
    trace = np.asarray([[1.0 if i == j else 0.0 for i, j in order]])
    data = (c, np.concatenate([trace, -np.eye(6)]), np.concatenate([[1.0], np.zeros(6)]))
    return Example((("zero", 1), ("psd", 3)), data, projector, (0,))


def entropy():
    """min c'x + sum x log x, sum x = 1: softmax(-c); unknowns x and t >= x log x, that is x exp(-t / x) <= 1."""
    c = np.asarray([0.4, -0.7, 1.1])
    A, b = np.zeros((10, 6)), np.zeros(10)
    A[0, :3], b[0] = 1.0, 1.0
    for i in range(3):
        A[1 + 3 * i, 3 + i], A[2 + 3 * i, i], b[3 + 3 * i] = 1.0, -1.0, 1.0

    def softmax(c, A, b):
        x = jax.nn.softmax(-c[:3])
        return jnp.concatenate([x, x * jnp.log(x)])

    return Example((("zero", 1), ("exponential", 9)), (np.concatenate([c, np.ones(3)]), A, b), softmax, (0,), 3)


EXAMPLES = {example.__name__: example for example in (lp, ball, eigenvector, entropy)}


class Solved:
    """An example with its condition, solved once."""

    def __init__(self, example):
        self.example = example
        self.data = tuple(jnp.asarray(part) for part in example.data)
        self.n, self.m = self.data[0].size, self.data[2].size
        self.condition = conic(lambda theta: theta, example.cones)
        self.goal = Goal(self.F, program=lambda theta, data: data, cones=self.condition.program.cones)
        self.linearised = jax.jit(lambda z, data: self.products(z, data))
        self.solution = self.solve(self.data)
        self.z = self.polished(self.solution.x, self.data)
        self.x = split(self.z, self.n)

    def F(self, z, theta, data):
        return join(self.condition.F(split(z, self.n), data))

    def solve(self, data):
        p = Point(jnp.zeros(self.n + self.m + 1), jnp.zeros(0), data)
        return drive(Clarabel(self.goal), self.goal, p, tol=1e-8, max_steps=200)

    def products(self, z, data):
        """F, A and the parts of B."""
        return self.F(z, None, data), *jax.jacfwd(lambda z, data: self.F(z, None, data), argnums=(0, 1))(z, data)

    def polished(self, z, data):
        """Two Newton steps along the gauge-free directions: Clarabel stops at errors of 1e-8 on curved cones."""
        for _ in range(2):
            F, A, _ = self.linearised(z, data)
            z = z - jnp.asarray(np.linalg.pinv(A, rcond=1e-10) @ np.asarray(F))
        return z

    def derivative(self, A, B):
        """d primal / d data, by the minimum-norm solution of A dz = -B."""
        inverse = np.linalg.pinv(A, rcond=1e-10)
        dz = [-np.tensordot(inverse, b, axes=1) for b in B]
        return [(d[: self.n] - np.multiply.outer(np.asarray(primal(self.x)), d[-1])) / self.x.w for d in dz]


@pytest.fixture(scope="module", params=EXAMPLES)
def solved(request):
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        return Solved(EXAMPLES[request.param]())


def test_the_root_is_the_solution_in_closed_form(solved):
    assert solved.solution.status is Status.OK
    np.testing.assert_allclose(solved.solution.x, solved.z, atol=1e-6)

    @jax.jit
    def outcome(x, data):
        cones = solved.example.cones
        found = primal(x), dual(x, cones), slack(x, cones)
        return *found, solved.example.solution(*data), solved.condition.margin(x, data)

    c, A, b = map(np.asarray, solved.data)
    x, y, s, expected, margin = map(np.asarray, outcome(solved.x, solved.data))
    np.testing.assert_allclose(x, expected, atol=1e-12)
    np.testing.assert_allclose(A.T @ y + c, 0.0, atol=1e-12)
    np.testing.assert_allclose(s, b - A @ x, atol=1e-12)
    np.testing.assert_allclose([y @ s, c @ x + b @ y], 0.0, atol=1e-12)
    assert margin > 0.05


def test_derivatives_are_those_of_the_closed_form_and_of_finite_differences(solved):
    _, A, B = solved.linearised(solved.z, solved.data)
    J = solved.derivative(A, B)
    moves = solved.example.moves
    truth = jax.jit(jax.jacfwd(solved.example.solution, argnums=moves))(*solved.data)
    for move, expected in zip(moves, truth, strict=True):
        first = solved.example.first
        np.testing.assert_allclose(J[move][..., :first], expected[..., :first], atol=1e-9)

    rng = np.random.default_rng(5)  # every entry of c, A and b at once, by solving again
    direction = [jnp.asarray(rng.normal(size=part.shape)) for part in solved.data]
    pushed = sum(np.tensordot(j, d, axes=d.ndim) for j, d in zip(J, direction, strict=True))
    errors = []
    for h in (1e-3, 1e-4, 1e-5):
        moved = [tuple(a + sign * h * d for a, d in zip(solved.data, direction, strict=True)) for sign in (1.0, -1.0)]
        ends = [solved.polished(solved.solve(data).x, data) for data in moved]
        assert max(np.max(np.abs(solved.linearised(z, data)[0])) for z, data in zip(ends, moved, strict=True)) < 1e-11
        one, other = (np.asarray(z[: solved.n] / z[-1]) for z in ends)
        errors.append(np.max(np.abs((one - other) / (2 * h) - pushed)) / np.max(np.abs(pushed)))
    assert min(errors) < 1e-6


def test_the_scale_is_a_gauge(solved):
    F, A, B = solved.linearised(solved.z, solved.data)
    elsewhere = solved.z + 0.01
    one, three = (np.asarray(solved.linearised(scale * elsewhere, solved.data)[0]) for scale in (1.0, 3.0))
    np.testing.assert_allclose(three, 3.0 * one, atol=1e-14)
    assert np.max(np.abs(one)) > 1e-3 > np.max(np.abs(F)) * 1e9
    null = join(solved.condition.null_space(solved.x, solved.data)["scale"])
    np.testing.assert_allclose(A @ null, 0.0, atol=1e-9)
    _, A_of_program, b = map(np.asarray, solved.data)
    left = np.concatenate([solved.x.u, solved.x.w * b - A_of_program @ solved.x.u + solved.x.v, solved.x.w[None]])  # Pi z
    np.testing.assert_allclose(left @ A, 0.0, atol=1e-9)
    for b in B:
        np.testing.assert_allclose(np.tensordot(left, b, axes=1), 0.0, atol=1e-9)
    singular = np.linalg.svd(A, compute_uv=False)
    assert singular[-1] < 1e-9 < 1e-3 < singular[-2]


def matrix_of(v, n):
    """The symmetric matrix of svec, written out."""
    S, k = np.zeros((n, n)), 0
    for j in range(n):
        for i in range(j + 1):
            S[i, j] = S[j, i] = v[k] / (1.0 if i == j else np.sqrt(2.0))
            k += 1
    return S


def depth(v, cones, dual_cone):
    """The smallest of all quantities that are >= 0 in the product of cones, or of their duals."""
    found, at = [], 0
    for name, size in cones:
        part = np.asarray(v[at : at + rows(name, size)])
        at += part.size
        if name == "zero":
            found.append(0.0 if dual_cone else -np.max(np.abs(part)))
        elif name == "nonnegative":
            found.append(np.min(part))
        elif name == "second_order":
            found.append(part[0] - np.linalg.norm(part[1:]))
        elif name == "psd":
            found.append(np.linalg.eigvalsh(matrix_of(part, size))[0])
        else:
            for r, s, t in part.reshape(-1, 3):
                inside = t - s * np.exp(r / s) if s > 0 else min(-abs(s), -max(r, 0.0), t)
                polar = np.e * t + r * np.exp(s / r) if r < 0 else min(-abs(r), s, t)
                found.append(polar if dual_cone else inside)
    assert at == len(v)
    return min(found)


def test_the_projection_on_the_dual_cones_obeys_moreau_and_F_is_theta_and_pi():
    m = sum(rows(name, size) for name, size in MIXED)
    assert m == 2 + 3 + 4 + 6 + 6
    n = 5
    rng = np.random.default_rng(7)
    c, A, b = (jnp.asarray(rng.normal(size=shape)) for shape in (n, (m, n), m))
    mapping = conic(lambda theta: theta, MIXED).F
    both = jax.jit(lambda x, data: (join(mapping(x, data)), project_dual(x.v, MIXED)))
    for _ in range(5):
        x = Z(*(jnp.asarray(rng.normal(size=shape)) for shape in (n, m, ())))
        F, y = map(np.asarray, both(x, (c, A, b)))
        s = y - np.asarray(x.v)
        assert abs(y @ s) < 1e-9
        assert depth(y, MIXED, dual_cone=True) > -1e-9
        assert depth(s, MIXED, dual_cone=False) > -1e-9
        Theta = np.block(
            [
                [np.zeros((n, n)), A.T, c[:, None]],
                [-A, np.zeros((m, m)), b[:, None]],
                [-c[None], -b[None], np.zeros((1, 1))],
            ]
        )
        Pi = np.concatenate([x.u, y, [max(float(x.w), 0.0)]])
        np.testing.assert_allclose(F, Theta @ Pi - Pi + np.asarray(join(x)), atol=1e-12)


def test_a_weakly_active_constraint_has_margin_zero():
    """min x_1 over x_1 >= 0, x_1 >= -x_2 and x_2 >= 0: at the origin the second constraint is active, its multiplier zero."""
    A = jnp.asarray([[-1.0, 0.0], [-1.0, -1.0], [0.0, -1.0]])
    condition = conic(lambda theta: theta, [("nonnegative", 3)])
    x = Z(jnp.zeros(2), jnp.asarray([1.0, 0.0, 0.3]), jnp.asarray(1.0))
    data = (jnp.asarray([1.0, 0.3]), A, jnp.zeros(3))
    np.testing.assert_allclose(join(condition.F(x, data)), 0.0, atol=1e-15)
    assert float(condition.margin(x, data)) == 0.0


@pytest.mark.parametrize(
    ("c", "b"), [([1.0, 0.0], [-1.0, -1.0, 1.5]), ([-1.0, -1.0], [0.0, 0.0, np.inf])], ids=["infeasible", "unbounded"]
)
def test_no_solution_is_a_status(c, b):
    """x >= -b_1, x_2 >= -b_2 and x_1 + x_2 <= b_3, or without the last."""
    kept = np.isfinite(b)
    A, b = np.asarray([[-1.0, 0.0], [0.0, -1.0], [1.0, 1.0]])[kept], np.asarray(b)[kept]
    solved = Solved(Example((("nonnegative", b.size),), (np.asarray(c), A, b), None))
    assert solved.solution.status is Status.NOT_CONVERGED


def test_cones_are_checked():
    with pytest.raises(ValueError, match="found cone 'socp', allowed: 'zero', 'nonnegative', 'second_order', 'psd', 'exponential'"):
        conic(lambda theta: theta, [("socp", 3)])
    with pytest.raises(ValueError, match="cone 'exponential' has size 4: a multiple of 3 is needed"):
        conic(lambda theta: theta, [("exponential", 4)])
    with pytest.raises(ValueError, match="cone 'psd' has size 0: at least 1 is needed"):
        conic(lambda theta: theta, [("psd", 0)])
    short = conic(lambda theta: (jnp.ones(2), jnp.ones((3, 2)), jnp.ones(3)), [("nonnegative", 4)])
    with pytest.raises(ValueError, match=r"A has shape \(3, 2\)"):
        short.F(Z(jnp.ones(2), jnp.ones(3), jnp.asarray(1.0)), None)
