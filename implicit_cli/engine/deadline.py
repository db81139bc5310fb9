"""The time that a case may take."""

from __future__ import annotations

import time

from implicit_cli.engine.solving import Observer


class TimedOut(Exception):
    """A case took longer than it may."""


class Deadline:
    """An observer that ends a case when its time is over, by TimedOut; else it passes on what it hears.

    Some of the time may be `spent` before.
    """

    def __init__(self, seconds: float, observer: Observer | None, *, spent: float = 0.0) -> None:
        self.seconds, self.observer = seconds, observer
        self._end = time.monotonic() + seconds - spent

    def stage(self, text: str) -> None:
        self._look()
        if self.observer is not None:
            self.observer.stage(text)

    def progress(self, step: int, residual: float, tol: float) -> None:
        self._look()
        if self.observer is not None:
            self.observer.progress(step, residual, tol)

    def chunk(self, done: int, total: int) -> None:
        self._look()
        if self.observer is not None:
            self.observer.chunk(done, total)

    def _look(self) -> None:
        if time.monotonic() > self._end:
            raise TimedOut(f"more than {self.seconds:g} s")
