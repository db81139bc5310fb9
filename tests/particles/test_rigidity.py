"""Who is held by contacts, and how what is free is moved off what it touches."""

import numpy as np

from implicit_cli.particles.rigidity import APART, held, parted


def test_a_chain_of_rattlers_is_pruned_to_its_end():
    # a tetrahedron of mutual contacts 0..3, and a tail 3-4-5-6
    i, j = np.array([0, 0, 0, 1, 1, 2, 3, 4, 5]), np.array([1, 2, 3, 2, 3, 3, 4, 5, 6])
    np.testing.assert_array_equal(held(8, i, j, 3), [True] * 4 + [False] * 4)
    np.testing.assert_array_equal(held(8, i, j, 1), [True] * 7 + [False])
    assert not held(8, i, j, 4).any()


def test_an_image_of_itself_counts_twice():
    assert held(1, np.array([0]), np.array([0]), 2).all()


def test_what_rests_on_a_neighbour_is_lifted_off_and_nothing_else_moves():
    for dim in (2, 3):
        place = np.zeros((4, dim))
        place[1, 0], place[2, 0], place[3, 1] = 1.0, 5.0, 1.0 + 1e-3
        free = np.array([False, True, True, False])
        i, j = np.array([0, 1, 1]), np.array([1, 2, 3])
        D = place[j] - place[i]
        moves = parted(free, i, j, D, np.ones(3))
        moved = place + moves
        gaps = np.linalg.norm(moved[j] - moved[i], axis=1) - 1.0
        assert (gaps >= 0.9 * APART).all()
        assert not moves[[0, 2, 3]].any()  # 2 is free, and touches nothing
        assert np.linalg.norm(moves[1]) < 1e-2


def test_what_has_no_room_stays_where_it_is_or_gains():
    # a disc between two walls of discs, in contact with both: it can only slide sideways
    place = np.array([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]])
    i, j = np.array([0, 1]), np.array([1, 2])
    moves = parted(np.array([False, True, False]), i, j, place[j] - place[i], np.ones(2))
    moved = place + moves
    gaps = np.linalg.norm(moved[j] - moved[i], axis=1) - 1.0
    assert (gaps > -1e-12).all()
