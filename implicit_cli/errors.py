"""One tree of errors; each class carries the exit code that the command line answers with.

An `InputError` is the user's to mend, an `EnvironmentProblem` the machine's, an `Interrupted` neither; everything else that
escapes is a fault of ours and ends with exit code 70 and a traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class ImplicitError(Exception):
    """Base of all errors that `implicit` raises on purpose."""

    exit_code = 70


class InputError(ImplicitError):
    """The user's input is wrong: one line per fault, each with its place, what was found and what is allowed."""

    exit_code = 2

    def __init__(self, messages: str | Sequence[str]) -> None:
        self.messages: tuple[str, ...] = (messages,) if isinstance(messages, str) else tuple(messages)
        super().__init__("\n".join(self.messages))


class PluginError(InputError):
    """A problem cannot be found, imported or used as it declares itself."""


class RanAway(InputError):
    """What a problem derives from x cannot be found at this x: at a start the user's to mend, on the way the end of a solve."""


class EnvironmentProblem(ImplicitError):
    """The machine lacks what was asked for: a device, a permission, disk space, a sound JAX."""

    exit_code = 3


class CaseFailed(ImplicitError):
    """A case of a sweep failed, and the spec says that the sweep is to end there."""

    exit_code = 1


class Interrupted(ImplicitError):
    """Stopped from outside; `exit_code` is 130 for Ctrl-C and 75 for a signal after saving."""

    exit_code = 130


def nearest(name: str, allowed: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the closest of `allowed`, or the empty string when nothing is close."""
    options = [str(option) for option in allowed]
    # `x` and `X` have nothing in common for difflib, and are the likeliest slip of all.
    same = [option for option in options if option.casefold() == name.casefold()]
    close = same or difflib.get_close_matches(name, options, n=1, cutoff=0.6)
    return f"; did you mean '{close[0]}'?" if close else ""


def listing(names: Iterable[str]) -> str:
    """The allowed names, quoted and joined, for an error message."""
    return ", ".join(f"'{name}'" for name in sorted(names)) or "nothing"
