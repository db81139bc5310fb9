"""Structures and plug-ins that are wrong: the spec s.yaml, and the files beside it."""

from __future__ import annotations

from typing import NamedTuple


class Wrong(NamedTuple):
    """A spec with the files beside it."""

    spec: str
    files: dict[str, str | bytes]


def particles(structure: str, more: str = "", **files: str) -> Wrong:
    """A Lennard-Jones spec with this structure."""
    return Wrong(
        f"problem: lennard_jones\nstructure: {structure}\n{more}", {name.replace("_", "."): text for name, text in files.items()}
    )


HEAD = 'Lattice="9 0 0 0 9 0 0 0 9" Properties=species:S:1:pos:R:3 pbc="T T T"'
PAIR = f"2\n{HEAD}\nAr 0 0 0\nAr 4 0 0\n"
XYZ = "{file: a.xyz}"
STRUCTURES: dict[str, Wrong] = {
    "no structure file": particles("{file: a.xzy}", a_xyz=PAIR),
    "a head that declares more particles than there are": particles(XYZ, a_xyz=PAIR.replace("2\n", "5\n", 1)),
    "a head that declares 10^12 particles": particles(XYZ, a_xyz=PAIR.replace("2\n", f"{10**12}\n", 1)),
    "a head that declares no number": particles(XYZ, a_xyz=PAIR.replace("2\n", "two\n", 1)),
    "a position that is NaN": particles(XYZ, a_xyz=PAIR.replace("4 0 0", "nan 0 0")),
    "a position that is text": particles(XYZ, a_xyz=PAIR.replace("4 0 0", "x 0 0")),
    "a line that is short": particles(XYZ, a_xyz=PAIR.replace("4 0 0", "4 0")),
    "a cell without a volume": particles(XYZ, a_xyz=PAIR.replace("0 9 0 0 0 9", "9 0 0 0 0 9")),
    "particles at one place": particles(XYZ, a_xyz=PAIR.replace("4 0 0", "0 0 0")),
    "particles at one place, through the boundary": particles(XYZ, a_xyz=PAIR.replace("4 0 0", "9 0 0")),
    "an empty structure file": particles(XYZ, a_xyz=""),
    "binary noise for a structure": particles("{file: a.xyz}", a_xyz="\x01\x02\x03" * 50),
    "a format that is none": particles("{file: a.xyz, format: xzy}", a_xyz=PAIR),
    "a frame beyond the last": particles("{file: a.xyz, frame: 3}", a_xyz=PAIR),
    "a lattice that is none": particles("{lattice: fbc, a: 4.0}"),
    "a lattice without its constant": particles("{lattice: fcc}"),
    "a lattice of negative size": particles("{lattice: fcc, a: -4.0}"),
    "a crystal of 10^15 particles": particles("{lattice: fcc, a: 4.0, repeat: [100000, 100000, 100000]}"),
    "half a repetition": particles("{lattice: fcc, a: 4.0, repeat: [1.5, 1, 1]}"),
    "a vacancy beyond the crystal": particles("{lattice: fcc, a: 4.0, vacancies: [99]}"),
    "all particles taken out": particles("{lattice: fcc, a: 4.0, vacancies: [0, 1, 2, 3]}"),
    "a species that is not there": particles("{lattice: fcc, a: 4.0, species: [Ar], substitute: {Kr: [9]}}"),
    "a random packing of no particles": particles("{random: {particles: 0, phi: 0.5}}"),
    "a structure for a problem that takes none": Wrong("problem: kepler\nstructure: {lattice: fcc, a: 4.0}\n", {}),
}

PLUGIN = """\
import jax.numpy as jnp
from implicit_cli.core import fixed_point, root, stationary
from implicit_cli.problem import Data, Option, Output, Parameter, Problem, Unknown


class P(Problem):
    '''A plug-in.'''

    p = Parameter(default=2.0)
    x = Unknown(shape=(2,))

"""


def plugin(body: str, more: str = "", head: str = PLUGIN) -> Wrong:
    """A spec whose problem is p.py, with these methods of its class."""
    text = head + "".join(f"    {line}\n" if line else "\n" for line in body.splitlines())
    return Wrong(f"problem: ./p.py:P\n{more}", {"p.py": text})


F = "def condition(self):\n    return root(lambda x, theta, data: x._replace(x={0}))\n"
PLUGINS: dict[str, Wrong] = {
    "a plug-in that is not there": Wrong("problem: ./q.py:P\n", {"p.py": PLUGIN}),
    "a class that is not there": Wrong("problem: ./p.py:Q\n", {"p.py": PLUGIN}),
    "a class that is no problem": Wrong("problem: ./p.py:P\n", {"p.py": "class P:\n    pass\n"}),
    "a plug-in that is no Python": Wrong("problem: ./p.py:P\n", {"p.py": "class P(:\n"}),
    "a plug-in that raises on import": Wrong("problem: ./p.py:P\n", {"p.py": "raise RuntimeError('not today')\n"}),
    "a plug-in that imports what is missing": Wrong("problem: ./p.py:P\n", {"p.py": "import no_such_package\n"}),
    "a plug-in that ends the process": Wrong("problem: ./p.py:P\n", {"p.py": "import sys\nsys.exit(0)\n"}),
    "a problem without a condition": plugin(""),
    "a condition that is none": plugin("def condition(self):\n    return 3\n"),
    "F of another shape": plugin(F.format("jnp.ones(3) * theta.p")),
    "F that is complex": plugin(F.format("x.x * (1 + 1j)")),
    "F that raises": plugin(
        "def F(self, x, theta, data):\n    raise ValueError('no')\n" + "def condition(self):\n    return root(self.F)\n"
    ),
    "F that misspells a parameter": plugin(F.format("x.x - theta.q")),
    "F that asks a value of a traced array": plugin(
        "def F(self, x, theta, data):\n    if x.x[0] > 0:\n        return x\n    return x\n"
        "def condition(self):\n    return root(self.F)\n"
    ),
    "F that is NaN": plugin(F.format("x.x * jnp.nan")),
    "F that never vanishes": plugin(F.format("x.x ** 2 + 1")),
    "F that is another one in each call": plugin(
        "import itertools\nturns = itertools.count()\n"
        "def F(self, x, theta, data):\n    return x._replace(x=x.x - theta.p - next(P.turns))\n"
        "def condition(self):\n    return root(self.F)\n"
    ),
    "an energy that is no number": plugin("def condition(self):\n    return stationary(lambda x, theta, data: x.x * theta.p)\n"),
    "an energy without a minimum": plugin(
        "def condition(self):\n    return stationary(lambda x, theta, data: -jnp.sum(x.x**2) - x.x[0])\n"
    ),
    "an output of another shape": plugin(
        F.format("x.x - theta.p") + "y = Output()\ndef outputs(self, x, theta, data):\n    return {'y': x.x}\n"
    ),
    "an output that is left out": plugin(
        F.format("x.x - theta.p") + "y = Output()\ndef outputs(self, x, theta, data):\n    return {}\n"
    ),
    "a parameter beyond its bounds": plugin(
        F.format("x.x - theta.p") + "p = Parameter(bounds=(0.0, 1.0))\n", "parameters: {p: 2.0}\n"
    ),
    "a parameter that is missing": plugin(F.format("x.x - theta.q") + "q = Parameter()\n"),
    "a parameter that is not declared": plugin(F.format("x.x - theta.p"), "parameters: {pp: 1.0}\n"),
    "an option that is not declared": plugin(F.format("x.x - theta.p"), "options: {size: 3}\n"),
    "an initial guess of another shape": plugin(F.format("x.x - theta.p"), "initial: {x: [1.0, 2.0, 3.0]}\n"),
    "a solver that does not go with the condition": plugin(F.format("x.x - theta.p"), "solver: fire\n"),
    "a derivative of what is not there": plugin(F.format("x.x - theta.p"), "sensitivity: {of: [y]}\n"),
}
