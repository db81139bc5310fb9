"""Structures from text files, read by ASE after a look of our own at their size and their heads.

ASE gets the text alone and no file name, so that no other file beside it is opened.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import numpy as np

from implicit_cli.errors import EnvironmentProblem, InputError, listing, nearest
from implicit_cli.spec.source import check_regular, shown_path
from implicit_cli.spec.words import shown
from implicit_cli.structures import headers
from implicit_cli.structures.structure import Array, Structure, boxed

MAX_BYTES = 1024**3
"""Largest text file that is read."""

FORMATS = {"extxyz": "extxyz", "cif": "cif", "lammps-data": "LAMMPS data", "vasp": "POSCAR"}
"""The formats that a file's name tells, as ASE names them."""
_ALIASES = {"xyz": "extxyz", "lammps": "lammps-data", "poscar": "vasp", "contcar": "vasp"}
_SUFFIXES = {
    ".xyz": "extxyz",
    ".extxyz": "extxyz",
    ".cif": "cif",
    ".data": "lammps-data",
    ".lmp": "lammps-data",
    ".lammps": "lammps-data",
    ".poscar": "vasp",
    ".vasp": "vasp",
}
INSTALL = "pip install 'implicit-cli[structures]'"


def read_text(path: Path, name: str, asked: str | None, frame: int | None, place: str) -> Structure:
    """The structure in the text file at `path`, called `name` in messages, which start with `place`.

    Raises InputError for a file that is missing, too large, of an unknown format, or not what its format says; EnvironmentProblem
    where the system does not let us read it, or where ASE is missing.
    """
    label = f"{place}: {shown_path(name)}"
    try:
        check_regular(path, label, "a file with a structure")
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise InputError(f"{label}: found {size / 2**20:.0f} MiB, allowed: {MAX_BYTES // 2**20} MiB")
        with path.open("rb") as stream:
            return _Reader(label, asked, frame).read(stream, path.name, size)
    except OSError as error:
        raise EnvironmentProblem(f"{label}: cannot read the file: {error.strerror}") from error
    except MemoryError as error:
        raise EnvironmentProblem(f"{label}: not enough memory to read the file") from error


class _Reader:
    def __init__(self, label: str, asked: str | None, frame: int | None) -> None:
        self.label, self.asked, self.frame = label, asked, frame

    def read(self, stream: BinaryIO, name: str, size: int) -> Structure:
        kind = self.kind(name)
        labels: Array | None = None
        order: list[str] = []
        if self.frame is not None and kind in ("lammps-data", "vasp"):
            self.refuse(f"found frame: {self.frame}, allowed: none with {FORMATS[kind]}, which has one")
        match kind:
            case "extxyz":
                comment, rows = headers.xyz_frame(stream, size, self.frame, self.refuse_at)
                # ASE knows elements only: it is told that the names are labels
                comment = re.sub(r"(?<=[=:\"])species:S:1", "label:S:1", comment)
                comment = comment if "Properties=" in comment else f"{_lattice(comment)} Properties=label:S:1:pos:R:3"
                text = f"{len(rows.splitlines())}\n{comment}\n{rows}"
                atoms = self.parse(kind, text, 0)
                labels = atoms.arrays.get("label")
            case "lammps-data" | "vasp":
                (headers.lammps_data if kind == "lammps-data" else headers.poscar)(stream, size, self.refuse_at)
                stream.seek(0)
                atoms = self.parse(kind, self.text(stream), None)
                if kind == "lammps-data":
                    labels, order = _types(atoms)
            case _:
                atoms = self.parse(kind, self.text(stream), self.frame)
                occupied = [share for site in atoms.info.get("occupancy", {}).values() for share in site.values()]
                if any(not isinstance(share, (int, float)) or abs(share - 1) > 1e-6 for share in occupied):
                    self.refuse("found sites that are occupied in part, allowed: sites with one particle each")
        return self.structure(atoms, np.array(atoms.get_chemical_symbols()) if labels is None else labels, order)

    def kind(self, name: str) -> str:
        """The format, as ASE names it."""
        known = {*FORMATS, "h5md"}
        if self.asked is None:
            guess = _SUFFIXES.get(Path(name).suffix.lower())
            if guess is None and re.match(r"(POSCAR|CONTCAR)\b", name):
                guess = "vasp"
            if guess is None:
                self.refuse(f"found a name that tells no format, allowed with 'format': one of {listing(known)} or of ASE's")
            return guess
        kind = _ALIASES.get(self.asked.lower(), self.asked)
        if kind == "h5md":
            self.refuse("found another kind of file, allowed with format: h5md: HDF5")
        if kind not in FORMATS:
            formats = self.ase().io.formats.ioformats
            text = {one for one, about in formats.items() if about.acceptsfd and not about.isbinary and about.can_read}
            if kind not in text:
                hint = nearest(kind, {*text, "h5md"})
                self.refuse(f"found format '{shown(kind)}', allowed: {listing(known)} or another text format that ASE reads{hint}")
        return kind

    def ase(self) -> Any:
        try:
            import ase.io
            import ase.io.formats
        except ImportError as error:
            raise EnvironmentProblem(f"{self.label}: reading this format needs ASE: {INSTALL}") from error
        return ase

    def parse(self, kind: str, text: str, frame: int | None) -> Any:
        """ASE's atoms; whatever it raises is the file's fault."""
        ase = self.ase()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about symmetry and bonds, which are not taken
                atoms = ase.io.read(io.StringIO(text), index=-1 if frame is None else frame, format=kind)
        except MemoryError:
            raise
        except Exception as error:
            reason = shown(" ".join(str(error).split())) or type(error).__name__
            self.refuse(f"ASE cannot read it as {kind}: {reason}")
        if not len(atoms):
            self.refuse("found no particles, allowed: at least 1")
        return atoms

    def structure(self, atoms: Any, labels: Array, order: Sequence[str]) -> Structure:
        """The record of ASE's atoms; names come in `order`, else as they come first in the file."""
        position = np.asarray(atoms.get_positions(), dtype=np.float64)
        cell, periodic = np.asarray(atoms.cell.array, dtype=np.float64), np.asarray(atoms.pbc, dtype=bool)
        labels = labels.astype(str)
        names = tuple(order) or tuple(dict.fromkeys(labels.tolist()))
        unique, inverse = np.unique(labels, return_inverse=True)
        species = np.array([names.index(str(name)) for name in unique], dtype=np.int64)[inverse]
        return Structure(position, boxed(position, cell, periodic), periodic, species, names)

    def text(self, stream: BinaryIO) -> str:
        return stream.read().decode(errors="replace").replace("\r\n", "\n")

    def refuse(self, what: str) -> NoReturn:
        raise InputError(f"{self.label}: {what}")

    def refuse_at(self, line: int, what: str) -> NoReturn:
        raise InputError(f"{self.label}:{line}: {what}")


def _lattice(comment: str) -> str:
    """What a comment without columns says of the cell; anything else in it is words."""
    return " ".join(match[0] for match in re.finditer(r"\b(?:Lattice|pbc)=(?:\"[^\"]*\"|\S+)", comment))


def _types(atoms: Any) -> tuple[Array, list[str]]:
    """Names of particles, and of LAMMPS types in order: elements where each type's mass tells another one, else their numbers."""
    types, symbols = atoms.arrays["type"], np.array(atoms.get_chemical_symbols())
    kinds = np.unique(types)
    told = [str(symbols[types == kind][0]) for kind in kinds]
    if "masses" in atoms.arrays and len(set(told)) == len(kinds) and "X" not in told:
        return symbols, told
    return types.astype(str), [str(kind) for kind in kinds]
