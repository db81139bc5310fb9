"""`implicit jvp` and `implicit vjp`: the numbers of the run's own products, without its solve."""

import json
import shutil

import h5py
import numpy as np
import pytest

from implicit_cli import api
from implicit_cli.engine import solving

RIDGE = ["-c", "bmi_weight:w=[0, 0, 1, 0, 0, 0, 0, 0, 0, 0]"]


@pytest.fixture(scope="module")
def stored(tmp_path_factory, request):
    """A result of each sample that is asked for, solved once."""
    folder, done = tmp_path_factory.mktemp("stored"), {}
    samples = request.path.parents[2] / "sample_inputs"

    def stored(name, *overrides):
        key = (name, overrides)
        if key not in done:
            path = folder / f"{len(done)}.h5"
            api.run(str(samples / f"{name}.yaml"), path, overrides=overrides)
            done[key] = path
        return done[key]

    return stored


@pytest.fixture
def no_solve(monkeypatch):
    """From its call on, whoever solves fails."""

    def refuse(*arguments, **options):
        raise AssertionError("solved again")

    return lambda: monkeypatch.setattr(solving, "solve", refuse)


def same(one, other, path):
    with h5py.File(one) as a, h5py.File(other) as b:
        for name in a[path]:
            if name != "direction":
                first, second = a[path][name][()], b[path][name][()]
                np.testing.assert_allclose(second, first, rtol=1e-11, atol=1e-13 * np.abs(first).max())
                bounds = path.replace("jvp", "certificate/jvp").replace("vjp", "certificate/vjp")
                rounding = f"{bounds}/{name}/rounding"
                assert (b[rounding][()] <= 3 * a[rounding][()]).all()  # measured with other random numbers
                assert (a[rounding][()] <= 3 * b[rounding][()]).all()


def test_ridge_gives_the_numbers_of_the_run(implicit, stored, no_solve, tmp_path):
    run = stored("ridge")
    no_solve()
    done = implicit("jvp", run, "-d", "all_together:penalty=1.0", "-o", tmp_path / "jvp.h5", "-q")
    assert (done.code, done.err) == (0, "")
    same(run, tmp_path / "jvp.h5", "jvp/all_together")
    done = implicit("vjp", run, *RIDGE, "-o", tmp_path / "vjp.h5", "-q")
    assert (done.code, done.err) == (0, "")
    same(run, tmp_path / "vjp.h5", "vjp/bmi_weight")
    with h5py.File(tmp_path / "vjp.h5") as file, h5py.File(run) as before:
        assert file["feature"].asstr()[2] == "bmi"
        assert file["diagnostics/solver/name"].asstr()[0] == "stored"
        assert file["spec/text"][()] == before["spec/text"][()]
        resolved = json.loads(file["spec/resolved"].asstr()[()])
        assert resolved["data"] == {"X": "diabetes.h5:/X", "y": "diabetes.h5:/y"} | {
            name: f"diabetes.h5:/{name}" for name in ("X_validation", "y_validation")
        }
        assert [list(product) for product in resolved["sensitivity"]["products"]] == [["vjp"]]
        sha = bytes(before["checksum"][()])[-64:].decode()
        assert file["provenance/solution"].asstr()[()] == f"case 0 of the result with SHA-256 {sha}"
        assert "sensitivity" not in file


def test_many_at_once_from_hdf5_and_yaml(implicit, stored, no_solve, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = np.random.default_rng(0).normal(size=(3, 10))
    with h5py.File("rows.h5", "w") as file:
        file["group/penalty"] = rows
    (tmp_path / "sub").mkdir()
    shutil.copy("rows.h5", "sub/rows.h5")
    (tmp_path / "sub" / "rows.yaml").write_text("group: {penalty: 'rows.h5:/group/penalty'}\nflat: {penalty: 1}\n")
    run, found = stored("ridge"), []
    no_solve()
    for number, source in enumerate(("rows.h5:/group", "sub/rows.yaml", "group:penalty=rows.h5:/group/penalty")):
        assert implicit("jvp", run, "-d", source, "-o", f"{number}.h5", "-q").code == 0
        with h5py.File(f"{number}.h5") as file, h5py.File(run) as before:
            node = file["jvp/group/w"]
            assert node.shape == (1, 3, 10)
            assert [dim[0].name for dim in node.dims] == ["/case", "/group_direction", "/feature"]
            assert file["certificate/jvp/group/w/bound"].shape == (1, 3)
            np.testing.assert_array_equal(file["jvp/group/direction/penalty"][()], rows)
            np.testing.assert_allclose(node[0], rows @ before["sensitivity/w/penalty"][0].T, rtol=1e-9, atol=1e-9)
            found.append(node[()])
    np.testing.assert_allclose(found[1], found[0], rtol=1e-12)
    shown = implicit("show", "0.h5").out
    assert "d w along group" in shown
    assert "3 x 10" in shown
    assert "along group[" in shown


@pytest.mark.exhaustive
def test_packing_gives_the_numbers_of_the_run(implicit, stored, no_solve, tmp_path):
    run = stored(
        "packing", "options.particle=16", "sensitivity.products=[{jvp: {growth: {diameter: 1.0}}}, {vjp: {e: {energy: 1}}}]"
    )
    before = api.show(run).cases[0]
    no_solve()
    done = implicit("jvp", run, "-d", "growth:diameter=1.0", "-o", tmp_path / "jvp.h5", "-q")
    assert done.code == (0 if before.good else 1)
    same(run, tmp_path / "jvp.h5", "jvp/growth")
    # a parameter that the run did not differentiate with respect to
    done = implicit("jvp", run, "-d", "diameter=1.0", "-d", "phi=0.02", "--of", "energy", "--json", "-q")
    (product,) = json.loads(done.out)["cases"][0]["products"]
    assert (product["of"], product["name"]) == ("energy", "direction")
    implicit("vjp", run, "-c", "e:energy=1", "-o", tmp_path / "vjp.h5", "-q")
    same(run, tmp_path / "vjp.h5", "vjp/e")


def test_a_problem_of_your_own_is_found_and_its_change_told(implicit, samples, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("my_problem.py", "my_problem.yaml"):
        shutil.copy(samples / name, name)
    assert implicit("run", "my_problem.yaml", "-o", "results/my.h5", "-q", "--allow-plugin").code == 0
    done = implicit("jvp", "results/my.h5", "-d", "y=1.0", "-q")
    assert done.code == 2
    assert "is a file, and importing it runs its code" in done.err
    done = implicit("jvp", "results/my.h5", "-d", "y=1.0", "-q", "--plugin", "my_problem.py")
    assert (done.code, done.err) == (0, "")
    (tmp_path / "elsewhere").mkdir()
    moved = shutil.move("my_problem.py", "elsewhere/my_problem.py")
    with open(moved, "a") as file:
        file.write("# another line\n")
    done = implicit("jvp", "results/my.h5", "-d", "y=1.0", "-q", "--plugin", moved)
    assert done.code == 0
    assert done.err == (
        "implicit: warning: results/my.h5: the problem may be another one than that which was solved: its code has changed since\n"
    )


def test_a_case_without_a_solution_is_refused_and_a_rough_one_told(implicit, stored, tmp_path):
    rough = stored("quadratic", "solver={name: lbfgs, tol: 1.0e-12, max_steps: 1, polish: false}")
    done = implicit("jvp", rough, "-d", "b=1", "-q")
    assert done.code == 1
    assert "case 0: not_converged" in done.out
    assert f"implicit: warning: {rough}: case 0 is not_converged there" in done.err


def test_json_and_quiet_and_verbose(implicit, stored):
    run = stored("quadratic")
    done = implicit("jvp", run, "-d", "b=1", "--json")
    document = json.loads(done.out)
    assert [product["of"] for product in document["cases"][0]["products"]] == ["x", "minimum"]
    assert done.err.startswith("implicit: differentiating")
    done = implicit("jvp", run, "-d", "b=1", "-q", "-v")
    assert (done.code, done.err) == (2, "implicit: error: --quiet: found with --verbose, allowed: one of the two\n")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["b="], "--direction b: found nothing, allowed: a number"),
        (["=1"], "--direction: found '=1', allowed: QUANTITY=VALUE"),
        (["a:b=1", "a:b=2"], "--direction a:b: found twice in 'a'"),
        (["b=1", "b=2"], "--direction b: found twice"),
        (["nothing.yaml"], "nothing.yaml: no such file"),
        (["bad.yaml"], "--direction: bad.yaml: found another structure, allowed: {NAME: {QUANTITY: VALUE}}"),
        (["file.h5:/none"], "--direction: file.h5 has no dataset '/none', it holds '/a/b'"),
        (["file.h5:/a/b"], "--direction: file.h5:/a/b: found no dataset in it, allowed: a group of datasets"),
        (["b=.nan"], "--direction b: found NaN, allowed: finite numbers"),
    ],
)
def test_directions_that_cannot_be_read(implicit, stored, tmp_path, monkeypatch, given, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.yaml").write_text("b: 1.0\n")
    with h5py.File("file.h5", "w") as file:
        file["a/b"] = 1.0
    run = stored("quadratic")
    done = implicit("jvp", run, *[word for text in given for word in ("-d", text)], "-q")
    assert done.code == 2
    assert done.err.startswith(f"implicit: error: {message}")
    assert done.err.count("\n") == 1
