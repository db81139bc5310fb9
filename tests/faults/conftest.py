"""The scripts in this folder as modules, and small runs to do harm to."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

HERE = Path(__file__).parent
RIDGE = """\
problem: ridge
data:
  X: [[1.0, 0.5, 0.0], [0.2, 1.0, 0.3], [0.3, 0.1, 2.0], [0.9, 0.4, 0.4]]
  y: [1.0, 2.0, 3.0, 0.5]
  X_validation: [[1.0, 1.0, 0.5], [0.1, 0.7, 0.2]]
  y_validation: [1.0, 1.5]
sensitivity: {of: [w, validation_loss]}
"""


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """A script, as a module."""

    def load(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        found = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, found)
        spec.loader.exec_module(found)
        return found

    return load


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the spec of one case and of a sweep, in which all happens."""
    monkeypatch.chdir(tmp_path)
    Path("one.yaml").write_text(f"{RIDGE}parameters: {{penalty: 0.5}}\n")
    Path("sweep.yaml").write_text(f"{RIDGE}sweep: {{over: {{penalty: {{linspace: [0.5, 2.0, 8]}}}}}}\n")
    return tmp_path


@pytest.fixture
def shell(here: Path) -> Callable[[str], subprocess.CompletedProcess[str]]:
    """A line for the shell, in which `implicit` is a process of its own."""
    # Python prints at once where this is set, and fails elsewhere than it does for users
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    function = f'implicit() {{ "{sys.executable}" -m implicit_cli "$@"; }}'

    def run(line: str, **variables: str) -> subprocess.CompletedProcess[str]:
        words = ["bash", "-c", f"{function}\n{line}"]
        return subprocess.run(words, capture_output=True, text=True, timeout=300, env={**environment, **variables})

    return run


@pytest.fixture
def mounts(tmp_path: Path) -> Iterator[Callable[[str, str], Path]]:
    """Mounts a file system in memory with these options on a folder of this name, or again with others; skips where none may."""
    mounted: list[Path] = []

    def mount(name: str, options: str) -> Path:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        again = "remount," if folder in mounted else ""
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"{again}{options}", "tmpfs", str(folder)], check=True, capture_output=True)
        if not again:
            mounted.append(folder)
        return folder

    try:
        mount("try", "size=64k")
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs leave to mount")
    yield mount
    for folder in mounted:
        subprocess.run(["umount", str(folder)], check=True)
