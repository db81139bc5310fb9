"""Runs what the docs show, and compares or renews the output shown.

    python docs/transcripts.py README.md docs/tutorial.md      write the outputs of these pages anew; then read the difference

In a ```console block, `$ command` is run by bash in a folder that holds a copy of `sample_inputs`; what follows is what it prints
(standard error included). A line `...` stands for any number of lines. A command must end with exit code 0, unless `$ echo $?`
comes next: then the code shown there is the one expected. A ```text block right after a ```python block is what the code prints.

Two lines agree when their words are the same and their numbers differ by less than 0.2 %, or are both below 1e-6 (what rounding
leaves differs between machines). Dates, seconds, versions and counts of steps are not compared. Renewing keeps the lines that are
shown now, in the order in which they are printed, and puts `...` where lines are left out.
"""

from __future__ import annotations

import math
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
NUMBER = re.compile(r"(?<![\w.])[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?(?![\w.]*\w)")
IGNORED = (
    (re.compile(r"\d{4}-\d\d-\d\d(?:T\d\d:\d\d:\d\d\S*)?"), "DATE"),
    (re.compile(r"\d[\d.e-]* s\b"), "SECONDS"),
    (re.compile(r"(?<=implicit-cli )\d+\.\d+\S*"), "VERSION"),
    (re.compile(r"\d+ (polish )?steps?\b"), r"N \1steps"),
)
BARS = re.compile(r"\s*[\u2581-\u258f]+$")
"""Bars and sparklines at the end of a line: compared as they are, but the line is the same one when they change."""
TINY, CLOSE = 1e-6, 2e-3


@dataclass
class Block:
    """A fenced block: where its content starts, and the language of the block right before it, if nothing lies between."""

    language: str
    text: str
    start: int
    follows: str = ""


@dataclass
class Step:
    """A command or a piece of code that was run: what is shown, what was printed, and whether the exit code is as shown."""

    label: str
    shown: list[str]
    printed: list[str]
    start: int
    good: bool = True


def blocks(text: str) -> list[Block]:
    """The fenced blocks of a page."""
    found: list[Block] = []
    end = -1
    for match in FENCE.finditer(text):
        touching = found and not text[end : match.start()].strip()
        found.append(Block(match[1], match[2], match.start(2), found[-1].language if touching else ""))
        end = match.end()
    return found


def words(line: str) -> str:
    """A line without numbers and without the width of its blanks."""
    for pattern, word in IGNORED:
        line = pattern.sub(word, line)
    return " ".join(NUMBER.sub("#", line).split())


def numbers(line: str) -> list[float]:
    """The numbers in a line that are compared."""
    for pattern, word in IGNORED:
        line = pattern.sub(word, line)
    return [float(number) for number in NUMBER.findall(line)]


def alike(shown: str, printed: str) -> bool:
    """Whether two lines say the same."""
    pairs = list(zip(numbers(shown), numbers(printed), strict=False))
    return words(shown) == words(printed) and all(
        (abs(a) < TINY and abs(b) < TINY) or math.isclose(a, b, rel_tol=CLOSE) for a, b in pairs
    )


def agrees(shown: list[str], printed: list[str]) -> bool:
    """Whether what is shown is what was printed, with `...` for lines left out."""
    if not shown:
        return not printed
    head, *rest = shown
    if head.strip() == "...":
        return any(agrees(rest, printed[skip:]) for skip in range(len(printed) + 1))
    return bool(printed) and alike(head, printed[0]) and agrees(rest, printed[1:])


Implicit = Callable[[list[str], Path], tuple[int, list[str]]]
"""Runs `implicit` with these words in a folder: the exit code, and the lines that it prints."""
SHELL = re.compile(r"[|&;<>$`(){}*?~\\\n]")
"""What makes a line more than words."""


def steps(text: str, folder: Path, implicit: Implicit | None = None) -> Iterator[Step]:
    """Run a page's commands and code in `folder`, in order; plain calls of `implicit` by that function where it is given."""
    shutil.copytree(ROOT / "sample_inputs", folder / "sample_inputs", ignore=shutil.ignore_patterns("__pycache__"))
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "COLUMNS": "100"}

    def run(*command: str) -> tuple[int, list[str]]:
        done = subprocess.run(
            command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        return done.returncode, [line.rstrip() for line in done.stdout.splitlines()]

    code, printed = 0, [""]
    for block in blocks(text):
        if block.language == "console":
            found = list(re.finditer(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block.text, re.MULTILINE))
            for number, match in enumerate(found):
                shown = [line.rstrip() for line in match[2].splitlines()]
                if match[1] == "echo $?":
                    yield Step("$ echo $?", shown, [str(code)], block.start + match.start(2), good=shown == [str(code)])
                    continue
                words = [] if SHELL.search(match[1]) else shlex.split(match[1])
                if implicit is not None and words[:1] == ["implicit"]:
                    code, printed = implicit(words[1:], folder)
                else:
                    code, printed = run("bash", "-c", match[1])
                told = number + 1 < len(found) and found[number + 1][1] == "echo $?"
                yield Step(f"$ {match[1]}", shown, printed, block.start + match.start(2), good=code == 0 or told)
        elif block.language == "python":
            code, printed = run(sys.executable, "-c", block.text)
            if code:
                yield Step(block.text, [], printed, block.start, good=False)
        elif block.language == "text" and block.follows == "python":
            yield Step("python", [line.rstrip() for line in block.text.splitlines()], printed, block.start)


def renewed(shown: list[str], printed: list[str]) -> list[str]:
    """What was printed, shortened as what is shown is."""
    wanted = Counter(words(BARS.sub("", line)) for line in shown)
    if "..." not in wanted:
        return printed
    lines: list[str] = []
    for line in printed:
        key = words(BARS.sub("", line))
        if wanted[key] and (line or lines[-1:] != ["..."]):
            wanted[key] -= 1
            lines.append(line)
        elif lines[-1:] != ["..."]:
            while lines and not lines[-1]:
                lines.pop()
            lines.append("...")
    return lines


def renew(page: Path) -> int:
    """Write a page's outputs anew; the number of steps with another exit code than the page says."""
    text = page.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        done = list(steps(text, Path(folder)))
    for step in reversed(done):
        if not step.good:
            sys.stderr.write("\n".join([f"{page}: another exit code: {step.label}", *step.printed, ""]))
        elif not agrees(step.shown, step.printed):
            end = step.start + sum(map(len, text[step.start :].splitlines(keepends=True)[: len(step.shown)]))
            lines = "".join(f"{line}\n" for line in renewed(step.shown, step.printed))
            text = text[: step.start] + lines + text[end:]
    page.write_text(text, encoding="utf-8")
    return sum(not step.good for step in done)


if __name__ == "__main__":
    sys.exit(1 if sum(renew(Path(page)) for page in sys.argv[1:]) else 0)
