"""Forward solvers, one file each: all start from x, report max |F| per iteration and a status, and none raises for a failed solve.

`METHODS` maps names to their classes; `pick` resolves "auto"; `solve` runs one and polishes with Newton steps where that pays.
"""

from implicit_cli.core.solvers.base import Goal, Observer, Solution
from implicit_cli.core.solvers.choice import METHODS, allowed, pick, solve

__all__ = ["METHODS", "Goal", "Observer", "Solution", "allowed", "pick", "solve"]
