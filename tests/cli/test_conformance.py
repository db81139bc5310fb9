"""`implicit problems new` and `check`: what is written runs as it is, and what breaks the contract is told."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest

from implicit_cli.api.skeleton import KINDS
from implicit_cli.plugins import installed
from implicit_cli.testing import check_problem

HEAD = """
import numpy as np
import jax
import jax.numpy as jnp
from implicit_cli.core import Condition, proximal_gradient, root, stationary
from implicit_cli.problem import Constants, Data, Output, Parameter, Problem, Unknown

class Faulty(Problem):
    '''x (1 + a) = b, all at once.'''
    example = 'problem: ./faulty.py\\nparameters: {a: [0.5, 1.0, 2.0], b: 1.0}'
    a = Parameter(shape=("n",), doc="a")
    b = Parameter(doc="b")
    x = Unknown(shape=("n",), doc="x")
    total = Output(doc="sum of x")

    def equation(self, x, theta, data):
        return x._replace(x=x.x * (1 + theta.a) - theta.b)

    def condition(self):
        return root(self.equation, symmetric=True)

    def outputs(self, x, theta, data):
        return {"total": jnp.sum(x.x)}
"""
FAULTS = {
    "documentation": ("    b = Parameter(doc='b')", "    b = Parameter()", "parameter 'b' has no doc"),
    "deterministic": (
        "x._replace(x=x.x * (1 + theta.a) - theta.b)",
        # what a trace does not see: without this it is refused before, as tests/bad_inputs has it
        "x._replace(x=x.x * (1 + theta.a) - theta.b + 1e-3 * jax.pure_callback(\n"
        "            lambda: np.random.default_rng().normal(), jax.ShapeDtypeStruct((), float)))",
        "F or outputs differ when they are computed again",
    ),
    "jit": (
        "        return x._replace(x=x.x * (1 + theta.a) - theta.b)",
        "        self.__dict__.setdefault('calls', []).append(1)\n"
        "        early = isinstance(x.x, jax.core.Tracer)\n"
        "        return x._replace(x=x.x * (1 + theta.a) - theta.b * (1.1 if early else 1.0))",
        "compiled, F or outputs differ by",
    ),
    "symmetric": (
        "x.x * (1 + theta.a) - theta.b",
        "x.x * (1 + theta.a) - theta.b + 0.1 * jnp.cumsum(x.x)",
        "u'A v and v'A u differ by",
    ),
    "definite": (
        "root(self.equation, symmetric=True)",
        "root(lambda *a: jax.tree.map(jnp.negative, self.equation(*a)), definite=True)",
        "A has an eigenvalue of -3",
    ),
    "null space": (
        "    def outputs",
        "    def null_space(self, x, theta, data):\n        return {'shift': {'x': jnp.ones(3)}}\n\n    def outputs",
        "along 'shift' A z is",
    ),
    "constants": (
        "    def outputs",
        "    def constants(self, theta, data):\n        return Constants(alpha=5.0, beta=0.1)\n\n    def outputs",
        "alpha 5 is more than the smallest singular value of A, 1.5; beta 0.1 is less than",
    ),
    "entries": (
        "root(self.equation, symmetric=True)",
        "root(self.equation, symmetric=True).tagged(pattern=lambda *a: (np.arange(3), np.arange(3)), "
        "entries=lambda x, theta, data: 2 + theta.a)",
        "they differ from A by",
    ),
    "derivatives": (
        "x.x * (1 + theta.a) - theta.b",
        "x.x * (1 + jax.lax.stop_gradient(theta.a)) - theta.b",
        "off by 0.22; the bound and the witness's error allow",
    ),
    "solution": ("x.x * (1 + theta.a) - theta.b", "x.x**2 * 0 + 1 + 0 * theta.a * theta.b", ""),
    "initial guess": (
        "    def outputs",
        "    def initial(self, theta, data, key):\n        return {'x': np.random.default_rng().normal(size=3)}\n\n    def outputs",
        "another one for the same seed",
    ),
    "shapes and dtypes": ("jnp.sum(x.x)}", "jnp.sum(x.x).astype(jnp.float32)}", "output 'total' is float32, expected float64"),
    "form": ("x._replace(x=x.x * (1 + theta.a) - theta.b)", "x._replace(x=x.x[:2])", "'x' has shape (2,), declared: (3,)"),
    "example": ("{a: [0.5, 1.0, 2.0], b: 1.0}", "{a: [0.5, 1.0, 2.0], c: 1.0}", "./faulty.py declares no such name here"),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_begun_runs_and_keeps_the_contract(implicit, tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    done = implicit("problems", "new", "heat_flow", "--kind", kind)
    assert done.code == 0
    assert done.err == "implicit: wrote heat_flow.py\nimplicit: wrote heat_flow.yaml\nimplicit: wrote test_heat_flow.py\n"
    done = implicit("problems", "check", "./heat_flow.py", "--allow-plugin", "--spec", "heat_flow.yaml", "-q")
    assert done.code == 0, done.out
    rows = {row[:18].strip(): row[18:].split()[0] for row in done.out.splitlines()[1:]}
    assert set(rows.values()) == {"holds"}
    assert {"documentation", "shapes and dtypes", "deterministic", "jit", "vmap", "solution", "derivatives"} <= set(rows)
    done = implicit("run", "heat_flow.yaml", "-o", "out.h5", "--allow-plugin", "-q")
    assert (done.code, done.err) == (0, "")


def test_nothing_is_overwritten(implicit, tmp_path):
    (tmp_path / "mine.yaml").write_text("problem: ridge\n")
    done = implicit("problems", "new", "mine", "--folder", tmp_path)
    assert done.code == 2
    assert "mine.yaml' is there already" in done.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.yaml"]


@pytest.mark.parametrize("name", ["Heat", "2d", "class", "a-b", "../up", "_x"])
def test_a_name_that_cannot_be_one(implicit, tmp_path, name):
    done = implicit("problems", "new", name, "--folder", tmp_path)
    assert done.code == 2
    assert f"NAME: found '{name}', allowed: a name in lower case that Python takes" in done.err
    assert not list(tmp_path.iterdir())


def test_an_unknown_kind(implicit, tmp_path):
    done = implicit("problems", "new", "mine", "--kind", "rooot", "--folder", tmp_path)
    assert done.code == 2
    assert "--kind: found 'rooot', allowed: 'fixed_point', 'kkt', " in done.err
    assert "did you mean 'root'?" in done.err


@pytest.mark.parametrize("trait", FAULTS)
def test_what_breaks_the_contract_is_told(implicit, tmp_path, monkeypatch, trait):
    monkeypatch.chdir(tmp_path)
    old, new, told = FAULTS[trait]
    source = HEAD.replace('doc="b"', "doc='b'")
    assert source.count(old) == 1
    (tmp_path / "faulty.py").write_text(source.replace(old, new))
    done = implicit("problems", "check", "./faulty.py", "--allow-plugin", "--json", "-q")
    assert done.code == 1
    violated = {one["name"]: one["note"] for one in json.loads(done.out)["traits"] if one["verdict"] == "violated"}
    assert told in violated[trait]


def test_a_test_of_ones_own_fails_with_what_is_violated(tmp_path):
    old, new, told = FAULTS["form"]
    (tmp_path / "faulty.py").write_text(HEAD.replace(old, new))
    with pytest.raises(AssertionError, match=rf"does not keep the contract:\nform: .*{re.escape(told)}"):
        check_problem(tmp_path / "faulty.py")


def test_the_same_without_a_fault(tmp_path):
    (tmp_path / "faulty.py").write_text(HEAD)
    report = check_problem(tmp_path / "faulty.py")
    assert report.exit_code == 0
    assert {trait.name for trait in report.traits} >= {"documentation", "symmetric", "derivatives"}


POTENTIALS = ("buckingham", "eam", "lennard_jones", "morse", "stillinger_weber", "tersoff")
LIBRARY = sorted(entry.name for entry in installed() if entry.distribution == "implicit-cli")


# the others take half a minute and more, most of it for compiling lists of another length
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.exhaustive) if name in POTENTIALS else name for name in LIBRARY]
)
def test_every_problem_of_the_library_keeps_the_contract(name):
    check_problem(name)


@pytest.mark.slow
def test_a_package_is_installed_and_found(tmp_path):
    """A distribution of its own, by pip, in a place of its own: listed, tried, and its own test passes."""
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}

    def run(*command: str, **options: object) -> str:
        done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, env=environment, **options)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    folder = tmp_path / "heat"
    run("implicit_cli", "problems", "new", "heat_flow", "--package", "--folder", str(folder))
    run("pip", "install", "-q", "--no-deps", "--target", str(tmp_path / "site"), str(folder))
    listed = run("implicit_cli", "problems", cwd=tmp_path)
    assert any(line.split()[:2] == ["heat_flow", "implicit-heat-flow"] for line in listed.splitlines())
    assert "violated" not in run("implicit_cli", "problems", "check", "heat_flow", "-q", cwd=tmp_path)
    run("pytest", "-q", "-p", "no:cacheprovider", str(folder / "test_heat_flow.py"), cwd=tmp_path)
