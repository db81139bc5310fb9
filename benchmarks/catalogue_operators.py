"""Every projection and proximal operator against finite differences: the cases, and the errors that the documentation's table
shows.

    python benchmarks/catalogue_operators.py

The tests use the same cases.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from implicit_cli.core import projections as P
from implicit_cli.core import prox

COLUMNS = ("jvp", "vjp", "jacobian", "parameters", "vmap", "jit")
STEPS = (1e-3, 1e-4, 1e-5, 1e-6)

Array = np.ndarray


@dataclass(frozen=True)
class Case:
    """An operator at a few points that lie on different pieces of it.

    points       tuples (v, *parameters) of equal shapes
    admissible   maps a change of the arguments to one that the operator allows: symmetric matrices, equal sums; identity if None
    """

    name: str
    operator: P.Operator
    points: tuple[tuple[Any, ...], ...]
    admissible: Callable[..., tuple[Any, ...]] | None = None


def _normal(*shape: int, seed: int, scale: float = 1.0) -> Array:
    return scale * np.random.default_rng(seed).normal(size=shape)


def _share(n: int, seed: int) -> Array:
    numbers = np.random.default_rng(seed).uniform(0.3, 1.0, n)
    return numbers / numbers.sum()


def _equal_sums(v: Any, a: Any, b: Any) -> tuple[Any, Any, Any]:
    gap = (a.sum() - b.sum()) / (a.size + b.size)
    return v, a - gap, b + gap


def _symmetric(V: Any) -> tuple[Any]:
    return ((V + V.T) / 2,)


def _in_row_space_of(rank: int) -> Callable[..., tuple[Any, ...]]:
    """Leave A alone, and move b where A x = b stays solvable: A has its first `rank` rows twice."""

    def allowed(v: Any, A: Any, b: Any) -> tuple[Any, Any, Any]:
        half, twice = A[:rank], b[:rank]
        return v, jnp.concatenate([half, half]), jnp.concatenate([twice, twice])

    return allowed


def _polyhedron(seed: int, scale: float, p: int = 2, m: int = 6, n: int = 5) -> tuple[Array, ...]:
    A, G, inside = _normal(p, n, seed=seed), _normal(m, n, seed=seed + 1), _normal(n, seed=seed + 2)
    slack = np.random.default_rng(seed + 3).uniform(0.1, 0.5, m)
    return inside + _normal(n, seed=seed + 4, scale=scale), A, A @ inside, G, G @ inside + slack


def _section(seed: int) -> tuple[Array, ...]:
    v, w = _normal(7, seed=seed, scale=2.0), _normal(7, seed=seed + 1)
    lower, upper = -np.random.default_rng(seed + 2).uniform(0.2, 1.0, 7), np.random.default_rng(seed + 3).uniform(0.2, 1.0, 7)
    return v, lower, upper, w, np.asarray(0.3 * np.abs(w).sum() * 0.2)


def _twice(seed: int) -> tuple[Array, ...]:
    A, inside = _normal(2, 5, seed=seed), _normal(5, seed=seed + 1)
    A = np.concatenate([A, A])
    return _normal(5, seed=seed + 2), A, A @ inside


def _matrix(seed: int, shift: float, n: int = 4) -> tuple[Array]:
    V = _normal(n, n, seed=seed)
    return ((V + V.T) / 2 + shift * np.eye(n),)


def projection_cases() -> list[Case]:
    """The projections, in the order of the documentation."""
    one, five, seven = _normal(3, 5, seed=1), _normal(5, seed=2), _normal(7, seed=3)
    a, b = np.asarray, np.asarray(0.7)
    return [
        Case("nonnegative", P.nonnegative, ((one,), (-one,))),
        Case("box", P.box, ((one, one - 0.3, one + 0.5), (one, -0.4 * np.ones((3, 5)), 0.6 + np.zeros((3, 5))))),
        Case("simplex", P.simplex, ((seven, a(1.0)), (0.2 * seven, a(1.5)), (5 * seven, a(0.8)))),
        Case("kl_simplex", P.kl_simplex, ((seven, a(1.0)), (3 * seven, a(0.8)))),
        Case("l1_ball", P.l1_ball, ((seven, a(2.0)), (0.1 * seven, a(2.0)), (-3 * seven, a(0.9)))),
        Case("l2_ball", P.l2_ball, ((seven, a(1.1)), (0.1 * seven, a(1.1)), (0 * seven, a(1.1)))),
        Case("linf_ball", P.linf_ball, ((seven, a(0.8)), (0.1 * seven, a(0.8)))),
        Case("l1_sphere", P.l1_sphere, ((seven, a(2.0)), (0.1 * seven, a(2.0)))),
        Case("l2_sphere", P.l2_sphere, ((seven, a(1.1)), (0.1 * seven, a(1.1)))),
        Case("hyperplane", P.hyperplane, ((seven, _normal(7, seed=4), b),)),
        Case("half_space", P.half_space, ((seven, _normal(7, seed=4), b), (-seven, _normal(7, seed=4), b))),
        Case("affine_set", P.affine_set, ((five, _normal(3, 5, seed=5), _normal(3, seed=6)),)),
        Case("affine_set (rank deficient)", P.affine_set, (_twice(8),), _in_row_space_of(2)),
        Case("polyhedron", P.polyhedron, (_polyhedron(10, 1.5), _polyhedron(20, 3.0), _polyhedron(30, 0.01))),
        Case("box_section", P.box_section, (_section(10), _section(20), _section(30))),
        Case(
            "transport",
            P.transport,
            tuple((_normal(4, 5, seed=s, scale=t), _share(4, 1), _share(5, 2)) for s, t in TRANSPORT),
            _equal_sums,
        ),
        Case("birkhoff", P.birkhoff, tuple((_normal(5, 5, seed=s, scale=t),) for s, t in BIRKHOFF)),
        Case(
            "kl_transport",
            P.kl_transport,
            tuple((_normal(4, 5, seed=s, scale=t), _share(4, 1), _share(5, 2)) for s, t in KL),
            _equal_sums,
        ),
        Case("kl_birkhoff", P.kl_birkhoff, tuple((_normal(5, 5, seed=s, scale=t),) for s, t in KL)),
        Case("second_order_cone", P.second_order_cone, tuple((np.concatenate([[t], five]),) for t in (-6.0, -0.4, 0.5, 6.0))),
        Case(
            "psd_cone",
            P.psd_cone,
            (_matrix(1, 0.0), _matrix(2, 6.0), _matrix(3, -6.0), (np.diag([1.0, 1.0, -1.0, -1.0]),)),
            _symmetric,
        ),
        Case("psd_cone_svec", P.psd_cone_svec, tuple((np.asarray(P.svec(jnp.asarray(_matrix(s, 0.0)[0]))),) for s in (1, 2))),
        Case("exponential_cone", P.exponential_cone, tuple((np.asarray(v),) for v in EXPONENTIAL)),
        Case("exponential_dual_cone", P.exponential_dual_cone, tuple((-np.asarray(v),) for v in EXPONENTIAL)),
    ]


TRANSPORT = ((1, 0.05), (2, 0.3), (3, 1.0))
BIRKHOFF = ((4, 0.1), (5, 0.5), (6, 2.0))
KL = ((7, 0.3), (8, 2.0), (9, 6.0))
EXPONENTIAL = (
    (1.0, 2.0, 5.0),
    (1.0, -2.0, 0.5),
    (1.0, -2.0, -0.5),
    (2.0, 1.0, 1.0),
    (1.0, 2.0, -3.0),
    (-1.0, 0.5, -0.3),
    (-1.0, -2.0, 3.0),
    (-1.0, -2.0, -3.0),
    (0.3, -3.0, -2.0),
    (5.0, 0.1, 40.0),
)


def prox_cases() -> list[Case]:
    """The proximal operators, in the order of the documentation."""
    five, seven, weights = _normal(5, seed=2), _normal(7, seed=3), np.random.default_rng(4).uniform(0.2, 0.9, 7)
    a = np.asarray
    return [
        Case("none", prox.none, ((seven,),)),
        Case("lasso", prox.lasso, ((seven, weights), (3 * seven, weights))),
        Case("nonnegative_lasso", prox.nonnegative_lasso, ((seven, weights), (-seven, weights))),
        Case("elastic_net", prox.elastic_net, ((seven, weights, 2 * weights[::-1]),)),
        Case("group_lasso", prox.group_lasso, ((five, a(0.7)), (0.1 * five, a(0.7)), (0 * five, a(0.7)))),
        Case("ridge", prox.ridge, ((seven, weights),)),
        Case("nonnegative_ridge", prox.nonnegative_ridge, ((seven, weights),)),
        Case("log", prox.log, ((seven, weights), (100 * seven, weights))),
        Case("isotonic", prox.isotonic, ((seven,), (seven + np.arange(7.0),), (seven + 0.6 * np.arange(7.0),))),
        Case("antitonic", prox.antitonic, ((seven,), (-seven,))),
    ]


class Measured(NamedTuple):
    """What the programs of one case return, all with a leading axis over its points.

    value (k, d), J (k, d, n) by all arguments, margin (k,), witness (k, d, n) by finite differences along admissible changes,
    allowed (n, n) the matrix of those, dv the number of columns that belong to v; errors by column of the table.
    """

    value: Array
    J: Array
    margin: Array
    witness: Array
    allowed: Array
    dv: int
    errors: dict[str, float]


def measure(case: Case) -> Measured:
    """Run one case against central differences.

    Values, derivatives in both modes and by every argument, batched and single, compiled and not.
    """
    _, unravel = ravel_pytree(tuple(jnp.asarray(p, float) for p in case.points[0]))
    points = np.stack([np.asarray(ravel_pytree(tuple(jnp.asarray(p, float) for p in point))[0]) for point in case.points])
    n = points.shape[1]
    dv = int(np.size(case.points[0][0]))

    def f(theta: Any) -> Any:
        return case.operator(*unravel(theta)).ravel()

    def change(theta: Any) -> Any:
        return theta if case.admissible is None else ravel_pytree(case.admissible(*unravel(theta)))[0]

    allowed = np.asarray(jax.jit(jax.jacfwd(change))(jnp.zeros(n)))
    rng = np.random.default_rng(0)
    direction = allowed @ rng.normal(size=n)
    cotangent = rng.normal(size=dv)

    def forward(theta: Any, direction: Any) -> tuple[Any, Any]:
        return jax.jvp(f, (theta,), (direction,))

    def reverse(theta: Any, cotangent: Any) -> tuple[Any, Any]:
        pullback = jax.vjp(f, theta)[1]
        return pullback(cotangent)[0], jax.vmap(pullback)(jnp.eye(dv))[0]

    def both(theta: Any, direction: Any, cotangent: Any) -> tuple[Any, ...]:
        return (*forward(theta, direction), *reverse(theta, cotangent), case.operator.margin(*unravel(theta)))

    batched = jax.jit(jax.vmap(both, (0, None, None)))
    value, tangent, pullback, J, margins = (np.asarray(part) for part in batched(points, direction, cotangent))
    witness = differences(jax.jit(jax.vmap(f)), points, allowed, J)
    scale = max(1.0, float(np.abs(witness).max()))
    off = J @ allowed - witness
    compiled = [np.asarray(part) for part in jax.jit(forward)(points[0], direction)]
    eager = [np.asarray(part) for part in forward(jnp.asarray(points[0]), jnp.asarray(direction))]
    errors = {
        "jvp": _worst(tangent - witness @ np.linalg.pinv(allowed) @ direction) / scale,
        "vjp": _worst(pullback @ allowed - cotangent @ witness) / scale,
        "jacobian": _worst(off[:, :, :dv]) / scale,
        "parameters": _worst(off[:, :, dv:]) / scale if n > dv else np.nan,
        "vmap": max(_worst(one - other) for one, other in zip(compiled, (value[0], tangent[0]), strict=True)) / scale,
        "jit": max(_worst(one - other) for one, other in zip(eager, compiled, strict=True)) / scale,
    }
    return Measured(value, J, margins, witness, allowed, dv, errors)


def _worst(difference: Array) -> float:
    """The largest entry; NaN where there is one."""
    return float(np.max(np.abs(difference), initial=0.0))


def differences(f: Callable[[Any], Any], points: Array, allowed: Array, J: Array) -> Array:
    """Central differences (k, d, n) along the columns of `allowed`, all in one call of f.

    Each column has the step of the ladder that agrees best with J.
    """
    k, n = points.shape
    steps = np.concatenate([np.asarray(STEPS), -np.asarray(STEPS)])
    moved = points[:, None, None, :] + steps[None, None, :, None] * allowed.T[None, :, None, :]
    values = np.asarray(f(moved.reshape(-1, n))).reshape(k, n, 2, len(STEPS), -1)
    quotients = (values[:, :, 0] - values[:, :, 1]) / (2 * np.asarray(STEPS))[None, None, :, None]
    off = np.max(np.abs(quotients - (J @ allowed).swapaxes(1, 2)[:, :, None, :]), axis=3)
    best = np.argmin(np.where(np.isnan(off), np.inf, off), axis=2)
    return np.take_along_axis(quotients, best[:, :, None, None], axis=2)[:, :, 0].swapaxes(1, 2)


def rows() -> list[tuple[str, dict[str, float]]]:
    """Name and error by column for every operator; NaN where a column does not apply (an operator without parameters)."""
    return [(case.name, measure(case).errors) for case in (*projection_cases(), *prox_cases())]


def main() -> None:
    print(f"{'operator':28}" + "".join(f"{column:>12}" for column in COLUMNS))
    for name, errors in rows():
        print(f"{name:28}" + "".join(f"{errors[column]:12.1e}" for column in COLUMNS), flush=True)


if __name__ == "__main__":
    from implicit_cli import runtime

    runtime.configure("cpu")
    main()
