"""Formulas in a spec: what may be written, what is refused and how that is told, and that nothing reaches Python."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from implicit_cli.errors import InputError
from implicit_cli.formula import FUNCTIONS, LONGEST, Formula, FormulaFault, parse
from implicit_cli.spec import load_spec

GOOD = [
    "1",
    "-x",
    "2 * x ** -3 + 1e-3 / y",
    "A @ x - b",
    "A.T @ A",
    "sum(x * y, axis=-1)",
    "x[0] + x[-1] + sum(x[1:3])",
    "A[:, 0] * x[:, None]",
    "x[i]",
    "minimum(x, 0) + logsumexp(A, axis=0)",
    "x\n  + y",
]
WRONG = {
    "x ^ 2": r"found \^, character 1, allowed: .*; did you mean \*\*\?",
    "2 x": r"found '2 x', not a formula from character \d+ on",
    "2x": r"not a formula from character \d+ on; a product is written with \*",
    "x +": r"found 'x \+', not a formula from character",
    "": r"found '', not a formula",
    "x = 1": r"found 'x = 1', not a formula from character",
    "x == 1": r"found 'x == 1', allowed: no comparison",
    "True": r"found True, character 1",
    "1e999": r"found a number that is not finite, character 1",
    "99999999999999999999": r"found a large integer, character 1",
    "som(x)": r"no function 'som', character 1, allowed: .*; did you mean 'sum'\?",
    "np.exp(x)": r"no function 'np.exp', character 1, allowed: .*; did you mean 'exp'\?",
    "exp(x, y)": r"found 'exp\(x, y\)', allowed: exp of 1 array$",
    "exp(x, axis=0)": r"found 'exp\(x, axis=0\)', allowed: exp of 1 array$",
    "sum(x, axis=y)": r"allowed: sum of 1 array and axis=N",
    "sum(x, axis=0, axis=1)": r"not a formula|allowed: sum of 1 array and axis=N",
    "sum(*x)": r"found 'sum\(\*x\)', allowed: sum of 1 array and axis=N",
    "x.shape": r"found 'x.shape', character 1, allowed: .*\.T",
    "x[0.5]": r"found '0.5', character 3, allowed: an integer, a slice, None or a name of integer data",
    "x[y + 1]": r"found 'y \+ 1', character 3",
    "x // 2": r"found 'x // 2'",
    "x % 2": r"found 'x % 2'",
    "x if y else 0": r"found 'x if y else 0'",
    "[x, y]": r"found '\[x, y\]'",
    "x < 1": r"found 'x < 1', allowed: no comparison",
    "(x <= 1) * y": r"found a comparison, character 2, allowed: .*; a constraint compares two formulas once",
    "x; y": r"found ';', character 2",
    "x # y": r"found '#', character 3",
    "é": r"found 'é', character 1",
    "x + " * (LONGEST // 4) + "xx": rf"found {LONGEST + 2} characters, allowed: at most {LONGEST}",
    "(" * 300 + "x" + ")" * 300: r"not a formula|nested",
    "-" * 100 + "x": r"found a formula that is nested 41 deep, character 42, allowed: at most 40",
}
ATTACKS = [
    "__import__('os').system('true')",
    "().__class__.__base__.__subclasses__()",
    "x.__class__",
    "x.T.__class__",
    "exp.__globals__",
    "sum.__self__",
    "(lambda: x)()",
    "[y for y in x]",
    "{x}",
    "f'{x}'",
    "(x := 1)",
    "x['a']",
    "x[...]",
    "x[exp(1)]",
    "open",
    "eval(x)",
    "exp(exp)",
    "await x",
    "(yield x)",
    "sum(x, axis=exp)",
    "b''",
    "1j",
    "x\x00",
]


@pytest.mark.parametrize("text", GOOD)
def test_what_may_be_written(text):
    assert isinstance(parse(text), Formula)


@pytest.mark.parametrize("text", WRONG, ids=lambda text: text[:20])
def test_what_is_refused(text):
    with pytest.raises(FormulaFault, match=WRONG[text]):
        parse(text)


@pytest.mark.parametrize("text", ATTACKS)
def test_python_is_out_of_reach(text):
    """Each is refused, or is nothing but names, which must be those of quantities."""
    try:
        names = {node.id for node in parse(text).names()}
    except FormulaFault:
        return
    assert text in ("open", "exp(exp)")
    assert names in ({"open"}, {"exp"})


@given(st.text(max_size=60) | st.text(alphabet="x1(.)[]:,+-*/@=<> sumaxi", max_size=60))
def test_any_text_is_a_formula_or_a_fault(text):
    for comparison in ("none", "allowed", "needed"):
        try:
            formula = parse(text, comparison=comparison)
        except FormulaFault as fault:
            message = str(fault)
        else:
            message = ""
            assert parse(formula.text, comparison=comparison) == formula
        assert len(message) < 1200
        assert "\n" not in message


def test_every_mention_of_a_name_is_found():
    formula = parse("sum(x[i] * sum(y)) == pi * x", comparison="allowed")
    assert sorted(node.id for node in formula.names()) == ["i", "pi", "x", "x", "y"]
    assert formula.sense == "=="
    assert set(FUNCTIONS).isdisjoint(node.id for node in formula.names())


SPEC = """\
problem: expression
formulas:
  parameters: {a: {shape: [n], unit: m, bounds: [0, null], default: 2.0}}
  data: {i: {shape: [m], dtype: int}, b: [n]}
  unknowns: {x: {shape: [n], initial: 1.0}}
  minimise: sum((x - a)**2) + sum(b[i])
  subject_to:
    total: sum(x) == 1
    floor: {formula: x >= 0, shape: [n], doc: price of the floor}
  outputs: {largest: max(x), dual: {formula: floor * x, shape: [n]}}
"""


def test_a_spec_is_read_and_written(tmp_path):
    (tmp_path / "a.yaml").write_text(SPEC)
    loaded = load_spec(tmp_path / "a.yaml")
    found = loaded.model.formulas
    assert found.parameters["a"].bounds == (0.0, None)
    assert found.parameters["a"].fill == 2.0
    assert found.data["i"].dtype == "int"
    assert found.unknowns["x"].fill == 1.0
    assert found.subject_to["floor"].formula.sense == ">="
    assert type(loaded.model).model_validate_json(loaded.model.model_dump_json()) == loaded.model


FAULTS = {
    ("minimise: sum((x - a)**2) + sum(b[i])", "minimise: sum((x - aa)**2)"): (
        "6:13: formulas.minimise: unknown name 'aa', character 10, allowed: 'a', 'b', 'i', 'pi', 'x'; did you mean 'a'?"
    ),
    ("total: sum(x) == 1", "total: sum(x) < 1"): "8:12: formulas.subject_to.total: found 'sum(x) < 1', allowed: one comparison by",
    ("total: sum(x) == 1", "total: sum(x)"): "8:12: formulas.subject_to.total: found 'sum(x)', allowed: a comparison such as",
    ("largest: max(x)", "largest: max(floor) + max"): "formulas.outputs.largest: unknown name 'max', character 14",
    ("data: {i: {shape: [m], dtype: int}, b: [n]}", "data: {i: {shape: [m], dtyp: int}, b: n}"): (
        "4:26: formulas.data.i.dtyp: unknown key, allowed: 'doc', 'dtype', 'shape', 'unit'; did you mean 'dtype'?"
    ),
    ("b: [n]}", "x: [n]}"): "formulas.unknowns.x: 'x' is declared in 'data' too, allowed: names of their own",
    (
        "{shape: [n], initial: 1.0}",
        "{shape: [0], initial: 1.0}",
    ): "found 0, allowed: the name of an axis, or a length of at least 1",
    (
        "{shape: [n], initial: 1.0}",
        "{shape: [n], initial: one}",
    ): "formulas.unknowns.x.initial: found 'one', allowed: a finite number",
    ("bounds: [0, null]", "bounds: [0]"): "formulas.parameters.a.bounds: found a list of 1, allowed: [LOW, HIGH]",
    ("x: {shape: [n], initial: 1.0}", "2x: [n]"): "formulas.unknowns.2x: found '2x', allowed: a name of letters, digits and _",
    (
        "outputs:",
        "fixed_point: {x: a}\n  outputs:",
    ): "formulas: found 'fixed_point', 'minimise', allowed: one of minimise",
    ("minimise: sum((x - a)**2) + sum(b[i])", "equations: {y: x - a}"): "equations.y: 'y' is no unknown, allowed: 'x'",
    (
        "minimise: sum((x - a)**2) + sum(b[i])",
        "minimise: 3",
    ): "formulas.minimise: found 3, allowed: a formula, as a text; did you mean",
    ("unknowns:", "unknown:"): "formulas.unknown: unknown key, allowed: ",
    ("{x: {shape: [n], initial: 1.0}}", "{}"): "formulas.unknowns: found an empty mapping",
}


@pytest.mark.parametrize("change", FAULTS, ids=lambda change: change[1][:30])
def test_faults_have_their_place(tmp_path, change):
    assert SPEC.count(change[0]) == 1
    (tmp_path / "a.yaml").write_text(SPEC.replace(*change))
    with pytest.raises(InputError) as raised:
        load_spec(tmp_path / "a.yaml")
    assert any(FAULTS[change] in message for message in raised.value.messages), raised.value.messages
