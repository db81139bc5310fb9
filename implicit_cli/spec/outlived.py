"""Files of others, tried in a copy of this process first: a damaged one can crash the HDF5 library, or send it round in circles."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable

SECONDS = 4
"""Of the processor, not of the clock: who waits for a slow disk is not lost."""


def outlived(action: Callable[[], object]) -> bool:
    """Whether a copy of this process gets through `action` alive; to raise is to get through.

    True without a try where there can be no copy: on Windows, and once JAX is imported, whose threads a copy would lack.
    """
    if not hasattr(os, "fork") or "jax" in sys.modules:
        return True
    with warnings.catch_warnings():
        # of threads of linear algebra, which the copy does not need
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        try:
            confine()
            action()
        except BaseException:  # whoever asks meets it again, and tells
            pass
        finally:
            os._exit(0)
    return not os.WIFSIGNALED(os.waitpid(child, 0)[1])


def confine(*, quiet: bool = True) -> None:
    """Leave this process little time, no core file and, if `quiet`, nothing to say."""
    import resource

    for limit, value in ((resource.RLIMIT_CPU, SECONDS), (resource.RLIMIT_CORE, 0)):
        hard = resource.getrlimit(limit)[1]
        resource.setrlimit(limit, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))
    if not quiet:
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
