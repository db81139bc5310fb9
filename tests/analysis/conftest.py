"""Functions whose indices are known in closed form, sampled as a sweep samples them."""

from dataclasses import dataclass

import numpy as np
import pytest

from implicit_cli import designs
from implicit_cli.sample import Input, Sample


@dataclass(frozen=True)
class Function:
    """y and dy/dtheta of rows theta; the law of each input, and first-order and total Sobol indices where they are known."""

    f: object
    slope: object
    laws: tuple
    first: np.ndarray | None = None
    total: np.ndarray | None = None

    def sample(self, cases=256, design="latin_hypercube", seed=0, bound=0.0, **settings):
        """A sample as `store.read_sample` gives it, with bounds on y and on derivatives."""
        axes = [designs.Distribution(f"u{i}", kind, tuple(map(np.asarray, a))) for i, (kind, a) in enumerate(self.laws)]
        theta = np.array(designs.sampled(design, axes, cases, seed, **settings).values)
        J = self.slope(theta)[:, None, :]
        return Sample(
            path="sample.h5",
            ids=tuple(map(str, range(len(theta)))),
            good=np.ones(len(theta), bool),
            inputs=tuple(Input(f"u{i}", "1", law) for i, law in enumerate(self.laws)),
            theta=theta,
            outputs=("y",),
            units=("1",),
            y=self.f(theta)[:, None],
            y_bound=np.full((len(theta), 1), bound),
            J=J,
            J_bound=np.full(J.shape, bound),
            design=design,
            settings={"samples": cases, **{name: int(value) for name, value in settings.items()}},
        )


def _ishigami():
    a, b, pi = 7.0, 0.1, np.pi
    alone, square, both = (1 + b * pi**4 / 5) ** 2 / 2, a**2 / 8, b**2 * pi**8 * (1 / 18 - 1 / 50)
    whole = alone + square + both
    return Function(
        lambda t: np.sin(t[:, 0]) + a * np.sin(t[:, 1]) ** 2 + b * t[:, 2] ** 4 * np.sin(t[:, 0]),
        lambda t: np.stack(
            [np.cos(t[:, 0]) * (1 + b * t[:, 2] ** 4), a * np.sin(2 * t[:, 1]), 4 * b * t[:, 2] ** 3 * np.sin(t[:, 0])], axis=1
        ),
        (("uniform", (-pi, pi)),) * 3,
        np.array([alone, square, 0.0]) / whole,
        np.array([alone + both, square, both]) / whole,
    )


def _sobol_g():
    a = np.array([0, 1, 4.5, 9, 99, 99, 99, 99])
    V = 1 / (3 * (1 + a) ** 2)
    whole = np.prod(1 + V) - 1

    def factors(t):
        return (np.abs(4 * t - 2) + a) / (1 + a)

    return Function(
        lambda t: factors(t).prod(axis=1),
        lambda t: factors(t).prod(axis=1)[:, None] / factors(t) * 4 * np.sign(4 * t - 2) / (1 + a),
        (("uniform", (0.0, 1.0)),) * 8,
        V / whole,
        V * np.prod(1 + V) / (1 + V) / whole,
    )


def _mixed():
    """2 z1 + z1 z2 + 3 log(u): two normal inputs, and one that is uniform in its logarithm. Every part has its own variance."""
    width = np.log(8.0)
    D = np.array([(2 * 0.5) ** 2 + (0.5 * 1.0) ** 2, 0.0, 9 * width**2 / 12])  # z1 - 1 has deviation 0.5, z2 - 1 has deviation 2
    D = np.array([(3 * 0.5) ** 2, (1 * 2.0) ** 2, 9 * width**2 / 12])
    both = (0.5 * 2.0) ** 2
    whole = D.sum() + both
    return Function(
        lambda t: 2 * t[:, 0] + t[:, 0] * t[:, 1] + 3 * np.log(t[:, 2]),
        lambda t: np.stack([2 + t[:, 1], t[:, 0], 3 / t[:, 2]], axis=1),
        (("normal", (1.0, 0.5)), ("normal", (1.0, 2.0)), ("loguniform", (0.5, 4.0))),
        D / whole,
        (D + np.array([both, both, 0.0])) / whole,
    )


FUNCTIONS = {"ishigami": _ishigami(), "sobol_g": _sobol_g(), "mixed": _mixed()}


@pytest.fixture
def functions():
    return FUNCTIONS


@pytest.fixture(params=FUNCTIONS)
def function(request):
    return FUNCTIONS[request.param]
