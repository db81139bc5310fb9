"""What a problem of your own looks like: a decay curve a exp(-rate t), fitted to samples by damped least squares."""

import jax.numpy as jnp

from implicit_cli.core import stationary
from implicit_cli.problem import Data, Output, Parameter, Problem, Unknown


class Decay(Problem):
    """Decay fit: (a, rate)* = argmin mean((a exp(-rate t) - y)^2) / 2 + damping (a^2 + rate^2) / 2."""

    t = Data(shape=("sample",), unit="s", doc="times of the samples")
    y = Parameter(shape=("sample",), unit="V", doc="samples: how does the fit follow each of them?")
    damping = Parameter(default=1e-3, bounds=(0, None), doc="regularisation")
    a = Unknown(initial=1.0, unit="V", doc="amplitude")
    rate = Unknown(initial=1.0, unit="1/s", doc="decay rate")
    half_life = Output(unit="s", doc="time until half of it is left")

    def loss(self, x, theta, data):
        misfit = x.a * jnp.exp(-x.rate * data.t) - theta.y
        return jnp.mean(misfit**2) / 2 + theta.damping * (x.a**2 + x.rate**2) / 2

    def condition(self):
        return stationary(self.loss)

    def outputs(self, x, theta, data):
        return {"half_life": jnp.log(2) / x.rate}
