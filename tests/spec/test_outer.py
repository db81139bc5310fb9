"""The section `outer`: what it may say, what comes of it, and each fault with its place."""

from __future__ import annotations

import pytest

from implicit_cli.errors import InputError
from implicit_cli.spec import RunSpec, load_spec

HEAD = "problem: p\nouter:\n"


@pytest.fixture
def load(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def load(text):
        (tmp_path / "s.yaml").write_text(HEAD + "".join(f"  {line}\n" for line in text.strip().splitlines()))
        return load_spec("s.yaml").model.outer

    return load


def test_only_the_objective_is_needed(load):
    outer = load("objective: loss")
    assert (outer.objective, outer.sense, outer.method, outer.max_steps, outer.tol) == ("loss", "minimise", "lbfgs", 100, 1e-6)
    assert (outer.parameters, outer.step, outer.validation, outer.patience) == (None, None, None, None)
    assert dict(outer.bounds) == dict(outer.weights) == {}


def test_a_spec_without_it_has_none(tmp_path):
    (tmp_path / "s.yaml").write_text("problem: p\n")
    assert load_spec(tmp_path / "s.yaml").model.outer is None


FULL = """
objective: {x: [1, 2.5], y: t.h5:/y, z: {value: 3.0, unit: eV}}
weights: {x: [1, 0], y: 2.0}
parameters: [a, b]
bounds: {a: [null, 1], b: [-2.5, 3]}
method: adam
max_steps: 7
tol: 1e-3
step: 0.5
decay: 0.1
momentum: 0.0
validation: v
patience: 4
"""


def test_a_dump_is_a_valid_spec_again(load):
    outer = load(FULL)
    assert dict(outer.objective) == {"x": (1, 2.5), "y": "t.h5:/y", "z": {"value": 3.0, "unit": "eV"}}
    assert dict(outer.bounds) == {"a": (None, 1.0), "b": (-2.5, 3.0)}
    spec = RunSpec(problem="p", outer=outer)
    assert RunSpec.model_validate_json(spec.model_dump_json()) == spec
    assert spec.model_dump()["outer"]["bounds"] == {"a": [None, 1.0], "b": [-2.5, 3.0]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sense: minimise", "s.yaml:2:1: outer.objective: missing, allowed: the scalar output"),
        ("objective: 3", "3:14: outer.objective: found 3, allowed: the name of an output, or {QUANTITY: TARGET}"),
        ("objective: {}", "found an empty mapping, allowed: the name of an output"),
        ("objective: {x: yes}", "outer.objective.x: found 'yes', allowed: a number, a list of numbers, 'file.h5:/path'"),
        (
            "objective: x\nsense: minimize",
            "4:10: outer.sense: found 'minimize', allowed: 'maximise', 'minimise'; did you mean 'minimise'?",
        ),
        ("objective: {x: 1.0}\nsense: maximise", "outer.sense: found 'maximise' with targets, allowed: 'minimise'"),
        ("objective: x\nmethod: lbfg", "allowed: 'adam', 'gradient_descent', 'lbfgs'; did you mean 'lbfgs'?"),
        ("objective: x\nbounds: {a: 1.0}", "4:15: outer.bounds.a: found 1.0, allowed: [LOW, HIGH]"),
        ("objective: x\nbounds: {a: [1, 2, 3]}", "found a list of 3, allowed: [LOW, HIGH]"),
        ("objective: x\nbounds: {a: [2, 1]}", "found [2, 1], allowed: LOW below HIGH"),
        ("objective: x\nbounds: {a: [1, 1]}", "found [1, 1], allowed: LOW below HIGH"),
        ("objective: x\nbounds: {a: [low, 1]}", "4:16: outer.bounds.a.0: found 'low', allowed: a number, or null"),
        ("objective: x\nbounds: {a: [0, .inf]}", "outer.bounds.a.1: found an infinite number, allowed: a number, or null"),
        (
            "objective: x\nparameters: [b]\nbounds: {a: [0, 1]}",
            "5:15: outer.bounds.a: 'a' is not in outer.parameters, allowed: 'b'",
        ),
        ("objective: x\nweights: {x: 1}", "outer.weights.x: found with an output as the objective, allowed: with targets"),
        ("objective: {x: 1}\nweights: {xx: 1}", "outer.weights.xx: 'xx' has no target, allowed: 'x'; did you mean 'x'?"),
        ("objective: x\nstep: 0.1", "outer.step: found with method 'lbfgs', allowed with: 'adam', 'gradient_descent'"),
        ("objective: x\nmethod: adam\nstep: 0", "outer.step: found 0, allowed: above 0"),
        ("objective: x\nmethod: adam\nmomentum: 1.0", "outer.momentum: found 1.0, allowed: below 1"),
        ("objective: x\npatience: 3", "outer.patience: found without outer.validation"),
        ("objective: x\nvalidation: v\npatience: 0", "outer.patience: found 0, allowed: at least 1"),
        ("objective: x\nvalidate: v", "outer.validate: unknown key, allowed: "),
    ],
)
def test_a_fault_is_told_with_its_place(load, text, message):
    with pytest.raises(InputError) as error:
        load(text)
    (line,) = error.value.messages
    assert message in line
    assert line.startswith("s.yaml:")


def test_faults_are_told_together(load):
    with pytest.raises(InputError) as error:
        load("objective: {x: 1}\nsense: maximise\nstep: 1\npatience: 2\nweights: {y: 1}\n")
    assert len(error.value.messages) == 4
