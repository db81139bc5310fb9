"""The names, units and versions of the result file, and nothing else: no HDF5 and no numbers are read or written here.

`docs/file-format.md` says the same in prose; a change here is a change there. A change that an older reader would take for
something else raises `FORMAT_VERSION`; a new optional dataset does not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import unquote

import numpy as np

from implicit_cli.result import Variable
from implicit_cli.status import Status

FORMAT = "implicit-result"
FORMAT_VERSION = 1
CREATOR = "implicit-cli"

CASE = "case"
ITERATION = "iteration"
GAUGE = "gauge"
KIND = "kind"
"""The species of a structure; its labels are their names."""
EVALUATION = "evaluation"
OUTER_STEP = "step"

CHECKSUM = "checksum"
CHECKSUM_MARK = b"implicit-result sha256 "
CHECKSUM_LENGTH = 64
"""`/checksum` holds the mark, then the SHA-256 of the file in hexadecimal, taken with these 64 characters set to 0.

The mark makes it findable without an HDF5 library, for old ones may crash on damaged files.
"""

SPEC = "spec"
INPUTS = "inputs"
CASES = "cases"
PARAMETERS = "cases/parameters"
SECONDS = "cases/seconds"
SWEPT = "cases/swept"
SEED = "seed"
"""Below `SWEPT`: the seed of a case, which is no quantity of the problem."""
SOLUTION = "solution"
OUTPUTS = "outputs"
CERTIFICATE = "certificate"
CERTIFICATE_PROVENANCE = "certificate/provenance"
SOLVER = "diagnostics/solver"
LINEAR = "diagnostics/linear"
NULL_SPACE = "diagnostics/null_space"
UNDETERMINED = "diagnostics/null_space/undetermined"
PRODUCTS = "diagnostics/products"
METHOD = "diagnostics/method"
CONVERGENCE = "convergence"
PROVENANCE = "provenance"
OUTER = "outer"
LAMBDA = "outer/lambda"
VERIFY = "verify"
ANALYSIS = "analysis"
VERIFY_PROVENANCE = "verify/provenance"
ANALYSIS_PROVENANCE = "analysis/provenance"

VALUES = {
    "jacobian": "sensitivity",
    "jvp": "jvp",
    "jvp_left": "jvp_left",
    "jvp_right": "jvp_right",
    "vjp": "vjp",
    "hessian": "hessian",
    "hessian_along": "hessian_along",
}
"""Group of the values of each kind of product."""

ALONG = ("jvp", "jvp_left", "jvp_right", "hessian_along")
"""Kinds of products along a direction."""

ENCODINGS = {
    "": "result",
    SPEC: "text",
    INPUTS: "quantities",
    CASES: "cases",
    PARAMETERS: "quantities",
    SECONDS: "seconds",
    SWEPT: "quantities",
    SOLUTION: "quantities",
    OUTPUTS: "quantities",
    "sensitivity": "jacobian",
    "jvp": "jvp",
    "jvp_left": "jvp",
    "jvp_right": "jvp",
    "vjp": "vjp",
    "hessian": "hessian",
    "hessian_along": "hessian-along",
    CERTIFICATE: "certificate",
    CERTIFICATE_PROVENANCE: "certificate-provenance",
    "certificate/solution": "bound",
    "certificate/outputs": "bound",
    "certificate/jacobian": "bound",
    "certificate/jvp": "bound",
    "certificate/jvp_left": "bound",
    "certificate/jvp_right": "bound",
    "certificate/vjp": "bound",
    "certificate/hessian": "bound",
    "certificate/hessian_along": "bound",
    "diagnostics": "diagnostics",
    SOLVER: "solver",
    LINEAR: "linear",
    NULL_SPACE: "null-space",
    UNDETERMINED: "masks",
    PRODUCTS: "product-status",
    CONVERGENCE: "convergence",
    PROVENANCE: "text",
    OUTER: "outer",
    LAMBDA: "quantities",
    VERIFY: "verification",
    VERIFY_PROVENANCE: "text",
    ANALYSIS: "analysis",
    ANALYSIS_PROVENANCE: "text",
}
"""`encoding-type` of a group and of all groups below it, up to the next entry; `ENCODING_VERSION` counts changes to one of them."""
ENCODING_VERSION = "1"

CONSTANTS = {
    "sigma_min": "smallest singular value of A = dF/dx outside its null space",
    "sigma_max": "largest singular value of A = dF/dx",
    "kappa": "condition number of A = dF/dx outside its null space",
    "alpha": "lower bound of the singular values of A = dF/dx near the solution",
    "beta": "Lipschitz constant of B = dF/dtheta in x",
    "gamma": "Lipschitz constant of A = dF/dx in x",
    "norm_B": "2-norm of B = dF/dtheta, at most",
    "lipschitz": "Lipschitz constant of J in x: beta / alpha + gamma norm_B / alpha^2",
    "step": "length of the Newton step at the computed solution",
    "h": "Newton-Kantorovich number; below 1/2 a root exists within radius",
    "radius": "distance to the exact solution, at most (2-norm over all unknowns)",
    "margin": "distance to the nearest kink of F (2-norm over all unknowns)",
}
"""Certificate constants, in the order of `result.Certificate`, and their long names."""

PARTS = {
    "bound": "error of a column in the 2-norm, at most",
    "truncation": "part of the bound: the solution is known to its radius only",
    "linear": "part of the bound: residual of the linear solve",
    "rounding": "part of the bound: floating-point arithmetic",
}
"""Datasets of a bound and their long names; `bound` is `result.Bound.total`."""

VERIFY_CASE = {
    "residual": ("max |F| at the stored solution, evaluated anew", "1"),
    "tol": ("tolerance on max |F|", "1"),
    "moved": ("distance to the solution that is found by solving again (2-norm over all unknowns)", "length"),
    "seconds": ("wall time of the check", "s"),
}
"""Numbers that `/verify` has of each case, their long names and units; "length" is the unit that all unknowns have in common."""

VERIFY_NUMBERS = {
    "observed": "distance of the stored derivative from the witness, along the worst direction",
    "bound": "stored bound on it",
    "witness": "error of the witness",
    "size": "2-norm of the witness",
    "slope": "exponent with which the Taylor remainder falls; NaN: too few rungs",
    "residual": "|A J v + B v| / |B v| by differences of F",
    "dot": "|w'(J v) - (J'w)'v| / (|w| |J v|), forward against adjoint",
}
VERIFY_COUNTS = {"trials": "directions along which the product was checked", "left_out": "entries without a derivative"}
VERIFY_TEXTS = {"along": "the worst direction", "note": "what is wrong, or why nothing is decided"}
"""Datasets of a product in `/verify`, beside its verdict, and their long names; each is a field of `verdict.Finding`."""

ABSENT = -1
"""Status code, and count, where a padded array has nothing."""

BOTH = " and "
"""Between the two parameters of a hessian."""

_WRT = {"identity": "{}", "log": "log({})", "log10": "log10({})", "logit": "logit({})", "softplus": "softplus^-1({})"}


def component(name: str, taken: Iterable[str] = ()) -> str:
    """`name` as one component of an HDF5 path: `/`, `%`, a lone `.` or `..`, and the first letter of a `taken` name become %XX."""
    special = "/%\0." if name in (".", "..") else "/%\0"
    escaped = "".join(f"%{ord(letter):02X}" if letter in special else letter for letter in name)
    if escaped in taken:
        return f"%{ord(escaped[0]):02X}{escaped[1:]}"
    return escaped


def original(part: str) -> str:
    """The name that `component` was given."""
    return unquote(part)


def encoding(path: str) -> str:
    """`encoding-type` of the group at `path` (relative to the root): that of the nearest entry of `ENCODINGS` above it."""
    while path not in ENCODINGS:
        path = path.rpartition("/")[0]
    return ENCODINGS[path]


def product_path(kind: str, name: str, of: str, wrt: str, wrt2: str = "") -> str:
    """Where a product is below `VALUES[kind]`, `certificate/<kind>` and `diagnostics/products/<group>`, in this order.

    A jacobian is at `<of>/<wrt>`, a hessian at `<of>/<wrt>/<wrt2>`, a vjp at `<name>/<wrt>`, all that is `ALONG` a direction at
    `<name>/<of>`.
    """
    if kind == "hessian":
        return f"{component(of)}/{component(wrt)}/{component(wrt2)}"
    if kind == "jacobian":
        return f"{component(of)}/{component(wrt)}"
    return f"{component(name)}/{component(wrt if kind == 'vjp' else of, (DIRECTION,))}"


DIRECTION = "direction"
"""Group beside the values of a jvp, vjp or hessian_along that holds the direction or cotangent."""


def value_path(kind: str, name: str, of: str, wrt: str, wrt2: str = "") -> str:
    """Dataset of a product's value."""
    return f"{VALUES[kind]}/{product_path(kind, name, of, wrt, wrt2)}"


def status_path(kind: str, name: str, of: str, wrt: str, wrt2: str = "") -> str:
    """Dataset of a product's status: the value's path below `diagnostics/products`."""
    return f"{PRODUCTS}/{value_path(kind, name, of, wrt, wrt2)}"


def bound_path(kind: str, name: str, of: str, wrt: str, wrt2: str = "") -> str:
    """Group of a product's bound and its parts."""
    return f"{CERTIFICATE}/{kind}/{product_path(kind, name, of, wrt, wrt2)}"


def quantity_bound_path(group: str, name: str) -> str:
    """Group of the bound of an unknown (`SOLUTION`) or output (`OUTPUTS`), and its parts."""
    return f"{CERTIFICATE}/{group}/{component(name)}"


def direction_path(kind: str, name: str, quantity: str) -> str:
    """Dataset of a direction's (jvp, hessian_along) or cotangent's (vjp) part."""
    return f"{VALUES[kind]}/{component(name)}/{DIRECTION}/{component(quantity)}"


def wrt_label(variable: Variable, entry: str = "") -> str:
    """What a derivative is taken with respect to: `penalty`, or `log(penalty[s5])` for a transformed parameter's `entry`."""
    return _WRT[variable.transform].format(f"{variable.name}{entry}")


def wrt_unit(variable: Variable) -> str:
    """Unit of what a derivative is taken with respect to: a transformed parameter is a plain number."""
    return variable.unit if variable.transform == "identity" else "1"


def quotient(above: str, below: str) -> str:
    """Unit of a derivative, `above` over `below`, in the notation of UDUNITS."""
    if below == "1":
        return above
    if above == below:
        return "1"
    return f"{above}/{below if below.replace('_', '').isalpha() else f'({below})'}"


def times(first: str, second: str) -> str:
    """Unit of a product of two quantities, in the notation of UDUNITS."""
    if "1" in (first, second):
        return second if first == "1" else first
    if first != second:
        return f"{first} {second}"
    return f"{first}2" if first.replace("_", "").isalpha() else f"({first})2"


def common_unit(variables: Iterable[Variable]) -> str:
    """The unit that all have in common, else "1"."""
    units = {variable.unit for variable in variables}
    return units.pop() if len(units) == 1 else "1"


def status_flags(*, padded: bool = False) -> dict[str, Any]:
    """The CF attributes that explain status codes; `padded` adds `absent` for the entries that a ragged array lacks."""
    codes = [(ABSENT, "absent")] if padded else []
    codes += [(int(status), status.label) for status in Status]
    return {"flag_values": np.array([code for code, _ in codes], np.int8), "flag_meanings": " ".join(label for _, label in codes)}


def unique(name: str, taken: Callable[[str], bool]) -> str:
    """`name` if it is free, else `name_2`, `name_3`, ..."""
    free, count = name, 1
    while taken(free):
        count += 1
        free = f"{name}_{count}"
    return free
