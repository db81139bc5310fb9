"""What the head of a text file declares, held against what the file can hold, before anything reads it whole.

Each function finds the part to read and raises InputError, with the line, where a head declares more particles than the bytes
behind it can be.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import BinaryIO, NoReturn

from implicit_cli.spec.words import found, shown
from implicit_cli.structures.structure import MAX_PARTICLES

RefuseAt = Callable[[int, str], NoReturn]
"""Raises InputError about a line of a file."""

_LAMMPS_ATOM = len("1 1 0 0 0\n")
_POSCAR_ATOM = len("0 0 0\n")
LONGEST = 10_000
"""Bytes in the line of a particle."""


def xyz_frame(stream: BinaryIO, size: int, frame: int | None, refuse: RefuseAt) -> tuple[str, str]:
    """Comment and particles' lines of one frame (None: the last) of an xyz or extxyz file."""
    line, index, last = 1, 0, None
    while index != (frame + 1 if frame is not None else -1):
        head = stream.readline()
        if not head.strip():
            rest = stream.readline() if head else b""
            if not rest.strip() and stream.tell() >= size:
                break
            refuse(line, "found an empty line, allowed: the number of particles")
        count = _count(head.split()[0] if len(head.split()) == 1 else head.strip(), line, refuse)
        comment = stream.readline()
        least = 2 * _columns(comment)
        _check(count, least, size - stream.tell(), line, refuse)
        begin, rows = stream.tell(), 0
        for rows in range(1, count + 1):
            row = stream.readline()
            if len(row) > LONGEST:
                refuse(line + 1 + rows, f"found a line of {len(row)} bytes, allowed: {LONGEST}")
            if not row.strip():
                refuse(
                    line, f"found a head that declares {count} particles, and {rows - 1} behind it, allowed: as many as declared"
                )
        last = (comment, begin, stream.tell())
        line, index = line + 2 + rows, index + 1
    if last is None or (frame is not None and index <= frame):
        if not index:
            refuse(1, "found an empty file, allowed: the number of particles, a comment, and a line for each particle")
        refuse(line, f"found {index} frame{'s' * (index > 1)}, allowed with frame: {frame}: at least {(frame or 0) + 1}")
    comment, begin, end = last
    stream.seek(begin)
    return _text(comment).strip(), _text(stream.read(end - begin))


def lammps_data(stream: BinaryIO, size: int, refuse: RefuseAt) -> None:
    """Look at the head of a LAMMPS data file, up to its section `Atoms`."""
    declared: tuple[int, int] | None = None
    for number, raw in enumerate(stream, start=1):
        text = _text(raw).partition("#")[0].strip()
        if match := re.match(r"(\S+)\s+atoms$", text):
            declared = (_count(match[1].encode(), number, refuse), number)
            _check(declared[0], _LAMMPS_ATOM, size - stream.tell(), number, refuse)
        elif re.match(r"Atoms\b", text):
            if declared is None:
                refuse(number, "found the section 'Atoms' and no line 'N atoms' before it, allowed: their number first")
            _check(declared[0], _LAMMPS_ATOM, size - stream.tell(), declared[1], refuse)
            return
    refuse(1, "found no section 'Atoms', allowed: a LAMMPS data file with one")


def poscar(stream: BinaryIO, size: int, refuse: RefuseAt) -> None:
    """Look at the counts of a POSCAR, which are in its sixth line, or in the seventh behind the names."""
    lines = [stream.readline() for _ in range(6)]
    number = 6
    if lines[5].split() and not lines[5].split()[0].isdigit():
        lines.append(stream.readline())
        number = 7
    words = lines[-1].partition(b"!")[0].split()
    if not words:
        refuse(number, "found no number of particles, allowed: one for each species")
    total = sum(_count(word, number, refuse) for word in words)
    _check(total, _POSCAR_ATOM, size - stream.tell(), number, refuse)


def _count(word: bytes, line: int, refuse: RefuseAt) -> int:
    text = _text(word)
    if not re.fullmatch(r"\d{1,18}", text) or int(text) == 0:
        refuse(line, f"found {found(shown(text))}, allowed: the number of particles, at least 1")
    return int(text)


def _check(count: int, least: int, rest: int, line: int, refuse: RefuseAt) -> None:
    # the last line may lack its end
    rest = max(rest, 0)
    most = (rest + 1) // least
    if count > most:
        held = f"at most {most}, which is what the {rest} bytes behind it can hold"
        refuse(line, f"found a head that declares {count} particles, allowed: {held}")
    if count > MAX_PARTICLES:
        refuse(line, f"found a head that declares {count} particles, allowed: {MAX_PARTICLES}")


def _columns(comment: bytes) -> int:
    """Number of columns that the comment of an extxyz frame declares; 4 where it says nothing."""
    match = re.search(rb"\bProperties=\"?([^\s\"]+)", comment)
    widths = match[1].split(b":")[2::3] if match else []
    return sum(int(width) for width in widths) if widths and all(re.fullmatch(rb"\d{1,4}", width) for width in widths) else 4


def _text(raw: bytes) -> str:
    return raw.decode(errors="replace")
