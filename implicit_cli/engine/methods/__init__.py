"""Other ways to the same derivatives, to compare with the theorem: same products, same names, same places in the result file.

`unrolled` differentiates the solver's own steps, `finite_difference` solves again nearby, `complex_step` takes A and B from complex
numbers. `check` refuses at planning time what a method cannot do; `Compared` stands where `engine.products.Products` stands.
"""

from implicit_cli.engine.methods.choice import check, cost, make
from implicit_cli.engine.methods.compared import Compared

__all__ = ["Compared", "check", "cost", "make"]
