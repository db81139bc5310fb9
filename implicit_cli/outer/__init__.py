"""The outer loop of a bilevel problem: optimisers on vectors lambda, given a function that evaluates an objective there.

It knows neither problems nor files, and imports neither JAX nor SciPy before a method runs.
"""

from implicit_cli.outer.loop import minimise
from implicit_cli.outer.records import Evaluation, Outcome, Progress, Settings, Stored, Trial, projected

__all__ = ["Evaluation", "Outcome", "Progress", "Settings", "Stored", "Trial", "minimise", "projected"]
