"""What the parser takes and what it refuses.

Each block is a spec and, after `!`, every line that `implicit` answers with.
"""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from implicit_cli.errors import InputError
from implicit_cli.spec import compose
from implicit_cli.spec.compose import parse
from implicit_cli.spec.source import Mark

REFUSED = r"""
# c
! s.yaml:2:1: found an empty file, allowed: a spec, which starts with 'problem: NAME'

---
! s.yaml:2:1: found nothing, allowed: a mapping, which starts with 'problem: NAME'

null
! s.yaml:1:1: found nothing, allowed: a mapping, which starts with 'problem: NAME'

hello
! s.yaml:1:1: found 'hello', allowed: a mapping, which starts with 'problem: NAME'

3
! s.yaml:1:1: found 3, allowed: a mapping, which starts with 'problem: NAME'

- a
- b
! s.yaml:1:1: found a list of 2, allowed: a mapping, which starts with 'problem: NAME'

problem: p
---
problem: q
! s.yaml:2:1: found a second document, allowed: one

problem: p
problem: q
! s.yaml:2:1: problem: found the key twice, the first time on line 1

problem: p
seed: 1
seed: 2
! s.yaml:3:1: seed: found the key twice, the first time on line 2

problem: p
data: {X: 1, X: 2}
! s.yaml:2:14: data.X: found the key twice, the first time on line 2

problem: p
seed: !!int 3
! s.yaml:2:7: found a tag, allowed: values without; a text that starts with '!' needs quotes

problem: p
data: !foo {X: 1}
! s.yaml:2:7: found a tag, allowed: values without; a text that starts with '!' needs quotes

!!map {problem: p}
! s.yaml:1:1: found a tag, allowed: values without; a text that starts with '!' needs quotes

%YAML 1.1
---
problem: p
! s.yaml:2:1: found YAML 1.1, allowed: YAML 1.2

problem: p
options: &a {n: *a}
! s.yaml:2:17: found the alias '*a' inside its own anchor

problem: p
options: {n: *b}
! s.yaml:2:14: found the alias '*b', which has no anchor

problem: p
seed: 9223372036854775808
! s.yaml:2:7: found an integer of 19 digits, allowed: -2^63 to 2^63 - 1

problem: p
solver: {tol: 1e999}
! s.yaml:2:15: found 1e999, allowed: what a 64-bit number can hold, about 1e-308 to 1e308

problem: p
solver: {tol: 1e-999}
! s.yaml:2:15: found 1e-999, allowed: what a 64-bit number can hold, about 1e-308 to 1e308

problem: p
1: x
! s.yaml:2:1: found the key 1, allowed: a text; did you mean '1', in quotes?

problem: p
options: {true: 1}
! s.yaml:2:11: found the key true, allowed: a text; did you mean 'true', in quotes?

problem: p
options: {null: 1}
! s.yaml:2:11: found the key null, allowed: a text; did you mean 'null', in quotes?

problem: p
? [a, b]
: 1
! s.yaml:2:3: found a list of 2 as a key, allowed: a text

problem: p
options: {<<: {n: 1}}
! s.yaml:2:11: found the merge key '<<', allowed: YAML 1.2, which has none

problem: p
options: n: 1
! s.yaml:2:11: found a ':' inside a value, allowed: 'key: value', each indented like its neighbours

problem: p
options: [1, 2
! s.yaml:3:1: found a list that is not closed, allowed: ',' or ']' after each entry

problem: p
options: {n: 1
! s.yaml:3:1: found a mapping that is not closed, allowed: ',' or '}' after each entry

problem: p
problem2: 'x
! s.yaml:2:11: found a text whose quote is not closed

problem: p
  seed: 1
! s.yaml:2:7: found a ':' inside a value, allowed: 'key: value', each indented like its neighbours

problem: p
data: {X: @x}
! s.yaml:2:11: found a character that cannot start a value; a text that starts with it needs quotes

problem: p
data: {X: }}
! s.yaml:2:12: found a line that is indented unlike its neighbours, or text after a closed bracket or quote

problem: p
foo
! s.yaml:2:1: found a text without a value, allowed: 'key: value'

problem: p
seed: "\0"
! s.yaml:2:7: found the character U+0000, allowed: printable text
"""


def blocks(transcript: str) -> list[tuple[str, list[str]]]:
    """Spec and messages of each block."""
    found = []
    for block in transcript.strip("\n").split("\n\n"):
        lines = block.split("\n")
        spec = [line for line in lines if not line.startswith("! ")]
        found.append(("\n".join(spec) + "\n", [line[2:] for line in lines if line.startswith("! ")]))
    return found


@pytest.mark.parametrize(("text", "messages"), blocks(REFUSED))
def test_refused(faults, text, messages):
    assert faults(text) == messages


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "1:1: found an empty file, allowed: a spec, which starts with 'problem: NAME'"),
        ("a: 1\n\tb: 2\n", "2:1: found a tab, allowed: spaces"),
        ("problem: p\x00\n", "1:11: found the character U+0000, allowed: printable text"),
        ("# \x1b[31m\n", "1:3: found the character U+001B, allowed: printable text"),
        ('a: "\\ud800"\n', "1:4: found the character U+D800, allowed: printable text"),
        ("data: " + "[" * 32 + "1", "1:38: found more than 32 levels of nesting, allowed: fewer"),
        ("[" * 100_000, "1:33: found more than 32 levels of nesting, allowed: fewer"),
        ("- " * 100_000, "1:65: found more than 32 levels of nesting, allowed: fewer"),
        ("{" * 100_000, "1:33: found more than 32 levels of nesting, allowed: fewer"),
        ("a: [" + "1," * 20_000 + "]", "1:39999: found more than 20000 values, allowed: fewer; put large arrays into an HDF5 file"),
        ("a: " + "x" * 500_000, "1:1: found a line of 500003 characters, allowed: at most 500000"),
        ("a: " + "9" * 100_000, "1:4: found an integer of 100000 digits, allowed: -2^63 to 2^63 - 1"),
        ("a: !" + "x" * 400_000, "1:4: found a tag, allowed: values without; a text that starts with '!' needs quotes"),
        ("a: *" + "x" * 400_000, f"1:4: found the alias '*{'x' * 60}...', which has no anchor"),
    ],
    ids=lambda value: repr(value[:20]),
)
def test_refused_though_hard_to_print(faults, text, message):
    assert faults(text) == [f"s.yaml:{message}"]


def test_an_alias_bomb_is_refused_where_it_passes_the_limit(faults):
    lines = ["a: &a [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"{name}: &{name} [{', '.join([f'*{last}'] * 10)}]" for last, name in zip("abcdefgh", "bcdefghi", strict=True)]
    assert faults("\n".join(lines)) == [
        "s.yaml:5:8: found more than 20000 values, allowed: fewer; put large arrays into an HDF5 file"
    ]


def test_aliases_that_only_deepen_are_refused_too(faults):
    lines = ["a0: &a0 [1]"] + [f"a{n}: &a{n} [[[[[*a{n - 1}]]]]]" for n in range(1, 10)]
    assert faults("\n".join(lines)) == ["s.yaml:7:14: found more than 32 levels of nesting, allowed: fewer"]


def test_an_alias_is_a_copy():
    value = parse("a: &a [1, 2]\nb: *a\n", "s").value
    value["a"].append(3)
    assert value == {"a": [1, 2, 3], "b": [1, 2]}


def test_many_faults_are_cut(faults):
    messages = faults("a: 1\n" + "a: 1\n" * 60)
    assert len(messages) == 51
    assert messages[-1] == "s.yaml: and 10 faults more"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("-1.5E+3", -1500.0),
        (".5e3", 500.0),
        ("5.", 5.0),
        ("+7", 7),
        ("017", 17),
        ("0o17", 15),
        ("0x1F", 31),
        ("-9223372036854775808", -(2**63)),
        ("-.inf", -math.inf),
        (".INF", math.inf),
        ("no", "no"),
        ("on", "on"),
        ("y", "y"),
        ("~", None),
        ("NULL", None),
        ("True", True),
        ("'true'", "true"),
        ('"1"', "1"),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("2001-01-01", "2001-01-01"),
        ("=", "="),
        ("d.h5:/X", "d.h5:/X"),
        ("|\n  two\n  lines", "two\nlines\n"),
    ],
)
def test_scalars_follow_the_core_schema_of_yaml_1_2(text, value):
    result = parse(f"a: {text}\n", "s").value["a"]
    assert (result, type(result)) == (value, type(value))


def test_nan_is_read():
    assert math.isnan(parse("a: .NaN", "s").value["a"])


def test_marks():
    tree = parse("problem: p\ndata:\n  X: [1, 2]\n  empty:\n  block:\n    - 3\nflow: {a: 1}\n", "s")
    values = {
        (): Mark(1, 1),
        ("problem",): Mark(1, 10),
        ("data",): Mark(2, 1),  # a block is shown by its key
        ("data", "X"): Mark(3, 6),
        ("data", "X", 0): Mark(3, 7),
        ("data", "X", 1): Mark(3, 10),
        ("data", "empty"): Mark(4, 3),
        ("data", "block"): Mark(5, 3),
        ("data", "block", 0): Mark(6, 7),
        ("flow",): Mark(7, 7),
        ("flow", "a"): Mark(7, 11),
    }
    assert tree.values == values
    assert tree.keys[("data", "X")] == Mark(3, 3)


SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
PLAIN = st.recursive(
    SCALARS | st.text("ab: #[]{},'\"é\n"),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc -:", min_size=1), inner, max_size=4),
    max_leaves=20,
)


@given(PLAIN)
def test_json_is_yaml(value):
    assert parse(json.dumps(value), "s").value == value


@given(st.text("ab.-:,[]{}#&*'\"|>%~ \n", max_size=40))
@example("? a\n: b")
@example("a: &b [~, '']\nb: *b\n")
def test_same_values_as_ruamel_without_digits(text):
    """ruamel's own constructor is the witness; with digits it has dates and octal numbers that YAML 1.2 has not."""
    try:
        ours = parse(text, "s").value
    except InputError:
        return
    theirs = YAML(typ="safe", pure=True).load(text)
    assert ours == theirs


@given(st.text(max_size=60) | st.text("ab0.-:,[]{}#&*!'\"|>%@`~?<=\\ \n\t", max_size=60))
@example('"\\U00110000"')
@example("%YAML 2.0\n---\na: 1")
@example("%YAML 1." + "9" * 5000 + "\n---\na: 1")
def test_random_text_is_parsed_or_refused_in_one_line_each(text):
    messages: tuple[str, ...] = ()
    try:
        parse(text, "s")
    except InputError as refusal:
        messages = refusal.messages
    assert all(message.startswith("s:") and message.isprintable() for message in messages)


def test_limits_are_what_the_messages_say():
    assert (compose.MAX_NODES, compose.MAX_DEPTH, compose.MAX_LINE) == (20_000, 32, 500_000)
