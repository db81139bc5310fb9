"""`implicit plot` and `implicit report`: a result as figures, one at a time or together on a page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from implicit_cli.cli import console
from implicit_cli.cli.analyze import Case, Of
from implicit_cli.cli.options import AllowPlugin, Plugins, Quiet
from implicit_cli.cli.products import Result

Figure = Annotated[
    str | None,
    typer.Argument(metavar="[FIGURE]", help="Name of a figure, or how it begins. Left out: names are listed.", show_default=False),
]
Picture = Annotated[
    Path | None, typer.Option("-o", "--output", metavar="FILE", help="PNG, SVG or PDF, as the name says. Default: FIGURE.png.")
]
Page = Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="HTML page. Replaced where it exists.")]


def plot(
    result: Result,
    figure: Figure = None,
    output: Picture = None,
    of: Of = None,
    case: Case = None,
    allow_plugin: AllowPlugin = False,
    plugins: Plugins = None,
    quiet: Quiet = False,
) -> int:
    """Draw a figure of RESULT, or list those that it allows.

    Figures are readable in grey and in print. What each means stands in its caption, which is printed.
    """
    from implicit_cli import api

    if figure is None:
        for name, title in api.figures(result, of=tuple(of or ()), case=case):
            console.line(f"{name:32} {title}")
        return 0
    target = output if output is not None else Path(f"{figure}.png")
    given: dict[str, Any] = {"of": tuple(of or ()), "case": case, "allow_plugin": allow_plugin, "plugins": tuple(plugins or ())}
    done = api.plot(result, figure, target, **given)
    if not quiet:
        console.line(f"{done.title}. {done.caption}")
        console.say(f"wrote {done.path}")
    return 0


def report(
    result: Result,
    output: Page,
    of: Of = None,
    case: Case = None,
    allow_plugin: AllowPlugin = False,
    plugins: Plugins = None,
    quiet: Quiet = False,
) -> int:
    """Write a page with all that RESULT says.

    Figures with captions, analyses, failed cases with remedies, and where it comes from, in one HTML file that needs no network.
    """
    from implicit_cli import api

    given: dict[str, Any] = {"of": tuple(of or ()), "case": case, "allow_plugin": allow_plugin, "plugins": tuple(plugins or ())}
    done = api.report(result, output, **given)
    if not quiet:
        for line in done.left_out:
            console.say(f"left out: {line}")
        console.say(f"wrote {done.path}: {done.figures} figures, {done.seconds:.1f} s")
    return 0
