"""The small problems against their closed forms, through the command's own path: spec in, records out."""

import numpy as np
import pytest

from implicit_cli import engine, plugins
from implicit_cli.spec import load_spec
from implicit_cli.status import Status

WITNESS = 1e-13
"""Relative error of the closed forms, which are evaluated in double precision too."""


def holds(product, truth):
    """Each column of the error (2-norm over the output's axes) is within its bound, and what the witness's own rounding is."""
    error, size = (
        np.linalg.norm(np.reshape(part, (-1, max(product.bound.total.size, 1))), axis=0) for part in (product.value - truth, truth)
    )
    return (error <= product.bound.total.ravel() + WITNESS * size).all()


def agrees(product, truth, rtol=1e-10):
    np.testing.assert_allclose(product.value, truth, rtol=rtol, atol=rtol * np.abs(truth).max())
    assert holds(product, truth)


@pytest.mark.parametrize("mode", ["forward", "adjoint"])
@pytest.mark.parametrize("linear", ["auto", "cg"])
def test_quadratic(solve, mode, linear):
    Q, b = np.array([[4.0, 1.0, 0.0], [1.0, 3.0, 0.5], [0.0, 0.5, 2.0]]), np.array([1.0, -1.0, 0.5])
    result, found = solve(
        f"problem: quadratic\ndata: {{Q: {Q.tolist()}}}\nparameters: {{b: {b.tolist()}}}\n"
        f"sensitivity: {{mode: {mode}, linear_solver: {linear}}}\n"
    )
    assert result.status is Status.OK
    x = np.linalg.solve(Q, b)
    np.testing.assert_allclose(result.solution["x"], x, rtol=1e-13)
    agrees(found["jacobian", "", "x", "b"], np.linalg.inv(Q))
    agrees(found["jacobian", "", "minimum", "b"], -x)
    source = "computed" if linear == "auto" else "estimated"
    assert result.certificate.provenance["sigma_min"] == source
    assert result.certificate.sigma_min == pytest.approx(np.linalg.eigvalsh(Q).min(), rel=1e-12 if linear == "auto" else 0.05)


def test_kepler(solve):
    e, M = np.array([0.0167, 0.2056, 0.9671, 0.5]), np.array([1.0, 1.0, 1.0, -2.0])
    result, found = solve(f"problem: kepler\nparameters: {{eccentricity: {e.tolist()}, mean_anomaly: {M.tolist()}}}\n")
    assert result.status is Status.OK
    E = result.solution["E"]
    np.testing.assert_allclose(E - e * np.sin(E), M, rtol=1e-14)
    denominator = 1 - e * np.cos(E)
    agrees(found["jacobian", "", "E", "eccentricity"], np.diag(np.sin(E) / denominator))
    agrees(found["jacobian", "", "E", "mean_anomaly"], np.diag(1 / denominator))
    radius = np.diag(-np.cos(E) + e * np.sin(E) * np.sin(E) / denominator)
    agrees(found["jacobian", "", "radius", "eccentricity"], radius)


@pytest.mark.parametrize(("transform", "slope"), [("identity", 1.0), ("log", 0.4), ("log10", 0.4 * np.log(10))])
def test_contraction_with_the_chain_rule_of_a_transform(solve, transform, slope):
    M, b, rho = np.array([[0.0, 1.0, 0.3], [-1.0, 0.5, 0.0], [0.2, 0.0, 0.7]]), np.array([1.0, 2.0, -1.0]), 0.4
    result, found = solve(
        f"problem: contraction\ndata: {{M: {M.tolist()}}}\nparameters: {{rho: {rho}, b: {b.tolist()}}}\n"
        f"transforms: {{rho: {transform}}}\n"
        "sensitivity:\n  products: [jacobian, {jvp: {mixed: {rho: 2.0, b: [1, 0, -1]}}}, {vjp: {first: {x: [1, 0, 0]}}}]\n"
    )
    assert result.status is Status.OK
    inverse = np.linalg.inv(np.eye(3) - rho * M)
    x = inverse @ b
    J_rho, J_b = slope * inverse @ M @ x, inverse
    agrees(found["jacobian", "", "x", "rho"], J_rho)
    agrees(found["jacobian", "", "x", "b"], J_b)
    agrees(found["jvp", "mixed", "x", ""], 2 * J_rho + J_b @ [1, 0, -1])
    agrees(found["vjp", "first", "", "rho"], J_rho[0])
    agrees(found["vjp", "first", "", "b"], J_b[0])
    # the dot test: w' (J v) = (J' w)' v
    jvp, vjp = (
        found["jvp", "mixed", "x", ""].value[0],
        found["vjp", "first", "", "rho"].value * 2 + found["vjp", "first", "", "b"].value @ [1, 0, -1],
    )
    assert jvp == pytest.approx(vjp, rel=1e-13)


@pytest.mark.parametrize("mode", ["forward", "adjoint"])
def test_ridge_on_the_diabetes_data(samples, mode):
    import h5py

    loaded = load_spec(samples / "ridge.yaml", [f"sensitivity.mode={mode}"])
    cls = plugins.load("ridge", base=samples, allow_plugin=False, plugins=())
    vectors = engine.Vectors(engine.bind(loaded, cls))
    result = engine.run_case(vectors, engine.make_plan(loaded, vectors), identity="0", seed=0)
    found = {(p.kind, p.of, p.wrt): p for p in result.products}
    with h5py.File(samples / "diabetes.h5") as file:
        X, y, X_v, y_v = (file[name][()] for name in ("X", "y", "X_validation", "y_validation"))
    H = X.T @ X / len(y) + 0.1 * np.eye(10)
    w = np.linalg.solve(H, X.T @ y / len(y))
    J = -np.linalg.solve(H, np.diag(w))
    assert result.status is Status.OK
    jacobian = found["jacobian", "w", "penalty"]
    assert np.linalg.norm(jacobian.value - J) <= 1e-10 * np.linalg.norm(J)
    assert holds(jacobian, J)
    agrees(found["jacobian", "validation_loss", "penalty"], (X_v @ w - y_v) @ X_v @ J / len(y_v))
    agrees(found["jvp", "w", ""], J @ np.ones(10))
    agrees(found["vjp", "", "penalty"], J[2])
    assert jacobian.bound.kind == ("bound" if mode == "forward" else "estimate")


def test_a_solver_stopped_early_keeps_its_status_and_a_bound_that_holds(samples):
    loaded = load_spec(samples / "ridge.yaml", ["solver.max_steps=12", "solver.polish=false"])
    vectors = engine.Vectors(engine.bind(loaded, plugins.load("ridge", base=samples, allow_plugin=False, plugins=())))
    result = engine.run_case(vectors, engine.make_plan(loaded, vectors), identity="0", seed=0)
    exact_spec = load_spec(samples / "ridge.yaml")
    exact = engine.run_case(vectors, engine.make_plan(exact_spec, vectors), identity="0", seed=0)
    assert result.status is Status.NOT_CONVERGED
    assert "after 12 steps of lbfgs" in result.message
    for product, truth in zip(result.products, exact.products, strict=True):
        if product.kind == "jacobian":
            columns = np.linalg.norm(np.reshape(product.value - truth.value, (-1, 10)), axis=0)
            assert (columns > 1e-9 * np.linalg.norm(truth.value)).any()  # there is an error to bound
            assert (columns <= product.bound.total).all()


@pytest.mark.parametrize("transform", ["identity", "log"])
def test_a_proved_bound_knows_the_length_of_a_direction_and_the_slope_of_a_transform(solve, transform):
    X, y, penalty = np.array([[1.0, 2.0], [3.0, -1.0], [0.5, 1.5]]), np.array([1.0, 2.0, 0.5]), 30.0
    result, found = solve(
        f"problem: ridge\ndata: {{X: {X.tolist()}, y: {y.tolist()}, X_validation: [[1, 1]], y_validation: [1]}}\n"
        f"parameters: {{penalty: {penalty}}}\ntransforms: {{penalty: {transform}}}\nsolver: {{tol: 3e-2, polish: false}}\n"
        "sensitivity:\n  of: [w]\n  accuracy: 1\n"
        "  products: [jacobian, {jvp: {short: {penalty: [1, 0]}, long: {penalty: [10000, 0]}}}]\n"
    )
    H = X.T @ X / 3 + penalty * np.eye(2)
    w = np.linalg.solve(H, X.T @ y / 3)
    slope = penalty if transform == "log" else 1.0
    J = -np.linalg.solve(H, np.diag(w)) * slope
    assert result.solver.residual > 1e-6  # x is rough on purpose: there is an error to bound
    assert found["jacobian", "", "w", "penalty"].bound.kind == "bound"
    assert holds(found["jacobian", "", "w", "penalty"], J)
    assert holds(found["jvp", "short", "w", ""], J[:, 0])
    assert holds(found["jvp", "long", "w", ""], 1e4 * J[:, 0])


def test_an_objective_without_a_minimum_is_said_to_run_away(solve):
    result, _ = solve("problem: quadratic\ndata: {Q: [[1, 2], [2, 1]]}\nparameters: {b: [1.0, -1.0]}\nsolver: {max_steps: 100}\n")
    assert not result.status.good
    assert "the problem may have no solution" in result.message or result.status is Status.NOT_FINITE
