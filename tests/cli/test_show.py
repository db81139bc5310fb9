"""`implicit show` as a user reads it: transcripts of summaries made by hand, no file and no JAX."""

import csv
import dataclasses
import io
import json
import math
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from typer.testing import CliRunner

from implicit_cli import api
from implicit_cli.cli import show, tables
from implicit_cli.errors import InputError
from implicit_cli.store import (
    CaseRow,
    CaseSummary,
    ConstantSummary,
    EntrySummary,
    LinearSummary,
    Moved,
    NullSpaceSummary,
    Overview,
    ProductSummary,
    QuantitySummary,
    SolverSummary,
    Summary,
    Trend,
    UndeterminedSummary,
)

JACOBIAN = ProductSummary(
    kind="jacobian",
    name="",
    of="w",
    wrt="log(penalty)",
    unit="mol",
    shape=(3, 2),
    value=None,
    norm=0.0246801,
    count=6,
    undetermined=0,
    bound=3.03e-14,
    relative=2.1e-12,
    bound_kind="bound",
    status="ok",
    good=True,
    entries=(
        EntrySummary("w[bmi]", "log(penalty[s5])", -0.012345, 3.01e-14),
        EntrySummary("w[age]", "log(penalty[s5])", 1.5e-7, 3.01e-14),
    ),
    more=4,
)
JVP = dataclasses.replace(
    JACOBIAN,
    kind="jvp",
    name="all_up",
    wrt="",
    shape=(3,),
    bound_kind="estimate",
    bound=2e-9,
    relative=1e-7,
    entries=(EntrySummary("w[bmi]", "", 2.0, 2e-9),),
    more=0,
    undetermined=2,
    count=3,
    status="partial",
)
VJP = dataclasses.replace(
    JACOBIAN,
    kind="vjp",
    name="first",
    of="",
    shape=(),
    bound=math.nan,
    relative=math.nan,
    status="no_certificate",
    good=False,
    entries=(EntrySummary("first", "log(penalty)", 1e20, math.nan),),
    more=0,
    count=1,
)
CASE = CaseSummary(
    id="0",
    status="partial",
    good=True,
    message="1 rattler: w[1]",
    seconds={"solve": 0.25, "certify": 12.3456},
    parameters=(QuantitySummary("penalty", "1", "regularisation", (), 0.1, 0.1, 0.1, 0.1),),
    solution=(
        QuantitySummary("w", "mol", "weights", (3,), [0.5, -2.0, math.nan], 2.06155, -2.0, 0.5),
        QuantitySummary("K", "1", "K", (100, 3), None, 17.3205, -1.0, 1.25),
        QuantitySummary("nothing", "1", "", (0,), [], math.nan, math.nan, math.nan),
    ),
    outputs=(QuantitySummary("loss", "J", "", (), 0.25, 0.25, 0.25, 0.25),),
    products=(JACOBIAN, JVP, VJP),
    certificate=(
        ConstantSummary("sigma_min", 0.5, "1", "computed", "smallest singular value of A = dF/dx"),
        ConstantSummary("margin", math.inf, "mol", "proved", "distance to the nearest kink of F"),
    ),
    solver=SolverSummary("newton", "ok", True, 8, 1, 1e-10, 3.2e-15),
    linear=(LinearSummary("forward", "cg", 7, {"ok": 6, "linear_solve_failed": 1}, 1.01e-3, 99),),
    null_space=NullSpaceSummary(
        4,
        ("translation_x", "translation_y"),
        (
            UndeterminedSummary("rattler", "x", 10, 256, "particle", (3, 4, 5, 17, 90), True),
            UndeterminedSummary("slack", "s", 1, 1, "", (), True),
        ),
    ),
)
SUMMARY = Summary(
    path="out.h5",
    format_version=1,
    problem="ridge",
    summary="Ridge regression.",
    creator="implicit-cli 0.1.0",
    created="2026-10-01T12:00:00+00:00",
    provenance={"jax": "0.10.1"},
    cases=(CASE,),
)

TRANSCRIPT = """\
ridge: Ridge regression.
out.h5, format version 1
written by implicit-cli 0.1.0 at 2026-10-01T12:00:00+00:00

case 0: partial, 1 rattler: w[1]
solve 0.25 s, certify 12.3 s

Parameters
  name     shape   unit  value  meaning
  penalty  scalar  1     0.1    regularisation

Solvers
  newton: ok, 8 steps and 1 polish step, max |F| = 3.2e-15, tolerance 1e-10
  forward: 7 linear solves by cg: 6 ok, 1 linear_solve_failed, at most 99 iterations, worst relative
  residual 1.1e-3

Null space
  dimension 4, gauges: translation_x, translation_y
  rattler: x, 5 along particle: 3-5, 17, 90 (10 of 256 components)
  slack: s

Certificate
  constant   value  unit  provenance  meaning
  sigma_min    0.5  1     computed    smallest singular value of A = dF/dx
  margin       inf  mol   proved      distance to the nearest kink of F

Solution and outputs
  name     shape    unit  value                          bound     meaning
  w        3        mol   [0.5, -2, nan]                 no bound  weights
  K        100 x 3  1     norm 17.3205, from -1 to 1.25  no bound
  nothing  0        1     empty                          no bound
  loss     scalar   J     0.25                           no bound

Products
  product                   shape        norm  worst bound  relative  kind      status
  d w / d log(penalty)      3 x 2   0.0246801      3.1e-14   2.1e-12  bound     ok
  d w along all_up          3       0.0246801       2.0e-9    1.0e-7  estimate  partial
  d first / d log(penalty)  scalar  0.0246801            -         -  none      no_certificate

Sensitivities, largest first
  derivative                         value  bound                unit  status
  d w[bmi] / d log(penalty[s5])  -0.012345  ± 3.1e-14            mol   ok              █████
  d w[age] / d log(penalty[s5])     1.5e-7  ± 3.1e-14            mol   ok              ▌
  d w / d log(penalty)                   4  more
  d w[bmi] along all_up                  2  ± 2.0e-9 (estimate)  mol   partial
  d w along all_up                  2 of 3  undetermined
  d first / d log(penalty)            1e20  no bound             mol   no_certificate
"""


def printed(capsys, monkeypatch, summary=SUMMARY, *, json=False) -> str:
    monkeypatch.setattr(api, "overview", lambda path: SimpleNamespace(cases=len(summary.cases)))
    monkeypatch.setattr(api, "show", lambda path, **asked: summary)
    show.show("out.h5", json=json)
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def test_a_transcript(capsys, monkeypatch):
    assert printed(capsys, monkeypatch) == TRANSCRIPT


def test_a_pipe_gets_neither_colour_nor_boxes_nor_long_lines(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    text = printed(capsys, monkeypatch)
    assert "\x1b" not in text
    assert not set("│─┃━+|") & set(text.replace("max |F|", "").replace("+00:00", ""))
    assert max(map(len, text.splitlines())) <= 100
    assert all(line == line.rstrip() for line in text.splitlines())


def test_a_terminal_gets_colour(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    console = Console(file=io.StringIO(), force_terminal=True, width=100, color_system="standard", highlight=False, markup=False)
    show.render(SUMMARY, console)
    text = console.file.getvalue()
    assert "\x1b[32mpartial" in text
    assert "\x1b[31mno_certificate" in text


def test_an_ascii_output(monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    monkeypatch.setattr(api, "overview", lambda path: SimpleNamespace(cases=1))
    monkeypatch.setattr(api, "show", lambda path, **asked: dataclasses.replace(SUMMARY, problem="größe"))
    show.show("out.h5")
    sys.stdout.flush()
    text = raw.getvalue().decode("ascii")
    assert text.startswith("gr??e: Ridge regression.\n")
    assert "+/- 3.1e-14" in text


def test_names_are_shown_as_they_are_and_cannot_steer_the_terminal(capsys, monkeypatch):
    strange = dataclasses.replace(SUMMARY, problem="[red]x[/red]\x1b[2J\x07", summary=":smile:\rover")
    assert printed(capsys, monkeypatch, strange).startswith("[red]x[/red]?[2J?: :smile:?over\n")


def test_a_few_cases_have_a_table_and_are_shown_in_full(capsys, monkeypatch):
    failed = dataclasses.replace(CASE, status="singular", good=False, message="a fold")
    cases = tuple(dataclasses.replace(failed if index == 2 else CASE, id=f"c{index}") for index in range(5))
    text = printed(capsys, monkeypatch, dataclasses.replace(SUMMARY, cases=cases))
    assert "5 cases\n  case  status    seconds  message\n  c0    partial   12.6     1 rattler: w[1]\n" in text
    assert "  c2    singular  12.6     a fold\n" in text
    assert text.count("\nSensitivities, largest first\n") == 5


OVERVIEW = Overview(
    path="out.h5",
    format_version=1,
    problem="ridge",
    summary="Ridge regression.",
    creator="implicit-cli 0.1.0",
    created="2026-11-22T08:00:00+00:00",
    cases=1200,
    statuses={"ok": 1190, "partial": 3, "singular": 7},
    worst=2.1e-9,
    varied=("penalty", "a[s5]"),
    more=2,
    first=(CaseRow("c0", "ok", True, "", 1.0e-12, (0.1, 2.5)), CaseRow("c1", "partial", True, "a rattler", np.nan, (0.2, 2.5))),
    failed=(CaseRow("c9", "singular", False, "a fold", np.nan, (0.3, 2.5)),),
    over="penalty",
    trends=(Trend("loss", "J", 0.5, 1.0, 2.0, (0.5, 1.0, math.nan, 2.0)),),
    moved=(Moved("loss", "penalty", 0.4), Moved("loss", "a[s5]", 0.1), Moved("loss", "b", 0.0)),
)


def test_many_cases_are_counted_and_the_first_and_the_failed_ones_have_a_line(capsys, monkeypatch):
    monkeypatch.setattr(api, "overview", lambda path: OVERVIEW)
    show.show("out.h5")
    assert (
        capsys.readouterr().out
        == """\
ridge: Ridge regression.
out.h5, format version 1
written by implicit-cli 0.1.0 at 2026-11-22T08:00:00+00:00

1200 cases: 1190 ok, 3 partial, 7 singular; largest bound 2.1e-9 of a product

Outputs, over penalty
  name  unit  least  median  most
  loss  J       0.5       1     2  ▁▃ █

Sensitivities, percent by which an output moves for one percent of an input
  derivative          median
  d loss / d penalty     0.4  █████
  d loss / d a[s5]       0.1  █
  d loss / d b             0

First 2
  case  penalty  a[s5]  status     bound
  c0        0.1    2.5  ok       1.0e-12
  c1        0.2    2.5  partial     none

Failed, 1 of 7
  case  penalty  a[s5]  status    message
  c9        0.3    2.5  singular  a fold

--case ID shows one of them, --json has them all; 2 more values differ from case to case
"""
    )


def test_a_case_without_products_or_parameters(capsys, monkeypatch):
    bare = dataclasses.replace(CASE, parameters=(), products=(), linear=(), seconds={}, null_space=NullSpaceSummary(0, (), ()))
    text = printed(capsys, monkeypatch, dataclasses.replace(SUMMARY, summary="", cases=(bare,)))
    assert text.startswith("ridge\n")
    assert "Sensitivities" not in text
    assert "Parameters" not in text
    assert "\nNull space\n  dimension 0, no gauges\n" in text


def test_many_products_share_the_table(capsys, monkeypatch):
    entries = tuple(EntrySummary(f"w[{index}]", "t", 10.0 - index, 1e-9) for index in range(10))
    many = tuple(dataclasses.replace(JACOBIAN, of=f"w{index}", wrt="t", entries=entries, more=0) for index in range(30))
    text = printed(capsys, monkeypatch, dataclasses.replace(SUMMARY, cases=(dataclasses.replace(CASE, products=many),)))
    assert text.count("± ") == 90
    assert text.count("7  more") == 30


def test_json_is_one_document_with_everything(capsys, monkeypatch):
    document = json.loads(printed(capsys, monkeypatch, json=True))
    assert document == SUMMARY.asdict()
    assert document["cases"][0]["certificate"][1]["value"] == "inf"
    assert document["cases"][0]["products"][2]["bound"] is None
    assert document["cases"][0]["null_space"]["undetermined"][0]["indices"] == [3, 4, 5, 17, 90]


def test_arguments(monkeypatch):
    app, asked = typer.Typer(), []

    def remember(path, *, case, **asked_for):
        asked.append((path.name, case))
        return SUMMARY

    app.command()(show.show)
    monkeypatch.setattr(api, "show", remember)
    monkeypatch.setattr(api, "overview", lambda path: SimpleNamespace(cases=1))
    tables, document = CliRunner().invoke(app, ["a.h5"]), CliRunner().invoke(app, ["b.h5", "--json"])
    assert (tables.exit_code, document.exit_code) == (0, 0)
    assert tables.output == TRANSCRIPT
    assert json.loads(document.output)["problem"] == "ridge"
    CliRunner().invoke(app, ["c.h5", "--case", "c7"])
    assert asked == [("a.h5", None), ("b.h5", None), ("c.h5", "c7")]


def test_a_refusal_prints_nothing(capsys, tmp_path):
    with pytest.raises(InputError, match="no such file"):
        show.show(tmp_path / "out.h5")
    assert capsys.readouterr().out == ""


def test_jax_stays_out(tmp_path):
    code = (
        "import sys; from pathlib import Path; from implicit_cli.cli.show import show\n"
        "from implicit_cli.errors import InputError\n"
        "try: show(Path('missing.h5'))\n"
        "except InputError: print([m for m in ('jax', 'pydantic', 'ruamel') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout == "[]\n"


# Numbers


@pytest.mark.parametrize(
    ("indices", "text"),
    [((), ""), ((4,), "4"), ((3, 4, 5, 17), "3-5, 17"), (range(0, 44, 2), f"{', '.join(map(str, range(0, 40, 2)))}, and 2 more")],
)
def test_ranges(indices, text):
    assert show.ranges(indices) == text


@given(st.sets(st.integers(0, 60), max_size=20))
def test_ranges_lose_nothing(indices):
    found = set()
    for part in filter(None, show.ranges(sorted(indices)).split(", ")):
        first, _, last = part.partition("-")
        found |= set(range(int(first), int(last or first) + 1))
    assert found == indices


@given(st.floats(0, allow_infinity=False))
def test_a_printed_bound_is_one(bound):
    text = tables.upward(bound)
    assert float(text) >= bound
    assert float(text) <= bound * 1.11 or bound < 1e-300


def test_numbers():
    numbers = [0.0, -12.5, 1.23456789e-7, math.nan, -math.inf]
    assert [tables.number(number) for number in numbers] == ["0", "-12.5", "1.23457e-7", "nan", "-inf"]
    bounds = [0.0, 3.01e-14, 0.99e-9, 1.0, math.nan, math.inf]
    assert [tables.upward(number) for number in bounds] == ["0", "3.1e-14", "9.9e-10", "1.0e0", "-", "inf"]


@given(st.floats(0, 1))
def test_a_bar_is_as_long_as_its_share_and_what_is_not_zero_is_seen(share):
    text, plain = tables.bar(share), tables.bar(share, False)
    length = text.count("█") + text.count("▌") / 2
    assert abs(length - 5 * share) <= 0.5
    assert (text == "") is (plain == "") is (share == 0)
    assert plain == "#" * len(text)


@given(st.lists(st.floats(-1e6, 1e6) | st.just(math.nan), max_size=50))
def test_a_sparkline_has_a_column_for_each_value_and_keeps_their_order(values):
    text = tables.sparkline(values)
    assert len(text) == len(values)
    assert len(tables.sparkline(values, False).encode("ascii")) == len(values)
    heights = [(value, " ▁▂▃▄▅▆▇█".index(mark)) for value, mark in zip(values, text, strict=True)]
    assert all((height == 0) is math.isnan(value) for value, height in heights)
    known = sorted((value, height) for value, height in heights if height)
    assert [height for _, height in known] == sorted(height for _, height in known)
    if known and known[0][0] < known[-1][0]:
        assert (known[0][1], known[-1][1]) == (1, 8)


SPEC = """\
problem: expression
formulas:
  parameters: {a: {}, b: {shape: [n]}}
  unknowns: {x: {shape: [n]}}
  equations: {x: x - a * b}
  outputs: {s: sum(x)}
parameters: {a: 2.0, b: [1.0, -3.0]}
labels: {n: [up, down]}
"""


@pytest.fixture(scope="module")
def product_of_two(tmp_path_factory):
    """x = a b, so that dx/da = b, dx/db = a, ds/da = sum b, ds/db = a."""
    folder = tmp_path_factory.mktemp("shown")
    (folder / "s.yaml").write_text(SPEC)
    (folder / "w.yaml").write_text(SPEC + "sweep: {over: {a: [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]}}\n")
    return [api.run(str(folder / f"{name}.yaml"), folder / f"{name}.h5").path for name in ("s", "w")]


def shown(capsys, *words):
    from implicit_cli.cli import main

    assert main(["show", *map(str, words)]) == 0
    return capsys.readouterr().out


def test_csv_has_every_derivative_with_all_its_digits(product_of_two, capsys):
    rows = list(csv.DictReader(io.StringIO(shown(capsys, product_of_two[0], "--csv"))))
    found = {(row["of"], row["wrt"]): float(row["value"]) for row in rows}
    assert found == {
        ("x[up]", "a"): 1.0,
        ("x[down]", "a"): -3.0,
        ("x[up]", "b[up]"): 2.0,
        ("x[down]", "b[up]"): 0.0,
        ("x[up]", "b[down]"): 0.0,
        ("x[down]", "b[down]"): 2.0,
        ("s", "a"): -2.0,
        ("s", "b[up]"): 2.0,
        ("s", "b[down]"): 2.0,
    }
    assert {row["status"] for row in rows} == {"ok"}
    assert all(float(row["bound"]) >= 0 for row in rows)
    many = list(csv.DictReader(io.StringIO(shown(capsys, product_of_two[1], "--csv", "--of", "s", "--wrt", "b[up]"))))
    assert [float(row["value"]) for row in many] == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]


def test_derivatives_are_chosen_and_sorted(product_of_two, capsys):
    def told(*words):
        text = shown(capsys, product_of_two[0], *words).partition("\nSensitivities")[2]
        return [line.partition("  d ")[2].split("  ")[0] for line in text.splitlines()[2:]]

    assert told() == ["x[down] / d a", "x[up] / d a", "x[up] / d b[up]", "x[down] / d b[down]", *told()[4:]]
    assert told("--of", "s") == ["s / d a", "s / d b[up]", "s / d b[down]"]
    assert told("--of", "x[down]", "--wrt", "b") == ["x[down] / d b[down]", "x[down] / d b[up]"]
    assert told("--wrt", "a", "--sort", "name") == ["x[up] / d a", "x[down] / d a", "s / d a"]


def test_a_sweep_has_sparklines_bars_and_its_rows_sorted(product_of_two, capsys):
    text = shown(capsys, product_of_two[1], "--sort", "s", "--of", "s")
    # s = -2 a over a = 1 .. 6, and its elasticity is 1
    assert "  s     1       -12      -7    -2  █▇▅▄▂▁\n" in text
    assert "  d s / d a        1  █████\n" in text
    assert [line.split()[1:3] for line in text.partition("First 6 by s")[2].splitlines()[2:8]] == [
        [str(a), str(-2 * a)] for a in (6, 5, 4, 3, 2, 1)
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--of", "t"], "--of: found nothing of 't', allowed: 's', 'x'"),
        (["--wrt", "c"], "--wrt: found nothing of 'c', allowed: 'a', 'b'"),
        (["--sort", "sise"], "--sort: found 'sise', allowed: 'bound', 'name', 'size'; did you mean 'size'?"),
        (["--csv", "--json"], "--csv: found with --json, allowed: one of them"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(product_of_two, capsys, words, message):
    from implicit_cli.cli import main

    assert main(["show", str(product_of_two[0]), *words]) == 2
    assert capsys.readouterr() == ("", f"implicit: error: {message}\n")


def test_a_sweep_says_what_its_rows_can_be_sorted_by(product_of_two, capsys):
    from implicit_cli.cli import main

    assert main(["show", str(product_of_two[1]), "--sort", "b"]) == 2
    assert "--sort: found 'b', allowed: 'a', 'bound', 'case', 'status'" in capsys.readouterr().err
