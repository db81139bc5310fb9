"""Second derivatives as products, against closed forms, differences of Jacobians and JAX's derivatives of the solution map."""

import copy

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from implicit_cli import engine, plugins
from implicit_cli.core import root, stationary
from implicit_cli.errors import InputError
from implicit_cli.problem import Option, Output, Parameter, Problem, Unknown
from implicit_cli.spec import load_spec
from implicit_cli.status import Status

pytestmark = pytest.mark.slow


@pytest.fixture
def run(tmp_path):
    def run(text, cls=None, *overrides):
        path = tmp_path / "spec.yaml"
        path.write_text(text if cls is None else f"problem: here\n{text}")
        loaded = load_spec(path, overrides)
        cls = cls or plugins.load(loaded.model.problem, base=tmp_path, allow_plugin=False, plugins=())
        vectors = engine.Vectors(engine.bind(loaded, cls))
        return at(vectors, engine.make_plan(loaded, vectors))

    def at(vectors, plan):
        run.again = lambda theta: at(replaced(vectors, theta), plan)
        result = engine.run_case(vectors, plan, identity="0", seed=0)
        return result, {(p.kind, p.of or p.name, p.wrt, p.wrt2): p for p in result.products}

    def replaced(vectors, theta):
        """The same problem at other parameters: nothing compiles again."""
        other = copy.copy(vectors)
        other.start = jnp.asarray(theta)
        return other

    return run


def test_the_minimum_of_a_quadratic_has_minus_the_inverse_as_hessian(run):
    Q = np.array([[2.0, 0.5, 0.1], [0.5, 1.0, -0.2], [0.1, -0.2, 3.0]])
    result, found = run(f"problem: quadratic\ndata: {{Q: {Q.tolist()}}}\nparameters: {{b: [1, -1, 2]}}\n"
                        "sensitivity: {products: [hessian, {hessian: {u: {b: [1, 0, 2]}}}]}\n")  # fmt: skip
    assert result.status is Status.OK
    assert {key[0] for key in found} == {"hessian", "hessian_along"}
    np.testing.assert_allclose(found["hessian", "minimum", "b", "b"].value, -np.linalg.inv(Q), rtol=1e-12)
    along = found["hessian_along", "x", "", ""]
    assert along.name == "u"
    np.testing.assert_allclose(along.value, 0.0, atol=1e-14)  # x is linear in b
    v = np.array([1.0, 0.0, 2.0])
    assert found["hessian_along", "minimum", "", ""].value == pytest.approx(-v @ np.linalg.solve(Q, v), rel=1e-12)
    assert {report.direction: len(report.status) for report in result.linear} == {
        "second_order_forward": 3 + 2 * 1,
        "second_order_adjoint": 1,
    }


RNG = np.random.default_rng(5)
X, Y = RNG.normal(size=(9, 4)), RNG.normal(size=9)
XV, YV = RNG.normal(size=(5, 4)), RNG.normal(size=5)
PENALTY = np.array([0.1, 0.4, 0.02, 1.0])


def ridge_loss(lam):
    """Validation loss of the closed-form solution, as a function of log(penalty)."""
    w = jnp.linalg.solve(X.T @ X / len(Y) + jnp.diag(jnp.exp(lam)), X.T @ Y / len(Y))
    return jnp.mean((XV @ w - YV) ** 2) / 2


@pytest.mark.parametrize("linear_solver", ["auto", "cg"])
def test_hyper_hessian_of_ridge_through_a_log(run, linear_solver):
    data = f"{{X: {X.tolist()}, y: {Y.tolist()}, X_validation: {XV.tolist()}, y_validation: {YV.tolist()}}}"
    text = f"problem: ridge\ndata: {data}\nparameters: {{penalty: {PENALTY.tolist()}}}\ntransforms: {{penalty: log}}\n"
    text += "solver: newton\n"
    result, found = run(text, None, "sensitivity.products=[hessian]", f"sensitivity.linear_solver={linear_solver}")
    assert result.status is Status.OK
    product = found["hessian", "validation_loss", "penalty", "penalty"]
    truth = jax.hessian(ridge_loss)(jnp.log(jnp.asarray(PENALTY)))
    np.testing.assert_allclose(product.value, truth, rtol=1e-8)
    assert np.abs(product.value - product.value.T).max() <= 1e-9 * np.abs(product.value).max()
    assert (product.bound.total >= np.linalg.norm(product.value - truth, axis=0)).all()
    assert product.bound.total.shape == (4,)
    assert product.bound.kind == "estimate"


def test_an_early_stop_is_in_the_bound(run):
    data = f"{{X: {X.tolist()}, y: {Y.tolist()}, X_validation: {XV.tolist()}, y_validation: {YV.tolist()}}}"
    text = f"problem: ridge\ndata: {data}\nparameters: {{penalty: {PENALTY.tolist()}}}\n"
    text += "solver: {name: gradient_descent, tol: 1e-3, polish: false}\n"
    _, found = run(text, None, "sensitivity.products=[hessian]", "sensitivity.accuracy=1")
    product = found["hessian", "validation_loss", "penalty", "penalty"]
    truth = jax.hessian(lambda penalty: ridge_loss(jnp.log(penalty)))(jnp.asarray(PENALTY))
    error = np.linalg.norm(product.value - truth, axis=0)
    assert error.max() > 1e-6
    assert (product.bound.total >= error).all()
    assert np.median(product.bound.total / error) < 6
    np.testing.assert_allclose(product.bound.total, product.bound.truncation + product.bound.linear + product.bound.rounding)


def test_kepler_along_both_parameters(run):
    e, M, a, b = np.array([0.1, 0.6]), np.array([1.0, 2.5]), np.array([1.0, -0.3]), np.array([0.5, 2.0])
    text = (
        f"problem: kepler\nparameters: {{eccentricity: {e.tolist()}, mean_anomaly: {M.tolist()}}}\n"
        f"sensitivity: {{products: [{{hessian: {{v: {{eccentricity: {a.tolist()}, mean_anomaly: {b.tolist()}}}}}}}]}}\n"
    )
    result, found = run(text)
    assert result.status is Status.OK
    E = result.solution["E"]
    # E' = (a sin E + b) / (1 - e cos E) along (a, b); once more by hand
    slope = 1 - e * np.cos(E)
    first = (a * np.sin(E) + b) / slope
    second = (a * np.cos(E) * first - first * (-a * np.cos(E) + e * np.sin(E) * first)) / slope
    np.testing.assert_allclose(found["hessian_along", "E", "", ""].value, second, rtol=1e-12)
    radius = 2 * a * np.sin(E) * first + e * np.cos(E) * first**2 + e * np.sin(E) * second
    np.testing.assert_allclose(found["hessian_along", "radius", "", ""].value, radius, rtol=1e-12)


class Ring(Problem):
    """Points on a line, held together by stiffening springs of rest length t and s; nothing holds them in place."""

    n = Option(5)
    loose = Option(False)
    t = Parameter(default=1.0)
    s = Parameter(shape=("two",), default=0.5)
    two = Option(2)
    u = Unknown(shape=("n",))
    spread = Output()
    last = Output()

    solver = "lbfgs"

    def energy(self, x, theta, data):
        u = x.u[:-1] if self.loose else x.u
        near, far = jnp.diff(u) - theta.t, u[2:] - u[:-2] - 2 * theta.t * theta.s[0]
        return jnp.sum(near**2 + near**4) / 2 + jnp.sum(far**2 / 2 + far**3 / 10) * theta.s[1]

    def condition(self):
        return stationary(self.energy)

    def initial(self, theta, data, key):
        return {"u": jnp.arange(self.n) * 0.8}

    def outputs(self, x, theta, data):
        u = x.u[:-1] if self.loose else x.u
        return {"spread": jnp.sum((u - jnp.mean(u)) ** 2) * theta.t, "last": x.u[-1] - x.u[0]}

    def null_space(self, x, theta, data):
        return {"translation": {"u": jnp.ones(self.n)}}


RING = "parameters: {{t: {0}, s: [{1}, 0.7]}}\nsolver: {{name: newton, tol: 1e-12}}\nsensitivity: {{products: {2}}}\n"


@pytest.mark.slow
def test_with_a_gauge_it_is_the_difference_of_jacobians(run):
    products = "[jacobian, hessian, {hessian: {v: {t: 1.0, s: [0.5, 0.0]}}}]"
    result, found = run(RING.format(1.0, 0.5, products), Ring)
    assert (result.status, result.null_space.gauges) == (Status.OK, ("translation",))
    h, again = 1e-4, run.again
    ends = [again([1.0 + s * h, 0.5 + s * 0.5 * h, 0.7])[1] for s in (1, -1)]

    def along(of):
        """Differences of J v, for v = (t: 1, s[0]: 1/2)."""
        J = [end["jacobian", of, "t", ""].value + end["jacobian", of, "s", ""].value @ np.array([0.5, 0.0]) for end in ends]
        return (J[0] - J[1]) / (2 * h)

    second = found["hessian_along", "u", "", ""].value
    np.testing.assert_allclose(second, along("u"), rtol=1e-6, atol=1e-9)
    assert abs(second.sum()) < 1e-10  # no part along the translation
    np.testing.assert_allclose(found["hessian_along", "spread", "", ""].value, along("spread"), rtol=1e-6)
    H = {(a, b): found["hessian", "spread", a, b].value for a in "ts" for b in "ts"}
    assert H["s", "t"].shape == (2,)
    np.testing.assert_allclose(H["s", "t"], H["t", "s"], rtol=1e-10)
    v = np.array([0.5, 0.0])
    whole = H["t", "t"] + 2 * H["t", "s"] @ v + v @ H["s", "s"] @ v
    np.testing.assert_allclose(whole, along("spread"), rtol=1e-6)


def test_what_has_no_derivative_has_no_second_one(run):
    products = "[hessian, {hessian: {v: {t: 1.0}}}]"
    result, found = run(f"options: {{loose: true}}\n{RING.format(1.0, 0.5, products)}", Ring)
    assert result.status is Status.PARTIAL
    second = found["hessian_along", "u", "", ""]
    assert np.isnan(second.value).tolist() == [False] * 4 + [True]
    assert np.isfinite(second.bound.total)
    assert found["hessian", "spread", "t", "t"].status is Status.OK
    assert np.isfinite(found["hessian", "spread", "t", "t"].value)
    lost = found["hessian", "last", "t", "s"]
    assert np.isnan(lost.value).all()
    assert np.isnan(lost.bound.total).all()
    assert lost.status is Status.PARTIAL


class Fold(Problem):
    """x^2 = t: at t = 0 there is no derivative."""

    t = Parameter(default=0.0)
    x = Unknown()

    def condition(self):
        return root(lambda x, theta, data: x._replace(x=x.x**2 - theta.t))


def test_scalar_unknowns_have_hessians_and_a_fold_has_none(run):
    result, found = run("sensitivity: {products: [hessian]}\ninitial: {x: 1.0}\n", Fold, "parameters.t=4.0")
    assert found["hessian", "x", "t", "t"].value == pytest.approx(-1 / 32, rel=1e-12)
    result, found = run("sensitivity: {products: [hessian]}\n", Fold)
    assert result.status is Status.SINGULAR
    assert np.isnan(found["hessian", "x", "t", "t"].value)


def test_a_hessian_of_nothing_scalar_is_refused_with_the_cure(run):
    text = "problem: kepler\nparameters: {eccentricity: [0.1], mean_anomaly: [1.0]}\nsensitivity: {products: [jacobian, hessian]}\n"
    with pytest.raises(InputError, match=r"spec.yaml:3:36: sensitivity.products.1: found 'hessian', and nothing .* scalar: ask"):
        run(text)
    with pytest.raises(InputError, match=r"name one of 'last', 'spread' in sensitivity\.of, or ask"):
        run("sensitivity: {of: [u], products: [hessian]}\n", Ring)


def test_the_plan_counts_the_solves(tmp_path):
    path = tmp_path / "spec.yaml"
    path.write_text(f"problem: here\n{RING.format(1.0, 0.5, '[hessian, {hessian: {v: {t: 1.0}}}]')}")
    loaded = load_spec(path)
    plan = engine.make_plan(loaded, engine.Vectors(engine.bind(loaded, Ring)))
    expected = "2 hessians of 3 x 3: 3 forward and 2 adjoint solves; 1 directions: 2 forward solves"
    assert dict(plan.rows)["second order"] == expected
    assert not plan.warnings
