"""Writes what the docs repeat from the program: help texts in cli.md, tables of keys in spec.md, and spec.schema.json.

    python docs/generate.py            make every generated part anew
    python docs/generate.py --check    change nothing; exit code 1 and one line for each file that is stale

A generated part lies between `<!-- generated: NAME -->` and `<!-- end of generated part -->`.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PART = re.compile(r"(<!-- generated: (?P<name>[^\n]*?) -->\n).*?(<!-- end of generated part -->\n)", re.DOTALL)

EXAMPLES = {
    "problem": "problem: packing",
    "options": "options: {particle: 64, box: follows}",
    "formulas": "formulas: {parameters: {a: []}, unknowns: {x: []}, minimise: (x - a)**2 + exp(x)}",
    "formulas.unknowns": "formulas: {unknowns: {x: [n], y: {initial: 1.0, unit: m}}, minimise: y**2 + sum(x**2)}",
    "formulas.parameters": "formulas: {parameters: {p: {bounds: [0, null]}}, unknowns: {x: []}, equations: {x: x**3 - p}}",
    "formulas.data": "formulas: {data: {A: [row, n], i: {shape: [m], dtype: int}}, unknowns: {x: [n]}, minimise: 'sum(A[i] @ x)'}",
    "formulas.minimise": "formulas: {parameters: {k: []}, unknowns: {x: [n]}, minimise: k * sum(x**2) - sum(x)}",
    "formulas.subject_to": "formulas: {unknowns: {x: [n]}, minimise: x @ x, subject_to: {total: sum(x) == 1}}",
    "formulas.equations": "formulas: {parameters: {e: [], M: []}, unknowns: {E: []}, equations: {E: E - e * sin(E) == M}}",
    "formulas.fixed_point": "formulas: {parameters: {a: []}, unknowns: {x: []}, fixed_point: {x: cos(a * x)}}",
    "formulas.outputs": "formulas: {unknowns: {x: [n]}, minimise: x @ x, outputs: {s: sum(x), y: {formula: 2 * x, shape: [n]}}}",
    "seed": "seed: 7",
    "structure": "structure: {lattice: fcc, a: 3.615, repeat: [4, 4, 4], species: [Cu]}",
    "structure.file": "structure: {file: silicon.cif}",
    "structure.format": "structure: {file: run.dat, format: lammps-data}",
    "structure.frame": "structure: {file: run.extxyz, frame: 0}",
    "structure.group": "structure: {file: run.h5md, group: atoms}",
    "structure.dimensions": "structure: {file: discs.extxyz, dimensions: 2}",
    "structure.lattice": "structure: {lattice: diamond, a: 5.431}",
    "structure.a": "structure: {lattice: bcc, a: 2.87}",
    "structure.c": "structure: {lattice: hcp, a: 2.95, c: 4.68}",
    "structure.random": "structure: {random: {particles: 1024, dimensions: 2, phi: 0.9, diameters: [1.0, 1.4]}}",
    "structure.repeat": "structure: {file: silicon.cif, repeat: [3, 3, 3]}",
    "structure.species": "structure: {file: melt.data, species: [Na, Cl]}",
    "structure.interstitials": "structure: {lattice: fcc, a: 4.05, interstitials: [[0.5, 0.5, 0.5]]}",
    "structure.substitute": "structure: {file: silicon.cif, substitute: {C: [3, 17]}}",
    "structure.vacancies": "structure: {file: silicon.cif, repeat: [3, 3, 3], vacancies: [0]}",
    "structure.rattle": "structure: {file: silicon.cif, rattle: 0.01}",
    "structure.random.particles": "structure: {random: {particles: 1024, phi: 0.6}}",
    "structure.random.dimensions": "structure: {random: {particles: 1024, phi: 0.9, dimensions: 2}}",
    "structure.random.phi": "structure: {random: {particles: 1024, phi: 0.6}}",
    "structure.random.diameters": "structure: {random: {particles: 1024, phi: 0.6, diameters: [1.0, 1.4]}}",
    "structure.random.shares": "structure: {random: {particles: 100, phi: 0.6, diameters: [1.0, 1.4], shares: [0.7, 0.3]}}",
    "data": "data: {X: diabetes.h5:/X, y: [1, 2, 3]}",
    "parameters": "parameters: {diameter: 0.6, phi: 0.98}",
    "initial": "initial: {position: start.h5:/position}",
    "labels": "labels: {orbit: [Earth, Mercury, Halley]}",
    "transforms": "transforms: {penalty: log}",
    "precision": "precision: float32",
    "refine": "precision: float32\nrefine: true",
    "solver": "solver: {name: lbfgs, tol: 1e-6}",
    "solver.name": "solver: newton",
    "solver.tol": "solver: {tol: 1e-10}",
    "solver.max_steps": "solver: {max_steps: 500}",
    "solver.polish": "solver: {polish: false}",
    "sensitivity": "sensitivity: {of: [energy], wrt: [diameter]}",
    "sensitivity.of": "sensitivity: {of: [position, energy]}",
    "sensitivity.wrt": "sensitivity: {wrt: [diameter]}",
    "sensitivity.products": "sensitivity: {products: [jacobian, {jvp: {growth: {diameter: 1.0}}}]}",
    "sensitivity.method": "sensitivity: {method: finite_difference}",
    "sensitivity.one_sided": "sensitivity: {one_sided: true}",
    "sensitivity.corrected": "sensitivity: {corrected: true}",
    "sensitivity.memory": "sensitivity: {memory: 512 MiB}",
    "sensitivity.mode": "sensitivity: {mode: adjoint}",
    "sensitivity.linear_solver": "sensitivity: {linear_solver: cg}",
    "sensitivity.accuracy": "sensitivity: {accuracy: 1e-8}",
    "sensitivity.linear_solver.name": "sensitivity: {linear_solver: {name: gmres}}",
    "sensitivity.linear_solver.tol": "sensitivity: {linear_solver: {name: cg, tol: 1e-12}}",
    "sensitivity.linear_solver.max_steps": "sensitivity: {linear_solver: {name: cg, max_steps: 5000}}",
    "sensitivity.linear_solver.escalate": "sensitivity: {linear_solver: {name: cg, escalate: false}}",
    "sensitivity.linear_solver.preconditioner": "sensitivity: {linear_solver: {name: cg, preconditioner: block_jacobi, block: 2}}",
    "sensitivity.linear_solver.block": "sensitivity: {linear_solver: {name: cg, preconditioner: block_jacobi, block: 2}}",
    "sensitivity.linear_solver.ridge": "sensitivity: {linear_solver: {ridge: 1e-6}}",
    "outer": "outer: {objective: validation_loss, bounds: {penalty: [1e-4, 1e2]}}",
    "outer.objective": "outer: {objective: {position: 'wanted.h5:/position'}}",
    "outer.weights": "outer: {objective: {E: 1.5, radius: 0.9}, weights: {radius: 10.0}}",
    "outer.sense": "outer: {objective: stiffness, sense: maximise}",
    "outer.parameters": "outer: {objective: validation_loss, parameters: [penalty]}",
    "outer.bounds": "outer: {objective: validation_loss, bounds: {penalty: [1e-4, null]}}",
    "outer.method": "outer: {objective: validation_loss, method: adam}",
    "outer.max_steps": "outer: {objective: validation_loss, max_steps: 500}",
    "outer.tol": "outer: {objective: validation_loss, tol: 1e-4}",
    "outer.step": "outer: {objective: validation_loss, method: adam, step: 0.01}",
    "outer.decay": "outer: {objective: validation_loss, method: gradient_descent, step: 0.5, decay: 0.01}",
    "outer.momentum": "outer: {objective: validation_loss, method: gradient_descent, momentum: 0.9}",
    "outer.validation": "outer: {objective: train_loss, validation: validation_loss}",
    "outer.patience": "outer: {objective: train_loss, validation: validation_loss, patience: 10}",
    "sweep": "sweep: {over: {penalty: {geomspace: [1e-4, 1e2, 25]}}}",
    "sweep.over": "sweep: {over: {'spring[0, 1]': [1.0, 2.0], seed: {integers: [0, 9]}}}",
    "sweep.design": "sweep: {over: {a: [1, 2, 3], b: [4, 5, 6]}, design: zip}",
    "sweep.samples": "sweep: {over: {a: {uniform: [0.0, 1.0]}}, design: sobol, samples: 1024}",
    "sweep.second_order": "sweep: {over: {a: {uniform: [0.0, 1.0]}}, design: saltelli, samples: 256, second_order: true}",
    "sweep.levels": "sweep: {over: {a: {uniform: [0.0, 1.0]}}, design: morris, samples: 20, levels: 6}",
    "sweep.seed": "sweep: {over: {a: {normal: [1.0, 0.1]}}, design: random, samples: 500, seed: 3}",
    "sweep.covariance": "sweep: {over: {a: {normal: [1.0]}, b: {normal: [2.0]}}, design: random, samples: 500, "
    "covariance: [[0.04, 0.01], [0.01, 0.09]]}",
    "sweep.max_cases": "sweep: {over: {seed: {integers: [1, 4000000]}}, max_cases: 5000000}",
    "sweep.start": "sweep: {over: {penalty: {logspace: [-4, 2, 700]}}, start: neighbour}",
    "sweep.continue": "sweep: {over: {load: {linspace: [0, 2, 41]}}, continue: arc}",
    "sweep.timeout": "sweep: {over: {diameter: {linspace: [0.5, 0.7, 50]}}, timeout: 60}",
    "sweep.on_failure": "sweep: {over: {penalty: {logspace: [-4, 2, 7]}}, on_failure: retry}",
    "sweep.fallback": "sweep: {over: {phi: {linspace: [0.8, 0.95, 16]}}, fallback: {pressure: 0.0}}",
    "linspace": "sweep: {over: {phi: {linspace: [0.85, 0.95, 11]}}}",
    "geomspace": "sweep: {over: {penalty: {geomspace: [1e-4, 1e2, 7]}}}",
    "logspace": "sweep: {over: {penalty: {logspace: [-4, 2, 7]}}}",
    "integers": "sweep: {over: {seed: {integers: [0, 99]}}}",
    "centred": "sweep: {over: {spring: {centred: [[0.1, 0.1, 0.5], 2]}}}",
    "uniform": "sweep: {over: {phi: {uniform: [0.85, 0.95]}}, design: random, samples: 100}",
    "loguniform": "sweep: {over: {penalty: {loguniform: [1e-4, 1e2]}}, design: latin_hypercube, samples: 100}",
    "normal": "sweep: {over: {spring: {normal: [[1.0, 2.0, 3.0], 0.1]}}, design: halton, samples: 100}",
    "truncated_normal": "sweep: {over: {spring: {truncated_normal: [1.0, 0.5, 0.0, 3.0]}}, design: fast, samples: 100}",
    "value": "parameters: {diameter: {value: 0.6, unit: D}}",
    "unit": "data: {t: {value: 'decay.h5:/t', unit: s}}",
    "jvp": "sensitivity: {products: [{jvp: {growth: {diameter: 1.0}}}]}",
    "vjp": "sensitivity: {products: [{vjp: {first: {x: [1, 0, 0]}}}]}",
    "hessian": "sensitivity: {products: [{hessian: {growth: {diameter: 1.0}}}]}",
}
"""One line of a spec for each key; every key must have one."""

SECTIONS = {
    "": "",
    "formulas": "FormulasSpec",
    "structure": "StructureSpec",
    "structure.random": "RandomSpec",
    "solver": "SolverSpec",
    "sensitivity": "SensitivitySpec",
    "sensitivity.linear_solver": "LinearSpec",
    "outer": "OuterSpec",
    "sweep": "SweepSpec",
}
"""Where each mapping of the spec stands, and the definition in the JSON Schema that describes it."""


def main(arguments: list[str]) -> int:
    """Fill in or check; the exit code."""
    checking = arguments == ["--check"]
    if arguments and not checking:
        sys.stderr.write("usage: python docs/generate.py [--check]\n")
        return 2
    pages = {page: filled(page.read_text(encoding="utf-8")) for page in sorted(HERE.rglob("*.md"))}
    stale = []
    for page, new in {**pages, HERE / "spec.schema.json": schema_text()}.items():
        old = page.read_text(encoding="utf-8") if page.exists() else None
        if new != old and checking:
            stale.append(page.name)
        elif new != old:
            page.write_text(new, encoding="utf-8")
    for name in stale:
        sys.stderr.write(f"docs/{name} is stale: run 'python docs/generate.py'\n")
    return 1 if stale else 0


def schema_text() -> str:
    """What `implicit schema` prints."""
    return printed(["schema"])


def filled(text: str) -> str:
    """A page with its generated parts as they are now."""
    return PART.sub(lambda part: f"{part[1]}\n{generate(part['name'])}\n{part[3]}", text)


def generate(name: str) -> str:
    """`help COMMAND` or `keys SECTION`, as Markdown."""
    kind, _, rest = name.partition(" ")
    match kind:
        case "help":
            return f"```text\n{help_text(rest.split())}```\n"
        case "keys":
            return keys(rest)
        case _:
            raise ValueError(f"no generated part '{name}'")


def help_text(command: list[str]) -> str:
    """What `implicit COMMAND --help` prints on 80 columns."""
    os.environ["COLUMNS"] = "80"
    return "".join(f"{line.rstrip()}\n" for line in printed([*command, "--help"]).strip().splitlines())


def printed(arguments: list[str]) -> str:
    """Standard output of a command."""
    from implicit_cli.cli import main as implicit

    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = implicit(arguments)
    if code:
        raise RuntimeError(f"implicit {' '.join(arguments)} ended with {code}")
    return out.getvalue()


def keys(section: str) -> str:
    """Table of the keys of one mapping: type, default, meaning, example."""
    rows = ["| key | type | default | meaning | example |", "|---|---|---|---|---|"]
    for key, entry, needed in properties(section):
        default = "needed" if needed else default_of(entry)
        example = EXAMPLES[key].replace("\n", "`<br>`")
        cells = (f"`{key}`", kind_of(entry), default, entry["description"], f"`{example}`")
        rows.append("| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |")
    return "\n".join(rows) + "\n"


def default_of(entry: dict[str, Any]) -> str:
    """A key's default; empty where its meaning says what is taken."""
    if entry.get("default") is not None:
        return f"`{shown(entry['default'])}`"
    return "" if "anyOf" in entry else "`{}`"


def properties(section: str) -> list[tuple[str, dict[str, Any], bool]]:
    """Full key, schema and whether it is needed, for each key of a section.

    `values`, `products` and `axes` are the mappings that stand inside values.
    """
    from implicit_cli.spec import json_schema

    schema = json_schema()
    defs = schema["$defs"]
    if section in ("values", "products"):
        models = [defs["Measured"]] if section == "values" else [defs["Jvp"], defs["Vjp"], defs["Hessian"]]
        return [
            (key, {**entry, "description": meaning(model, entry)}, True)
            for model in models
            for key, entry in model["properties"].items()
        ]
    if section == "axes":
        kinds = [kind for kind in defs["Axis"]["anyOf"] if "properties" in kind]
        return [
            (key, {**entry, "description": kind["description"]}, True)
            for kind in kinds
            for key, entry in kind["properties"].items()
        ]
    model = defs[SECTIONS[section]] if section else schema
    # a mapping for which a bare name may stand is the last of its alternatives
    model = model["anyOf"][-1] if "anyOf" in model else model
    needed = model.get("required", [])
    dot = f"{section}." if section else ""
    return [(f"{dot}{key}", entry, key in needed) for key, entry in model["properties"].items()]


def meaning(model: dict[str, Any], entry: dict[str, Any]) -> str:
    """A product's own description, else its only key's."""
    return str(model["description"] if model.get("title") in ("Jvp", "Vjp", "Hessian") else entry["description"])


def kind_of(entry: dict[str, Any]) -> str:
    """The type that a key's schema allows, in words."""
    match entry:
        case {"$ref": str(ref)}:
            return {
                "Value": "value",
                "Numbers": "nested list of numbers",
                "Jvp": "`{jvp: ...}`",
                "Vjp": "`{vjp: ...}`",
                "Hessian": "`{hessian: ...}`",
                "StructureSpec": "mapping, or a file name alone",
                "RandomSpec": "mapping",
                "FormulasSpec": "mapping",
                **dict.fromkeys(("DataQuantity", "ParameterQuantity", "UnknownQuantity", "WrittenQuantity"), "mapping"),
                "OuterSpec": "mapping",
                "SweepSpec": "mapping",
                "Axis": "axis",
            }.get(ref.rpartition("/")[2], "mapping, or its `name` alone" if "Sensitivity" not in ref else "mapping")
        case {"enum": list(names)}:
            return " | ".join(f"`{name}`" for name in names)
        case {"const": name}:
            return f"`{name}`"
        case {"anyOf": list(options)}:
            return " or ".join(dict.fromkeys(kind_of(option) for option in options if option.get("type") != "null"))
        case {"type": "object", "additionalProperties": {"additionalProperties": _}}:
            return "mapping of names to mappings of quantities to values"
        case {"type": "object", "additionalProperties": dict(inner)}:
            return f"mapping of names to {kind_of(inner)}"
        case {"type": "array", "items": dict(inner)}:
            return f"list of {kind_of(inner)}"
        case {"type": "string", "pattern": _}:
            return "`file.h5:/path`"
        case {"type": str(kind)}:
            return {"string": "text", "boolean": "true or false", "array": "nested list"}.get(kind, kind) + limits(entry)
        case _:
            raise ValueError(f"no words for {entry}")


def limits(entry: dict[str, Any]) -> str:
    """`, above 0, at most 1`, or nothing."""
    words = {"exclusiveMinimum": "above", "minimum": "at least", "exclusiveMaximum": "below", "maximum": "at most"}
    return "".join(f", {word} {entry[key]}" for key, word in words.items() if key in entry)


def shown(value: Any) -> str:
    """A default as YAML writes it."""
    match value:
        case bool():
            return str(value).lower()
        case list():
            return f"[{', '.join(map(shown, value))}]"
        case float():
            return f"{value:g}".replace("e-0", "e-")
        case _:
            return str(value)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
