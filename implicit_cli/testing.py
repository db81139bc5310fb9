"""For authors of problems: one call, in a test of their own, that says whether a problem keeps the contract.

    from implicit_cli.testing import check_problem

    def test_it_keeps_the_contract():
        check_problem("heat_exchanger.py", spec="heat_exchanger.yaml")

What is tried is told in docs/plugins.md; on the command line it is `implicit problems check`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from implicit_cli.api import ConformanceReport


def check_problem(problem: str | Path, *, spec: str | Path | None = None) -> ConformanceReport:
    """Try an installed problem by name, or a file as `Path` or 'file.py:Class', on `spec`, or else on its own example.

    Returns what was found, where every trait holds or is not decided. Raises AssertionError with the traits that are violated,
    InputError for a problem or a spec that cannot be read. The file's code is run: it is the caller's own.
    """
    from implicit_cli import api

    report = api.check_problem(str(problem), spec=None if spec is None else Path(spec), allow_plugin=True)
    violated = [f"{trait.name}: {trait.note}" for trait in report.traits if trait.verdict == "violated"]
    assert not violated, f"{problem} does not keep the contract:\n" + "\n".join(violated)
    return report
