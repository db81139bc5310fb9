"""The command line in this process: `implicit("run", "x.yaml")` gives code, standard output and standard error."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from implicit_cli.cli import main


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str


@pytest.fixture
def implicit(capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    def implicit(*arguments: object) -> Done:
        code = main([str(argument) for argument in arguments])
        return Done(code, *capsys.readouterr())

    return implicit
