"""Accuracy asked for, derivatives corrected, both sides of a kink, and single precision: on problems with closed forms."""

import jax.numpy as jnp
import numpy as np
import pytest

from implicit_cli import engine
from implicit_cli.core import stationary
from implicit_cli.core.composite import proximal_gradient
from implicit_cli.core.prox import lasso
from implicit_cli.problem import Option, Output, Parameter, Problem, Unknown
from implicit_cli.spec import load_spec
from implicit_cli.status import Status

STEEP = np.geomspace(1.0, 300.0, 5)


class Bowl(Problem):
    """x_i = (t / s_i)^(1/3): the minimum of s_i x^4 / 4 - t x, with dx/dt = x / (3 t)."""

    t = Parameter(default=2.0)
    x = Unknown(shape=(5,), initial=1.0)
    top = Output()

    def condition(self):
        return stationary(lambda x, theta, data: jnp.sum(jnp.asarray(STEEP, x.x.dtype) * x.x**4 / 4 - theta.t * x.x))

    def outputs(self, x, theta, data):
        return {"top": x.x[0] * theta.t}


class Line(Problem):
    """(S + 1 1') x = t b: linear, with condition number `kappa`."""

    t = Parameter(default=1.0)
    x = Unknown(shape=(4,))
    kappa = Option(1e3)

    def matrix(self, dtype):
        return jnp.asarray(np.diag(np.geomspace(1.0, 1.0 / self.kappa, 4)) + 0.1 / self.kappa, dtype)

    def condition(self):
        return stationary(lambda x, theta, data: x.x @ self.matrix(x.x.dtype) @ x.x / 2 - theta.t * jnp.sum(x.x))


class Threshold(Problem):
    """x = max(t - 1, 0), by a proximal operator: a kink at t = 1."""

    t = Parameter(default=1.0)
    x = Unknown(initial=0.3)
    double = Output()

    def condition(self):
        def f(x, theta, data):
            return (x.x - theta.t) ** 2 / 2

        return proximal_gradient(f, lambda v, eta, theta, data: v._replace(x=lasso(v.x, eta)), eta=0.5)

    def outputs(self, x, theta, data):
        return {"double": 2 * x.x}


@pytest.fixture
def run(tmp_path):
    def run(cls, text="", *overrides):
        path = tmp_path / "spec.yaml"
        path.write_text(f"problem: here\n{text}")
        loaded = load_spec(path, overrides)
        vectors = engine.Vectors(engine.bind(loaded, cls))
        plan = engine.make_plan(loaded, vectors)
        result = engine.run_case(vectors, plan, identity="0", seed=0)
        return result, {(p.kind, p.of, p.name or p.wrt): p for p in result.products}, plan

    return run


def bowl(t=2.0):
    x = (t / STEEP) ** (1 / 3)
    return x, x / (3 * t)


ROUGH = "solver: {name: lbfgs, tol: 1.0e-1, polish: false}\n"


@pytest.mark.parametrize("mode", ["forward", "adjoint"])
def test_the_accuracy_asked_for_drives_the_solver(run, mode):
    mode = f"mode: {mode}"
    (loose, found, _), (tight, better, _) = (
        run(Bowl, f"{ROUGH}sensitivity: {{{mode}, accuracy: {accuracy}}}\n") for accuracy in (0.5, 1e-6)
    )
    assert loose.status is tight.status is Status.OK
    x, J = bowl()
    for result, products in ((loose, found), (tight, better)):
        product = products["jacobian", "x", "t"]
        assert np.linalg.norm(product.value - J) <= product.bound.total
        assert np.linalg.norm(result.solution["x"] - x) <= result.bounds["x"].total
        assert abs(result.outputs["top"] - 2 * x[0]) <= result.bounds["top"].total
    assert found["jacobian", "x", "t"].bound.total > 1e-5 * np.linalg.norm(J)
    assert better["jacobian", "x", "t"].bound.total <= 1e-6 * np.linalg.norm(J)
    assert tight.solver.tol < 1e-3 < loose.solver.tol == 1e-1
    assert tight.solver.steps > loose.solver.steps


def test_what_no_tolerance_mends_says_which_part_stands_in_the_way(run):
    result, _, _ = run(Bowl, "sensitivity: {accuracy: 1.0e-18}\n")
    assert result.status is Status.ACCURACY_NOT_MET
    assert "asked 1.0e-18; the rounding part stands in the way" in result.message


@pytest.mark.parametrize("mode", ["forward", "adjoint"])
def test_a_corrected_derivative_is_right_to_second_order(run, mode):
    text = f"{ROUGH}sensitivity: {{mode: {mode}, accuracy: 1.0, corrected: %s}}\n"
    _, J = bowl()
    errors, bounds = zip(
        *(
            (np.linalg.norm(product.value - J), product.bound.total)
            for product in (run(Bowl, text % corrected)[1]["jacobian", "x", "t"] for corrected in ("false", "true"))
        ),
        strict=True,
    )
    assert errors[1] < 0.2 * errors[0]
    assert bounds[1] < bounds[0]
    assert errors[0] <= bounds[0]
    assert errors[1] <= bounds[1]


def test_both_sides_of_a_kink(run):
    text = "sensitivity: {one_sided: true, products: [{jvp: {up: {t: 1.0}, down: {t: -2.0}}}]}\n"
    at, found, _ = run(Threshold, text)
    assert at.status is Status.NONDIFFERENTIABLE
    assert np.isnan(found["jvp", "x", "up"].value)
    for name, left, right in (("up", 0.0, 1.0), ("down", -2.0, 0.0)):
        assert found["jvp_left", "x", name].value == pytest.approx(left, abs=1e-9)
        assert found["jvp_right", "x", name].value == pytest.approx(right, abs=1e-9)
        assert found["jvp_left", "double", name].value == pytest.approx(2 * left, abs=1e-9)
        assert found["jvp_right", "double", name].status is Status.OK
    beside, found, _ = run(Threshold, text + "parameters: {t: 1.5}\n")
    assert beside.status is Status.OK
    for kind in ("jvp", "jvp_left", "jvp_right"):
        assert found[kind, "x", "up"].value == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize("mode", ["forward", "adjoint"])
def test_float32_is_certified_in_float64_and_says_what_it_lost(run, mode):
    result, found, plan = run(Bowl, f"precision: float32\nsolver: {{tol: 1.0e-3}}\nsensitivity: {{mode: {mode}}}\n")
    assert result.status is Status.OK
    assert "float32 carries 6.9 digits" in result.message
    assert plan.accuracy == 1e-3
    x, J = bowl()
    product = found["jacobian", "x", "t"]
    error = np.linalg.norm(product.value - J)
    assert 1e-9 * np.linalg.norm(J) < error <= product.bound.total < 4 * error
    assert product.value.astype(np.float32).astype(float).tolist() == product.value.tolist()
    moved = np.linalg.norm(result.solution["x"] - x)
    assert 1e-9 < moved <= result.bounds["x"].total < 2 * moved


def test_refined_float32_has_the_digits_of_float64(run):
    result, found, _ = run(Bowl, "precision: float32\nrefine: true\n")
    x, J = bowl()
    assert (result.status, result.message) == (Status.OK, "")
    assert "in float32, refined" in result.linear[0].method
    np.testing.assert_allclose(result.solution["x"], x, rtol=1e-14)
    np.testing.assert_allclose(found["jacobian", "x", "t"].value, J, rtol=1e-14)
    assert found["jacobian", "x", "t"].bound.total < 1e-13 * np.linalg.norm(J)


@pytest.mark.parametrize(("kappa", "alone"), [(1e3, True), (1e9, False)])
def test_where_float32_has_no_digit_float64_takes_over_and_that_is_said(run, kappa, alone):
    text = f"precision: float32\nrefine: true\noptions: {{kappa: {kappa:.1e}}}\nsolver: {{name: lbfgs, tol: 1.0e-4}}\n"
    result, found, _ = run(Line, text)
    assert result.linear[0].method.startswith("cholesky in float32, refined" if alone else "cholesky in float32 -> ")
    A = np.diag(np.geomspace(1.0, 1.0 / kappa, 4)) + 0.1 / kappa
    J = np.linalg.solve(A, np.ones(4))
    assert np.linalg.norm(found["jacobian", "x", "t"].value - J) <= found["jacobian", "x", "t"].bound.total + 1e-14 * kappa


def test_refine_needs_float32(tmp_path):
    (tmp_path / "spec.yaml").write_text("problem: ridge\nrefine: true\n")
    with pytest.raises(Exception, match=r"spec.yaml:2:.*refine: found true, allowed: with precision: float32"):
        load_spec(tmp_path / "spec.yaml")
