"""A short run of both fuzzers, and what longer ones have found before."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
FOUND = sorted(path for path in (HERE / "found").iterdir())


def run(*words: str) -> str:
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_fuzzed_specs_are_read_or_refused():
    assert "400 specs, seed 7: 0 faults" in run(str(HERE / "specs.py"), "400", "7")


def test_damaged_files_are_read_or_refused():
    assert "150 files, seed 7: 0 faults, 0 of them crashes" in run(str(HERE / "files.py"), "150", "7")


@pytest.mark.parametrize("path", FOUND, ids=lambda path: path.name)
def test_what_was_found_is_read_or_refused(path, tmp_path):
    kind, module = path.name.partition("-")[0], "specs" if path.suffix == ".yaml" else "files"
    call = f"fault(path.read_bytes(), Path({str(tmp_path)!r}))" if module == "specs" else f"read(path, {kind!r})"
    script = f"import sys; from pathlib import Path; sys.path.insert(0, {str(HERE)!r}); import {module}; "
    assert run("-c", f"{script}path = Path({str(path)!r}); print({module}.{call})").strip() == ""


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        ("pass", True),
        ("raise ValueError", True),
        ("sys.exit(3)", True),
        ("print('x' * 10)", True),
        (f"os.kill(os.getpid(), {int(signal.SIGSEGV)})", False),
        ("any(iter(int, 1))", False),  # an endless loop that lets no handler run
    ],
)
def test_a_copy_tells_what_would_have_become_of_us(body, answer):
    script = f"""
import os, sys
from implicit_cli.spec import outlived
outlived.SECONDS = 1
def action():
    {body}
print(outlived.outlived(action))
"""
    assert run("-W", "error", "-c", script).strip() == str(answer)
