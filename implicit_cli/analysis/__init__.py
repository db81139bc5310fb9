"""What results mean when they are read together. Pure NumPy: no JAX, no files; the records come from whoever reads them."""

from implicit_cli.analysis.compare import CaseComparison, Comparison, Told, compare
from implicit_cli.analysis.judge import Entry, Quantity, QuantityComparison, Verdict, judge

__all__ = [
    "CaseComparison",
    "Comparison",
    "Entry",
    "Quantity",
    "QuantityComparison",
    "Told",
    "Verdict",
    "compare",
    "judge",
]
