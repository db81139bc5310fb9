"""`implicit convert` of particles: from a spec with a structure, through a run, to the files of viewers and back into a spec."""

import h5py
import numpy as np
import pytest

from implicit_cli import api

SPRINGS = '''
import jax.numpy as jnp
from implicit_cli.core import stationary
from implicit_cli.problem import Data, Option, Parameter, Problem, Unknown


class Springs(Problem):
    """Particles on springs: x* = argmin sum |x - (1 + growth) start|^2 / 2 - sum pull[species] x_z."""

    kinds = Option(1, minimum=1)
    growth = Parameter(default=0.0)
    pull = Parameter(shape=("kind",), default=0.0)
    start = Data(shape=("particle", "axis"), unit="A")
    cell = Data(shape=("axis", "axis"), unit="A")
    periodic = Data(shape=("axis",), dtype="int")
    species = Data(shape=("particle",), dtype="int")
    position = Unknown(shape=("particle", "axis"), unit="A")
    solver = "newton"

    @property
    def sizes(self):
        return {"kind": self.kinds}

    def energy(self, x, theta, data):
        apart = x.position - (1 + theta.growth) * data.start
        return jnp.sum(apart**2) / 2 - jnp.sum(theta.pull[data.species] * x.position[:, 2])

    def condition(self):
        return stationary(self.energy)
'''
SPEC = """
problem: ./springs.py:Springs
structure: {file: start.xyz, vacancies: [1], rattle: 0.01}
parameters: {growth: 0.5, pull: [0.0, 9.0]}
"""
START = '3\nLattice="4 0 0 1 5 0 0 0 6" Properties=species:S:1:pos:R:3\nSi 1 1 1\nSi 2 2 2\nC 3 4 5\n'


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a result."""
    folder = tmp_path_factory.mktemp("springs")
    for name, text in (("springs.py", SPRINGS), ("s.yaml", SPEC), ("start.xyz", START)):
        (folder / name).write_text(text)
    api.run(str(folder / "s.yaml"), folder / "r.h5", allow_plugin=True)
    return folder


@pytest.fixture
def there(folder, monkeypatch):
    monkeypatch.chdir(folder)


def test_a_result_keeps_its_structure(folder, there):
    with h5py.File("r.h5") as file:
        assert file["kind_2"].asstr()[()].tolist() == ["Si", "C"]
        start = file["inputs/start"][()]
        assert np.abs(start - [[1, 1, 1], [3, 4, 5]]).max() < 0.06
        assert np.abs(start - [[1, 1, 1], [3, 4, 5]]).min() > 0
        np.testing.assert_array_equal(file["inputs/species"][()], [0, 1])
        np.testing.assert_array_equal(file["inputs/cell"][()], [[4, 0, 0], [1, 5, 0], [0, 0, 6]])
        np.testing.assert_allclose(file["solution/position"][0], 1.5 * start + [[0, 0, 0], [0, 0, 9]])


def test_extxyz(implicit, there):
    done = implicit("convert", "r.h5", "-o", "out.extxyz")
    assert (done.code, done.out, done.err) == (0, "", "implicit: wrote out.extxyz: 2 particles, 3 vectors for each\n")
    with open("out.extxyz") as file:
        count, head, *rows = file.read().splitlines()
    assert count == "2"
    assert (
        "Properties=species:S:1:pos:R:3:d_position_d_growth:R:3:d_position_d_pull_Si:R:3:d_position_d_pull_C:R:3:undetermined:I:1 "
    ) in head
    assert 'pbc="T T T"' in head
    assert [row.split()[0] for row in rows] == ["Si", "C"]
    with h5py.File("r.h5") as file:
        start, position = file["inputs/start"][()], file["solution/position"][0]
    values = np.array([row.split()[1:] for row in rows], float)
    np.testing.assert_array_equal(values[:, :3], position)
    np.testing.assert_allclose(values[:, 3:6], start, rtol=1e-12)
    np.testing.assert_allclose(values[:, 6:12], [[0, 0, 1, 0, 0, 0], [0, 0, 0, 0, 0, 1]], atol=1e-12)
    assert not values[:, 12].any()


def test_h5md_wrapped_comes_in_again(implicit, there, folder):
    assert implicit("convert", "r.h5", "-o", "out.h5md", "--wrap", "--quiet").err == ""
    (folder / "again.yaml").write_text(SPEC.replace("{file: start.xyz, vacancies: [1], rattle: 0.01}", "out.h5md"))
    assert implicit("run", "again.yaml", "-o", "again.h5", "--allow-plugin", "-q").code == 0
    with h5py.File("r.h5") as file, h5py.File("again.h5") as again:
        step = (again["inputs/start"][()] - file["solution/position"][0]) @ np.linalg.inv(file["inputs/cell"][()])
        np.testing.assert_allclose(step, np.round(step), atol=1e-12)
        assert step[1].round().astype(int).any()
        assert again["kind_2"].asstr()[()].tolist() == ["Si", "C"]


def test_products_at_the_stored_solution_need_no_file(implicit, there, folder):
    moved = (folder / "start.xyz").rename(folder / "gone.xyz")
    try:
        done = implicit("jvp", "r.h5", "-d", "lift:pull=[0, 2]", "-o", "lift.h5", "--allow-plugin", "-q")
        assert (done.code, done.err) == (0, "")
    finally:
        moved.rename(folder / "start.xyz")
    assert implicit("convert", "lift.h5", "-o", "lift.xyz").err == "implicit: wrote lift.xyz: 2 particles, 1 vector for each\n"
    with open("lift.xyz") as file:
        _, head, *rows = file.read().splitlines()
    assert "pos:R:3:d_position_along_lift:R:3:undetermined" in head
    np.testing.assert_allclose([[float(one) for one in row.split()[4:7]] for row in rows], [[0, 0, 0], [0, 0, 2]], atol=1e-12)
    assert [row.split()[0] for row in rows] == ["Si", "C"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["r.h5", "-o", "out.pdb"],
            "out.pdb: found a name that tells no format, allowed: one that ends in '.csv', '.extxyz', '.h5', ",
        ),
        (["r.h", "-o", "out.xyz"], "r.h: no such file; did you mean 'r.h5'?"),
        (["r.h5", "-o", "r.h5"], "r.h5: found an input of this run, allowed: another name for the result"),
        (["s.yaml", "-o", "out.xyz"], "s.yaml: not an HDF5 file"),
        (["r.h5", "-o", "out.xyz", "--case", "7"], "r.h5: no case '7', allowed: '0'"),
        (["r.h5"], "Missing option '-o' / '--output'"),
    ],
)
def test_refusals(implicit, there, arguments, message):
    done = implicit("convert", *arguments)
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert done.err.count("\n") <= 2


def test_an_output_that_is_no_input_of_a_run(implicit, there):
    """The file that a structure comes from is not overwritten."""
    done = implicit("run", "s.yaml", "-o", "start.xyz", "--allow-plugin")
    assert done.code == 2
    assert "start.xyz: found an input of this run, allowed: another name for the result" in done.err
