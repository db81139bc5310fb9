"""Threads of the linear algebra libraries on the host.

Small matrices have no work for several threads, which then wait for each other, and for those of XLA and of other processes: on a
machine that is busy, the eigenvalues of a matrix of 64 rows took 56 ms instead of 1.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import cache

from threadpoolctl import ThreadpoolController

SMALL = 512
"""Rows of a matrix up to which one thread is quicker than several."""


def one_thread(d: int) -> AbstractContextManager[object]:
    """While it lasts, these libraries take one thread, where matrices of d rows are small; else as many as they like."""
    return _libraries().limit(limits=1, user_api="blas") if d <= SMALL else nullcontext()


@cache
def _libraries() -> ThreadpoolController:
    """The libraries with threads of their own, as far as they are loaded."""
    return ThreadpoolController()
