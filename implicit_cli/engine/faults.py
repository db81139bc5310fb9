"""Faults of a spec, each a line with its place, collected so that all that can be seen together are told together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from implicit_cli.errors import InputError, listing, nearest
from implicit_cli.spec import LoadedSpec

Keys = tuple[str | int, ...]


class Faults:
    """What is wrong with a loaded spec; `stop` raises it."""

    def __init__(self, loaded: LoadedSpec) -> None:
        self.loaded = loaded
        self._found: list[str] = []

    def add(self, keys: Keys, text: str) -> None:
        """A fault at a key of the spec."""
        self._found.append(f"{self.loaded.at(*keys)}: {text}")

    def unknown(self, keys: Keys, name: str, allowed: Iterable[str]) -> None:
        """A name that is none of those allowed."""
        names = tuple(allowed)
        self.add(keys, f"found '{name}', allowed: {listing(names)}{nearest(name, names)}")

    def extend(self, lines: Sequence[str]) -> None:
        """Lines that have their place already."""
        self._found.extend(lines)

    def stop(self) -> None:
        """Raise InputError with all that was found, if there is anything."""
        if self._found:
            raise InputError(self._found)
