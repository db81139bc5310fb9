"""Lattices and random packings against closed forms: neighbours, distances, volumes, fractions, symmetry."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from implicit_cli.structures.generate import CRYSTALS, split


def shells(structure):
    """Distances from each particle to all others and their images, sorted, and whose images they are."""
    n, d = structure.position.shape
    shifts = np.stack(np.meshgrid(*[np.arange(-3, 4)] * d, indexing="ij"), axis=-1).reshape(-1, d) @ structure.cell
    apart = structure.position[None, :, None] + shifts[None, None] - structure.position[:, None, None]
    distance = np.linalg.norm(apart, axis=-1).reshape(n, -1)
    owner = np.broadcast_to(np.repeat(np.arange(n), len(shifts)), distance.shape)
    order = np.argsort(distance, axis=1)
    return np.take_along_axis(distance, order, 1)[:, 1:], np.take_along_axis(owner, order, 1)[:, 1:]


A = 2.3
IDEAL = {
    # neighbours, their distance, volume of a particle: Ashcroft and Mermin, chapter 4
    "sc": (6, A, A**3),
    "bcc": (8, math.sqrt(3) / 2 * A, A**3 / 2),
    "fcc": (12, A / math.sqrt(2), A**3 / 4),
    "hcp": (12, A, A**3 / math.sqrt(2)),
    "diamond": (4, math.sqrt(3) / 4 * A, A**3 / 8),
    "zincblende": (4, math.sqrt(3) / 4 * A, A**3 / 8),
    "rocksalt": (6, A / 2, A**3 / 8),
    "square": (4, A, A**2),
    "hexagonal": (6, A, math.sqrt(3) / 2 * A**2),
}


def test_every_lattice_is_checked():
    assert set(IDEAL) == set(CRYSTALS)


@pytest.mark.parametrize("name", IDEAL)
def test_neighbours_and_volumes_are_those_of_the_lattice(built, name):
    found = built(f"{{lattice: {name}, a: {A}}}")
    count, length, volume = IDEAL[name]
    distance, owner = shells(found)
    np.testing.assert_allclose(distance[:, :count], length, rtol=1e-13)
    assert (distance[:, count] > 1.01 * length).all()
    assert found.volume / len(found.position) == pytest.approx(volume, rel=1e-13)
    assert found.periodic.all()
    np.testing.assert_array_equal(found.cell, np.diag(np.diag(found.cell)))
    if len(found.names) == 2:  # nearest neighbours are all of the other species
        assert (found.species[owner[:, :count]] != found.species[:, None]).all()


def test_hcp_of_another_ratio_has_two_kinds_of_neighbours(built):
    distance, _ = shells(built("{lattice: hcp, a: 2.0, c: 3.0}"))
    np.testing.assert_allclose(distance[:, :6], math.sqrt(4 / 3 + 9 / 4), rtol=1e-13)
    np.testing.assert_allclose(distance[:, 6:12], 2.0, rtol=1e-13)


@pytest.mark.filterwarnings("ignore:Setting the shape:DeprecationWarning")
@pytest.mark.parametrize(
    ("name", "symbols"), [("fcc", "Cu"), ("bcc", "Fe"), ("diamond", "Si"), ("zincblende", "GaAs"), ("rocksalt", "NaCl")]
)
def test_cells_are_those_of_ase(built, name, symbols):
    from ase.build import bulk

    theirs = bulk(symbols, name, a=A, cubic=True)
    names = list(dict.fromkeys(theirs.get_chemical_symbols()))
    ours = built(f"{{lattice: {name}, a: {A}, species: [{', '.join(names)}]}}")
    assert len(ours.position) == len(theirs)
    for name, place in zip(theirs.get_chemical_symbols(), theirs.positions, strict=True):
        same = ours.position[ours.species == ours.names.index(name)]
        # up to the choice of the origin, which is the same for these
        step = (same - place) / A
        assert np.abs(step - np.round(step)).max(axis=1).min() < 1e-12


def test_names_are_given_or_made(built, refusal):
    assert built("{lattice: rocksalt, a: 1}").names == ("A", "B")
    assert built("{lattice: fcc, a: 1, species: Cu}").names == ("Cu",)
    assert built("{lattice: fcc, a: 1, species: [Cu, Au]}").names == ("Cu", "Au")
    assert refusal("{lattice: rocksalt, a: 1, species: [Na]}") == (
        "structure.species: found 1 name, allowed: at least 2, as rocksalt has species"
    )


# At random


@pytest.mark.parametrize(("d", "ball"), [(2, math.pi / 4), (3, math.pi / 6)])
def test_a_packing_fills_its_fraction(built, d, ball):
    found = built(f"{{random: {{particles: 257, dimensions: {d}, phi: 0.9, diameters: [1.0, 1.4, 0.3], shares: [0.5, 0.3, 0.2]}}}}")
    counts = np.bincount(found.species)
    assert counts.sum() == 257
    assert np.abs(counts - 257 * np.array([0.5, 0.3, 0.2])).max() < 1
    filled = ball * (counts @ np.array([1.0, 1.4, 0.3]) ** d)
    assert filled / found.volume == pytest.approx(0.9, rel=1e-13)
    np.testing.assert_allclose(found.cell, np.eye(d) * found.cell[0, 0])
    assert ((found.position >= 0) & (found.position < found.cell[0, 0])).all()
    assert (np.diff(found.species) >= 0).all()


def test_a_packing_is_uniform(built):
    found = built("{random: {particles: 20000, dimensions: 2, phi: 1.0}}")
    x = found.position / found.cell[0, 0]
    # standard errors of mean, mean square and correlation of uniform numbers
    assert np.abs(x.mean(axis=0) - 1 / 2).max() < 4 / math.sqrt(12 * 20000)
    assert np.abs((x**2).mean(axis=0) - 1 / 3).max() < 4 * math.sqrt(4 / 45 / 20000)
    assert abs(np.corrcoef(x.T)[0, 1]) < 4 / math.sqrt(20000)


def test_the_seed_decides(built):
    text = "{random: {particles: 9, phi: 0.1}, rattle: 0.1}"
    np.testing.assert_array_equal(built(text, 3).position, built(text, 3).position)
    assert not np.isclose(built(text, 3).position, built(text, 4).position).any()
    # rattling draws numbers of its own
    step = built(text, 3).position - built(text.replace(", rattle: 0.1", ""), 3).position
    place = built(text.replace(", rattle: 0.1", ""), 3).position
    assert abs(np.corrcoef(step.ravel(), place.ravel())[0, 1]) < 0.7


@given(st.integers(0, 10**6), st.lists(st.integers(1, 1000), min_size=1, max_size=7))
def test_shares_add_up(count, weights):
    shares = np.array(weights) / sum(weights)
    whole = split(count, shares.tolist())
    assert whole.sum() == count
    assert (np.abs(whole - shares * count) < 1 + 1e-6).all()
    assert (whole >= 0).all()
