"""The same derivatives by other methods: within their own error estimates of the theorem's, or refused with a reason."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from implicit_cli import engine, plugins
from implicit_cli.core import fixed_point, kkt, root, stationary
from implicit_cli.engine.methods.finite_difference import richardson
from implicit_cli.errors import InputError
from implicit_cli.problem import Output, Parameter, Problem, Unknown
from implicit_cli.spec import load_spec
from implicit_cli.status import Status

from .test_hessian import RING, Ring

pytestmark = pytest.mark.slow


@pytest.fixture
def run(tmp_path):
    def run(text, *overrides, cls=None):
        path = tmp_path / "spec.yaml"
        path.write_text(text if cls is None else f"problem: here\n{text}")
        loaded = load_spec(path, overrides)
        cls = cls or plugins.load(loaded.model.problem, base=tmp_path, allow_plugin=False, plugins=())
        vectors = engine.Vectors(engine.bind(loaded, cls))
        result = engine.run_case(vectors, engine.make_plan(loaded, vectors), identity="0", seed=0)
        return result, {(p.kind, p.name, p.of, p.wrt, p.wrt2): p for p in result.products}

    return run


SPECS = {
    "kepler": """problem: kepler
parameters: {eccentricity: [0.1, 0.6, 0.3], mean_anomaly: [1.0, 2.0, -0.5]}
sensitivity:
  products:
    - jacobian
    - jvp: {v: {eccentricity: 1.0, mean_anomaly: [0.5, 0.0, 1.0]}}
    - vjp: {w: {E: [1.0, 0.0, 2.0], radius: -1.0}}
""",
    "quadratic": """problem: quadratic
data: {Q: [[2.0, 0.5], [0.5, 1.0]]}
parameters: {b: [1.0, -1.0]}
solver: newton
sensitivity: {products: [jacobian, {vjp: {w: {minimum: 1.0, x: [0.0, 1.0]}}}], mode: adjoint}
""",
    "ridge": """problem: ridge
data:
  X: [[1.0, 2.0, 0.3], [3.0, -1.0, 0.1], [0.5, 1.5, -1.0], [0.2, -0.4, 0.9]]
  y: [1.0, 2.0, 0.5, -0.3]
  X_validation: [[2.0, 1.0, 0.5], [1.0, 1.0, 0.2]]
  y_validation: [1.5, 1.0]
parameters: {penalty: [0.1, 0.3, 0.2]}
transforms: {penalty: log}
solver: newton
""",
    "contraction": """problem: contraction
data: {M: [[0.0, 1.0, 0.2], [-1.0, 0.5, 0.0], [0.3, 0.1, 0.2]]}
parameters: {rho: 0.4, b: [1.0, 2.0, -1.0]}
solver: {name: fixed_point, tol: 1.0e-14, max_steps: 200}
""",
}


def distance(product, truth):
    """Error per column of the bound."""
    error = product.value - truth.value
    return np.linalg.norm(error.reshape(-1, max(product.bound.total.size, 1)), axis=0).reshape(product.bound.total.shape)


@pytest.mark.parametrize("problem", SPECS)
@pytest.mark.parametrize("method", ["finite_difference", "complex_step"])
def test_within_their_own_estimates_of_the_theorem(run, problem, method):
    _, truth = run(SPECS[problem])
    result, found = run(SPECS[problem], f"sensitivity.method={method}")
    assert (result.status, result.method) == (Status.OK, method)
    assert found.keys() == truth.keys()
    loosest = 1e-9 if method == "finite_difference" else 1e-13
    for key, product in found.items():
        bound = product.bound.total + truth[key].bound.total
        assert (distance(product, truth[key]) <= bound).all(), key
        assert (bound <= loosest * max(1.0, np.abs(product.value).max())).all(), key
        assert product.bound.kind == "estimate"
        assert product.value.shape == truth[key].value.shape
        assert product.direction.keys() == truth[key].direction.keys()


@pytest.mark.parametrize("problem", ["quadratic", "contraction"])
def test_unrolled_agrees_where_the_solver_converged_and_claims_no_error(run, problem):
    _, truth = run(SPECS[problem])
    result, found = run(SPECS[problem], "sensitivity.method=unrolled")
    assert result.status is Status.OK
    assert "no error estimate" in result.message
    assert result.solver.polish_steps == 0
    assert found.keys() == truth.keys()
    for key, product in found.items():
        np.testing.assert_allclose(product.value, truth[key].value, rtol=1e-8, atol=1e-9)
        assert np.isnan(product.bound.total).all()


def test_unrolled_is_the_derivative_of_the_iterate_and_not_of_the_solution(run):
    """x <- rho M x + b from 0: after k steps x_k = sum of (rho M)^i b, so dx_k/db is that sum."""
    text = SPECS["contraction"].replace("tol: 1.0e-14, max_steps: 200", "tol: 0.1, max_steps: 200")
    M = 0.4 * np.array([[0.0, 1.0, 0.2], [-1.0, 0.5, 0.0], [0.3, 0.1, 0.2]])
    for mode in ("forward", "adjoint"):
        result, found = run(text, "sensitivity.method=unrolled", f"sensitivity.mode={mode}")
        steps = result.solver.steps
        assert 2 <= steps < 10
        expected = sum(np.linalg.matrix_power(M, i) for i in range(steps))
        np.testing.assert_allclose(found["jacobian", "", "x", "b", ""].value, expected, rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(result.solution["x"], expected @ np.array([1.0, 2.0, -1.0]), rtol=1e-12)


@pytest.mark.slow
def test_a_gauge_is_taken_out_of_differences(run):
    products = "[jacobian, {hessian: {v: {t: 1.0}}}]"
    _, truth = run(RING.format(1.0, 0.5, products), cls=Ring)
    result, found = run(RING.format(1.0, 0.5, products), "sensitivity.method=finite_difference", cls=Ring)
    assert result.status is Status.OK
    assert found.keys() == truth.keys()
    for key, product in found.items():
        bound = product.bound.total + truth[key].bound.total
        assert (distance(product, truth[key]) <= bound).all(), key
        assert (bound <= 1e-6 * max(1.0, np.abs(product.value).max())).all(), key


def test_whole_hessians_from_differences(run):
    text = SPECS["quadratic"]
    truth = run(text, "sensitivity.products=[hessian]")[1]["hessian", "", "minimum", "b", "b"]
    result, found = run(text, "sensitivity.products=[hessian]", "sensitivity.method=finite_difference")
    product = found["hessian", "", "minimum", "b", "b"]
    assert result.status is Status.OK
    assert (distance(product, truth) <= product.bound.total + truth.bound.total).all()
    assert (product.bound.total < 1e-7).all()
    np.testing.assert_array_equal(product.value, product.value.T)


def test_a_gauge_and_complex_steps(run):
    _, truth = run(RING.format(1.0, 0.5, "[jacobian]"), cls=Ring)
    result, found = run(RING.format(1.0, 0.5, "[jacobian]"), "sensitivity.method=complex_step", cls=Ring)
    assert result.status is Status.OK
    for key, product in found.items():
        assert (distance(product, truth[key]) <= product.bound.total + truth[key].bound.total).all(), key


def test_undetermined_components_are_undetermined_by_every_method(run):
    text = f"options: {{loose: true}}\n{RING.format(1.0, 0.5, '[jacobian, {vjp: {w: {u: [1, 0, 2, 0, 7]}}}]')}"
    for method in ("finite_difference", "complex_step"):
        result, found = run(text, f"sensitivity.method={method}", cls=Ring)
        assert result.status is Status.PARTIAL
        assert np.isnan(found["jacobian", "", "u", "t", ""].value).tolist() == [False] * 4 + [True]
        assert np.isnan(found["jacobian", "", "last", "s", ""].value).all()
        assert found["vjp", "w", "", "t", ""].status is Status.PARTIAL


def test_complex_steps_know_of_an_early_stop(run):
    text = SPECS["kepler"] + "solver: {tol: 1.0e-3, polish: false}\n"
    _, truth = run(SPECS["kepler"])
    _, found = run(text, "sensitivity.method=complex_step", "sensitivity.accuracy=1")
    product = found["jacobian", "", "E", "eccentricity", ""]
    error = distance(product, truth["jacobian", "", "E", "eccentricity", ""])
    assert error.max() > 1e-9
    assert (product.bound.total >= error).all()


def test_richardson_is_exact_for_even_polynomials_and_knows_its_error():
    h = 0.1 / 2.0 ** np.arange(4)
    table = richardson(h, (3.0 + 2 * h**2 - 5 * h**4)[:, None])
    best, error, _ = table[-1]
    assert best == pytest.approx(3.0, abs=1e-13)
    assert error < 1e-4
    for value, error, _ in richardson(h, np.cosh(h)[:, None]):
        assert abs(value - 1.0) <= error


# What cannot be done is refused, and says why


class Units(Problem):
    """x (1 + exp(small)) = large: one parameter is counted in Pascal, the other in nanometres."""

    large, small = Parameter(default=3e9), Parameter(shape=("two",), default=0.2)
    x = Unknown(initial=1.0)

    def condition(self):
        return root(lambda x, theta, data: x._replace(x=x.x * (1 + jnp.exp(jnp.sum(theta.small))) - theta.large))


def test_steps_are_relative_to_the_size_of_their_own_parameter(run):
    _, found = run("parameters: {small: [0.2, 0.1]}\nsolver: newton\nsensitivity: {method: finite_difference}", cls=Units)
    e = np.exp(0.3)
    for name, truth in {"large": 1 / (1 + e), "small": np.full(2, -3e9 * e / (1 + e) ** 2)}.items():
        product = found["jacobian", "", "x", name, ""]
        np.testing.assert_allclose(product.value, truth, rtol=1e-10)
        assert (np.abs(product.value - truth) <= product.bound.total).all()
        assert (product.bound.total <= 1e-9 * np.abs(truth)).all()


class Cone(Problem):
    """|x| x = t in one way or another: `how` hides what is not analytic."""

    t = Parameter(default=2.0)
    x = Unknown(initial=1.0)
    y = Output()
    how = "abs"

    def condition(self):
        F = {
            "abs": lambda x, theta: jnp.abs(x.x) * x.x - theta.t,
            "real": lambda x, theta: x.x + jnp.real(x.x**2) - theta.t,
            "clip": lambda x, theta: jnp.clip(x.x, 0.5, 10.0) - theta.t,
        }[self.how]
        return root(lambda x, theta, data: x._replace(x=F(x, theta)))

    def outputs(self, x, theta, data):
        return {"y": x.x**2}


@pytest.mark.parametrize(("how", "why"), [("abs", "is not analytic"), ("real", "is not analytic"), ("clip", "cannot be evaluated")])
def test_complex_steps_refuse_what_is_not_analytic(run, how, why):
    cls = type("Sub", (Cone,), {"how": how})
    with pytest.raises(InputError, match=rf"spec.yaml:2:23: sensitivity.method: found 'complex_step': F {why}.*: 'implicit'"):
        run("sensitivity: {method: complex_step}\n", cls=cls)
    result, found = run("sensitivity: {method: finite_difference}\n", cls=cls)
    assert result.status is Status.OK
    if how == "abs":
        assert found["jacobian", "", "x", "t", ""].value == pytest.approx(0.5 / np.sqrt(2.0), rel=1e-9)


class Switch(Problem):
    """Analytic at the start, and not at the solution x = t."""

    t = Parameter(default=2.0)
    x = Unknown(initial=0.5)

    def condition(self):
        def T(x, theta, data):
            return x._replace(x=jnp.where(jnp.real(x.x) > 1.0, jnp.real(theta.t), theta.t) + 0 * x.x)

        return fixed_point(T)


def test_what_is_not_analytic_at_the_solution_is_void_and_says_so(run):
    result, found = run("sensitivity: {method: complex_step}\n", cls=Switch)
    assert result.status is Status.NONDIFFERENTIABLE
    assert "not analytic" in result.message
    assert np.isnan(found["jacobian", "", "x", "t", ""].value)


class Program(Problem):
    """A point on a line nearest to t."""

    t = Parameter(shape=("two",), default=1.0)
    x = Unknown(shape=("two",))
    nu = Unknown()

    def condition(self):
        return kkt(lambda x, theta, data: jnp.sum((x.x - theta.t) ** 2), lambda x, theta, data: jnp.sum(x.x) - 1.0)


def test_other_conditions_host_solvers_and_hessians_are_refused_by_name(run):
    text = "parameters: {t: [1.0, 2.0]}\nsensitivity: {method: complex_step}\nsolver: newton\n"
    with pytest.raises(InputError, match="which a kkt condition does not allow; allowed for: 'stationary', 'root', 'fixed_point'"):
        run(text, cls=Program)
    with pytest.raises(InputError, match=r"method: found 'unrolled': solver 'slsqp' runs on the host"):
        run(text, "sensitivity.method=unrolled", "solver=slsqp", cls=Program)
    for method in ("unrolled", "complex_step"):
        with pytest.raises(InputError, match=f"'{method}', allowed with hessian products: 'implicit', 'finite_difference'"):
            run(SPECS["quadratic"], "sensitivity.products=[hessian]", f"sensitivity.method={method}")


class Well(Problem):
    """The minimum of x^4 / 4 - x^2 / 2 - t x on the left disappears at t = 2 / sqrt(27)."""

    t = Parameter(default=0.384)
    x = Unknown(initial=-0.7)

    def condition(self):
        return stationary(lambda x, theta, data: x.x**4 / 4 - x.x**2 / 2 - theta.t * x.x)


def test_differences_across_a_fold_choose_steps_that_do_not_leave_the_basin(run):
    result, found = run("solver: {tol: 1.0e-10}\nsensitivity: {method: finite_difference, accuracy: 1}\n", cls=Well)
    x = result.solution["x"]
    product = found["jacobian", "", "x", "t", ""]
    error = abs(product.value - 1 / (3 * x**2 - 1))
    assert x < 0
    assert error <= product.bound.total
    assert error < 1e-2 * abs(product.value)


def test_the_plan_says_the_method_and_its_cost(tmp_path):
    path = tmp_path / "spec.yaml"
    path.write_text(SPECS["contraction"])
    rows = {}
    for method in ("implicit", "unrolled", "finite_difference", "complex_step"):
        loaded = load_spec(path, [f"sensitivity.method={method}"])
        cls = plugins.load("contraction", base=tmp_path, allow_plugin=False, plugins=())
        rows[method] = dict(engine.make_plan(loaded, engine.Vectors(engine.bind(loaded, cls))).rows)
    assert "at most 65 solves" in rows["finite_difference"]["method"]
    assert "polish off" in rows["unrolled"]["solver"]
    assert "complex" in rows["complex_step"]["method"]
    assert jax.config.jax_enable_x64
