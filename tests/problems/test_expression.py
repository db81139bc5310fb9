"""Problems in formulas: functions against NumPy and SciPy, each kind of problem against a closed form, faults with their place."""

import math

import numpy as np
import pytest
import scipy.special

from implicit_cli import formula
from implicit_cli.errors import InputError
from implicit_cli.status import Status

rng = np.random.default_rng(5)
A, B, S = rng.uniform(0.2, 0.9, (3, 2)), rng.uniform(0.2, 0.9, (3, 2)), rng.uniform(-0.3, 0.3, (3, 3)) + 2 * np.eye(3)
V, W, INDEX = rng.uniform(0.2, 0.9, 3), rng.uniform(0.2, 0.9, 2), np.array([2, 0, 2, 1])

NUMPY = {
    **{name: getattr(np, name) for name in formula.FUNCTIONS if hasattr(np, name)},
    "erf": scipy.special.erf,
    "sigmoid": scipy.special.expit,
    "softplus": lambda x: np.log1p(np.exp(x)),
    "norm": lambda x, axis=None: np.sqrt(np.sum(x**2, axis=axis)),
    "logsumexp": scipy.special.logsumexp,
    "softmax": scipy.special.softmax,
    "cumsum": lambda x, axis=-1: np.cumsum(x, axis=axis),
    "dot": np.vdot,
    "det": np.linalg.det,
    "logdet": lambda x: np.linalg.slogdet(x)[1],
    "inv": np.linalg.inv,
    "solve": np.linalg.solve,
    "pi": math.pi,
    "None": None,
}
SQUARE = ("det", "logdet", "inv", "trace")
TEXTS = [
    *(
        f"{name}(A)"
        for name in formula.FUNCTIONS
        if formula.FUNCTIONS[name].arrays == 1 and name not in ("det", "logdet", "inv", "trace")
    ),
    *(f"{name}(A, axis=0)" for name in formula.FUNCTIONS if formula.FUNCTIONS[name].axis),
    *(f"{name}(A, axis=-1)" for name in formula.FUNCTIONS if formula.FUNCTIONS[name].axis),
    *(f"{name}(S)" for name in (*SQUARE, "diag")),
    "minimum(A, B)",
    "maximum(A, W)",
    "arctan2(V, 0.5)",
    "dot(A, B)",
    "outer(V, W)",
    "solve(S, V)",
    "solve(S, A)",
    "diag(V)",
    "A + W - 2 * B / 3",
    "V[:, None] * W + A.T.T ** 2",
    "A ** -2 + A ** 0.5 + 2 ** A",
    "-A @ W + +V",
    "V @ A @ W",
    "A[0] + A[-1, :] * W[::-1]",
    "V[I]",
    "A[I, 1] + A[0:2, 0][None, :].T[0, 0]",
    "2 ** 3 ** 2 * pi / (1 - 3) / 4",
    "V * 1e3 + 0.1",
]


def lists(**arrays):
    return "{" + ", ".join(f"{name}: {np.asarray(array).tolist()}" for name, array in arrays.items()) + "}"


def test_each_formula_is_what_numpy_makes_of_it(solve):
    """All as outputs of one problem; the witness is Python's own evaluation of the same texts with NumPy's functions."""
    given = {"A": A, "B": B, "S": S, "V": V, "W": W, "I": INDEX}
    truth = {f"out{k}": np.asarray(eval(text, {**NUMPY, **given})) for k, text in enumerate(TEXTS)}
    assert {call.split("(")[0] for call in TEXTS if "(" in call} >= set(formula.FUNCTIONS)
    outputs = ", ".join(
        f"{name}: {{formula: '{text}', shape: {list(truth[name].shape)}}}" for name, text in zip(truth, TEXTS, strict=True)
    )
    result, _ = solve(
        f"problem: expression\ndata: {lists(**given)}\nparameters: {{a: 1.0}}\nsensitivity: {{products: []}}\nformulas:\n"
        "  data: {A: [3, 2], B: [3, 2], S: [3, 3], V: [3], W: [2], I: {shape: [4], dtype: int}}\n"
        f"  parameters: {{a: []}}\n  unknowns: {{x: []}}\n  equations: {{x: x == a}}\n  outputs: {{{outputs}}}\n"
    )
    for name, value in truth.items():
        np.testing.assert_allclose(result.outputs[name], value, rtol=1e-13, atol=1e-15, err_msg=TEXTS[int(name[3:])])


def test_least_squares_have_their_closed_form(solve):
    M, b = rng.normal(size=(5, 3)), rng.normal(size=5)
    result, found = solve(
        f"problem: expression\ndata: {lists(M=M)}\nparameters: {lists(b=b, k=0.3)}\nformulas:\n"
        "  data: {M: [row, col]}\n  parameters: {b: [row], k: {bounds: [0, null]}}\n  unknowns: {x: [col]}\n"
        "  minimise: sum((M @ x - b)**2) / 2 + k * x @ x / 2\n  outputs: {loss: sum((M @ x - b)**2)}\n"
    )
    K = M.T @ M + 0.3 * np.eye(3)
    x = np.linalg.solve(K, M.T @ b)
    np.testing.assert_allclose(result.solution["x"], x, rtol=1e-12)
    for name, J in (("b", np.linalg.solve(K, M.T)), ("k", -np.linalg.solve(K, x))):
        product = found["jacobian", "", "x", name]
        assert product.status is Status.OK
        np.testing.assert_allclose(product.value, J, rtol=1e-10, atol=1e-12)
        assert np.isfinite(product.bound.total).all()


def test_demand_under_a_budget(solve):
    """Cobb and Douglas: x_i = share_i income / price_i, and one more unit of income is worth (sum of tastes) / income."""
    price, taste, income = np.array([1.0, 0.5, 2.0]), np.array([1.0, 2.0, 1.0]), 10.0
    for sense in ("==", "<="):
        result, found = solve(
            f"problem: expression\ndata: {lists(taste=taste)}\nparameters: {lists(price=price, income=income)}\nformulas:\n"
            "  data: {taste: [good]}\n  parameters: {price: [good], income: []}\n  unknowns: {x: {shape: [good], initial: 1.0}}\n"
            f"  minimise: -sum(taste * log(x))\n  subject_to: {{worth: price @ x {sense} income}}\n"
        )
        x = taste / taste.sum() * income / price
        assert result.status is Status.OK
        np.testing.assert_allclose(result.solution["x"], x, rtol=1e-9)
        np.testing.assert_allclose(result.solution["worth"], taste.sum() / income, rtol=1e-9)
        np.testing.assert_allclose(found["jacobian", "", "x", "price"].value, np.diag(-x / price), rtol=1e-7, atol=1e-9)
        np.testing.assert_allclose(found["jacobian", "", "x", "income"].value, x / income, rtol=1e-8)


def test_several_constraints_of_both_kinds(solve):
    """The projection on a line within a box: two entries are free, one is at its floor; multipliers have names of their own."""
    a = np.array([0.9, 0.6, -0.5])
    result, found = solve(
        f"problem: expression\nparameters: {lists(a=a, top=2.0)}\nformulas:\n"
        "  parameters: {a: [n], top: []}\n  unknowns: {x: [n]}\n  minimise: sum((x - a)**2) / 2\n"
        "  subject_to: {floor: {formula: x >= 0, shape: [n]}, total: sum(x) == 1, balance: 'x[0] - x[1] <= top'}\n"
    )
    np.testing.assert_allclose(result.solution["x"], [0.65, 0.35, 0.0], atol=1e-10)
    np.testing.assert_allclose(result.solution["total"], 0.25, atol=1e-9)  # x - a + total = 0 where x is free
    np.testing.assert_allclose(result.solution["floor"], [0.0, 0.0, 0.75], atol=1e-9)
    J = np.array([[0.5, -0.5, 0.0], [-0.5, 0.5, 0.0], [0.0, 0.0, 0.0]])
    np.testing.assert_allclose(found["jacobian", "", "x", "a"].value, J, atol=1e-9)
    np.testing.assert_allclose(found["jacobian", "", "balance", "a"].value, np.zeros(3), atol=1e-9)


def test_a_root_and_a_fixed_point(solve):
    e, M = 0.3, np.array([1.0, 2.0])
    result, found = solve(
        f"problem: expression\nparameters: {lists(e=e, M=M)}\nformulas:\n"
        "  parameters: {e: [], M: [orbit]}\n  unknowns: {E: [orbit]}\n  equations: {E: E - e * sin(E) == M}\n"
    )
    E = result.solution["E"]
    np.testing.assert_allclose(E - e * np.sin(E), M, rtol=1e-14)
    np.testing.assert_allclose(found["jacobian", "", "E", "M"].value, np.diag(1 / (1 - e * np.cos(E))), rtol=1e-12)
    result, found = solve(
        "problem: expression\nparameters: {a: [0.5, 1.0]}\n"
        "formulas: {parameters: {a: [n]}, unknowns: {x: [n], y: []}, fixed_point: {x: cos(a * x) + y, y: y / 2 + 1}}\n"
    )
    x, a = result.solution["x"], np.array([0.5, 1.0])
    np.testing.assert_allclose(x, np.cos(a * x) + 2.0, rtol=1e-12)
    np.testing.assert_allclose(
        found["jacobian", "", "x", "a"].value, np.diag(-x * np.sin(a * x) / (1 + a * np.sin(a * x))), rtol=1e-9
    )


HEAD = "problem: expression\ndata: {A: [[1.0, 2.0]], i: [0, 5]}\nparameters: {a: [1.0, 2.0]}\n"
DECLARED = "formulas:\n  data: {A: [row, n], i: {shape: [m], dtype: int}}\n  parameters: {a: [n]}\n  unknowns: {x: [n]}\n"
FAULTS = {
    "minimise: sum((A.T @ x - a)**2)": r"8:13: formulas.minimise: 'A.T @ x', character 6: found shapes \(2, 1\) and \(2,\): ",
    "minimise: (x - a)**2": r"formulas.minimise: '\(x - a\)\*\*2' gives shape \(2,\), allowed: a single number",
    "equations: {x: sum(x) - 1}": r"formulas.equations.x: 'sum\(x\) - 1' gives a single number, allowed: shape \(2,\)",
    "equations: {x: 'x - a[2]'}": r"formulas.equations.x: 'a\[2\]', character 5: found shape \(2,\): index 2 is out of bounds",
    "equations: {x: 'x - x[a]'}": r"formulas.equations.x: 'x\[a\]', character 5: 'a' is an index, allowed: data with dtype: int",
    "equations: {x: 'sum(x, axis=3) - x'}": r"'sum\(x, axis=3\)', character 1: found shape \(2,\): axis 3 is out of bounds",
    "minimise: sum(x**2)\n  subject_to: {t: x >= a}": r"formulas.subject_to.t: 'x >= a' gives shape \(2,\), allowed: a single",
    "minimise: sum(x**2)\n  outputs: {solver: sum(x)}": r"formulas: found the name 'solver', which problems use themselves",
    "minimise: sum(x**2)\n  outputs: {y: 2 * x}": r"outputs: 'y' has shape \(2,\), declared: \(\)",
}


@pytest.mark.parametrize("text", FAULTS)
def test_what_does_not_fit_is_told_with_its_place(prepared, text):
    with pytest.raises(InputError, match=FAULTS[text]):
        prepared(f"{HEAD}{DECLARED}  {text}\n")


def test_an_entry_that_does_not_exist_is_no_number(solve):
    result, _ = solve(f"{HEAD}{DECLARED}  equations: {{x: 'x - a * sum(a[i])'}}\n")
    assert result.status is Status.NOT_FINITE
