"""Single precision within a program that is in double precision."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import jax


@contextmanager
def float32() -> Iterator[None]:
    """JAX makes float32 of everything inside, also where a library asks for float64 by name, which it would warn of."""
    with jax.enable_x64(False), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Explicitly requested dtype")
        yield
