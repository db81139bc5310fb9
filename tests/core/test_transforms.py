"""Pre-processing maps: inverses of each other, and the chain rule."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from implicit_cli.core.transforms import TRANSFORMS
from implicit_cli.problem import TRANSFORMS as NAMES

THETA = np.array([1e-6, 0.2, 0.5, 0.9])
DERIVATIVES = {
    "identity": np.ones(4),
    "log": THETA,
    "log10": THETA * np.log(10),
    "logit": THETA * (1 - THETA),
    "softplus": -np.expm1(-THETA),
}


def test_every_declared_name_has_a_map():
    assert tuple(TRANSFORMS) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_there_and_back_with_the_known_slope(name):
    transform = TRANSFORMS[name]
    value = transform.to_lambda(jnp.asarray(THETA))
    np.testing.assert_allclose(transform.to_theta(value), THETA, rtol=1e-10)
    slope = jax.vmap(jax.grad(transform.to_theta))(value)
    np.testing.assert_allclose(slope, DERIVATIVES[name], rtol=1e-9)
