"""Specs and their inputs: YAML, HDF5 and CSV become frozen models and NumPy arrays. Imports neither JAX nor h5py."""

from typing import Any

from implicit_cli.spec.axes import AxisSpec, DistributionSpec, LevelsSpec
from implicit_cli.spec.directions import NAMES as DIRECTION_OPTIONS
from implicit_cli.spec.directions import read_directions, stored_spec
from implicit_cli.spec.grammar import DirectionSpec, HessianSpec, JacobianSpec
from implicit_cli.spec.load import LoadedSpec, load_spec, spec_of
from implicit_cli.spec.model import (
    LinearSpec,
    OuterSpec,
    RandomSpec,
    RunSpec,
    SensitivitySpec,
    SolverSpec,
    StructureSpec,
    SweepSpec,
)
from implicit_cli.spec.targets import split_target
from implicit_cli.spec.values import LoadedValue, named_file, read_array, read_axis, read_early, read_value

__all__ = [
    "DIRECTION_OPTIONS",
    "AxisSpec",
    "DirectionSpec",
    "DistributionSpec",
    "HessianSpec",
    "JacobianSpec",
    "LevelsSpec",
    "LinearSpec",
    "LoadedSpec",
    "LoadedValue",
    "OuterSpec",
    "RandomSpec",
    "RunSpec",
    "SensitivitySpec",
    "SolverSpec",
    "StructureSpec",
    "SweepSpec",
    "json_schema",
    "load_spec",
    "named_file",
    "read_array",
    "read_axis",
    "read_directions",
    "read_early",
    "read_value",
    "spec_of",
    "split_target",
    "stored_spec",
]


def json_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) that every valid spec fulfils."""
    # Imported here, so that `python -m implicit_cli.spec.schema` does not find its module imported before it runs.
    from implicit_cli.spec import schema

    return schema.json_schema()
