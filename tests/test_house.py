"""The house itself: what pyproject.toml says against the tree, who imports JAX when, and help for every command."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from implicit_cli import runtime
from implicit_cli.cli import app

ROOT = Path(__file__).resolve().parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
EXTRAS = PROJECT["optional-dependencies"]
PYTHONS = ("3.11", "3.12", "3.13")


def requirements(*groups: str) -> list[Requirement]:
    texts = PROJECT["dependencies"] + [text for group in groups for text in EXTRAS[group]]
    return [Requirement(text) for text in texts]


# Packaging


def test_the_packages_are_those_of_the_tree():
    found = set()
    for name, folder in {"implicit_cli": ROOT / "implicit_cli", "implicit_problems": ROOT / "problems"}.items():
        found |= {".".join([name, *init.parent.relative_to(folder).parts]) for init in folder.rglob("__init__.py")}
    assert sorted(PYPROJECT["tool"]["setuptools"]["packages"]) == sorted(found)


def test_no_module_lies_outside_a_package():
    for folder in (ROOT / "implicit_cli", ROOT / "problems"):
        assert [path for path in folder.rglob("*.py") if not (path.parent / "__init__.py").exists()] == []


@pytest.mark.parametrize(("name", "target"), PROJECT["entry-points"]["implicit_cli.problems"].items())
def test_an_entry_point_leads_to_a_class(name: str, target: str):
    module, _, class_name = target.partition(":")
    package, _, stem = module.partition(".")
    assert package == "implicit_problems"
    tree = ast.parse((ROOT / "problems" / f"{stem}.py").read_text())
    assert class_name in [node.name for node in tree.body if isinstance(node, ast.ClassDef)]
    assert name == stem


def test_every_problem_has_an_entry_point():
    modules = {path.stem for path in (ROOT / "problems").glob("*.py")} - {"__init__"}
    assert modules == set(PROJECT["entry-points"]["implicit_cli.problems"])


@pytest.mark.parametrize("requirement", [r for r in requirements(*EXTRAS) if r.name in ("jax", "jaxlib")], ids=str)
def test_a_jax_that_is_wrong_cannot_be_installed(requirement: Requirement):
    for release in [*runtime.JAX_REFUSED, (0, 10, 0), (0, 9, 2)]:
        assert not requirement.specifier.contains(".".join(map(str, release)))
    for version in (".".join(map(str, runtime.JAX_FLOOR)), "0.11.2", "0.12.0.1"):
        assert requirement.specifier.contains(version)


def pins() -> list[Requirement]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


@pytest.mark.parametrize("python", PYTHONS)
def test_every_direct_requirement_has_one_pin_that_satisfies_it(python: str):
    environment = {**default_environment(), "python_version": python, "python_full_version": f"{python}.0"}
    found: dict[str, list[str]] = {}
    for pin in pins():
        if pin.marker is None or pin.marker.evaluate(environment):
            (only,) = pin.specifier
            assert only.operator == "=="
            found.setdefault(canonicalize_name(pin.name), []).append(only.version)
    assert {name: versions for name, versions in found.items() if len(versions) > 1} == {}
    for requirement in requirements("test", "dev", "docs", "xarray"):
        (version,) = found[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), requirement


def test_a_pin_names_no_place():
    assert not [pin for pin in pins() if pin.url or pin.extras]


# Imports


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def test_the_tool_knows_none_of_its_own_problems():
    for path in (ROOT / "implicit_cli").rglob("*.py"):
        assert not [name for name in imports(path) if name.partition(".")[0] in ("implicit_problems", "problems")], path


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--help"], 0),
        (["--version"], 0),
        (["run", "--help"], 0),
        (["run"], 2),
        (["schema"], 0),
        (["export", "missing.h5", "-o", "x.xyz"], 2),
        (["problems"], 0),
        (["show", "missing.h5"], 2),
        (["compare", "missing.h5", "other.h5"], 2),
        (["verify", "missing.h5"], 2),
        (["verify", "wrong.yaml"], 2),
        (["run", "missing.yaml", "-o", "out.h5"], 2),
        (["run", "wrong.yaml", "-o", "out.h5"], 2),
        (["check", "wrong.yaml"], 2),
        (["check", "right.yaml", "--set", "solver.toll=1"], 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_answers_without_jax(arguments: list[str], code: int, tmp_path: Path):
    """Help, listings, reading a result, and the refusal of a wrong spec are quick, and work where JAX does not."""
    (tmp_path / "wrong.yaml").write_text("problem: ridge\nparameter: {penalty: 1.0}\n")
    (tmp_path / "right.yaml").write_text("problem: kepler\n")
    script = """
import sys
from implicit_cli.cli import main
code = main(sys.argv[1:])
heavy = {"jax", "jaxlib", "jax_md", "lineax", "optimistix", "equinox", "scipy"} & set(sys.modules)
if {"--help", "--version"} & set(sys.argv):
    heavy |= {"numpy", "h5py", "ruamel", "rich", "implicit_cli.api"} & set(sys.modules)
sys.exit(f"imported {sorted(heavy)}" if heavy else code)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == code, done.stderr
    assert "imported" not in done.stderr


# Help


def commands(command, path: tuple[str, ...] = ("implicit",)):
    yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, (*path, name))


COMMANDS = dict(commands(typer.main.get_command(app)))


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_and_every_word_of_it_is_explained(path):
    command = COMMANDS[path]
    assert command.help
    summary = command.get_short_help_str(limit=1000)
    # The list of commands cuts a longer one off.
    assert len(summary) <= 60 or len(path) == 1, summary
    assert summary.endswith(".")
    for parameter in command.params:
        assert getattr(parameter, "help", None), parameter.name


def test_every_command_is_in_the_design():
    assert {path[1] for path in COMMANDS if len(path) == 2} == {
        "run",
        "check",
        "show",
        "jvp",
        "vjp",
        "compare",
        "verify",
        "optimize",
        "analyze",
        "predict",
        "plot",
        "report",
        "replay",
        "convert",
        "problems",
        "schema",
        "sweep",
        "info",
    }


def test_the_licence_is_whole():
    text = (ROOT / "LICENSE").read_text()
    assert re.search(r"Apache License\s+Version 2.0, January 2004", text)
    assert "END OF TERMS AND CONDITIONS" in text
