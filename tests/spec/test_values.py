"""Values of a spec as arrays: numbers and lists as they stand, references read from real HDF5 files."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from implicit_cli.errors import InputError
from implicit_cli.spec import LoadedValue, load_spec, read_value


@pytest.fixture
def read(load):
    """Load a spec whose X is the text given, and read it."""

    def read(text: str, section: str = "data") -> LoadedValue:
        loaded = load(f"problem: p\n{section}: {{X: {text}}}\n")
        return read_value(loaded, (section, "X"), getattr(loaded.model, section)["X"])

    return read


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3", np.array(3)),
        ("2.5", np.array(2.5)),
        ("[1, 2]", np.array([1, 2])),
        ("[1, 2.5]", np.array([1.0, 2.5])),
        ("[[1, 2, 3], [4, 5, 6]]", np.array([[1, 2, 3], [4, 5, 6]])),
        ("[[[1.5]]]", np.array([[[1.5]]])),
        ("[9223372036854775807]", np.array([2**63 - 1])),
    ],
)
@pytest.mark.parametrize("section", ["data", "parameters", "initial"])
def test_inline_numbers(read, text, expected, section):
    value = read(text, section)
    np.testing.assert_array_equal(value.array, expected)
    assert (value.array.dtype, value.array.shape) == (expected.dtype, expected.shape)
    assert (value.unit, value.origin) == (None, None)


def test_an_inline_unit(read):
    value = read("{value: [1, 2], unit: N/m}")
    assert (value.array.tolist(), value.unit, value.origin) == ([1, 2], "N/m", None)


def test_inline_labels(read):
    value = read("[a, 'é b']", "labels")
    assert (value.array.tolist(), value.array.dtype.kind) == (["a", "é b"], "U")


def test_what_is_read_cannot_be_changed(read):
    with pytest.raises(ValueError, match="read-only"):
        read("[1, 2]").array[0] = 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[1, 2], [3]]", "2:20: data.X.1: found a list of 1, allowed: a list of 2, as the first one is"),
        ("[[1, 2], 3]", "2:20: data.X.1: found 3, allowed: a list of 2, as the first one is"),
        ("[1, [2]]", "2:15: data.X.1: found a list of 1, allowed: a number, as the first one is"),
        ("[[[1], [2]], [[3], [4, 5]]]", "2:30: data.X.1.1: found a list of 2, allowed: a list of 1, as the first one is"),
        ("{value: [1, [2]], unit: K}", "2:23: data.X.value.1: found a list of 1, allowed: a number, as the first one is"),
        (".nan", "2:11: data.X: found NaN, allowed: finite numbers"),
        ("-.inf", "2:11: data.X: found a negative infinite number, allowed: finite numbers"),
        (
            "[[1, .inf], [.nan, 2]]",
            "2:16: data.X.0.1: found an infinite number at [0, 1], 2 of 4 entries are not finite, allowed: finite numbers",
        ),
        ("[1, .nan]", "2:15: data.X.1: found NaN at [1], 1 of 2 entries is not finite, allowed: finite numbers"),
    ],
)
def test_refused_inline_numbers(read, text, message):
    with pytest.raises(InputError) as refusal:
        read(text)
    assert refusal.value.messages == (f"s.yaml:{message}",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[a, "b\\nc"]', "2:17: labels.X.1: found 'b\\nc' at [1], allowed: one printable line of at most 1024 characters"),
        (
            f"[{'x' * 1025}]",
            "2:14: labels.X.0: found a text of 1025 characters at [0], allowed: one printable line of at most 1024 characters",
        ),
    ],
)
def test_refused_inline_labels(read, text, message):
    with pytest.raises(InputError) as refusal:
        read(text, "labels")
    assert refusal.value.messages == (f"s.yaml:{message}",)


@pytest.fixture
def file(folder):
    """A file d.h5 with numbers, names and units."""
    with h5py.File(folder / "d.h5", "w") as file:
        file["X"] = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
        file["X"].attrs["units"] = "K"
        file["y"] = np.array([1, 2, 3])
        file["rough"] = np.array([[1.0, np.nan], [np.inf, 2.0]])
        file["feature"] = np.array(["age", "bmi"], dtype=h5py.string_dtype())
        file["broken"] = np.array(["age", "b\nmi"], dtype=h5py.string_dtype())
    return folder / "d.h5"


def test_a_reference(read, file):
    value = read("d.h5:/X")
    np.testing.assert_array_equal(value.array, [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    assert (value.unit, value.origin) == ("K", "d.h5:/X")
    assert not value.array.flags.writeable


def test_references_start_at_the_folder_of_the_spec(folder, file, monkeypatch):
    (folder / "below").mkdir()
    (folder / "below" / "s.yaml").write_text(f"problem: p\ndata: {{up: '../d.h5:/y', absolute: '{file}:/y'}}\n")
    loaded = load_spec("below/s.yaml", allow_paths=[folder])
    monkeypatch.chdir("/")
    for name in ("up", "absolute"):
        assert read_value(loaded, ("data", name), loaded.model.data[name]).array.tolist() == [1, 2, 3]


# A spec can come from anybody


@pytest.fixture
def below(folder, file):
    """A folder with a spec, beside data that are not for it."""
    (folder / "below" / "deeper").mkdir(parents=True)
    return folder / "below"


def outside(text: str, overrides=(), allow_paths=()) -> str | None:
    """What is said of data called `text` in a spec in the folder `below`; None where they are read."""
    Path("below/s.yaml").write_text(f"problem: p\ndata: {{X: '{text}'}}\n")
    loaded = load_spec("below/s.yaml", overrides, allow_paths)
    try:
        read_value(loaded, ("data", "X"), loaded.model.data["X"])
    except InputError as error:
        return str(error)
    return None


@pytest.mark.parametrize("name", ["../d.h5", "deeper/../../d.h5", "./../below/../d.h5", "linked.h5", "linked/d.h5"])
def test_data_outside_of_the_folder_are_refused(below, name):
    (below / "linked.h5").symlink_to("../d.h5")
    (below / "linked").symlink_to("..")
    allowed = "allowed: files below it, and below each --allow-path FOLDER"
    refused = f"below/s.yaml:2:11: data.X: found '{name}', which is outside of the spec's folder, {allowed}"
    assert outside(f"{name}:/y") == refused
    assert outside(f"{name}:/y", allow_paths=[below / "deeper"]) == refused
    assert outside(f"{name}:/y", allow_paths=[below.parent]) is None


def test_whether_they_are_there_is_not_told(below):
    there, missing = (outside(f"../{name}:/y") for name in ("d.h5", "e.h5"))
    assert there == missing.replace("e.h5", "d.h5")


def test_what_the_user_names_is_read(below, file):
    assert outside("x.h5:/y", [f"data.X={file}:/y"]) is None
    assert outside("x.h5:/y", ["data.X=../d.h5:/y"]) is None
    assert "no such file" in outside("x.h5:/y", ["seed=1"])


def test_a_folder_to_allow_must_be_there(below):
    with pytest.raises(InputError, match=r"^--allow-path: no folder 'elsewhere'$"):
        outside("d.h5:/y", allow_paths=[Path("elsewhere")])


def test_labels_by_reference(read, file):
    value = read("d.h5:/feature", "labels")
    assert (value.array.tolist(), value.origin) == (["age", "bmi"], "d.h5:/feature")


def test_units_of_spec_and_file(read, file):
    assert read("{value: d.h5:/X, unit: K}").unit == "K"
    assert read("{value: d.h5:/y, unit: m}").unit == "m"
    with pytest.raises(InputError) as refusal:
        read("{value: d.h5:/X, unit: m}")
    assert refusal.value.messages == (
        "s.yaml:2:19: data.X.value: d.h5:/X: found units 'K' in the file, allowed: 'm', as the spec says",
    )


@pytest.mark.parametrize(
    ("section", "text", "message"),
    [
        (
            "data",
            "d.h5:/x",
            "2:11: data.X: d.h5 has no dataset '/x', it holds '/X', '/broken', '/feature', '/rough', '/y'; did you mean '/X'?",
        ),
        ("data", "D.h5:/X", "2:11: data.X: D.h5: no such file; did you mean 'd.h5'?"),
        (
            "data",
            "d.h5:/rough",
            "2:11: data.X: d.h5:/rough: found NaN at [0, 1], 2 of 4 entries are not finite, allowed: finite numbers",
        ),
        ("data", "d.h5:/feature", "2:11: data.X: d.h5:/feature: found texts, allowed: real numbers of up to 64 bits"),
        ("labels", "d.h5:/X", "2:13: labels.X: d.h5:/X: found real numbers, allowed: texts"),
        (
            "labels",
            "d.h5:/broken",
            "2:13: labels.X: d.h5:/broken: found 'b\\nmi' at [1], allowed: one printable line of at most 1024 characters",
        ),
    ],
)
def test_refused_references(read, file, section, text, message):
    with pytest.raises(InputError) as refusal:
        read(text, section)
    assert refusal.value.messages == (f"s.yaml:{message}",)


def test_an_override_is_named_as_the_place(load, file):
    loaded = load("problem: p\n", "parameters.a=d.h5:/z", "parameters.b=[1, [2]]")
    with pytest.raises(InputError) as refusal:
        read_value(loaded, ("parameters", "a"), loaded.model.parameters["a"])
    assert str(refusal.value).startswith("--set parameters.a: d.h5 has no dataset '/z', it holds '/X'")
    with pytest.raises(InputError) as refusal:
        read_value(loaded, ("parameters", "b"), loaded.model.parameters["b"])
    assert str(refusal.value).startswith("--set parameters.b: parameters.b.1: found a list of 1")


def test_a_direction_is_read_like_any_value(load, file):
    loaded = load("problem: p\nsensitivity: {products: [{jvp: {u: {a: [1, .nan]}}}]}\n")
    keys = ("sensitivity", "products", 0, "jvp", "u", "a")
    with pytest.raises(InputError) as refusal:
        read_value(loaded, keys, loaded.model.sensitivity.products[0].parts["a"])
    assert str(refusal.value).startswith("s.yaml:2:44: sensitivity.products.0.jvp.u.a.1: found NaN at [1]")


@given(hnp.arrays(st.sampled_from([np.float64, np.int64]), hnp.array_shapes(min_dims=0, max_dims=4, max_side=3)))
def test_an_inline_array_comes_back_bit_for_bit(tmp_path_factory, array):
    array = np.nan_to_num(array) if array.dtype.kind == "f" else array
    path = tmp_path_factory.mktemp("inline") / "s.yaml"
    path.write_text(f"{{problem: p, data: {{X: {array.tolist()}}}}}")
    loaded = load_spec(path)
    value = read_value(loaded, ("data", "X"), loaded.model.data["X"]).array
    assert (value.dtype, value.shape, value.tobytes()) == (array.dtype, array.shape, array.tobytes())
