"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Spec = Annotated[str, typer.Argument(metavar="SPEC", help="Spec in YAML; '-' reads standard input.", show_default=False)]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a value of the spec, as in parameters.penalty=0.3. May be repeated."),
]
Device = Annotated[
    str | None, typer.Option("--device", metavar="DEVICE", help="cpu, gpu or gpu:N. Default: what JAX finds. Never falls back.")
]
AllowPlugin = Annotated[
    bool, typer.Option("--allow-plugin", help="Import whatever Python file the spec names as its problem. This runs its code.")
]
Plugins = Annotated[
    list[Path] | None,
    typer.Option("--plugin", metavar="FILE", help="Allow this one Python file as the spec's problem. May be repeated."),
]
AllowPaths = Annotated[
    list[Path] | None,
    typer.Option("--allow-path", metavar="FOLDER", help="Let the spec name data files below this folder, too. May be repeated."),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing on standard error but errors and cases that are not ok.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Print every report of the solver and of the chunks.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
