"""Sensitivities of anything that is solved, each with an error bound. Importing this package does not import JAX.

The Python door, loaded at its first use, makes any solver differentiable in JAX:

    custom_root, custom_fixed_point             decorators: implicit derivatives in both modes, of any order, compiled and batched
    root_jvp, root_vjp, implicit_jacobian       derivatives of a root that is already known, with the status of every solve
    Linear, Derivative, Status                  how A u = b is solved, what comes out, and how it went
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from implicit_cli.core.custom import custom_fixed_point as custom_fixed_point
    from implicit_cli.core.custom import custom_root as custom_root
    from implicit_cli.core.derivatives import Derivative as Derivative
    from implicit_cli.core.derivatives import implicit_jacobian as implicit_jacobian
    from implicit_cli.core.derivatives import root_jvp as root_jvp
    from implicit_cli.core.derivatives import root_vjp as root_vjp
    from implicit_cli.core.linear.traced import Linear as Linear
    from implicit_cli.status import Status as Status

_DOOR = {
    "custom_root": "implicit_cli.core.custom",
    "custom_fixed_point": "implicit_cli.core.custom",
    "root_jvp": "implicit_cli.core.derivatives",
    "root_vjp": "implicit_cli.core.derivatives",
    "implicit_jacobian": "implicit_cli.core.derivatives",
    "Linear": "implicit_cli.core.linear.traced",
    "Derivative": "implicit_cli.core.derivatives",
    "Status": "implicit_cli.status",
}


def __getattr__(name: str) -> Any:
    if name not in _DOOR:
        raise AttributeError(f"module 'implicit_cli' has no attribute {name!r}")
    import importlib

    # by name: every module knows this package, and the package knows none of them until it is asked
    importlib.import_module("implicit_cli.runtime").check_versions()
    return getattr(importlib.import_module(_DOOR[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_DOOR])
