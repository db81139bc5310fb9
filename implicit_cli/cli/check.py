"""`implicit check`: read and check everything, print the plan, solve nothing."""

from __future__ import annotations

from implicit_cli.cli import console
from implicit_cli.cli.options import AllowPaths, AllowPlugin, Device, Json, Overrides, Plugins, Spec


def check(
    spec: Spec,
    overrides: Overrides = None,
    device: Device = None,
    allow_plugin: AllowPlugin = False,
    plugins: Plugins = None,
    allow_paths: AllowPaths = None,
    json: Json = False,
) -> None:
    """Check a spec and print the plan; solve nothing.

    Reads the spec, the data and the problem, checks every shape, and prints what `implicit run` would do and at what cost.
    """
    from implicit_cli import api

    plan = api.check(
        spec,
        overrides=tuple(overrides or ()),
        device=device,
        allow_plugin=allow_plugin,
        plugins=tuple(plugins or ()),
        allow_paths=tuple(allow_paths or ()),
    )
    for warning in plan.warnings:
        console.say(f"warning: {warning}")
    if json:
        console.write_json(plan.asdict())
    else:
        console.rows(plan.rows)
