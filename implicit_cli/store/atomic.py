"""A file appears whole or not at all: written beside its name, made durable, then renamed."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

from implicit_cli.errors import EnvironmentProblem, InputError


class Sealed(Protocol):
    """A file's bytes, piece by piece, of which some are known only when all have gone through."""

    def __iter__(self) -> Iterator[memoryview]:
        """The bytes in order, as they are before the seal."""

    def seal(self) -> tuple[int, bytes]:
        """What takes the place of bytes at an offset, once all pieces have been iterated over."""


def check_output(path: Path, inputs: Iterable[Path] = ()) -> None:
    """Refuse, before any work, an output that cannot be written or that is one of the run's `inputs`.

    Raises InputError for a folder, a device or an input, EnvironmentProblem where the folder does not let us write.
    """
    path = Path(path)
    if str(path) == "-":
        raise InputError("-: found standard output, allowed: a file name for the result, which is no text")
    try:
        _check_kind(path)
        for other in inputs:
            if path.exists() and other.exists() and path.samefile(other):
                raise InputError(f"{path}: found an input of this run, allowed: another name for the result")
        # The folder is made with the result; what it would be made in must be there.
        folder = next(parent for parent in path.absolute().parents if parent.exists())
        if not folder.is_dir():
            raise InputError(f"{path}: found a file at '{folder}', allowed: a folder")
        # Permission bits tell neither of read-only file systems nor of what root may do: only a try does.
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise EnvironmentProblem(f"{path}: cannot write the result: {reason(error)}") from error


def _check_kind(path: Path) -> None:
    if path.is_dir():
        raise InputError(f"{path}: found a folder, allowed: a file name for the result")
    if path.exists() and not path.is_file():
        raise InputError(f"{path}: found a device or a pipe, allowed: a file name for the result")


def replace_file(path: Path, content: bytes | memoryview | Sealed) -> None:
    """Make `path` hold `content`, creating its folder if need be.

    Until the rename, an earlier file at `path` is untouched and the bytes are in a temporary file `.implicit-*.part` beside it,
    which is removed on any failure. A symbolic link at `path` is itself replaced. Raises InputError where `path` is a folder or a
    device, EnvironmentProblem where the file system refuses; one line each.
    """
    path = Path(path)
    try:
        _check_kind(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.parent / f".implicit-{secrets.token_hex(8)}.part"
        try:
            _write_new(temporary, content)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
    except OSError as error:
        raise EnvironmentProblem(f"{path}: cannot write the result: {reason(error)}") from error
    try:
        _sync_folder(path.parent)
    except OSError as error:
        raise EnvironmentProblem(
            f"{path}: the result is written, but its folder cannot be made durable: {reason(error)}; a power loss may undo it"
        ) from error


def _write_new(path: Path, content: bytes | memoryview | Sealed) -> None:
    # O_EXCL with O_NOFOLLOW: the name must be new, so nobody can have put a link there.
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
    descriptor = os.open(path, flags, 0o666)
    try:
        if isinstance(content, (bytes, memoryview)):
            _write(descriptor, content)
        else:
            for piece in content:
                _write(descriptor, piece)
            offset, seal = content.seal()
            os.lseek(descriptor, offset, os.SEEK_SET)
            _write(descriptor, seal)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write(descriptor: int, content: bytes | memoryview) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _sync_folder(folder: Path) -> None:
    """Make the rename durable. File systems that cannot sync a folder, or do not let us open it, are let be."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
    except PermissionError:
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def reason(error: OSError) -> str:
    """What the operating system says, with the cure where there is a plain one."""
    cure = _CURES.get(error.errno or 0, "")
    return f"{error.strerror or type(error).__name__}{cure}"


_CURES = {
    errno.ENOSPC: "; free some space or choose another folder with --output",
    errno.EDQUOT: "; free some space or choose another folder with --output",
    errno.EFBIG: "; raise the limit on the size of files (ulimit -f), or ask for less",
    errno.EACCES: "; choose a folder that you may write to with --output",
    errno.EPERM: "; choose a folder that you may write to with --output",
    errno.EROFS: "; choose a folder that you may write to with --output",
}
