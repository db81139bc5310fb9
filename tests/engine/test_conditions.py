"""Every kind of condition as a problem: `auto` solves it, and its derivatives are those of the closed form."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from implicit_cli import engine
from implicit_cli.core import (
    block_proximal_gradient,
    frank_wolfe,
    kkt,
    least_squares,
    mirror_descent,
    projected_gradient,
    projections,
    prox,
    proximal_gradient,
)
from implicit_cli.core.conic import conic, primal
from implicit_cli.errors import PluginError
from implicit_cli.problem import Output, Parameter, Problem, Unknown
from implicit_cli.spec import load_spec
from implicit_cli.status import Status

pytestmark = pytest.mark.slow

T = np.asarray([0.9, 0.5, 0.3, -0.4])


class Base(Problem):
    """The point of a set, or the minimiser of a sum, that is nearest to t."""

    t = Parameter(shape=("n",))
    x = Unknown(shape=("n",), initial=0.25)

    def f(self, x, theta, data):
        return jnp.sum((x.x - theta.t) ** 2) / 2


class Lasso(Base):
    def condition(self):
        return proximal_gradient(self.f, lambda v, eta, theta, data: v._replace(x=prox.lasso(v.x, eta * 0.35)), eta=0.5)

    truth = np.diag([1.0, 1.0, 0.0, 1.0])


class Box(Base):
    def condition(self):
        def bounds(x, theta, data):
            return x._replace(x=jnp.zeros(4)), x._replace(x=jnp.full(4, 0.6))

        return projected_gradient(self.f, bounds=bounds)

    truth = np.diag([0.0, 1.0, 1.0, 0.0])


SIMPLEX = np.zeros((4, 4))
SIMPLEX[:3, :3] = np.eye(3) - 1 / 3


class Mirror(Base):
    def condition(self):
        return mirror_descent(self.f)

    truth = SIMPLEX


class Simplex(Base):
    def condition(self):
        return projected_gradient(
            self.f,
            lambda v, theta, data: v._replace(x=projections.simplex(v.x)),
            eta=0.5,
            margin=lambda v, theta, data: projections.simplex.margin(v.x),
        )

    truth = SIMPLEX


class Weights(Base):
    def condition(self):
        return frank_wolfe(self.f, lambda theta, data: jnp.eye(4), eta=0.5)

    truth = SIMPLEX


class Squares(Base):
    def condition(self):
        return least_squares(lambda x, theta, data: (x.x - theta.t, 2.0 * (x.x + x.x**3)))

    @property
    def truth(self):
        x = np.asarray([scipy.optimize.brentq(lambda x, t=t: 12 * x**5 + 16 * x**3 + 5 * x - t, -1, 1, xtol=1e-15) for t in T])
        return np.diag(1.0 / (60 * x**4 + 48 * x**2 + 5))


class Program(Problem):
    """min |x - t|^2 / 2, sum x = 1, x >= 0."""

    t = Parameter(shape=("n",))
    x = Unknown(shape=("n",), initial=0.25)
    nu = Unknown(shape=("one",), initial=0.0)
    lam = Unknown(shape=("n",), initial=1.0)

    def condition(self):
        return kkt(
            lambda x, theta, data: jnp.sum((x.x - theta.t) ** 2) / 2,
            lambda x, theta, data: jnp.sum(x.x)[None] - 1,
            lambda x, theta, data: -x.x,
        )

    truth = SIMPLEX


class TwoSided(Problem):
    """min |x - t|^2 / 2, 0 <= x <= 0.6, each side with multipliers of its own."""

    t = Parameter(shape=("n",))
    x = Unknown(shape=("n",))
    below = Unknown(shape=("n",))
    above = Unknown(shape=("n",))

    def condition(self):
        return kkt(
            lambda x, theta, data: jnp.sum((x.x - theta.t) ** 2) / 2,
            inequality=lambda x, theta, data: (-x.x, x.x - 0.6),
            lam=("below", "above"),
        )

    truth = np.diag([0.0, 1.0, 1.0, 0.0])


class Apart(TwoSided):
    """The same with an unknown between the multipliers."""

    above = None
    y = Unknown(shape=("n",))
    above_too = Unknown(shape=("n",))

    def condition(self):
        return kkt(lambda x, theta, data: jnp.sum(x.x), inequality=lambda x, theta, data: (x.x, x.x), lam=("below", "above_too"))


class Blocks(Problem):
    """x is drawn to zero by an l1 norm, y by a square."""

    t = Parameter(shape=("n",))
    x = Unknown(shape=("n",))
    y = Unknown(shape=("n",))

    def condition(self):
        return block_proximal_gradient(
            lambda x, theta, data: jnp.sum((x.x + 0.5 * x.y - theta.t) ** 2) / 2,
            (lambda v, eta, theta, data: prox.lasso(v, eta * 0.35), lambda v, eta, theta, data: prox.ridge(v, eta * 1.0)),
            eta=(0.5, 0.3),
        )

    @property
    def truth(self):
        # where x is in, x + y/2 = t - 0.35 and then y = 0.35 / 2; where it is out, y = 0.4 t, and that is so for |t| < 0.4375
        return np.diag([1.0, 1.0, 0.0, 0.0])


class Ball(Problem):
    """min t'x in the unit ball."""

    t = Parameter(shape=("n",))
    u = Unknown(shape=("n",))
    v = Unknown(shape=("row",), initial=1.0)
    w = Unknown(initial=1.0)
    x = Output(shape=("n",))

    def condition(self):
        def program(theta, data):
            return theta.t, jnp.concatenate([jnp.zeros((1, 4)), -jnp.eye(4)]), jnp.zeros(5).at[0].set(1.0)

        return conic(program, (("second_order", 5),))

    def outputs(self, x, theta, data):
        return {"x": primal(x)}

    @property
    def truth(self):
        size = np.linalg.norm(T)
        return -(np.eye(4) - np.outer(T, T) / size**2) / size


EXTRA = {Program: "nu: [0.0]", Ball: "v: [1.0, 1.0, 1.0, 1.0, 1.0]"}


@pytest.mark.parametrize(
    "cls", [Lasso, Box, Mirror, Simplex, Weights, Squares, Program, TwoSided, Blocks, Ball], ids=lambda c: c.__name__
)
def test_a_problem_of_this_kind(tmp_path, cls):
    path = tmp_path / "spec.yaml"
    initial = f"initial: {{{EXTRA[cls]}}}\n" if cls in EXTRA else ""
    path.write_text(f"problem: here\nparameters: {{t: {T.tolist()}}}\n{initial}solver: {{tol: 1e-9}}\nsensitivity: {{of: [x]}}\n")
    loaded = load_spec(path)
    vectors = engine.Vectors(engine.bind(loaded, cls))
    plan = engine.make_plan(loaded, vectors)
    result = engine.run_case(vectors, plan, identity="0", seed=0)
    assert result.status is Status.OK, result.message
    (product,) = result.products
    error = np.linalg.norm(product.value - vectors.problem.truth, axis=0)
    assert error.max() < 1e-9
    assert (error <= product.bound.total).all()
    assert "auto: " in dict(plan.rows)["solver"]


def test_multipliers_stand_next_to_each_other(tmp_path):
    path = tmp_path / "spec.yaml"
    path.write_text(f"problem: here\nparameters: {{t: {T.tolist()}}}\n")
    with pytest.raises(PluginError, match="declares other unknowns between 'above_too', 'below', its multipliers"):
        engine.Vectors(engine.bind(load_spec(path), Apart))
