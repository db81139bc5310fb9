"""A working folder of its own for every test, and a spec in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from implicit_cli.errors import InputError
from implicit_cli.spec import LoadedSpec, load_spec


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def load(folder) -> Callable[..., LoadedSpec]:
    """Write a text to s.yaml and load it."""

    def load(text: str, *overrides: str) -> LoadedSpec:
        (folder / "s.yaml").write_text(text, encoding="utf-8")
        return load_spec("s.yaml", overrides)

    return load


@pytest.fixture
def faults(load) -> Callable[..., list[str]]:
    """The messages that a wrong spec is refused with."""

    def faults(text: str, *overrides: str) -> list[str]:
        with pytest.raises(InputError) as refusal:
            load(text, *overrides)
        return list(refusal.value.messages)

    return faults
