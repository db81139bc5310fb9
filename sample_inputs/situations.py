"""Problems whose derivative is missing, or in doubt, at some value of t: see docs/explanation/no-derivative.md."""

import jax
import jax.numpy as jnp

from implicit_cli.core import fixed_point, kkt, mirror_descent, prox, proximal_gradient, root, stationary
from implicit_cli.problem import Option, Output, Parameter, Problem, Unknown


class Fold(Problem):
    """x^2 = t beside y = t: at t = 0 the branch x turns back, and y goes on; for t < 0 there is no x."""

    t = Parameter(default=1.0)
    x = Unknown(initial=1.0)
    y = Unknown()

    def condition(self):
        return root(lambda x, theta, data: x._replace(x=x.x**2 - theta.t, y=x.y - theta.t))


class Pitchfork(Problem):
    """Stationary points of x^4 / 4 - t x^2 / 2: at t = 0 the minimum x = 0 becomes a maximum between two minima."""

    t = Parameter(default=-1.0)
    x = Unknown()

    def condition(self):
        return stationary(lambda x, theta, data: x.x**4 / 4 - theta.t * x.x**2 / 2)


class Springs(Problem):
    """n points on a line, springs between neighbours, t pulls the ends: nothing says where the whole is, nor a loose point."""

    n = Option(5, minimum=3, doc="points")
    loose = Option(False, doc="whether the last point has no spring")
    balanced = Option(True, doc="whether both ends are pulled, or one")
    t = Parameter(default=1.0)
    u = Unknown(shape=("n",))
    length = Output()

    def energy(self, x, theta, data):
        held = self.n - 1 if self.loose else self.n
        pulled = x.u[held - 1] - x.u[0] if self.balanced else x.u[held - 1]
        return jnp.sum(jnp.diff(x.u[:held]) ** 2) / 2 - theta.t * pulled

    def condition(self):
        return stationary(self.energy)

    def outputs(self, x, theta, data):
        return {"length": x.u[self.n - 2] - x.u[0]}

    def null_space(self, x, theta, data):
        return {"translation": {"u": jnp.ones(self.n)}}


class Threshold(Problem):
    """argmin x'Hx / 2 - (1, 0.8)'x + t |x|_1, H = [[2, 1], [1, 2]]: at t = 0.6 the second entry arrives at zero."""

    eta = Option(0.3, doc="step of the fixed point; 2/3 and above are too long")
    t = Parameter(default=0.4, bounds=(0, None))
    x = Unknown(shape=(2,))

    def smooth(self, x, theta, data):
        return x.x @ jnp.array([[2.0, 1.0], [1.0, 2.0]]) @ x.x / 2 - jnp.array([1.0, 0.8]) @ x.x

    def condition(self):
        return proximal_gradient(
            self.smooth,
            lambda v, eta, theta, data: v._replace(x=prox.lasso(v.x, eta * theta.t)),
            eta=self.eta,
            margin=lambda v, eta, theta, data: prox.lasso.margin(v.x, eta * theta.t),
        )


class Wall(Problem):
    """argmin (x - t)^2 / 2 with x <= 1: at t = 1 x touches the wall, and the wall does not push."""

    t = Parameter(default=0.5)
    x = Unknown()
    push = Unknown(shape=(1,))

    def condition(self):
        def beyond(x, theta, data):
            return jnp.reshape(x.x - 1.0, (1,))

        return kkt(lambda x, theta, data: (x.x - theta.t) ** 2 / 2, None, beyond, lam="push")


class Corner(Problem):
    """x = |t|, with a kink at t = 0 that nobody declared, and how far x is above 1."""

    t = Parameter(default=0.5)
    x = Unknown()
    above = Output()

    def condition(self):
        return root(lambda x, theta, data: x._replace(x=x.x - jnp.abs(theta.t)))

    def outputs(self, x, theta, data):
        return {"above": jnp.maximum(x.x - 1.0, 0.0)}


class Shares(Problem):
    """Shares w of three goods, argmin |w - c|^2 / 2 with c = (0.6, 0.4, t): below t = 0 the third is not bought."""

    step = Option("mirror_descent", choices=("mirror_descent", "softmax"), doc="the condition: by name, or softmax(log w - g)")
    t = Parameter(default=-0.2)
    w = Unknown(shape=(3,), initial=1 / 3)

    def loss(self, x, theta, data):
        return jnp.sum((x.w - jnp.stack([jnp.asarray(0.6), jnp.asarray(0.4), theta.t])) ** 2) / 2

    def condition(self):
        if self.step == "mirror_descent":
            return mirror_descent(self.loss)
        return fixed_point(
            lambda x, theta, data: x._replace(w=jax.nn.softmax(jnp.log(x.w) - jax.grad(self.loss)(x, theta, data).w))
        )


class Scales(Problem):
    """Four springs side by side, the softest 10^-digits times as stiff as the first, pulled by t."""

    digits = Option(4.0, doc="orders of magnitude between the stiffest and the softest")
    t = Parameter(default=1.0)
    x = Unknown(shape=(4,))

    def condition(self):
        stiffness = 10.0 ** (-self.digits * jnp.arange(4.0) / 3)
        turn = jnp.linalg.qr(jnp.vander(jnp.arange(1.0, 5.0)))[0]
        return root(lambda x, theta, data: x._replace(x=turn @ (stiffness * (turn.T @ x.x)) - theta.t), symmetric=True)


class Logarithm(Problem):
    """log x = t, which is not defined where x < 0."""

    t = Parameter(default=1.0)
    x = Unknown(initial=1.0)

    def condition(self):
        return root(lambda x, theta, data: x._replace(x=jnp.log(x.x) - theta.t))


class Balance(Problem):
    """A balance with t on one side and the ballast on the other turns by x: (t - ballast) x = 1."""

    t = Parameter(default=2.0)
    ballast = Parameter(default=1.0)
    x = Unknown()

    def condition(self):
        return root(lambda x, theta, data: x._replace(x=(theta.t - theta.ballast) * x.x - 1.0))
