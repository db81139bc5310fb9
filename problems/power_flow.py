"""AC power flow: the voltages of a grid at which every bus gets the power that it draws."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from implicit_cli.core import Condition, root
from implicit_cli.problem import Data, Output, Parameter, Problem, Unknown

Array = jax.Array

SLACK, VOLTAGE = 3, 2
"""Numbers of the kinds of a bus, as in MATPOWER's case format."""
MODEL = "R. D. Zimmerman, C. E. Murillo-Sanchez, MATPOWER User's Manual, chapter 3"


class PowerFlow(Problem):
    """AC power flow: at every bus the power that is fed in is what flows into its branches and its shunt, P and Q alike.

    A branch is a series admittance g + i b = 1 / (resistance + i reactance) with half of its charging at each end, behind
    an ideal transformer of ratio `tap` at its first bus. With a = voltage / tap there, c the voltage at the other end and d the
    difference of the angles, P = a^2 g - a c (g cos d + b sin d) and Q = -a^2 (b + charging/2) - a c (g sin d - b cos d).

    A bus of kind 1 has P and Q given, one of kind 2 P and the voltage's `setpoint`, the one of kind 3 (slack) `setpoint` and the
    angle zero. What a kind does not need has no effect. Limits of generators are not looked at. All is per unit.
    """

    kind = Data(shape=("bus",), dtype="int", doc="1: P and Q are given, 2: P and voltage, 3: voltage and angle (slack)")
    from_bus = Data(shape=("branch",), dtype="int", doc="index of the branch's first bus, counted from 0")
    to_bus = Data(shape=("branch",), dtype="int", doc="index of its second bus")
    shunt = Data(shape=("bus",), unit="p.u.", doc="susceptance of the shunt, positive for a capacitor")
    P = Parameter(shape=("bus",), unit="p.u.", doc="active power fed in: generation less load")
    Q = Parameter(shape=("bus",), unit="p.u.", doc="reactive power fed in")
    setpoint = Parameter(shape=("bus",), default=1.0, bounds=(0.1, 2.0), unit="p.u.", doc="voltage kept by kinds 2 and 3")
    resistance = Parameter(shape=("branch",), bounds=(0.0, None), unit="p.u.", doc="series resistance", source=MODEL)
    reactance = Parameter(shape=("branch",), unit="p.u.", doc="series reactance", source=MODEL)
    charging = Parameter(shape=("branch",), default=0.0, unit="p.u.", doc="charging susceptance", source=MODEL)
    tap = Parameter(shape=("branch",), default=1.0, bounds=(0.1, 10.0), doc="ratio of the transformer", source=MODEL)
    angle = Unknown(shape=("bus",), unit="rad", doc="angle of the voltage")
    voltage = Unknown(shape=("bus",), initial=1.0, unit="p.u.", doc="magnitude of the voltage")
    losses = Output(unit="p.u.", doc="active power lost in all branches")
    slack = Output(unit="p.u.", doc="active power fed in at the slack bus")
    flow = Output(shape=("branch",), unit="p.u.", doc="active power into each branch at its first bus")

    example = """\
problem: power_flow
data: {kind: [3, 1, 2], from_bus: [0, 1, 0], to_bus: [1, 2, 2], shunt: [0, 0, 0]}
parameters:
  P: [0.0, -0.8, 0.3]                   # the first one has no effect: bus 0 is the slack
  Q: [0.0, -0.2, 0.0]
  setpoint: [1.02, 1.0, 1.01]
  resistance: [0.01, 0.02, 0.01]
  reactance: [0.1, 0.2, 0.15]
"""

    def branches(self, x: Any, theta: Any, data: Any) -> tuple[Array, ...]:
        """Of each branch: g, b, the voltages a (behind the transformer) and c of its ends, and the difference of their angles."""
        square = theta.resistance**2 + theta.reactance**2
        a, c = x.voltage[data.from_bus] / theta.tap, x.voltage[data.to_bus]
        return theta.resistance / square, -theta.reactance / square, a, c, x.angle[data.from_bus] - x.angle[data.to_bus]

    def mismatch(self, x: Any, theta: Any, data: Any) -> Any:
        g, b, a, c, d = self.branches(x, theta, data)
        first, second = (power_into(g, b, theta.charging / 2, *ends) for ends in ((a, c, d), (c, a, -d)))
        nothing = jnp.zeros_like(x.angle)
        P, Q = (nothing.at[data.from_bus].add(one).at[data.to_bus].add(two) for one, two in zip(first, second, strict=True))
        return x._replace(
            angle=jnp.where(data.kind == SLACK, x.angle, P - theta.P),
            voltage=jnp.where(data.kind >= VOLTAGE, x.voltage - theta.setpoint, Q - data.shunt * x.voltage**2 - theta.Q),
        )

    def condition(self) -> Condition:
        return root(self.mismatch)

    def initial(self, theta: Any, data: Any, key: Array) -> dict[str, Array]:
        return {"voltage": jnp.where(data.kind >= VOLTAGE, theta.setpoint, 1.0)}  # the flat start

    def outputs(self, x: Any, theta: Any, data: Any) -> dict[str, Array]:
        g, b, a, c, d = self.branches(x, theta, data)
        losses = jnp.sum(g * ((a - c) ** 2 + 4 * a * c * jnp.sin(d / 2) ** 2))  # g times the squared drop of the voltage
        # shunts take no active power: what is lost and not fed in elsewhere comes from the slack bus
        elsewhere = jnp.sum(jnp.where(data.kind == SLACK, 0.0, theta.P))
        return {"losses": losses, "slack": losses - elsewhere, "flow": power_into(g, b, theta.charging / 2, a, c, d)[0]}


def power_into(g: Array, b: Array, half: Array, near: Array, far: Array, ahead: Array) -> tuple[Array, Array]:
    """P and Q into a branch at the end of voltage `near`, `ahead` of the other end by that angle; `half` of the charging is there.

    From the drop of the voltage, along `near` and across: g and b of a short line are large, and their terms would cancel.
    """
    along, across = near - far + 2 * far * jnp.sin(ahead / 2) ** 2, far * jnp.sin(ahead)
    return near * (g * along - b * across), -near * (b * along + g * across) - half * near**2
