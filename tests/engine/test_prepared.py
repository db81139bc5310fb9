"""What a problem prepares from its data: once for the same data, anew for others."""

from dataclasses import replace

import numpy as np
import pytest

from implicit_cli import engine
from implicit_cli.core import stationary
from implicit_cli.errors import PluginError
from implicit_cli.problem import Data, Option, Parameter, Prepared, Problem, Unknown
from implicit_cli.spec import spec_of
from implicit_cli.status import Status


class Fit(Problem):
    """Least squares through the normal equations, which are prepared."""

    wrong = Option(False)
    ridge = Parameter(default=0.5)
    X = Data(shape=("sample", "feature"))
    y = Data(shape=("sample",))
    normal = Prepared(doc="X'X and X'y")
    w = Unknown(shape=("feature",))

    def prepare(self, data):
        self.calls = getattr(self, "calls", 0) + 1
        return {"other": 0} if self.wrong else {"normal": (data.X.T @ data.X, data.X.T @ data.y)}

    def condition(self):
        def objective(x, theta, data):
            G, b = data.normal
            return x.w @ G @ x.w / 2 - b @ x.w + theta.ridge * (x.w @ x.w) / 2

        return stationary(objective)


def bound(more=""):
    text = f"problem: fit\n{more}data: {{X: [[1.0, 2.0], [0.5, -1.0], [2.0, 0.1]], y: [1.0, 2.0, 3.0]}}\n"
    loaded = spec_of(text, "fit.yaml")
    return loaded, engine.bind(loaded, Fit)


def exact(X, y, ridge):
    """w* and dw*/dridge in closed form."""
    H = X.T @ X + ridge * np.eye(X.shape[1])
    w = np.linalg.solve(H, X.T @ y)
    return w, -np.linalg.solve(H, w)


def test_it_is_found_once_for_the_same_data_and_anew_for_others():
    loaded, given = bound()
    vectors = engine.Vectors(given)
    plan = engine.make_plan(loaded, vectors)
    other = replace(given, parameters={"ridge": np.asarray(2.0)})
    further = replace(other, data={**given.data, "X": given.data["X"] + 1.0})
    for case, calls in ((given, 1), (other, 1), (further, 2), (given, 3)):
        vectors = vectors.moved(case)
        result = engine.run_case(vectors, plan, identity="0", seed=0)
        assert case.problem.calls == calls
        assert result.status is Status.OK
        w, slope = exact(case.data["X"], case.data["y"], float(case.parameters["ridge"]))
        np.testing.assert_allclose(result.solution["w"], w, rtol=1e-12)
        (product,) = result.products
        np.testing.assert_allclose(np.ravel(product.value), slope, rtol=1e-10)


def test_a_problem_that_prepares_something_else_is_told():
    with pytest.raises(PluginError, match=r"Fit.prepare gives \['other'\], declared: \['normal'\]"):
        engine.Vectors(bound("options: {wrong: true}\n")[1])
