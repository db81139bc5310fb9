"""The text of a spec, read within limits, and where each of its values came from."""

from __future__ import annotations

import codecs
import stat
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from implicit_cli.errors import EnvironmentProblem, InputError, nearest
from implicit_cli.spec.words import Keys, dotted

MAX_BYTES = 4 * 1024 * 1024
STDIN = "-"


class Mark(NamedTuple):
    """Line and column, counted from 1."""

    line: int
    column: int


Origin = Mark | str
"""Where a value came from: a place in the text, or the `--set` that gave it."""


@dataclass
class Tree:
    """A parsed text: its value, and the origin of every value and of every key in it, by path."""

    name: str
    value: Any
    values: dict[Keys, Origin] = field(default_factory=dict)
    keys: dict[Keys, Origin] = field(default_factory=dict)

    def origin(self, keys: Keys, *, of_key: bool = False) -> Origin:
        """Origin of the nearest enclosing value that has one; with `of_key`, of the key itself where it has one."""
        if of_key and keys in self.keys:
            return self.keys[keys]
        for length in range(len(keys), -1, -1):
            if keys[:length] in self.values:
                return self.values[keys[:length]]
        return Mark(1, 1)

    def at(self, keys: Keys, *, of_key: bool = False) -> str:
        """The prefix of a message about the value at `keys`, or about the key itself."""
        origin, path = self.origin(keys, of_key=of_key), dotted(keys)
        if isinstance(origin, Mark):
            return f"{self.name}:{origin.line}:{origin.column}" + (f": {path}" if path else "")
        return origin if origin == f"--set {path}" else f"{origin}: {path}"


def read_text(path: str | Path) -> tuple[str, str]:
    """Name for messages, and text, of the spec at `path` (`-`: standard input).

    Raises InputError for what is missing, not a regular file, too long or not UTF-8; EnvironmentProblem where the system refuses.
    """
    name = "<stdin>" if str(path) == STDIN else shown_path(path)
    try:
        if str(path) == STDIN:
            raw = sys.stdin.buffer.read(MAX_BYTES + 1)
        else:
            check_regular(Path(path), name, "a spec")
            with Path(path).open("rb") as stream:
                raw = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise EnvironmentProblem(f"{name}: cannot read the file: {error.strerror}") from error
    if len(raw) > MAX_BYTES:
        raise InputError(f"{name}: found more than {MAX_BYTES // 2**20} MiB, allowed: less; put large arrays into an HDF5 file")
    if raw.startswith(b"\x89HDF\r\n"):
        raise InputError(f"{name}: found an HDF5 file, allowed: a spec in YAML")
    raw = raw.removeprefix(codecs.BOM_UTF8)
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        column = len(raw[raw.rfind(b"\n", 0, error.start) + 1 : error.start].decode()) + 1
        raise InputError(f"{name}:{line}:{column}: found the byte 0x{raw[error.start]:02x}, allowed: text in UTF-8") from None
    return name, text


def shown_path(path: str | Path) -> str:
    """A path as messages show it: as given, without line breaks and control characters."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in str(path))


def check_regular(path: Path, name: str, expected: str) -> None:
    """Refuse what is missing or is not a regular file; raises InputError, and OSError where the system refuses to look."""
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        raise InputError(f"{name}: no such file{shown_path(nearest(path.name, siblings))}") from None
    except ValueError:
        raise InputError(f"{name}: not a file name, allowed: the path of {expected}") from None
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "a device, a pipe or a socket"
        raise InputError(f"{name}: found {kind}, allowed: {expected}")
