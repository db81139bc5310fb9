"""Found values as messages show them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from implicit_cli.spec.words import dotted, found, meant_number, shown, some


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "nothing"),
        (True, "true"),
        (False, "false"),
        (3, "3"),
        (1e-12, "1e-12"),
        (float("nan"), "NaN"),
        (float("inf"), "an infinite number"),
        (float("-inf"), "a negative infinite number"),
        ("", "''"),
        ("a\nb", "'a\\nb'"),
        ([], "an empty list"),
        ((1, 2), "a list of 2"),
        ({}, "an empty mapping"),
        ({"a": 1}, "a mapping"),
    ],
)
def test_found(value, words):
    assert found(value) == words


def test_found_knows_what_a_spec_can_hold():
    with pytest.raises(TypeError):
        found(object())


@given(st.text())
def test_whatever_is_shown_fits_on_one_line(text):
    assert shown(text).isprintable()
    assert dotted((text, 1)).isprintable()


def test_long_texts_are_cut():
    assert shown("x" * 61) == "x" * 60 + "..."
    assert shown("x" * 60) == "x" * 60


def test_paths():
    assert dotted(("data", "X", 0, "")) == "data.X.0.''"


def test_meant_number():
    assert meant_number("1e-3") == "; did you mean the number 0.001?"
    assert meant_number("7", int) == "; did you mean the number 7?"
    assert [meant_number(text) for text in ("x", "nan", "inf", "9" * 61, 3)] == [""] * 5


def test_some():
    assert some("s", ["m"] * 50) == ["m"] * 50
    assert some("s", ["m"] * 51) == ["m"] * 50 + ["s: and 1 faults more"]
