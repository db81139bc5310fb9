"""The only place that knows the result file, which `docs/file-format.md` describes: it checks, writes and reads it."""

from implicit_cli.store.arrays import ResultArrays, StoredArray, opened_arrays
from implicit_cli.store.atomic import check_output, replace_file
from implicit_cli.store.blocks import Blocks
from implicit_cli.store.branch import Passages, read_passages, read_state, write_state
from implicit_cli.store.checkpoint import Checkpoint
from implicit_cli.store.elsewhere import matlab_of, netcdf_of
from implicit_cli.store.findings import read_findings, write_findings
from implicit_cli.store.integrity import Integrity, integrity
from implicit_cli.store.material import Material, read_material
from implicit_cli.store.merge import MergeReport, merge
from implicit_cli.store.outer import write_optimised
from implicit_cli.store.overview import CaseRow, Moved, Overview, Trend, read_overview
from implicit_cli.store.parts import Parts
from implicit_cli.store.products import Wanted
from implicit_cli.store.read import read_summary, summarise
from implicit_cli.store.rerun import StoredRun, read_run, write_arrays
from implicit_cli.store.sample import read_sample
from implicit_cli.store.scratch import Scratch
from implicit_cli.store.shards import Progress, Shards, read_shards, shard_bounds, write_shards
from implicit_cli.store.stored import Outcomes, StoredCase, chosen, read_outcomes, read_stored
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
from implicit_cli.store.table import csv_of, parquet_of, read_table
from implicit_cli.store.verify import labelled, read_claims, write_verification
from implicit_cli.store.write import write_result

__all__ = [
    "Blocks",
    "CaseRow",
    "CaseSummary",
    "Checkpoint",
    "ConstantSummary",
    "EntrySummary",
    "Integrity",
    "LinearSummary",
    "Material",
    "MergeReport",
    "Moved",
    "NullSpaceSummary",
    "Outcomes",
    "Overview",
    "Parts",
    "Passages",
    "ProductSummary",
    "Progress",
    "QuantitySummary",
    "ResultArrays",
    "Scratch",
    "Shards",
    "SolverSummary",
    "StoredArray",
    "StoredCase",
    "StoredRun",
    "Summary",
    "Trend",
    "UndeterminedSummary",
    "Wanted",
    "check_output",
    "chosen",
    "csv_of",
    "integrity",
    "labelled",
    "matlab_of",
    "merge",
    "netcdf_of",
    "opened_arrays",
    "parquet_of",
    "read_claims",
    "read_findings",
    "read_material",
    "read_outcomes",
    "read_overview",
    "read_passages",
    "read_run",
    "read_sample",
    "read_shards",
    "read_state",
    "read_stored",
    "read_summary",
    "read_table",
    "replace_file",
    "shard_bounds",
    "summarise",
    "write_arrays",
    "write_findings",
    "write_optimised",
    "write_result",
    "write_shards",
    "write_state",
    "write_verification",
]
