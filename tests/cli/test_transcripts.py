"""Runs the transcripts beside this file: what a user types and sees.

Indented lines are checked: `$ command`, what it prints (standard output, then standard error), and `[code]` where it is not 0.
A line that ends in ` (glob)` is a pattern; `... (glob)` stands for any number of lines.
"""

from __future__ import annotations

import fnmatch
import shlex
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest

TRANSCRIPTS = sorted((Path(__file__).parent / "transcripts").glob("*.txt"))
INDENT = "    "


@dataclass
class Step:
    command: str
    expected: list[str] = field(default_factory=list)
    code: int = 0


def steps(text: str) -> list[Step]:
    found: list[Step] = []
    for line in text.splitlines():
        if not line.startswith(INDENT):
            continue
        line = line.removeprefix(INDENT)
        if line.startswith("$ "):
            found.append(Step(line.removeprefix("$ ")))
        elif line.startswith("[") and line.endswith("]") and line[1:-1].isdigit():
            found[-1].code = int(line[1:-1])
        else:
            found[-1].expected.append(line)
    return found


def agrees(expected: list[str], found: list[str]) -> bool:
    if not expected:
        return not found
    head, *rest = expected
    if head == "... (glob)":
        return any(agrees(rest, found[skip:]) for skip in range(len(found) + 1))
    if not found:
        return False
    same = (
        fnmatch.fnmatchcase(found[0], head.removesuffix(" (glob)").replace("[", "[[]"))
        if head.endswith(" (glob)")
        else head == found[0]
    )
    return same and agrees(rest, found[1:])


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_transcript(path: Path, implicit, samples: Path, tmp_path: Path, monkeypatch):
    shutil.copytree(samples, tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.chdir(tmp_path)
    for step in steps(path.read_text()):
        words = shlex.split(step.command)
        if words[0] == "implicit":
            done = implicit(*words[1:])
            code, lines = done.code, [*done.out.splitlines(), *done.err.splitlines()]
        else:
            process = subprocess.run(words, capture_output=True, text=True, check=False)
            code, lines = process.returncode, [*process.stdout.splitlines(), *process.stderr.splitlines()]
        shown = "\n".join([f"$ {step.command}", *lines, f"[{code}]"])
        assert code == step.code, shown
        assert agrees(step.expected, lines), f"{shown}\n\ndiffers from {path.name}:\n" + "\n".join(step.expected)


@pytest.mark.parametrize(
    ("expected", "found", "same"),
    [
        (["a"], ["a"], True),
        (["a"], ["a", "b"], False),
        (["a", "b"], ["a"], False),
        (["a * c (glob)"], ["a b c"], True),
        (["a[3] * (glob)"], ["a[3] b"], True),
        (["a * (glob)"], ["b c"], False),
        (["a *"], ["a b"], False),
        (["a", "... (glob)", "z"], ["a", "b", "c", "z"], True),
        (["a", "... (glob)", "z"], ["a", "z"], True),
        (["a", "... (glob)", "z"], ["a", "b"], False),
        ([], ["a"], False),
    ],
)
def test_the_comparison_can_fail(expected, found, same):
    assert agrees(expected, found) is same
