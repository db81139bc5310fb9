"""The objective of an outer loop: gradients against closed forms, bounds that hold, transforms, and what is refused."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from implicit_cli import plugins
from implicit_cli.core import root, stationary
from implicit_cli.engine import Vectors, bind
from implicit_cli.engine.outer import FINEST, LOOSE, SHARE, Objective
from implicit_cli.errors import InputError
from implicit_cli.outer import Trial, minimise, projected
from implicit_cli.problem import Output, Parameter, Problem, Unknown
from implicit_cli.spec import load_spec
from implicit_cli.status import Status


@pytest.fixture
def make(tmp_path):
    """An `Objective` of a spec's text, with the problem that it names or of a class."""

    def make(text, *overrides, cls=None):
        path = tmp_path / "spec.yaml"
        path.write_text(text)
        loaded = load_spec(path, overrides)
        cls = cls or plugins.load(loaded.model.problem, base=tmp_path, allow_plugin=False, plugins=())
        return Objective(loaded, Vectors(bind(loaded, cls)))

    return make


# Ridge regression with two features: the validation loss over both penalties, in closed form

RNG = np.random.default_rng(5)
X, X_VAL = RNG.normal(size=(7, 2)), RNG.normal(size=(5, 2))
Y, Y_VAL = X @ [1.0, -0.6] + RNG.normal(size=7), X_VAL @ [1.0, -0.6] + 0.7 * RNG.normal(size=5)
RIDGE = f"""\
problem: ridge
data: {{X: {X.tolist()}, y: {Y.tolist()}, X_validation: {X_VAL.tolist()}, y_validation: {Y_VAL.tolist()}}}
parameters: {{penalty: [0.3, 0.5]}}
transforms: {{penalty: log}}
outer: {{objective: validation_loss, bounds: {{penalty: [1.0e-3, 1.0e+2]}}}}
"""


def weights(penalty):
    return np.linalg.solve(X.T @ X / 7 + np.diag(penalty), X.T @ Y / 7)


def loss(penalty):
    return float(np.mean((X_VAL @ weights(penalty) - Y_VAL) ** 2) / 2)


def differences(f, x, h=1e-6):
    return np.array([(f(x + h * e) - f(x - h * e)) / (2 * h) for e in np.eye(len(x))])


def test_gradients_and_the_optimum_are_those_of_the_closed_form_and_of_its_fine_grid(make):
    objective = make(RIDGE)
    for point in (np.log([0.3, 0.5]), np.log([0.02, 4.0])):
        one, x = objective(point, None, None)
        assert one.objective == pytest.approx(loss(np.exp(point)), rel=1e-12)
        np.testing.assert_allclose(one.gradient, differences(lambda z: loss(np.exp(z)), point), rtol=1e-6, atol=1e-9)
        assert 0 < one.bound < 1e-12
        np.testing.assert_allclose(x, weights(np.exp(point)), rtol=1e-12)
    found = minimise(objective, objective.settings)
    assert found.converged
    penalty = objective.theta(found.best.point)["penalty"]
    grid = np.geomspace(1e-3, 1e2, 161)
    values = np.array([[loss((a, b)) for b in grid] for a in grid])
    i, j = np.unravel_index(values.argmin(), values.shape)
    assert found.best.objective <= values.min()
    assert found.best.objective == pytest.approx(values.min(), rel=1e-3)
    np.testing.assert_allclose(np.log(penalty), np.log([grid[i], grid[j]]), atol=np.log(grid[1] / grid[0]))


# Bounds and transforms


KEPLER = """\
problem: kepler
parameters: {eccentricity: [0.3, 0.5], mean_anomaly: [1.0, 1.8]}
outer: {objective: {E: [1.4, 2.1], radius: [0.9, 1.05]}, weights: {E: [1.0, 3.0]}}
"""


@pytest.mark.parametrize(
    "transform", [*(pytest.param(name, marks=pytest.mark.exhaustive) for name in ("identity", "log10", "logit", "softplus")), "log"]
)
def test_every_transform_finds_the_same_bounded_optimum(make, transform):
    objective = make(KEPLER + f"transforms: {{eccentricity: {transform}}}\n", "outer.bounds={eccentricity: [0.25, 0.6]}")
    found = minimise(objective, objective.settings)
    assert found.converged, found.reason

    def f(z):
        e, M = z[:2], z[2:]
        E = [scipy.optimize.brentq(lambda E, e=e, M=M: E - e * np.sin(E) - M, 0, 7, xtol=1e-14) for e, M in zip(e, M, strict=True)]
        return float(
            np.sum((np.array(E) - [1.4, 2.1]) ** 2 @ np.array([1.0, 3.0])) + np.sum((1 - e * np.cos(E) - [0.9, 1.05]) ** 2)
        )

    theta = objective.theta(found.best.point)
    z = np.concatenate([theta["eccentricity"], theta["mean_anomaly"]])
    g = differences(f, z)
    assert found.best.objective == pytest.approx(f(z), abs=1e-12)
    inside = np.concatenate([(theta["eccentricity"] > 0.25) & (theta["eccentricity"] < 0.6), [True, True]])
    np.testing.assert_allclose(g[inside], 0, atol=1e-4)
    assert not inside.all()
    assert (g[:2][theta["eccentricity"] == 0.25] > 0).all()  # on the lower bound, to the last bit, it would go further down
    assert (g[:2][theta["eccentricity"] == 0.6] < 0).all()


@pytest.mark.parametrize(
    ("transform", "given", "low", "high"),
    [
        ("identity", "[null, 0.9]", 0.0, 0.9),
        ("identity", "[0.1, null]", 0.1, 0.999),
        ("log", "[null, null]", -np.inf, np.log(0.999)),
        ("log10", "[0.01, 0.1]", -2.0, -1.0),
        ("logit", "[0.0, 0.5]", -np.inf, 0.0),
        ("softplus", "[0.5, 0.6]", np.log(np.expm1(0.5)), np.log(np.expm1(0.6))),
    ],
)
def test_bounds_on_theta_are_bounds_on_lambda(make, transform, given, low, high):
    given = f"outer.bounds={{eccentricity: {given}}}"
    start = {"log10": 0.05, "softplus": 0.55}.get(transform, 0.3)
    objective = make(
        KEPLER + f"transforms: {{eccentricity: {transform}}}\n",
        given,
        "outer.parameters=[eccentricity]",
        f"parameters.eccentricity={start}",
    )
    np.testing.assert_allclose(objective.settings.low, low, rtol=1e-12)
    np.testing.assert_allclose(objective.settings.high, high, rtol=1e-12)


# The bound drives the accuracy


class Loose(Problem):
    """x = cos(x) / 2 + t, by an iteration that stops where it is told to."""

    t = Parameter(shape=(2,), default=0.5)
    x = Unknown(shape=(2,))
    square = Output()
    solver = "newton_cg"

    def condition(self):
        return stationary(lambda x, theta, data: jnp.sum(x.x**2 / 2 - jnp.sin(x.x) / 2 - theta.t * x.x))

    def outputs(self, x, theta, data):
        return {"square": jnp.sum((x.x - jnp.array([0.9, -0.4])) ** 2)}


def test_the_accuracy_follows_the_projected_gradient(make):
    text = "problem: here\nsolver: {name: gradient_descent, tol: 0.3, polish: false}\nouter: {objective: square, tol: 1.0e-9}\n"
    objective = make(text, cls=Loose)
    found = minimise(objective, objective.settings)
    assert found.converged, found.reason
    x = np.array([0.9, -0.4])
    np.testing.assert_allclose(found.best.point, x - np.cos(x) / 2, atol=1e-8)
    accuracies = [one.accuracy for one in found.evaluations]
    assert accuracies[0] == LOOSE
    assert accuracies[-1] < 1e-2
    assert (np.diff(accuracies) <= 0).all()
    assert max(one.residual for one in found.evaluations) > 1e-4
    for one in found.evaluations:
        assert one.bound <= SHARE * max(projected(one, objective.settings), 1e-9)
        E = np.array([scipy.optimize.brentq(lambda z, t=t: z - np.cos(z) / 2 - t, -9, 9, xtol=1e-15) for t in one.point])
        true = 2 * (E - x) / (1 + np.sin(E) / 2)
        assert np.linalg.norm(one.gradient - true) <= one.bound
    assert accuracies[-1] > FINEST


# A case at another lambda


class Counted(Problem):
    """x^3 + x = sqrt(t), where t >= 0; counts how often it is traced."""

    t = Parameter(shape=(3,), default=1.0)
    x = Unknown(shape=(3,), initial=0.5)
    size = Output()
    traced = 0

    def condition(self):
        return root(lambda x, theta, data: x._replace(x=x.x**3 + x.x - jnp.sqrt(theta.t)), symmetric=True)

    def outputs(self, x, theta, data):
        type(self).traced += 1
        return {"size": jnp.sum(x.x**2)}


def test_nothing_is_compiled_after_the_first_evaluation_and_a_failed_solve_is_no_number(make):
    objective = make("problem: here\nouter: {objective: size}\n", cls=Counted)
    point = np.array([1.0, 2.0, 3.0])
    before = objective(point, None, None)
    traced = Counted.traced
    for scale in (0.5, 2.0, -1.0, 3.0):
        found, x = objective(scale * point, before.x, before.evaluation)
        if scale < 0:
            assert found.status is Status.NOT_FINITE
            assert not found.good
            assert found.message
            assert np.isnan(found.objective)
            assert np.isnan(found.gradient).all()
            continue
        np.testing.assert_allclose(x**3 + x, np.sqrt(scale * point), atol=1e-12)
        np.testing.assert_allclose(found.gradient, x / (3 * x**2 + 1) / np.sqrt(scale * point), rtol=1e-10)
        before = Trial(found, x)
    assert Counted.traced == traced


# Refusals


@pytest.mark.parametrize(
    ("change", "texts"),
    [
        ("outer.objective=radiuss", ["found 'radiuss', allowed: an output or unknown that is a single number: nothing"]),
        (
            "outer.objective=radius",
            ["'radius' has shape (2), allowed: a single number: nothing; to come near a target: {radius: TARGET}"],
        ),
        ("outer.objective={EE: 1.0}", ["outer.objective.EE: found 'EE', allowed: 'E', 'radius'; did you mean 'E'?"]),
        ("outer.objective={E: [1, 2, 3]}", ["found shape (3), allowed: (2)"]),
        ("outer.objective={E: {value: 1, unit: deg}}", ["found unit 'deg', allowed: 'rad'"]),
        ("outer.objective={E: nope.h5:/E}", ["nope.h5: no such file"]),
        ("outer.validation=E", ["outer.validation: 'E' has shape (2)"]),
        (
            "outer.parameters=[eccentricty]",
            ["found 'eccentricty', allowed: 'eccentricity', 'mean_anomaly'; did you mean 'eccentricity'?"],
        ),
        ("outer.bounds={M: [0, 1]}", ["'M' is not varied, allowed: 'eccentricity', 'mean_anomaly'"]),
        ("outer.bounds={eccentricity: [0.1, 1.5]}", ["found 0.1 to 1.5, allowed: within 0 to 0.999, as Kepler declares"]),
        (
            "outer.bounds={mean_anomaly: [1.5, null]}",
            ["parameters.mean_anomaly: found 1, allowed: within outer.bounds, at least 1.5"],
        ),
        ("outer.weights={E: -1}", ["outer.weights.E: found -1, allowed: at least 0"]),
    ],
)
def test_what_does_not_fit_is_refused_with_its_place(make, change, texts):
    with pytest.raises(InputError) as error:
        make(KEPLER.replace(", weights: {E: [1.0, 3.0]}", ""), change)
    assert len(error.value.messages) == len(texts)
    for message, text in zip(error.value.messages, texts, strict=True):
        assert text in message


def test_bounds_that_a_transform_cannot_reach_are_refused(make):
    with pytest.raises(InputError, match="found -2 to -1, allowed with transform 'log': at least 0"):
        make("problem: here\ntransforms: {t: log}\nouter: {objective: size, bounds: {t: [-2, -1]}}\n", cls=Counted)


def test_names_of_the_problem_are_not_taken(make):
    class Named(Counted):
        """With names that look like ours."""

        outer_objective = Output()

        def outputs(self, x, theta, data):
            return {**super().outputs(x, theta, data), "outer_objective": 3 * x.x[0]}

    objective = make("problem: here\nouter: {objective: {outer_objective: 1.5}}\n", cls=Named)
    x, vectors = jnp.array([0.7, 0.1, 0.2]), objective.vectors
    values = vectors.y.split(vectors.system.g(x, vectors.start, vectors.data))
    assert float(values["outer_objective"]) == pytest.approx(2.1)
    assert float(values[objective.name]) == pytest.approx(0.36)


def test_a_problem_without_parameters_is_refused(make):
    class Fixed(Problem):
        """x = 2."""

        x = Unknown()

        def condition(self):
            return root(lambda x, theta, data: x._replace(x=x.x - 2.0))

    with pytest.raises(InputError, match="Fixed has no parameters: there is nothing to vary"):
        make("problem: here\nouter: {objective: x}\n", cls=Fixed)


def test_an_unknown_that_is_a_number_is_an_objective(make):
    class Line(Problem):
        """x = t^2 + 1."""

        t = Parameter(default=3.0)
        x = Unknown()

        def condition(self):
            return root(lambda x, theta, data: x._replace(x=x.x - theta.t**2 - 1.0))

    objective = make("problem: here\nouter: {objective: x, tol: 1.0e-9}\n", cls=Line)
    assert objective.row() == (
        "outer",
        "minimise x over t (1 entry) with lbfgs, at most 100 steps, |projected gradient| <= 1e-09",
    )
    (direction,) = objective.vectors.bound.directions
    assert {name: part.tolist() for name, part in direction.parts.items()} == {"x": 1.0}


def test_targets_that_can_be_met_are_met_to_rounding(make):
    """There the gradient loses all of its digits: its bound says so, and the search neither fails nor creeps."""
    E = np.array([1.3, 2.4])
    M = E - np.array([0.3, 0.5]) * np.sin(E)
    text = "problem: kepler\nparameters: {eccentricity: [0.3, 0.5], mean_anomaly: [1.0, 1.8]}\n"
    text += f"outer: {{objective: {{E: {E.tolist()}}}}}\n"
    objective = make(text, "outer.parameters=[mean_anomaly]", "outer.tol=1e-14")
    found = minimise(objective, objective.settings)
    assert found.converged, found.reason
    assert len(found.evaluations) < 30
    np.testing.assert_allclose(objective.theta(found.best.point)["mean_anomaly"], M, rtol=1e-13)
