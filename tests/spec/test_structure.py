"""The section `structure`: what it may say, with the place of every fault."""

# ruff: noqa: E501

import json

import pytest

from implicit_cli.spec import RunSpec, StructureSpec

KEYS = (
    "'a', 'c', 'dimensions', 'file', 'format', 'frame', 'group', 'interstitials', 'lattice', 'random', 'rattle', 'repeat', 'species', "
    "'substitute', 'vacancies'"
)
LATTICES = "'bcc', 'diamond', 'fcc', 'hcp', 'hexagonal', 'rocksalt', 'sc', 'square', 'zincblende'"

REFUSED = [
    ("3", f"12: structure: found 3, allowed: a mapping with the keys {KEYS}"),
    ("''", "1: structure.file: found '', allowed: a text that is not empty"),
    ("{}", "12: structure: found no source, allowed: one of 'file', 'lattice', 'random'"),
    ("{file: a, lattice: sc, a: 1}", "12: structure: found 'file' and 'lattice', allowed: one of 'file', 'lattice', 'random'"),
    ("{fil: a}", f"13: structure.fil: unknown key, allowed: {KEYS}; did you mean 'file'?"),
    ("{lattice: fccc, a: 1}", f"22: structure.lattice: found 'fccc', allowed: {LATTICES}; did you mean 'fcc'?"),
    ("{lattice: fcc}", "22: structure.lattice: 'a' is missing: the lattice constant"),
    ("{lattice: fcc, a: 0}", "30: structure.a: found 0, allowed: above 0"),
    ("{lattice: fcc, a: '1'}", "30: structure.a: found '1', allowed: a number; did you mean the number 1.0?"),
    ("{lattice: fcc, a: 1, c: 2}", "36: structure.c: found with lattice 'fcc', allowed: with 'hcp'"),
    ("{file: x, c: 2}", "25: structure.c: found with 'file', allowed: with 'lattice'"),
    ("{file: x, interstitials: [[0, 0, 0]]}", "37: structure.interstitials: found with 'file', allowed: with 'lattice'"),
    ("{lattice: sc, a: 1, frame: 0}", "39: structure.frame: found with 'lattice', allowed: with 'file'"),
    ("{file: x, frame: -1}", "29: structure.frame: found -1, allowed: at least 0"),
    ("{file: x, frame: 1.0}", "29: structure.frame: found 1.0, allowed: an integer; did you mean 1?"),
    ("{file: x, dimensions: 4}", "34: structure.dimensions: found 4, allowed: at most 3"),
    ("{file: x, rattle: -0.1}", "30: structure.rattle: found -0.1, allowed: at least 0"),
    ("{file: x, repeat: 3}", "30: structure.repeat: found 3, allowed: a list of 2 or 3 integers, each at least 1"),
    ("{file: x, repeat: [1, 0, 2]}", "34: structure.repeat.1: found 0, allowed: an integer, at least 1"),
    ("{file: x, repeat: [1, 2.0, 2]}", "34: structure.repeat.1: found 2.0, allowed: an integer, at least 1"),
    ("{file: x, vacancies: 3}", "33: structure.vacancies: found 3, allowed: a list of integers, each at least 0; did you mean [3]?"),
    ("{file: x, vacancies: [1, true]}", "37: structure.vacancies.1: found true, allowed: an integer, at least 0"),
    ("{file: x, vacancies: [1, 1]}", "37: structure.vacancies.1: found 1 twice"),
    ("{file: x, substitute: [3]}", "34: structure.substitute: found a list of 1, allowed: {NAME: [INDEX, ...]}"),
    ("{file: x, substitute: {C: -1}}", "38: structure.substitute.C: found -1, allowed: an integer, at least 0"),
    ("{file: x, substitute: {C: [0, x]}}", "42: structure.substitute.C.1: found 'x', allowed: an integer, at least 0"),
    ("{file: x, substitute: {C: 3, D: [3]}}", "44: structure.substitute.D: found the index 3 twice"),
    ("{file: x, species: [a, a]}", "35: structure.species.1: found 'a' twice"),
    ("{file: x, species: [a b]}", "32: structure.species.0: found 'a b', allowed: a name of at most 32 characters without spaces"),
    ("{file: x, species: 14}", "31: structure.species: found 14, allowed: a list of names; leave the key out for all"),
    ("{lattice: sc, a: 1, interstitials: [[1, 2, x]]}", "55: structure.interstitials.0.2: found 'x', allowed: a finite number"),
    ("{lattice: sc, a: 1, interstitials: [[1]]}", "48: structure.interstitials.0: found a list of 1, allowed: a point, [x, y] or [x, y, z]"),
    ("{lattice: sc, a: 1, interstitials: 1}", "47: structure.interstitials: found 1, allowed: a list of points, [[x, y, z], ...]"),
    ("{random: {phi: 1}}", "21: structure.random.particles: missing, allowed: number of particles"),
    ("{random: {particles: 2, ph: 1}}", ["21: structure.random.phi: missing, allowed: packing fraction: the particles' area or volume, by that of the cell", "36: structure.random.ph: unknown key, allowed: 'diameters', 'dimensions', 'particles', 'phi', 'shares'; did you mean 'phi'?"]),
    ("{random: {particles: 2, phi: -1}}", "41: structure.random.phi: found -1, allowed: above 0"),
    ("{random: {particles: 2, phi: 1, diameters: 1.4}}", "55: structure.random.diameters: found 1.4, allowed: a list of numbers; did you mean [1.4]?"),
    ("{random: {particles: 2, phi: 1, diameters: [1, 0]}}", "59: structure.random.diameters.1: found 0, allowed: a finite number above 0"),
    ("{random: {particles: 2, phi: 1, diameters: [1, x]}}", "59: structure.random.diameters.1: found 'x', allowed: a number"),
    ("{random: {particles: 2, phi: 1, shares: [0.5, 0.5]}}", "52: structure.random.shares: found 2 shares, allowed: 1, one for each diameter"),
    ("{random: {particles: 2, phi: 1, shares: [0.5, 0.6], diameters: [1, 2]}}", "52: structure.random.shares: found shares of sum 1.1, allowed: of sum 1"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "messages"), REFUSED)
def test_a_wrong_structure_is_refused_at_its_place(faults, text, messages):
    many = [messages] if isinstance(messages, str) else messages
    assert faults(f"problem: p\nstructure: {text}\n") == [f"s.yaml:2:{message}" for message in many]


def test_faults_are_told_together(faults):
    found = faults("problem: p\nstructure:\n  file: x\n  vacancies: [1, 1]\n  rattle: -1\n  species: [a b]\nseeds: 1\n")
    assert [message.split(": ")[0] for message in found] == ["s.yaml:4:18", "s.yaml:5:11", "s.yaml:6:13", "s.yaml:7:1"]


def test_a_key_at_the_wrong_place_is_led_home(faults):
    assert faults("problem: p\nrattle: 0.1\n")[0].endswith("; it belongs under structure")


def test_a_bare_string_is_a_file(load):
    assert load("problem: p\nstructure: a.cif\n").model.structure == StructureSpec(file="a.cif")
    assert load("problem: p\nstructure: a.cif\n", "structure.rattle=0.1").model.structure == StructureSpec(file="a.cif", rattle=0.1)
    assert load("problem: p\n", "structure=a.cif").model.structure == StructureSpec(file="a.cif")
    assert load("problem: p\n").model.structure is None
    assert load("problem: p\nstructure: null\n").model.structure is None


@pytest.mark.parametrize(
    "text",
    [
        "a.cif",
        "{file: a.h5, group: all, frame: 3, dimensions: 2, species: A, repeat: [2, 1], vacancies: [], rattle: 1}",
        "{lattice: hcp, a: 1, c: 2, interstitials: [[1, 2, 3]], substitute: {B: 3, C: [1, 2]}, vacancies: [7, 1]}",
        "{random: {particles: 9, phi: 0.5, diameters: [1, 1.4]}}",
    ],
)
def test_a_dump_is_a_spec_again_and_nothing_can_be_changed(load, text):
    model = load(f"problem: p\nstructure: {text}\n").model
    assert RunSpec.model_validate(model.model_dump()) == model
    assert RunSpec.model_validate(json.loads(model.model_dump_json())) == model
    with pytest.raises(TypeError):
        model.structure.substitute["X"] = (1,)
    for value in (model.structure.repeat, model.structure.vacancies, model.structure.species, model.structure.interstitials):
        assert value is None or isinstance(value, tuple)
