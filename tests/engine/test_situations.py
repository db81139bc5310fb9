"""Where there is no derivative, or hardly one: each situation is provoked, and nearly so, and never answered by a bare number.

The problems are those of docs/explanation/no-derivative.md, in sample_inputs/situations.py.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from implicit_cli import engine
from implicit_cli.result import CaseResult, Product
from implicit_cli.spec import load_spec
from implicit_cli.status import Status

NAN = float("nan")
GOOD = (Status.OK, Status.PARTIAL)


@dataclass(frozen=True)
class Case:
    """A problem, what the spec says beside it, and what must come out: values by (of, wrt), NaN where there is no derivative."""

    problem: str
    spec: str
    status: Status
    says: str = ""
    values: Mapping[tuple[str, str], Any] = field(default_factory=dict)
    stored: Callable[[CaseResult], bool] = lambda result: True
    bounded: bool = True
    """Every value that is a number has a bound that holds."""


@pytest.fixture(scope="module")
def problems() -> ModuleType:
    path = Path(__file__).resolve().parents[2] / "sample_inputs" / "situations.py"
    spec = importlib.util.spec_from_file_location("situations", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run(problems: ModuleType, tmp_path: Path) -> Callable[[str, str], CaseResult]:
    def run(problem: str, text: str) -> CaseResult:
        path = tmp_path / "spec.yaml"
        path.write_text(f"problem: here\n{text}\n")
        loaded = load_spec(path)
        vectors = engine.Vectors(engine.bind(loaded, getattr(problems, problem)))
        return engine.run_case(vectors, engine.make_plan(loaded, vectors), identity="0", seed=0)

    return run


def products(result: CaseResult) -> dict[tuple[str, str], Product]:
    return {(product.of, product.wrt): product for product in result.products}


X = ("x", "t")
STIFFEST = "options: {digits: 11}\nsolver: {tol: 1.0e-3}\n"
STARVED = "sensitivity: {linear_solver: {name: cg, max_steps: STEPS, escalate: false}}\nsolver: {tol: 1.0e-6, polish: false}"


def turned(digits: float) -> Any:
    """The inverse of `Scales`, on ones: in the basis that the problem uses, from the same formula."""
    turn = np.linalg.qr(np.vander(np.arange(1.0, 5.0)))[0]
    return turn @ (turn.T @ np.ones(4) * 10.0 ** (digits * np.arange(4.0) / 3))


PROVOKED = {
    "not converged": Case(
        "Logarithm",
        "solver: {max_steps: 1}\nparameters: {t: 3.0}",
        Status.NOT_CONVERGED,
        "raise solver.max_steps",
        stored=lambda r: r.solver.residual > r.solver.tol and r.solver.status is Status.NOT_CONVERGED,
        bounded=False,
    ),
    "no solution": Case(
        "Fold",
        "parameters: {t: -1.0}",
        Status.NOT_CONVERGED,
        "try another solver",
        {X: NAN},
        lambda r: r.solver.residual == pytest.approx(1.0),
    ),
    "runaway": Case(
        "Threshold",
        "solver: {name: fixed_point, polish: false, max_steps: 60}\noptions: {eta: 1.9}",
        Status.NOT_CONVERGED,
        "may have no solution",
        stored=lambda r: r.solver.residual > 1e3,
        bounded=False,
    ),
    "not finite": Case(
        "Logarithm",
        "initial: {x: -1.0}",
        Status.NOT_FINITE,
        "the initial guess",
        stored=lambda r: np.isnan(r.solver.residual) and not r.products,
    ),
    "gauge that B leaves": Case(
        "Springs",
        "options: {balanced: false}\nparameters: {t: 0.0}",
        Status.SINGULAR,
        "along a gauge",
        {("u", "t"): np.full(5, NAN), ("length", "t"): NAN},
        lambda r: r.null_space.gauges == ("translation",),
    ),
    "fold": Case(
        "Fold",
        "parameters: {t: 0.0}\ninitial: {x: 0.0}",
        Status.SINGULAR,
        "move the parameters away",
        {X: NAN, ("y", "t"): 1.0},
        lambda r: bool(r.null_space.undetermined["null mode"]["x"]) and not r.null_space.undetermined["null mode"]["y"],
    ),
    "creeping up to a fold": Case(
        "Fold",
        "parameters: {t: 0.0}",
        Status.NO_CERTIFICATE,
        "Newton-Kantorovich h >= 1/2",
        stored=lambda r: r.certificate.h > 0.45 and np.isnan(r.certificate.radius),
        bounded=False,
    ),
    "bifurcation": Case(
        "Pitchfork",
        "parameters: {t: 0.0}",
        Status.SINGULAR,
        "a bifurcation",
        {X: NAN},
        lambda r: r.null_space.dimension == 1,
    ),
    "saddle": Case(
        "Pitchfork",
        "parameters: {t: 1.0}",
        Status.NOT_A_MINIMUM,
        "1 negative eigenvalue",
        {X: 0.0},
    ),
    "floppy": Case(
        "Springs",
        "options: {loose: true}",
        Status.PARTIAL,
        "u[4]: some components are not determined",
        {("u", "t"): [-1.5, -0.5, 0.5, 1.5, NAN], ("length", "t"): 3.0},
        lambda r: r.null_space.dimension == 2 and r.null_space.undetermined["null mode"]["u"].tolist() == [False] * 4 + [True],
    ),
    "kink of a prox": Case(
        "Threshold",
        "parameters: {t: 0.6}",
        Status.NONDIFFERENTIABLE,
        "one_sided",
        {X: [NAN, NAN]},
        lambda r: r.certificate.margin < 1e-15,
    ),
    "weakly active constraint": Case(
        "Wall",
        "parameters: {t: 1.0}",
        Status.NONDIFFERENTIABLE,
        "a kink is 0.0e+00 away",
        {X: NAN, ("push", "t"): [NAN]},
        lambda r: r.certificate.margin == 0.0,
    ),
    "kink that nobody declared": Case(
        "Corner",
        "parameters: {t: 0.0}",
        Status.NONDIFFERENTIABLE,
        "no margin declares",
        {X: NAN, ("above", "t"): NAN},
        lambda r: np.isinf(r.certificate.margin),
    ),
    "kink of an output": Case(
        "Corner",
        "parameters: {t: 1.0}",
        Status.NONDIFFERENTIABLE,
        "above: derivatives jump",
        {X: 1.0, ("above", "t"): NAN},
    ),
    "zero weight with zero multiplier": Case(
        "Shares",
        "parameters: {t: 0.0}",
        Status.NONDIFFERENTIABLE,
        "a kink is",
        {("w", "t"): np.full(3, NAN)},
        lambda r: r.certificate.margin < 1e-7,
    ),
    "softmax at an exact zero": Case(
        "Shares",
        "options: {step: softmax}\nparameters: {t: -20.0}",
        Status.NOT_FINITE,
        "dF/dx is not finite at the solution",
        {("w", "t"): np.full(3, NAN)},
    ),
    "softmax on the edge": Case(
        "Shares",
        "options: {step: softmax}\nparameters: {t: -0.2}",
        Status.NO_CERTIFICATE,
        "on the edge of its domain",
        bounded=False,
    ),
    "linear solve stagnates": Case(
        "Scales",
        STARVED.replace("STEPS", "1"),
        Status.LINEAR_SOLVE_FAILED,
        "choose another sensitivity.linear_solver",
        stored=lambda r: r.linear[0].residual[0] > 0.1 and r.linear[0].status[0] == Status.LINEAR_SOLVE_FAILED,
        bounded=False,
    ),
    "precision lost": Case(
        "Balance",
        f"parameters: {{t: {1 + 2.0**-43}, ballast: 1.0}}",
        Status.PRECISION_LOST,
        "rescale the problem",
        {X: -(2.0**86), ("x", "ballast"): 2.0**86},
    ),
    "accuracy not met": Case(
        "Scales",
        f"{STIFFEST}sensitivity: {{accuracy: 1.0e-10}}",
        Status.ACCURACY_NOT_MET,
        "stands in the way",
        {X: turned(11.0)},
        lambda r: r.certificate.kappa == pytest.approx(1e11, rel=1e-3),
    ),
}
NEARLY = {
    "not converged": Case("Logarithm", "solver: {max_steps: 20}\nparameters: {t: 3.0}", Status.OK, "", {X: np.exp(3.0)}),
    "no solution": Case("Fold", "parameters: {t: 1.0e-4}", Status.OK, "", {X: 50.0}),
    "runaway": Case("Threshold", "solver: {name: fixed_point, max_steps: 60}", Status.OK, "", {X: [-1 / 3, -1 / 3]}),
    "not finite": Case("Logarithm", "initial: {x: 0.1}", Status.OK, "", {X: np.e}),
    "gauge that B leaves": Case(
        "Springs",
        "",
        Status.OK,
        "",
        {("u", "t"): [-2.0, -1.0, 0.0, 1.0, 2.0], ("length", "t"): 3.0},
        lambda r: (r.null_space.dimension, r.null_space.gauges) == (1, ("translation",)),
    ),
    "fold": Case("Fold", "parameters: {t: 1.0e-10}", Status.OK, "", {X: 5e4, ("y", "t"): 1.0}),
    "creeping up to a fold": Case("Fold", "parameters: {t: 1.0e-10}", Status.OK, "", {X: 5e4}),
    "bifurcation": Case("Pitchfork", "parameters: {t: -1.0e-9}", Status.OK, "", {X: 0.0}),
    "saddle": Case("Pitchfork", "parameters: {t: 1.0}\ninitial: {x: 0.5}", Status.OK, "", {X: 0.5}),
    "floppy": Case(
        "Springs", "options: {loose: true}\nsensitivity: {of: [length]}", Status.PARTIAL, "u[4]", {("length", "t"): 3.0}
    ),
    "kink of a prox": Case(
        "Threshold", "parameters: {t: 0.6000001}", Status.OK, "", {X: [-0.5, 0.0]}, lambda r: 1e-9 < r.certificate.margin < 1e-6
    ),
    "weakly active constraint": Case(
        "Wall",
        "parameters: {t: 1.0000001}",
        Status.OK,
        "",
        {X: 0.0, ("push", "t"): [1.0]},
        lambda r: 0 < r.certificate.margin < 1e-6,
    ),
    "kink that nobody declared": Case("Corner", "parameters: {t: -1.0e-9}", Status.OK, "", {X: -1.0, ("above", "t"): 0.0}),
    "kink of an output": Case("Corner", "parameters: {t: 1.00000001}", Status.OK, "", {X: 1.0, ("above", "t"): 1.0}),
    "zero weight with zero multiplier": Case(
        "Shares", "parameters: {t: 1.0e-4}", Status.OK, "", {("w", "t"): np.array([-1.0, -1.0, 2.0]) / 3}
    ),
    "softmax at an exact zero": Case("Shares", "parameters: {t: -20.0}", Status.OK, "", {("w", "t"): np.zeros(3)}),
    "softmax on the edge": Case(
        "Shares", "options: {step: softmax}\nparameters: {t: 0.2}", Status.OK, "", {("w", "t"): np.array([-1.0, -1.0, 2.0]) / 3}
    ),
    "linear solve stagnates": Case("Scales", STARVED.replace("STEPS", "50"), Status.OK, "", {X: turned(4.0)}),
    "precision lost": Case("Balance", f"parameters: {{t: {1 + 2.0**-20}, ballast: 1.0}}", Status.OK, "", {X: -(2.0**40)}),
    "accuracy not met": Case("Scales", STIFFEST.replace("11", "7"), Status.OK, "", {X: turned(7.0)}),
}


@pytest.mark.parametrize(
    "case",
    [*PROVOKED.values(), *NEARLY.values()],
    ids=[*PROVOKED, *(f"nearly: {name}" for name in NEARLY)],
)
def test_a_situation(run: Callable[[str, str], CaseResult], case: Case) -> None:
    result = run(case.problem, case.spec)
    assert result.status is case.status, result.message
    assert case.says in result.message
    assert bool(result.message) == (result.status is not Status.OK)
    assert case.stored(result), (result.certificate, result.null_space, result.solver)
    found = products(result)
    for key, expected in case.values.items():
        product, expected = found[key], np.asarray(expected, dtype=float)
        value, bound = np.asarray(product.value), np.asarray(product.bound.total)
        assert np.isnan(value).tolist() == np.isnan(expected).tolist(), key
        error = np.linalg.norm((value - expected)[~np.isnan(expected)])
        if np.isnan(expected).all():
            assert not product.status.good
        elif case.bounded:
            ulp = 4 * np.finfo(float).eps * np.linalg.norm(expected[~np.isnan(expected)])
            assert error <= bound + ulp, (key, value, expected)
        if result.status in GOOD:
            assert product.status in GOOD
    # a number whose case is in doubt says so itself, or has no bound, or a bound that is true
    for product in result.products:
        if not case.bounded:
            assert product.status is result.status
            assert result.status is Status.NOT_CONVERGED or not np.isfinite(product.bound.total).any()


@pytest.mark.parametrize("t", [1 - 1e-14, 1 + 1e-13])
def test_a_kink_beside_the_solution_is_one_where_A_is_singular_already(run: Callable[[str, str], CaseResult], t: float) -> None:
    """The row of A that vanishes at t = 1 is below the tolerance for singular values: x is as good as on the kink."""
    result = run("Wall", f"parameters: {{t: {t!r}}}\nsensitivity: {{one_sided: true, products: [{{jvp: {{up: {{t: 1}}}}}}]}}")
    assert result.status is Status.NONDIFFERENTIABLE, result.message
    found = {(product.kind, product.of): product.value for product in result.products}
    assert np.isnan(found["jvp", "x"])
    np.testing.assert_allclose([found["jvp_left", "x"], found["jvp_right", "x"]], [1.0, 0.0], atol=1e-9)


def test_every_situation_is_nearly_provoked_too() -> None:
    assert set(PROVOKED) == set(NEARLY)
    statuses = {case.status for case in (*PROVOKED.values(), *NEARLY.values())}
    # an error in the problem's own code ends a single run; what it is in a sweep: tests/engine/test_sweep.py
    assert statuses == set(Status) - {Status.CRASHED, Status.TIMED_OUT}, "a status that nothing provokes"
