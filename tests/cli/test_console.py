"""The error boundary, tables, JSON, and the bar."""

from __future__ import annotations

import errno
import io
import math
import re
import sys

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from implicit_cli import api
from implicit_cli.cli import console
from implicit_cli.errors import EnvironmentProblem, Interrupted, PluginError


class JaxRuntimeError(RuntimeError):
    """Named as JAX names it."""


@pytest.mark.parametrize(
    ("error", "code", "lines"),
    [
        (PluginError(["a.yaml:1:2: x", "a.yaml:3:4: y"]), 2, ["error: a.yaml:1:2: x", "error: a.yaml:3:4: y"]),
        (EnvironmentProblem("no GPU"), 3, ["error: no GPU"]),
        (Interrupted("stopped"), 130, ["error: stopped"]),
        (KeyboardInterrupt(), 130, ["interrupted"]),
        (typer.Abort(), 130, ["interrupted"]),
        (PermissionError(errno.EACCES, "Permission denied", "/x/y.h5"), 3, ["error: '/x/y.h5': Permission denied"]),
        (OSError(errno.ENOSPC, "No space left on device", "a", None, "b"), 3, ["error: 'a' and 'b': No space left on device"]),
        (OSError(errno.EROFS, "Read-only file system"), 3, ["error: [Errno 30] Read-only file system"]),
        (MemoryError(), 3, ["error: out of memory"]),
        (MemoryError("Unable to allocate 9 TiB"), 3, ["error: out of memory: Unable to allocate 9 TiB"]),
        (
            JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.\nmore"),
            3,
            ["error: the device is out of memory: RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes."],
        ),
        (
            JaxRuntimeError("INTERNAL: Error dispatching computation: Out of memory allocating 9 bytes."),
            3,
            ["error: the device is out of memory: INTERNAL: Error dispatching computation: Out of memory allocating 9 bytes."],
        ),
        (
            ImportError("libx.so: failed to map segment from shared object"),
            3,
            ["error: out of memory: libx.so: failed to map segment from shared object"],
        ),
        (typer.BadParameter("x is not y."), 2, ["error: Invalid value: x is not y; see 'implicit schema --help'"]),
    ],
)
def test_what_is_not_our_fault_has_a_line_and_no_traceback(implicit, monkeypatch, error, code, lines):
    monkeypatch.setattr(api, "schema", raising(error))
    done = implicit("schema")
    assert (done.code, done.out) == (code, "")
    assert done.err.splitlines() == [f"implicit: {line}" for line in lines]


@pytest.mark.parametrize(
    "error",
    [
        ValueError("no"),
        KeyError("x"),
        FileNotFoundError(errno.ENOENT, "No such file", "x"),
        OSError("?"),
        JaxRuntimeError("INTERNAL"),
        RuntimeError("RESOURCE_EXHAUSTED"),
        ImportError("no module"),
    ],
)
def test_what_is_our_fault_has_a_traceback(implicit, monkeypatch, error):
    monkeypatch.setattr(api, "schema", raising(error))
    done = implicit("schema")
    assert (done.code, done.out) == (70, "")
    first, *_, last, more = done.err.splitlines()
    assert first == "Traceback (most recent call last):"
    assert type(error).__name__ in done.err
    assert last == "implicit: error: this is a fault of implicit itself; please report it with the lines above,"
    assert more == "implicit: error: or with what 'implicit info --bug-report' prints, which holds no data"


def test_a_report_of_a_fault_has_its_way_and_no_data(implicit, monkeypatch, tmp_path):
    monkeypatch.setenv("IMPLICIT_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("XLA_FLAGS", "--xla_dump_to=/home/somebody/secret --xla_cpu_x=3")
    assert "no fault is known" in implicit("info", "--bug-report").out

    def fails(*arguments):
        try:
            return {}["secret 1"]
        except KeyError as error:
            raise ValueError("secret 2") from error

    monkeypatch.setattr(api, "schema", fails)
    assert implicit("schema").code == 70
    done = implicit("info", "--bug-report")
    assert (done.code, done.err) == (0, "")
    assert "secret" not in done.out
    assert "/home" not in done.out
    assert str(tmp_path) not in done.out
    assert "--xla_dump_to=PATH --xla_cpu_x=3" in done.out
    lines = done.out.partition("last fault:\n")[2].splitlines()
    assert [line for line in lines if not line.startswith(" ")][1:] == ["builtins.ValueError", "builtins.KeyError"]
    assert any(re.fullmatch(r"  implicit_cli/cli/schema.py:\d+ schema", line) for line in lines)
    assert "  a file elsewhere:" in done.out
    assert re.search(r"^scipy +\d", done.out, re.MULTILINE)


def test_a_fault_is_not_made_worse_where_it_cannot_be_kept(implicit, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("IMPLICIT_CACHE_DIR", str(tmp_path / "file" / "cache"))
    monkeypatch.setattr(api, "schema", raising(ValueError("no")))
    assert implicit("schema").code == 70
    monkeypatch.setenv("IMPLICIT_CACHE_DIR", "")
    assert implicit("schema").code == 70


def raising(error: BaseException):
    def fail(*arguments, **options):
        raise error

    return fail


# Tables


def test_a_table_on_a_terminal_wraps_its_last_column(capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "32")
    console.table([("a", "one two three four five six"), ("long", "")], ("name", "meaning"))
    assert capsys.readouterr().out == "name  meaning\na     one two three four five\n      six\nlong\n"


def test_a_table_in_a_pipe_has_a_row_a_line(capsys):
    text = "words " * 50
    console.table([("a", "", text)])
    assert capsys.readouterr().out == f"a    {text}".rstrip() + "\n"


def test_an_empty_table_is_nothing(capsys):
    console.table([])
    console.rows([])
    assert capsys.readouterr().out == ""


def test_json_is_json(capsys):
    import numpy as np

    console.write_json({"array": np.arange(3), "number": np.float64(0.5), "word": "é", "path": io.StringIO})
    assert capsys.readouterr().out.startswith('{\n  "array": [\n    0,\n    1,\n    2\n  ],\n  "number": 0.5,\n  "word": "é",\n')
    with pytest.raises(ValueError, match="not JSON compliant"):
        console.write_json(math.nan)


# Progress


@pytest.mark.parametrize(
    ("first", "residual", "tol", "expected"),
    [
        (1.0, 1.0, 1e-10, 0.0),
        (1.0, 1e-5, 1e-10, 0.5),
        (1.0, 1e-11, 1e-10, 1.0),
        (1.0, 0.0, 0.0, 1.0),
        (1.0, 0.5, 0.0, 0.0),
        (0.0, 0.0, 1e-10, 1.0),
        (1.0, math.nan, 1e-10, 0.0),
        (1.0, math.inf, 1e-10, 0.0),
        (math.inf, 1.0, 1e-10, 0.0),
        (math.nextafter(1e300, math.inf), math.nextafter(1e300, math.inf), 1e300, 0.0),
        (1e100, 1e-100, 1e-300, 0.5),
        (1e100, 1e-210, 1e-300, 0.775),
    ],
)
def test_the_bar_is_logarithmic(first, residual, tol, expected):
    assert console.fraction(first, residual, tol) == pytest.approx(expected)


@given(st.floats(), st.floats(), st.floats())
def test_the_bar_stays_within_its_ends(first, residual, tol):
    assert 0.0 <= console.fraction(first, residual, tol) <= 1.0


def test_the_bar_on_a_terminal(monkeypatch):
    screen = io.StringIO()
    screen.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with console.observer(quiet=False, verbose=False) as observer:
        observer.stage("solving [/bold]")
        observer.progress(1, 1.0, 1e-10)
        observer.progress(2, 1e-5, 1e-10)
        observer._progress.refresh()
    text = screen.getvalue()
    assert "solving [/bold]" in text
    assert "step 2, residual 1.0e-05, tolerance 1e-10" in text


@pytest.mark.parametrize("terminal", ["dumb", "xterm"])
def test_no_bar_where_it_would_only_be_noise(monkeypatch, terminal):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    monkeypatch.setenv("TERM", terminal)
    if terminal == "dumb":
        sys.stderr.isatty = lambda: True  # type: ignore[method-assign]
    with console.observer(quiet=False, verbose=False) as observer:
        observer.stage("solving")
        observer.progress(1, 1.0, 1e-10)
    assert sys.stderr.getvalue() == "implicit: solving\n"
