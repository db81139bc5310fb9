"""A small problem of which each case takes as long as the file `pause` beside it says, and no work."""

import time
from pathlib import Path

import jax
import jax.numpy as jnp

from implicit_cli.core import root
from implicit_cli.problem import Output, Parameter, Problem, Unknown

PAUSE = Path(__file__).with_name("pause")


class Slow(Problem):
    """A root: 2 x + x^3 = b."""

    b = Parameter(shape=(2,))
    x = Unknown(shape=(2,), initial=0.0)
    size = Output()

    def condition(self):
        return root(lambda x, theta, data: x._replace(x=2 * x.x + x.x**3 - theta.b))

    def outputs(self, x, theta, data):
        jax.debug.callback(wait)
        return {"size": jnp.sum(x.x**2)}


def wait():
    """Called some twenty times for each case: whatever evaluates the outputs or differentiates them."""
    time.sleep(float(PAUSE.read_text()))
