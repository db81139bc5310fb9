"""Kepler's equation: a scalar root, for a batch of eccentricities at once."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from implicit_cli.core import Condition, root
from implicit_cli.problem import Output, Parameter, Problem, Unknown

Array = jax.Array


class Kepler(Problem):
    """Kepler's equation E - e sin E = M: the eccentric anomaly E of an orbit, for a batch of eccentricities e and anomalies M.

    Closed form: dE/de = sin E / (1 - e cos E) and dE/dM = 1 / (1 - e cos E), orbit by orbit.
    """

    eccentricity = Parameter(shape=("orbit",), bounds=(0.0, 0.999), doc="eccentricity e")
    mean_anomaly = Parameter(shape=("orbit",), unit="rad", doc="mean anomaly M")
    E = Unknown(shape=("orbit",), unit="rad", doc="eccentric anomaly")
    radius = Output(shape=("orbit",), doc="distance from the focus, in units of the semi-major axis")

    example = """\
problem: kepler
parameters:
  eccentricity: [0.0167, 0.2056, 0.9671]      # Earth, Mercury, Halley's comet
  mean_anomaly: [1.0, 1.0, 1.0]
"""

    def equation(self, x: Any, theta: Any, data: Any) -> Any:
        return x._replace(E=x.E - theta.eccentricity * jnp.sin(x.E) - theta.mean_anomaly)

    def condition(self) -> Condition:
        return root(self.equation, symmetric=True)  # one equation per orbit: A is diagonal

    def initial(self, theta: Any, data: Any, key: Array) -> dict[str, Array]:
        # Newton converges from here for every e < 1 (Danby, "Fundamentals of Celestial Mechanics", section 6.6)
        return {"E": theta.mean_anomaly + 0.85 * theta.eccentricity * jnp.sign(jnp.sin(theta.mean_anomaly))}

    def outputs(self, x: Any, theta: Any, data: Any) -> dict[str, Array]:
        return {"radius": 1 - theta.eccentricity * jnp.cos(x.E)}
