"""Full Jacobians: the Python door against JAXopt's `custom_root`, and against the least work that the algebra allows.

    pip install -e . jaxopt
    python benchmarks/jacobian.py [--repeats 15] [--only ridge_1000]

Each problem is solved and differentiated in one compiled program, by us, by JAXopt with each of its linear solvers, and by hand
("limit": the normal equations, or the active set, with one factorisation). All run in turn in one process; what counts is the
median, and its ratio to the fastest setting of JAXopt whose error is no worse than `SAME_ERROR` or ours. The table and
`results/jacobian.json` hold the ratios, met or not, and the time that compilation took.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp  # noqa: E402
import jaxopt  # noqa: E402
import numpy as np  # noqa: E402
from jax.scipy.linalg import cho_factor, cho_solve  # noqa: E402

from implicit_cli import implicit_jacobian  # noqa: E402
from implicit_cli.core import kkt, projected_gradient, stationary  # noqa: E402
from implicit_cli.core.implicit import Point  # noqa: E402
from implicit_cli.core.solvers import METHODS, Goal, Limits, run  # noqa: E402

SAME_ERROR = 1e-8
ONCE = 10.0
"""Seconds of a first call beyond which an entry is not run again: its compilation is then in its time."""
WANTED_OVER_JAXOPT, WANTED_OVER_LIMIT = 10.0, 2.0


class Entry(NamedTuple):
    """A way to compute J: `name`, whose it is (ours, jaxopt, limit), and a compiled function without arguments."""

    name: str
    whose: str
    call: Callable[[], Any]


class Problem(NamedTuple):
    name: str
    what: str
    entries: list[Entry]
    truth: Any


def _jaxopt(F: Any, solver: Any, theta: Any, args: tuple[Any, ...], init: Any, *, slow: bool = False) -> list[Entry]:
    """`jax.jacobian` through `custom_root`, which has reverse mode only, with each linear solver that JAXopt offers."""
    ls = jaxopt.linear_solve

    def tight(solve: Any) -> Any:
        return lambda matvec, b, **kw: solve(matvec, b, tol=1e-10, maxiter=20_000)

    solvers = {"default": None, "cg 1e-10": tight(ls.solve_cg), "normal cg 1e-10": tight(ls.solve_normal_cg), "lu": ls.solve_lu}
    if slow:
        del solvers["normal cg 1e-10"]  # minutes
    else:
        solvers["cholesky"] = ls.solve_cholesky
    entries = []
    for name, solve in solvers.items():
        decorated = jaxopt.implicit_diff.custom_root(F, **({} if solve is None else {"solve": solve}))(solver)
        call = jax.jit(lambda theta, *args, f=decorated: jax.jacrev(lambda t: f(init, t, *args))(theta))
        entries.append(Entry(f"jaxopt, {name}", "jaxopt", lambda call=call: call(theta, *args)))
    return entries


def ridge(d: int, m: int = 442) -> Problem:
    """One penalty per feature; the solver is the normal equations for all."""
    rng = np.random.default_rng(0)
    X, y, theta = jnp.asarray(rng.normal(size=(m, d))), jnp.asarray(rng.normal(size=m)), jnp.asarray(rng.uniform(1, 2, d))

    def f(w, theta, X, y):
        r = X @ w - y
        return r @ r / 2 + jnp.sum(theta * w**2) / 2

    def solver(init, theta, X, y):
        return cho_solve(cho_factor(X.T @ X + jnp.diag(theta), lower=True), X.T @ y)

    @jax.jit
    def limit(theta, X, y):
        factor = cho_factor(X.T @ X + jnp.diag(theta), lower=True)
        return cho_solve(factor, -jnp.diag(cho_solve(factor, X.T @ y)))

    ours = jax.jit(lambda theta, X, y: implicit_jacobian(stationary(f), solver(None, theta, X, y), (theta, X, y)).value)
    entries = [Entry("limit", "limit", lambda: limit(theta, X, y)), Entry("implicit", "ours", lambda: ours(theta, X, y))]
    entries += _jaxopt(jax.grad(f), solver, theta, (X, y), jnp.zeros(d), slow=d > 500)
    return Problem(f"ridge_{d}", f"ridge, d = {d}, {d} penalties", entries, limit(theta, X, y))


def logistic(d: int = 100, m: int = 500) -> Problem:
    """One weight per sample; solved by Newton's method, and by JAXopt's L-BFGS for JAXopt."""
    rng = np.random.default_rng(1)
    X, signs = jnp.asarray(rng.normal(size=(m, d))), jnp.asarray(np.sign(rng.normal(size=m)))
    theta = jnp.asarray(rng.uniform(0.5, 1.5, m))

    def f(w, theta, X, signs):
        return jnp.sum(theta * jax.nn.softplus(-signs * (X @ w))) / m + 0.05 * (w @ w)

    goal = Goal(lambda w, t, data: jax.grad(f)(w, t, *data), f=lambda w, t, data: f(w, t, *data))
    newton = METHODS["newton_cg"](goal)

    def ours(theta, X, signs):
        found = run(newton, goal, Point(jnp.zeros(d), theta, (X, signs)), tol=1e-11, max_steps=50)
        return implicit_jacobian(stationary(f), found.x, (theta, X, signs)).value

    def hand(theta, X, signs):
        """Newton with one Cholesky a step, the last factor for J."""

        def parts(w):
            z = signs * (X @ w)
            s = jax.nn.sigmoid(-z)
            A = (X.T * (theta * s * (1 - s))) @ X / m + 0.1 * jnp.eye(d)
            return cho_factor(A, lower=True), -X.T @ (theta * signs * s) / m + 0.1 * w, s

        def step(_, w):
            factor, g, _s = parts(w)
            return w - cho_solve(factor, g)

        w = jax.lax.fori_loop(0, 6, step, jnp.zeros(d))
        factor, _, s = parts(w)
        return cho_solve(factor, (X * (signs * s)[:, None]).T / m)

    def lbfgs(init, theta, X, signs):
        return jaxopt.LBFGS(f, tol=1e-10, maxiter=500, implicit_diff=False).run(init, theta, X, signs).params

    ours, hand = jax.jit(ours), jax.jit(hand)
    entries = [Entry("limit", "limit", lambda: hand(theta, X, signs)), Entry("implicit", "ours", lambda: ours(theta, X, signs))]
    entries += _jaxopt(jax.grad(f), lbfgs, theta, (X, signs), jnp.zeros(d))
    return Problem("logistic", f"logistic regression, d = {d}, {m} sample weights", entries, hand(theta, X, signs))


def svm(n: int = 200) -> Problem:
    """The dual of a binary SVM, one C per sample; J with respect to C."""
    rng = np.random.default_rng(2)
    signs = np.sign(rng.normal(size=n))
    Z = rng.normal(size=(n, 5)) + 0.5 * signs[:, None]
    Q = jnp.asarray(signs[:, None] * Z @ Z.T * signs + 0.1 * np.eye(n))
    C = jnp.asarray(rng.uniform(0.5, 1.5, n))
    eta = 1.0 / float(np.linalg.norm(Q, 2))

    def f(a, C, Q):
        return a @ Q @ a / 2 - jnp.sum(a)

    condition = projected_gradient(f, bounds=lambda a, C, Q: (jnp.zeros(n), C), eta=eta)
    goal = Goal(
        lambda a, C, Q: condition.F(a, C, Q),
        f=f,
        T=lambda a, C, Q: condition.mapping(a, C, Q),
        prox=lambda v, eta, C, Q: jnp.clip(v, 0.0, C),
    )
    first, second = METHODS["accelerated_proximal_gradient"](goal), METHODS["newton"](goal)

    def dual(C, Q):
        near = run(first, goal, Point(jnp.zeros(n), C, Q), tol=1e-6, max_steps=3000, length=1)
        return run(second, goal, Point(near.x, C, Q), tol=1e-14, max_steps=30).x

    def ours(C, Q):
        return implicit_jacobian(condition, dual(C, Q), (C, Q)).value

    def solve(init, C, Q):
        """Projected gradient until it no longer moves."""
        pg = jaxopt.ProjectedGradient(
            f, jaxopt.projection.projection_box, tol=1e-11, maxiter=20_000, stepsize=eta, implicit_diff=False
        )
        return pg.run(init, (jnp.zeros(n), C), C, Q).params

    def T(a, C, Q):
        return jaxopt.projection.projection_box(a - eta * jax.grad(f)(a, C, Q), (jnp.zeros(n), C)) - a

    def hand(C, Q):
        """The same solve, then the active set as masks and one LU of the free block, bordered by ones."""
        a = dual(C, Q)
        high, low = a >= C, a <= 0
        free = ~(high | low)
        A = jnp.where(free[:, None], Q, 0.0) * jnp.where(free, 1.0, 0.0) + jnp.diag(jnp.where(free, 0.0, 1.0))
        B = jnp.where(free[:, None], -Q, 0.0) * jnp.where(high, 1.0, 0.0) + jnp.diag(jnp.where(high, 1.0, 0.0))
        return jnp.linalg.solve(A, B)

    ours, hand = jax.jit(ours), jax.jit(hand)
    entries = [Entry("limit", "limit", lambda: hand(C, Q)), Entry("implicit", "ours", lambda: ours(C, Q))]
    entries += _jaxopt(T, solve, C, (Q,), jnp.zeros(n))
    return Problem("svm", f"dual of an SVM, n = {n}, one C per sample", entries, hand(C, Q))


def quadratic_program(n: int = 50, inequalities: int = 40, equalities: int = 10) -> Problem:
    """min x'Qx/2 + c'x, A x = b, G x <= h, with respect to 100 parameters: c, b and h together."""
    rng = np.random.default_rng(3)
    L = rng.normal(size=(n, n)) / n**0.5
    Q, A, G = (
        jnp.asarray(L @ L.T + np.eye(n)),
        jnp.asarray(rng.normal(size=(equalities, n))),
        jnp.asarray(rng.normal(size=(inequalities, n))),
    )
    inside = rng.normal(size=n)
    theta = jnp.asarray(np.concatenate([rng.normal(size=n) * 3, A @ inside, G @ inside + rng.uniform(0.1, 1.0, inequalities)]))
    e, i = equalities, inequalities

    class Z(NamedTuple):
        x: Any
        nu: Any
        lam: Any

    condition = kkt(
        lambda z, t, Q, A, G: z.x @ Q @ z.x / 2 + t[:n] @ z.x,
        lambda z, t, Q, A, G: A @ z.x - t[n : n + e],
        lambda z, t, Q, A, G: G @ z.x - t[n + e :],
    )
    split = lambda v: Z(v[:n], v[n : n + e], v[n + e :])  # noqa: E731
    join = lambda z: jnp.concatenate([z.x, z.nu, z.lam])  # noqa: E731
    parts = condition.constraints
    goal = Goal(
        lambda v, t, data: join(condition.F(split(v), t, *data)),
        f=lambda v, t, data: condition.objective(split(v), t, *data),
        limits=Limits(
            lambda v, t, data: parts.equality(split(v), t, *data),
            lambda v, t, data: parts.inequality(split(v), t, *data),
            ((0, n),),
            (n, n + e),
            (n + e, n + e + i),
        ),
    )
    method = METHODS["qp"](goal)

    def ours(theta, Q, A, G):
        found = run(method, goal, Point(jnp.zeros(n + e + i), theta, (Q, A, G)), tol=1e-9, max_steps=60)
        return implicit_jacobian(condition, split(found.x), (theta, Q, A, G)).value.x

    z = jax.jit(lambda: run(method, goal, Point(jnp.zeros(n + e + i), theta, (Q, A, G)), tol=1e-9, max_steps=60).x)()
    active = np.flatnonzero(np.asarray(z[n + e :]) > 1e-7)

    def hand(theta, Q, A, G):
        """The same interior point, then one LU of the reduced KKT system; which constraints are active is known beforehand here."""
        run(method, goal, Point(jnp.zeros(n + e + i), theta, (Q, A, G)), tol=1e-9, max_steps=60)
        E = jnp.concatenate([A, G[active]])
        k = E.shape[0]
        K = jnp.block([[Q, E.T], [E, jnp.zeros((k, k))]])
        rhs = jnp.zeros((n + k, n + e + i)).at[:n, :n].set(-jnp.eye(n))
        rhs = rhs.at[n : n + e, n : n + e].set(jnp.eye(e)).at[n + e + jnp.arange(len(active)), n + e + active].set(1.0)
        return jnp.linalg.solve(K, rhs)[:n]

    def osqp(theta, Q, A, G):
        solver = jaxopt.OSQP(tol=1e-9, maxiter=20_000)
        return solver.run(params_obj=(Q, theta[:n]), params_eq=(A, theta[n : n + e]), params_ineq=(G, theta[n + e :])).params.primal

    ours, hand = jax.jit(ours), jax.jit(hand)
    theirs = jax.jit(jax.jacrev(osqp))
    entries = [
        Entry("limit", "limit", lambda: hand(theta, Q, A, G)),
        Entry("implicit", "ours", lambda: ours(theta, Q, A, G)),
        Entry("jaxopt, OSQP 1e-9", "jaxopt", lambda: theirs(theta, Q, A, G)),
    ]
    return Problem("qp", f"QP, n = {n}, {i} inequalities, {e} equalities, {n + e + i} parameters", entries, hand(theta, Q, A, G))


PROBLEMS: dict[str, Callable[[], Problem]] = {
    "ridge_100": lambda: ridge(100),
    "ridge_1000": lambda: ridge(1000),
    "logistic": logistic,
    "svm": svm,
    "qp": quadratic_program,
}


def measure(problem: Problem, repeats: int) -> dict[str, Any]:
    """Compile, then run all in turn; an entry that takes seconds runs less often."""
    rows: dict[str, dict[str, Any]] = {}
    for entry in problem.entries:
        begun = time.perf_counter()
        try:
            value = jax.block_until_ready(entry.call())
        except Exception as error:  # a peer that cannot do it is a finding
            rows[entry.name] = {"whose": entry.whose, "failed": f"{type(error).__name__}"}
            continue
        first = time.perf_counter() - begun
        error = float(jnp.max(jnp.abs(value - problem.truth)) / jnp.max(jnp.abs(problem.truth)))
        if first > ONCE:
            rows[entry.name] = {"whose": entry.whose, "error": error, "compile_seconds": 0.0, "times": [first, first]}
            continue
        begun = time.perf_counter()
        jax.block_until_ready(entry.call())
        again = time.perf_counter() - begun
        rows[entry.name] = {"whose": entry.whose, "error": error, "compile_seconds": max(first - again, 0.0), "times": [again]}
    for turn in range(repeats):
        for entry in problem.entries:
            row = rows[entry.name]
            if "failed" in row or (row["times"][0] > 1.0 and turn >= 3):
                continue
            begun = time.perf_counter()
            jax.block_until_ready(entry.call())
            row["times"].append(time.perf_counter() - begun)
    for row in rows.values():
        if "times" in row:
            row["seconds"] = float(np.median(row.pop("times")[1:]))
    ours, limit = rows["implicit"], rows["limit"]
    allowed = max(SAME_ERROR, 10 * ours["error"])
    peers = {n: r for n, r in rows.items() if r["whose"] == "jaxopt" and "seconds" in r and r["error"] <= allowed}
    best = min(peers, key=lambda n: peers[n]["seconds"]) if peers else None
    return {
        "what": problem.what,
        "rows": rows,
        "best_peer": best,
        "times_quicker_than_jaxopt": peers[best]["seconds"] / ours["seconds"] if best else None,
        "times_the_limit": ours["seconds"] / limit["seconds"],
    }


def _met(is_met: bool) -> str:
    return "met" if is_met else "not met"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--only", nargs="*", choices=PROBLEMS)
    options = parser.parse_args()
    results = {}
    for name in options.only or PROBLEMS:
        result = results[name] = measure(PROBLEMS[name](), options.repeats)
        print(f"\n{result['what']}")
        for label, row in result["rows"].items():
            if "failed" in row:
                print(f"  {label:28s} failed: {row['failed']}")
                continue
            figures = f"{1e3 * row['seconds']:10.2f} ms   error {row['error']:.1e}"
            print(f"  {label:28s} {figures}   compiled in {row['compile_seconds']:.1f} s")
        quicker, over = result["times_quicker_than_jaxopt"], result["times_the_limit"]
        peer = f"{quicker:.1f} x quicker than {result['best_peer']}" if quicker else "no setting of JAXopt reaches the same error"
        print(f"  -> {peer} (wanted {WANTED_OVER_JAXOPT:.0f}: {_met(quicker is None or quicker >= WANTED_OVER_JAXOPT)})")
        print(f"     {over:.2f} x the limit (wanted {WANTED_OVER_LIMIT:.0f}: {_met(over <= WANTED_OVER_LIMIT)})")
    facts = {
        "python": platform.python_version(),
        "jax": jax.__version__,
        "cpus": os.cpu_count(),
        "device": jax.devices()[0].platform,
    }
    path = Path(__file__).parent / "results" / "jacobian.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"machine": facts, "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
