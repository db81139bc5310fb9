"""The front door: versions, wrong usage, interrupts, broken pipes, completion."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from implicit_cli import __version__, api

MAIN = "import sys; from implicit_cli.cli import main; sys.exit(main())"


def test_the_version(implicit):
    assert implicit("--version").out == f"implicit {__version__}\n"


def test_no_words_at_all_print_the_help(implicit):
    assert implicit() == implicit("--help") == implicit("-h")
    assert implicit().out.startswith("Usage: implicit ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rnu"], "No such command 'rnu'"),
        (["run"], "Missing argument 'SPEC'; see 'implicit run --help'"),
        (["run", "x.yaml"], "Missing option '-o' / '--output'; see 'implicit run --help'"),
        (["run", "x.yaml", "-o", "x.h5", "--seed", "1"], "No such option"),
        (["run", "x.yaml", "-o", "x.h5", "--set"], "Option '--set' requires an argument"),
        (["check", "x.yaml", "y.yaml"], "Got unexpected extra argument"),
        (["problems", "shwo"], "No such command 'shwo'"),
        (["--fast"], "No such option"),
    ],
)
def test_wrong_usage_is_one_line(implicit, arguments, message):
    done = implicit(*arguments)
    assert (done.code, done.out) == (2, "")
    (line,) = done.err.splitlines()
    assert line.startswith(f"implicit: error: {message}")
    assert line.endswith(" --help'")


def test_an_exit_code_is_handed_on(implicit, monkeypatch):
    monkeypatch.setattr(api, "schema", lambda: sys.exit(5))
    assert implicit("schema").code == 5


def test_a_reader_that_leaves_is_no_error():
    """`implicit problems | head -0`."""
    process = subprocess.Popen([sys.executable, "-c", MAIN, "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(timeout=60) == 141


def test_control_c_ends_quietly_with_130():
    script = (
        "import sys, time; from implicit_cli import api, cli; "
        "api.schema = lambda: print('ready', flush=True) or time.sleep(60); sys.exit(cli.main(['schema']))"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        try:
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, out, err) == (130, "", "implicit: interrupted\n")


def test_the_shell_completes_commands():
    environment = {**os.environ, "_IMPLICIT_COMPLETE": "complete_bash", "COMP_WORDS": "implicit pro", "COMP_CWORD": "1"}
    done = subprocess.run([sys.executable, "-c", MAIN], env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, ["problems"], "")
