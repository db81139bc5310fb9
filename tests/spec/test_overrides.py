"""`--set key.sub=value`: what it changes, and where a value that it gave is said to come from."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from implicit_cli.errors import InputError
from implicit_cli.spec.compose import parse
from implicit_cli.spec.model import Solver
from implicit_cli.spec.overrides import apply
from implicit_cli.spec.source import Tree

SOLVERS = ", ".join(map(repr, sorted(get_args(Solver))))
TOP = (
    "'data', 'formulas', 'initial', 'labels', 'options', 'outer', 'parameters', 'precision', 'problem', 'refine', "
    "'seed', 'sensitivity', 'solver', 'structure', 'sweep', 'transforms'"
)
SPEC = """\
problem: p
parameters: {l2: 0.1, c: {value: 1, unit: K}}
data: {y: [1, 2, 3]}
solver: lbfgs
sensitivity:
  products: [jacobian, {jvp: {up: {l2: 1}}}]
initial:
"""


@pytest.mark.parametrize(
    ("override", "keys", "value"),
    [
        ("seed=3", ("seed",), 3),
        ("parameters.l2=1e-3", ("parameters", "l2"), 1e-3),
        ("parameters.new=[1, 2]", ("parameters", "new"), [1, 2]),
        ("parameters.c={value: 2, unit: mK}", ("parameters", "c"), {"value": 2, "unit": "mK"}),
        ("parameters.c.value=2", ("parameters", "c", "value"), 2),
        (" parameters . l2 = d.h5:/a=b ", ("parameters", "l2"), "d.h5:/a=b"),
        ("data.y.2=7", ("data", "y", 2), 7),
        ("solver=newton", ("solver",), "newton"),
        ("solver.tol=1e-3", ("solver", "tol"), 1e-3),
        ("sensitivity.linear_solver.name=cg", ("sensitivity", "linear_solver", "name"), "cg"),
        ("sensitivity.products.1.jvp.up.l2=2", ("sensitivity", "products", 1, "jvp", "up", "l2"), 2),
        ("initial.x=0", ("initial", "x"), 0),
        ("transforms.l2=log", ("transforms", "l2"), "log"),
        ("problem=", ("problem",), None),
        ("problem='a: b'", ("problem",), "a: b"),
    ],
)
def test_the_value_is_put_where_the_path_leads_and_its_origin_is_known(override, keys, value):
    tree = parse(SPEC, "s.yaml")
    apply(tree, [override])
    holder = tree.value
    for key in keys:
        holder = holder[key]
    assert holder == value
    assert tree.at(keys) == "--set " + ".".join(map(str, keys))


def test_the_model_has_the_values(load):
    model = load(SPEC.replace("initial:", "initial: {}"), "parameters.l2=0.3", "solver.tol=1e-3", "data.y.0=-1").model
    assert model.parameters["l2"] == 0.3
    assert (model.solver.name, model.solver.tol) == ("lbfgs", 1e-3)
    assert model.data["y"] == (-1, 2, 3)


def test_origins_of_what_is_beside_above_and_below(load):
    loaded = load("problem: p\nparameters: {a: 1, b: [1, 2]}\n", "parameters.b=[3, 4]", "data.X=[[1]]")
    assert loaded.at("parameters", "b") == "--set parameters.b"
    assert loaded.at("parameters", "b", 1) == "--set parameters.b: parameters.b.1"
    assert loaded.at("parameters", "a") == "s.yaml:2:17: parameters.a"
    assert loaded.at("parameters") == "s.yaml:2:13: parameters"
    assert loaded.at("data", "X") == "--set data.X"
    # The section exists only because of the override, but what it lacks is lacking in the spec.
    assert loaded.at("data") == "s.yaml:1:1: data"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["parameters.l2=true"],
            "--set parameters.l2: found true, allowed: a number, a list of numbers, 'file.h5:/path', or {value: ..., unit: ...}",
        ),
        (
            ["parameters.l2=[1, [2, x]]"],
            "--set parameters.l2: parameters.l2.1.1: found 'x', allowed: a number or a list of numbers",
        ),
        (["solver.tol=-1"], "--set solver.tol: found -1, allowed: above 0"),
        (["solver.toll=1"], "--set solver.toll: unknown key, allowed: 'max_steps', 'name', 'polish', 'tol'; did you mean 'tol'?"),
        (
            ["sover.tol=1"],
            f"--set sover.tol: sover: unknown key, allowed: {TOP}; did you mean 'solver'?",
        ),
        (
            ["solver=lbfsg"],
            f"--set solver: solver.name: found 'lbfsg', allowed: {SOLVERS}; did you mean 'lbfgs'?",
        ),
        (["seed="], "--set seed: found nothing, allowed: an integer"),
        (["seed"], "--set 'seed': found no '=', allowed: key.sub=value"),
        (["=3"], "--set '=3': found a path that is empty or too long, allowed: key.sub=value"),
        (["a..b=3"], "--set 'a..b=3': found a path that is empty or too long, allowed: key.sub=value"),
        (["a." * 40 + "b=3"], f"--set '{'a.' * 30}...': found a path that is empty or too long, allowed: key.sub=value"),
        (["data.y.3=1"], "--set data.y.3: found '3', allowed: 0 to 2, the entries of data.y"),
        (["data.y.-1=1"], "--set data.y.-1: found '-1', allowed: 0 to 2, the entries of data.y"),
        (["data.y.01=1"], "--set data.y.01: found '01', allowed: 0 to 2, the entries of data.y"),
        (["data.y=[]", "data.y.0=1"], "--set data.y.0: found '0', allowed: nothing, the entries of data.y"),
        (["seed.x=1"], "--set seed.x: seed is 4 and holds no 'x'"),
        (["problem.x=1"], "--set problem.x: problem is 'p' and holds no 'x'"),
        (["seed=1", "seed=2"], "--set seed: found twice"),
        (["solver.tol=1", "solver=fire"], "--set solver: it undoes the earlier --set solver.tol: give it first"),
        (["parameters.a=[1, 2"], "--set parameters.a: found a list that is not closed, allowed: ',' or ']' after each entry"),
        (["parameters.a={b: 1, b: 2}"], "--set parameters.a: b: found the key twice, the first time on line 1"),
        (
            ["parameters.a=!!int 3"],
            "--set parameters.a: found a tag, allowed: values without; a text that starts with '!' needs quotes",
        ),
        (["parameters.a=" + "[" * 99], "--set parameters.a: found more than 32 levels of nesting, allowed: fewer"),
        (["seed=1\x00"], "--set seed: found the character U+0000, allowed: printable text"),
        (["se\ned=1"], f"--set se\\ned: unknown key, allowed: {TOP}; did you mean 'seed'?"),
    ],
)
def test_refused(faults, overrides, message):
    found = faults(SPEC.replace("initial:\n", "seed: 4\n"), *overrides)
    assert found[0] == message or (
        message == f"--set se\\ned: unknown key, allowed: {TOP}; did you mean 'seed'?"
        and found[0].startswith("--set se\\ned: unknown key")
    )


def test_later_overrides_may_refine_earlier_ones(load):
    model = load("problem: p\n", "solver=fire", "solver.tol=1e-3", "data.y=[1, 2]", "data.y.1=5").model
    assert (model.solver.name, model.solver.tol, model.data["y"]) == ("fire", 1e-3, (1, 5))


def test_an_override_of_an_alias_leaves_its_anchor(load):
    data = load("problem: p\ndata: {a: &a [1, 2], b: *a}\n", "data.b.0=7").model.data
    assert (data["a"], data["b"]) == ((1, 2), (7, 2))


def test_a_spec_that_is_no_mapping_is_refused_as_such(faults):
    assert faults("- 1\n", "seed=1")[0].endswith("found a list of 1, allowed: a mapping, which starts with 'problem: NAME'")


@given(
    st.lists(st.text(max_size=20) | st.from_regex(r"[a-c0]{1,2}(\.[a-c01]){0,3}=[0-9\[\]{}:, a]{0,8}", fullmatch=True), max_size=3)
)
def test_random_overrides_are_applied_or_refused_in_one_line(overrides):
    tree = Tree("s.yaml", {"a": [{"b": 1}, [0]], "b": {"c": None}, "problem": "p"})
    messages: tuple[str, ...] = ()
    try:
        apply(tree, overrides)
    except InputError as refusal:
        messages = refusal.messages
    assert all(message.startswith("--set ") and message.isprintable() for message in messages)
