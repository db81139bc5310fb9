"""Where there is no derivative: each situation is named, and what is still sound keeps its numbers."""

import jax.numpy as jnp
import numpy as np
import pytest

from implicit_cli import engine
from implicit_cli.core import root, stationary
from implicit_cli.problem import Option, Output, Parameter, Problem, Unknown
from implicit_cli.spec import load_spec
from implicit_cli.status import Status


@pytest.fixture
def run(tmp_path):
    def run(cls, text="", *overrides):
        path = tmp_path / "spec.yaml"
        path.write_text(f"problem: here\n{text}")
        loaded = load_spec(path, overrides)
        vectors = engine.Vectors(engine.bind(loaded, cls))
        result = engine.run_case(vectors, engine.make_plan(loaded, vectors), identity="0", seed=0)
        return result, {(p.kind, p.of, p.wrt): p for p in result.products}

    return run


class Fold(Problem):
    """x^2 = t, y = t, z = y^2: at t = 0 the branch x turns back, and y and z go on."""

    t = Parameter(default=0.0)
    x = Unknown()
    y = Unknown()
    sees_x = Output()
    sees_y = Output()

    def condition(self):
        return root(lambda x, theta, data: x._replace(x=x.x**2 - theta.t, y=x.y - theta.t))

    def outputs(self, x, theta, data):
        return {"sees_x": x.x + x.y, "sees_y": 3 * x.y}


@pytest.mark.parametrize("mode", ["forward", "adjoint"])
def test_at_a_fold_only_what_turns_back_is_nan(run, mode):
    result, found = run(Fold, f"sensitivity: {{mode: {mode}}}\n")
    assert result.status is Status.SINGULAR
    assert "leaves the range" in result.message
    assert np.isnan(found["jacobian", "x", "t"].value)
    assert np.isnan(found["jacobian", "sees_x", "t"].value)
    assert found["jacobian", "y", "t"].value == pytest.approx(1.0)
    assert found["jacobian", "sees_y", "t"].value == pytest.approx(3.0)
    assert {p.status for p in result.products} == {Status.SINGULAR}


def test_iterates_that_creep_up_to_a_fold_get_no_certificate(run):
    result, found = run(Fold, "initial: {x: 1.0, y: 0.5}\nsolver: {tol: 1.0e-8, max_steps: 60}\n")
    assert result.status is Status.NO_CERTIFICATE
    assert result.certificate.h == pytest.approx(0.5, abs=1e-6)
    assert np.isnan(found["jacobian", "x", "t"].bound.total)


def test_near_the_fold_there_is_a_derivative_and_it_is_large(run):
    result, found = run(Fold, "parameters: {t: 1.0e-6}\ninitial: {x: 1.0}\n")
    assert result.status is Status.OK
    assert found["jacobian", "x", "t"].value == pytest.approx(500.0, rel=1e-9)


class Chain(Problem):
    """Springs of stiffness k between n points on a line; the last point is tied to nothing when `loose`."""

    n = Option(5)
    loose = Option(False)
    load = Parameter(default=1.0)
    u = Unknown(shape=("n",))
    stretch = Output()

    def energy(self, x, theta, data):
        gaps = jnp.diff(x.u[:-1] if self.loose else x.u)
        force = jnp.zeros(self.n).at[0].set(-1.0).at[self.n - 2].set(1.0)
        return jnp.sum(gaps**2) / 2 - theta.load * force @ x.u

    def condition(self):
        return stationary(self.energy)

    def outputs(self, x, theta, data):
        return {"stretch": x.u[self.n - 2] - x.u[0]}

    def null_space(self, x, theta, data):
        return {"translation": {"u": jnp.ones(self.n)}}


@pytest.mark.parametrize("method", ["auto", "lu", "cg"])
@pytest.mark.parametrize("mode", ["forward", "adjoint"])
def test_a_gauge_gives_the_minimum_norm_derivative(run, method, mode):
    result, found = run(Chain, f"sensitivity: {{linear_solver: {method}, mode: {mode}}}\n")
    assert result.status is Status.OK
    assert (result.null_space.dimension, result.null_space.gauges) == (1, ("translation",))
    expected = np.array([0.0, 1.0, 2.0, 3.0, 3.0])
    np.testing.assert_allclose(found["jacobian", "u", "load"].value, expected - expected.mean(), atol=1e-10)
    assert found["jacobian", "stretch", "load"].value == pytest.approx(3.0, rel=1e-9)


@pytest.mark.parametrize("mode", ["forward", "adjoint"])
def test_a_loose_point_is_found_among_the_translations_and_named(run, mode):
    products = "[jacobian, {vjp: {ends: {u: [-1, 0, 0, 1, 7]}}}]"
    result, found = run(Chain, f"options: {{loose: true}}\nsensitivity: {{mode: {mode}, products: {products}}}\n")
    assert result.status is Status.PARTIAL
    assert result.message.startswith("1 null mode: u[4]: ")
    assert result.null_space.dimension == 2
    assert result.null_space.undetermined["null mode"]["u"].tolist() == [False] * 4 + [True]
    J = found["jacobian", "u", "load"].value
    np.testing.assert_allclose(np.diff(J[:4]), 1.0)
    assert np.isnan(J[4])
    assert found["jacobian", "stretch", "load"].value == pytest.approx(3.0)
    # the cotangent's weight on the loose point is left out, and the product says so
    assert found["vjp", "", "load"].value == pytest.approx(3.0)
    assert found["vjp", "", "load"].status is Status.PARTIAL


class Saddle(Problem):
    """A stationary point that is not a minimum: x^2 - y^2 around t."""

    t = Parameter(default=2.0)
    x = Unknown()
    y = Unknown()

    def condition(self):
        return stationary(lambda x, theta, data: (x.x - theta.t) ** 2 - (x.y - theta.t) ** 2)


@pytest.mark.parametrize(("linear", "count"), [("auto", "has 1"), ("cg", "has at least 1"), ("minres", "has at least 1")])
def test_a_saddle_is_never_called_a_minimum(run, linear, count):
    """A factor counts what is negative, an iteration sees that there is something."""
    result, found = run(Saddle, f"solver: newton\nsensitivity: {{linear_solver: {linear}}}\n")
    assert result.status is Status.NOT_A_MINIMUM
    assert f"{count} negative eigenvalue" in result.message
    assert found["jacobian", "x", "t"].value == pytest.approx(1.0)


class Kinked(Problem):
    """x = |t| through relu: F has a kink at x = 0, `margin` away."""

    t = Parameter(default=0.0)
    x = Unknown()

    def condition(self):
        return root(lambda x, theta, data: x._replace(x=jnp.maximum(x.x, 2 * x.x) - theta.t))

    def margin(self, x, theta, data):
        return jnp.abs(x.x)


def test_on_a_kink_the_status_says_so_and_near_it_not(run):
    assert run(Kinked)[0].status is Status.NONDIFFERENTIABLE
    result, found = run(Kinked, "parameters: {t: 1.0e-6}\n")
    assert result.status is Status.OK
    assert found["jacobian", "x", "t"].value == pytest.approx(0.5)


class Loud(Problem):
    """log(x) = t, started where the logarithm is not defined."""

    t = Parameter(default=1.0)
    x = Unknown(initial=-1.0)

    def condition(self):
        return root(lambda x, theta, data: x._replace(x=jnp.log(x.x) - theta.t))


def test_a_solve_that_meets_nan_ends_with_its_story_and_no_derivative(run):
    result, found = run(Loud)
    assert result.status is Status.NOT_FINITE
    assert not found
    assert "check the data, the initial guess" in result.message


class Steep(Problem):
    """A stiff linear system with condition number 1e10."""

    t = Parameter(default=1.0)
    x = Unknown(shape=("n",))
    n = Option(4)

    def condition(self):
        return root(lambda x, theta, data: x._replace(x=jnp.geomspace(1.0, 1e-10, 4) * x.x - theta.t), symmetric=True)


def test_an_accuracy_out_of_reach_is_missed_with_the_part_that_stands_in_the_way(run):
    result, found = run(Steep, "solver: {tol: 1.0e-6}\nsensitivity: {accuracy: 1.0e-18}\n")
    assert result.status is Status.ACCURACY_NOT_MET
    assert "asked 1.0e-18; the" in result.message
    product = found["jacobian", "x", "t"]
    assert np.linalg.norm(product.value - np.geomspace(1.0, 1e10, 4)) <= product.bound.total + 1e-15 * 1e10
    assert run(Steep, "solver: {tol: 1.0e-6}\nsensitivity: {accuracy: 1.0e-3}\n")[0].status is Status.OK


def test_a_linear_solver_that_stops_short_fails_its_case(run):
    linear = "{name: cg, max_steps: 1, escalate: false}"
    result, found = run(Steep, f"sensitivity: {{linear_solver: {linear}}}\nsolver: {{tol: 1.0e-6, polish: false}}\n")
    assert result.status is Status.LINEAR_SOLVE_FAILED
    assert found["jacobian", "x", "t"].status is Status.LINEAR_SOLVE_FAILED
    assert result.linear[0].status.tolist() == [Status.LINEAR_SOLVE_FAILED]


def test_outputs_alone_are_enough_and_so_is_nothing(run):
    _, found = run(Fold, "parameters: {t: 1.0}\ninitial: {x: 1.0}\nsensitivity: {of: [sees_y]}\n")
    assert list(found) == [("jacobian", "sees_y", "t")]
    result, found = run(Fold, "parameters: {t: 1.0}\ninitial: {x: 1.0}\nsensitivity: {products: []}\n")
    assert (result.status, found) == (Status.OK, {})
