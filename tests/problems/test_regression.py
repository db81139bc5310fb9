"""Regression and classification against closed forms, enumerated active sets, SciPy, Clarabel and scikit-learn."""

import itertools

import clarabel
import numpy as np
import pytest
from scipy import optimize, sparse

from implicit_cli.status import Status

rng = np.random.default_rng(41)

X, X_V = rng.normal(size=(9, 5)), rng.normal(size=(4, 5))
Y, Y_V = X @ [1.5, -0.8, 0.0, 0.3, 0.0] + 0.3 * rng.normal(size=9), rng.normal(size=4)
M = len(Y)


def data(**arrays):
    """The section of a spec."""
    return "data: {" + ", ".join(f"{name}: {np.asarray(array).tolist()}" for name, array in arrays.items()) + "}\n"


REGRESSION = data(X=X, y=Y, X_validation=X_V, y_validation=Y_V)


def close(found, truth, rtol=1e-9):
    """Values, and that the error is within the bound and the witness's rounding."""
    np.testing.assert_allclose(found.value, truth, rtol=rtol, atol=rtol * max(np.abs(truth).max(), 1e-3))
    assert found.status is Status.OK
    assert np.isfinite(found.bound.total).all()


def lasso(l1, l2=0.0):
    """Weights and their derivatives by l1 and l2, by trying every support with every choice of signs."""
    for signs in itertools.product((-1, 0, 1), repeat=X.shape[1]):
        s = np.array(signs)
        S = s != 0
        H = X[:, S].T @ X[:, S] / M + l2 * np.eye(S.sum())
        w = np.zeros(len(s))
        w[S] = np.linalg.solve(H, X[:, S].T @ Y / M - l1 * s[S])
        slope = X.T @ (Y - X @ w) / M
        if (w[S] * s[S] > 0).all() and (np.abs(slope[~S]) <= l1).all():
            J = np.zeros((len(s), 2))
            J[S] = -np.linalg.solve(H, np.column_stack([s[S], w[S]]))
            return w, J
    raise AssertionError("no support fits")


def validation_slope(w, J):
    return (X_V @ w - Y_V) @ X_V @ J / len(Y_V)


@pytest.mark.parametrize("mode", ["forward", "adjoint"])
def test_lasso(solve, mode):
    result, found = solve(f"problem: lasso\n{REGRESSION}parameters: {{penalty: 0.25}}\nsensitivity: {{mode: {mode}}}\n")
    w, J = lasso(0.25)
    assert 0 < (w == 0).sum() < len(w)
    assert result.status is Status.OK
    np.testing.assert_allclose(result.solution["w"], w, atol=1e-13)
    close(found["jacobian", "", "w", "penalty"], J[:, 0])
    assert (found["jacobian", "", "w", "penalty"].value[w == 0] == 0).all()
    close(found["jacobian", "", "validation_loss", "penalty"], validation_slope(w, J[:, 0]))
    close(found["jacobian", "", "training_loss", "penalty"], (X @ w - Y) @ X @ J[:, 0] / M)
    if mode == "forward":
        assert found["jacobian", "", "w", "penalty"].bound.kind == "bound"


def test_lasso_at_the_kink_where_the_first_weight_enters(solve):
    largest = float(np.abs(X.T @ Y / M).max())
    spec = (
        f"problem: lasso\n{REGRESSION}parameters: {{penalty: PENALTY}}\n"
        "sensitivity: {of: [w], one_sided: true, products: [jacobian, {jvp: {more: {penalty: 1.0}}}]}\n"
    )
    at_kink, sides = solve(spec.replace("PENALTY", repr(largest)))
    assert at_kink.status is Status.NONDIFFERENTIABLE
    assert np.isnan(sides["jacobian", "", "w", "penalty"].value).all()
    for side, penalty in (("jvp_left", largest * (1 - 1e-6)), ("jvp_right", largest * (1 + 1e-6))):
        _, J = lasso(penalty)
        assert J[:, 0].any() == (side == "jvp_left")
        near, found = solve(spec.replace("PENALTY", repr(penalty)))
        assert near.status is Status.OK
        close(found["jacobian", "", "w", "penalty"], J[:, 0])
        np.testing.assert_allclose(sides[side, "more", "w", ""].value, J[:, 0], atol=1e-7)


def test_elastic_net_with_more_features_than_samples(solve):
    few = slice(0, 3)
    result, found = solve(
        f"problem: elastic_net\n{data(X=X[few], y=Y[few], X_validation=X_V, y_validation=Y_V)}parameters: {{l1: 0.1, l2: 0.3}}\n"
    )
    assert result.status is Status.OK
    w = result.solution["w"]
    S, s = w != 0, np.sign(w)
    H = X[few][:, S].T @ X[few][:, S] / 3 + 0.3 * np.eye(S.sum())
    slope = X[few].T @ (Y[few] - X[few] @ w) / 3 - 0.3 * w
    np.testing.assert_allclose(slope[S], 0.1 * s[S], atol=1e-14)  # the subgradient condition is all of the optimum
    assert (np.abs(slope[~S]) < 0.1).all()
    for name, side in (("l1", s), ("l2", w)):
        J = np.zeros(len(w))
        J[S] = -np.linalg.solve(H, side[S])
        close(found["jacobian", "", "w", name], J)
        close(found["jacobian", "", "validation_loss", name], validation_slope(w, J))


def test_elastic_net_against_all_supports(solve):
    result, found = solve(f"problem: elastic_net\n{REGRESSION}parameters: {{l1: 0.2, l2: 0.4}}\nsensitivity: {{of: [w]}}\n")
    w, J = lasso(0.2, 0.4)
    np.testing.assert_allclose(result.solution["w"], w, atol=1e-13)
    close(found["jacobian", "", "w", "l1"], J[:, 0])
    close(found["jacobian", "", "w", "l2"], J[:, 1])


GROUP_OF, WEIGHT = np.array([1, 0, 1, 2, 0]), np.array([1.3, 1.4, 1.0])


def group_lasso(penalty, weight, out):
    """The weights when the groups `out` are zero, by SciPy, and the slope of the loss there."""
    S = ~np.isin(GROUP_OF, out)

    def gradient(part):
        w = np.zeros(len(S))
        w[S] = part
        slope = X.T @ (X @ w - Y) / M
        lengths = np.array([np.linalg.norm(w[g == GROUP_OF]) for g in GROUP_OF])
        return (slope + penalty * weight[GROUP_OF] * w / np.where(S, lengths, 1.0))[S]

    w = np.zeros(len(S))
    w[S] = optimize.root(gradient, np.linalg.lstsq(X[:, S], Y, rcond=None)[0], tol=1e-14).x
    return w, X.T @ (Y - X @ w) / M


def test_group_lasso(solve):
    spec = (
        f"problem: group_lasso\n{data(X=X, y=Y, X_validation=X_V, y_validation=Y_V, group_of=GROUP_OF)}"
        f"parameters: {{penalty: 0.3, weight: {WEIGHT.tolist()}}}\nsensitivity: {{of: [w]}}\n"
    )
    result, found = solve(spec)
    w = result.solution["w"]
    out = [g for g in range(3) if not w[g == GROUP_OF].any()]
    assert out == [2]
    truth, slope = group_lasso(0.3, WEIGHT, out)
    np.testing.assert_allclose(w, truth, atol=1e-12)
    assert np.linalg.norm(slope[GROUP_OF == 2]) < 0.3 * WEIGHT[2]
    h = 1e-4

    def difference(shift, weights):
        ends = [group_lasso(0.3 + s * shift, WEIGHT + s * weights, out)[0] for s in (-2, -1, 1, 2)]
        return (ends[0] - 8 * ends[1] + 8 * ends[2] - ends[3]) / (12 * h)

    close(found["jacobian", "", "w", "penalty"], difference(h, np.zeros(3)), rtol=1e-8)
    close(found["jacobian", "", "w", "weight"], np.column_stack([difference(0.0, h * e) for e in np.eye(3)]), rtol=1e-8)
    unknown, _ = solve(spec.replace(str(GROUP_OF.tolist()), "[1, 0, 1, 3, 0]"))  # group 3 has no weight
    assert unknown.status is Status.NOT_FINITE


@pytest.mark.parametrize("ridge", [0.0, 0.5])
def test_nnls(solve, ridge):
    A, b = np.abs(X), Y - 0.5
    result, found = solve(f"problem: nnls\n{data(A=A)}parameters: {{b: {b.tolist()}, ridge: {ridge}}}\n")
    tall, long = np.vstack([A, np.sqrt(ridge) * np.eye(5)]), np.append(b, np.zeros(5))
    x, _ = optimize.nnls(tall, long)
    S = x > 0
    assert 0 < S.sum() < 5
    assert result.status is Status.OK
    np.testing.assert_allclose(result.solution["x"], x, atol=1e-13)
    J = np.zeros((5, M + 1))
    J[S] = np.linalg.solve(A[:, S].T @ A[:, S] + ridge * np.eye(S.sum()), np.column_stack([A[:, S].T, -x[S]]))
    close(found["jacobian", "", "x", "b"], J[:, :-1])
    close(found["jacobian", "", "x", "ridge"], J[:, -1])
    close(found["jacobian", "", "fit", "b"], A @ J[:, :-1])
    close(found["jacobian", "", "loss", "b"], (A @ x - b) @ (A @ J[:, :-1] - np.eye(M)))


def test_nnls_at_the_kink_where_a_component_vanishes(solve):
    spec = "problem: nnls\ndata: {A: [[1.0, 0.0], [0.0, 2.0]]}\nparameters: {b: [1.0, SECOND]}\nsensitivity: {of: [x]}\n"
    for second, status in ((0.0, Status.NONDIFFERENTIABLE), (1e-6, Status.OK), (-1e-6, Status.OK)):
        result, found = solve(spec.replace("SECOND", repr(second)))
        assert result.status is status
        if status is Status.OK:
            close(found["jacobian", "", "x", "b"], np.diag([1.0, 0.5 * (second > 0)]))


LABELS, LABELS_V = np.array([0, 1, 1, 0, 1, 1, 0, 0, 1]), np.array([1, 0, 0, 1])


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def test_logistic(solve):
    weight, penalty = rng.uniform(0.5, 2.0, M), 0.07
    spec = (
        f"problem: logistic\n{data(X=X, y=LABELS, X_validation=X_V, y_validation=LABELS_V)}"
        f"parameters: {{penalty: {penalty}, weight: {weight.tolist()}}}\n"
    )
    result, found = solve(spec)
    X1, D = np.column_stack([X, np.ones(M)]), np.diag([1.0] * 5 + [0.0])

    def gradient(u):
        return X1.T @ (weight * (sigmoid(X1 @ u) - LABELS)) / M + penalty * D @ u

    u = optimize.root(gradient, np.zeros(6), tol=1e-14).x
    assert result.status is Status.OK
    np.testing.assert_allclose(np.append(result.solution["w"], result.solution["intercept"]), u, atol=1e-11)
    p = sigmoid(X1 @ u)
    H = X1.T @ ((weight * p * (1 - p))[:, None] * X1) / M + penalty * D
    J = -np.linalg.solve(H, np.column_stack([D @ u, X1.T * ((p - LABELS) / M)[None, :]]))
    close(found["jacobian", "", "w", "penalty"], J[:5, 0])
    close(found["jacobian", "", "intercept", "penalty"], J[5, 0])
    close(found["jacobian", "", "w", "weight"], J[:5, 1:])
    close(found["jacobian", "", "intercept", "weight"], J[5, 1:])
    X1_v = np.column_stack([X_V, np.ones(4)])
    close(found["jacobian", "", "validation_loss", "weight"], (sigmoid(X1_v @ u) - LABELS_V) @ X1_v @ J[:, 1:] / 4)
    neither, _ = solve(spec.replace(str(LABELS.tolist()), str((2 * LABELS).tolist())))
    assert neither.status is Status.NOT_FINITE


THREE, THREE_V = np.array([0, 2, 1, 0, 1, 2, 0, 2, 1]), np.array([1, 0, 2, 2])


def test_multinomial(solve):
    penalty = 0.2
    spec = (
        f"problem: multinomial\noptions: {{classes: 3}}\n{data(X=X, y=THREE, X_validation=X_V, y_validation=THREE_V)}"
        f"parameters: {{penalty: {penalty}}}\nsensitivity: {{mode: forward}}\n"
    )
    result, found = solve(spec)

    def probabilities(features, W):
        scores = np.exp(features @ W.reshape(5, 3))
        return scores / scores.sum(axis=1, keepdims=True)

    def gradient(W):
        return (X.T @ (probabilities(X, W) - np.eye(3)[THREE]) / M).ravel() + penalty * W

    W = optimize.root(gradient, np.zeros(15), tol=1e-14).x
    assert result.status is Status.OK
    np.testing.assert_allclose(result.solution["W"].ravel(), W, atol=1e-11)
    np.testing.assert_allclose(result.solution["W"].sum(axis=1), 0.0, atol=1e-13)
    P = probabilities(X, W)
    H = sum(np.kron(np.outer(x, x), np.diag(p) - np.outer(p, p)) for x, p in zip(X, P, strict=True)) / M + penalty * np.eye(15)
    J = -np.linalg.solve(H, W)
    close(found["jacobian", "", "W", "penalty"], J.reshape(5, 3))
    assert found["jacobian", "", "W", "penalty"].bound.kind == "bound"
    slope = X_V.T @ (probabilities(X_V, W) - np.eye(3)[THREE_V]) / 4
    close(found["jacobian", "", "validation_loss", "penalty"], slope.ravel() @ J)
    # the proved Lipschitz constant of the Hessian, over random lines
    gamma = np.sqrt(2 / 27) * np.mean(np.linalg.norm(X, axis=1) ** 3)
    assert result.certificate.gamma == pytest.approx(gamma, rel=1e-12)
    for _ in range(50):
        start, way = rng.normal(size=(2, 15))
        change = [
            np.kron(np.outer(x, x), np.diag(p) - np.outer(p, p) - np.diag(q) + np.outer(q, q))
            for x, p, q in zip(X, probabilities(X, start), probabilities(X, start + 0.1 * way), strict=True)
        ]
        assert np.linalg.norm(sum(change) / M, 2) <= gamma * np.linalg.norm(0.1 * way)
    beyond, _ = solve(spec.replace(str(THREE.tolist()), "[0, 2, 1, 0, 1, 3, 0, 2, 1]"))  # there is no class 3
    assert beyond.status is Status.NOT_FINITE


def test_kernel_ridge(solve):
    length, penalty = 1.7, 0.05
    result, found = solve(
        f"problem: kernel_ridge\n{REGRESSION}parameters: {{length: {length}, penalty: {penalty}}}\nsensitivity: {{mode: forward}}\n"
    )
    squares, squares_v = (((Z[:, None] - X[None]) ** 2).sum(axis=2) for Z in (X, X_V))
    K, K_v = (np.exp(-s / (2 * length**2)) for s in (squares, squares_v))
    A = K + M * penalty * np.eye(M)
    a = np.linalg.solve(A, Y)
    np.testing.assert_allclose(result.solution["a"], a, rtol=1e-12)
    slope, slope_v = K * squares / length**3, K_v * squares_v / length**3
    J = {"length": -np.linalg.solve(A, slope @ a), "penalty": -M * np.linalg.solve(A, a)}
    direct = {"length": slope_v @ a, "penalty": 0.0}
    assert result.status is Status.OK
    for name in J:
        close(found["jacobian", "", "a", name], J[name])
        assert found["jacobian", "", "a", name].bound.kind == "bound"
        moved = K_v @ J[name] + direct[name]
        close(found["jacobian", "", "prediction", name], moved)
        close(found["jacobian", "", "validation_loss", name], (K_v @ a - Y_V) @ moved / 4)


# The dual of the multiclass SVM. On a face of the simplexes it is a quadratic program with equations, and affine in the penalty.

N, CLASSES = 12, 3
OF = rng.integers(0, CLASSES, N)
Z = rng.normal(size=(N, 4)) + 1.5 * np.eye(CLASSES, 4)[OF]
OF_V = rng.integers(0, CLASSES, 5)
Z_V = rng.normal(size=(5, 4)) + 1.5 * np.eye(CLASSES, 4)[OF_V]
ONE_HOT, ONE_HOT_V = np.eye(CLASSES)[OF], np.eye(CLASSES)[OF_V]
PENALTY = 3.0
SVM = data(X=Z, y=OF, X_validation=Z_V, y_validation=OF_V)


def on_face(free, penalty):
    """x, its multipliers and dx/dpenalty where the entries that are not `free` are zero: all by one linear system."""
    G = np.kron(Z @ Z.T, np.eye(CLASSES))
    rows, keep = np.kron(np.eye(N), np.ones(CLASSES)), np.ravel(free)
    y = ONE_HOT.ravel()
    K = np.block([[G[np.ix_(keep, keep)], rows[:, keep].T], [rows[:, keep], np.zeros((N, N))]])
    constant, linear = np.append((G @ y)[keep], np.ones(N)), np.append(-y[keep], np.zeros(N))
    found, slope = np.linalg.solve(K, constant + penalty * linear), np.linalg.solve(K, linear)
    x, dx = np.zeros(N * CLASSES), np.zeros(N * CLASSES)
    x[keep], dx[keep] = found[: keep.sum()], slope[: keep.sum()]
    multiplier = G @ (x - y) + penalty * y + rows.T @ found[keep.sum() :]
    return x.reshape(N, CLASSES), multiplier.reshape(N, CLASSES), dx.reshape(N, CLASSES)


def svm_solution(penalty):
    """x and dx/dpenalty: Clarabel finds the face, which is checked, the linear system the digits."""
    G = sparse.csc_matrix(np.triu(np.kron(Z @ Z.T, np.eye(CLASSES)) / penalty))
    q = ONE_HOT.ravel() - np.kron(Z @ Z.T, np.eye(CLASSES)) @ ONE_HOT.ravel() / penalty
    A = sparse.csc_matrix(np.vstack([np.kron(np.eye(N), np.ones(CLASSES)), -np.eye(N * CLASSES)]))
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    cones = [clarabel.ZeroConeT(N), clarabel.NonnegativeConeT(N * CLASSES)]
    rough = np.reshape(
        clarabel.DefaultSolver(G, q, A, np.append(np.ones(N), np.zeros(N * CLASSES)), cones, settings).solve().x, (N, -1)
    )
    free = rough > 1e-5
    x, multiplier, dx = on_face(free, penalty)
    assert (x[free] > 0).all()
    assert (multiplier[~free] > 0).all()
    return x, dx, free


def svm_loss(penalty):
    x, _, _ = svm_solution(penalty)
    return np.sum((Z_V @ Z.T @ (ONE_HOT - x) / penalty - ONE_HOT_V) ** 2) / 2


@pytest.mark.parametrize("mapping", ["projected_gradient", "mirror_descent", "block"])
def test_svm_on_the_boundary_of_the_simplex(solve, mapping):
    result, found = solve(
        f"problem: svm\noptions: {{mapping: {mapping}}}\n{SVM}parameters: {{penalty: {PENALTY}}}\ntransforms: {{penalty: log}}\n"
        "solver: {max_steps: 20000}\n"
    )
    x, dx, free = svm_solution(PENALTY)
    assert N // 2 < (~free).sum() < 2 * N  # corners, and others
    assert result.status is Status.OK
    np.testing.assert_allclose(result.solution["x"], x, atol=1e-12)
    close(found["jacobian", "", "x", "penalty"], PENALTY * dx)
    h = 1e-3
    difference = (svm_loss(PENALTY * np.exp(h)) - svm_loss(PENALTY * np.exp(-h))) / (2 * h)
    close(found["jacobian", "", "validation_loss", "penalty"], difference, rtol=1e-5)
    W = Z.T @ (ONE_HOT - x) / PENALTY
    np.testing.assert_allclose(result.outputs["W"], W, atol=1e-12)
    # strong duality: m less the dual is the primal objective
    scores = Z @ W
    primal = np.sum(np.max(scores + 1 - ONE_HOT, axis=1) - scores[np.arange(N), OF]) + PENALTY * np.sum(W**2) / 2
    assert N - result.outputs["objective"] == pytest.approx(primal, rel=1e-12)
    # the value function: d(objective)/d(penalty) = -|W|^2 / 2, by the envelope theorem
    close(found["jacobian", "", "objective", "penalty"], -PENALTY * np.sum(W**2) / 2)


@pytest.mark.parametrize("mapping", ["projected_gradient", "mirror_descent", "block"])
def test_svm_with_more_features_than_samples_is_that_of_its_inner_products(solve, mapping):
    """Features in a basis of five times as many dimensions: x, losses and derivatives stay, and W turns with them."""
    wide = 5 * N
    Q = np.linalg.qr(np.random.default_rng(1).normal(size=(wide, Z.shape[1])))[0]
    more = f"options: {{mapping: {mapping}}}\nparameters: {{penalty: {PENALTY}}}\nsensitivity: {{of: [x, W, validation_loss]}}\n"
    more += "solver: {max_steps: 20000}\n"
    of_narrow, narrow = solve(f"problem: svm\n{SVM}{more}")
    of_wide, found = solve(f"problem: svm\n{data(X=Z @ Q.T, y=OF, X_validation=Z_V @ Q.T, y_validation=OF_V)}{more}")
    assert of_wide.status is Status.OK
    np.testing.assert_allclose(of_wide.solution["x"], of_narrow.solution["x"], atol=1e-11)
    np.testing.assert_allclose(of_wide.outputs["W"], Q @ of_narrow.outputs["W"], atol=1e-11)
    assert of_wide.outputs["validation_loss"] == pytest.approx(of_narrow.outputs["validation_loss"], rel=1e-11)
    for name, turn in (("x", np.eye(N)), ("W", Q), ("validation_loss", None)):
        one, other = narrow["jacobian", "", name, "penalty"], found["jacobian", "", name, "penalty"]
        close(other, one.value if turn is None else turn @ one.value)


@pytest.mark.parametrize("mapping", ["projected_gradient", "mirror_descent", "block"])
def test_svm_where_an_entry_vanishes_has_no_derivative(solve, mapping):
    x, dx, free = svm_solution(PENALTY)
    leaves = np.where(free & (dx != 0), -x / np.where(dx == 0, 1.0, dx), np.inf)
    _, multiplier, _ = on_face(free, PENALTY)
    _, further, _ = on_face(free, PENALTY + 1.0)  # multipliers are affine, too
    enters = np.where(~free, -multiplier / np.where(free, 1.0, further - multiplier), np.inf)
    to_kink = min(step for step in np.append(leaves.ravel(), enters.ravel()) if step > 0)
    result, found = solve(
        f"problem: svm\noptions: {{mapping: {mapping}}}\n{SVM}parameters: {{penalty: {float(PENALTY + to_kink)!r}}}\n"
        "solver: {max_steps: 20000}\nsensitivity: {of: [x]}\n"
    )
    assert not result.status.good
    if result.status is Status.NONDIFFERENTIABLE:
        assert np.isnan(found["jacobian", "", "x", "penalty"].value).all()


def test_solutions_against_scikit_learn(solve):
    linear, kernel = pytest.importorskip("sklearn.linear_model"), pytest.importorskip("sklearn.kernel_ridge")
    tight = {"tol": 1e-14, "max_iter": 100_000}
    result, _ = solve(f"problem: lasso\n{REGRESSION}parameters: {{penalty: 0.25}}\nsensitivity: {{products: []}}\n")
    np.testing.assert_allclose(
        result.solution["w"], linear.Lasso(alpha=0.25, fit_intercept=False, **tight).fit(X, Y).coef_, atol=1e-9
    )
    result, _ = solve(f"problem: elastic_net\n{REGRESSION}parameters: {{l1: 0.2, l2: 0.4}}\nsensitivity: {{products: []}}\n")
    net = linear.ElasticNet(alpha=0.6, l1_ratio=0.2 / 0.6, fit_intercept=False, **tight).fit(X, Y)
    np.testing.assert_allclose(result.solution["w"], net.coef_, atol=1e-9)
    result, _ = solve(
        f"problem: logistic\n{data(X=X, y=LABELS, X_validation=X_V, y_validation=LABELS_V)}parameters: {{penalty: 0.1}}\n"
        "sensitivity: {products: []}\n"
    )
    model = linear.LogisticRegression(C=1 / (M * 0.1), tol=1e-12, max_iter=10_000).fit(X, LABELS)
    np.testing.assert_allclose(result.solution["w"], model.coef_[0], atol=1e-5)
    result, _ = solve(
        f"problem: kernel_ridge\n{REGRESSION}parameters: {{length: 1.7, penalty: 0.05}}\nsensitivity: {{products: []}}\n"
    )
    model = kernel.KernelRidge(alpha=M * 0.05, kernel="rbf", gamma=1 / (2 * 1.7**2)).fit(X, Y)
    np.testing.assert_allclose(result.outputs["prediction"], model.predict(X_V), rtol=1e-10)
