"""Every mapping of the catalogue against closed forms and finite differences; what the reference implementation gets wrong."""

import importlib.util
import itertools
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from implicit_cli import Linear, custom_root, implicit_jacobian, root_vjp
from implicit_cli.core import kkt, mirror_descent, projected_gradient, projections, prox, proximal_gradient, stationary
from implicit_cli.status import Status

rng = np.random.default_rng(4)


def table():
    """benchmarks/catalogue_mappings.py, which the documentation is generated from."""
    path = Path(__file__).resolve().parents[2] / "benchmarks" / "catalogue_mappings.py"
    spec = importlib.util.spec_from_file_location("catalogue_mappings", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


with jax.enable_x64(True):
    TABLE = table()


OFTEN = ("stationary", "kkt", "mirror_descent", "projected_gradient", "conic")
"""Mappings that are measured in every run; the others are by `-m exhaustive`, and by docs/catalogue.py."""


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, marks=[] if case.name in OFTEN else [pytest.mark.exhaustive]) for case in TABLE.cases()],
    ids=lambda case: case.name,
)
def test_all_products_of_a_mapping(case):
    errors = TABLE.measure(case)
    assert set(errors) == set(TABLE.COLUMNS)
    assert max(errors.values()) < 1e-7, errors


@pytest.mark.parametrize("case", TABLE.cases(), ids=lambda case: case.name)
def test_tags_hold(case):
    """A is symmetric and positive semi-definite where that is declared."""
    x = case.solution(case.theta)
    A = implicit_jacobian(lambda a, b: jax.tree.map(jnp.subtract, a, case.condition.F(b, case.theta)), x, (x,)).value
    A = np.concatenate([np.concatenate([np.asarray(b).reshape(np.size(r), -1) for b in jax.tree.leaves(row)], axis=1)
                        for row, r in zip(_rows(A, x), jax.tree.leaves(x), strict=True)])  # fmt: skip
    if case.condition.symmetric:
        np.testing.assert_allclose(A, A.T, atol=1e-12)
    if case.condition.definite:
        assert np.linalg.eigvalsh((A + A.T) / 2).min() > -1e-12


def _rows(A, x):
    """The leaves of A by leaf of x: for each, the pytree of its derivatives."""
    return jax.tree.structure(x).flatten_up_to(A)


# What the reference implementation gets wrong


def softmax_svm(n=12, p=4, classes=3):
    """The dual of a multiclass SVM (the paper's section 4.1): x (n, classes) on simplexes, most of them on the boundary."""
    labels = rng.integers(0, classes, n)
    Z = jnp.asarray(rng.normal(size=(n, p)) + 1.5 * np.eye(classes, p)[labels])
    Y = jnp.asarray(np.eye(classes)[labels])

    def dual(x, theta):
        W = Z.T @ (Y - x)
        return jnp.sum(W**2) / (2 * theta) + jnp.vdot(x, Y)

    return dual, n, classes


def test_mirror_descent_on_the_boundary_of_the_simplex():
    """The reference implementation gives -69.14 for -35.74: softmax(log x - eta g) has no derivative where entries are zero."""
    dual, n, classes = softmax_svm()
    theta = jnp.asarray(3.0)

    def project(v, theta=None):
        return jax.vmap(projections.simplex)(v)

    @jax.jit
    def solve(theta):
        eta = theta / 80.0
        step = lambda _, x: project(x - eta * jax.grad(dual)(x, theta))  # noqa: E731
        return jax.lax.fori_loop(0, 20_000, step, jnp.full((n, classes), 1.0 / classes))

    x = solve(theta)
    assert int(jnp.sum(x == 0.0)) > n // 2
    J = {
        "mirror descent": implicit_jacobian(mirror_descent(dual, eta=0.01), x, (theta,)),
        "projected gradient": implicit_jacobian(projected_gradient(dual, project, eta=0.01), x, (theta,)),
    }
    h = 1e-4
    truth = (solve(theta + h) - solve(theta - h)) / (2 * h)
    for name, out in J.items():
        np.testing.assert_allclose(out.value, truth, atol=1e-6, err_msg=name)
        assert int(out.status[0]) == Status.OK


def test_mirror_descent_with_exact_zeros_keeps_its_implicit_term():
    """With log 0 the product is NaN, the Krylov solver returns 0, and J = 0 for 0.05."""
    f = lambda x, t: jnp.sum((x - t) ** 2) / 2  # noqa: E731
    t = jnp.asarray([0.8, 0.5, -0.9])
    x = jnp.asarray([0.65, 0.35, 0.0])
    true = np.asarray([[0.5, -0.5, 0.0], [-0.5, 0.5, 0.0], [0.0, 0.0, 0.0]])
    for method in ("auto", "gmres"):
        out = implicit_jacobian(mirror_descent(f), x, (t,), linear=Linear(method))
        np.testing.assert_allclose(out.value, true, atol=1e-9)
    np.testing.assert_allclose(root_vjp(mirror_descent(f), x, (t,), jnp.asarray([1.0, 0.0, 0.0])).value[0], true[0], atol=1e-12)


def test_a_mirror_map_that_is_not_differentiable_there_says_so():
    """The user's own log and softmax at an exact zero: NaN with a status, never a plausible number."""
    condition = mirror_descent(lambda x, t: jnp.sum((x - t) ** 2) / 2, jnp.log, lambda v, t: jax.nn.softmax(v))
    out = implicit_jacobian(condition, jnp.asarray([0.65, 0.35, 0.0]), (jnp.asarray([0.8, 0.5, -0.9]),))
    assert (np.asarray(out.status) != Status.OK).all()
    assert np.isnan(out.value).all()


def test_multipliers_at_their_bounds():
    """The dual of a binary SVM with a box [0, C_i] per sample: J with respect to C is wrong in the reference implementation."""
    n = 30
    labels = np.sign(rng.normal(size=n))
    Z = rng.normal(size=(n, 3)) + 0.8 * labels[:, None]
    Q = jnp.asarray(labels[:, None] * Z @ Z.T * labels[None, :])
    C = jnp.asarray(rng.uniform(0.2, 1.0, n))
    f = lambda a, C: a @ Q @ a / 2 + 0.05 * a @ a - jnp.sum(a)  # noqa: E731
    bounds = lambda a, C: (jnp.zeros(n), C)  # noqa: E731
    eta = 1.0 / float(jnp.linalg.norm(Q, 2) + 0.1)

    @jax.jit
    def solve(C):
        return jax.lax.fori_loop(0, 20_000, lambda _, a: jnp.clip(a - eta * jax.grad(f)(a, C), 0.0, C), jnp.zeros(n))

    a = solve(C)
    at_C, at_0 = np.asarray(a == C), np.asarray(a == 0.0)
    assert at_C.sum() > 3
    assert at_0.sum() > 3
    free = ~(at_C | at_0)
    K = np.asarray(Q) + 0.1 * np.eye(n)
    true = np.zeros((n, n))
    true[at_C, at_C] = 1.0
    true[np.ix_(free, at_C)] = -np.linalg.solve(K[np.ix_(free, free)], K[np.ix_(free, at_C)])
    condition = projected_gradient(f, bounds=bounds, eta=eta)
    out = implicit_jacobian(condition, a, (C,))
    np.testing.assert_allclose(out.value, true, atol=1e-10)
    assert float(condition.margin(a, C)) > 0.0


SETS = {
    "affine set": lambda v, t: projections.affine_set(v, jnp.asarray([[1.0, 2.0, -1.0, 0.5]]), t[:1]),
    "polyhedron": lambda v, t: projections.polyhedron(
        v, jnp.ones((1, 4)), t[:1], jnp.asarray([[1.0, 0.0, 0.0, 0.0], [0.0, -1.0, 0.0, 0.0]]), jnp.stack([t[1], 0.5 + 0 * t[1]])
    ),
    "box section": lambda v, t: projections.box_section(v, jnp.zeros(4), jnp.full(4, 0.6), jnp.ones(4), t[0]),
    "transport": lambda v, t: projections.kl_transport(
        v.reshape(2, 2), jnp.stack([t[0], 1 - t[0]]), jnp.asarray([0.4, 0.6])
    ).ravel(),
}


@pytest.mark.parametrize("name", SETS)
def test_sets_that_are_not_differentiable_there_at_all(name):
    """Inside a projected gradient step, in both modes, nested, against finite differences of the solution."""
    project = SETS[name]
    target = jnp.asarray([0.9, 0.4, -0.3, 0.7])
    H = jnp.asarray(np.diag([1.0, 2.0, 1.5, 0.7]) + 0.1)
    f = lambda x, t: (x - target) @ H @ (x - target) / 2 * (1 + t[1])  # noqa: E731
    condition = projected_gradient(f, project, eta=0.3)
    t = jnp.asarray([0.7, 0.3])

    @jax.jit
    def solve(t):
        return jax.lax.fori_loop(0, 400, lambda _, x: condition.mapping(x, t), jnp.full(4, 0.2))

    solver = custom_root(condition)(lambda init, t: init)
    x, h = solve(t), 1e-5
    true = np.stack([(solve(t + h * e) - solve(t - h * e)) / (2 * h) for e in np.eye(2)], axis=1)
    for mode in (jax.jacfwd, jax.jacrev):
        np.testing.assert_allclose(jax.jit(mode(solver, argnums=1))(x, t), true, atol=1e-7)


def test_group_lasso_in_a_batch_where_a_group_is_zero():
    """NaN in the reference implementation under vmap; the derivative of a group that is out is 0."""
    f = lambda x, t: jnp.sum((x - jnp.asarray([[3.0, 4.0], [0.3, 0.4]])) ** 2) / 2  # noqa: E731
    condition = proximal_gradient(f, lambda v, eta, t: jax.vmap(prox.group_lasso, (0, None))(v, eta * t), eta=0.5)
    x = jnp.asarray([[3.0, 4.0], [0.0, 0.0]]) * (1 - 1.0 / 5.0)
    out = implicit_jacobian(condition, x, (jnp.asarray(1.0),))
    np.testing.assert_allclose(out.value, [[-0.6, -0.8], [0.0, 0.0]], atol=1e-12)


# Constraints


def test_every_active_set_of_a_small_qp():
    """min |x - t|^2 / 2 in the triangle x >= 0, sum x <= 1: the closed form on each face, and the margin that tells them apart."""
    from collections import namedtuple

    Point = namedtuple("Point", ("x", "lam"))
    condition = kkt(
        lambda z, t: jnp.sum((z.x - t) ** 2) / 2, inequality=lambda z, t: jnp.concatenate([-z.x, jnp.sum(z.x)[None] - 1])
    )
    jacobian = jax.jit(lambda z, t: implicit_jacobian(condition, z, (t,)))
    for active in itertools.chain.from_iterable(itertools.combinations(range(3), k) for k in range(3)):
        G = np.asarray([[-1.0, 0.0], [0.0, -1.0], [1.0, 1.0]])[list(active)]
        h = np.asarray([0.0, 0.0, 1.0])[list(active)]
        inside = np.asarray([0.3, 0.2]) if not active else np.linalg.lstsq(G, h, rcond=None)[0] * 0.9 + 0.1 * np.asarray([0.3, 0.3])
        x = inside - np.linalg.pinv(G) @ (G @ inside - h) if active else inside
        lam = np.zeros(3)
        lam[list(active)] = 0.7
        t = x + G.T @ np.full(len(active), 0.7)
        z = Point(jnp.asarray(x), jnp.asarray(lam))
        out = jacobian(z, jnp.asarray(t))
        true = np.eye(2) - (np.linalg.pinv(G) @ G if active else 0.0)
        np.testing.assert_allclose(out.value.x, true, atol=1e-12)
        assert float(condition.margin(z, jnp.asarray(t))) > 0.02


def test_a_weakly_active_constraint_has_no_margin():
    from collections import namedtuple

    Point = namedtuple("Point", ("x", "lam"))
    condition = kkt(lambda z, t: (z.x - t) ** 2 / 2, inequality=lambda z, t: -z.x)
    z = Point(jnp.asarray(0.0), jnp.asarray(0.0))
    assert float(condition.margin(z, jnp.asarray(0.0))) == 0.0
    out = implicit_jacobian(condition, z, (jnp.asarray(0.0),))
    assert int(out.status[0]) == Status.NONDIFFERENTIABLE
    assert np.isnan(out.value.x)
    assert np.isnan(jax.grad(lambda t: custom_root(condition)(lambda init, t: z)(None, t).x)(0.0))


def test_a_condition_needs_what_it_needs():
    with pytest.raises(ValueError, match="either project or bounds"):
        projected_gradient(lambda x, t: x)
    with pytest.raises(ValueError, match="both mirror and project"):
        mirror_descent(lambda x, t: x, jnp.log)


def test_a_stationary_point_is_tagged():
    condition = stationary(lambda x, t: x @ x)
    assert condition.symmetric
    assert condition.definite
