"""The use cases, one function each: the one place where the rooms meet. The command line calls these, and so can a script.

Heavy imports wait inside the functions, in the order that matters: the spec's form first, then JAX's settings, then the problem.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from implicit_cli.api.analysing import analyze, predict
from implicit_cli.api.problems import check_problem, describe_problem, new_problem, problems
from implicit_cli.api.reading import compare, convert, info, integrity, overview, schema, show
from implicit_cli.api.replaying import replay
from implicit_cli.api.reporting import figures, plot, report
from implicit_cli.api.reports import (
    AnalysisReport,
    CaseLine,
    ConformanceReport,
    ConvertReport,
    DrawnReport,
    MergeReport,
    Observer,
    OptimizeReport,
    PlanReport,
    ProductsReport,
    ReplayReport,
    RunReport,
    ShardLine,
    SweepProgress,
    SweepStatus,
    VerifyReport,
)
from implicit_cli.api.shards import merge_sweep, plan_sweep, submit_sweep, sweep_status, work_on
from implicit_cli.api.slurm import requeue
from implicit_cli.api.solving import check, optimize, run
from implicit_cli.api.stored import products, verify

if TYPE_CHECKING:
    from implicit_cli.analysis import Comparison as Comparison
    from implicit_cli.analysis import QuantityComparison as QuantityComparison
    from implicit_cli.analysis import Told as Told
    from implicit_cli.store import CaseRow as CaseRow
    from implicit_cli.store import CaseSummary as CaseSummary
    from implicit_cli.store import Integrity as Integrity
    from implicit_cli.store import LinearSummary as LinearSummary
    from implicit_cli.store import Overview as Overview
    from implicit_cli.store import ProductSummary as ProductSummary
    from implicit_cli.store import QuantitySummary as QuantitySummary
    from implicit_cli.store import Summary as Summary
    from implicit_cli.store import UndeterminedSummary as UndeterminedSummary
    from implicit_cli.verdict import CaseVerdict as CaseVerdict
    from implicit_cli.verdict import Finding as Finding

__all__ = [
    "AnalysisReport",
    "CaseLine",
    "ConformanceReport",
    "ConvertReport",
    "DrawnReport",
    "MergeReport",
    "Observer",
    "OptimizeReport",
    "PlanReport",
    "ProductsReport",
    "ReplayReport",
    "RunReport",
    "ShardLine",
    "SweepProgress",
    "SweepStatus",
    "VerifyReport",
    "analyze",
    "check",
    "check_problem",
    "compare",
    "convert",
    "describe_problem",
    "figures",
    "info",
    "integrity",
    "merge_sweep",
    "new_problem",
    "optimize",
    "overview",
    "plan_sweep",
    "plot",
    "predict",
    "problems",
    "products",
    "replay",
    "report",
    "requeue",
    "run",
    "schema",
    "show",
    "submit_sweep",
    "sweep_status",
    "verify",
    "work_on",
]
