"""Programs with constraints against active sets that are enumerated, other solvers and their sensitivities, and printed numbers.

Cases of one shape share what is compiled: each problem is solved in few shapes.
"""

import json
from itertools import chain, combinations
from pathlib import Path

import diffcp
import h5py
import numpy as np
import pytest
import scipy.optimize
from ruamel.yaml import YAML
from scipy.sparse import csc_matrix

from implicit_cli.status import Status

pytestmark = pytest.mark.slow

SAMPLES = Path(__file__).resolve().parents[2] / "sample_inputs"
TIGHT = dict.fromkeys(("tol_gap_abs", "tol_gap_rel", "tol_feas"), 1e-12)
"""What diffcp tells Clarabel."""
WITNESS = 1e-12
"""Relative error of closed forms, which are evaluated in double precision too."""


def spec(problem, **sections):
    """A spec as text."""
    plain = json.dumps(sections, default=lambda value: value.tolist())
    return "\n".join([f"problem: {problem}", *(f"{key}: {json.dumps(value)}" for key, value in json.loads(plain).items())])


def sample(name):
    """Data and parameters of a sample, as arrays."""
    given = YAML(typ="safe").load(SAMPLES / f"{name}.yaml")
    return [{key: np.asarray(value) for key, value in given.get(part, {}).items()} for part in ("data", "parameters")]


def agrees(product, truth, rtol=1e-10):
    """The value is the truth, and each column's error is within its bound."""
    np.testing.assert_allclose(product.value, truth, rtol=rtol, atol=rtol * max(np.abs(truth).max(initial=0.0), 1e-3))
    columns = (-1, max(product.bound.total.size, 1))
    error, size = (np.linalg.norm(np.reshape(part, columns), axis=0) for part in (product.value - truth, truth))
    assert (error <= product.bound.total.ravel() + WITNESS * (size + 1e-3)).all()


def along(found, given, solve, h=4e-4, rtol=1e-3):
    """dx along a random direction of each parameter is a difference of another solver's solutions."""
    rng = np.random.default_rng(6)
    for name, value in given.items():
        d = rng.normal(size=np.shape(value))
        ends = [solve(**{**given, name: value + sign * h * d}) for sign in (1.0, -1.0)]
        slope = (ends[0] - ends[1]) / (2 * h)
        mine = np.tensordot(found["jacobian", "", "x", name].value, d, axes=d.ndim)
        np.testing.assert_allclose(mine, slope, atol=rtol * max(np.abs(slope).max(), 1.0))


def by_clarabel(c, A, b, cones):
    """x of min c'x, b - A x in the cones, by Clarabel itself, and the multipliers."""
    import clarabel

    settings = clarabel.DefaultSettings()
    settings.verbose, settings.tol_gap_abs, settings.tol_gap_rel, settings.tol_feas = False, 1e-13, 1e-13, 1e-13
    none = csc_matrix((len(c), len(c)))
    found = clarabel.DefaultSolver(none, c, csc_matrix(A), b, cones(clarabel), settings).solve()
    return np.concatenate([found.x, found.z])


# Quadratic programs


class Enumerated:
    """min x'Qx / 2 + c'x, E x = e, G x <= h, by trying every active set; derivatives by the inverse KKT matrix of the right one."""

    def __init__(self, Q, c, E, e, G, h):
        n, p = len(c), len(e)
        for active in chain.from_iterable(combinations(range(len(h)), k) for k in range(n - p + 1)):
            rows, sides = np.concatenate([E, G[list(active)]]), np.concatenate([e, h[list(active)]])
            K = np.block([[Q, rows.T], [rows, np.zeros((len(rows), len(rows)))]])
            if np.linalg.matrix_rank(K) < len(K):
                continue
            inverse = np.linalg.inv(K)
            x, multipliers = np.split(inverse @ np.concatenate([-c, sides]), [n])
            if (multipliers[p:] > 0).all() and (G @ x - h < 1e-12).all():
                break
        else:
            raise AssertionError("no active set is optimal")
        self.x, self.nu, self.lam = x, multipliers[:p], np.zeros(len(h))
        self.lam[list(active)] = multipliers[p:]
        self.by_c, self.by_e, self.by_h = -inverse[:n, :n], inverse[:n, n : n + p], np.zeros((n, len(h)))
        self.by_h[:, list(active)] = inverse[:n, n + p :]


QP = {"of": ["x", "objective"], "wrt": ["c", "e", "h", "low", "high"]}


def portfolio():
    """The sample's, where stocks have an upper limit too."""
    data, _ = sample("qp")
    return data | {"upper": [0]}, {"c": np.zeros(3), "e": np.ones(1), "low": np.zeros(3), "high": np.ones(1)}


PERCENT = {"c": np.array([-2.0, -0.1, 0.05]), "e": np.array([1.1]), "low": np.array([0.05, -0.1, 0.2])}
"""With covariances in hundredths: a price on each variable, and a program that is no longer on the simplex."""


@pytest.fixture(params=[(0, -0.105, 0.9), (4, -0.06, 0.3)], ids=["return", "limit"])
def percent(request, solve):
    """A program where the return, or the limit of stocks, holds with equality; which row that is, and its result."""
    active, h, high = request.param
    data, _ = portfolio()
    data["Q"] = 100 * data["Q"]
    parameters = PERCENT | {"h": np.array([h]), "high": np.array([high])}
    result, found = solve(spec("qp", data=data, parameters=parameters, sensitivity=QP))
    assert result.status is Status.OK, result.message
    return active, data, parameters, result, found


# Cornuejols and Tutuncu: return, variance, stocks, bonds, money
@pytest.mark.parametrize(
    "row", [(0.065, 0.0010, 0.03, 0.10, 0.87), (0.080, 0.0044, 0.35, 0.16, 0.49), (0.105, 0.0246, 0.93, 0.07, 0.00)]
)
def test_the_portfolios_are_those_of_the_book(solve, row):
    wanted, variance, *shares = row
    data, parameters = portfolio()
    result, found = solve(spec("qp", data=data, parameters=parameters | {"h": [-wanted]}, sensitivity=QP))
    assert result.status is Status.OK, result.message
    np.testing.assert_allclose(result.solution["x"], shares, atol=0.0101)
    assert 2 * result.outputs["objective"] == pytest.approx(variance, abs=0.0001)
    # by Lagrange, the price of a higher return is the multiplier of its constraint
    np.testing.assert_allclose(found["jacobian", "", "objective", "h"].value, -result.solution["lam"], rtol=1e-9)


def test_qp_is_that_of_the_enumerated_active_set(percent):
    active, data, parameters, result, found = percent
    one = np.eye(3)
    G = np.concatenate([data["G"], -one[data["lower"]], one[data["upper"]]])
    h = np.concatenate([parameters["h"], -parameters["low"], parameters["high"]])
    true = Enumerated(data["Q"], parameters["c"], data["E"], parameters["e"], G, h)
    np.testing.assert_array_equal(np.flatnonzero(true.lam), [active])
    np.testing.assert_allclose(result.solution["x"], true.x, atol=1e-12)
    by = {
        "c": (true.by_c, true.x),
        "e": (true.by_e, -true.nu),
        "h": (true.by_h[:, :1], -true.lam[:1]),
        "low": (-true.by_h[:, 1:4], true.lam[1:4]),
        "high": (true.by_h[:, 4:], -true.lam[4:]),
    }
    for name, (x, objective) in by.items():
        agrees(found["jacobian", "", "x", name], x)
        agrees(found["jacobian", "", "objective", name], objective)


def test_qp_is_that_of_diffcp(percent):
    """As a cone program in (x, t): min c'x + t, t >= x'Q x / 2, which is |(t - 1, sqrt 2 L'x)| <= t + 1 with Q = L L'."""
    _, data, given, result, found = percent
    linear = np.concatenate([data["E"], data["G"], -np.eye(3), np.eye(3)[:1]])
    root = np.sqrt(2.0) * np.linalg.cholesky(data["Q"]).T
    A = np.block([[linear, np.zeros((6, 1))], [np.zeros((2, 3)), -np.ones((2, 1))], [-root, np.zeros((3, 1))]])
    sides = np.concatenate([given["e"], given["h"], -given["low"], given["high"]])
    b, c = np.concatenate([sides, [1.0, -1.0], np.zeros(3)]), np.append(given["c"], 1.0)
    x, _, _, forward, _ = diffcp.solve_and_derivative(
        csc_matrix(A), b, c, {"z": 1, "l": 5, "q": [5]}, solve_method="CLARABEL", **TIGHT
    )
    np.testing.assert_allclose(result.solution["x"], x[:3], atol=1e-5)  # x enters by its square
    rng = np.random.default_rng(8)
    for name, place in {"c": None, "e": slice(0, 1), "h": slice(1, 2), "low": slice(2, 5), "high": slice(5, 6)}.items():
        d, db, dc = rng.normal(size=given[name].shape), np.zeros(len(b)), np.zeros(4)
        if place is None:
            dc[:3] = d
        else:
            db[place] = -d if name == "low" else d
        mine = found["jacobian", "", "x", name].value @ d
        np.testing.assert_allclose(mine, forward(csc_matrix(A.shape), db, dc)[0][:3], atol=1e-4 * max(1.0, np.abs(mine).max()))


def test_qp_is_that_of_casadi(percent):
    casadi = pytest.importorskip("casadi")
    _, data, parameters, result, found = percent
    x, p = casadi.MX.sym("x", 3), casadi.MX.sym("p", 5)
    Q, E, G = (casadi.DM(data[name]) for name in "QEG")
    program = {
        "x": x,
        "p": p,
        "f": casadi.bilin(Q, x, x) / 2 + casadi.dot(p[:3], x),
        "g": casadi.vertcat(casadi.mtimes(E, x) - p[3], casadi.mtimes(G, x) - p[4]),
    }
    quiet = {"print_iter": False, "print_header": False, "print_info": False}
    solver = casadi.qpsol("solver", "qrqp", program, quiet)
    J = solver.factory("J", solver.name_in(), ["x", "jac:x:p"])
    at = np.concatenate([parameters[name] for name in ("c", "e", "h")])
    highest = np.array([parameters["high"][0], np.inf, np.inf])
    there = J(p=at, lbx=parameters["low"], ubx=highest, lbg=np.array([0.0, -np.inf]), ubg=np.zeros(2))
    np.testing.assert_allclose(result.solution["x"], np.ravel(there["x"].full()), atol=1e-9)
    mine = np.concatenate([found["jacobian", "", "x", name].value for name in ("c", "e", "h")], axis=1)
    np.testing.assert_allclose(mine, there["jac_x_p"].full(), atol=1e-8 * np.abs(mine).max())


@pytest.mark.parametrize("beyond", [1e-6, -1e-6, 0.0])
def test_qp_beside_and_on_a_kink(solve, beyond):
    """With a higher return less money is held, until none is left."""
    data, parameters = portfolio()
    R = np.concatenate([data["E"], -data["G"]])  # the sum, and the return
    held = np.linalg.inv(np.block([[data["Q"], R.T], [R, np.zeros((2, 2))]]))[:3, 3:]  # x by both, while all three are held
    left = np.linalg.inv(np.concatenate([R, [[0.0, 0.0, 1.0]]]))[:, 1]  # x by the return, without money
    kink = -held[2, 0] / held[2, 1]
    slope = left if beyond > 0 else held[:, 1]
    result, found = solve(spec("qp", data=data, parameters=parameters | {"h": [-(kink + beyond)]}, sensitivity=QP))
    assert result.status is (Status.OK if beyond else Status.NONDIFFERENTIABLE), result.message
    value = found["jacobian", "", "x", "h"].value
    np.testing.assert_allclose(value[:, 0], -slope if beyond else np.full(3, np.nan), rtol=1e-9, atol=1e-9)


def test_a_limit_on_a_variable_that_does_not_exist_is_no_number(solve):
    result, _ = solve(spec("qp", data={"Q": [[1.0]], "lower": [1]}, parameters={"c": [1.0]}))
    assert result.status is Status.NOT_FINITE


# Linear programs

DANTZIG = {"of": ["x", "cost"], "wrt": ["c", "b", "h"]}


@pytest.fixture
def dantzig(solve):
    """The sample at a weight of the quadratic term."""
    data, parameters = sample("linear_program")

    def run(weight, **other):
        parameters.update(other)
        given = parameters | {"regularisation": weight}
        return data, given, *solve(spec("linear_program", data=data, parameters=given, sensitivity=DANTZIG))

    return run


def test_a_linear_program_is_that_of_highs(dantzig):
    # a cent less from Seattle to New York, and there is one solution
    data, given, result, found = dantzig(0.0, c=np.array([0.224, 0.153, 0.162, 0.225, 0.162, 0.126]))
    assert result.status is Status.OK, result.message
    A, G, c, b, h = data["A"], data["G"], given["c"], given["b"], given["h"]
    true = scipy.optimize.linprog(c, A_ub=G, b_ub=h, A_eq=A, b_eq=b, method="highs")
    np.testing.assert_allclose(result.solution["x"], true.x, atol=1e-9)
    agrees(found["jacobian", "", "cost", "b"], true.eqlin.marginals, rtol=1e-8)
    agrees(found["jacobian", "", "cost", "h"], true.ineqlin.marginals, rtol=1e-8)
    basis, rows = true.x > 1e-9, np.concatenate([A, G[true.ineqlin.marginals < -1e-9]])
    vertex = np.zeros((6, len(rows)))
    vertex[basis] = np.linalg.inv(rows[:, basis])
    agrees(found["jacobian", "", "x", "b"], vertex[:, :3])
    np.testing.assert_allclose(found["jacobian", "", "x", "c"].value, 0.0, atol=1e-10)


def test_dantzigs_shipments_stay_as_they_are_up_to_a_weight(dantzig):
    for weight in (1e-6, 0.99 * 0.009 / 525):
        _, _, result, found = dantzig(weight)
        assert result.status is Status.OK, result.message
        np.testing.assert_allclose(result.solution["x"], [50.0, 300, 0, 275, 0, 275], atol=1e-6)
        assert result.outputs["cost"] == pytest.approx(153.675, rel=1e-12)  # as every solver of the GAMS model has it
        np.testing.assert_allclose(found["jacobian", "", "cost", "b"].value, [0.225, 0.153, 0.126], atol=1e-9)


def test_with_a_larger_weight_they_are_those_of_the_enumerated_active_set(dantzig):
    weight = 1e-4
    data, given, result, found = dantzig(weight)
    assert result.status is Status.OK, result.message
    G, h = np.concatenate([data["G"], -np.eye(6)]), np.concatenate([given["h"], np.zeros(6)])
    true = Enumerated(weight * np.eye(6), given["c"], data["A"], given["b"], G, h)
    assert true.x[4] > 0
    np.testing.assert_allclose(result.solution["x"], true.x, rtol=1e-9, atol=1e-9)
    for name, J in (("c", true.by_c), ("b", true.by_e), ("h", true.by_h[:, :2])):
        agrees(found["jacobian", "", "x", name], J, rtol=1e-8)


def test_a_linear_program_with_two_solutions_has_no_derivative(dantzig):
    _, _, result, _ = dantzig(0.0)
    assert result.status not in (Status.OK, Status.PARTIAL)


# Cones


WEIGHTS, SITES = np.array([1.0, 2.0, 1.5]), np.array([[0.0, 0.0], [6.0, 1.0], [3.0, 7.0]])
WEBER = {
    "c": np.append(np.zeros(2), WEIGHTS),
    "A": np.tile(np.eye(2, 5), (3, 1, 1)),
    "b": -SITES,
    "p": np.eye(5)[2:],
    "q": np.zeros(3),
    "E": np.array([[1.0, -0.5, 0.0, 0.0, 0.0]]),
    "e": np.array([1.0]),
}
"""The place (x, y) on the line x - y / 2 = 1 from which the weighted distances to three sites are least, and the distances."""


@pytest.fixture
def depot(solve):
    sizes, sensitivity = {"cone": 3, "row": 2, "equality": 1}, {"of": ["x", "objective"]}
    result, found = solve(spec("socp", options=sizes, parameters=WEBER, sensitivity=sensitivity))
    assert result.status is Status.OK, result.message
    return result, found


def test_the_depot_is_where_its_closed_form_puts_it(depot):
    result, found = depot
    foot, line = np.array([1.0, 0.0]), np.array([0.5, 1.0])

    def distances(x):
        r = np.linalg.norm(x - SITES, axis=1)
        return r, (x - SITES) / r[:, None]

    along_line = scipy.optimize.brentq(lambda t: WEIGHTS @ distances(foot + t * line)[1] @ line, -10.0, 10.0, xtol=1e-14)
    x = foot + along_line * line
    r, unit = distances(x)
    curvatures = (WEIGHTS / r)[:, None, None] * (np.eye(2) - unit[:, :, None] * unit[:, None, :])
    K = np.zeros((3, 3))
    K[:2, :2], K[2, :2], K[:2, 2] = curvatures.sum(axis=0), WEBER["E"][0, :2], WEBER["E"][0, :2]
    inverse = np.linalg.inv(K)
    np.testing.assert_allclose(result.outputs["x"], np.append(x, r), rtol=1e-10)
    np.testing.assert_allclose(found["jacobian", "", "x", "c"].value[:2, 2:], -inverse[:2, :2] @ unit.T, atol=1e-9)
    by_site = np.einsum("ij,kjl->ikl", inverse[:2, :2], curvatures)
    np.testing.assert_allclose(-found["jacobian", "", "x", "b"].value[:2], by_site, atol=1e-9)
    np.testing.assert_allclose(found["jacobian", "", "x", "e"].value[:2, 0], inverse[:2, 2], atol=1e-9)
    agrees(found["jacobian", "", "objective", "c"], result.outputs["x"])


def of_cones(c, A, b, p, q, E, e):
    """c, A and b of the conic program."""
    rows = np.concatenate([E, *(np.concatenate([-p[k : k + 1], -A[k]]) for k in range(3))])
    return c, rows, np.concatenate([e, *(np.concatenate([q[k : k + 1], b[k]]) for k in range(3))])


def test_a_second_order_cone_program_is_that_of_differences_of_clarabels_solutions(depot):
    _, found = depot

    def cones(clarabel):
        return [clarabel.ZeroConeT(1), *[clarabel.SecondOrderConeT(3)] * 3]

    along(found, WEBER, lambda **given: by_clarabel(*of_cones(**given), cones)[:5])


def test_a_second_order_cone_program_is_that_of_diffcp(depot):
    result, found = depot
    c, A, b = of_cones(**WEBER)
    x, _, _, forward, _ = diffcp.solve_and_derivative(
        csc_matrix(A), b, c, {"z": 1, "q": [3, 3, 3]}, solve_method="CLARABEL", **TIGHT
    )
    np.testing.assert_allclose(result.outputs["x"], x, atol=1e-5)
    rng, at = np.random.default_rng(9), np.nonzero(A)
    for name, value in WEBER.items():
        d = rng.normal(size=np.shape(value)) * ((value != 0) | (name not in ("A", "p", "E")))  # entries that diffcp knows of
        dc, dA, db = of_cones(**{other: d if other == name else 0 * part for other, part in WEBER.items()})
        dx = forward(csc_matrix((dA[at], at), A.shape), db, dc)[0]
        mine = np.tensordot(found["jacobian", "", "x", name].value, d, axes=d.ndim)
        np.testing.assert_allclose(mine, dx, atol=1e-4 * max(1.0, np.abs(dx).max()))


def symmetric(F):
    """The symmetric parts as upper triangles, off the diagonal times sqrt 2, as Clarabel has them."""
    columns, rows = np.tril_indices(6)
    return ((F + np.swapaxes(F, -1, -2)) / 2)[..., rows, columns] * np.where(rows == columns, 1.0, np.sqrt(2.0))


def test_theta_of_the_pentagon_and_differences_of_clarabels_solutions(solve):
    with h5py.File(SAMPLES / "pentagon.h5") as file:
        given = {"c": np.append(-np.ones(5), np.zeros(5)), "F0": file["F0"][()], "F": file["F"][()]}
    result, found = solve(spec("sdp", options={"row": 6}, parameters=given, sensitivity={"of": ["x", "X", "objective"]}))
    assert result.status is Status.OK, result.message
    x, X = result.outputs["x"], result.outputs["X"]
    assert -result.outputs["objective"] == pytest.approx(np.sqrt(5), rel=1e-10)  # Lovasz 1979
    np.testing.assert_allclose(x[:5], 1 / np.sqrt(5), rtol=1e-9)
    # X is the multiplier: positive semi-definite, <F_i, X> = c_i, and S X = 0
    assert np.linalg.eigvalsh(X).min() > -1e-9
    np.testing.assert_allclose(np.einsum("kij,ij->k", given["F"], X), given["c"], atol=1e-9)
    np.testing.assert_allclose((given["F0"] + np.einsum("k,kij->ij", x, given["F"])) @ X, 0.0, atol=1e-9)
    agrees(found["jacobian", "", "objective", "c"], x, rtol=1e-9)
    agrees(found["jacobian", "", "objective", "F0"], -X, rtol=1e-9)
    agrees(found["jacobian", "", "objective", "F"], -x[:, None, None] * X[None, :, :], rtol=1e-9)

    def other(c, F0, F):
        return by_clarabel(c, -symmetric(F).T, symmetric(F0), lambda clarabel: [clarabel.PSDTriangleConeT(6)])

    np.testing.assert_allclose(symmetric(X), other(**given)[10:], atol=1e-5)
    along(found, given, lambda **moved: other(**moved)[:10])


# The parametric program


def test_the_numbers_of_sipopt(solve):
    def at(p1):
        result, found = solve(spec("nlp", parameters={"p1": p1}, sensitivity={"of": ["x"], "wrt": ["p1", "p2"]}))
        assert result.status is Status.OK, result.message
        return result.solution["x"], result.solution["lam"], *(found["jacobian", "", "x", name] for name in ("p1", "p2"))

    x, _, by_p1, by_p2 = at(5.0)
    # as printed by sIPOPT, whose barrier leaves an error of 1e-8
    np.testing.assert_allclose(x, [0.6326530575, 0.3877551080, 0.0204081655], atol=2e-8)
    np.testing.assert_allclose(x - 0.5 * by_p1.value, [0.5765306012, 0.3775510381, -0.0459183607], atol=3e-8)
    np.testing.assert_allclose(x, np.array([31, 19, 1]) / 49, rtol=1e-12)
    agrees(by_p1, np.array([11, 2, 13]) / 98)

    def least(p2):  # by the pseudo-inverse, while x3 > 0
        return np.linalg.pinv([[6.0, 3.0, 2.0], [p2, 1.0, -1.0]]) @ [5.0, 1.0]

    np.testing.assert_allclose(by_p2.value, (least(1 + 1e-5) - least(1 - 1e-5)) / 2e-5, atol=1e-9)

    # with the bound in the active set the estimate is exact
    x, lam, by_p1, _ = at(4.5)
    np.testing.assert_allclose(x, [0.5, 0.5, 0.0], atol=1e-12)
    np.testing.assert_allclose(lam, [0.0, 0.0, 1.0], atol=1e-12)
    agrees(by_p1, np.array([1 / 3, -1 / 3, 0.0]))


def test_where_x3_arrives_at_zero_each_side_has_a_derivative_of_its_own(solve):
    result, found = solve(
        spec(
            "nlp",
            parameters={"p1": 63 / 13},
            sensitivity={"of": ["x"], "one_sided": True, "products": [{"jvp": {"up": {"p1": 1.0}}}]},
        )
    )
    assert result.status is Status.NONDIFFERENTIABLE
    np.testing.assert_allclose(found["jvp_left", "up", "x", ""].value, [1 / 3, -1 / 3, 0.0], atol=1e-9)
    np.testing.assert_allclose(found["jvp_right", "up", "x", ""].value, np.array([11, 2, 13]) / 98, atol=1e-9)


# Transport


def sinkhorn(C, source, target, regularisation):
    """The plan by scaling rows and columns."""
    a, b, P = source / source.sum(), target / target.sum(), np.exp(-C / regularisation)
    for _ in range(4000):
        P = P * (a / P.sum(axis=1))[:, None]
        P = P * (b / P.sum(axis=0))[None, :]
    return P


def test_transport_is_that_of_a_scaled_matrix(solve):
    given = {
        "C": np.array([[0.1, 1.0], [0.7, 0.2], [1.5, 0.4]]),
        "source": np.array([2.0, 1.0, 3.0]),
        "target": np.array([1.0, 1.5]),
        "regularisation": 0.4,
    }
    result, found = solve(spec("transport", parameters=given, sensitivity={"of": ["plan", "objective"]}))
    assert result.status is Status.OK, result.message
    assert result.null_space.gauges == ("shift",)
    P = sinkhorn(**given)
    np.testing.assert_allclose(result.outputs["plan"], P, rtol=1e-10)
    assert result.outputs["cost"] == pytest.approx(np.sum(given["C"] * P), rel=1e-10)
    for name, value in given.items():
        for k in np.ndindex(np.shape(value)):
            d, h = np.zeros(np.shape(value)), 1e-5
            d[k] = h
            slope = (sinkhorn(**{**given, name: value + d}) - sinkhorn(**{**given, name: value - d})) / (2 * h)
            mine = found["jacobian", "", "plan", name].value[(..., *k)]
            np.testing.assert_allclose(mine, slope, atol=1e-8)
    # by Lagrange
    agrees(found["jacobian", "", "objective", "C"], P)
    a, f = given["source"] / 6, result.solution["f"]
    agrees(found["jacobian", "", "objective", "source"], (f - a @ f) / 6)
    agrees(found["jacobian", "", "objective", "regularisation"], np.asarray(np.sum(P * (np.log(P) - 1))))
