"""What a calibration problem is, and its exact derivatives with 60 digits.

A problem brings its solution x*(theta) in mpmath: a closed form, or a root refined to 60 digits. J is then the central difference
of 60-digit solutions with a step of 1e-20, whose own error is near 1e-40. No theorem, no JAX and no float64 stands between them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
import mpmath
import numpy as np
from jax.flatten_util import ravel_pytree

from implicit_cli.core import Condition
from implicit_cli.problem import Constants

DIGITS, STEP = 60, 20
mp = mpmath.mp.clone()
mp.dps = DIGITS

EXP, SIN, TANH, SQRT, CBRT, ASINH = (np.frompyfunc(f, 1, 1) for f in (mp.exp, mp.sin, mp.tanh, mp.sqrt, mp.cbrt, mp.asinh))
_exact, _rounded = np.frompyfunc(mp.mpf, 1, 1), np.frompyfunc(float, 1, 1)
OUTPUTS = 2
SAMPLES = 20


class Draw(NamedTuple):
    """A random instance: theta (n,), data, and where the solver starts (d,). All numbers fit in float32."""

    theta: np.ndarray
    data: tuple[Any, ...]
    start: np.ndarray


class Double(NamedTuple):
    """A number of 32 digits as a sum of two float64."""

    high: np.ndarray
    low: np.ndarray

    def error(self, found: Any) -> np.ndarray:
        """|found - truth|, entry by entry; the first difference is exact where the two agree within a factor of 2."""
        return np.abs((np.asarray(found) - self.high) - self.low)


class Truth(NamedTuple):
    """x* (d,), J = dx*/dtheta (d, n) and the derivatives of the outputs (m, n)."""

    x: Double
    J: Double
    Y: Double


@dataclass(frozen=True)
class Case:
    """A problem of the study; functions take `(x, theta, data)` with vectors x (d,) and theta (n,).

    mapping    its name in the catalogue
    draw       random generator to a `Draw`
    solution   `(draw, near)` to a function from theta to x*, in mpmath; `near` (d,) is x* to a few digits
    T          the problem's own iteration; None: gradient descent where A is symmetric and definite, else damped Newton
    margin     distance to the nearest kink
    constants  what is proved of the instance
    unique     False where x* is not unique and only the outputs have derivatives
    """

    name: str
    mapping: str
    d: int
    n: int
    F: Callable[[Any, Any, Any], Any]
    draw: Callable[[np.random.Generator], Draw]
    solution: Callable[[Draw, np.ndarray], Callable[[np.ndarray], np.ndarray]]
    T: Callable[[Any, Any, Any], Any] | None = None
    symmetric: bool = False
    definite: bool = False
    margin: Callable[[Any, Any, Any], Any] | None = None
    constants: Callable[[Draw], Constants] = lambda draw: Constants()
    unique: bool = True
    outputs: Callable[[Any, Any, Any], Any] = lambda x, theta, data: jnp.stack(
        [x @ x / 2.0, jnp.sin(weights(x.size, x.dtype) @ x) + x[0] * jnp.sum(theta)]
    )
    outputs_exact: Callable[[np.ndarray, np.ndarray], np.ndarray] = lambda x, theta: np.array(
        [x @ x / 2, mp.sin(exact(weights(x.size)) @ x) + x[0] * theta.sum()]
    )

    def instance(self, seed: int) -> Draw:
        """The draw of a seed, each number the nearest that float32 has."""
        theta, data, start = self.draw(np.random.default_rng([seed, len(self.name), self.d, self.n]))
        return Draw(single(theta), tuple(single(a) for a in data), single(start))

    def truth(self, draw: Draw, near: np.ndarray) -> Truth:
        at, theta, h = self.solution(draw, near), exact(draw.theta), mp.mpf(10) ** -STEP

        def both(theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            x = at(theta)
            return x, self.outputs_exact(x, theta)

        ends = [[both(theta + sign * h * e) for sign in (1, -1)] for e in exact(np.eye(self.n))]
        J, Y = (np.stack([(plus[i] - minus[i]) / (2 * h) for plus, minus in ends], axis=1) for i in (0, 1))
        return Truth(double(at(theta)), double(J), double(Y))


def case(name: str, condition: Condition, like: Any, n: int, **rest: Any) -> Case:
    """A condition of the catalogue on vectors; `like` is a pytree shaped like x."""
    flat, unpack = ravel_pytree(like)

    def on_vectors(f: Any) -> Any:
        return None if f is None else lambda x, theta, data: ravel_pytree(f(unpack(x), theta, *data))[0]

    margin = condition.margin
    return Case(
        name,
        condition.kind,
        flat.size,
        n,
        on_vectors(condition.F),
        T=on_vectors(condition.mapping),
        symmetric=condition.symmetric,
        definite=condition.definite,
        margin=None if margin is None else lambda x, theta, data: margin(unpack(x), theta, *data),
        **rest,
    )


def weights(d: int, dtype: Any = np.float64) -> np.ndarray:
    """Of the unknowns in the second output; exact in float32."""
    return (np.arange(1, d + 1) / 8.0).astype(dtype)


def single(a: Any) -> np.ndarray:
    a = np.asarray(a)
    return a.astype(np.float32).astype(np.float64) if a.dtype.kind == "f" else a


def regression(rng: Any, d: int, noise: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    X = rng.normal(size=(SAMPLES, d))
    return X, X @ rng.normal(size=d) + noise * rng.normal(size=SAMPLES)


# mpmath on NumPy arrays of objects.


def exact(a: Any) -> np.ndarray:
    """The same numbers in mpmath."""
    return np.asarray(_exact(np.asarray(a)))


def rounded(a: np.ndarray) -> np.ndarray:
    return np.asarray(_rounded(a), dtype=np.float64)


def double(a: np.ndarray) -> Double:
    high = rounded(a)
    return Double(high, rounded(a - exact(high)))


def solve(A: np.ndarray, b: np.ndarray) -> np.ndarray:
    """A^-1 b for a vector b, which may be empty."""
    if not b.size:
        return b
    return np.array(list(mp.lu_solve(mp.matrix(A.tolist()), mp.matrix(b.tolist()))), dtype=object)


def bordered(H: np.ndarray, C: np.ndarray) -> np.ndarray:
    """[[H, C'], [C, 0]]: a quadratic program's matrix."""
    zero = exact(np.zeros((len(C), len(C))))
    return np.concatenate([np.concatenate([H, C.T], axis=1), np.concatenate([C, zero], axis=1)])


def by_chord(F: Callable[..., np.ndarray]) -> Callable[[Draw, np.ndarray], Callable[[np.ndarray], np.ndarray]]:
    """Solution of `F(x, theta, *data) = 0`, F in mpmath: Newton steps with the inverse of A at `near`, rounded to float64."""

    def solution(draw: Draw, near: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        data = tuple(exact(a) if a.dtype.kind == "f" else a for a in draw.data)
        h = mp.mpf(10) ** -STEP
        origin, at_origin = exact(near), F(exact(near), exact(draw.theta), *data)
        columns = [rounded((F(origin + h * e, exact(draw.theta), *data) - at_origin) / h) for e in exact(np.eye(near.size))]
        inverse = exact(np.linalg.inv(np.stack(columns, axis=1)))
        last = [origin]

        def at(theta: np.ndarray) -> np.ndarray:
            x = last[0]
            for _ in range(60):
                step = inverse @ F(x, theta, *data)
                x = x - step
                if max(map(abs, step)) < mp.mpf(10) ** (5 - DIGITS) * max(map(abs, x)):
                    last[0] = x
                    return x
            raise ArithmeticError("no root near the starting point")

        return at

    return solution
