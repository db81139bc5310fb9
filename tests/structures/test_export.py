"""Results, made by hand, as H5MD and extxyz: read back by ASE, by h5py against the specification, and by our own readers."""

import dataclasses
import io

import h5py
import numpy as np
import pytest

from implicit_cli import api
from implicit_cli.errors import EnvironmentProblem, InputError
from implicit_cli.result import Axis, Bound, CaseResult, Certificate, Header, NullSpace, Product, SolverReport, Variable
from implicit_cli.status import Status
from implicit_cli.store import write_result
from implicit_cli.structures import export

ASE = pytest.mark.filterwarnings("ignore:Setting the shape:DeprecationWarning")
N = 5
KINDS = ("Si", "large one")


def some(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def bound(*columns, start=1e-9):
    total = start * (1 + np.arange(int(np.prod(columns)), dtype=float)).reshape(columns)
    return Bound(total, total, 0 * total, 0 * total)


CELLS = {2: np.array([[3.0, 0.0], [1.0, 4.0]]), 3: np.array([[3.0, 0.0, 0.0], [1.0, 4.0, 0.0], [0.5, -0.2, 5.0]])}


def make(d=3, *, rattler=None, periodic=None, strain=False, unit="A", status=Status.OK):
    """Header and case of a problem with positions, another unknown before them, and parameters of several shapes."""
    voigt = 3 if d == 2 else 6
    axes = {"particle": N, "axis": d, "kind": 2, "component": voigt, "weight": 65, "freedom": voigt}
    header = Header(
        problem="toy",
        summary="A toy.",
        axes=tuple(Axis(name, size, np.array(KINDS) if name == "kind" else None) for name, size in axes.items()),
        unknowns=(Variable("deformation", ("freedom",)), Variable("position", ("particle", "axis"), unit)),
        parameters=(
            Variable("depth", ()),
            Variable("size", ("kind",), "A", "", "log"),
            Variable("many", ("weight",)),
            *([Variable("strain", ("component",))] if strain else []),
        ),
        outputs=(),
        data=(
            Variable("start", ("particle", "axis"), unit),
            Variable("cell", ("axis", "axis"), unit),
            Variable("periodic", ("axis",)),
            Variable("species", ("particle",)),
        ),
        inputs={
            "start": some(N, d),
            "cell": CELLS[d],
            "periodic": np.ones(d, int) if periodic is None else np.array(periodic, int),
            "species": np.array([0, 1, 1, 0, 1]),
        },
        spec_text="problem: toy\n",
        spec_resolved='{"problem": "toy", "structure": {"file": "x.xyz"}}',
        provenance={},
    )
    jacobian = {"depth": some(N, d, seed=1), "size": some(N, d, 2, seed=2), "many": some(N, d, 65, seed=3)}
    jvp = some(N, d, seed=4)
    mask = {"deformation": np.zeros(voigt, bool), "position": np.zeros((N, d), bool)}
    if rattler is not None:
        mask["position"][rattler] = True
        for value in (*jacobian.values(), jvp):
            value[rattler] = np.nan
    shapes = {"depth": (), "size": (2,), "many": (65,)}
    case = CaseResult(
        id="0",
        status=status,
        message="",
        theta={"depth": np.array(1.0), "size": np.ones(2), "many": np.ones(65)}
        | ({"strain": 0.01 * np.arange(1.0, voigt + 1)} if strain else {}),
        solution={"deformation": 0.001 * np.arange(voigt), "position": 9 * some(N, d, seed=5)},
        outputs={},
        products=(
            *(Product("jacobian", "", "position", name, value, bound(*shapes[name])) for name, value in jacobian.items()),
            Product("jacobian", "", "deformation", "depth", some(voigt), bound()),
            Product("jvp", "grow", "position", "", jvp, bound(start=2e-8), direction={"depth": np.array(1.0)}),
        ),
        solver=SolverReport("newton", status, 1, 1, 1e-8, 1e-12, np.array([1.0, 1e-12])),
        linear=(),
        certificate=Certificate.unknown(),
        null_space=NullSpace(0, (), {"rattler": mask} if rattler is not None else {}),
        seconds={},
    )
    certificate = dataclasses.replace(case.certificate, provenance=dict.fromkeys(("sigma_min", "radius"), "computed"))
    return header, dataclasses.replace(case, certificate=certificate)


@pytest.fixture
def stored(tmp_path, monkeypatch):
    """Write a result and give its name."""
    monkeypatch.chdir(tmp_path)

    def stored(*arguments, **options):
        header, case = make(*arguments, **options)
        write_result(tmp_path / "r.h5", header, [case])
        return tmp_path / "r.h5", header, case

    return stored


VECTORS = ("d_position_d_depth", "d_position_d_log_size_Si", "d_position_d_log_size_large_one", "d_position_along_grow")


def expected(case):
    jacobian = {product.wrt or product.name: product.value for product in case.products if product.of == "position"}
    return dict(
        zip(VECTORS, (jacobian["depth"], jacobian["size"][..., 0], jacobian["size"][..., 1], jacobian["grow"]), strict=True)
    )


@ASE
@pytest.mark.parametrize("rattler", [None, 3])
def test_extxyz_is_what_ase_reads(stored, rattler):
    import ase.io

    result, header, case = stored(rattler=rattler)
    report = api.convert(result, result.with_suffix(".xyz"))
    assert report.content == f"{N} particles, 4 vectors for each"
    assert report.warnings == ("d position / d many has 65 columns, more than 64: it is left out",)
    text = result.with_suffix(".xyz").read_text()
    assert "\nSi " in text
    assert "\nlarge_one " in text
    (result.parent / "e.xyz").write_text(text.replace("\nlarge_one ", "\nC "))  # ASE knows elements only
    found = ase.io.read(result.parent / "e.xyz")
    np.testing.assert_array_equal(found.positions, case.solution["position"])
    np.testing.assert_array_equal(found.cell.array, header.inputs["cell"])
    assert found.pbc.all()
    assert found.get_chemical_symbols() == ["Si", "C", "C", "Si", "C"]
    for name, value in expected(case).items():
        np.testing.assert_array_equal(found.arrays[name], value)
    np.testing.assert_array_equal(found.arrays["undetermined"], np.arange(N) == rattler)
    assert found.info["bound_d_position_d_depth"] == pytest.approx(1e-9)
    assert found.info["bound_d_position_d_log_size_large_one"] == pytest.approx(2e-9)
    assert (found.info["status"], found.info["problem"], found.info["length_unit"]) == ("ok", "toy", "A")
    assert len(found.info["result"]) == 64


@pytest.mark.parametrize("rattler", [None, 0])
def test_h5md_is_what_its_specification_says(stored, rattler):
    result, header, case = stored(rattler=rattler)
    api.convert(result, result.with_name("out.h5md"))
    with h5py.File(result.with_name("out.h5md")) as file:
        assert file["h5md"].attrs["version"].tolist() == [1, 1]
        assert {"name"} <= set(file["h5md/author"].attrs)
        assert {"name", "version"} <= set(file["h5md/creator"].attrs)
        (group,) = file["particles"].values()
        assert group["box"].attrs["dimension"] == 3
        assert list(group["box"].attrs["boundary"]) == ["periodic"] * 3
        np.testing.assert_array_equal(group["box/edges/value"][0], header.inputs["cell"])
        np.testing.assert_array_equal(group["position/value"][0], case.solution["position"])
        assert group["position/value"].attrs["unit"] == "Angstrom"
        for element in (group["position"], group["box/edges"], *(group[name] for name in VECTORS)):
            assert len(element["step"]) == len(element["time"]) == len(element["value"]) == 1
        for name, value in expected(case).items():
            np.testing.assert_array_equal(group[f"{name}/value"][0], value)
        assert group["d_position_along_grow"].attrs["bound"] == pytest.approx(2e-8)
        np.testing.assert_array_equal(group["undetermined/value"][0], np.arange(N) == rattler)
        assert h5py.check_enum_dtype(group["species"].dtype) == {"Si": 0, "large one": 1}
        np.testing.assert_array_equal(group["species"][()], header.inputs["species"])


def test_a_unit_that_h5md_does_not_know_is_told_elsewhere(stored):
    result, _, _ = stored(unit="D")
    api.convert(result, result.with_name("out.h5md"))
    with h5py.File(result.with_name("out.h5md")) as file:
        assert "unit" not in file["particles/trajectory/position/value"].attrs
        assert file["parameters/implicit"].attrs["length_unit"] == "D"


@pytest.mark.parametrize("name", ["out.h5md", "out.extxyz"])
@pytest.mark.parametrize(("d", "periodic"), [(2, (1, 1)), (2, (1, 0)), (3, (1, 0, 1)), (3, (0, 0, 0))])
def test_what_goes_out_comes_in(stored, built, name, d, periodic):
    result, header, case = stored(d, periodic=periodic)
    api.convert(result, result.with_name(name))
    found = built(f"{{file: {name}, dimensions: {d}}}")
    np.testing.assert_array_equal(found.position, case.solution["position"])
    np.testing.assert_array_equal(found.periodic, np.array(periodic, bool))
    np.testing.assert_array_equal(found.species, header.inputs["species"])
    assert found.names == (("Si", "large one") if name == "out.h5md" else ("Si", "large_one"))
    if any(periodic):
        np.testing.assert_array_equal(found.cell, header.inputs["cell"])


def test_a_plane_gets_a_third_dimension(stored):
    result, _, case = stored(2, rattler=1)
    api.convert(result, result.with_name("out.h5md"))
    with h5py.File(result.with_name("out.h5md")) as file:
        group = file["particles/trajectory"]
        assert list(group["box"].attrs["boundary"]) == ["periodic", "periodic", "none"]
        assert np.linalg.det(group["box/edges/value"][0]) == pytest.approx(12.0)
        assert not group["position/value"][0, :, 2].any()
        vector = group["d_position_d_depth/value"][0]
    np.testing.assert_array_equal(vector[:, :2], expected(case)["d_position_d_depth"])
    np.testing.assert_array_equal(vector[:, 2], np.where(np.arange(N) == 1, np.nan, 0.0))


@pytest.mark.parametrize("d", [2, 3])
def test_wrapping_moves_by_the_periodic_vectors(stored, built, d):
    periodic = [1, 0, 1][:d]
    result, header, case = stored(d, periodic=periodic)
    api.convert(result, result.with_name("out.h5md"), wrap=True)
    found = built(f"{{file: out.h5md, dimensions: {d}}}")
    inverse = np.linalg.inv(header.inputs["cell"])
    step = (found.position - case.solution["position"]) @ inverse
    np.testing.assert_allclose(step, np.round(step) * periodic, atol=1e-12)
    inside = (found.position @ inverse)[:, np.array(periodic, bool)]
    assert ((inside > -1e-12) & (inside < 1 + 1e-12)).all()
    assert np.abs(step).max() > 0.5


@pytest.mark.parametrize("d", [2, 3])
def test_a_strained_cell_goes_out_as_it_is_seen(stored, built, d):
    result, header, case = stored(d, strain=True)
    api.convert(result, result.with_name("out.h5md"))
    found = built(f"{{file: out.h5md, dimensions: {d}}}")
    e = case.theta["strain"] + case.solution["deformation"]
    if d == 2:
        strain = np.array([[e[0], e[2] / 2], [e[2] / 2, e[1]]])
    else:
        strain = np.array([[e[0], e[5] / 2, e[4] / 2], [e[5] / 2, e[1], e[3] / 2], [e[4] / 2, e[3] / 2, e[2]]])
    for ours, rows in ((found.position, case.solution["position"]), (found.cell, header.inputs["cell"])):
        np.testing.assert_allclose(ours, np.stack([(np.eye(d) + strain) @ row for row in rows]), rtol=1e-13, atol=1e-13)


def test_a_case_that_is_not_good_is_told(stored):
    result, _, _ = stored(status=Status.NOT_CONVERGED)
    report = api.convert(result, result.with_name("out.xyz"))
    assert f"{result}: case 0 is not_converged there" in report.warnings


def changed(stored, tmp_path, **changes):
    result, header, case = stored()
    write_result(result, dataclasses.replace(header, **changes.pop("header", {})), [dataclasses.replace(case, **changes)])
    return result


def test_without_cell_and_species_the_rest_goes_out(stored, tmp_path):
    result, header, _ = stored()
    inputs = {"start": header.inputs["start"]}
    bare = changed(stored, tmp_path, header={"inputs": inputs, "data": header.data[:1], "spec_resolved": "{}"})
    report = api.convert(bare, result.with_name("out.xyz"))
    assert report.warnings[:2] == (
        "the result holds no 'cell': the particles are written without one",
        "the result holds no 'species': all particles are written as 'A'",
    )
    assert "Lattice" not in result.with_name("out.xyz").read_text()


def test_what_is_no_result_of_particles_is_refused(stored, tmp_path):
    result, _, case = stored()

    def refused(**changes):
        with pytest.raises(InputError) as found:
            api.convert(changed(stored, tmp_path, **changes), result.with_name("out.xyz"))
        return str(found.value)

    nan = {**case.solution, "position": np.full((N, 3), np.nan)}
    assert refused(solution=nan, status=Status.NOT_FINITE) == (
        f"{result}: found positions that are not finite, case 0 is not_finite; run again"
    )
    unknowns = (Variable("deformation", ("freedom",)), Variable("w", ("particle", "axis"), "A"))
    other = {"deformation": case.solution["deformation"], "w": case.solution["position"]}
    assert refused(header={"unknowns": unknowns}, solution=other, products=()) == (
        f"{result}: found no 'position' in /solution, which holds 'deformation', 'w'; allowed: a problem of particles"
    )
    unknowns = (Variable("deformation", ("freedom",)), Variable("position", ("particle",), "A"))
    other = {"deformation": case.solution["deformation"], "position": np.ones(N)}
    assert refused(header={"unknowns": unknowns}, solution=other, products=()) == (
        f"{result}: found 'position' of shape (5,), allowed: (particle, axis) with 2 or 3 axes"
    )


def test_columns_without_numbers_are_told_and_left_out(stored, tmp_path):
    _, _, case = stored()
    lost = [
        dataclasses.replace(p, value=p.value * np.nan, status=Status.SINGULAR) if p.wrt == "depth" else p for p in case.products
    ]
    result = changed(stored, tmp_path, products=tuple(lost))
    report = api.convert(result, result.with_name("out.xyz"))
    assert report.content.endswith(", 3 vectors for each")
    assert "d position / d depth has no numbers in column 0, its status is singular: it is left out" in report.warnings


def test_names_of_columns_are_words_and_different():
    taken = set()
    assert [export._unique(label, taken) for label in ("a[0, 1]", "a[0,1]", "a 0 1", "log(b)")] == [
        "a_0_1",
        "a_0_1_2",
        "a_0_1_3",
        "log_b",
    ]


@pytest.mark.parametrize("name", ["out.txt", "out", "xyz"])
def test_the_name_must_tell_the_format(stored, name):
    result, _, _ = stored()
    with pytest.raises(InputError, match="found a name that tells no format, allowed: one that ends in "):
        api.convert(result, result.with_name(name))


def test_the_result_is_not_overwritten_and_a_failure_leaves_nothing(stored, tmp_path, monkeypatch):
    result, _, _ = stored()
    with pytest.raises(InputError, match="found an input of this run"):
        api.convert(result, result)
    (tmp_path / "file").write_text("")
    with pytest.raises((InputError, EnvironmentProblem)):
        api.convert(result, tmp_path / "file" / "out.xyz")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "r.h5"]


def test_the_bytes_are_those_of_an_hdf5_file(stored):
    result, _, _ = stored()
    api.convert(result, result.with_name("out.h5"))
    with h5py.File(io.BytesIO(result.with_name("out.h5").read_bytes())) as file:
        assert set(file) == {"h5md", "parameters", "particles"}
