"""The models themselves: frozen to the last list, and in step with what the rest of the house offers."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from implicit_cli.core.linear.policy import METHODS as LINEAR_METHODS
from implicit_cli.core.solvers.choice import METHODS as SOLVER_METHODS
from implicit_cli.core.transforms import TRANSFORMS as CORE_TRANSFORMS
from implicit_cli.problem import TRANSFORMS
from implicit_cli.spec import DirectionSpec, JacobianSpec, LinearSpec, RunSpec, SensitivitySpec, SolverSpec, load_spec, model
from implicit_cli.spec.compose import parse


def test_names_are_those_that_the_house_knows():
    assert set(get_args(model.Solver)) == {"auto", *SOLVER_METHODS}
    assert get_args(model.LinearSolver) == LINEAR_METHODS
    assert get_args(model.Transform) == TRANSFORMS
    assert set(get_args(model.Transform)) == set(CORE_TRANSFORMS)


def test_nothing_in_a_spec_can_be_changed():
    products = [{"jvp": {"up": {"a": [1, 2]}}}]
    spec = RunSpec.model_validate({"problem": "p", "data": {"X": [[1, 2]]}, "sensitivity": {"products": products}})
    with pytest.raises(ValidationError):
        spec.seed = 3
    with pytest.raises(TypeError):
        spec.data["X"] = 1
    with pytest.raises(TypeError):
        spec.data["X"][0] = 1
    direction = spec.sensitivity.products[0]
    with pytest.raises(AttributeError):
        direction.kind = "vjp"
    with pytest.raises(TypeError):
        direction.parts["a"] = 1
    with pytest.raises(TypeError):
        RunSpec(problem="p").parameters["a"] = 1


def test_what_is_given_may_change_afterwards():
    given = {"problem": "p", "data": {"X": [1, 2]}}
    spec = RunSpec.model_validate(given)
    given["data"]["X"].append(3)
    given["data"]["y"] = 1
    assert spec.data == {"X": (1, 2)}


def test_models_can_be_made_in_python():
    products = (JacobianSpec(), DirectionSpec("vjp", "first", {"w": 1.0}))
    spec = RunSpec(
        problem="p", solver=SolverSpec(name="fire"), sensitivity=SensitivitySpec(products=products, linear_solver=LinearSpec())
    )
    assert (spec.sensitivity.products, spec.sensitivity.linear_solver) == (products, LinearSpec(name="auto"))
    assert spec.model_dump()["sensitivity"]["products"] == ["jacobian", {"vjp": {"first": {"w": 1.0}}}]


def test_every_field_says_what_it_means():
    for kind in (RunSpec, SolverSpec, SensitivitySpec, LinearSpec):
        assert kind.__doc__
        for name, info in kind.model_fields.items():
            assert info.description, name


def test_importing_the_room_imports_neither_jax_nor_h5py():
    code = "import sys, implicit_cli.spec; print(sorted({'jax', 'jaxlib', 'h5py', 'scipy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


NUMBERS = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
NAMES = st.text("abc_é x", min_size=1, max_size=5)
REFERENCES = st.builds("{}.h5:/{}".format, NAMES, NAMES)
ARRAYS = st.recursive(NUMBERS, lambda inner: st.lists(inner, min_size=1, max_size=3), max_leaves=8)
VALUES = ARRAYS | REFERENCES | st.fixed_dictionaries({"value": ARRAYS | REFERENCES, "unit": NAMES})


def tables(values, **limits):
    return st.dictionaries(NAMES, values, max_size=3, **limits)


def optional(**fields):
    return st.fixed_dictionaries({}, optional=fields)


STEPS = st.integers(1, 2**63 - 1)
POSITIVE = st.floats(min_value=0, exclude_min=True, allow_infinity=False)
SOLVERS = st.sampled_from(["auto", "fire", "fixed_point", "lbfgs", "newton"])
LINEAR = st.sampled_from(["auto", "lu", "cholesky", "cg", "gmres", "bicgstab"])
DIRECTIONS = tables(tables(VALUES, min_size=1), min_size=1)
SPECS = st.fixed_dictionaries(
    {"problem": NAMES},
    optional={
        "options": tables(st.booleans() | NUMBERS | NAMES),
        "seed": st.integers(0, 2**63 - 1),
        "data": tables(VALUES),
        "parameters": tables(VALUES),
        "initial": tables(VALUES),
        "labels": tables(REFERENCES | st.lists(NAMES, min_size=1, max_size=3)),
        "transforms": tables(st.sampled_from(["identity", "log", "log10", "logit", "softplus"])),
        "solver": SOLVERS | optional(name=SOLVERS, tol=POSITIVE, max_steps=STEPS, polish=st.booleans()),
        "sensitivity": optional(
            of=st.lists(NAMES, min_size=1, unique=True),
            wrt=st.none() | st.lists(NAMES, min_size=1, unique=True),
            products=st.lists(
                st.sampled_from(["jacobian", "hessian"])
                | st.tuples(st.sampled_from(["jvp", "vjp", "hessian"]), DIRECTIONS).map(lambda item: dict([item])),
                max_size=3,
                unique_by=lambda item: item if isinstance(item, str) else tuple(item),
            ),
            method=st.sampled_from(["implicit", "unrolled", "finite_difference", "complex_step"]),
            mode=st.sampled_from(["auto", "forward", "adjoint"]),
            linear_solver=LINEAR | optional(name=LINEAR, tol=POSITIVE.filter(lambda tol: tol < 1), max_steps=st.none() | STEPS),
            accuracy=st.floats(0, 1, exclude_min=True),
        ),
    },
)


@given(SPECS)
def test_a_valid_spec_is_taken_and_its_dump_is_the_same_spec(tmp_path_factory, spec):
    model = RunSpec.model_validate(parse(json.dumps(spec), "s").value)
    dumped = model.model_dump_json()
    path = tmp_path_factory.mktemp("round") / "s.yaml"
    path.write_text(dumped, encoding="utf-8")
    again = load_spec(path).model
    assert again == model
    assert again.model_dump_json() == dumped
    # What was written is what is held: nothing is dropped, converted or reordered.
    for section in ("data", "parameters", "initial", "options", "labels", "transforms"):
        assert json.loads(dumped)[section] == spec.get(section, {})
