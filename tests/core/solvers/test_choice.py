"""What each condition allows, and what "auto" picks and says."""

import jax.numpy as jnp
import pytest

from implicit_cli.core.implicit import Point
from implicit_cli.core.solvers import METHODS, Goal, Limits, allowed, pick
from implicit_cli.core.solvers.choice import _ALLOWED, SMALL

PROX = "accelerated_proximal_gradient"
OPERATOR = "auto: smooth objective with a projection or prox, d = 3"
F = lambda x, theta, data: x  # noqa: E731
GIVEN = lambda *a: None  # noqa: E731
PLAIN, LEAST_SQUARES, BOX = Goal(F, f=GIVEN), Goal(F, f=GIVEN, r=GIVEN), Goal(F, f=GIVEN, T=GIVEN, prox=GIVEN, bounds=GIVEN)


def at(d):
    return Point(jnp.zeros(d), jnp.zeros(1), None)


@pytest.mark.parametrize(
    ("kind", "goal", "d", "device", "name", "reason"),
    [
        ("stationary", PLAIN, 100_000, "cpu", "lbfgs", "auto: smooth objective, d = 100000"),
        ("stationary", LEAST_SQUARES, 9, "cpu", "levenberg_marquardt", "auto: least squares, dense, d = 9"),
        ("stationary", LEAST_SQUARES, SMALL + 1, "cpu", "lbfgs", f"auto: smooth objective, d = {SMALL + 1}"),
        ("root", PLAIN, 3, "cpu", "newton", "auto: dense Jacobian, damped, d = 3"),
        ("newton", PLAIN, 3, "cpu", "fixed_point", "auto: T is a Newton step, d = 3"),
        ("fixed_point", PLAIN, 3, "cpu", "anderson", "auto: fixed point, safeguarded by plain steps, d = 3"),
        (
            "proximal_gradient",
            BOX,
            3,
            "cpu",
            "accelerated_proximal_gradient",
            "auto: smooth objective with a projection or prox, d = 3",
        ),
        ("projected_gradient", BOX, 3, "cpu", "lbfgsb", "auto: smooth objective in a box, on the host, d = 3"),
        (
            "projected_gradient",
            BOX,
            3,
            "gpu",
            "accelerated_proximal_gradient",
            "auto: smooth objective with a projection or prox, d = 3",
        ),
        ("mirror_descent", PLAIN, 3, "cpu", "mirror_descent", "auto: objective with a mirror map, d = 3"),
        (
            "block_proximal_gradient",
            Goal(F, blocks=((0, 1), (1, 3))),
            3,
            "cpu",
            "block_coordinate_descent",
            "auto: 2 blocks with operators of their own, d = 3",
        ),
        ("conic", Goal(F, program=GIVEN), 3, "cpu", "clarabel", "auto: conic program, on the host, d = 3"),
    ],
)
def test_auto_picks_by_what_there_is_and_says_why(kind, goal, d, device, name, reason):
    assert pick("auto", kind, goal, at(d), device=device) == (name, reason)
    assert name in allowed(kind, goal)


@pytest.mark.parametrize(("power", "name"), [(2, "qp"), (4, "slsqp")])
def test_auto_tells_quadratic_programs_from_others(power, name):
    def f(x, theta, data):
        return jnp.sum((x[:2] - 3.0) ** power) + x[0] * x[1] / 2

    limits = Limits(None, lambda x, theta, data: x[:2] - theta, ((0, 2),), (2, 2), (2, 4))
    chosen, reason = pick("auto", "kkt", Goal(F, f=f, limits=limits), at(4))
    assert chosen == name
    assert "program" in reason


def test_what_is_asked_for_must_be_allowed_and_have_what_it_needs():
    assert pick("fire", "stationary", PLAIN, at(3)) == ("fire", "asked for")
    with pytest.raises(ValueError, match="found 'fire', allowed for a root condition: 'auto', 'newton', "):
        pick("fire", "root", PLAIN, at(3))
    with pytest.raises(ValueError, match=r"found 'gauss_newton', which needs residuals \(least_squares\), allowed for a "):
        pick("gauss_newton", "stationary", PLAIN, at(3))
    with pytest.raises(ValueError, match="found 'bisection', which needs bounds, allowed"):
        pick("bisection", "root", PLAIN, at(3))
    assert pick("bisection", "root", BOX, at(3))[0] == "bisection"


def test_every_name_is_a_solver_and_every_solver_is_allowed_somewhere():
    names = {name for row in _ALLOWED.values() for name in row}
    assert names == set(METHODS)
    for name, make in METHODS.items():
        assert make(PLAIN).name == name
