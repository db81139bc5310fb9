"""Problems whose solution and derivatives are known: random, of any conditioning, with the truth in 60-digit arithmetic.

The numbers as float64 stores them are the problem. What is found of them here knows neither float64 nor the theorem, but for
the inverse function of a linear map.
"""

from __future__ import annotations

import dataclasses
import importlib
import sys
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from implicit_cli import engine
from implicit_cli.core import root, stationary
from implicit_cli.engine import Plan, Vectors
from implicit_cli.problem import Constants, Data, Option, Output, Parameter, Problem, Unknown
from implicit_cli.result import CaseResult
from implicit_cli.spec import load_spec

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
witness = importlib.import_module("certificate_truth")
exact, rounded, mp = witness.exact, witness.rounded, witness.mp
ASINH, COS, SIN, SQRT = (np.frompyfunc(f, 1, 1) for f in (mp.asinh, mp.cos, mp.sin, mp.sqrt))
W_X, W_LEVEL, W_SIDES = 1.0, 0.5, (1.0, -2.0)
"""Weights of the vjp."""


class Known(Problem):
    """What all have in common: data, and outputs of several shapes. A is `symmetric`, or `definite`, or neither."""

    tag = Option("none", choices=("none", "symmetric", "definite"))
    sparse = Option(False)
    theta = Parameter(shape=("n",))
    M = Data(shape=("d", "d"))
    B = Data(shape=("d", "n"))
    c = Data(shape=("d",))
    x = Unknown(shape=("d",))
    level = Output()
    sides = Output(shape=(2,))

    def condition(self):
        found = stationary(self.f) if self.tag == "definite" else root(self.F, symmetric=self.tag == "symmetric")
        whole = {"pattern": lambda x, theta, data: np.nonzero(np.ones((x.x.size, x.x.size)))} if self.sparse else {}
        return found.tagged(definite=self.tag == "definite", **whole)

    def outputs(self, x, theta, data):
        return {"level": x.x @ x.x / 2, "sides": jnp.stack([x.x[0] * theta.theta[0], jnp.sum(x.x) + theta.theta[-1]])}


class Affine(Known):
    """F = M x - B theta - c: J = M^-1 B."""

    def F(self, x, theta, data):
        return x._replace(x=data.M @ x.x - data.B @ theta.theta - data.c)

    def f(self, x, theta, data):
        return x.x @ data.M @ x.x / 2 - x.x @ (data.B @ theta.theta + data.c)

    def constants(self, theta, data):
        return Constants(gamma=0.0, beta=0.0)

    @staticmethod
    def truth(theta, M, B, c):
        return solved(M, B @ theta + c), solved(M, B)


class Moved(Known):
    """F = M (x - g(theta)) with g = sin(B theta) + c: x = g and J = diag(cos(B theta)) B, whatever M."""

    def F(self, x, theta, data):
        return x._replace(x=data.M @ (x.x - jnp.sin(data.B @ theta.theta) - data.c))

    def f(self, x, theta, data):
        e = x.x - jnp.sin(data.B @ theta.theta) - data.c
        return e @ data.M @ e / 2

    def constants(self, theta, data):
        return Constants(gamma=0.0, beta=0.0)

    @staticmethod
    def truth(theta, M, B, c):
        return SIN(B @ theta) + c, COS(B @ theta)[:, None] * B


class Bent(Known):
    """F = M (sinh(x) - B theta): x = asinh(B theta), J = diag(1 / cosh(x)) B; A = M diag(cosh(x)) depends on x."""

    def F(self, x, theta, data):
        return x._replace(x=data.M @ (jnp.sinh(x.x) - data.B @ theta.theta))

    @staticmethod
    def truth(theta, M, B, c):
        s = B @ theta
        return ASINH(s), B / SQRT(1 + s**2)[:, None]


class Bowl(Known):
    """The minimum of c' (cosh(z) - z (B theta)) with z = M x: z = asinh(B theta), A = M' diag(c cosh(z)) M."""

    def f(self, x, theta, data):
        z = data.M @ x.x
        return data.c @ (jnp.cosh(z) - z * (data.B @ theta.theta))

    @staticmethod
    def truth(theta, M, B, c):
        z, dz = Bent.truth(theta, M, B, c)
        return solved(M, z), solved(M, dz)


def solved(M, b):
    """M^-1 b for a vector or a matrix b."""
    return witness.solve(M, b) if b.ndim == 1 else np.stack([witness.solve(M, column) for column in b.T], axis=1)


class Numbers(NamedTuple):
    """theta (n,), M (d, d), B (d, n), c (d,)."""

    theta: np.ndarray
    M: np.ndarray
    B: np.ndarray
    c: np.ndarray


SPECTRA = {
    "geometric": lambda d, least: np.geomspace(1.0, least, d) if least else np.r_[np.ones(d - 1), 0.0],
    "one small": lambda d, least: np.r_[np.linspace(1.0, 2.0, d - 1), least],
    "one large": lambda d, least: np.r_[1.0, np.full(d - 1, least)],
}


def draw(cls: type[Known], tag: str, d: int, n: int, seed: int, least: float, spectrum: str, *, scale=1.0, mixed=True) -> Numbers:
    """M = U diag(s) V' with singular values s from 1 to `least`, in a random order; U = V if symmetric, I if not `mixed`."""
    rng = np.random.default_rng(seed)
    s = scale * rng.permutation(SPECTRA[spectrum](d, least))
    U, V = (np.linalg.qr(rng.normal(size=(d, d)))[0] if mixed else np.eye(d) for _ in range(2))
    signs = rng.choice([-1.0, 1.0], size=d) if tag == "symmetric" else 1.0
    theta, B, c = rng.uniform(0.1, 2.0, size=n), rng.normal(size=(d, n)), rng.normal(size=d)
    if cls is Bowl:
        return Numbers(theta, U, B, s)
    M = U @ np.diag(s * signs) @ (V if tag == "none" else U).T
    M = M if tag == "none" else (M + M.T) / 2
    return Numbers(theta, M, B, M @ c - B @ theta if cls is Affine else c)  # x of length 1, whatever M


class Truth(NamedTuple):
    """x (d,), outputs y by name, and the derivatives of all of these by name, one row for each component, in 60 digits."""

    values: dict[str, np.ndarray]
    rows: dict[str, np.ndarray]


def truth(cls: type[Known], numbers: Numbers, transform: str) -> Truth:
    theta, M, B, c = map(exact, numbers)
    x, J = cls.truth(theta, M, B, c)
    first, last = (exact(np.eye(theta.size))[i] for i in (0, -1))
    sides = np.stack([J[0] * theta[0] + x[0] * first, J.sum(axis=0) + last])
    values = {"x": x, "level": np.array([x @ x / 2]), "sides": np.array([x[0] * theta[0], x.sum() + theta[-1]])}
    slope = theta if transform == "log" else 1
    return Truth(values, {"x": J * slope, "level": (x @ J)[None] * slope, "sides": sides * slope})


SPEC = """\
problem: here
options: {{tag: {tag}, sparse: {sparse}}}
parameters: {{theta: {ones}}}
transforms: {{theta: {transform}}}
data: {{M: {identity}, B: {zeros}, c: {c}}}
solver: newton
sensitivity:
  products: [jacobian, {{jvp: {{v: {{theta: 1.0}}}}}}, {{vjp: {{w: {{x: {w_x}, level: {w_level}, sides: {w_sides}}}}}}}]
"""


class Bench:
    """A problem of one shape, compiled once for all numbers; its spec is a file in `folder`."""

    def __init__(self, folder: Path, cls: type[Known], tag: str, d: int, n: int, *, transform="identity", sparse=False) -> None:
        self.cls, self.tag, self.d, self.n, self.transform = cls, tag, d, n, transform
        self._spec, self._plans = folder / "spec.yaml", {}
        self._spec.write_text(
            SPEC.format(
                tag=tag, sparse=str(sparse).lower(), transform=transform, ones=[1.0] * n, identity=np.eye(d).tolist(),
                zeros=np.zeros((d, n)).tolist(), c=[1.0] * d, w_x=W_X, w_level=W_LEVEL, w_sides=list(W_SIDES),
            )
        )  # fmt: skip
        self.vectors = Vectors(engine.bind(load_spec(self._spec), cls))

    def plan(self, **sensitivity: Any) -> Plan:
        key = tuple(sensitivity.items())
        if key not in self._plans:
            overrides = [f"sensitivity.{name}={value}" for name, value in key]
            self._plans[key] = engine.make_plan(load_spec(self._spec, overrides), self.vectors)
        return self._plans[key]

    def draw(self, seed: int, least: float, spectrum: str = "geometric", **how: Any) -> Numbers:
        return draw(self.cls, self.tag, self.d, self.n, seed, least, spectrum, **how)

    def run(self, numbers: Numbers, **sensitivity: Any) -> CaseResult:
        given = dataclasses.replace(
            self.vectors.bound, parameters={"theta": numbers.theta}, data={"M": numbers.M, "B": numbers.B, "c": numbers.c}
        )
        return engine.run_case(self.vectors.moved(given), self.plan(**sensitivity), identity="0", seed=0)

    def compared(self, numbers: Numbers, result: CaseResult) -> list[Compared]:
        """Every number of a result that has a bound, against the truth.

        Where an unknown is not determined, outputs are left out: they have the values that it happens to give them.
        """
        true, undetermined = truth(self.cls, numbers, self.transform), result.null_space.undetermined.values()
        free = np.any([np.zeros(self.d, bool), *(masks["x"] for masks in undetermined)], axis=0)
        found = []
        for name, bound in result.bounds.items():
            value = np.reshape({**result.solution, **result.outputs}[name], (-1, 1))
            value = np.where(free[:, None], np.nan, value) if name == "x" else value
            found.append(Compared(name, "", value, bound.total.reshape(1), true.values[name][:, None], bound.kind))
        for product in result.products:
            match product.kind:
                case "jacobian":
                    rows = true.rows[product.of]
                case "jvp":
                    rows = true.rows[product.of].sum(axis=1, keepdims=True)
                case _:
                    weights = {"x": [W_X] * self.d, "level": [W_LEVEL], "sides": W_SIDES}
                    rows = sum(exact(weights[of]) @ true.rows[of] for of in weights)[:, None]
            value, bound = product.value.reshape(rows.shape), product.bound.total.ravel()
            found.append(Compared(product.of or "vjp", product.kind, value, bound, rows, product.bound.kind))
        return [one for one in found if one.of == "x" or not free.any()]


class Compared(NamedTuple):
    """A quantity, found and true (rows, columns), with the bound of each column; NaN is what the result does not tell."""

    of: str
    kind: str
    value: np.ndarray
    bound: np.ndarray
    true: np.ndarray
    label: str

    @property
    def ratios(self) -> np.ndarray:
        """True error over bound, of the columns that have a bound and a value."""
        there = np.isfinite(self.value)
        error = exact(np.where(there, self.value, 0.0)) - np.where(there, self.true, mp.mpf(0))
        error = rounded(SQRT(np.sum(error**2, axis=0)))
        known = np.isfinite(self.bound) & there.any(axis=0)
        with np.errstate(divide="ignore"):
            return np.where(error[known] > 0, error[known] / self.bound[known], 0.0)
