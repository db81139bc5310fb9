"""Changes to a structure, and what must hold of every one."""

import numpy as np
import pytest

from implicit_cli.structures.structure import Structure, boxed, coincident

TRICLINIC = """2
Lattice="3.0 0.1 0.2 0.5 4.0 -0.3 0.7 0.9 5.0" Properties=species:S:1:pos:R:3
Si 0.1 0.2 0.3
C 1.1 1.7 2.3
"""


@pytest.fixture
def two(folder):
    (folder / "two.xyz").write_text(TRICLINIC)
    return "two.xyz"


def test_repeats_are_translations_by_the_cell(built, two):
    one, found = built(two), built(f"{{file: {two}, repeat: [2, 1, 3]}}")
    assert found.volume == pytest.approx(6 * one.volume)
    np.testing.assert_allclose(found.cell, one.cell * np.array([[2.0], [1.0], [3.0]]))
    steps = (found.position.reshape(6, 2, 3) - one.position) @ np.linalg.inv(one.cell)
    np.testing.assert_allclose(steps, np.round(steps), atol=1e-13)
    expected = [[i, 0, k] for i in range(2) for k in range(3)]
    np.testing.assert_array_equal(np.round(steps[:, 0]), expected)
    np.testing.assert_array_equal(found.species, [0, 1] * 6)


def test_defects_count_in_the_repeated_structure(built):
    text = "{lattice: fcc, a: 2.0, repeat: [2, 1, 1], species: [Cu], interstitials: [[0.5, 0.5, 0.5], [1.5, 0.5, 0.5]], "
    found = built(text + "substitute: {Au: [3, 9], Ni: 1}, vacancies: [0, 8]}")
    whole = built("{lattice: fcc, a: 2.0, repeat: [2, 1, 1]}")
    assert found.names == ("Cu", "Au", "Ni")
    np.testing.assert_array_equal(found.position[:7], whole.position[1:])
    np.testing.assert_array_equal(found.position[7:], [[3.0, 1.0, 1.0]])
    np.testing.assert_array_equal(found.species, [2, 0, 1, 0, 0, 0, 0, 1])


def test_defects_in_a_file(built, two):
    found = built(f"{{file: {two}, substitute: {{Ge: [0]}}, vacancies: [1], repeat: [1, 2, 1]}}")
    assert found.names == ("Si", "C", "Ge")
    np.testing.assert_array_equal(found.species, [2, 0, 1])


def test_rattling_is_normal(built):
    text = "{lattice: sc, a: 1.0, repeat: [20, 20, 20]}"
    step = built(text[:-1] + ", rattle: 0.01}").position - built(text).position
    assert step.std() == pytest.approx(0.01, rel=0.02)
    assert abs(step.mean()) < 4 * 0.01 / np.sqrt(step.size)
    assert (np.abs(step) > 0.02).mean() == pytest.approx(0.0455, abs=0.006)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{lattice: fcc, a: 1, vacancies: [2, 4]}", "structure.vacancies.1: found 4, allowed: 0 to 3"),
        ("{lattice: sc, a: 1, vacancies: [0]}", "structure.vacancies: found all particles, allowed: fewer"),
        ("{lattice: fcc, a: 1, substitute: {C: [7]}}", "structure.substitute.C.0: found 7, allowed: 0 to 3"),
        (
            "{lattice: square, a: 1, repeat: [1, 1, 1]}",
            "structure.repeat: found a list of 3, allowed: 2 integers, one for each dimension",
        ),
        (
            "{lattice: sc, a: 1, repeat: [100000, 100000, 1]}",
            "structure.repeat: found 10000000000 particles, allowed: 100000000",
        ),
        ("{lattice: square, a: 1, interstitials: [[0, 0, 0]]}", "structure.interstitials.0: found 3 coordinates, allowed: 2"),
        (
            "{lattice: fcc, a: 2, interstitials: [[1.0, 1.0, 3.0]]}",
            "structure: found the particles 0 and 4 at one place, [0, 0, 0], allowed: particles apart",
        ),
    ],
)
def test_what_does_not_fit_is_refused(refusal, text, message):
    assert refusal(text) == message


def test_only_what_is_periodic_repeats(refusal, folder):
    (folder / "free.xyz").write_text("2\n\nSi 0 0 0\nSi 0 0 1\n")
    message = "found 2, allowed: 1, as the structure is not periodic along vector 1"
    assert refusal("{file: free.xyz, repeat: [1, 2, 1]}") == f"structure.repeat.1: {message}"


# Coincident particles


def structure(position, cell=None, periodic=(True, True, True)):
    position = np.asarray(position, dtype=float)
    d = position.shape[1]
    cell = np.eye(d) * 3.0 if cell is None else np.asarray(cell, dtype=float)
    return Structure(position, cell, np.array(periodic[:d]), np.zeros(len(position), dtype=int), ("A",))


@pytest.mark.parametrize("gap", [0.0, 1e-10, -1e-10])
@pytest.mark.parametrize("shift", [(0, 0, 0), (1, 0, 0), (-2, 3, 1)])
def test_coincident_particles_are_found_through_the_boundary(gap, shift):
    cell = np.array([[3.0, 0.1, 0.2], [0.5, 4.0, -0.3], [0.7, 0.9, 5.0]])
    places = np.random.default_rng(1).random((7, 3)) @ cell
    assert coincident(structure(places, cell)) is None
    places[5] = places[2] + np.array(shift) @ cell + gap
    assert coincident(structure(places, cell)) == (2, 5)
    free = coincident(structure(places, cell, (False, False, False)))
    assert free == ((2, 5) if shift == (0, 0, 0) else None)


@pytest.mark.parametrize("place", [[0.0, 1.0], [-1e-18, 1.0], [3.0, 4.0]])
def test_the_edge_of_the_cell_is_one_place(place):
    assert coincident(structure([[0.0, 1.0], [1.0, 1.0], place])) == (0, 2)


def test_particles_that_are_merely_near_are_not_coincident():
    assert coincident(structure([[0.0, 0.0], [1e-6, 0.0]])) is None
    assert coincident(structure([[0.0, 0.0]])) is None


def test_many_at_one_place_are_found_at_once():
    assert coincident(structure(np.zeros((200_000, 3)))) is not None


# Boxes of what is not periodic


def test_a_free_box_is_as_large_as_the_particles():
    places = np.array([[0.0, 0.0, 5.0], [2.0, 0.0, 5.0], [2.0, 1.0, 5.0]])
    cell = boxed(places, np.zeros((3, 3)), np.zeros(3, dtype=bool))
    np.testing.assert_array_equal(cell, np.diag(np.diag(cell)))
    assert (np.diag(cell) > [2.0, 1.0, 0.0]).all()
    assert np.linalg.det(boxed(places[:1], np.zeros((3, 3)), np.zeros(3, dtype=bool))) > 0


def test_a_slab_keeps_its_vectors_and_gets_one_across_them():
    given = np.array([[2.0, 1.0, 1.0], [0.0, 0.0, 0.0], [0.0, 3.0, -1.0]])
    cell = boxed(np.random.default_rng(0).random((9, 3)), given, np.array([True, False, True]))
    np.testing.assert_array_equal(cell[[0, 2]], given[[0, 2]])
    np.testing.assert_allclose(cell[1] @ given.T, 0.0, atol=1e-14)
    assert abs(np.linalg.det(cell)) > 0.1
