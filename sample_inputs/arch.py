"""A shallow arch of two bars that snaps through: the smallest structure whose solutions turn back."""

import jax.numpy as jnp

from implicit_cli.core import root
from implicit_cli.problem import Output, Parameter, Problem, Unknown


class Arch(Problem):
    """Two elastic bars from supports at x = -1 and x = 1 to a hinge at height y, pushed down by a load: forces in balance."""

    load = Parameter(default=0.0, doc="force on the hinge, downwards, in units of the bars' stiffness")
    rise = Parameter(default=0.5, bounds=(0, None), doc="height of the hinge without a load")
    y = Unknown(initial=0.5, doc="height of the hinge")
    strain = Output(doc="of both bars, negative where they are shortened")

    def stretched(self, x, theta):
        """Length of a bar, and its strain (Green's)."""
        before = 1 + theta.rise**2
        return (1 + x.y**2 - before) / (2 * before)

    def condition(self):
        def balance(x, theta, data):
            return x._replace(y=-2 * self.stretched(x, theta) * x.y / jnp.sqrt(1 + theta.rise**2) - theta.load)

        return root(balance, symmetric=True)

    def outputs(self, x, theta, data):
        return {"strain": self.stretched(x, theta)}
