r"""Columns of CSV files: what is read, and what is refused with its line. Every file here is a real one.

Each block is a file as Python writes it, one line each, and after `!` what is answered where its column `x` is asked for.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from implicit_cli.errors import EnvironmentProblem, InputError
from implicit_cli.spec import table


@pytest.fixture
def read(folder):
    """Write d.csv and read one of its columns."""

    def read(raw: str | bytes, column: str = "x"):
        (folder / "d.csv").write_bytes(raw if isinstance(raw, bytes) else raw.encode())
        return table.read(Path("d.csv"), "d.csv", column, place="PLACE")

    return read


@pytest.fixture
def refused(read):
    def refused(raw: str | bytes, column: str = "x") -> str:
        with pytest.raises(InputError) as refusal:
            read(raw, column)
        (message,) = refusal.value.messages
        assert message.isprintable()
        return message.removeprefix("PLACE: d.csv")

    return refused


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("x\n1\n2\n", [1, 2]),
        ("x,y\n1,a\n-2,b\n", [1, -2]),
        ("y,x\n1,2.0\n3,4\n", [2.0, 4.0]),
        ("x\r\n1\r\n2\r\n", [1, 2]),
        ("\n\nx\n\n1\n   \n2", [1, 2]),
        (' x ,"y, z"\n 1 ,2\n"3",4\n', [1, 3]),
        ("\ufeffx\n1e-3\n+.5\n-7.E+2\n", [1e-3, 0.5, -700.0]),
        ('"x"\n9223372036854775807\n-9223372036854775808\n', [2**63 - 1, -(2**63)]),
        ("x\n9223372036854775808\n0.5\n", [2.0**63, 0.5]),
        ('name,x\n"two\nlines",1\n', [1]),
    ],
)
def test_columns(read, raw, expected):
    found = read(raw)
    assert found.tolist() == expected
    assert found.dtype == (np.int64 if all(isinstance(number, int) for number in expected) else np.float64)
    assert found.dtype.isnative


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("d.csv:x", ("d.csv", "x")),
        ("../a b/d.CSV:x:/y", ("../a b/d.CSV", "x:/y")),
        ("a.csv:b.csv:c", ("a.csv", "b.csv:c")),
        ("d.csv:", None),
        ("d.csv", None),
        ("d.h5:/x", None),
        (".csv:x", None),
        ("d.csv:x\n", None),
    ],
)
def test_the_form_of_a_reference(text, parts):
    assert table.split_column(text) == parts


REFUSED = r"""
''
! : found no line, allowed: a line with the names of the columns, then their numbers

'\n\n'
! : found no line, allowed: a line with the names of the columns, then their numbers

'x\n'
! :1: found no row below the names of the columns, allowed: at least one

'X,y\n1,2\n'
!  has no column 'x', it holds 'X', 'y'; did you mean 'X'?

'1,2\n3,4\n'
!  has no column 'x', it holds '1', '2'; the first line must name the columns

'x;y\n1;2\n'
!  has no column 'x', it holds 'x;y'; columns must be separated by commas

'x,x\n1,2\n'
! :1: found the column 'x' 2 times, allowed: once

'x,y\n1,2\n3\n'
! :3: found a row of 1, allowed: 2, an entry for each column

'x,y\n1,2,3\n'
! :2: found a row of 3, allowed: 2, an entry for each column

'x,y\n1,2\n\n,3\n'
! :4: column 'x': found '', allowed: a finite number

'x\n1\nnan\n'
! :3: column 'x': found 'nan', allowed: a finite number

'x\ninf\n'
! :2: column 'x': found 'inf', allowed: a finite number

'x\n1e999\n'
! :2: column 'x': found '1e999', allowed: a finite number

'x\n1_000\n'
! :2: column 'x': found '1_000', allowed: a finite number; did you mean the number 1000.0?

'x\n"1,5"\n'
! :2: column 'x': found '1,5', allowed: a finite number

'x\n0x10\n'
! :2: column 'x': found '0x10', allowed: a finite number

'x\n\u0663\n'
! :2: column 'x': found '٣', allowed: a finite number; did you mean the number 3.0?

'x\n1\n\n9223372036854775808\n2\n'
! :4: column 'x': found an integer beyond 64 bits, allowed: -2^63 to 2^63 - 1

'x\n"1\n'
! :2: found no row of a CSV file: unexpected end of data

'x\n"1"2\n'
! :2: found no row of a CSV file: ',' expected after '"'

'x,y\n"two\nlines",1\n'
! :3: column 'x': found 'two\nlines', allowed: a finite number

b'x\n1\n\xff2\n'
! :3: found the byte 0xff, allowed: text in UTF-8

b'x\n1\x00\n'
! :2: column 'x': found '1\x00', allowed: a finite number
"""


def blocks(transcript: str) -> list[tuple[str | bytes, str]]:
    """File and message of each block."""
    return [(eval(file), line[2:]) for file, line in (block.split("\n") for block in transcript.strip("\n").split("\n\n"))]


@pytest.mark.parametrize(("raw", "message"), blocks(REFUSED))
def test_refused(refused, raw, message):
    assert refused(raw) == message


def test_a_long_number_and_a_long_listing_are_cut(refused):
    assert refused(f"x\n{'0' * 5000}1\n") == f":2: column 'x': found '{'0' * 60}...', allowed: a finite number"
    message = refused(",".join(f"c{i:02}" for i in range(40)) + "\n")
    assert message.startswith(" has no column 'x', it holds 'c00', 'c01'")
    assert message.endswith("'c11' and 28 more")


def test_large_files_are_refused_before_they_are_read(refused, folder, monkeypatch):
    path = folder / "d.csv"
    with path.open("wb") as file:
        file.truncate(300 * 2**20)
    monkeypatch.setattr(table._Table, "column", lambda *_: pytest.fail("it was read"))
    with pytest.raises(InputError) as refusal:
        table.read(path, "d.csv", "x", place="PLACE")
    assert str(refusal.value) == "PLACE: d.csv: found 300 MiB, allowed: at most 256 MiB; put large arrays into an HDF5 file"


def test_rows_are_counted_while_they_are_read(read, refused, monkeypatch):
    monkeypatch.setattr(table, "MAX_ROWS", 3)
    assert read("x\n1\n2\n3\n").tolist() == [1, 2, 3]
    assert refused("x\n1\n2\n3\n\n4\n").startswith(":6: found more than 3 rows, allowed: fewer")


def test_other_things_than_files(folder):
    (folder / "e.csv").mkdir()
    with pytest.raises(InputError, match=r"^PLACE: d.csv: no such file; did you mean 'e.csv'\?$"):
        table.read(Path("d.csv"), "d.csv", "x", place="PLACE")
    with pytest.raises(InputError, match=r"^PLACE: e.csv: found a folder, allowed: a CSV file$"):
        table.read(Path("e.csv"), "e.csv", "x", place="PLACE")


def test_what_the_system_refuses_is_no_fault_of_the_file(folder, monkeypatch):
    (folder / "d.csv").write_text("x\n1\n")

    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(EnvironmentProblem, match=r"^PLACE: d\.csv: cannot read the file: Permission denied$"):
        table.read(Path("d.csv"), "d.csv", "x", place="PLACE")


NUMBERS = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
TEXTS = st.text("ab, \"'\né", max_size=4)


@given(st.lists(st.tuples(TEXTS, NUMBERS), min_size=1, max_size=5), st.sampled_from(["\n", "\r\n"]))
def test_what_is_written_is_read_bit_for_bit(tmp_path_factory, rows, end):
    stream = io.StringIO()
    csv.writer(stream, lineterminator=end).writerows([["a, b", "x"], *rows])
    path = tmp_path_factory.mktemp("table") / "d.csv"
    path.write_bytes(stream.getvalue().encode())
    found = table.read(path, "d.csv", "x", place="PLACE")
    whole = all(isinstance(number, int) for _, number in rows)
    expected = np.array([number for _, number in rows], dtype=np.int64 if whole else np.float64)
    assert (found.dtype, found.tobytes()) == (expected.dtype, expected.tobytes())


@given(st.binary(max_size=60) | st.text('x,1.e-\n\r"', max_size=60).map(str.encode))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_random_bytes_never_give_anything_but_finite_numbers_or_an_input_error(tmp_path, raw):
    path = tmp_path / "d.csv"
    path.write_bytes(b"x\n1\n" + raw)
    found, message = np.ones(1), "PLACE: d.csv"
    try:
        found = table.read(path, "d.csv", "x", place="PLACE")
    except InputError as refusal:
        message = str(refusal)
    assert message.startswith("PLACE: d.csv")
    assert message.isprintable()
    assert np.isfinite(found).all()
    assert found[0] == 1
