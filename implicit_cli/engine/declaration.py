"""A problem against its own declaration: its condition is one, F and outputs have the shapes declared, and are functions."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from implicit_cli.core.conditions import Condition
from implicit_cli.core.implicit import Point
from implicit_cli.errors import InputError, PluginError
from implicit_cli.problem import Problem

if TYPE_CHECKING:
    from implicit_cli.engine.vectors import Layout

_ADDRESS = re.compile("0x[0-9a-f]+")


def condition_of(problem: Problem) -> Condition:
    """The problem's condition; raises PluginError for what is none."""
    found: Any = problem.condition()
    if not isinstance(found, Condition):
        what = f"{type(problem).__name__}.condition() returned {type(found).__name__}"
        raise PluginError(f"{what}, needed: a condition of implicit_cli.core, as stationary(f), root(F) or fixed_point(T) make it")
    return found


def check(problem: Problem, condition: Condition, arguments: Callable[[Point], Any], p: Point, x: Layout, y: Layout) -> None:
    """Trace F and the outputs at p, twice each; no work is done.

    Raises PluginError where they raise, have another shape or kind than declared, or are another function the second time.
    """
    cls = type(problem).__name__

    def traced(label: str, f: Callable[..., Any]) -> Any:
        try:
            (first, shapes), (second, _) = (jax.make_jaxpr(lambda q: f(*arguments(q)), return_shape=True)(p) for _ in range(2))
        except InputError:
            raise  # of the formulas in a spec: it has its place
        except Exception as error:
            told = str(error).strip().splitlines()[0] if str(error).strip() else ""
            raise PluginError(f"{cls}: {label} raised {type(error).__name__}: {told}{_place(error)}") from error
        if not _alike(first, second):
            raise PluginError(f"{cls}: {label} is another function in each call: draw no random numbers in it, and keep no count")
        return shapes

    found = traced(f"its {condition.kind} condition", condition.F)
    if not hasattr(found, "_asdict"):
        raise PluginError(
            f"{cls}: its condition returned {type(found).__name__}, expected x with each unknown replaced: x._replace(...)"
        )
    _compare(f"{cls}: F", found._asdict(), x)
    _compare(f"{cls}.outputs", dict(traced("outputs()", problem.outputs)), y)


def _compare(what: str, found: Mapping[str, jax.ShapeDtypeStruct], expected: Layout) -> None:
    if set(found) != set(expected.names):
        raise PluginError(f"{what} gives {sorted(found)}, declared: {sorted(expected.names)}")
    for name, leaf in found.items():
        if leaf.shape != expected.shapes[name]:
            raise PluginError(f"{what}: '{name}' has shape {leaf.shape}, declared: {expected.shapes[name]}")
        if jnp.issubdtype(leaf.dtype, jnp.complexfloating):
            raise PluginError(f"{what}: '{name}' is complex, needed: real numbers, real and imaginary part each for itself")


def _alike(first: Any, second: Any) -> bool:
    """Whether two traces are of one function; addresses of objects in them differ anyway."""
    texts = [_ADDRESS.sub("", str(trace.jaxpr)) for trace in (first, second)]
    return texts[0] == texts[1] and all(map(np.array_equal, first.consts, second.consts))


def _place(error: BaseException) -> str:
    """File and line of the innermost frame of an exception."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "" if trace is None else f" ({trace.tb_frame.f_code.co_filename.rsplit('/', 1)[-1]}:{trace.tb_lineno})"
