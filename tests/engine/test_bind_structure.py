"""A structure meets its problem: what it fills, what it sizes, and what does not fit."""

import numpy as np
import pytest

from implicit_cli.engine.bind import bind
from implicit_cli.errors import InputError
from implicit_cli.problem import Data, Option, Parameter, Problem, Unknown
from implicit_cli.spec import load_spec


class Plain(Problem):
    """Particles whose axes nothing else sizes."""

    start = Data(shape=("particle", "axis"))
    cell = Data(shape=("axis", "axis"))
    periodic = Data(shape=("axis",), dtype="int")
    species = Data(shape=("particle",), dtype="int")
    mass = Data(shape=("particle",))
    position = Unknown(shape=("particle", "axis"))


class Sized(Problem):
    """Particles in three dimensions with parameters of each kind."""

    axis = Option(3, choices=(3,))
    particle = Option(7)
    kinds = Option(1, minimum=1)
    start, cell, species = (Data(shape=shape) for shape in (("particle", "axis"), ("axis", "axis"), ("particle",)))
    periodic = Data(shape=("axis",), dtype="int")
    size = Parameter(shape=("kind",), default=1.0)
    position = Unknown(shape=("particle", "axis"))

    @property
    def sizes(self):
        return {"axis": self.axis, "particle": self.particle, "kind": self.kinds}


class Other(Problem):
    """No particles."""

    start = Data(shape=("particle", "axis"))
    x = Unknown()


SALT = "{lattice: rocksalt, a: 2.0, species: [Na, Cl], vacancies: [1]}"


@pytest.fixture
def bound(tmp_path):
    def bound(cls, structure, *overrides, arrays=None):
        (tmp_path / "s.yaml").write_text(f"problem: toy\nstructure: {structure}\n")
        return bind(load_spec(tmp_path / "s.yaml", overrides), cls, arrays or {})

    return bound


@pytest.fixture
def refused(bound):
    def refused(*arguments, **options):
        with pytest.raises(InputError) as found:
            bound(*arguments, **options)
        return [message.partition("s.yaml:")[2] or message for message in found.value.messages]

    return refused


def axes(found):
    return {axis.name: (axis.size, None if axis.labels is None else axis.labels.tolist()) for axis in found.axes}


def test_a_structure_fills_the_data_and_sizes_the_axes(bound):
    found = bound(Plain, SALT, "data.mass=[1, 2, 3, 4, 5, 6, 7]")
    assert found.shapes["position"] == (7, 3)
    np.testing.assert_array_equal(found.data["cell"], 2 * np.eye(3))
    np.testing.assert_array_equal(found.data["periodic"], [1, 1, 1])
    np.testing.assert_array_equal(found.data["species"], [0] * 3 + [1] * 4)
    assert {found.data[name].dtype.kind for name in ("periodic", "species")} == {"i"}
    # names of species are kept although no quantity counts in them
    assert axes(found) == {"particle": (7, None), "axis": (3, None), "kind": (2, ["Na", "Cl"])}
    assert found.inputs == ()


def test_options_that_the_spec_leaves_out_are_those_of_the_structure(bound, refused):
    found = bound(Sized, SALT)
    assert (found.problem.particle, found.problem.axis, found.problem.kinds) == (7, 3, 2)
    assert axes(found)["kind"] == (2, ["Na", "Cl"])
    assert axes(bound(Sized, SALT, "options.kinds=3"))["kind"] == (3, ["Na", "Cl", "kind 2"])
    assert axes(bound(Sized, SALT, "labels.kind=[sodium, chlorine]"))["kind"] == (2, ["sodium", "chlorine"])
    assert refused(Sized, SALT, "options.kinds=1") == [
        "2:12: structure: found 2 species, 'Cl', 'Na', allowed: 1, as options.kinds says"
    ]
    assert (
        refused(Sized, SALT, "options.particle=8")
        == ["2:12: structure: found 7 entries along 'particle', allowed: 8, as options.particle has"] * 2
    )
    assert refused(Sized, "{lattice: square, a: 1}") == ["2:12: structure: found 2, allowed: '3' for option 'axis' of toy"]


def test_other_data_are_held_against_the_structure(refused):
    assert refused(Plain, SALT, "data.mass=[1, 2]") == [
        "--set data.mass: found 2 entries along 'particle', allowed: 7, as the structure has"
    ]
    assert refused(Plain, SALT) == ["1:1: data: 'mass' is missing: no description (shape (particle))"]


def test_what_a_structure_fills_is_not_given_twice(refused):
    found = refused(Plain, SALT, "data.mass=[1]", "data.cell=[[1]]", "data.species=[1]")
    assert found == [
        f"--set data.{name}: found beside 'structure', which fills it, allowed: one of the two" for name in ("cell", "species")
    ]


def test_a_problem_without_particles_takes_none(refused):
    assert refused(Other, SALT) == ["2:12: structure: toy takes no structure: it declares no data 'cell', 'periodic', 'species'"]


def test_the_file_is_an_input_of_the_run(bound, tmp_path):
    (tmp_path / "a.xyz").write_text("2\n\nA 0 0 0\nB 1 1 1\n")
    assert bound(Sized, "a.xyz").inputs == ("a.xyz:/",)


def test_arrays_at_hand_take_the_place_of_the_structure(bound):
    given = bound(Sized, SALT)
    names = ("start", "cell", "periodic", "species")
    arrays = {("data", name): given.data[name] for name in names} | {("labels", "kind"): np.array(["Na", "Cl"])}
    overrides = [f"data.{name}=0" for name in names] + ["labels.kind=[x]"]
    # the file is gone, and is not looked for
    again = bound(Sized, "gone.xyz", *overrides, arrays=arrays)
    assert again.inputs == ()
    assert axes(again) == axes(given)
    assert again.problem.kinds == 2
    np.testing.assert_array_equal(again.data["start"], given.data["start"])
    # without names, as many kinds as there are species
    del arrays["labels", "kind"]
    assert bound(Sized, "gone.xyz", *overrides[:-1], arrays=arrays).problem.kinds == 2
