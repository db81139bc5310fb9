"""The way into a result file: what is missing, foreign, newer, unfinished or damaged is refused before a number is read."""

from __future__ import annotations

import hashlib
import math
import mmap
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import h5py

from implicit_cli.errors import EnvironmentProblem, InputError, nearest
from implicit_cli.store import layout
from implicit_cli.store.content import changed

# The densest that gzip packs is 1032 to 1, so no dataset of ours unfolds to more; a small one may be all header.
_EXPANSION = 1100
_SLACK = 4096

_NAMED = 5
_UNREADABLE = (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError, OverflowError)
CURE = "run again, or restore the file from a copy"


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """The result file at `path`, open for reading, after its checksum, its format and its completeness have been verified.

    Raises InputError (one line) for a file that is missing, not HDF5, not ours, of a newer version, incomplete or damaged;
    EnvironmentProblem where the system does not let us read it.
    """
    path = Path(path)
    _check_place(path)
    try:
        stream = path.open("rb")
    except OSError as error:
        raise EnvironmentProblem(f"{path}: cannot read the file: {error.strerror}") from error
    # One descriptor for the checksum and for HDF5: another file may be renamed to this path meanwhile.
    with stream:
        marked, whole = _checksum(stream)
        if marked and not whole:
            raise InputError(f"{path}: {_damage(path)}; {CURE}")
        try:
            file = h5py.File(stream, "r")
        except _UNREADABLE as error:
            raise InputError(f"{path}: damaged or cut short, the HDF5 library cannot open it; {CURE}") from error
        with file:
            try:
                _check_format(path, file)
                if not marked:
                    raise InputError(f"{path}: damaged, its checksum is lost; {CURE}")
                _check_tree(path, file)
            except _UNREADABLE as error:
                raise InputError(f"{path}: damaged, its structure cannot be read; {CURE}") from error
            try:
                yield file
            except (KeyError, OSError, ValueError) as error:
                # Every byte is as it was written: whoever wrote it did not keep to the format.
                reason = str(error.args[0] if error.args else "").partition("\n")[0] or type(error).__name__
                raise InputError(f"{path}: not as format version {layout.FORMAT_VERSION} says: {reason}") from error


def _check_place(path: Path) -> None:
    try:
        if path.is_dir():
            raise InputError(f"{path}: found a folder, expected a result file")
        if not path.exists():
            siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
            raise InputError(f"{path}: no such file{nearest(path.name, siblings)}")
        if not path.is_file():
            raise InputError(f"{path}: found a device or a pipe, expected a result file")
        with path.open("rb") as stream:
            empty = not stream.read(1)
    except OSError as error:
        raise EnvironmentProblem(f"{path}: cannot read the file: {error.strerror}") from error
    if empty or not h5py.is_hdf5(path):
        raise InputError(f"{path}: {'an empty file' if empty else 'not an HDF5 file'}, expected a result of `implicit run`")


def _checksum(stream: BinaryIO) -> tuple[bool, bool]:
    """Whether there is a checksum in the file, and whether it holds. HDF5 has not looked at the file yet."""
    with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        marked, position = False, -1
        while (position := content.find(layout.CHECKSUM_MARK, position + 1)) >= 0:
            marked = True
            begin = position + len(layout.CHECKSUM_MARK)
            end = begin + layout.CHECKSUM_LENGTH
            digest = hashlib.sha256()
            with memoryview(content) as view:
                for part in (view[:begin], b"0" * layout.CHECKSUM_LENGTH, view[end:]):
                    digest.update(part)
                    if isinstance(part, memoryview):
                        part.release()
            if digest.hexdigest().encode() == content[begin:end]:
                return True, True
    return marked, False


def _check_format(path: Path, file: h5py.File) -> None:
    found = file.attrs.get("format")
    if found != layout.FORMAT:
        seen = f"found format '{found}'" if isinstance(found, str) else "an HDF5 file without the attribute 'format'"
        raise InputError(f"{path}: {seen}, expected '{layout.FORMAT}', a result of `implicit run`")
    version = int(file.attrs["format_version"])
    if version > layout.FORMAT_VERSION:
        raise InputError(
            f"{path}: format version {version}, this implicit-cli reads up to {layout.FORMAT_VERSION}: install a newer implicit-cli"
        )
    if int(file.attrs.get("complete", 0)) != 1:
        raise InputError(f"{path}: incomplete, its writer did not finish; run again")


def _check_tree(path: Path, file: h5py.File) -> None:
    """Refuse what we never write: links and data that lie elsewhere, sizes beyond what the file can hold, unknown encodings."""
    for name, node in _walk(file):
        if node is None:
            raise InputError(f"{path}: {name} is a link to elsewhere, which a result never has")
        if isinstance(node, h5py.Group):
            kind, version = node.attrs["encoding-type"], node.attrs["encoding-version"]
            if kind not in layout.ENCODINGS.values() or version != layout.ENCODING_VERSION:
                raise InputError(f"{path}: {name} has encoding '{kind}' {version}, unknown here: install a newer implicit-cli")
        elif isinstance(node, h5py.Dataset):
            if node.external or node.is_virtual:
                raise InputError(f"{path}: {name} has its data elsewhere, which a result never has")
            size, held = math.prod(node.shape) * node.dtype.itemsize, node.id.get_storage_size()
            if size > _SLACK + _EXPANSION * held:
                raise InputError(f"{path}: {name} declares {size} bytes and holds {held}, which a result never does")


def _walk(file: h5py.File) -> Iterator[tuple[str, h5py.HLObject | None]]:
    """Every object once, with its path; None for a link that is not a hard one, which is not followed.

    h5py's own visitors crash on an exception in their callback, and links that go round in circles are followed once here too.
    """
    groups, seen = deque([("", file)]), set()
    while groups:
        above, group = groups.popleft()
        for name in group:
            path = f"{above}/{name}"
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                yield path, None
                continue
            node = group[name]
            address = h5py.h5o.get_info(node.id).addr
            if address in seen:
                continue
            seen.add(address)
            yield path, node
            if isinstance(node, h5py.Group):
                groups.append((path, node))


def _damage(path: Path) -> str:
    """Which dataset a damaged file has lost, as far as can be told. HDF5 libraries crash on damage, or go round in circles: another
    process looks, for a few seconds of the processor.
    """
    command = "import sys; from implicit_cli.store.guard import survey; survey(sys.argv[1])"
    command = f"from implicit_cli.spec.outlived import confine; confine(quiet=False); {command}"
    try:
        done = subprocess.run([sys.executable, "-c", command, str(path)], capture_output=True, text=True, check=True)
    except (OSError, subprocess.SubprocessError):
        return "damaged, its structure cannot be read"
    broken = done.stdout.splitlines()
    if broken:
        more = f" and {len(broken) - _NAMED} more" if len(broken) > _NAMED else ""
        return f"damaged or edited, checksum error in {', '.join(broken[:_NAMED])}{more}"
    return "damaged or edited, its SHA-256 is not the one in /checksum"


def survey(path: str) -> None:
    """Print the paths of the datasets that cannot be read, one a line; then those of other groups whose content has changed."""
    with h5py.File(path, "r", locking=False) as file:
        broken = list[str]()
        for name, node in _walk(file):
            if isinstance(node, h5py.Dataset):
                try:
                    node[()]
                except _UNREADABLE:
                    broken.append(name)
        known = {name.rpartition("/")[0] or "/" for name in broken}
        broken += [name for name in changed(file) if name not in known]
        sys.stdout.writelines(f"{name}\n" for name in broken)
