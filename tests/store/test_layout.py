import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from implicit_cli.problem import TRANSFORMS
from implicit_cli.result import Bound, Certificate, Variable
from implicit_cli.status import Status
from implicit_cli.store import layout


@given(st.text(min_size=1))
def test_any_name_becomes_one_component_and_comes_back(name):
    part = layout.component(name)
    assert "/" not in part
    assert "\0" not in part
    assert part not in (".", "..")
    assert layout.original(part) == name


@given(st.text(min_size=1), st.text(min_size=1))
def test_different_names_stay_different(one, other):
    assert (layout.component(one) == layout.component(other)) == (one == other)


def test_ordinary_names_are_left_alone():
    for name in ("w", "all_up", "step 1.5", "größe"):
        assert layout.component(name) == name


def test_a_quantity_called_direction_does_not_meet_the_group_of_directions():
    value = layout.value_path("jvp", "up", "direction", "")
    assert value != "jvp/up/direction"
    assert layout.original(value.rpartition("/")[2]) == "direction"
    assert layout.direction_path("jvp", "up", "penalty") == "jvp/up/direction/penalty"


@pytest.mark.parametrize(
    ("kind", "name", "of", "wrt", "value", "bound"),
    [
        ("jacobian", "", "w", "penalty", "sensitivity/w/penalty", "certificate/jacobian/w/penalty"),
        ("jvp", "up", "w", "", "jvp/up/w", "certificate/jvp/up/w"),
        ("vjp", "first", "", "penalty", "vjp/first/penalty", "certificate/vjp/first/penalty"),
    ],
)
def test_where_a_product_is(kind, name, of, wrt, value, bound):
    assert layout.value_path(kind, name, of, wrt) == value
    assert layout.bound_path(kind, name, of, wrt) == bound
    assert layout.status_path(kind, name, of, wrt) == f"diagnostics/products/{value}"


@pytest.mark.parametrize(
    ("above", "below", "unit"),
    [
        ("m", "1", "m"),
        ("m", "K", "m/K"),
        ("1", "K", "1/K"),
        ("K", "K", "1"),
        ("1", "1", "1"),
        ("J", "kg m-2", "J/(kg m-2)"),
        ("J/mol", "nm", "J/mol/nm"),
        ("J", "m2", "J/(m2)"),
    ],
)
def test_unit_of_a_derivative(above, below, unit):
    assert layout.quotient(above, below) == unit


def test_common_unit():
    nm, fs = Variable("a", (), "nm"), Variable("b", (), "fs")
    assert layout.common_unit([nm, nm]) == "nm"
    assert layout.common_unit([nm, fs]) == "1"
    assert layout.common_unit([]) == "1"


def test_a_transformed_parameter_is_named_and_has_no_unit():
    plain, logarithm = Variable("k", (), "K"), Variable("k", (), "K", transform="log")
    assert (layout.wrt_label(plain), layout.wrt_unit(plain)) == ("k", "K")
    assert (layout.wrt_label(logarithm, "[3]"), layout.wrt_unit(logarithm)) == ("log(k[3])", "1")


def test_every_transform_has_the_label_that_the_mathematics_gives_it():
    from implicit_cli.core.transforms import TRANSFORMS as maps

    for transform in TRANSFORMS:
        assert layout.wrt_label(Variable("k", (), transform=transform)) == maps[transform].label.format("k")


def test_encodings_are_inherited_from_above():
    assert layout.encoding("") == "result"
    assert layout.encoding("sensitivity/w") == "jacobian"
    assert layout.encoding("certificate/jacobian/w/penalty") == "bound"
    assert layout.encoding("somewhere/else") == "result"


def test_the_tables_are_those_of_the_records():
    assert [*layout.CONSTANTS, "provenance"] == [field.name for field in dataclasses.fields(Certificate)]
    assert ["total", *list(layout.PARTS)[1:], "kind"] == [field.name for field in dataclasses.fields(Bound)]


def test_status_flags_follow_the_cf_convention():
    flags = layout.status_flags()
    assert flags["flag_values"].tolist() == [int(status) for status in Status]
    assert flags["flag_meanings"].split() == [status.label for status in Status]
    padded = layout.status_flags(padded=True)
    assert dict(zip(padded["flag_meanings"].split(), padded["flag_values"].tolist(), strict=True))["absent"] == -1


def test_unique_steps_aside():
    taken = {"a", "a_2"}
    assert layout.unique("b", taken.__contains__) == "b"
    assert layout.unique("a", taken.__contains__) == "a_3"


@pytest.mark.parametrize(
    ("first", "second", "product"),
    [("1", "m", "m"), ("m", "1", "m"), ("1", "1", "1"), ("m", "s", "m s"), ("m", "m", "m2"), ("m/s", "m/s", "(m/s)2")],
)
def test_units_of_a_product(first, second, product):
    assert layout.times(first, second) == product
