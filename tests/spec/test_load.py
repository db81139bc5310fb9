"""What a spec may say, and what `load_spec` answers where it says something else.

Each block is a spec and, after `!`, every line that `implicit` answers with.
"""

# ruff: noqa: E501

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from implicit_cli.errors import EnvironmentProblem, InputError
from implicit_cli.spec import DirectionSpec, JacobianSpec, load_spec
from implicit_cli.spec.load import _messages
from implicit_cli.spec.model import RunSpec
from implicit_cli.spec.source import Tree

REFUSED = r"""
seed: 1
! s.yaml:1:1: problem: missing, allowed: name of an installed problem, or './file.py:Class' relative to the spec

problem: ''
! s.yaml:1:1: problem: found '', allowed: a text that is not empty

problem: 3
! s.yaml:1:10: problem: found 3, allowed: a text

problem:
! s.yaml:1:1: problem: found nothing, allowed: a text

problem: p
solvr: lbfgs
! s.yaml:2:1: solvr: unknown key, allowed: 'data', 'formulas', 'initial', 'labels', 'options', 'outer', 'parameters', 'precision', 'problem', 'refine', 'seed', 'sensitivity', 'solver', 'structure', 'sweep', 'transforms'; did you mean 'solver'?

problem: p
tol: 1e-3
! s.yaml:2:1: tol: unknown key, allowed: 'data', 'formulas', 'initial', 'labels', 'options', 'outer', 'parameters', 'precision', 'problem', 'refine', 'seed', 'sensitivity', 'solver', 'structure', 'sweep', 'transforms'; it belongs under solver or sensitivity.linear_solver or outer

problem: p
accuracy: 1e-3
! s.yaml:2:1: accuracy: unknown key, allowed: 'data', 'formulas', 'initial', 'labels', 'options', 'outer', 'parameters', 'precision', 'problem', 'refine', 'seed', 'sensitivity', 'solver', 'structure', 'sweep', 'transforms'; it belongs under sensitivity

problem: p
swep: {}
! s.yaml:2:1: swep: unknown key, allowed: 'data', 'formulas', 'initial', 'labels', 'options', 'outer', 'parameters', 'precision', 'problem', 'refine', 'seed', 'sensitivity', 'solver', 'structure', 'sweep', 'transforms'; did you mean 'sweep'?

problem: p
sweep: {}
! s.yaml:2:8: sweep.over: missing, allowed: {TARGET: AXIS}; a target is NAME, NAME[i] or NAME[i, j]: a parameter, data or an unknown's initial guess, or one entry of it, or `seed`; the last one varies fastest in a grid

problem: p
solver: lbfsg
! s.yaml:2:9: solver.name: found 'lbfsg', allowed: 'accelerated_proximal_gradient', 'anderson', 'auto', 'bfgs', 'bisection', 'block_coordinate_descent', 'broyden', 'clarabel', 'dogleg', 'fire', 'fixed_point', 'gauss_newton', 'gradient_descent', 'lbfgs', 'lbfgsb', 'levenberg_marquardt', 'mirror_descent', 'newton', 'newton_cg', 'nonlinear_cg', 'projected_gradient', 'proximal_gradient', 'qp', 'slsqp', 'trust_constr'; did you mean 'lbfgs'?

problem: p
solver: {name: lbfgs, tolerance: 1}
! s.yaml:2:23: solver.tolerance: unknown key, allowed: 'max_steps', 'name', 'polish', 'tol'

problem: p
solver: {name: lbfgs, max_step: 1}
! s.yaml:2:23: solver.max_step: unknown key, allowed: 'max_steps', 'name', 'polish', 'tol'; did you mean 'max_steps'?

problem: p
solver: {tol: -1}
! s.yaml:2:15: solver.tol: found -1, allowed: above 0

problem: p
solver: {tol: 0}
! s.yaml:2:15: solver.tol: found 0, allowed: above 0

problem: p
solver: {tol: .nan}
! s.yaml:2:15: solver.tol: found NaN, allowed: a finite number

problem: p
solver: {tol: .inf}
! s.yaml:2:15: solver.tol: found an infinite number, allowed: a finite number

problem: p
solver: {tol: true}
! s.yaml:2:15: solver.tol: found true, allowed: a number

problem: p
solver: {tol: '1e-3'}
! s.yaml:2:15: solver.tol: found '1e-3', allowed: a number; did you mean the number 0.001?

problem: p
solver: {max_steps: 1e4}
! s.yaml:2:21: solver.max_steps: found 10000.0, allowed: an integer; did you mean 10000?

problem: p
solver: {max_steps: 1.5}
! s.yaml:2:21: solver.max_steps: found 1.5, allowed: an integer

problem: p
solver: {max_steps: 0}
! s.yaml:2:21: solver.max_steps: found 0, allowed: at least 1

problem: p
solver: {max_steps: true}
! s.yaml:2:21: solver.max_steps: found true, allowed: an integer

problem: p
solver: {polish: no}
! s.yaml:2:18: solver.polish: found 'no', allowed: true or false; did you mean false?

problem: p
solver: {polish: 1}
! s.yaml:2:18: solver.polish: found 1, allowed: true or false

problem: p
solver: [lbfgs]
! s.yaml:2:9: solver: found a list of 1, allowed: a mapping with the keys 'max_steps', 'name', 'polish', 'tol'

problem: p
solver:
! s.yaml:2:1: solver: found nothing, allowed: a mapping with the keys 'max_steps', 'name', 'polish', 'tol'

problem: p
seed: -1
! s.yaml:2:7: seed: found -1, allowed: at least 0

problem: p
seed: 0.5
! s.yaml:2:7: seed: found 0.5, allowed: an integer

problem: p
seed: '7'
! s.yaml:2:7: seed: found '7', allowed: an integer; did you mean the number 7?

problem: p
seed: [1]
! s.yaml:2:7: seed: found a list of 1, allowed: an integer

problem: p
options: [1]
! s.yaml:2:10: options: found a list of 1, allowed: a mapping of names to values

problem: p
options: {n: [1]}
! s.yaml:2:14: options.n: found a list of 1, allowed: true or false, a finite number, or a text

problem: p
options: {n: .nan}
! s.yaml:2:14: options.n: found NaN, allowed: true or false, a finite number, or a text

problem: p
options: {n: null}
! s.yaml:2:14: options.n: found nothing, allowed: true or false, a finite number, or a text

problem: p
data:
! s.yaml:2:1: data: found nothing, allowed: a mapping of names to values

problem: p
data: x.h5:/X
! s.yaml:2:7: data: found 'x.h5:/X', allowed: a mapping of names to values

problem: p
data: {X: true}
! s.yaml:2:11: data.X: found true, allowed: a number, a list of numbers, 'file.h5:/path', or {value: ..., unit: ...}

problem: p
data: {X: }
! s.yaml:2:8: data.X: found nothing, allowed: a number, a list of numbers, 'file.h5:/path', or {value: ..., unit: ...}

problem: p
data: {X: hello}
! s.yaml:2:11: data.X: found 'hello', allowed: a number, a list of numbers, 'file.h5:/path', or {value: ..., unit: ...}

problem: p
data: {X: '0.1'}
! s.yaml:2:11: data.X: found '0.1', allowed: a number, a list of numbers, 'file.h5:/path', or {value: ..., unit: ...}; did you mean the number 0.1?

problem: p
data: {X: d.h5}
! s.yaml:2:11: data.X: found 'd.h5', allowed: a number, a list of numbers, 'file.h5:/path', or {value: ..., unit: ...}; did you mean 'd.h5:/PATH'?

problem: p
data: {X: 'd.h5:X'}
! s.yaml:2:11: data.X: found 'd.h5:X', allowed: a number, a list of numbers, 'file.h5:/path', or {value: ..., unit: ...}; did you mean 'd.h5:/X'?

problem: p
data: {X: []}
! s.yaml:2:11: data.X: found an empty list, allowed: a number, a list of numbers, 'file.h5:/path', or {value: ..., unit: ...}

problem: p
data: {X: [1, two]}
! s.yaml:2:15: data.X.1: found 'two', allowed: a number or a list of numbers

problem: p
data: {X: [[1, 2], [3, true]]}
! s.yaml:2:24: data.X.1.1: found true, allowed: a number or a list of numbers

problem: p
data: {X: [1, []]}
! s.yaml:2:15: data.X.1: found an empty list, allowed: a number or a list of numbers

problem: p
data:
  X:
    - 1
    - {a: 1}
! s.yaml:5:7: data.X.1: found a mapping, allowed: a number or a list of numbers

problem: p
data: {X: {value: 1}}
! s.yaml:2:11: data.X: 'unit' is missing, allowed: {value: ..., unit: ...}

problem: p
data: {X: {unit: K}}
! s.yaml:2:11: data.X: 'value' is missing, allowed: {value: ..., unit: ...}

problem: p
data: {X: {value: 1, unit: 1}}
! s.yaml:2:28: data.X.unit: found 1, allowed: the symbol of a unit, '1' where there is none; did you mean '1', in quotes?

problem: p
data: {X: {value: 1, units: K}}
! s.yaml:2:11: data.X: 'unit' is missing, allowed: {value: ..., unit: ...}
! s.yaml:2:22: data.X.units: unknown key, allowed: 'unit', 'value'; did you mean 'unit'?

problem: p
data: {X: {value: {value: 1, unit: K}, unit: K}}
! s.yaml:2:19: data.X.value: found a mapping, allowed: a number, a list of numbers, or 'file.h5:/path'

problem: p
data: {X: {}}
! s.yaml:2:11: data.X: 'value' is missing, allowed: {value: ..., unit: ...}
! s.yaml:2:11: data.X: 'unit' is missing, allowed: {value: ..., unit: ...}

problem: p
labels: {f: [a, 1]}
! s.yaml:2:17: labels.f.1: found 1, allowed: a text; did you mean '1', in quotes?

problem: p
labels: {f: [a, no, true]}
! s.yaml:2:21: labels.f.2: found true, allowed: a text; did you mean 'true', in quotes?

problem: p
labels: {f: []}
! s.yaml:2:13: labels.f: found an empty list, allowed: a list of texts, or 'file.h5:/path'

problem: p
labels: {f: a}
! s.yaml:2:13: labels.f: found 'a', allowed: a list of texts, or 'file.h5:/path'

problem: p
labels: {f: 3}
! s.yaml:2:13: labels.f: found 3, allowed: a list of texts, or 'file.h5:/path'

problem: p
transforms: {a: logg}
! s.yaml:2:17: transforms.a: found 'logg', allowed: 'identity', 'log', 'log10', 'logit', 'softplus'; did you mean 'log'?

problem: p
transforms: {a: 3}
! s.yaml:2:17: transforms.a: found 3, allowed: 'identity', 'log', 'log10', 'logit', 'softplus'

problem: p
transforms: log
! s.yaml:2:13: transforms: found 'log', allowed: a mapping of names to values

problem: p
sensitivity: {of: w}
! s.yaml:2:19: sensitivity.of: found 'w', allowed: a list of names; did you mean [w]?

problem: p
sensitivity: {of: []}
! s.yaml:2:19: sensitivity.of: found an empty list, allowed: a list of names; leave the key out for all

problem: p
sensitivity: {of: [w, w]}
! s.yaml:2:23: sensitivity.of.1: found 'w' twice

problem: p
sensitivity: {of: [1]}
! s.yaml:2:20: sensitivity.of.0: found 1, allowed: a text

problem: p
sensitivity: {wrt: {a: 1}}
! s.yaml:2:20: sensitivity.wrt: found a mapping, allowed: a list of names; leave the key out for all

problem: p
sensitivity: {products: jacobian}
! s.yaml:2:25: sensitivity.products: found 'jacobian', allowed: a list of 'jacobian', 'hessian', {jvp: ...}, {vjp: ...} or {hessian: ...}; did you mean [jacobian]?

problem: p
sensitivity: {products: [jacobain]}
! s.yaml:2:26: sensitivity.products.0: found 'jacobain', allowed: 'jacobian', 'hessian', {jvp: ...}, {vjp: ...} or {hessian: ...}; did you mean 'jacobian'?

problem: p
sensitivity: {products: [jvp]}
! s.yaml:2:26: sensitivity.products.0: found 'jvp', allowed: 'jacobian', 'hessian', {jvp: ...}, {vjp: ...} or {hessian: ...}; did you mean {jvp: {NAME: {QUANTITY: VALUE}}}?

problem: p
sensitivity: {products: [jacobian, jacobian]}
! s.yaml:2:36: sensitivity.products.1: found jacobian twice

problem: p
sensitivity: {products: [{jvp: {a: 1}}]}
! s.yaml:2:36: sensitivity.products.0.jvp.a: found 1, allowed: {QUANTITY: VALUE}; did you mean {NAME: {a: ...}}?

problem: p
sensitivity: {products: [{jvp: {}}]}
! s.yaml:2:32: sensitivity.products.0.jvp: found an empty mapping, allowed: {NAME: {QUANTITY: VALUE}}

problem: p
sensitivity: {products: [{jvp: {a: {}}}]}
! s.yaml:2:36: sensitivity.products.0.jvp.a: found an empty mapping, allowed: {QUANTITY: VALUE}

problem: p
sensitivity: {products: [{jpv: {a: {b: 1}}}]}
! s.yaml:2:27: sensitivity.products.0.jpv: unknown key, allowed: 'hessian', 'jvp', 'vjp'

problem: p
sensitivity: {products: [{jvp: {a: {b: x}}}, {vjp: {c: {d: true}}}]}
! s.yaml:2:40: sensitivity.products.0.jvp.a.b: found 'x', allowed: a number, a list of numbers, 'file.h5:/path', or {value: ..., unit: ...}
! s.yaml:2:60: sensitivity.products.1.vjp.c.d: found true, allowed: a number, a list of numbers, 'file.h5:/path', or {value: ..., unit: ...}

problem: p
sensitivity: {products: [{jvp: {a: {b: 1}}}, {jvp: {a: {b: 1}}}]}
! s.yaml:2:56: sensitivity.products.1.jvp.a: found jvp 'a' twice

problem: p
sensitivity: {products: [{jvp: {a: {b: 1}}, vjp: {a: {b: 1}}}]}
! s.yaml:2:26: sensitivity.products.0: found a mapping with 2 keys, allowed: one of 'jacobian', 'hessian', {jvp: ...}, {vjp: ...} or {hessian: ...} in each entry of the list

problem: p
sensitivity: {products: [3, null, hesian]}
! s.yaml:2:26: sensitivity.products.0: found 3, allowed: 'jacobian', 'hessian', {jvp: ...}, {vjp: ...} or {hessian: ...}
! s.yaml:2:29: sensitivity.products.1: found nothing, allowed: 'jacobian', 'hessian', {jvp: ...}, {vjp: ...} or {hessian: ...}
! s.yaml:2:35: sensitivity.products.2: found 'hesian', allowed: 'jacobian', 'hessian', {jvp: ...}, {vjp: ...} or {hessian: ...}; did you mean 'hessian'?

problem: p
sensitivity: {products: [hessian, {hessian: {a: {b: 1}}}, hessian]}
! s.yaml:2:59: sensitivity.products.2: found hessian twice

problem: p
sensitivity: {products: hessian}
! s.yaml:2:25: sensitivity.products: found 'hessian', allowed: a list of 'jacobian', 'hessian', {jvp: ...}, {vjp: ...} or {hessian: ...}; did you mean [hessian]?

problem: p
sensitivity: {method: unroled}
! s.yaml:2:23: sensitivity.method: found 'unroled', allowed: 'complex_step', 'finite_difference', 'implicit', 'unrolled'; did you mean 'unrolled'?

problem: p
sensitivity: {products: [{jvp: {'': {b: 1}}}]}
! s.yaml:2:37: sensitivity.products.0.jvp.'': found an empty name, allowed: a text

problem: p
sensitivity: {mode: reverse}
! s.yaml:2:21: sensitivity.mode: found 'reverse', allowed: 'adjoint', 'auto', 'forward'

problem: p
sensitivity: {linear_solver: gmress}
! s.yaml:2:30: sensitivity.linear_solver.name: found 'gmress', allowed: 'auto', 'bicgstab', 'cg', 'cholesky', 'gmres', 'lsmr', 'lu', 'minres', 'qr', 'sparse_cholesky', 'sparse_lu', 'svd'; did you mean 'gmres'?

problem: p
sensitivity: {linear_solver: {name: cg, tol: 2}}
! s.yaml:2:46: sensitivity.linear_solver.tol: found 2, allowed: below 1

problem: p
sensitivity: {linear_solver: {steps: 2}}
! s.yaml:2:31: sensitivity.linear_solver.steps: unknown key, allowed: 'block', 'escalate', 'max_steps', 'name', 'preconditioner', 'ridge', 'tol'; did you mean 'max_steps'?

problem: p
sensitivity: {accuracy: 2}
! s.yaml:2:25: sensitivity.accuracy: found 2, allowed: at most 1

problem: p
sensitivity: {accuracy: 0}
! s.yaml:2:25: sensitivity.accuracy: found 0, allowed: above 0

problem: p
sensitivity: {tol: 2}
! s.yaml:2:15: sensitivity.tol: unknown key, allowed: 'accuracy', 'corrected', 'linear_solver', 'memory', 'method', 'mode', 'of', 'one_sided', 'products', 'wrt'; it belongs under solver or sensitivity.linear_solver or outer

problem: p
sensitivity: jacobian
! s.yaml:2:14: sensitivity: found 'jacobian', allowed: a mapping with the keys 'accuracy', 'corrected', 'linear_solver', 'memory', 'method', 'mode', 'of', 'one_sided', 'products', 'wrt'

solver: {tol: -1, polish: yes}
seed: x
foo: 1
! s.yaml:1:1: problem: missing, allowed: name of an installed problem, or './file.py:Class' relative to the spec
! s.yaml:1:15: solver.tol: found -1, allowed: above 0
! s.yaml:1:27: solver.polish: found 'yes', allowed: true or false; did you mean true?
! s.yaml:2:7: seed: found 'x', allowed: an integer
! s.yaml:3:1: foo: unknown key, allowed: 'data', 'formulas', 'initial', 'labels', 'options', 'outer', 'parameters', 'precision', 'problem', 'refine', 'seed', 'sensitivity', 'solver', 'structure', 'sweep', 'transforms'

problem: p
"a\nb": 1
! s.yaml:2:1: a\nb: unknown key, allowed: 'data', 'formulas', 'initial', 'labels', 'options', 'outer', 'parameters', 'precision', 'problem', 'refine', 'seed', 'sensitivity', 'solver', 'structure', 'sweep', 'transforms'

problem: p
sensitivity: {of: null, wrt: [a, 2, a]}
! s.yaml:2:34: sensitivity.wrt.1: found 2, allowed: a text
! s.yaml:2:37: sensitivity.wrt.2: found 'a' twice

problem: p
sensitivity: {linear_solver: {max_steps: 0}}
! s.yaml:2:42: sensitivity.linear_solver.max_steps: found 0, allowed: at least 1

problem: p
solver: {tol: -.inf}
! s.yaml:2:15: solver.tol: found a negative infinite number, allowed: a finite number

problem: p
data: {X: 1_000}
! s.yaml:2:11: data.X: found '1_000', allowed: a number, a list of numbers, 'file.h5:/path', or {value: ..., unit: ...}; did you mean the number 1000.0?

problem: p
data: {X: 'https://host/a'}
! s.yaml:2:11: data.X: found 'https://host/a', allowed: a number, a list of numbers, 'file.h5:/path', or {value: ..., unit: ...}

problem: p
options: {n: 2020-01-01, m: [x]}
! s.yaml:2:29: options.m: found a list of 1, allowed: true or false, a finite number, or a text

problem: p
sensitivity: {products: [{}]}
! s.yaml:2:26: sensitivity.products.0: found an empty mapping, allowed: 'jacobian', 'hessian', {jvp: ...}, {vjp: ...} or {hessian: ...}

problem: p
solver: {polish: flase}
! s.yaml:2:18: solver.polish: found 'flase', allowed: true or false; did you mean 'false'?

problem: p
sensitivity:
! s.yaml:2:1: sensitivity: found nothing, allowed: a mapping with the keys 'accuracy', 'corrected', 'linear_solver', 'memory', 'method', 'mode', 'of', 'one_sided', 'products', 'wrt'
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


def test_all_faults_of_a_spec_are_told_together_in_the_order_of_the_text_and_those_of_overrides_last(faults):
    text = "seed: x\nproblem: p\nfoo: 1\nsolver:\n  tol: -1\nparameters: {a: {value: [1, b], unti: K}}\n"
    assert faults(text, "sensitivity.mode=sideways") == [
        "s.yaml:1:7: seed: found 'x', allowed: an integer",
        "s.yaml:3:1: foo: unknown key, allowed: 'data', 'formulas', 'initial', 'labels', 'options', 'outer', 'parameters', 'precision', 'problem', 'refine', 'seed', 'sensitivity', 'solver', 'structure', 'sweep', 'transforms'",
        "s.yaml:5:8: solver.tol: found -1, allowed: above 0",
        "s.yaml:6:17: parameters.a: 'unit' is missing, allowed: {value: ..., unit: ...}",
        "s.yaml:6:29: parameters.a.value.1: found 'b', allowed: a number or a list of numbers",
        "s.yaml:6:33: parameters.a.unti: unknown key, allowed: 'unit', 'value'; did you mean 'unit'?",
        "--set sensitivity.mode: found 'sideways', allowed: 'adjoint', 'auto', 'forward'",
    ]


FULL = """\
problem: ridge
options: {n: 128, box: fixed, exact: true, cut: 2.5}
seed: 7
data: {X: diabetes.h5:/X, y: [1, 2.5], M: [[1, 2], [3, 4]], k: {value: d.h5:/k, unit: N/m}}
parameters: {penalty: 0.1}
initial: {w: 0.0}
labels: {feature: diabetes.h5:/feature, sample: [a, b]}
transforms: {penalty: log}
solver: {name: lbfgs, tol: 1e-10, max_steps: 500, polish: false}
sensitivity:
  of: [w, validation_loss]
  wrt: [penalty]
  products:
    - jacobian
    - jvp: {all_up: {penalty: 1.0}, second: {penalty: d.h5:/v}}
    - vjp: {first: {w: [1, 0, 0]}}
  mode: adjoint
  linear_solver: {name: gmres, tol: 1e-12, max_steps: 50}
  accuracy: 1e-8
"""


def test_a_full_spec(load, folder):
    loaded = load(FULL)
    model = loaded.model
    assert (loaded.text, loaded.path, loaded.folder, loaded.overrides) == (FULL, Path("s.yaml"), folder, ())
    assert (model.problem, model.seed) == ("ridge", 7)
    assert model.options == {"n": 128, "box": "fixed", "exact": True, "cut": 2.5}
    assert [type(value) for value in model.options.values()] == [int, str, bool, float]
    assert model.data["M"] == ((1, 2), (3, 4))
    assert model.data["k"] == {"value": "d.h5:/k", "unit": "N/m"}
    assert model.labels == {"feature": "diabetes.h5:/feature", "sample": ("a", "b")}
    assert model.transforms == {"penalty": "log"}
    assert (model.solver.name, model.solver.tol, model.solver.max_steps, model.solver.polish) == ("lbfgs", 1e-10, 500, False)
    sensitivity = model.sensitivity
    assert (sensitivity.of, sensitivity.wrt, sensitivity.mode) == (("w", "validation_loss"), ("penalty",), "adjoint")
    assert sensitivity.products == (
        JacobianSpec(),
        DirectionSpec("jvp", "all_up", {"penalty": 1.0}),
        DirectionSpec("jvp", "second", {"penalty": "d.h5:/v"}),
        DirectionSpec("vjp", "first", {"w": (1, 0, 0)}),
    )
    linear = sensitivity.linear_solver
    assert (linear.name, linear.tol, linear.max_steps, sensitivity.accuracy) == ("gmres", 1e-12, 50, 1e-8)


def test_the_shortest_spec_has_the_defaults(load):
    model = load("problem: p\n").model
    assert model.model_dump() == {
        "problem": "p",
        "options": {},
        "formulas": None,
        "seed": 0,
        "structure": None,
        "data": {},
        "parameters": {},
        "initial": {},
        "labels": {},
        "transforms": {},
        "precision": "float64",
        "refine": False,
        "solver": {"name": "auto", "tol": None, "max_steps": 10_000, "polish": True},
        "sensitivity": {
            "of": None,
            "wrt": None,
            "products": ["jacobian"],
            "method": "implicit",
            "mode": "auto",
            "linear_solver": {
                "name": "auto",
                "tol": 1e-10,
                "max_steps": None,
                "escalate": True,
                "preconditioner": "auto",
                "block": 1,
                "ridge": 0.0,
            },
            "accuracy": None,
            "one_sided": False,
            "corrected": False,
            "memory": 2**30,
        },
        "outer": None,
        "sweep": None,
    }


def test_a_bare_string_is_the_name(load):
    model = load("problem: p\nsolver: fire\nsensitivity: {linear_solver: lu}\n").model
    assert (model.solver.name, model.sensitivity.linear_solver.name) == ("fire", "lu")


def test_at(load):
    loaded = load(FULL)
    assert loaded.at() == "s.yaml:1:1"
    assert loaded.at("parameters", "penalty") == "s.yaml:5:23: parameters.penalty"
    assert loaded.at("data", "M", 1, 0) == "s.yaml:4:53: data.M.1.0"
    assert loaded.at("sensitivity") == "s.yaml:10:1: sensitivity"
    # What is not there is shown by what is around it.
    assert loaded.at("parameters", "other") == "s.yaml:5:13: parameters.other"
    assert loaded.at("nothing", "here") == "s.yaml:1:1: nothing.here"


def test_at_counts_products_as_the_model_does(load):
    """Two directions in one entry of the list are two products, and every later product keeps its own place."""
    loaded = load(FULL)
    assert loaded.at("sensitivity", "products", 0) == "s.yaml:14:7: sensitivity.products.0"
    assert (
        loaded.at("sensitivity", "products", 1, "jvp", "all_up", "penalty")
        == "s.yaml:15:31: sensitivity.products.1.jvp.all_up.penalty"
    )
    assert (
        loaded.at("sensitivity", "products", 2, "jvp", "second", "penalty")
        == "s.yaml:15:55: sensitivity.products.1.jvp.second.penalty"
    )
    assert loaded.at("sensitivity", "products", 3, "vjp", "first", "w") == "s.yaml:16:24: sensitivity.products.2.vjp.first.w"


def test_a_mapping_that_names_itself_in_a_shorthand_is_shown_at_the_shorthand(load):
    assert load("problem: p\nsolver: fire\n").at("solver", "name") == "s.yaml:2:9: solver.name"


def test_standard_input(folder, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"problem: p\nparameters: {a: 1}\n")))
    loaded = load_spec("-", ["seed=3"])
    assert (loaded.path, loaded.folder, loaded.model.seed, loaded.overrides) == (None, folder, 3, ("seed=3",))
    assert loaded.at("parameters", "a") == "<stdin>:2:17: parameters.a"


def test_the_folder_is_that_of_the_spec_and_stays_when_the_working_folder_changes(folder, monkeypatch):
    (folder / "below").mkdir()
    (folder / "below" / "s.yaml").write_text("problem: p\n")
    loaded = load_spec("below/s.yaml")
    monkeypatch.chdir("/")
    assert loaded.folder == folder / "below"
    assert loaded.at("problem") == "below/s.yaml:1:10: problem"


def test_a_spec_behind_a_link_reads_beside_the_link(folder):
    (folder / "real").mkdir()
    (folder / "real" / "s.yaml").write_text("problem: p\n")
    (folder / "link.yaml").symlink_to("real/s.yaml")
    assert load_spec(Path("link.yaml")).folder == folder


NUMBERS = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)


def optional(**fields):
    return st.fixed_dictionaries({}, optional=fields)


JUNK = st.recursive(
    st.none()
    | st.booleans()
    | NUMBERS
    | st.sampled_from([float("nan"), float("inf")])
    | st.sampled_from(["", "no", "lbfgs", "jvp", "d.h5:/X", "1e3", "d.h5"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["name", "tol", "value", "unit", "jvp", "of", "max_steps", "polish", "a"]), inner, max_size=3
        )
    ),
    max_leaves=6,
)
SENSITIVITY = optional(**dict.fromkeys(("of", "wrt", "products", "method", "mode", "linear_solver", "accuracy", "x"), JUNK))
WRONG = optional(**{key: JUNK for key in RunSpec.model_fields if key != "sensitivity"}, sensitivity=JUNK | SENSITIVITY, y=JUNK)


@given(WRONG)
def test_every_fault_has_words_of_ours(spec):
    try:
        RunSpec.model_validate(spec)
    except ValidationError as error:
        messages = _messages(Tree("s.yaml", spec), error)
        assert messages
        for message in messages:
            assert message.startswith("s.yaml:1:1: ")
            assert message.isprintable()
            assert not any(word in message.lower() for word in ("pydantic", "input should", "https://", "valid ", "extra inputs"))


@given(st.text(max_size=80) | st.text("problem: sdta\n{}[]-'\"0.1", max_size=80))
def test_random_text_never_gives_anything_but_an_input_error(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("random") / "s.yaml"
    path.write_bytes(text.encode("utf-8", errors="surrogatepass"))
    messages: tuple[str, ...] = ()
    try:
        load_spec(path)
    except InputError as refusal:
        messages = refusal.messages
    assert all(message.startswith(str(path)) and message.isprintable() for message in messages)


@given(st.binary(max_size=80))
def test_random_bytes_neither(tmp_path_factory, raw):
    path = tmp_path_factory.mktemp("random") / "s.yaml"
    path.write_bytes(raw)
    messages: tuple[str, ...] = ()
    try:
        load_spec(path)
    except InputError as refusal:
        messages = refusal.messages
    assert all(message.startswith(str(path)) and message.isprintable() for message in messages)


def test_what_the_system_refuses_is_no_fault_of_the_spec(folder, monkeypatch):
    (folder / "s.yaml").write_text("problem: p\n")

    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(EnvironmentProblem, match=r"^s\.yaml: cannot read the file: Permission denied$"):
        load_spec("s.yaml")
