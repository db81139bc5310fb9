"""Draws the figures of the gallery from sample inputs, with the commands that are shown beside them.

    python docs/gallery.py FOLDER

FOLDER gets an SVG for each figure and `figures.md`, which docs/hooks.py puts into docs/gallery.md. All commands run in this
process, where JAX is imported once.
"""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import shutil
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent


class Exhibit(NamedTuple):
    """A result and figures of it: `implicit BY SPEC -o NAME.h5`, then `implicit THEN` for each of these, then `implicit plot`."""

    name: str
    spec: str
    figures: tuple[str, ...]
    by: str = "run"
    then: tuple[str, ...] = ()


ISHIGAMI = "sample_inputs/ishigami.yaml --set sweep.samples=64"
EXHIBITS = {
    "One case": (
        Exhibit(
            "ridge", "sample_inputs/ridge.yaml", ("tornado-validation_loss", "jacobian-w-penalty", "certificate", "convergence")
        ),
        Exhibit("expression", "sample_inputs/expression.yaml", ("elasticities",)),
        Exhibit("quadratic", "sample_inputs/quadratic.yaml", ("verification",), then=("verify quadratic.h5 --full --in-place",)),
        Exhibit("packing", "sample_inputs/packing.yaml", ("displacements-d_position_d_diameter", "spectrum")),
    ),
    "Many cases": (
        Exhibit("ridge_sweep", "sample_inputs/ridge_sweep.yaml", ("response-validation_loss-penalty",)),
        Exhibit("lasso", "sample_inputs/lasso.yaml", ("response-validation_loss-penalty",)),
        Exhibit("boundary_value", "sample_inputs/boundary_value.yaml", ("response-middle-lam",)),
        Exhibit("penalties", "sample_inputs/ridge_optimize.yaml", ("optimisation",), by="optimize"),
    ),
    "Which parameter matters": (
        Exhibit(
            "ishigami",
            ISHIGAMI,
            ("map", "dgsm-y", "chaos-y", "active-y"),
            then=("analyze ishigami.h5 dgsm chaos active --in-place",),
        ),
        Exhibit(
            "saltelli",
            "sample_inputs/ishigami.yaml --set sweep.design=saltelli --set sweep.samples=256",
            ("sobol-y",),
            then=("analyze saltelli.h5 sobol --in-place",),
        ),
        Exhibit(
            "morris",
            "sample_inputs/borehole.yaml --set sweep.design=morris --set sweep.samples=10",
            ("morris-flow",),
            then=("analyze morris.h5 morris --in-place",),
        ),
        Exhibit(
            "fast",
            "sample_inputs/ishigami.yaml --set sweep.design=fast --set sweep.samples=513",
            ("fast-y",),
            then=("analyze fast.h5 fast --in-place",),
        ),
    ),
}
"""What is shown, and the one place that says so. Borgonovo's delta is left out: its estimator takes longer than all the rest."""


def main(folder: Path) -> int:
    """Draw everything into `folder`; ends this program where a command fails."""
    folder.mkdir(parents=True, exist_ok=True)
    folder = folder.resolve()
    for old in folder.glob("*.svg"):
        old.unlink()
    # programs run once or twice here: what would make them quick takes longer than it saves
    os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")
    text = []
    with tempfile.TemporaryDirectory() as room, contextlib.chdir(room):
        # commands are run as they are shown, beside sample_inputs/
        Path("sample_inputs").symlink_to(ROOT / "sample_inputs", target_is_directory=True)
        for heading, exhibits in EXHIBITS.items():
            text.append(f"## {heading}\n")
            for exhibit in exhibits:
                text += [line for figure in exhibit.figures for line in drawn(exhibit, figure)]
        for picture in Path().glob("*.svg"):
            shutil.copy(picture, folder)
    (folder / "figures.md").write_text("\n".join(text), encoding="utf-8")
    return 0


def drawn(exhibit: Exhibit, figure: str) -> list[str]:
    """A figure as Markdown: title, picture, caption and commands."""
    result = f"{exhibit.name}.h5"
    made = [f"{exhibit.by} {exhibit.spec} -o {result} --quiet", *exhibit.then]
    if not Path(result).exists():
        for command in made:
            printed(command)
    picture = f"{exhibit.name}-{figure}.svg"
    plot = f"plot {result} {figure} -o {picture}"
    title, _, caption = printed(plot).splitlines()[0].partition(". ")
    commands = "".join(f"$ implicit {command}\n" for command in (*made, plot))
    return [f"### {title}\n", f"![{title}](gallery/{picture})\n", f"{caption}\n", f"```console\n{commands}```\n"]


def printed(command: str) -> str:
    """What `implicit COMMAND` prints on standard output; ends this program where it fails."""
    from implicit_cli.cli import main as implicit

    out, log = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(log):
        code = implicit(shlex.split(command))
    if code:
        sys.exit(f"implicit {command} ended with {code}\n{log.getvalue()}")
    return out.getvalue()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python docs/gallery.py FOLDER")
    sys.exit(main(Path(sys.argv[1])))
