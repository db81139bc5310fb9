"""Figures of the sample inputs, from their results.

    python docs/figures FOLDER [NAME ...]

FOLDER holds NAME.h5 of each sample, as the commands of the documentation write them. Each module here has the figures of one family
of problems, in functions with the samples' names, and the folder of the documentation that they belong to. Needs matplotlib.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import h5py
import matplotlib as mpl

mpl.use("svg")
mpl.rcParams.update({"svg.hashsalt": "implicit", "font.size": 8, "svg.fonttype": "none"})
sys.path.insert(0, str(Path(__file__).parent))
import matplotlib.pyplot as plt  # noqa: E402
import particles  # noqa: E402
import programs  # noqa: E402
import regression  # noqa: E402
import roots  # noqa: E402

DOCS = Path(__file__).resolve().parent.parent
FAMILIES: tuple[ModuleType, ...] = (particles, programs, regression, roots)


def main(folder: Path, names: list[str], docs: Path = DOCS) -> None:
    """Draw the figures named, or all, below `docs`."""
    for family in FAMILIES:
        for draw in family.FIGURES:
            name = draw.__name__
            if names and name not in names:
                continue
            with h5py.File(folder / f"{name}.h5") as file:
                figure = draw(file)
            out = docs / family.FOLDER
            out.mkdir(parents=True, exist_ok=True)
            figure.savefig(out / f"{name}.svg", metadata={"Date": None, "Creator": None})
            plt.close(figure)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
