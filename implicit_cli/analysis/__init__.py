"""What results mean when they are read together. Pure NumPy: no JAX, no files; the records come from whoever reads them."""

from implicit_cli.analysis.compare import CaseComparison, Comparison, Told, compare
from implicit_cli.analysis.judge import Entry, Quantity, QuantityComparison, Verdict, judge
from implicit_cli.analysis.methods import METHODS, Wanted, analyse
from implicit_cli.analysis.prediction import ORDERS, predict

__all__ = [
    "METHODS",
    "ORDERS",
    "CaseComparison",
    "Comparison",
    "Entry",
    "Quantity",
    "QuantityComparison",
    "Told",
    "Verdict",
    "Wanted",
    "analyse",
    "compare",
    "judge",
    "predict",
]
