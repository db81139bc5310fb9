"""The only place that knows the result file: `check_output`, `write_result`, `read_summary`. `docs/file-format.md` describes it."""

from implicit_cli.store.atomic import check_output
from implicit_cli.store.read import read_summary
from implicit_cli.store.summary import (
    CaseSummary,
    ConstantSummary,
    EntrySummary,
    LinearSummary,
    NullSpaceSummary,
    ProductSummary,
    QuantitySummary,
    SolverSummary,
    Summary,
    UndeterminedSummary,
)
from implicit_cli.store.write import write_result

__all__ = [
    "CaseSummary",
    "ConstantSummary",
    "EntrySummary",
    "LinearSummary",
    "NullSpaceSummary",
    "ProductSummary",
    "QuantitySummary",
    "SolverSummary",
    "Summary",
    "UndeterminedSummary",
    "check_output",
    "read_summary",
    "write_result",
]
