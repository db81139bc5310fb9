"""The room as a whole: what it imports, and specs whose paths are relative to them."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from implicit_cli.spec import load_spec
from implicit_cli.structures import build

XYZ = "2\n\nA 0 0 0\nB 1 1 1\n"


@pytest.mark.parametrize("command", ["build", "export"])
def test_structures_need_no_jax(tmp_path, command):
    (tmp_path / "a.xyz").write_text(XYZ)
    (tmp_path / "s.yaml").write_text("problem: p\nstructure: {file: a.xyz, rattle: 0.1}\n")
    script = """
import sys
if sys.argv[1] == "build":
    from implicit_cli.spec import load_spec
    from implicit_cli.structures import build
    assert len(build(load_spec("s.yaml")).position) == 2
else:
    from implicit_cli.cli import main
    assert main(["export", "none.h5", "-o", "out.xyz"]) == 2
heavy = {"jax", "jaxlib", "jax_md", "equinox", "scipy" if sys.argv[1] == "export" else "jax"} & set(sys.modules)
sys.exit(f"imported {sorted(heavy)}" if heavy else 0)
"""
    done = subprocess.run([sys.executable, "-c", script, command], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_files_are_looked_for_beside_the_spec(tmp_path, monkeypatch):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.xyz").write_text(XYZ)
    (tmp_path / "sub" / "s.yaml").write_text("problem: p\nstructure: a.xyz\n")
    monkeypatch.chdir(tmp_path)
    assert len(build(load_spec("sub/s.yaml")).position) == 2
    (tmp_path / "t.yaml").write_text(f"problem: p\nstructure: {tmp_path}/sub/a.xyz\n")
    assert len(build(load_spec("t.yaml")).position) == 2


def test_a_structure_cannot_be_changed(built, folder):
    (folder / "a.xyz").write_text(XYZ)
    found = built("a.xyz")
    for array in (found.position, found.cell, found.periodic, found.species):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
    assert (found.position.dtype, found.cell.dtype) == (np.float64, np.float64)
    assert (found.periodic.dtype, found.species.dtype) == (np.bool_, np.int64)
