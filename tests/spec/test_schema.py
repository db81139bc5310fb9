"""The JSON Schema, held against the specs that `load_spec` takes and refuses."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from implicit_cli.errors import InputError
from implicit_cli.spec import RunSpec, json_schema
from implicit_cli.spec.compose import parse

TAKEN = [
    "problem: p",
    "{problem: p, solver: fire, seed: 3, options: {n: 3, box: fixed, exact: true}}",
    "{problem: p, solver: {name: lbfgs, tol: 1e-10, max_steps: 500, polish: true}}",
    "{problem: p, data: {X: d.h5:/X, y: [1, 2.5], M: [[1], [2]], k: {value: [1], unit: K}}, labels: {a: [x, y], b: d.h5:/b}}",
    "{problem: p, transforms: {a: log}, initial: {w: 0.0}, parameters: {a: 1}}",
    "{problem: p, sensitivity: {of: [w], wrt: null, products: [jacobian, {jvp: {u: {a: 1}}}, {vjp: {f: {w: [1, 0]}}}]}}",
    "{problem: p, sensitivity: {products: [hessian, {hessian: {u: {a: 1}}}], method: finite_difference}}",
    "{problem: p, sensitivity: {products: [], mode: auto, linear_solver: lu, accuracy: 1}}",
    "{problem: p, sensitivity: {linear_solver: {name: cg, tol: 1e-9, max_steps: null}}}",
    "{problem: p, structure: silicon.cif}",
    "{problem: p, structure: {lattice: hcp, a: 3, c: 4.7, repeat: [1, 2, 3], interstitials: [[0.5, 0, 1]], species: Ti}}",
    "{problem: p, structure: {file: a.h5, group: all, frame: 0, species: [A, B], substitute: {B: 3, C: [1, 2]}, vacancies: [0]}}",
    "{problem: p, structure: {random: {particles: 9, phi: 0.5, dimensions: 2, diameters: [1, 1.4], shares: [0.5, 0.5]}}}",
    "{problem: p, sweep: {over: {a: [1, [2, 3]], 'b[0]': d.h5:/b, c: d.csv:c, d: {linspace: [0, [1, 2], 3]}}, max_cases: 99}}",
    "{problem: p, sweep: {over: {a: {normal: [1]}, b: {normal: [1]}}, design: sobol, samples: 8, covariance: [[2, 1], [1, 2]]}}",
    "{problem: p, sweep: {over: {a: [1, 2]}, continue: arc}}",
    "{problem: p, sweep: {over: {a: {loguniform: [1, 2]}}, design: saltelli, samples: 8, second_order: true, seed: 3}}",
]
REFUSED = [
    "{}",
    "problem: 3",
    "problem: ''",
    "{problem: p, foo: 1}",
    "{problem: p, seed: -1}",
    "{problem: p, seed: 1.5}",
    "{problem: p, solver: lbfsg}",
    "{problem: p, solver: {tol: 0}}",
    "{problem: p, solver: {max_steps: true}}",
    "{problem: p, solver: {polish: 1}}",
    "{problem: p, data: {X: true}}",
    "{problem: p, data: {X: []}}",
    "{problem: p, data: {X: [1, x]}}",
    "{problem: p, data: {X: d.h5}}",
    "{problem: p, data: {X: 'd.h5://X'}}",
    "{problem: p, data: {X: {value: 1}}}",
    "{problem: p, labels: {a: [1]}}",
    "{problem: p, labels: {a: x}}",
    "{problem: p, transforms: {a: logg}}",
    "{problem: p, options: {n: [1]}}",
    "{problem: p, sensitivity: {of: []}}",
    "{problem: p, sensitivity: {of: [w, w]}}",
    "{problem: p, sensitivity: {products: [jvp]}}",
    "{problem: p, sensitivity: {products: [{jvp: {}}]}}",
    "{problem: p, sensitivity: {products: [{jvp: {u: {a: 1}}, vjp: {u: {a: 1}}}]}}",
    "{problem: p, sensitivity: {accuracy: 2}}",
    "{problem: p, sensitivity: {products: [{hessian: 1}]}}",
    "{problem: p, sensitivity: {method: adjoint}}",
    "{problem: p, structure: ''}",
    "{problem: p, structure: [a.cif]}",
    "{problem: p, structure: {lattice: cubic, a: 1}}",
    "{problem: p, structure: {lattice: fcc, a: 0}}",
    "{problem: p, structure: {lattice: fcc, a: 1, repeat: [2]}}",
    "{problem: p, structure: {lattice: fcc, a: 1, repeat: [2, 2, 0]}}",
    "{problem: p, structure: {lattice: fcc, a: 1, repeat: [2, 2, 2, 2]}}",
    "{problem: p, structure: {lattice: fcc, a: 1, vacancies: [1, 1]}}",
    "{problem: p, structure: {lattice: fcc, a: 1, vacancies: [-1]}}",
    "{problem: p, structure: {lattice: fcc, a: 1, substitute: {C: [x]}}}",
    "{problem: p, structure: {lattice: fcc, a: 1, interstitials: [[1]]}}",
    "{problem: p, structure: {file: a.cif, dimensions: 4}}",
    "{problem: p, structure: {file: a.cif, frame: -1}}",
    "{problem: p, structure: {random: {particles: 0, phi: 1}}}",
    "{problem: p, structure: {random: {particles: 5}}}",
    "{problem: p, structure: {random: {particles: 5, phi: 1, diameters: []}}}",
    "{problem: p, sweep: {}}",
    "{problem: p, sweep: {over: {}}}",
    "{problem: p, sweep: {over: {a: 3}}}",
    "{problem: p, sweep: {over: {a: []}}}",
    "{problem: p, sweep: {over: {a: [x]}}}",
    "{problem: p, sweep: {over: {a: d.h5}}}",
    "{problem: p, sweep: {over: {a: {linspce: [0, 1, 3]}}}}",
    "{problem: p, sweep: {over: {a: {linspace: [0, 1]}}}}",
    "{problem: p, sweep: {over: {a: {uniform: [0, 1], normal: [0, 1]}}}}",
    "{problem: p, sweep: {over: {a: [1]}, design: lattice}}",
    "{problem: p, sweep: {over: {a: [1]}, max_cases: 0}}",
    "{problem: p, sweep: {over: {a: [1, 2]}, continue: bow}}",
    "{problem: p, sweep: {over: {a: [1, 2]}, continuation: arc}}",
    "{problem: p, sweep: {over: {a: {uniform: [0, 1]}}, design: random, samples: 1.5}}",
]
TYPES: dict[str, Any] = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}


def fulfils(value: Any, schema: dict[str, Any], root: dict[str, Any]) -> bool:
    """A judge of its own for the words of JSON Schema that ours uses; it fails at any other word."""
    for word, rule in schema.items():
        match word:
            case "$schema" | "$defs" | "title" | "description" | "default" | "required" | "additionalProperties":
                holds = True
            case "$ref":
                holds = fulfils(value, root["$defs"][rule.removeprefix("#/$defs/")], root)
            case "anyOf":
                holds = any(fulfils(value, option, root) for option in rule)
            case "type" if rule in ("number", "integer"):
                holds = isinstance(value, (int, float) if rule == "number" else int) and not isinstance(value, bool)
            case "type":
                holds = isinstance(value, TYPES[rule])
            case "const":
                holds = value == rule
            case "enum":
                holds = value in rule
            case "pattern":
                holds = isinstance(value, str) and re.search(rule, value) is not None
            case "minimum":
                holds = value >= rule
            case "exclusiveMinimum":
                holds = value > rule
            case "maximum":
                holds = value <= rule
            case "exclusiveMaximum":
                holds = value < rule
            case "minLength" | "minItems" | "minProperties":
                holds = len(value) >= rule
            case "maxItems":
                holds = len(value) <= rule
            case "uniqueItems":
                holds = len(value) == len(set(value))
            case "items":
                holds = all(fulfils(item, rule, root) for item in value)
            case "properties":
                holds = all(fulfils(value[name], part, root) for name, part in rule.items() if name in value)
            case _:
                raise AssertionError(word)
        if not holds:
            return False
        if word == "type" and rule == "object":
            known, more = schema.get("properties", {}), schema.get("additionalProperties", True)
            others = [part for name, part in value.items() if name not in known]
            if (more is False and others) or (isinstance(more, dict) and not all(fulfils(part, more, root) for part in others)):
                return False
            if any(name not in value for name in schema.get("required", ())):
                return False
    return True


def ordered(schema: Any) -> Any:
    """`type` first, so that the judge compares numbers with numbers only."""
    if isinstance(schema, dict):
        return {key: ordered(schema[key]) for key in sorted(schema, key=lambda key: key != "type")}
    return [ordered(item) for item in schema] if isinstance(schema, list) else schema


@pytest.mark.parametrize("text", TAKEN)
def test_what_is_taken_fulfils_the_schema(text):
    value = parse(text, "s").value
    RunSpec.model_validate(value)
    schema = ordered(json_schema())
    assert fulfils(value, schema, schema)


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_refused_does_not(faults, text):
    value = parse(text, "s").value
    schema = ordered(json_schema())
    assert not fulfils(value, schema, schema)
    assert faults(text)


def test_a_dump_with_all_defaults_fulfils_the_schema():
    schema = ordered(json_schema())
    assert fulfils(RunSpec(problem="p").model_dump(), schema, schema)


def test_defaults_in_the_schema_are_those_of_the_models():
    schema, dump = json_schema(), RunSpec(problem="p").model_dump()
    solver = schema["$defs"]["SolverSpec"]["anyOf"][1]["properties"]
    linear = schema["$defs"]["LinearSpec"]["anyOf"][1]["properties"]
    sensitivity = schema["$defs"]["SensitivitySpec"]["properties"]
    assert {name: part["default"] for name, part in solver.items()} == dump["solver"]
    assert {name: part["default"] for name, part in linear.items()} == dump["sensitivity"]["linear_solver"]
    assert sensitivity["products"]["default"] == ["jacobian"]
    for name in ("of", "wrt", "mode", "accuracy"):
        assert sensitivity[name]["default"] == dump["sensitivity"][name]


def test_head_and_descriptions():
    schema = json_schema()
    assert list(schema)[:3] == ["$schema", "title", "description"]
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert set(schema["properties"]) == set(RunSpec.model_fields)
    assert all(part["description"] for part in schema["properties"].values())


def test_the_module_prints_the_schema_and_nothing_else():
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "implicit_cli.spec.schema"], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == json_schema()
    assert (done.stderr, done.stdout[-2:]) == ("", "}\n")


def test_the_committed_copy_is_fresh():
    copy = Path(__file__).resolve().parents[2] / "docs" / "spec.schema.json"
    assert copy.read_text() == json.dumps(json_schema(), indent=2) + "\n", (
        "python -m implicit_cli.spec.schema > docs/spec.schema.json"
    )


def test_the_judge_sees_a_fault():
    with pytest.raises(AssertionError):
        fulfils(1, {"multipleOf": 2}, {})
    with pytest.raises(InputError):
        parse("a: 1\na: 2", "s")
