"""Signals that ask a run to end: the work in hand is finished and saved first."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

from implicit_cli.cli import console

CODES = {signal.SIGINT: 130, signal.SIGTERM: 75, signal.SIGUSR1: 75, signal.SIGHUP: 75}
"""Exit code after each signal, once what is done is saved."""


class Signals:
    """Takes note of the first Ctrl-C, SIGTERM, SIGUSR1 or SIGHUP (the terminal has gone), so that `what` is in hand can end and be
    saved; a second acts as ever. A SIGHUP that `nohup` ignores stays ignored; a job script ignores SIGUSR1 until it is heard here.

    Where it is not to listen `at_once`, it does so from when `stopped` is first asked: until then there is nothing to save.
    """

    def __init__(self, what: str, *, at_once: bool = True) -> None:
        self.what, self._at_once = what, at_once
        self._caught: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if self._at_once:
            self._listen()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._restore()

    def stopped(self) -> bool:
        """Whether one has come."""
        if not self._before and self._caught is None:
            self._listen()
        return self._caught is not None

    def _listen(self) -> None:
        if threading.current_thread() is threading.main_thread():  # Python refuses it elsewhere
            nohup = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            heard = [number for number in CODES if not (nohup and number == signal.SIGHUP)]
            self._before = {number: signal.signal(number, self._note) for number in heard}

    @property
    def exit_code(self) -> int:
        """Of a run that has ended because of it."""
        return CODES[self._caught or signal.SIGINT]

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._caught = signal.Signals(number)
        console.say(f"stopping when {self.what} is done; once more: at once")
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
