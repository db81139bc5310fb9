"""`implicit info`: versions, devices, cache, and whether compiled numbers are right."""

from __future__ import annotations

from implicit_cli.cli import console
from implicit_cli.cli.options import Device


def info(device: Device = None) -> None:
    """Print versions and devices; check the arithmetic.

    The check compiles two small programs whose exact results are known; it fails on versions of JAX that compute wrong numbers.
    """
    from implicit_cli import api

    console.rows(api.info(device))
