"""Which components a null space leaves without a derivative."""

import numpy as np
import pytest

from implicit_cli.core.degeneracy import analyse, moved_beyond

N = 9  # particles on a line; d = N


def orthonormal(*columns):
    """An arbitrary orthonormal basis of a span: null vectors come mixed."""
    Z = np.linalg.qr(np.stack(columns, axis=1))[0]
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(Z.shape[1],) * 2))[0]
    return Z @ rotation


SHIFT = np.ones(N)
FREE_2, FREE_7 = np.eye(N)[2], np.eye(N)[7]


def test_a_gauge_alone_leaves_everything_determined():
    assert not moved_beyond(orthonormal(SHIFT), SHIFT[:, None]).any()


def test_free_particles_are_found_among_translations():
    moved = moved_beyond(orthonormal(SHIFT, FREE_2, FREE_7), SHIFT[:, None])
    assert np.flatnonzero(moved).tolist() == [2, 7]


def test_without_a_gauge_a_null_vector_owns_what_it_moves():
    mode = np.zeros(N)
    mode[[1, 4]] = 0.6, -0.8
    assert np.flatnonzero(moved_beyond(mode[:, None], np.zeros((N, 0)))).tolist() == [1, 4]


def test_when_all_of_A_is_zero_nothing_is_determined():
    assert moved_beyond(np.eye(N), SHIFT[:, None]).all()


@pytest.mark.parametrize(
    ("leak", "gauge_leak", "solvable", "fatal"), [(0, 0, True, False), (1e-3, 0, False, False), (1e-3, 1e-3, False, True)]
)
def test_b_outside_the_range(leak, gauge_leak, solvable, fatal):
    found = analyse(orthonormal(SHIFT), {"translation": SHIFT}, {}, leak=leak, gauge_leak=gauge_leak, size_of_B=1.0)
    assert (found.solvable, found.fatal, found.nullity, found.gauges) == (solvable, fatal, 1, ("translation",))


def test_declared_and_found_masks_keep_their_reasons_and_do_not_overlap():
    rattler = FREE_2.astype(bool)
    found = analyse(
        orthonormal(SHIFT, FREE_2, FREE_7), {"translation": SHIFT}, {"rattler": rattler}, leak=0, gauge_leak=0, size_of_B=1.0
    )
    assert {reason: np.flatnonzero(mask).tolist() for reason, mask in found.undetermined.items()} == {
        "rattler": [2],
        "null mode": [7],
    }
    assert np.flatnonzero(found.mask).tolist() == [2, 7]


@pytest.mark.parametrize(
    ("part", "angle", "lost"), [(1e-8, 0.0, [2, 4]), (1e-8, 1e-11, [2, 4]), (1e-8, 1e-8, [4]), (0.0, 1e-6, None)]
)
def test_what_is_known_to_an_angle_only(part, angle, lost):
    """A component below the angle belongs to a null vector by rounding alone; beyond 1e-7 nobody can tell which ones do."""
    z = np.zeros(N)
    z[[2, 4]] = part, 1.0
    found = analyse(z[:, None], {}, {}, leak=0, gauge_leak=0, size_of_B=1.0, angle=angle)
    assert found.undetermined["null mode"].nonzero()[0].tolist() == (list(range(N)) if lost is None else lost)
