"""What the commands print with: lines, tables and JSON on standard output, progress and errors on standard error."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import io
import json
import math
import os
import shutil
import sys
import textwrap
import time
import traceback
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol, Self

import typer

from implicit_cli.cli import fault
from implicit_cli.errors import EnvironmentProblem, ImplicitError, InputError

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from implicit_cli.api import SweepProgress

# errno values that say something of the machine or of a path's permissions, not of our code.
_MACHINE = "EACCES EPERM EROFS ENOSPC EDQUOT EFBIG EIO EMFILE ENFILE ENOMEM ENAMETOOLONG ESTALE"
_ENVIRONMENT = {getattr(errno, name) for name in _MACHINE.split() if hasattr(errno, name)}
_NO_ROOM = ("failed to map segment from shared object", "cannot allocate memory", "Cannot allocate memory")
"""What the loader of libraries says where there is no memory for one."""
_JAX, _FULL = ("JaxRuntimeError", "XlaRuntimeError"), ("RESOURCE_EXHAUSTED", "Out of memory")
"""Errors of JAX, and what they say where there is no memory for an array."""
# typer brings click or a copy of it, by version; its usage errors are found from here in either case.
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]


_PAUSE = 30.0
"""Seconds between two lines on how far a sweep is."""
_WIDE = 110
"""Columns from which a terminal has room for all that is said of a sweep."""

# Standard output.


def line(text: str = "") -> None:
    """One line on standard output."""
    out(f"{text}\n")


def out(text: str) -> None:
    """Text on standard output; raises EnvironmentProblem where it takes none."""
    with _output():
        sys.stdout.write(text)


def flush() -> None:
    """Let what has been written go out; raises as `out` does."""
    with _output():
        sys.stdout.flush()


@contextlib.contextmanager
def _output() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise EnvironmentProblem(f"standard output: {error.strerror}") from error


def write_json(value: Any) -> None:
    """JSON on standard output; arrays become lists, other objects their text. NaN is an error: JSON has none."""

    def plain(other: Any) -> Any:
        return other.tolist() if hasattr(other, "tolist") else str(other)

    line(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False, default=plain))


def rows(pairs: Iterable[tuple[str, str]]) -> None:
    """Label and value, one pair a line, values aligned."""
    table([tuple(pair) for pair in pairs])


def table(cells: Sequence[Sequence[str]], header: Sequence[str] = ()) -> None:
    """Aligned columns; on a terminal the last column wraps, elsewhere a row is a line."""
    full = [header, *cells] if header else list(cells)
    if not full:
        return
    widths = [max(len(row[column]) for row in full) for column in range(len(full[0]) - 1)]
    indent = sum(widths) + 2 * len(widths)
    room = shutil.get_terminal_size().columns - indent if sys.stdout.isatty() else 0
    for row in full:
        start = "".join(f"{cell:<{width}}  " for cell, width in zip(row, widths, strict=False))
        last = textwrap.wrap(row[-1], room, break_long_words=False, break_on_hyphens=False) if room >= 20 else [row[-1]]
        for number, part in enumerate(last or [""]):
            line(f"{start if number == 0 else ' ' * indent}{part}".rstrip())


# Standard error.


def say(text: str) -> None:
    """One line on standard error. Where that takes none, on a full disk or with nobody to read it, the work goes on without."""
    with contextlib.suppress(OSError):
        sys.stderr.write(f"implicit: {text}\n")
        sys.stderr.flush()


class Observing(Protocol):
    """An observer of a run that starts and stops with a `with` block."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *exception: object) -> None: ...
    def stage(self, text: str) -> None:
        """What begins now."""

    def progress(self, step: int, residual: float, tol: float) -> None:
        """How far the solver is."""

    def chunk(self, done: int, total: int) -> None:
        """How many chunks of right-hand sides are done."""

    def sweep(self, progress: SweepProgress) -> None:
        """How many cases of a sweep are done."""


def observer(*, quiet: bool, verbose: bool) -> Observing:
    """Progress on standard error: nothing, a moving bar on a terminal, or plain lines (with every report where `verbose`)."""
    if not quiet and not verbose and sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        return _Bar()
    return _Lines(stages=not quiet, reports=verbose)


class _Lines:
    """A line per stage, for logs and pipes."""

    def __init__(self, *, stages: bool, reports: bool) -> None:
        self._stages, self._reports = stages, reports
        self._last = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def stage(self, text: str) -> None:
        if self._stages:
            say(text)

    def progress(self, step: int, residual: float, tol: float) -> None:
        if self._reports:
            say(f"step {step}: residual {residual:.3e}, tolerance {tol:.1e}")

    def chunk(self, done: int, total: int) -> None:
        if self._reports:
            say(f"chunk {done} of {total}")

    def sweep(self, progress: SweepProgress) -> None:
        now = time.monotonic()
        if self._reports or (self._stages and now - self._last >= _PAUSE):
            self._last = now
            say(sweep_text(progress))


class JsonLines:
    """An object a line on standard output, for scripts: what begins, how far a sweep is at most once a second, and the end."""

    def __init__(self) -> None:
        self._last = -math.inf

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def stage(self, text: str) -> None:
        self.event("stage", text=text)

    def progress(self, step: int, residual: float, tol: float) -> None:
        pass

    def chunk(self, done: int, total: int) -> None:
        pass

    def sweep(self, progress: SweepProgress) -> None:
        now = time.monotonic()
        if now - self._last >= 1.0 or progress.done == progress.total:
            self._last = now
            self.event("sweep", **dataclasses.asdict(progress), remaining=progress.remaining)

    def event(self, event: str, **fields: Any) -> None:
        """One line; what is not finite is null."""
        found = {name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in fields.items()}
        line(json.dumps({"event": event, **found}, ensure_ascii=False, allow_nan=False, default=str))
        flush()


class _Bar:
    """A bar that fills as the residual falls to the tolerance, on a log scale; it leaves no trace."""

    def __init__(self) -> None:
        self._first = 0.0

    def __enter__(self) -> Self:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

        text, detail = TextColumn("{task.description}", markup=False), TextColumn("{task.fields[detail]}", markup=False)
        console = Console(stderr=True)
        self._progress: Progress = Progress(SpinnerColumn(), text, BarColumn(), detail, console=console, transient=True)
        self._progress.start()
        self._task: TaskID = self._progress.add_task("starting", total=None, detail="")
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()

    def stage(self, text: str) -> None:
        self._first = 0.0
        self._progress.reset(self._task, total=None, description=text, detail="")

    def progress(self, step: int, residual: float, tol: float) -> None:
        self._first = max(self._first, residual) if math.isfinite(residual) else self._first
        detail = f"step {step}, residual {residual:.1e}, tolerance {tol:.0e}"
        self._progress.update(self._task, total=1.0, completed=fraction(self._first, residual, tol), detail=detail)

    def chunk(self, done: int, total: int) -> None:
        self._progress.update(self._task, total=float(total), completed=float(done), detail=f"chunk {done} of {total}")

    def sweep(self, progress: SweepProgress) -> None:
        total = None if progress.total is None else float(progress.total)
        self._progress.update(self._task, total=total, completed=float(progress.done), detail=sweep_text(progress, short=True))


def sweep_text(progress: SweepProgress, *, short: bool = False) -> str:
    """`120 of 1000 cases, 3 failed, 14.2 a second, 62 s left, worst bound 2.1e-10`."""
    p = progress
    failed = f"{p.failed} failed, " if p.failed else ""
    rate = f"{p.rate:.3g} a second, " if p.rate > 0 else ""
    if p.total is None:
        return f"{p.at}: {p.done} cases, {failed}{rate}in {span(p.seconds)}, worst bound {p.worst:.1e}"
    left = f"{span(p.remaining)} left" if p.done < p.total else f"in {span(p.seconds)}"
    text = f"{p.done} of {p.total} cases, {failed}{rate}{left}"
    return text if short and shutil.get_terminal_size().columns < _WIDE else f"{text}, worst bound {p.worst:.1e}"


def span(seconds: float) -> str:
    """A length of time in words."""
    if not math.isfinite(seconds):
        return "unknown time"
    if seconds < 1.0:
        return f"{1000 * seconds:.2g} ms" if seconds < 0.0995 else f"{1000 * seconds:.0f} ms"
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def fraction(first: float, residual: float, tol: float) -> float:
    """Part of the way from the first residual to the tolerance on a log scale, within 0 and 1; 0 where there is no scale."""
    if residual <= tol:
        return 1.0
    if not (0 < tol < first < math.inf) or not math.isfinite(residual):
        return 0.0
    whole = math.log(first) - math.log(tol)  # quotients could overflow
    return min(max((math.log(first) - math.log(residual)) / whole, 0.0), 1.0) if whole > 0.0 else 0.0


# The error boundary.


def answer(error: BaseException) -> int:
    """Say what went wrong in the way it deserves, and return the exit code. The one place where an exception ends."""
    match error:
        case SystemExit():
            return error.code if isinstance(error.code, int) else int(error.code is not None)
        case KeyboardInterrupt() | typer.Abort():
            say("interrupted")
            return 130
        case BrokenPipeError():
            return 141  # as the shell's for SIGPIPE, without a word: the reader has gone (`implicit show x.h5 | head`)
        case InputError():
            return _lines(error.exit_code, error.messages)
        case ImplicitError():
            return _lines(error.exit_code, [str(error)])
        case _UsageError():
            return _usage(error)
        case OSError() if error.errno in _ENVIRONMENT:
            names = " and ".join(f"'{name}'" for name in (error.filename, error.filename2) if name is not None)
            return _lines(3, [f"{names}: {error.strerror}" if names else str(error)])
        case MemoryError():
            return _lines(3, [f"out of memory{': ' if str(error) else ''}{error}"])
        case ImportError() if any(words in str(error) for words in _NO_ROOM):
            return _lines(3, [f"out of memory: {error}"])
        case _ if type(error).__name__ in _JAX and any(words in str(error) for words in _FULL):
            return _lines(3, [f"the device is out of memory: {str(error).splitlines()[0]}"])
    with contextlib.suppress(OSError):
        traceback.print_exception(error)
    fault.remember(error)
    say("error: this is a fault of implicit itself; please report it with the lines above,")
    say("error: or with what 'implicit info --bug-report' prints, which holds no data")
    return 70


def _lines(code: int, messages: Iterable[str]) -> int:
    for message in messages:
        for part in message.splitlines() or [""]:
            say(f"error: {part}")
    return code


def _usage(error: Any) -> int:
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "implicit"
    message = " ".join(error.format_message().split()).rstrip(".")
    return _lines(2, [f"{message}; see '{command} --help'"])


# Streams that are closed, full, or without a reader.


class _Closed(io.TextIOBase):
    """A standard output that was closed."""

    def write(self, text: str) -> int:
        raise EnvironmentProblem("standard output: it is closed")


def open_streams() -> None:
    """Put something in the place of standard streams that are closed: no file gets their numbers, to which libraries print.

    What is said on a closed standard error is lost; closed standard input cannot be read, nor closed standard output written to.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_WRONLY)
            stream = _Closed() if number == 1 else open(number, "w" if number else "r", closefd=False)  # noqa: SIM115
            setattr(sys, ("stdin", "stdout", "stderr")[number], stream)


def let_go() -> None:
    """Drop what standard output and error did not take: the interpreter tries once more on its way out, and has an exit code of its
    own for that.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
