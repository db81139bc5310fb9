"""The folder in which a sweep keeps what is done: finished chunks, each an ordinary result file (`docs/file-format.md`).

Several processes, on several machines, may work in one folder at once, without locks: each writes files of its own, under names
that nobody else can have, and every file appears whole. A kill at any moment costs the chunk in hand.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from implicit_cli.errors import EnvironmentProblem, InputError
from implicit_cli.result import CaseResult, Header
from implicit_cli.status import Status
from implicit_cli.store import layout
from implicit_cli.store.atomic import reason, replace_file
from implicit_cli.store.guard import CURE, opened
from implicit_cli.store.identity import NAMED, differences
from implicit_cli.store.merge import MergeReport, merge
from implicit_cli.store.nodes import texts
from implicit_cli.store.write import write_result

FORMAT = "implicit-sweep"
VERSION = 1
IDENTITY = "sweep.json"
DAMAGED = ".damaged"
_PART = re.compile(r".+-[0-9a-f]{16}\.h5")
_OURS = re.compile(r"\.implicit-[0-9a-f]{16}\.part|plan\.npz|branch\.npz|shard-\d+\.log")
_CURE = "go on with what it belongs to, or remove the folder to start anew"
_GOOD = {int(status) for status in Status if status.good}


class Parts:
    """The folder of the sweep that `identity` describes: nested mappings of texts and numbers, equal for equal sweeps.

    `damaged` has a line for each file that was set aside because it is not whole: its cases count as not done.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any]) -> None:
        """Makes the folder, or finds it. Raises InputError where it is another sweep's, with what differs, or no folder of ours;
        EnvironmentProblem where the file system refuses.
        """
        self.folder, self.identity = Path(folder), json.loads(json.dumps(identity))
        self.damaged: list[str] = []
        self._claim()

    @classmethod
    def of(cls, folder: Path) -> Parts:
        """The parts in a folder, whatever sweep they belong to; raises InputError where it is none of ours."""
        place = Path(folder) / IDENTITY
        try:
            return cls(folder, json.loads(place.read_bytes())["identity"])
        except FileNotFoundError:
            raise InputError(f"{folder}: no folder with the parts of a sweep") from None
        except OSError as error:
            raise EnvironmentProblem(f"{place}: cannot read the file: {reason(error)}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{place}: damaged, or no file of a sweep: {_CURE}") from error

    def add(self, header: Header, cases: Sequence[CaseResult]) -> Path:
        """Keep these cases in a new file, complete and durable. Raises what `write_result` does, and what the folder does."""
        self._claim()
        path = self._new(cases[0].id if cases else "")
        write_result(path, header, cases)
        return path

    def files(self) -> tuple[Path, ...]:
        """The finished files, by name; some may be gone when they are opened, since others may be merging theirs."""
        return tuple(self.folder / name for name in sorted(self._names()) if _PART.fullmatch(name))

    def done(self) -> Mapping[str, int]:
        """The status codes of all finished cases, by their ids. Every file is verified, whole; what is damaged is set aside.

        A case that is in several files has its first good status, else its first, by the names of the files.
        """
        statuses: dict[str, int] = {}
        for _, found in sorted(self.each(), key=lambda each: each[0]):
            for name, code in found.items():
                if name not in statuses or (code in _GOOD and statuses[name] not in _GOOD):
                    statuses[name] = code
        return statuses

    def each(self) -> Iterator[tuple[str, Mapping[str, int]]]:
        """Each finished file's name, and the status codes of its cases by their ids, as `done` reads them."""
        read: set[str] = set()
        # Looks again until nothing is new: what others have merged meanwhile is in a file that has appeared.
        while new := [file for file in self.files() if file.name not in read]:
            for file in new:
                read.add(file.name)
                yield file.name, self._read(file) or {}

    def compact(self, files: Sequence[Path]) -> list[Path]:
        """Make one file of `files`, which must be those that this process added, and delete them afterwards.

        A kill in between leaves the same cases in two files, which is no fault. What is damaged is set aside and left out, and so
        is what another process has taken that ended on the same sweep: where nothing is left there is no file. Raises what `merge`
        does.
        """
        path, own = self._new(Path(files[0]).name.rpartition("-")[0]), [Path(file) for file in files]
        try:
            merge(own, path)
        except InputError:
            sound = [file for file in own if self._read(file) is not None]
            if len(sound) == len(own):
                raise
            if not sound:
                return []
            merge(sound, path)
            own = sound
        self._delete(own)
        return [path]

    def merge(self, path: Path, order: Sequence[str] | None = None, also: Sequence[Path] = ()) -> MergeReport:
        """Merge all files, and `also` these, into a result at `path`, as `store.merge` does; of no files at all nothing is written.

        Other processes may be making one file of theirs meanwhile, or remove them all.
        """
        while True:
            if not (files := (*self.files(), *also)):
                return MergeReport(0, {}, 0, 0)
            try:
                return merge(files, path, order=order)
            except (InputError, EnvironmentProblem):
                # what others have merged is in a file that is there by now
                if all(file.exists() for file in files):
                    raise

    def remove(self) -> None:
        """Delete what is ours in the folder, leftovers of killed processes too, and the folder where nothing else is in it."""
        names = self._names()
        # The identity goes last: after a kill, what is left is still known to be this sweep's.
        ours = [name for name in names if _PART.fullmatch(name.removesuffix(DAMAGED)) or _OURS.fullmatch(name)]
        self._delete(self.folder / name for name in (*ours, IDENTITY))
        with contextlib.suppress(OSError):
            self.folder.rmdir()

    # Whose the folder is

    def _claim(self) -> None:
        """Say whose the folder is where nobody has, and see that it is this sweep's."""
        place = self.folder / IDENTITY
        try:
            if self.folder.exists() and not self.folder.is_dir():
                raise InputError(f"{self.folder}: found a file, allowed: a folder for the finished parts of a sweep")
            if not place.exists():
                if count := len(self.files()):
                    raise InputError(f"{self.folder}: found {count} results without {IDENTITY}, which says whose they are: {_CURE}")
                content = {"format": FORMAT, "version": VERSION, "identity": self.identity}
                replace_file(place, (json.dumps(content, indent=1) + "\n").encode())
            # also where it was written just now: another process may have been the last to write it
            self._check(place, place.read_bytes())
        except OSError as error:
            raise EnvironmentProblem(f"{place}: cannot read the file: {reason(error)}") from error

    def _check(self, place: Path, content: bytes) -> None:
        try:
            found = json.loads(content)
            if found["format"] != FORMAT:
                raise InputError(f"{place}: found format '{found['format']}', expected '{FORMAT}': {_CURE}")
            if found["version"] > VERSION:
                raise InputError(f"{place}: version {found['version']}, this implicit-cli reads up to {VERSION}: {_CURE}")
            different = list(differences(found["identity"], self.identity))
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{place}: damaged, or no file of a sweep: {_CURE}") from error
        if different:
            raise InputError([f"{self.folder}: belongs to another sweep: {text}" for text in (*different[:NAMED], _CURE)])

    # Files

    def _new(self, case: str) -> Path:
        """A name that is nobody's: of the first case in it, as far as file systems like that, and 64 random bits."""
        stem = re.sub(r"[^A-Za-z0-9_]+", "-", case).strip("-")[:40] or "case"
        return self.folder / f"{stem}-{secrets.token_hex(8)}.h5"

    def _names(self) -> list[str]:
        try:
            return os.listdir(self.folder)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise EnvironmentProblem(f"{self.folder}: cannot read the folder: {reason(error)}") from error

    def _read(self, path: Path) -> dict[str, int] | None:
        """Status codes by id in one file; None where it is gone, or damaged and therefore set aside."""
        try:
            with opened(path) as file:
                group = file[layout.CASES]
                return dict(zip(texts(group["id"]), group["status"][()].tolist(), strict=True))
        except InputError as error:
            if path.exists():
                self._set_aside(path, str(error))
        except EnvironmentProblem:
            if path.exists():
                raise
        return None

    def _set_aside(self, path: Path, message: str) -> None:
        other = path.with_name(f"{path.name}{DAMAGED}")
        try:
            path.rename(other)
        except FileNotFoundError:
            pass  # another process was quicker
        except OSError as error:
            raise EnvironmentProblem(f"{path}: damaged, and cannot be set aside: {reason(error)}") from error
        self.damaged.append(f"{message.removesuffix(f'; {CURE}')}; set aside as {other.name}, its cases run again")

    def _delete(self, paths: Iterable[Path]) -> None:
        try:
            for path in paths:
                path.unlink(missing_ok=True)
        except OSError as error:
            raise EnvironmentProblem(f"{path}: cannot delete the file: {reason(error)}") from error
