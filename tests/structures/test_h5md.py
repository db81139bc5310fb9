"""H5MD files, made by hand as its specification says (version 1.1), and all that can be wrong with them."""

# ruff: noqa: E501

import h5py
import numpy as np
import pytest

PLACES = np.random.default_rng(5).random((3, 4, 3)) * 3
EDGES = np.array([3.0, 4.0, 5.0])


@pytest.fixture
def made(folder):
    """Write a file by a function of its group of particles."""

    def made(write, name="all"):
        with h5py.File(folder / "m.h5", "a") as file:
            group = file.require_group(f"particles/{name}")
            box = group.create_group("box")
            box.attrs["dimension"] = 3
            box.attrs["boundary"] = ["periodic"] * 3
            write(group)
        return "m.h5"

    return made


def moving(group, name, values):
    element = group.create_group(name)
    element["value"] = values
    element["step"] = np.arange(len(values))


def whole(group):
    moving(group, "position", PLACES)
    moving(group["box"], "edges", EDGES * np.array([[1.0], [1.1], [1.2]]))


def fixed(group):
    group["position"] = PLACES[0].astype("f4")
    group["box/edges"] = EDGES


@pytest.mark.parametrize(("frame", "row"), [("", 2), (", frame: 0", 0), (", frame: 1", 1)])
def test_a_frame_is_taken_with_its_box(built, made, frame, row):
    found = built(f"{{file: {made(whole)}{frame}}}")
    np.testing.assert_array_equal(found.position, PLACES[row])
    np.testing.assert_allclose(found.cell, np.diag(EDGES * (1 + row / 10)))
    assert found.periodic.all()
    assert (found.names, found.source) == (("A",), "m.h5")


def test_what_stands_still_is_read(built, made):
    found = built(made(fixed))
    np.testing.assert_array_equal(found.position, PLACES[0].astype("f4"))
    assert found.position.dtype == np.float64
    np.testing.assert_array_equal(found.cell, np.diag(EDGES))


def test_a_triclinic_box_has_its_vectors_as_rows(built, made):
    cell = np.array([[3.0, 0.0, 0.0], [1.0, 4.0, 0.0], [0.5, 0.2, 5.0]])

    def write(group):
        moving(group, "position", PLACES)
        moving(group["box"], "edges", np.stack([cell, cell, 2 * cell]))
        group["box"].attrs["boundary"] = ["periodic", "none", "periodic"]

    found = built(made(write))
    np.testing.assert_array_equal(found.cell, 2 * cell)
    np.testing.assert_array_equal(found.periodic, [True, False, True])


def test_a_file_without_a_box_is_free(built, folder):
    with h5py.File(folder / "m.h5", "w") as file:
        file["particles/all/position"] = PLACES[0, :, :2]
    found = built("m.h5")
    assert found.dimensions == 2
    assert not found.periodic.any()
    assert (np.diag(found.cell) > np.ptp(PLACES[0, :, :2], axis=0)).all()


def test_species_are_named_by_an_enumeration(built, made):
    kinds = h5py.enum_dtype({"Si": 14, "C": 6, "Ge": 32}, basetype="u1")

    def write(group):
        fixed(group)
        group.create_dataset("species", data=np.array([14, 6, 6, 14]), dtype=kinds)

    found = built(made(write))
    assert found.names == ("C", "Si", "Ge")
    np.testing.assert_array_equal(found.species, [1, 0, 0, 1])


def test_species_without_names_are_numbered(built, made):
    def write(group):
        fixed(group)
        moving(group, "species", np.array([[1, 1, 1, 1], [1, 1, 1, 1], [7, 3, 7, 7]]))

    assert built(made(write)).names == ("3", "7")
    found = built("{file: m.h5, species: [B, A]}")
    assert found.names == ("B", "A")
    np.testing.assert_array_equal(found.species, [1, 0, 1, 1])


def test_one_of_several_groups_is_named(built, made, refusal):
    made(fixed, "solute")
    made(whole, "solvent")
    assert (
        refusal("m.h5") == "structure.file: m.h5:/particles: found the groups 'solute', 'solvent', allowed: one of them as 'group'"
    )
    np.testing.assert_array_equal(built("{file: m.h5, group: solvent}").position, PLACES[2])
    assert refusal("{file: m.h5, group: solvant}") == (
        "structure.file: m.h5:/particles: found no group 'solvant', allowed: 'solute', 'solvent'; did you mean 'solvent'?"
    )


def put(path, value):
    def write(group):
        fixed(group)
        if path in group:
            del group[path]
        if value is not None:
            group[path] = value

    return write


def boundary(words):
    def write(group):
        fixed(group)
        group["box"].attrs["boundary"] = words

    return write


NAN = np.where(np.arange(12).reshape(4, 3) == 4, np.nan, PLACES[0])


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (put("position", None), "structure.file: m.h5 has no dataset '/particles/all/position', it holds '/particles/all/box/edges'; did you mean '/particles/all/box/edges'?"),
        (put("position", PLACES), "structure.file: m.h5:/particles/all/position: found the shape (3, 4, 3), allowed: 2 axes (particles, axes)"),
        (put("position", PLACES[0, :, :1]), "structure.file: m.h5:/particles/all/position: found 1 dimensions, allowed: 2 or 3"),
        (put("position", NAN), "structure: m.h5: found the position of particle 1 as "),
        (put("position", ["a", "b"]), "structure.file: m.h5:/particles/all/position: found the shape (2,), allowed: 2 axes (particles, axes)"),
        (put("position", np.ones((4, 3), bool)), "structure.file: m.h5:/particles/all/position: found true/false values, allowed: real numbers of up to 64 bits"),
        (put("box/edges", None), "structure.file: m.h5:/particles/all/box: found no edge along the periodic axis 0, allowed: one"),
        (put("box/edges", np.zeros(3)), "structure.file: m.h5:/particles/all/box: found no edge along the periodic axis 0, allowed: one"),
        (put("box/edges", np.ones((3, 3))), "structure: m.h5: found a cell without a volume, "),
        (put("box/edges", np.ones(2)), "structure.file: m.h5:/particles/all/box/edges: found edges of shape (2,), allowed: (3,) or (3, 3)"),
        (put("species", np.zeros(5, int)), "structure.file: m.h5:/particles/all/species: found int64 of shape (5,), allowed: integers of shape (4,)"),
        (put("species", np.zeros(4)), "structure.file: m.h5:/particles/all/species: found float64 of shape (4,), allowed: integers of shape (4,)"),
        (put("position", h5py.ExternalLink("other.h5", "/x")), "structure.file: m.h5:/particles/all/position: found a link to the file 'other.h5', allowed: a dataset in the file itself"),
        (boundary(["periodic", "none"]), "structure.file: m.h5:/particles/all/box: found the boundary ['periodic', 'none'], allowed: 'periodic' or 'none' for each of 3 dimensions"),
        (boundary(["open"] * 3), "structure.file: m.h5:/particles/all/box: found the boundary ['open', 'open', 'open'], allowed: 'periodic' or 'none' for each of 3 dimensions"),
        (boundary([1, 1, 1]), "structure.file: m.h5:/particles/all/box: found no short list of texts in the attribute 'boundary', allowed: texts"),
    ],
)  # fmt: skip
def test_a_wrong_file_is_refused_in_one_line(made, refusal, write, message):
    found = refusal(made(write))
    assert found.startswith(message) if message.endswith(("as ", ", ")) else found == message


def test_a_frame_that_is_not_there_is_refused(made, refusal):
    assert refusal(f"{{file: {made(whole)}, frame: 3}}") == (
        "structure.file: m.h5:/particles/all/position/value: found 3 frames, allowed with frame: 3: at least 4"
    )


def test_a_dataset_that_declares_more_than_it_holds_is_refused(made, refusal):
    def write(group):
        group.create_dataset("position", shape=(10**12, 3), chunks=(1000, 3), dtype="f8")

    assert "found a dataset of shape (1000000000000, 3), 2.24e+04 GiB in memory, allowed: 4 GiB" in refusal(made(write))


def test_other_files_are_refused(folder, refusal):
    with h5py.File(folder / "m.h5", "w") as file:
        file["x"] = 1
    assert refusal("m.h5") == "structure.file: m.h5:/particles: found no group of particles, allowed: an H5MD file with one"
    (folder / "cut.h5").write_bytes((folder / "m.h5").read_bytes()[:300])
    assert "damaged or cut short" in refusal("cut.h5")
    assert refusal("none.h5") == "structure.file: none.h5: no such file"
