"""What `implicit problems new` writes: a problem of each kind that runs as it is, its spec, its test, and what installs it."""

from __future__ import annotations

import keyword
from typing import NamedTuple

from implicit_cli.errors import InputError, listing, nearest


class Kind(NamedTuple):
    """One kind of condition: what is imported, the class's docstring, declarations and methods, and the rest of its spec."""

    imports: str
    doc: str
    body: str
    spec: str


KINDS = {
    "stationary": Kind(
        "from implicit_cli.core import stationary\nfrom implicit_cli.problem import Data, Output, Parameter, Problem, Unknown",
        "Springs: x*(stiffness) = argmin_x |x - target|^2 / 2 + stiffness sum_i (x_(i+1) - x_i)^2 / 2.",
        """\
    target = Data(shape=("node",), unit="m", doc="where each node would be alone")
    stiffness = Parameter(bounds=(0.0, None), doc="stiffness of the springs between neighbours")
    x = Unknown(shape=("node",), unit="m", doc="where each node comes to rest")
    energy = Output(unit="m^2", doc="energy at rest")

    def objective(self, x, theta, data):
        return jnp.sum((x.x - data.target) ** 2) / 2 + theta.stiffness * jnp.sum(jnp.diff(x.x) ** 2) / 2

    def condition(self):
        return stationary(self.objective)

    def outputs(self, x, theta, data):
        return {"energy": self.objective(x, theta, data)}
""",
        "data: {target: [0.0, 1.0, 3.0]}\nparameters: {stiffness: 0.5}\n",
    ),
    "root": Kind(
        "from implicit_cli.core import root\nfrom implicit_cli.problem import Output, Parameter, Problem, Unknown",
        "Hardening springs: x with x + hardening x^3 = load, one for each load.",
        """\
    load = Parameter(shape=("spring",), unit="N", doc="force on each spring")
    hardening = Parameter(bounds=(0.0, None), doc="how much stiffer a spring becomes")
    x = Unknown(shape=("spring",), unit="m", doc="how far each spring gives way")
    mean = Output(unit="m", doc="mean of x")

    def equation(self, x, theta, data):
        return x._replace(x=x.x + theta.hardening * x.x**3 - theta.load)  # zero at the solution, one entry per unknown

    def condition(self):
        return root(self.equation)

    def outputs(self, x, theta, data):
        return {"mean": jnp.mean(x.x)}
""",
        "parameters: {load: [0.5, 1.0, 2.0], hardening: 0.3}\n",
    ),
    "fixed_point": Kind(
        "from implicit_cli.core import fixed_point\nfrom implicit_cli.problem import Data, Output, Parameter, Problem, Unknown",
        "Opinions: x* = T(x*) with T(x) = trust tanh(W x) + (1 - trust) own.",
        """\
    W = Data(shape=("person", "other"), doc="who listens to whom; rows sum to 1")
    trust = Parameter(bounds=(0.0, 1.0), doc="how much others count")
    own = Parameter(shape=("person",), doc="what each would think alone")
    x = Unknown(shape=("person",), doc="what each thinks in the end")
    mean = Output(doc="mean opinion")

    def step(self, x, theta, data):
        return x._replace(x=theta.trust * jnp.tanh(data.W @ x.x) + (1.0 - theta.trust) * theta.own)

    def condition(self):
        return fixed_point(self.step)

    def outputs(self, x, theta, data):
        return {"mean": jnp.mean(x.x)}
""",
        "data: {W: [[0.0, 1.0, 0.0], [0.5, 0.0, 0.5], [0.2, 0.8, 0.0]]}\nparameters: {trust: 0.6, own: [1.0, 0.0, -0.5]}\n",
    ),
    "proximal_gradient": Kind(
        "from implicit_cli.core import prox, proximal_gradient\n"
        "from implicit_cli.problem import Data, Output, Parameter, Problem, Unknown",
        "Sparse fit: w*(penalty) = argmin_w |X w - y|^2 / 2 + penalty |w|_1.",
        """\
    X = Data(shape=("sample", "feature"), doc="features")
    y = Data(shape=("sample",), doc="targets")
    penalty = Parameter(bounds=(0.0, None), doc="weight of |w|_1")
    w = Unknown(shape=("feature",), doc="weights, many of them zero")
    loss = Output(doc="|X w - y|^2 / 2")

    def smooth(self, x, theta, data):
        return jnp.sum((data.X @ x.w - data.y) ** 2) / 2

    def condition(self):
        return proximal_gradient(
            self.smooth,
            lambda v, eta, theta, data: v._replace(w=prox.lasso(v.w, eta * theta.penalty)),
            eta=0.1,
            margin=lambda v, eta, theta, data: prox.lasso.margin(v.w, eta * theta.penalty),
        )

    def outputs(self, x, theta, data):
        return {"loss": self.smooth(x, theta, data)}
""",
        "data:\n  X: [[1.0, 0.2, 0.0], [0.3, 1.0, 0.1], [0.0, 0.4, 1.0], [0.5, 0.5, 0.5]]\n  y: [1.0, 0.1, 2.0, 1.4]\n"
        "parameters: {penalty: 0.2}\n",
    ),
    "kkt": Kind(
        "from implicit_cli.core import kkt\nfrom implicit_cli.problem import Data, Output, Parameter, Problem, Unknown",
        "Budget: x*(budget) = argmin_x |x - wish|^2 / 2 subject to sum x = budget, x >= 0.",
        """\
    wish = Data(shape=("item",), doc="what one would spend on each item")
    budget = Parameter(bounds=(0.0, None), doc="what there is to spend")
    x = Unknown(shape=("item",), doc="what is spent on each item")
    nu = Unknown(shape=(1,), doc="multiplier of the budget")
    lam = Unknown(shape=("item",), bounds=(0.0, None), doc="multipliers of x >= 0")
    cost = Output(doc="|x - wish|^2 / 2")

    def objective(self, x, theta, data):
        return jnp.sum((x.x - data.wish) ** 2) / 2

    def condition(self):
        return kkt(
            self.objective,
            equality=lambda x, theta, data: jnp.sum(x.x)[None] - theta.budget[None],
            inequality=lambda x, theta, data: -x.x,
        )

    def outputs(self, x, theta, data):
        return {"cost": self.objective(x, theta, data)}
""",
        "data: {wish: [3.0, 1.0, -1.0]}\nparameters: {budget: 3.0}\n",
    ),
}


def texts(name: str, kind: str, *, package: bool) -> dict[str, str]:
    """File names and their texts; raises InputError for a name that cannot be one, or an unknown kind."""
    if kind not in KINDS:
        raise InputError(f"--kind: found '{kind}', allowed: {listing(KINDS)}{nearest(kind, KINDS)}")
    if not (name.isascii() and name.isidentifier() and name == name.lower()) or keyword.iskeyword(name) or name.startswith("_"):
        raise InputError(f"NAME: found '{name}', allowed: a name in lower case that Python takes, such as 'heat_exchanger'")
    chosen, cls = KINDS[kind], "".join(part.capitalize() for part in name.split("_"))
    reference = name if package else f"./{name}.py:{cls}"
    spec = f"problem: {reference}\n{chosen.spec}"
    indented = "".join(f"    {line}\n" for line in spec.splitlines())
    found = {
        f"{name}.py": f'''\
"""{cls}: say here what this problem is about, and where its formulas come from."""

import jax.numpy as jnp

{chosen.imports}


class {cls}(Problem):
    """{chosen.doc}"""

    example = """
{indented}    """

{chosen.body}''',
        f"{name}.yaml": f"# {'Run with --allow-plugin' if not package else 'Install it first: pip install .'}\n{spec}",
        f"test_{name}.py": f'''\
"""{cls} keeps the contract: shapes, purity, the solution, and every derivative against differences of solutions."""

from pathlib import Path

from implicit_cli.testing import check_problem

HERE = Path(__file__).resolve().parent


def test_it_keeps_the_contract():
    check_problem({f'"{name}"' if package else f'HERE / "{name}.py"'}, spec=HERE / "{name}.yaml")
''',
    }
    if package:
        found["pyproject.toml"] = f'''\
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "implicit-{name.replace("_", "-")}"
version = "0.1.0"
description = "{cls} for implicit"
requires-python = ">=3.11"
dependencies = ["implicit-cli"]

[project.entry-points."implicit_cli.problems"]
{name} = "{name}:{cls}"

[tool.setuptools]
py-modules = ["{name}"]
'''
    return found
