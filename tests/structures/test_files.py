"""Text files: what ASE writes comes back, and what is wrong is refused in one line before it can do harm."""

# ruff: noqa: E501

import os
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from implicit_cli.errors import EnvironmentProblem, ImplicitError
from implicit_cli.spec import load_spec
from implicit_cli.structures import build, files, headers

ASE = pytest.mark.filterwarnings("ignore:Setting the shape:DeprecationWarning")
CELL = [[5.0, 0.0, 0.0], [1.0, 6.0, 0.0], [-0.5, 0.7, 7.0]]


def atoms(pbc=True):
    from ase import Atoms

    places = np.random.default_rng(2).random((5, 3)) @ np.array(CELL)
    return Atoms("NaClNaOCl", positions=places, cell=CELL, pbc=pbc)


# Round trips


@ASE
@pytest.mark.parametrize(
    ("name", "kind", "options", "precision"),
    [
        ("a.xyz", "extxyz", {}, 1e-8),
        ("a.EXTXYZ", "extxyz", {}, 1e-8),
        ("a.cif", "cif", {}, 1e-6),
        ("POSCAR", "vasp", {}, 1e-12),
        ("CONTCAR.relaxed", "vasp", {"direct": True}, 1e-12),
        ("a.vasp", "vasp", {"ignore_constraints": True, "sort": False}, 1e-12),
        ("a.data", "lammps-data", {"masses": True}, 1e-8),
        ("a.lmp", "lammps-data", {"masses": True, "atom_style": "full"}, 1e-8),
    ],
)
def test_what_ase_writes_comes_back(built, name, kind, options, precision):
    import ase.io

    made = atoms()
    ase.io.write(name, made, format=kind, **options)
    found = built(name)
    assert found.source == name
    assert found.periodic.all()
    # a format may turn the cell and order the particles by species; lengths and angles stay
    np.testing.assert_allclose(found.cell @ found.cell.T, made.cell.array @ made.cell.array.T, atol=50 * precision)
    for symbol in ("Na", "Cl", "O"):
        ours = np.linalg.solve(found.cell.T, found.position[found.species == found.names.index(symbol)].T)
        theirs = made[[a.index for a in made if a.symbol == symbol]].get_scaled_positions(wrap=False).T
        difference = ours[:, :, None] - theirs[:, None, :]
        np.testing.assert_allclose(np.abs(difference - np.round(difference)).max(axis=0).min(axis=0), 0.0, atol=precision)


@ASE
def test_another_format_of_ase_is_read_where_it_is_named(built, refusal):
    import ase.io

    ase.io.write("a.gen", atoms(), format="gen")
    found = built("{file: a.gen, format: gen}")
    assert found.names == ("Na", "Cl", "O")
    np.testing.assert_allclose(found.cell, CELL)
    assert refusal("a.gen").startswith(
        "structure.file: a.gen: found a name that tells no format, allowed with 'format': one of 'cif', "
    )


@ASE
@pytest.mark.parametrize("pbc", [(False, False, False), (True, False, True)])
def test_what_is_not_periodic_stays_so(built, pbc):
    import ase.io

    made = atoms(pbc)
    ase.io.write("a.xyz", made)
    found = built("a.xyz")
    np.testing.assert_array_equal(found.periodic, pbc)
    np.testing.assert_allclose(found.cell, CELL)


TRAJECTORY = "".join(
    f'2\nLattice="4 0 0 0 4 0 0 0 4" Properties=id:I:1:species:S:1:pos:R:3:forces:R:3 step={i}\n0 A 0 0 {i}.5 0 0 0\n'
    f"1 b{i} 1 1 1 0 0 0\n"
    for i in range(3)
)


def test_frames_and_names_that_are_no_elements(built, refusal, folder):
    (folder / "t.xyz").write_text(TRAJECTORY + "\n\n")
    assert built("t.xyz").names == ("A", "b2")
    for frame in range(3):
        found = built(f"{{file: t.xyz, frame: {frame}}}")
        assert found.names == ("A", f"b{frame}")
        np.testing.assert_array_equal(found.position, [[0, 0, frame + 0.5], [1, 1, 1]])
    assert refusal("{file: t.xyz, frame: 3}") == "structure.file: t.xyz:13: found 3 frames, allowed with frame: 3: at least 4"


def test_plain_xyz_has_no_cell(built, folder):
    (folder / "p.xyz").write_text("3\r\na comment: Lattice of salt\r\nA 0 0 0\r\nB 2 0 0\r\nA 0 1 0\r\n")
    found = built("p.xyz")
    assert found.names == ("A", "B")
    assert not found.periodic.any()
    np.testing.assert_array_equal(found.species, [0, 1, 0])


def test_two_dimensions_of_three(built, refusal, folder):
    text = '3\nLattice="4 0 0 1 4 0 0 0 1" Properties=species:S:1:pos:R:3 pbc="T T F"\nA 0 0 0.5\nB 2 0 0.5\nA 0 1 0.5\n'
    (folder / "p.xyz").write_text(text)
    found = built("{file: p.xyz, dimensions: 2}")
    np.testing.assert_array_equal(found.position, [[0, 0], [2, 0], [0, 1]])
    np.testing.assert_array_equal(found.cell, [[4, 0], [1, 4]])
    np.testing.assert_array_equal(found.periodic, [True, True])
    (folder / "p.xyz").write_text(text.replace("A 0 1 0.5", "A 0 1 0.6"))
    assert refusal("{file: p.xyz, dimensions: 2}") == (
        "structure.dimensions: p.xyz: found third coordinates that differ by 0.1, allowed with dimensions: 2: all the same"
    )
    (folder / "p.xyz").write_text(text.replace("4 0 0 1", "4 0 1 1"))
    assert "found a cell that leaves the plane of x and y" in refusal("{file: p.xyz, dimensions: 2}")


# Names of species

LAMMPS = """LAMMPS data file

4 atoms
2 atom types
0.0 4.0 xlo xhi
0.0 5.0 ylo yhi
0.0 6.0 zlo zhi
1.0 0.0 0.5 xy xz yz

Masses

1 1.0
2 1.0

Atoms # atomic

3 1 2 0 0
1 2 0 0 0
2 2 1 0 0
4 1 3 0 0
"""


def test_types_without_elements_are_numbered_and_can_be_named(built, refusal, folder):
    (folder / "m.data").write_text(LAMMPS)
    found = built("m.data")
    assert found.names == ("1", "2")
    np.testing.assert_array_equal(found.species, [1, 1, 0, 0])  # sorted by id
    np.testing.assert_array_equal(found.position[:, 0], [0, 1, 2, 3])
    np.testing.assert_allclose(found.cell, [[4, 0, 0], [1, 5, 0], [0, 0.5, 6]])
    named = built("{file: m.data, species: [large, small, none]}")
    assert named.names == ("large", "small", "none")
    np.testing.assert_array_equal(named.species, found.species)
    assert refusal("{file: m.data, species: [large]}") == (
        "structure.species: found 1 names, allowed: at least 2, as the file numbers species"
    )


def test_the_spec_orders_the_names(built, refusal, folder):
    (folder / "p.xyz").write_text("3\n\nA 0 0 0\nB 2 0 0\nA 0 1 0\n")
    found = built("{file: p.xyz, species: [C, B, A]}")
    assert found.names == ("C", "B", "A")
    np.testing.assert_array_equal(found.species, [2, 1, 2])
    assert refusal("{file: p.xyz, species: [C, A]}") == (
        "structure.species: found no 'B', which is in p.xyz, allowed: all of 'A', 'B'"
    )


# What is wrong

POSCAR = "salt\n1.0\n4 0 0\n0 4 0\n0 0 4\nNa Cl\n1 2\nCartesian\n0 0 0\n1 0 0\n2 0 0\n"
XYZ = '2\nLattice="4 0 0 0 4 0 0 0 4" Properties=species:S:1:pos:R:3\nA 0 0 0\nB 1 0 0\n'
CIF = """data_x
_cell_length_a 4
_cell_length_b 4
_cell_length_c 4
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
Na1 Na 0 0 0 1.0
Cl1 Cl 0.5 0.5 0.5 0.5
"""
FINITE, APART = "allowed: finite numbers", "allowed: particles apart"
BAD = [
    (
        "x.xyz",
        XYZ.replace("2\n", "9000000000\n", 1),
        "x.xyz:1: found a head that declares 9000000000 particles, allowed: at most 2, which is what the 16 bytes behind it can hold",
    ),
    (
        "x.xyz",
        XYZ.replace("2\n", "3\n", 1).replace("B 1 0 0", "B 1.000000000 0 0"),
        "x.xyz:1: found a head that declares 3 particles, and 2 behind it, allowed: as many as declared",
    ),
    (
        "x.xyz",
        XYZ + "5\n\nA 0 0 0\n",
        "x.xyz:5: found a head that declares 5 particles, allowed: at most 1, which is what the 8 bytes behind it can hold",
    ),
    ("x.xyz", XYZ + "A 0 0 0\n", "x.xyz:5: found 'A 0 0 0', allowed: the number of particles, at least 1"),
    ("x.xyz", "0\n\n", "x.xyz:1: found '0', allowed: the number of particles, at least 1"),
    ("x.xyz", "-2\n\n", "x.xyz:1: found '-2', allowed: the number of particles, at least 1"),
    ("x.xyz", "", "x.xyz:1: found an empty file, allowed: the number of particles, a comment, and a line for each particle"),
    ("x.xyz", "\n" + XYZ, "x.xyz:1: found an empty line, allowed: the number of particles"),
    ("x.xyz", XYZ.replace("B 1 0 0", "B 1 0 nan"), f"x.xyz: found the position of particle 1 as [1, 0, nan], {FINITE}"),
    ("x.xyz", XYZ.replace("B 1 0 0", "B inf 0 0"), f"x.xyz: found the position of particle 1 as [inf, 0, 0], {FINITE}"),
    ("x.xyz", XYZ.replace("B 1 0 0", "B one 0 0"), "x.xyz: ASE cannot read it as extxyz: could not convert string to float: 'one'"),
    ("x.xyz", XYZ.replace("B 1 0 0", "B 4 0 0"), f"x.xyz: found the particles 0 and 1 at one place, [0, 0, 0], {APART}"),
    (
        "x.xyz",
        XYZ.replace('0 0 4"', '4 4 0"'),
        "x.xyz: found a cell without a volume, [[4, 0, 0], [0, 4, 0], [4, 4, 0]], allowed: vectors that span the space",
    ),
    ("x.xyz", XYZ.replace('0 0 4"', '0 0 nan"'), f"x.xyz: found vector 2 of the cell as [0, 0, nan], {FINITE}"),
    (
        "x.xyz",
        '1\npbc="T T T" Properties=species:S:1:pos:R:3\nA 0 0 0\n',
        "x.xyz: found a cell without a volume, [[0, 0, 0], [0, 0, 0], [0, 0, 0]], allowed: vectors that span the space",
    ),
    (
        "x.data",
        LAMMPS.replace("4 atoms", "40 atoms"),
        "x.data:3: found a head that declares 40 particles, allowed: at most 16, which is what the 160 bytes behind it can hold",
    ),
    (
        "x.data",
        LAMMPS.replace("4 atoms", "12 atoms"),
        "x.data:3: found a head that declares 12 particles, allowed: at most 4, which is what the 41 bytes behind it can hold",
    ),
    (
        "x.data",
        LAMMPS.replace("4 atoms", ""),
        "x.data:15: found the section 'Atoms' and no line 'N atoms' before it, allowed: their number first",
    ),
    ("x.data", LAMMPS[: LAMMPS.index("Atoms")], "x.data:1: found no section 'Atoms', allowed: a LAMMPS data file with one"),
    (
        "POSCAR",
        POSCAR.replace("1 2", "1 2000000"),
        "POSCAR:7: found a head that declares 2000001 particles, allowed: at most 4, which is what the 28 bytes behind it can hold",
    ),
    (
        "POSCAR",
        POSCAR.replace("Na Cl\n1 2", "1 999"),
        "POSCAR:6: found a head that declares 1000 particles, allowed: at most 4, which is what the 28 bytes behind it can hold",
    ),
    ("POSCAR", POSCAR.replace("1 2", ""), "POSCAR:7: found no number of particles, allowed: one for each species"),
    ("POSCAR", POSCAR.replace("2 0 0", "2 0"), "POSCAR: ASE cannot read it as vasp: "),
    ("POSCAR", "", "POSCAR:6: found no number of particles, allowed: one for each species"),
    ("x.cif", CIF, "x.cif: found sites that are occupied in part, allowed: sites with one particle each"),
    ("x.cif", "", "x.cif: ASE cannot read it as cif: "),
]


@pytest.mark.parametrize(("name", "text", "message"), BAD)
def test_a_wrong_file_is_refused_in_one_line(refusal, folder, name, text, message):
    (folder / name).write_text(text)
    found = refusal(name).removeprefix("structure: ").removeprefix("structure.file: ")
    assert found.startswith(message) if message.endswith(": ") else found == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("none.xyz", "structure.file: none.xyz: no such file; did you mean 'one.xyz'?"),
        ("sub", "structure.file: sub: found a folder, allowed: a file with a structure"),
        ("pipe", "structure.file: pipe: found a device, a pipe or a socket, allowed: a file with a structure"),
        (
            "/dev/zero",
            "structure.file: found '/dev/zero', which is outside of the spec's folder, "
            "allowed: files below it, and below each --allow-path FOLDER",
        ),
        (
            "{file: one.xyz, format: extxzy}",
            "structure.file: one.xyz: found format 'extxzy', allowed: 'cif', 'extxyz', 'h5md', 'lammps-data', 'vasp' or another "
            "text format that ASE reads; did you mean 'extxyz'?",
        ),
        ("{file: one.xyz, format: h5md}", "structure.file: one.xyz: found another kind of file, allowed: HDF5"),
        ("{file: one.xyz, group: all}", "structure.group: found with a text file, allowed: with an H5MD file"),
        ("{file: POSCAR, frame: 0}", "structure.file: POSCAR: found frame: 0, allowed: none with POSCAR, which has one"),
        (
            "{file: one.xyz, format: json}",
            "structure.file: one.xyz: ASE cannot read it as json: Extra data: line 2 column 1 (char 2)",
        ),
    ],
)
def test_a_file_that_is_none_is_refused(refusal, folder, text, message):
    (folder / "one.xyz").write_text(XYZ)
    (folder / "POSCAR").write_text(POSCAR)
    (folder / "sub").mkdir()
    os.mkfifo(folder / "pipe")
    assert refusal(text) == message


@pytest.mark.parametrize("kind", ["traj", "netcdftrajectory", "bundletrajectory", "db"])
def test_binary_formats_are_not_read(refusal, folder, kind):
    (folder / "one.xyz").write_text(XYZ)
    assert f"found format '{kind}', allowed: " in refusal(f"{{file: one.xyz, format: {kind}}}")


def test_ase_opens_no_file_beside(refusal, folder):
    """A POSCAR without names lets ASE look for a POTCAR beside it."""
    (folder / "POSCAR").write_text(POSCAR.replace("Na Cl\n", "").replace("salt", "-"))
    (folder / "POTCAR").write_text("  PAW_PBE Na 08Apr2002\n  PAW_PBE Cl 08Apr2002\n")
    assert refusal("POSCAR").startswith("structure.file: POSCAR: ASE cannot read it as vasp: ")


def test_a_file_that_is_too_large_is_not_opened(refusal, folder, monkeypatch):
    (folder / "one.xyz").write_text(XYZ * 1_000_000)
    monkeypatch.setattr(files, "MAX_BYTES", 2**20)
    assert refusal("one.xyz") == "structure.file: one.xyz: found 73 MiB, allowed: 1 MiB"


def test_more_particles_than_anyone_has_are_refused(refusal, folder, monkeypatch):
    (folder / "one.xyz").write_text(XYZ)
    monkeypatch.setattr(headers, "MAX_PARTICLES", 1)
    assert refusal("one.xyz") == "structure.file: one.xyz:1: found a head that declares 2 particles, allowed: 1"


def test_without_ase_the_cure_is_told(built, folder, monkeypatch):
    (folder / "one.xyz").write_text(XYZ)
    for name in [name for name in sys.modules if name.partition(".")[0] == "ase"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "ase", None)
    with pytest.raises(EnvironmentProblem) as found:
        built("one.xyz")
    assert str(found.value) == (
        "s.yaml:3:12: structure.file: one.xyz: reading this format needs ASE: pip install 'implicit-cli[structures]'"
    )


@given(st.sampled_from([("x.xyz", XYZ), ("x.data", LAMMPS), ("POSCAR", POSCAR), ("x.cif", CIF)]), st.data())
def test_no_mutilation_ends_in_a_traceback(tmp_path_factory, file, data):
    name, text = file
    begin = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(begin, min(len(text), begin + 20)))
    put = data.draw(st.text('0123456789 .-\n#"=aN', max_size=8) | st.binary(max_size=4).map(lambda raw: raw.decode("latin-1")))
    folder = tmp_path_factory.getbasetemp() / "mutilated"
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text[:begin] + put + text[end:], encoding="latin-1")
    (folder / "s.yaml").write_text(f"problem: p\nstructure: {name}\n")
    loaded, lines = load_spec(folder / "s.yaml"), 1
    try:
        found = build(loaded)
    except ImplicitError as error:
        lines = str(error).count("\n") + 1
    else:
        assert np.isfinite(found.position).all()
        assert len(found.position) < 20
        assert found.species.max() < len(found.names)
    assert lines == 1
