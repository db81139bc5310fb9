"""Directions of the command line, and the size of the memory: what they may look like."""

import pytest

from implicit_cli.errors import InputError
from implicit_cli.spec import load_spec, read_directions
from implicit_cli.spec.directions import Part


def memory(tmp_path, text):
    path = tmp_path / "spec.yaml"
    path.write_text(f"problem: ridge\nsensitivity: {{memory: {text}}}\n")
    return load_spec(path).model.sensitivity.memory


@pytest.mark.parametrize(
    ("text", "size"),
    [("1", 1), ("4096", 4096), ("512 MiB", 2**29), ("1.5 GiB", 3 * 2**29), ("2GB", 2 * 10**9), ("'7 B'", 7), ("10 kB", 10_000)],
)
def test_sizes_of_memory(tmp_path, text, size):
    assert memory(tmp_path, text) == size


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0", "found 0, allowed: bytes as an integer, or a text such as '512 MiB'"),
        ("1.5", "found 1.5, allowed"),
        ("true", "found true, allowed"),
        ("'0 B'", "found 0, allowed"),
        ("512 mib", "found '512 mib', allowed: bytes as an integer, or a text such as '512 MiB'; did you mean 'MiB'?"),
        ("much", "found 'much', allowed"),
        ("-1 GiB", "found '-1 GiB', allowed"),
        ("'512'", "found '512', allowed: bytes as an integer, or a text such as '512 MiB'; did you mean the number 512?"),
    ],
)
def test_what_is_no_size(tmp_path, text, message):
    with pytest.raises(InputError) as caught:
        memory(tmp_path, text)
    assert f"sensitivity.memory: {message}" in str(caught.value)


def test_a_size_is_dumped_as_a_number_and_is_a_gibibyte_by_default(tmp_path):
    path = tmp_path / "spec.yaml"
    path.write_text("problem: ridge\n")
    assert load_spec(path).model.model_dump(mode="json")["sensitivity"]["memory"] == 2**30


def test_parts_gather_under_their_names():
    found = read_directions("jvp", ["a=1", "b=[1, 2]", "up:a=x.h5:/a", "up:b={value: 1, unit: m}"])
    assert found == {
        "direction": {"a": Part(1, "--direction a"), "b": Part([1, 2], "--direction b")},
        "up": {"a": Part("x.h5:/a", "--direction up:a"), "b": Part({"value": 1, "unit": "m"}, "--direction up:b")},
    }
    assert list(read_directions("vjp", ["x=1"])) == ["cotangent"]


def test_references_of_a_yaml_file_are_relative_to_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "d.yaml").write_text("up: {a: x.h5:/a, b: {value: 'x.h5:/b', unit: m}, c: /abs/x.h5:/c}\n")
    parts = read_directions("jvp", ["sub/d.yaml"])["up"]
    assert parts["a"] == Part("sub/x.h5:/a", "sub/d.yaml:1:9: up.a")
    assert parts["b"].value == {"value": "sub/x.h5:/b", "unit": "m"}
    assert parts["c"].value == "/abs/x.h5:/c"
