"""A whole result for other programs: netCDF-4, and a MATLAB file."""

from __future__ import annotations

import io
import re
import tempfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from implicit_cli.errors import EnvironmentProblem, InputError
from implicit_cli.store import layout
from implicit_cli.store.guard import opened
from implicit_cli.store.nodes import labels

INSTALL = "pip install 'implicit-cli[xarray]'"
LONGEST = 63
"""Letters of a name in MATLAB."""
LARGEST = 2**31
"""Bytes of an array in a MATLAB file of version 5."""


def netcdf_of(path: Path) -> bytes:
    """The result as netCDF-4, groups and coordinates as they are; it bears no checksum, and is no result file any more.

    Raises EnvironmentProblem where xarray or h5netcdf is missing.
    """
    try:
        import h5netcdf  # noqa: F401
        import xarray
    except ImportError as error:
        raise EnvironmentProblem(f".nc needs xarray and h5netcdf: {INSTALL}") from error
    with opened(path):
        pass
    with xarray.open_datatree(path, engine="h5netcdf") as tree, tempfile.TemporaryDirectory() as folder:
        whole = tree.load()
        whole.dataset = whole.to_dataset(inherit=False).drop_vars(layout.CHECKSUM)
        whole.attrs = {name: value for name, value in whole.attrs.items() if name not in ("format", "format_version", "complete")}
        out = Path(folder) / "result.nc"
        whole.to_netcdf(out, engine="h5netcdf")
        return out.read_bytes()


def matlab_of(path: Path) -> bytes:
    """The result as a MATLAB file (version 5): a struct for each group, cells for texts, `<name>_labels` for labelled axes.

    Names become those that MATLAB allows. Raises InputError for an array of 2 GiB or more.
    """
    from scipy.io import savemat

    with opened(path) as file:
        content = io.BytesIO()
        savemat(content, _struct(file, path), long_field_names=True, do_compression=True, oned_as="column")
        return content.getvalue()


def _struct(group: h5py.Group, path: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, node in group.items():
        if name == layout.CHECKSUM:
            continue
        key = _identifier(name, found)
        found[key] = _struct(node, path) if isinstance(node, h5py.Group) else _value(node, path)
        if isinstance(node, h5py.Dataset) and not node.is_scale:
            for axis in range(node.ndim):
                if len(node.dims[axis]) and h5py.check_string_dtype(node.dims[axis][0].dtype):
                    found[_identifier(f"{key}_labels{axis + 1}", found)] = np.array(labels(node, axis), object)
    return found


def _value(node: h5py.Dataset, path: Path) -> Any:
    if h5py.check_string_dtype(node.dtype):
        value = node.asstr()[()]
        return value if isinstance(value, str) else np.array(value.tolist(), object)
    if (size := node.size * node.dtype.itemsize) >= LARGEST:
        raise InputError(f"{path}:{node.name}: found {size / 2**30:.3g} GiB, allowed in .mat: below 2 GiB")
    return node[()]


def _identifier(name: str, taken: dict[str, Any]) -> str:
    """A name as MATLAB allows it, that is not taken."""
    plain = re.sub(r"\W", "_", layout.original(name), flags=re.ASCII)
    plain = (plain if re.match(r"[A-Za-z]", plain) else f"x{plain}")[:LONGEST]
    number, found = 2, plain
    while found in taken:
        found, number = f"{plain[: LONGEST - len(str(number)) - 1]}_{number}", number + 1
    return found
