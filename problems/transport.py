"""Optimal transport with an entropy: how mass goes from one histogram to another."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.special import logsumexp

from implicit_cli.core import Condition, fixed_point
from implicit_cli.problem import Output, Parameter, Problem, Unknown

Array = jax.Array


class Transport(Problem):
    """Entropic optimal transport: P* = argmin_P <C, P> + regularisation sum P (log P - 1)  subject to  P 1 = a,  P'1 = b.

    a and b are `source` and `target` divided by their sums: every change of them keeps a problem that has a solution, and one that
    multiplies all of a histogram changes nothing. Unknown are the potentials, P_ij = exp((f_i + g_j - C_ij) / regularisation): the
    fixed point of Sinkhorn's iteration, in logarithms,

        f = regularisation (log a - LSE_j((g_j - C_ij) / regularisation))       then g in the same way, with this f

    where LSE is the logarithm of the sum of exponentials. (f + t, g - t) gives the same plan: the gauge is called "shift".

    Closed form of the objective's gradient: P by C, (f_i - <a, f>) / sum of `source` by source_i, alike g by target, and
    sum P (log P - 1) by the regularisation. All is smooth; a bin without mass has no potential: leave it out.

    Source: M. Cuturi, "Sinkhorn distances", NeurIPS 2013, arXiv 1306.0895; G. Peyre and M. Cuturi, "Computational optimal
    transport", Foundations and Trends in Machine Learning 11, 355 (2019), section 4.
    """

    C = Parameter(shape=("bin", "target_bin"), doc="cost of moving a unit of mass")
    source = Parameter(shape=("bin",), bounds=(0.0, None), doc="masses that are moved, above 0; divided by their sum")
    target = Parameter(shape=("target_bin",), bounds=(0.0, None), doc="masses where they go, above 0; divided by their sum")
    regularisation = Parameter(bounds=(0.0, None), doc="weight of the entropy, above 0, in units of the cost")

    f = Unknown(shape=("bin",), doc="potential of each source bin, in units of the cost")
    g = Unknown(shape=("target_bin",), doc="potential of each target bin, in units of the cost")
    plan = Output(shape=("bin", "target_bin"), doc="mass that goes from one bin to another")
    cost = Output(doc="<C, P>, the cost of the plan without its entropy")
    objective = Output(doc="<C, P> + regularisation sum P (log P - 1)")

    example = """\
problem: transport
parameters:
  C: [[0.0, 1.0, 4.0], [1.0, 0.0, 1.0]]
  source: [3.0, 1.0]                    # masses, divided by their sum
  target: [1.0, 1.0, 2.0]
  regularisation: 0.5
"""

    def step(self, x: Any, theta: Any, data: Any) -> Any:
        weight = theta.regularisation

        def balanced(mass: Array, other: Array, C: Array) -> Array:
            return weight * (jnp.log(mass / jnp.sum(mass)) - logsumexp((other[None, :] - C) / weight, axis=1))

        f = balanced(theta.source, x.g, theta.C)
        return x._replace(f=f, g=balanced(theta.target, f, theta.C.T))

    def condition(self) -> Condition:
        return fixed_point(self.step)

    def null_space(self, x: Any, theta: Any, data: Any) -> dict[str, dict[str, Array]]:
        return {"shift": {"f": jnp.ones_like(x.f), "g": -jnp.ones_like(x.g)}}

    def outputs(self, x: Any, theta: Any, data: Any) -> dict[str, Array]:
        potential = x.f[:, None] + x.g[None, :]
        plan = jnp.exp((potential - theta.C) / theta.regularisation)
        return {
            "plan": plan,
            "cost": jnp.sum(theta.C * plan),
            "objective": jnp.sum(plan * (potential - theta.regularisation)),
        }
