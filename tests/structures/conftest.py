"""Structures from the text of a spec, in a working folder of their own."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from implicit_cli.errors import InputError
from implicit_cli.spec import load_spec
from implicit_cli.structures import Structure, build


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def built(folder) -> Callable[..., Structure]:
    """The structure of a section `structure`, as YAML."""

    def built(text: str, seed: int = 0) -> Structure:
        (folder / "s.yaml").write_text(f"problem: p\nseed: {seed}\nstructure: {text}\n")
        return build(load_spec("s.yaml"))

    return built


@pytest.fixture
def refusal(built) -> Callable[..., str]:
    """The one line that a structure is refused with, without its place in the spec."""

    def refusal(text: str) -> str:
        with pytest.raises(InputError) as found:
            built(text)
        (message,) = found.value.messages
        assert "\n" not in message
        place = re.match(r"s\.yaml:3:\d+: ", message)
        assert place, message
        return message.removeprefix(place[0])

    return refusal
