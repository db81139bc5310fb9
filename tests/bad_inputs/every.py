"""All classes of bad input as one table: how a folder with each is made, and whether the problem has to be imported to see it.

python tests/bad_inputs/every.py          write what is said of each anew to refusals.txt; then read the difference
python tests/bad_inputs/every.py LIMITS   print, as JSON, what is said of those that need no JAX, with seconds and memory
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from data_files import FILES, SPEC
from particles_and_plugins import PLUGINS, STRUCTURES, Wrong
from yaml_texts import TEXTS

REFUSALS = Path(__file__).with_name("refusals.txt")
PROBLEM = {
    "a sweep over what is not there",
    "a sweep beyond the shape",
    "formulas for a problem of the library",
    "another shape",
    "too few axes",
    "another unit",
    "a structure for a problem that takes none",
    *PLUGINS,
}
"""Seen only beside the problem, which imports JAX."""
RESULTS = {"F that is NaN", "F that never vanishes", "an energy without a minimum"}
"""Seen only by solving: there is a result, and its status says so."""


class Said(NamedTuple):
    """Exit code and standard error, in which FOLDER stands for the folder; whether there is an output."""

    code: int
    error: str
    output: bool


def classes() -> Iterator[tuple[str, Callable[[Path], None]]]:
    """Name and maker of each."""

    def of_text(text: str | bytes) -> Callable[[Path], None]:
        return lambda folder: (folder / "s.yaml").write_bytes(text if isinstance(text, bytes) else text.encode()) and None

    def of_file(make: Callable[[Path], None]) -> Callable[[Path], None]:
        return lambda folder: (folder / "s.yaml").write_text(SPEC) and make(folder)

    def of_spec(wrong: Wrong) -> Callable[[Path], None]:
        def make(folder: Path) -> None:
            (folder / "s.yaml").write_text(wrong.spec)
            for name, text in wrong.files.items():
                (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())

        return make

    yield from ((name, of_text(text)) for name, text in TEXTS.items())
    yield from ((name, of_file(make)) for name, make in FILES.items())
    yield from ((name, of_spec(wrong)) for name, wrong in {**STRUCTURES, **PLUGINS}.items())


def said(make: Callable[[Path], None]) -> Said:
    """What the command says of it."""
    from implicit_cli.cli import main

    with tempfile.TemporaryDirectory() as place, contextlib.chdir(place):
        make(Path(place))
        out, error = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
            code = main(["run", "s.yaml", "-o", "out.h5", "--quiet", "--allow-plugin", "--allow-path", "/dev"])
        text = error.getvalue().replace(str(Path(place).resolve()), "FOLDER").replace(place, "FOLDER")
        return Said(code, out.getvalue() + text, Path("out.h5").exists())


def kilobytes() -> int:
    """Most memory that this process has had, which does not count its parent's as getrusage does; 0 where it cannot be told."""
    status = Path("/proc/self/status")
    return int(status.read_text().partition("VmHWM:")[2].split()[0]) if status.exists() else 0


def refusals() -> dict[str, tuple[int, str]]:
    """Code and text of each, as refusals.txt has them."""
    found = {}
    for part in REFUSALS.read_text(encoding="utf-8").split("\n[")[1:]:
        head, _, text = part.partition("\n")
        name, _, code = head.rpartition("] ")
        found[name] = int(code), text
    return found


def main() -> None:
    if sys.argv[1:] == ["LIMITS"]:
        rows = {}
        for name, make in classes():
            if name not in PROBLEM:
                begun = time.perf_counter()
                code, text, _ = said(make)
                rows[name] = (code, text, time.perf_counter() - begun, "jax" in sys.modules)
        sys.stdout.write(json.dumps({"rows": rows, "kilobytes": kilobytes()}) + "\n")
        return
    parts = ["What `implicit run s.yaml -o out.h5 --quiet --allow-plugin` says of each class, and its exit code."]
    for name, make in classes():
        code, text, _ = said(make)
        parts.append(f"[{name}] {code}\n{text.rstrip()}")
    REFUSALS.write_text("\n".join(parts) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
