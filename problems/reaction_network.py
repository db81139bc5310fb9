"""Steady state of a chemical reaction network with mass-action kinetics and conserved totals."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from implicit_cli.core import Condition, root
from implicit_cli.problem import Data, Output, Parameter, Problem, Unknown

Array = jax.Array

CONSERVED = 1e-9
"""What a reaction may change of a conserved total, by rounding of the coefficients."""


class ReactionNetwork(Problem):
    """Steady state of a reaction network: N v(c) = 0 with rates v_j = k_j prod_i c_i^order_ij, and conserved totals L c = total.

    N is the stoichiometry, L the conservation laws, which no reaction changes: L N = 0. With all of them, N v + L'(L c - total) = 0
    says both: its two parts are orthogonal, so each vanishes. It has an equation for each species, and A = N dv/dc + L'L is regular
    at an isolated steady state. The unknowns are log c, so that concentrations stay positive.

    With `transforms: {k: log}` the derivative of `log_rate` by k is the matrix of flux control coefficients, and that of
    `log_concentration` the concentration control coefficients. Their rows sum to 1 and to 0 (Heinrich and Rapoport 1974).
    """

    stoichiometry = Data(shape=("species", "reaction"), doc="molecules of each species that a reaction makes, negative if it uses")
    order = Data(shape=("species", "reaction"), doc="order of each reaction in each species")
    conservation = Data(shape=("law", "species"), doc="conserved sums: coefficients of each species in each law")
    k = Parameter(
        shape=("reaction",), bounds=(0.0, None), doc="rate constants; unit: rate per product of concentrations to their orders"
    )
    total = Parameter(shape=("law",), bounds=(0.0, None), unit="uM", doc="conserved totals")
    log_concentration = Unknown(shape=("species",), doc="logarithm of the concentration over 1 uM")
    concentration = Output(shape=("species",), unit="uM", doc="concentrations")
    rate = Output(shape=("reaction",), unit="uM/s", doc="rates of the reactions")
    log_rate = Output(shape=("reaction",), doc="logarithm of the rate over 1 uM/s")

    example = """\
problem: reaction_network
labels: {species: [E, S, ES, P], reaction: [bind, unbind, convert, revert]}
data:                                   # E + S <-> ES -> E + P, and P -> S
  stoichiometry: [[-1, 1, 1, 0], [-1, 1, 0, 1], [1, -1, -1, 0], [0, 0, 1, -1]]
  order: [[1, 0, 0, 0], [1, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 1]]
  conservation: [[1, 0, 1, 0], [0, 1, 1, 1]]
parameters: {k: [10.0, 1.0, 2.0, 0.5], total: [0.1, 5.0]}
transforms: {k: log}
sensitivity: {of: [log_rate]}           # flux control coefficients
"""

    def rates(self, x: Any, theta: Any, data: Any) -> Array:
        return theta.k * jnp.exp(x.log_concentration @ data.order)

    def balance(self, x: Any, theta: Any, data: Any) -> Any:
        L, N = data.conservation, data.stoichiometry
        change = N @ self.rates(x, theta, data)
        F = change + L.T @ (L @ jnp.exp(x.log_concentration) - theta.total)
        # a law that reactions break would let both parts cancel: no number is better than that one
        return x._replace(log_concentration=jnp.where(jnp.max(jnp.abs(L @ N), initial=0.0) < CONSERVED, F, jnp.nan))

    def condition(self) -> Condition:
        return root(self.balance)

    def initial(self, theta: Any, data: Any, key: Array) -> dict[str, Array]:
        # an even share of the scarcest total that a species is part of
        L = jnp.abs(data.conservation)
        share = jnp.where(L > 0, (theta.total / jnp.sum(L, axis=1))[:, None], jnp.inf)
        least = jnp.min(share, axis=0, initial=jnp.inf)
        return {"log_concentration": jnp.log(jnp.where(jnp.isfinite(least), least, 1.0))}

    def outputs(self, x: Any, theta: Any, data: Any) -> dict[str, Array]:
        rate = self.rates(x, theta, data)
        return {"concentration": jnp.exp(x.log_concentration), "rate": rate, "log_rate": jnp.log(rate)}
