"""Fixed points, roots and what learns through them, against closed forms, numerical methods written here, and SciPy."""

from itertools import combinations

import numpy as np
import pytest
from scipy.integrate import solve_bvp
from scipy.optimize import brentq
from scipy.special import expit, logsumexp, softmax

from implicit_cli.status import Status

TINY = 1e-30
"""A complex step: the imaginary part of an analytic function over it is its derivative, to all digits."""


def agrees(product, truth, rtol=1e-10):
    """Value and truth agree, and the error is within the bound but for what the witness itself may lack."""
    truth = np.asarray(truth)
    np.testing.assert_allclose(product.value, truth, rtol=rtol, atol=rtol * max(np.abs(truth).max(), 1e-3))
    assert np.isfinite(product.bound.total).all()
    assert np.linalg.norm(product.value - truth) <= np.linalg.norm(product.bound.total) + rtol * max(np.linalg.norm(truth), 1e-3)


def differences(f, x, h=1e-4):
    """Derivative of f (an array) by every entry of x, at the end: central differences, extrapolated once."""

    def slope(index, h):
        step = np.zeros_like(x)
        step[index] = h
        return (f(x + step) - f(x - step)) / (2 * h)

    columns = [(4 * slope(index, h / 2) - slope(index, h)) / 3 for index in np.ndindex(*x.shape)]
    return np.moveaxis(np.array(columns), 0, -1).reshape(*np.shape(columns[0]), *x.shape)


# A deep-equilibrium layer

LAYER = {
    "X": np.array([[1.0, 2.0], [0.5, -1.0], [0.0, 0.7], [-1.2, 0.3]]),
    "y": np.array([1.0, -1.0, 0.3, 0.8]),
    "W": np.array([[0.3, -0.4, 0.1], [0.2, 0.5, -0.3], [0.0, 0.2, -0.4]]),
    "U": np.array([[1.0, 0.0], [0.5, 1.0], [-0.3, 0.4]]),
    "b": np.array([0.1, -0.2, 0.05]),
    "readout": np.array([1.0, 2.0, -0.5]),
    "offset": np.array(0.2),
}


def layer_loss(X, y, W, U, b, readout, offset):
    z = np.zeros((len(X), len(b)), dtype=complex)
    for _ in range(400):
        z = np.tanh(z @ W.T + X @ U.T + b)
    return np.mean((z @ readout + offset - y) ** 2) / 2, z


def by_complex_step(f, given, name):
    slope = np.zeros_like(given[name])
    for index in np.ndindex(*slope.shape):
        moved = given[name].astype(complex)
        moved[index] += 1j * TINY
        slope[index] = np.imag(f(**(given | {name: moved}))[0]) / TINY
    return slope


@pytest.mark.parametrize("scale", [1.0, 1.8])
def test_an_equilibrium_layer_answers_as_its_iteration_does(solve, scale):
    layer = LAYER | {"W": scale * LAYER["W"]}
    size = np.linalg.norm(layer["W"], 2)
    assert (size < 1) == (scale == 1)  # the other one is no contraction, and its iteration converges all the same
    given = {name: value.tolist() for name, value in layer.items()}
    data, parameters = ({name: given[name] for name in names} for names in (("X", "y"), ("W", "U", "b", "readout", "offset")))
    result, found = solve(
        f"problem: equilibrium_layer\ndata: {data}\nparameters: {parameters}\nsensitivity: {{of: [loss], mode: adjoint}}\n"
    )
    assert result.status is Status.OK
    loss, z = layer_loss(**layer)
    np.testing.assert_allclose(result.solution["z"], z.real, rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(result.outputs["loss"], loss.real, rtol=1e-13)
    for name in parameters:
        agrees(found["jacobian", "", "loss", name], by_complex_step(layer_loss, layer, name))
    assert result.certificate.sigma_min >= 1 - size


# A reaction network

CYCLE = {
    "stoichiometry": [
        [-1, 1, 0, 0, 0, 1],
        [0, 0, 1, -1, 1, 0],
        [-1, 1, 1, 0, 0, 0],
        [0, 0, 0, -1, 1, 1],
        [1, -1, -1, 0, 0, 0],
        [0, 0, 0, 1, -1, -1],
    ],
    "order": [
        [1, 0, 0, 0, 0, 0],
        [0, 0, 0, 1, 0, 0],
        [1, 0, 0, 0, 0, 0],
        [0, 0, 0, 1, 0, 0],
        [0, 1, 1, 0, 0, 0],
        [0, 0, 0, 0, 1, 1],
    ],
    "conservation": [[1, 1, 0, 0, 1, 1], [0, 0, 1, 0, 1, 0], [0, 0, 0, 1, 0, 1]],
}
"""W + E1 <-> E1W -> Wm + E1 and Wm + E2 <-> E2Wm -> W + E2; species W, Wm, E1, E2, E1W, E2Wm."""
CONTROL = "transforms: {k: log, total: log}\nsensitivity: {of: [log_concentration, log_rate]}\n"


def cycle(k, total):
    """The steady state by one equation for the flux (Goldbeter and Koshland 1981), also for k or totals with an imaginary part.

    Gives the logarithms of the six concentrations and of the six rates.
    """
    K1, K2 = (k[1] + k[2]) / k[0], (k[4] + k[5]) / k[3]

    def species(v):
        E1W, E2Wm = v / k[2], v / k[5]
        E1, E2 = total[1] - E1W, total[2] - E2Wm
        return np.array([K1 * E1W / E1, K2 * E2Wm / E2, E1, E2, E1W, E2Wm])

    def excess(v):
        return species(v)[[0, 1, 4, 5]].sum() - total[0]

    most = min((k[2] * total[1]).real, (k[5] * total[2]).real)
    v = brentq(lambda v: excess(v).real, 1e-12 * most, most * (1 - 1e-12), xtol=1e-16, rtol=1e-14)
    for _ in range(4):  # Newton: to the last digit, and on to the imaginary part
        E1, E2 = species(v)[2:4]
        v = v - excess(v) / ((1 + K1 * total[1] / E1**2) / k[2] + (1 + K2 * total[2] / E2**2) / k[5])
    c = species(v)
    return np.log(c), np.log(k * np.array([c[0] * c[2], c[4], c[4], c[1] * c[3], c[5], c[5]]))


@pytest.mark.parametrize("enzyme", [0.02, 0.4])
def test_a_modification_cycle_and_its_control_coefficients(solve, enzyme):
    k, total = np.array([20.0, 1.0, 1.5, 15.0, 0.5, 1.0]), np.array([1.0, enzyme, 0.3])
    result, found = solve(
        f"problem: reaction_network\ndata: {CYCLE}\nparameters: {{k: {k.tolist()}, total: {total.tolist()}}}\n{CONTROL}"
    )
    assert result.status is Status.OK
    log_c, log_v = cycle(k, total)
    np.testing.assert_allclose(result.solution["log_concentration"], log_c, rtol=0, atol=1e-11)
    np.testing.assert_allclose(result.outputs["log_rate"], log_v, rtol=0, atol=1e-11)
    for wrt, value in (("k", k), ("total", total)):
        rows = []
        for j in range(value.size):
            moved = value * np.exp(1j * TINY * (np.arange(value.size) == j))
            rows.append(np.imag(cycle(moved, total) if wrt == "k" else cycle(k, moved)) / TINY)
        of_c, of_v = np.moveaxis(np.array(rows), 0, -1)
        agrees(found["jacobian", "", "log_concentration", wrt], of_c, rtol=1e-9)
        agrees(found["jacobian", "", "log_rate", wrt], of_v, rtol=1e-9)
    # the summation theorems of metabolic control analysis (Heinrich and Rapoport 1974)
    np.testing.assert_allclose(found["jacobian", "", "log_rate", "k"].value.sum(axis=1), 1.0, rtol=1e-11)
    np.testing.assert_allclose(found["jacobian", "", "log_concentration", "k"].value.sum(axis=1), 0.0, atol=1e-11)


@pytest.mark.parametrize(("law", "status"), [([1, 1, 0, 0, 1, 0], Status.NOT_FINITE), ([0, 0, 0, 0, 0, 0], Status.SINGULAR)])
def test_laws_must_be_kept_and_all_be_there(solve, law, status):
    # the first one is broken by reactions; the other one says nothing, as if it were left out
    wrong = CYCLE | {"conservation": [law, *CYCLE["conservation"][1:]]}
    result, _ = solve(f"problem: reaction_network\ndata: {wrong}\nparameters: {{k: 1.0, total: 1.0}}\n{CONTROL}")
    assert result.status is status


# Power flow

GRID = {
    "kind": [3, 2, 1, 1],
    "from_bus": [0, 0, 1, 2, 1],
    "to_bus": [1, 2, 2, 3, 3],
    "shunt": [0.0, 0.0, 0.1, 0.05],
}
LINES = {
    "P": np.array([0.0, 0.4, -0.6, -0.5]),
    "Q": np.array([0.0, 0.0, -0.2, 0.1]),
    "setpoint": np.array([1.03, 1.01, 1.0, 1.0]),
    "resistance": np.array([0.02, 0.05, 0.03, 0.0, 0.04]),
    "reactance": np.array([0.06, 0.2, 0.15, 0.25, 0.18]),
    "charging": np.array([0.05, 0.04, 0.0, 0.0, 0.03]),
    "tap": np.array([1.0, 1.0, 1.0, 0.95, 1.0]),
}


def admittance(grid, lines):
    """The matrix Y of bus currents Y V, and those of the currents into branches at their first buses."""
    n, m = len(grid["kind"]), len(grid["from_bus"])
    y = 1 / (lines["resistance"] + 1j * lines["reactance"])
    half, tap = 0.5j * lines["charging"], lines["tap"]
    first, second = np.eye(n)[grid["from_bus"]], np.eye(n)[grid["to_bus"]]
    into_first = ((y + half) / tap**2)[:, None] * first - (y / tap)[:, None] * second
    into_second = (y + half)[:, None] * second - (y / tap)[:, None] * first
    assert first.shape == (m, n)
    return first.T @ into_first + second.T @ into_second + np.diag(1j * np.array(grid["shunt"])), into_first


def flow_of(grid, lines):
    """Newton's method on complex powers V conj(Y V), with MATPOWER's derivatives: angles, voltages, losses, flows."""
    kind = np.array(grid["kind"])
    Y, into_first = admittance(grid, lines)
    angle, voltage = np.zeros(len(kind)), np.where(kind >= 2, lines["setpoint"], 1.0)
    inner, loads = np.flatnonzero(kind < 3), np.flatnonzero(kind == 1)
    for _ in range(12):
        V = voltage * np.exp(1j * angle)
        current = Y @ V
        miss = V * current.conj() - (lines["P"] + 1j * lines["Q"])
        by_angle = 1j * np.diag(V) @ (np.diag(current) - Y @ np.diag(V)).conj()
        by_voltage = np.diag(V) @ (Y @ np.diag(V / voltage)).conj() + np.diag(current.conj()) @ np.diag(V / voltage)
        jacobian = np.block(
            [
                [by_angle.real[np.ix_(inner, inner)], by_voltage.real[np.ix_(inner, loads)]],
                [by_angle.imag[np.ix_(loads, inner)], by_voltage.imag[np.ix_(loads, loads)]],
            ]
        )
        step = np.linalg.solve(jacobian, -np.concatenate([miss.real[inner], miss.imag[loads]]))
        angle[inner] += step[: inner.size]
        voltage[loads] += step[inner.size :]
    V = voltage * np.exp(1j * angle)
    fed = (V * (Y @ V).conj()).real
    flow = (V[grid["from_bus"]] * (into_first @ V).conj()).real
    return np.concatenate([angle, voltage, [fed.sum(), fed[kind == 3].item()], flow])


def test_a_small_grid_and_all_of_its_derivatives(solve):
    parameters = {name: value.tolist() for name, value in LINES.items()}
    result, found = solve(f"problem: power_flow\ndata: {GRID}\nparameters: {parameters}\n")
    assert result.status is Status.OK
    parts = {"angle": slice(0, 4), "voltage": slice(4, 8), "losses": 8, "slack": 9, "flow": slice(10, 15)}
    truth = flow_of(GRID, LINES)
    for name, where in parts.items():
        value = result.solution[name] if name in result.solution else result.outputs[name]
        np.testing.assert_allclose(value, truth[where], rtol=0, atol=1e-13)
    for wrt, value in LINES.items():
        slope = differences(lambda moved, wrt=wrt: flow_of(GRID, LINES | {wrt: moved}), value, h=1e-3)
        for name, where in parts.items():
            agrees(found["jacobian", "", name, wrt], slope[where], rtol=1e-7)
    # what is fed in elsewhere is not fed in at the slack bus
    more = found["jacobian", "", "losses", "P"].value - found["jacobian", "", "slack", "P"].value
    np.testing.assert_allclose(more, [0.0, 1.0, 1.0, 1.0], atol=1e-13)


# Boundary values


def bratu(lam, upper=False):
    """u(1/2), u'(0) and their derivatives by lam: Bratu's closed form on either branch."""
    bracket = (4.7987, 40.0) if upper else (0.0, 4.7987)  # t at the fold: t / 4 tanh(t / 4) = 1
    t = brentq(lambda t: t - np.sqrt(2 * lam) * np.cosh(t / 4), *bracket, xtol=1e-15)
    by_lam = t / (2 * lam) / (1 - t / 4 * np.tanh(t / 4))
    slope_by_t = np.tanh(t / 4) + t / 4 / np.cosh(t / 4) ** 2
    return 2 * np.log(np.cosh(t / 4)), t * np.tanh(t / 4), np.tanh(t / 4) / 2 * by_lam, slope_by_t * by_lam


@pytest.mark.parametrize("lam", [1.0, 3.5])
def test_bratu_has_its_closed_form(solve, lam):
    result, found = solve(f"problem: boundary_value\noptions: {{point: 24}}\nparameters: {{lam: {lam}}}\n")
    assert result.status is Status.OK
    middle, slope, middle_by_lam, slope_by_lam = bratu(lam)
    np.testing.assert_allclose([result.outputs["middle"], result.outputs["slope"]], [middle, slope], rtol=1e-9)
    agrees(found["jacobian", "", "middle", "lam"], middle_by_lam, rtol=1e-8)
    agrees(found["jacobian", "", "slope", "lam"], slope_by_lam, rtol=1e-8)


def test_bratu_has_no_solution_beyond_its_fold(solve):
    result, _ = solve("problem: boundary_value\noptions: {point: 24}\nparameters: {lam: 3.52}\n")
    assert result.status is Status.NOT_CONVERGED


def test_troesch_agrees_with_another_collocation(solve):
    lam = 2.0

    def equations(x, u):  # u, u', and their derivatives by lam
        f = lam * np.sinh(lam * u[0])
        return np.array(
            [u[1], f, u[3], lam**2 * np.cosh(lam * u[0]) * u[2] + np.sinh(lam * u[0]) + lam * u[0] * np.cosh(lam * u[0])]
        )

    x = np.linspace(0, 1, 21)
    witness = solve_bvp(
        equations,
        lambda a, b: np.array([a[0], b[0] - 1, a[2], b[2]]),
        x,
        np.array([x, 1 + 0 * x, 0 * x, 0 * x]),
        tol=1e-10,
        max_nodes=10**5,
    )
    assert witness.success
    result, found = solve("problem: boundary_value\noptions: {equation: troesch, point: 24}\nparameters: {lam: 2.0, right: 1.0}\n")
    assert result.status is Status.OK
    middle, start = witness.sol(0.5), witness.sol(0.0)
    np.testing.assert_allclose([result.outputs["middle"], result.outputs["slope"]], [middle[0], start[1]], rtol=1e-9)
    agrees(found["jacobian", "", "middle", "lam"], middle[2], rtol=1e-8)
    agrees(found["jacobian", "", "slope", "lam"], start[3], rtol=1e-8)


# Dataset distillation


def trained(image, penalty):
    """W by Newton's method in NumPy."""
    classes = len(image)
    W = np.zeros(image.shape)
    for _ in range(15):
        p = softmax(image @ W.T, axis=1)
        slope = (p - np.eye(classes)).T @ image / classes + penalty * W
        H = penalty * np.eye(W.size)
        for one, q in zip(image, p, strict=True):
            H += np.kron(np.diag(q) - np.outer(q, q), np.outer(one, one)) / classes
        W = W - np.linalg.solve(H, slope.ravel()).reshape(W.shape)
    assert np.abs(slope).max() < 1e-13
    return W


def cross_entropy(W, X, y):
    score = X @ W.T
    return np.mean(logsumexp(score, axis=1) - score[np.arange(len(y)), y])


def test_distilled_images_teach_a_classifier(solve):
    random = np.random.default_rng(0)
    X, y, X_v, y_v = (
        random.uniform(size=(7, 4)),
        random.integers(3, size=7),
        random.uniform(size=(5, 4)),
        random.integers(3, size=5),
    )
    image, penalty = random.normal(size=(3, 4)), 0.05
    data = {"X": X.tolist(), "y": y.tolist(), "X_validation": X_v.tolist(), "y_validation": y_v.tolist()}
    result, found = solve(
        f"problem: distillation\ndata: {data}\nparameters: {{image: {image.tolist()}, penalty: {penalty}}}\nsolver: newton\n"
    )
    assert result.status is Status.OK
    W = trained(image, penalty)
    np.testing.assert_allclose(result.solution["W"], W, rtol=0, atol=1e-12)

    def losses(image, penalty):
        W = trained(image, penalty)
        return np.array([cross_entropy(W, X, y), cross_entropy(W, X_v, y_v)])

    np.testing.assert_allclose([result.outputs["loss"], result.outputs["validation_loss"]], losses(image, penalty), rtol=1e-12)
    by_image = differences(lambda moved: losses(moved, penalty), image, h=1e-3)
    by_penalty = differences(lambda moved: losses(image, moved.item()), np.array([penalty]))
    for row, name in enumerate(("loss", "validation_loss")):
        agrees(found["jacobian", "", name, "image"], by_image[row], rtol=1e-7)
        agrees(found["jacobian", "", name, "penalty"], by_penalty[row, 0], rtol=1e-7)


# Task-driven dictionary learning

LOSSES = "sensitivity: {of: [loss, objective, validation_loss]}\n"


def coded(X, dictionary, l1, l2):
    """Codes by coordinate descent."""
    gram, target = dictionary @ dictionary.T, X @ dictionary.T
    code = np.zeros(target.shape)
    before = np.ones(target.shape)
    while np.abs(code - before).max() > 1e-15:
        before = code.copy()
        for j in range(len(dictionary)):
            rest = target[:, j] - code @ gram[:, j] + code[:, j] * gram[j, j]
            code[:, j] = np.sign(rest) * np.maximum(np.abs(rest) - l1, 0) / (gram[j, j] + l2)
    return code


def logistic(code, y, w, b):
    score = code @ w + b
    return np.mean(np.logaddexp(0, score) - y * score)


def test_codes_of_a_dictionary_and_the_loss_on_them(solve):
    random = np.random.default_rng(1)
    X, X_v = random.normal(size=(6, 4)), random.normal(size=(3, 4))
    y, y_v = np.array([0.0, 1, 1, 0, 1, 0]), np.array([1.0, 0, 1])
    given = {
        "dictionary": random.normal(size=(5, 4)),  # more atoms than features
        "w": random.normal(size=5),
        "b": np.array(0.3),
        "l1": np.array(0.4),
        "l2": np.array(0.3),
        "ridge": np.array(0.1),
    }
    data = {"X": X.tolist(), "y": y.tolist(), "X_validation": X_v.tolist(), "y_validation": y_v.tolist()}
    result, found = solve(
        f"problem: dictionary\ndata: {data}\nparameters: { ({name: value.tolist() for name, value in given.items()}) }\n{LOSSES}"
    )
    assert result.status is Status.OK
    code = coded(X, *(given[name] for name in ("dictionary", "l1", "l2")))
    assert 0 < np.sum(code == 0) < code.size
    np.testing.assert_allclose(result.solution["code"], code, rtol=0, atol=1e-11)

    def losses(dictionary, w, b, l1, l2, ridge):
        loss = logistic(coded(X, dictionary, l1, l2), y, w, b)
        return np.array([loss, loss + ridge / 2 * w @ w, logistic(coded(X_v, dictionary, l1, l2), y_v, w, b)])

    for wrt, value in given.items():
        slope = differences(lambda moved, wrt=wrt: losses(**(given | {wrt: moved})), value, h=1e-4)
        for row, name in enumerate(("loss", "objective", "validation_loss")):
            agrees(found["jacobian", "", name, wrt], slope[row], rtol=1e-6)


@pytest.mark.parametrize("beyond", [-1e-6, 1e-6, 0.0])
def test_an_atom_on_the_verge_of_use(solve, beyond):
    # orthonormal atoms, and one of zeros: code = sign(X) max(|X| - l1, 0) / (1 + l2), and only the first sample has one
    X = np.zeros((6, 4))
    X[0, :2] = 0.4 + beyond, -2.0
    result, found = solve(
        f"problem: dictionary\ndata: {{X: {X.tolist()}, y: {[0] * 6}, X_validation: {X[1:4].tolist()}, y_validation: [0, 0, 0]}}\n"
        f"parameters: {{dictionary: {np.eye(5, 4).tolist()}, l1: 0.4, l2: 0.25, w: [1, 2, 0, 0, 0]}}\n{LOSSES}"
    )
    by_l1 = found["jacobian", "", "loss", "l1"]
    if beyond == 0.0:
        assert result.status is Status.NONDIFFERENTIABLE
        assert np.isnan(by_l1.value)
    else:
        assert result.status is Status.OK
        score = max(beyond, 0.0) / 1.25 - 2 * 1.6 / 1.25
        agrees(by_l1, expit(score) / 6 * (2 - (beyond > 0)) / 1.25)


# Matrix factorisation

MATRIX = np.array(
    [[3.0, 1.0, 0.2, -1.0], [1.0, 2.0, 0.5, 0.3], [0.5, -1.0, 1.5, 0.0], [0.1, 0.4, -0.6, 2.0], [0.7, 0.0, 0.9, -0.2]]
)


def shrunk(M, penalty):
    """Singular values less the penalty, of the first three."""
    left, sizes, right = np.linalg.svd(M, full_matrices=False)
    return (left * (np.maximum(sizes - penalty, 0.0) * [1, 1, 1, 0])) @ right


def factorise(solve, M, penalty):
    return solve(
        f"problem: matrix_factorisation\noptions: {{rank: 3}}\nparameters: {{M: {M.tolist()}, penalty: {penalty}}}\n"
        "sensitivity: {of: [product, minimum, U, V]}\n"
    )


@pytest.mark.parametrize(("penalty", "terms"), [(0.3, 3), (1.9, 2)])
def test_a_factorisation_may_be_turned_and_its_product_is_a_soft_threshold(solve, penalty, terms):
    left, sizes, right = np.linalg.svd(MATRIX, full_matrices=False)
    used = (sizes > penalty) & (np.arange(4) < 3)
    assert used.sum() == terms  # where it is two, one column is zero
    result, found = factorise(solve, MATRIX, penalty)
    assert result.status is Status.OK
    assert list(result.null_space.gauges) == ["rotation 0 1", "rotation 0 2", "rotation 1 2"]
    product = shrunk(MATRIX, penalty)
    np.testing.assert_allclose(result.outputs["product"], product, rtol=0, atol=1e-12)
    agrees(found["jacobian", "", "product", "penalty"], -(left * used) @ right)
    by_M = differences(lambda M: shrunk(M, penalty), MATRIX, h=1e-3)
    agrees(found["jacobian", "", "product", "M"], by_M, rtol=1e-8)
    # at a minimum only what is varied itself counts
    agrees(found["jacobian", "", "minimum", "M"], MATRIX - product)
    agrees(found["jacobian", "", "minimum", "penalty"], np.maximum(sizes - penalty, 0.0)[:3].sum())
    # factors answer without a part along the gauges
    U, V = (result.solution[name] for name in "UV")
    by_penalty = [found["jacobian", "", name, "penalty"].value for name in "UV"]
    for i, j in combinations(range(3), 2):
        turn = np.zeros((3, 3))
        turn[i, j], turn[j, i] = 1.0, -1.0
        assert abs(np.sum(by_penalty[0] * (U @ turn)) + np.sum(by_penalty[1] * (V @ turn))) < 1e-12


@pytest.mark.parametrize(("sizes", "penalty"), [([3.0, 2.5, 2.0, 2.0], 0.5), ([3.0, 2.0, 1.0, 0.1], 1.0)])
def test_a_factorisation_where_two_terms_tie_or_one_vanishes_has_no_derivative(solve, sizes, penalty):
    result, _ = factorise(solve, np.eye(5, 4) * sizes, penalty)
    assert not result.status.good
