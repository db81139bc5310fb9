"""Lists of neighbours against all images of all particles, in cells of any shape and smaller than the reach."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from implicit_cli.errors import RanAway
from implicit_cli.particles.neighbours import capacity, find_clusters, find_pairs


def brute_force(position, cell, periodic, reach):
    """Ordered pairs (i, j, shift) of all images nearer than `reach`, particles wrapped or not."""
    n, dim = position.shape
    fraction = position @ np.linalg.inv(cell)
    spread = np.ceil(np.ptp(fraction, axis=0)) if n else np.zeros(dim)
    most = np.ceil(reach * np.linalg.norm(np.linalg.inv(cell), axis=0)) + spread
    found = set()
    for shift in product(*(range(-int(k), int(k) + 1) if p else (0,) for k, p in zip(most, periodic, strict=True))):
        distance = np.linalg.norm(position[None] - position[:, None] + np.array(shift) @ cell, axis=2)
        for i, j in np.argwhere(distance < reach):
            if i != j or any(shift):
                found.add((int(i), int(j), shift))
    return found


@st.composite
def systems(draw):
    dim = draw(st.sampled_from([2, 3]))
    n = draw(st.integers(1, 7))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    cell = np.diag(rng.uniform(0.7, 2.0, dim)) + draw(st.sampled_from([0.0, 0.4])) * rng.uniform(-1, 1, (dim, dim))
    periodic = np.array(draw(st.lists(st.booleans(), min_size=dim, max_size=dim)))
    position = rng.uniform(-1.5, 1.5, (n, dim)) @ cell
    return position, cell, periodic, draw(st.floats(0.05, 1.9))


@given(systems())
def test_every_pair_is_found_once_and_every_neighbour_of_every_particle(system):
    position, cell, periodic, reach = system
    truth = brute_force(position, cell, periodic, reach)
    pairs = find_pairs(position, cell, periodic, reach)
    listed = [
        (int(i), int(j), tuple(int(s) for s in shift))
        for i, j, shift, present in zip(pairs.i, pairs.j, pairs.shift, pairs.present, strict=True)
        if present
    ]
    mirrored = [(j, i, tuple(-s for s in shift)) for i, j, shift in listed]
    assert sorted(listed + mirrored) == sorted(truth)

    clusters = find_clusters(position, cell, periodic, reach)
    around = [
        (i, int(clusters.j[i, k]), tuple(int(s) for s in clusters.shift[i, k])) for i, k in np.argwhere(clusters.present).tolist()
    ]
    assert sorted(around) == sorted(truth)


def test_a_particle_is_its_own_neighbour_in_a_small_cell():
    pairs = find_pairs(np.zeros((1, 2)), np.diag([1.0, 3.0]), np.array([True, True]), 2.5)
    assert pairs.present.sum() == 2
    assert np.array_equal(np.abs(pairs.shift[pairs.present]), [[1, 0], [2, 0]])
    assert not np.any(pairs.i[pairs.present])
    assert not np.any(pairs.j[pairs.present])


def test_no_particle_within_reach_gives_an_empty_list_with_room():
    position = np.array([[0.0, 0.0, 0.0], [9.0, 0.0, 0.0]])
    pairs = find_pairs(position, np.eye(3), np.zeros(3, bool), 1.0)
    assert not pairs.present.any()
    assert pairs.i.shape == (16,)
    clusters = find_clusters(position, np.eye(3), np.zeros(3, bool), 1.0)
    assert clusters.j.shape == (2, 1)
    assert not clusters.present.any()


def test_a_reach_of_too_many_images_is_refused_before_they_are_made():
    with pytest.raises(RanAway, match="images of 4 particles"):
        find_pairs(np.zeros((4, 3)), np.eye(3) * 1e-3, np.ones(3, bool), 2.0)


def test_too_many_pairs_are_refused_before_they_are_made():
    with pytest.raises(RanAway, match="a reach of 2 takes more than 100000000 pairs of 20000 particles in this cell"):
        find_pairs(np.random.default_rng(0).uniform(size=(20_000, 3)), np.eye(3), np.zeros(3, bool), 2.0)


def test_capacities_hold_what_they_are_for_and_waste_a_fifth_at_most():
    counts = np.arange(1, 5000)
    sizes = np.array([capacity(int(count)) for count in counts])
    assert (sizes >= counts).all()
    assert (sizes[16:] <= np.ceil(counts[16:] * 2**0.25) + 1).all()
    assert len(set(sizes)) < 40
