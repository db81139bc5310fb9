"""The methods: each asks a `Run` for evaluations and takes steps, until the run stops it. None of them draws random numbers.

A trial whose inner solve failed is never used: the line search of `lbfgs` turns back from it, the others halve their step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count

import numpy as np

from implicit_cli.outer.loop import Run, Stop
from implicit_cli.outer.records import FloatArray, projected

HALVINGS = 5
"""Times that a step with a failed inner solve is halved."""
PAIRS = 10
"""Differences of gradients that L-BFGS-B remembers."""
STEPS, STILL, STEEP = 3, 1e-10, 0.5
"""After so many steps that lower the objective by no more than this, relatively, and the gradient not to this, there is a kink."""


def lbfgs(run: Run) -> None:
    """L-BFGS-B, a quasi-Newton method with a line search, by SciPy; its own tests are switched off.

    Where its line search finds no lower value it starts again with an empty memory, along the gradient; where that is in vain too,
    or the objective stands still on a slope, the run ends. A failed trial looks to it as a hill on the far side of the valley: as
    high above the last step as that falls towards the trial to first order, and as steep, so that the line search turns back to
    about a seventh of the way.

    Source: Zhu, Byrd, Lu and Nocedal, "L-BFGS-B", ACM Trans. Math. Softw. 23(4), 1997.
    """
    from scipy.optimize import minimize

    settings = run.settings

    def objective(point: FloatArray) -> tuple[float, FloatArray]:
        found, here = run.evaluate(point), run.here
        if found.good:
            return run.value(found), settings.sign * found.gradient
        slope = settings.sign * here.gradient
        return run.value(here) + abs(float(slope @ (point - here.point))), -slope

    def taken(point: FloatArray) -> None:
        run.take(point)
        before, now = (run.evaluations[run.steps[max(len(run.steps) - 1 - back, 0)]] for back in (STEPS, 0))
        still = run.value(before) - run.value(now) <= STILL * abs(run.value(now))
        if len(run.steps) > STEPS and still and projected(now, settings) >= STEEP * projected(before, settings):
            slope = projected(now, settings)
            raise Stop(f"the objective stands still, and its projected gradient, {slope:.1e}, does not: it has a kink")

    limit = 100 * (settings.max_steps + 1)
    options = {"maxiter": limit, "maxfun": 100 * limit, "ftol": 0.0, "gtol": 0.0, "maxcor": PAIRS}
    bounds = np.stack([settings.low, settings.high], axis=1)
    while True:
        steps = len(run.steps)
        minimize(objective, run.here.point, jac=True, method="L-BFGS-B", bounds=bounds, callback=taken, options=options)
        if len(run.steps) == steps:
            raise Stop(
                "the line search found no lower value: rounding hides what is left, the objective is rough, or its solves fail"
            )


def gradient_descent(run: Run) -> None:
    """lambda <- P(lambda - s_k v), v <- momentum v + g, with s_k = step / (1 + decay k) and P the projection on the bounds."""

    def moves() -> Iterator[FloatArray]:
        v = np.zeros_like(run.settings.start)
        for k in count():
            v = run.settings.momentum * v + run.settings.sign * run.here.gradient
            yield _length(run, k) * v

    _descend(run, moves())


def adam(run: Run) -> None:
    """Adam, by optax, with a projection on the bounds: steps of about s_k = step / (1 + decay k) in each entry.

    `momentum` is its first decay rate; the second one is 0.999. Source: Kingma and Ba, "Adam", ICLR 2015.
    """
    import jax.numpy as jnp
    import optax

    def moves() -> Iterator[FloatArray]:
        rule = optax.scale_by_adam(b1=run.settings.momentum)
        state = rule.init(jnp.asarray(run.settings.start))
        for k in count():
            update, state = rule.update(jnp.asarray(run.settings.sign * run.here.gradient), state)
            yield _length(run, k) * np.asarray(update)

    _descend(run, moves())


def _length(run: Run, k: int) -> float:
    return run.settings.step / (1.0 + run.settings.decay * k)


def _descend(run: Run, moves: Iterator[FloatArray]) -> None:
    """Steps along minus each move, as long as they are, or shorter where the inner solve fails."""
    settings = run.settings
    for move in moves:
        start = run.here.point
        for halving in range(HALVINGS + 1):
            point = np.clip(start - 0.5**halving * move, settings.low, settings.high)
            if run.evaluate(point).good:
                break
        else:
            raise Stop(f"the inner solve failed along a step, and again after {HALVINGS} halvings")
        run.take(point)


METHODS: dict[str, Callable[[Run], None]] = {"lbfgs": lbfgs, "adam": adam, "gradient_descent": gradient_descent}
