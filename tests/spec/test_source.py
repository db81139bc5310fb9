"""Reading the text of a spec: what is too long, no text or no file is refused before anything is parsed."""

from __future__ import annotations

import io
import os
import sys

import pytest

from implicit_cli.errors import InputError
from implicit_cli.spec import source
from implicit_cli.spec.source import Mark, Tree, read_text


def refused(path) -> str:
    with pytest.raises(InputError) as refusal:
        read_text(path)
    (message,) = refusal.value.messages
    return message


def test_text_is_read_with_and_without_a_byte_order_mark(folder):
    (folder / "s.yaml").write_bytes(b"\xef\xbb\xbfproblem: \xc3\xa9\r\n")
    assert read_text("s.yaml") == ("s.yaml", "problem: é\r\n")


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"a: 1\n\xc3\xa9: \xff\n", "s.yaml:2:4: found the byte 0xff, allowed: text in UTF-8"),
        (b"\xef\xbb\xbfa\xff", "s.yaml:1:2: found the byte 0xff, allowed: text in UTF-8"),
        (b"\xff\xfea\x00", "s.yaml:1:1: found the byte 0xff, allowed: text in UTF-8"),
        (b"\x89HDF\r\n\x1a\n", "s.yaml: found an HDF5 file, allowed: a spec in YAML"),
        (b"#" * (4 * 1024 * 1024 + 1), "s.yaml: found more than 4 MiB, allowed: less; put large arrays into an HDF5 file"),
    ],
    ids=["a stray byte", "after a mark", "UTF-16", "HDF5", "too long"],
)
def test_refused_content(folder, raw, message):
    (folder / "s.yaml").write_bytes(raw)
    assert refused("s.yaml") == message


def test_a_text_of_the_largest_size_is_read(folder, monkeypatch):
    monkeypatch.setattr(source, "MAX_BYTES", 10)
    (folder / "s.yaml").write_bytes(b"#" * 10)
    assert read_text("s.yaml")[1] == "#" * 10


def test_refused_places(folder):
    (folder / "ridge.yaml").touch()
    (folder / "sub").mkdir()
    os.mkfifo(folder / "pipe")
    assert refused("rigde.yaml") == "rigde.yaml: no such file; did you mean 'ridge.yaml'?"
    assert refused(folder / "RIDGE.yaml") == f"{folder}/RIDGE.yaml: no such file; did you mean 'ridge.yaml'?"
    assert refused("no/s.yaml") == "no/s.yaml: no such file"
    assert refused("ridge.yaml/s.yaml") == "ridge.yaml/s.yaml: no such file"
    assert refused("sub") == "sub: found a folder, allowed: a spec"
    assert refused("pipe") == "pipe: found a device, a pipe or a socket, allowed: a spec"
    assert refused("a\0b") == "a\\x00b: not a file name, allowed: the path of a spec"
    assert refused("a\nb") == "a\\nb: no such file"


def test_standard_input_is_bounded_too(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"problem: p\n")))
    assert read_text("-") == ("<stdin>", "problem: p\n")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"#" * (source.MAX_BYTES + 1))))
    assert refused("-").startswith("<stdin>: found more than 4 MiB")


def test_a_place_is_the_nearest_one_around():
    tree = Tree("s", {}, values={("a",): Mark(2, 3), ("a", 0): "--set a.0"}, keys={("a",): Mark(2, 1)})
    assert tree.at(("a", 1, "b")) == "s:2:3: a.1.b"
    assert tree.at(("a", 0)) == "--set a.0"
    assert tree.at(("a", 0, 1)) == "--set a.0: a.0.1"
    assert tree.at(("a",), of_key=True) == "s:2:1: a"
    assert tree.at(("b",), of_key=True) == "s:1:1: b"
    assert tree.at(()) == "s:1:1"
