"""Code that runs on NumPy arrays as it stands, and inside a compiled program where its arrays are traced.

On the host a branch that is not taken costs nothing and a loop ends when it is done; inside a program, `jax.lax` sees to the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

T = TypeVar("T")


def traced(*arrays: Any) -> bool:
    """True inside a compiled program, where no number can be looked at."""
    return any(isinstance(array, jax.core.Tracer) for array in arrays)


def numbers(array: Any) -> Any:
    """A NumPy array, unless it is traced."""
    return array if traced(array) else np.asarray(array)


def namespace(*arrays: Any) -> Any:
    """What computes with these arrays: `jax.numpy` where one of them is traced, else NumPy."""
    return jnp if traced(*arrays) else np


def either(test: Any, one: Callable[[], T], other: Callable[[], T]) -> T:
    """`one()` where `test` holds, else `other()`: arrays of the same shapes.

    Inside a program both are computed: a conditional would cost more, for XLA compiles what is in one for a CPU without its fast
    matrix products.
    """
    if traced(test):
        return jax.tree.map(lambda a, b: jnp.where(test, a, b), one(), other())
    return one() if test else other()


def seldom(test: Any, one: Callable[[], T], other: Callable[[], T]) -> T:
    """As `either`, where `one()` is so much work, and so rarely wanted, that a program too had better look first."""
    if traced(test):
        found: T = jax.lax.cond(test, one, other)
        return found
    return one() if test else other()


def repeated(goes_on: Callable[[T], Any], step: Callable[[T], T], state: T) -> T:
    """`step` after `step` while `goes_on`; every state has the shapes of the first."""
    if traced(*jax.tree.leaves(state)):
        found: T = jax.lax.while_loop(goes_on, step, jax.tree.map(jnp.asarray, state))
        return found
    while goes_on(state):
        state = step(state)
    return state


def quotient(above: Any, below: Any) -> Any:
    """`above / below`, and 0 where `below` is not positive."""
    xp = namespace(above, below)
    positive = xp.asarray(below) > 0
    return xp.where(positive, above / xp.where(positive, below, 1.0), 0.0)
